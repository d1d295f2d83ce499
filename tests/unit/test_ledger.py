from __future__ import annotations

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from crossfade.faults import ProtocolViolation
from crossfade.ledger import AckLedger
from crossfade.lsn import NOWHERE, Lsn

gaps = st.integers(1, 50)


class PromiseBrokenError(AssertionError):
    """A promise of the ledger was seen broken."""


class Walk(RuleBasedStateMachine):
    """A source, a reader and a target in a few integers, and the ledger between them; promise 1 after every step.

    The source sends transactions and keepalives in order. The target commits some prefix of what was handed to it, or
    an idle position; what it holds is `stored`, so whatever the source is told beyond it is a lie.
    """

    made: type[AckLedger] = AckLedger

    def __init__(self) -> None:
        super().__init__()
        self.ledger = self.made()
        self.sent = 100  # the source has sent everything before
        self.open_end: int | None = None  # a transaction the reader is in the middle of
        self.undurable: list[int] = []  # ends of transactions handed over, not committed by the target
        self.stored = 100  # what the target's progress row says
        self.asked: int | None = None  # an idle position on its way to the target
        self.persisted: list[int] = []
        self.told = 0
        self.is_broken = False
        self.ledger.resume(Lsn(100))

    def broken(self, what: str) -> PromiseBrokenError:
        self.is_broken = True
        return PromiseBrokenError(what)

    @rule(gap=gaps, mid=st.integers(0, 49))
    def keepalive(self, gap: int, mid: int) -> None:
        if self.open_end is None:
            self.sent += gap
        else:  # the server may be inside the transaction, never past its end
            self.sent = min(self.sent + mid, self.open_end - 1)
        self.ledger.heard(Lsn(self.sent), mid_transaction=self.open_end is not None)

    @rule(back=st.integers(0, 500))
    def keepalive_repeats_an_old_position(self, back: int) -> None:
        self.ledger.heard(Lsn(max(0, self.sent - back)), mid_transaction=self.open_end is not None)

    @precondition(lambda self: self.open_end is None)
    @rule(gap=gaps)
    def begin(self, gap: int) -> None:
        self.open_end = self.sent + gap + 1

    @precondition(lambda self: self.open_end is not None)
    @rule()
    def commit_arrives(self) -> None:
        assert self.open_end is not None
        self.sent = self.open_end
        self.undurable.append(self.open_end)
        self.ledger.handed_over(Lsn(self.open_end))
        self.open_end = None

    @precondition(lambda self: self.open_end is not None)
    @rule()
    def commit_of_nothing_to_apply(self) -> None:
        """An empty transaction (A19), or one that was applied before (A8)."""
        assert self.open_end is not None
        self.sent = self.open_end
        self.open_end = None
        self.ledger.heard(Lsn(self.sent), mid_transaction=False)

    @precondition(lambda self: self.undurable)
    @rule(share=st.floats(0, 1))
    def target_commits(self, share: float) -> None:
        count = max(1, round(share * len(self.undurable)))
        self.stored = self.undurable[count - 1]
        del self.undurable[:count]
        self.ledger.made_durable(Lsn(self.stored))

    @rule()
    def target_commits_and_the_answer_comes_twice(self) -> None:
        self.ledger.made_durable(Lsn(self.stored))

    @rule()
    def ask_to_persist(self) -> None:
        position = self.ledger.to_persist()
        if position is not None:
            if self.undurable:
                raise self.broken("an idle position was offered while a transaction is not durable")
            self.asked = position

    @precondition(lambda self: self.asked is not None)
    @rule()
    def target_persists(self) -> None:
        assert self.asked is not None
        if any(end <= self.asked for end in self.undurable):
            raise self.broken("the target was asked to store a position past a transaction it does not have")
        self.stored = max(self.stored, self.asked)
        self.ledger.idle_persisted(Lsn(self.asked))
        self.persisted.append(self.asked)
        self.asked = None

    @precondition(lambda self: self.persisted)
    @rule(data=st.data())
    def an_old_answer_comes_late(self, data: st.DataObject) -> None:
        self.ledger.idle_persisted(Lsn(data.draw(st.sampled_from(self.persisted))))

    @invariant()
    def nothing_is_told_that_the_target_does_not_hold(self) -> None:
        positions = self.ledger.positions()
        if positions.flush > self.stored:
            raise self.broken(f"flushed {int(positions.flush)} was told, the target holds {self.stored}")
        if self.undurable and positions.apply >= self.undurable[0]:
            raise self.broken("a transaction was called applied that is not durable")
        if positions.flush < self.told:
            raise self.broken("the flush position moved back")
        if positions.write > self.sent:
            raise self.broken("a position was called received that was never sent")
        self.told = positions.flush

    def teardown(self) -> None:
        """Whatever happened: an idle stream must in the end acknowledge what it heard, or WAL is kept for ever (A3)."""
        if self.is_broken:
            return
        if self.open_end is not None:
            self.commit_of_nothing_to_apply()
        if self.undurable:
            self.target_commits(1.0)
        self.keepalive(1, 0)
        self.asked = None
        self.ask_to_persist()
        if self.asked is None:
            raise self.broken("an idle stream does not advance")
        self.target_persists()
        self.nothing_is_told_that_the_target_does_not_hold()
        if self.ledger.flush_position() != self.sent:
            raise self.broken("an idle stream does not advance to what it heard")


TestWalk = Walk.TestCase
TestWalk.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)


class AcksWhatWasHandedOver(AckLedger):
    """The lie of A1 and A5: a transaction is called flushed when it is on its way."""

    def handed_over(self, end_lsn: Lsn) -> None:
        super().handed_over(end_lsn)
        self.made_durable(end_lsn)


class AcksKeepalivesWhilePending(AckLedger):
    """The lie of A4: a keepalive's position is taken though something before it is unapplied."""

    def heard(self, position: Lsn, *, mid_transaction: bool) -> None:
        waiting, self._pending = self._pending, type(self._pending)()
        super().heard(position, mid_transaction=mid_transaction)
        self._durable = max(self._durable, self._idle)
        self._pending = waiting


class AcksBeforePersisting(AckLedger):
    """The lie of A7: right about the data, but the source is ahead of our own record."""

    def heard(self, position: Lsn, *, mid_transaction: bool) -> None:
        super().heard(position, mid_transaction=mid_transaction)
        if not mid_transaction and not self._pending:
            self._durable = max(self._durable, position)


class ForgetsIdle(AckLedger):
    """No lie at all, and yet it fills the source's disk (A3)."""

    def to_persist(self) -> Lsn | None:
        return None


class MovesBack(AckLedger):
    """Takes whatever it is told last."""

    def made_durable(self, end_lsn: Lsn) -> None:
        super().made_durable(end_lsn)
        self._durable = end_lsn

    def idle_persisted(self, position: Lsn) -> None:
        self._durable = position


@pytest.mark.parametrize(
    "broken",
    [
        AcksWhatWasHandedOver,
        AcksKeepalivesWhilePending,
        AcksBeforePersisting,
        ForgetsIdle,
        MovesBack,
    ],
)
def test_the_walk_catches_a_ledger_that_lies(broken: type[AckLedger]) -> None:
    class Lying(Walk):
        made = broken

    searching = settings(
        max_examples=2_000,
        stateful_step_count=30,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        phases=[Phase.generate],
    )
    with pytest.raises(PromiseBrokenError):
        run_state_machine_as_test(Lying, settings=searching)


def test_a_ledger_begins_with_nothing() -> None:
    ledger = AckLedger()
    assert (ledger.received, ledger.applied, ledger.durable, ledger.to_persist()) == (NOWHERE, NOWHERE, NOWHERE, None)


def test_A3_an_idle_position_is_acknowledged_only_when_progress_says_it() -> None:
    ledger = AckLedger()
    ledger.resume(Lsn(10))
    ledger.heard(Lsn(50), mid_transaction=False)
    assert (ledger.to_persist(), ledger.flush_position(), ledger.applied) == (50, 10, 50)
    ledger.idle_persisted(Lsn(50))
    assert (ledger.to_persist(), ledger.flush_position()) == (None, 50)


def test_A4_a_keepalive_while_a_transaction_waits_changes_nothing_but_received() -> None:
    ledger = AckLedger()
    ledger.resume(Lsn(10))
    ledger.handed_over(Lsn(20))
    ledger.heard(Lsn(90), mid_transaction=False)
    assert (ledger.received, ledger.applied, ledger.flush_position(), ledger.to_persist()) == (90, 10, 10, None)
    ledger.handed_over(Lsn(120))
    ledger.made_durable(Lsn(20))
    assert (ledger.flush_position(), ledger.to_persist()) == (20, None)


def test_A3_what_was_heard_while_a_transaction_waited_counts_once_it_is_durable() -> None:
    """The server says a position once; waiting for it to be said again would take half of wal_sender_timeout."""
    ledger = AckLedger()
    ledger.resume(Lsn(10))
    ledger.handed_over(Lsn(20))
    ledger.heard(Lsn(90), mid_transaction=False)
    ledger.heard(Lsn(95), mid_transaction=True)
    ledger.made_durable(Lsn(20))
    assert (ledger.flush_position(), ledger.to_persist(), ledger.applied) == (20, 90, 90)


def test_an_idle_position_on_its_way_is_overtaken_by_a_transaction() -> None:
    ledger = AckLedger()
    ledger.resume(Lsn(10))
    ledger.heard(Lsn(50), mid_transaction=False)
    ledger.handed_over(Lsn(60))
    assert ledger.to_persist() is None
    ledger.idle_persisted(Lsn(50))
    assert ledger.flush_position() == 50
    ledger.made_durable(Lsn(60))
    ledger.idle_persisted(Lsn(50))  # an answer that comes late must not move us back
    assert ledger.flush_position() == 60


def test_A5_inside_a_transaction_nothing_is_idle() -> None:
    ledger = AckLedger()
    ledger.resume(Lsn(10))
    ledger.heard(Lsn(50), mid_transaction=True)
    assert (ledger.received, ledger.applied, ledger.to_persist()) == (50, 10, None)


def test_one_commit_of_the_target_releases_everything_before_it() -> None:
    ledger = AckLedger()
    for end in (20, 30, 40):
        ledger.handed_over(Lsn(end))
    ledger.made_durable(Lsn(30))
    assert (ledger.flush_position(), ledger.pending) == (30, 1)


@pytest.mark.parametrize("end", [25, 19, 41])
def test_A1_A5_only_ends_of_whole_transactions_become_durable(end: int) -> None:
    ledger = AckLedger()
    ledger.resume(Lsn(10))
    ledger.handed_over(Lsn(20))
    ledger.handed_over(Lsn(40))
    with pytest.raises(ValueError, match="only whole transactions"):
        ledger.made_durable(Lsn(end))
    assert ledger.flush_position() == 10


def test_A20_transactions_come_in_commit_order_or_not_at_all() -> None:
    ledger = AckLedger()
    ledger.resume(Lsn(10))
    for end in (10, 9):
        with pytest.raises(ProtocolViolation):
            ledger.handed_over(Lsn(end))
    ledger.heard(Lsn(30), mid_transaction=False)
    with pytest.raises(ProtocolViolation):
        ledger.handed_over(Lsn(30))
    ledger.handed_over(Lsn(31))
    with pytest.raises(ProtocolViolation):
        ledger.handed_over(Lsn(31))


def test_only_what_was_offered_may_be_persisted() -> None:
    ledger = AckLedger()
    ledger.heard(Lsn(30), mid_transaction=False)
    with pytest.raises(ValueError, match="never offered"):
        ledger.idle_persisted(Lsn(31))


def test_a_ledger_in_use_cannot_start_again() -> None:
    ledger = AckLedger()
    ledger.heard(Lsn(30), mid_transaction=True)
    with pytest.raises(ValueError, match="new ledger"):
        ledger.resume(Lsn(10))
