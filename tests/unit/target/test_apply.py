"""Which level is asked, in what order, and what is told: a dialogue with levels that answer as they are told to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from crossfade.events import Applied, Event
from crossfade.faults import Fault, ProtocolViolation, Rebuild, Refused, RowRefused, Transient
from crossfade.lsn import Lsn
from crossfade.pgoutput.assemble import Piece
from crossfade.pgoutput.messages import Begin, Commit
from crossfade.pipe import EndOfStream, Idle
from crossfade.target.apply import Applier
from crossfade.target.gather import Ready
from crossfade.target.sets import Unfit
from crossfade.target.tally import Tally
from crossfade.wire.batch import Batch

Answer = BaseException | None
TAKEN = RowRefused("A unique key was violated.", sqlstate="23505")
WRONG = RowRefused("A value is too long.", sqlstate="22001")
LOST = Transient("The connection was lost.")


def piece(number: int, *, is_first: bool = True, is_last: bool = True) -> Piece:
    commit = Commit(Lsn(number * 100), Lsn(number * 100 + 8), 0) if is_last else None
    return Piece(Begin(Lsn(number * 100), 0, number), is_first=is_first, commit=commit, cost=1)


def batch(*numbers: int, reason: str = "", moves: bool = False) -> Batch:
    tables = [] if reason else [cast(Any, SimpleNamespace(has_moves=moves, refused=""))]
    return Batch([piece(number) for number in numbers], tables, reason)


class Script:
    """Every part the applier talks to. `said` is the dialogue; each level takes its answers from a list, and agrees
    when there are no more."""

    def __init__(
        self, *items: Ready, replica_role: bool = True, at_once: Sequence[bool] = (), **answers: Sequence[Answer]
    ) -> None:
        self.said: list[str] = []
        self.told: list[Applied] = []
        self.durable: list[int] = []
        self.released = 0
        self.has_aliases = False
        self.guessed = self.may_guess = False
        self._items = [*items, EndOfStream()]
        self._answers: dict[str, Iterator[Answer]] = {level: iter(given) for level, given in answers.items()}
        self._replica_role = replica_role
        self._at_once = bool(at_once)
        self._commits = iter(at_once)
        self.tally = Tally()
        self.remarks = SimpleNamespace(orphans={})
        self.pipeline = self

    def answer(self, level: str, what: str = "") -> None:
        self.said.append(f"{level} {what}".strip())
        given = next(self._answers.get(level, iter(())), None)
        if given is not None:
            raise given

    # the gatherer
    async def ready(self) -> None:
        pass

    def take(self) -> Ready:
        return self._items.pop(0)

    def folded(self, one: Piece) -> Batch:
        return batch(one.begin.xid)

    # the sets
    def tables(self, one: Batch) -> list[str]:
        return [str(each.begin.xid) for each in one.pieces]

    async def derive(self, tables: Sequence[str]) -> None:
        """No table of these has anything to be computed."""

    async def identify(self, tables: Sequence[str], orphans: object, *, guesses: bool = False) -> None:
        self.guessed = guesses and self.may_guess
        self.answer("identify")

    def look_first(self) -> bool:
        self.may_guess = False
        return self.guessed

    # the pipeline
    async def results(self, statements: Sequence[Any]) -> list[Any]:
        self.answer("COMMIT")
        return [SimpleNamespace(command_status=b"COMMIT")]

    # the ids
    def begin_transaction(self) -> None:
        pass

    # the position
    def move(self, end: Lsn, *, sample_passed_at: object) -> Lsn:
        return end

    def check(self, rows: int) -> None:
        pass

    def moved(self, end: Lsn) -> None:
        self.end_lsn = end

    async def finish(self, last: Lsn) -> int:
        return 1

    async def at_once(self, move: Lsn) -> bool:
        self.answer("at once")
        return next(self._commits)

    # the replayer
    def opening(self) -> list[Any]:
        return []

    def begin(self) -> None:
        self.said.append("begin")

    async def settle(self) -> None:
        pass

    def settle_orphans(self, final_lsn: Lsn) -> None:
        pass

    async def write_ids(self) -> None:
        self.said.append("ids")

    def committed(self) -> None:
        pass

    async def rollback(self) -> None:
        self.said.append("rollback")

    # the connection
    async def execute(self, text: bytes) -> None:
        if b"SAVEPOINT" in text:
            self.said.append(text.decode().removesuffix(" SAVEPOINT piece").removesuffix(" piece").lower())

    def run(self) -> list[str]:
        asyncio.run(self.applier().run())
        return self.said

    def applier(self) -> Applier:
        replayer = SimpleNamespace(apply=self._exact, **{name: getattr(self, name) for name in _REPLAYER})
        script = cast(Any, self)
        sets = SimpleNamespace(apply=self._set, computes=False, **{name: getattr(self, name) for name in _SETS})
        return Applier(
            script,
            cast(Any, replayer),
            cast(Any, sets),
            cast(Any, SimpleNamespace(move=self.move, check=self.check, moved=self.moved, end_lsn=Lsn(1))),
            script,
            cast(Any, SimpleNamespace(released=self._release)),
            ids={"user": script},
            replica_role=self._replica_role,
            at_once=self._at_once,
            durable=lambda position: self.durable.append(int(position)),
            idle_persisted=lambda position: self.said.append(f"idle {int(position)}"),
            listener=self._listen,
            source_now=lambda: 0.0,
            sample_passed=lambda position: None,
            is_paused=lambda: False,
        )

    async def _exact(self, pieces: Sequence[Piece]) -> None:
        self.answer("exact", ",".join(str(each.begin.xid) for each in pieces))

    async def _set(self, tables: Sequence[str], tally: Tally, *, is_final: bool, first: object) -> None:
        self.answer("final" if is_final else "set", ",".join(tables))

    def _release(self, cost: int, changes: int) -> None:
        self.released += cost

    def _listen(self, event: Event) -> None:
        assert isinstance(event, Applied)
        self.told.append(event)

    @property
    def levels(self) -> list[tuple[str, str, int]]:
        return [(event.by_level, event.reason, event.transactions) for event in self.told]


_SETS = ("tables", "derive", "identify", "look_first")
_REPLAYER = (
    "opening", "begin", "settle", "settle_orphans", "write_ids", "committed", "rollback", "finish", "at_once",
    "tally", "remarks", "pipeline",
)  # fmt: skip


def test_a_folded_batch_is_applied_as_sets_in_one_transaction() -> None:
    script = Script(batch(1, 2))
    assert script.run() == ["identify", "set 1,2", "COMMIT"]
    assert script.levels == [("set", "", 2)]
    assert (script.durable, script.released) == ([208], 2)


@pytest.mark.parametrize("reason", ["small", "truncate", "no_key", "configured"])
def test_what_was_not_folded_is_applied_exactly(reason: str) -> None:
    script = Script(batch(1, 2, reason=reason))
    assert script.run() == ["begin", "exact 1,2", "COMMIT"]
    assert script.levels == [("exact", reason, 2)]


def test_C1_a_value_somebody_holds_is_for_the_final_state() -> None:
    script = Script(batch(1, 2), set=[Unfit("unique")])
    assert script.run() == ["identify", "set 1,2", "rollback", "identify", "final 1,2", "COMMIT"]
    assert script.levels == [("final", "unique", 2)]


def test_C5_keys_that_move_go_there_at_once() -> None:
    script = Script(batch(1, moves=True))
    assert script.run() == ["identify", "final 1", "COMMIT"]
    assert script.levels == [("final", "moves", 1)]


def test_without_replica_role_there_is_no_final_state() -> None:
    script = Script(batch(1), batch(2, moves=True), replica_role=False, set=[Unfit("unique")])
    assert script.run() == [
        "identify", "set 1", "rollback", "begin", "exact 1", "COMMIT",
        "begin", "exact 2", "COMMIT",
    ]  # fmt: skip
    assert script.levels == [("exact", "unique", 1), ("exact", "moves", 1)]


@pytest.mark.parametrize("reason", ["row_count", "unknown_id", "array", "refused"])
def test_C18_what_only_the_exact_path_can_judge_goes_straight_there(reason: str) -> None:
    script = Script(batch(1, 2), set=[Unfit(reason)])
    assert script.run() == ["identify", "set 1,2", "rollback", "begin", "exact 1,2", "COMMIT"]
    assert script.levels == [("exact", reason, 2)]


def test_a_final_state_that_is_refused_is_for_the_exact_path() -> None:
    script = Script(batch(1, 2), set=[Unfit("unique")], final=[Unfit("unique")])
    assert script.run()[-6:] == ["identify", "final 1,2", "rollback", "begin", "exact 1,2", "COMMIT"]
    assert script.levels == [("exact", "unique", 2)]


@pytest.mark.parametrize(
    ("fault", "reason"), [(Rebuild("others were first"), "ids"), (Refused("gone"), "refused"), (WRONG, "refused")]
)
def test_I2_ids_of_others_and_refused_rows_are_looked_at_by_the_exact_path(fault: Fault, reason: str) -> None:
    script = Script(batch(1, 2), set=[fault])
    script.run()
    assert script.levels == [("exact", reason, 2)]


@pytest.mark.parametrize("at", ["set", "COMMIT"])
def test_I1_a_guess_that_a_row_was_new_is_made_once(at: str) -> None:
    """The entry was there: the same batch asks the map, and stays a set."""
    script = Script(batch(1, 2), **{at: [Rebuild("others were first")]})
    script.may_guess = True
    said = script.run()
    assert said.count("identify") == 2
    assert script.levels == [("set", "", 2)]
    script = Script(batch(1, 2), **{at: [Rebuild("others were first"), Rebuild("once more")]})
    script.may_guess = True
    script.run()
    assert script.levels == [("exact", "ids", 2)]


def test_C24_what_a_deferred_check_refuses_at_commit_is_applied_exactly() -> None:
    script = Script(batch(1, 2), COMMIT=[WRONG])
    assert script.run() == ["identify", "set 1,2", "COMMIT", "rollback", "begin", "exact 1,2", "COMMIT"]


@pytest.mark.parametrize("at", ["set", "identify", "COMMIT"])
def test_A18_H4_what_passes_by_itself_climbs(at: str) -> None:
    """Nobody knows what became of a COMMIT without an answer: nothing may be tried again before that was read back."""
    script = Script(batch(1, 2), **{at: [LOST]})
    with pytest.raises(Transient):
        script.run()
    assert script.said[-1] == "rollback"
    assert not any(line.startswith("exact") for line in script.said)
    assert script.durable == []
    assert script.released == 2


def test_what_went_with_its_commit_needs_no_other() -> None:
    script = Script(batch(1, 2, reason="small"), batch(3, reason="small"), at_once=[True, True])
    assert script.run() == ["begin", "exact 1,2", "at once", "begin", "exact 3", "at once"]
    assert script.durable == [208, 308]
    assert script.end_lsn == 308


def test_what_the_server_refused_at_once_is_finished_and_committed_as_ever() -> None:
    script = Script(batch(1, reason="small"), at_once=[False])
    assert script.run() == ["begin", "exact 1", "at once", "COMMIT"]
    assert script.durable == [108]


def test_A18_a_commit_that_went_along_and_was_not_answered_is_read_back() -> None:
    script = Script(batch(1, reason="small"), at_once=[True], **{"at once": [LOST]})
    with pytest.raises(Transient) as lost:
        script.run()
    assert (script.said[-1], script.durable) == ("rollback", [])
    assert "committing up to end LSN 0/6C" in lost.value.where
    assert "read back" in lost.value.means


def test_a_bad_transaction_stands_alone_and_the_good_ones_are_durable() -> None:
    script = Script(batch(1, 2, 3), set=[Unfit("refused")], exact=[WRONG, None, WRONG])
    with pytest.raises(RowRefused):
        script.run()
    assert script.said == [
        "identify", "set 1,2,3", "rollback",
        "begin", "exact 1,2,3", "rollback",
        "begin", "exact 1", "COMMIT",
        "begin", "exact 2", "rollback",
    ]  # fmt: skip
    assert script.levels == [("exact_single", "refused", 1)]
    assert script.durable == [108]


def test_C1_one_refused_for_a_value_somebody_holds_is_tried_in_final_state() -> None:
    script = Script(batch(1, reason="small"), exact=[TAKEN])
    assert script.run() == ["begin", "exact 1", "rollback", "identify", "final 1", "COMMIT"]
    assert script.levels == [("final", "unique", 1)]


def test_and_if_that_is_refused_too_the_first_reason_is_told() -> None:
    script = Script(batch(1, reason="small"), exact=[TAKEN], final=[Unfit("unique")])
    with pytest.raises(RowRefused) as told:
        script.run()
    assert told.value is TAKEN
    assert script.said[-2:] == ["final 1", "rollback"]


def test_without_replica_role_it_is_not_tried() -> None:
    script = Script(batch(1, reason="small"), replica_role=False, exact=[TAKEN])
    with pytest.raises(RowRefused):
        script.run()
    assert script.said == ["begin", "exact 1", "rollback"]


def pieces(*reasons: str) -> list[Batch]:
    """One transaction in as many pieces."""
    last = len(reasons) - 1
    made = []
    for at, reason in enumerate(reasons):
        one = batch(1, reason=reason)
        made.append(Batch([piece(1, is_first=at == 0, is_last=at == last)], one.tables, reason))
    return made


def test_C8_pieces_share_a_transaction_and_each_has_a_savepoint() -> None:
    script = Script(*pieces("", "", ""), set=[None, Unfit("row_count")])
    assert script.run() == [
        "begin",
        "identify", "ids", "savepoint", "set 1", "release",
        "identify", "ids", "savepoint", "set 1", "rollback to", "release", "exact 1", "ids",
        "identify", "ids", "savepoint", "set 1", "release",
        "COMMIT",
    ]  # fmt: skip
    assert script.levels == [("exact_pieces", "row_count", 1)]
    assert script.released == 3


def test_C8_a_piece_in_final_state() -> None:
    script = Script(*pieces("", ""), set=[Unfit("unique")])
    script.run()
    assert script.levels == [("final_pieces", "unique", 1)]


def test_I5_after_a_key_moved_the_rest_of_the_transaction_is_exact() -> None:
    script = Script(*pieces("id_moved", "", ""))
    script.has_aliases = True
    assert script.run() == ["begin", *["exact 1", "ids"] * 3, "COMMIT"]
    assert script.levels == [("exact_pieces", "id_moved", 1)]


def test_a_stream_that_ends_inside_a_transaction_takes_it_back() -> None:
    script = Script(*pieces("", "")[:1])
    assert script.run()[-1] == "rollback"
    assert script.durable == []


def test_another_transaction_inside_one_is_no_stream() -> None:
    script = Script(*pieces("", "")[:1], batch(2))
    with pytest.raises(ProtocolViolation):
        script.run()


class Slow(Script):
    """The second piece comes when it is let, the third never."""

    def __init__(self) -> None:
        super().__init__(*pieces("", "", ""))
        self.let = asyncio.Event()
        self.asked = 0

    async def ready(self) -> None:
        self.asked += 1
        if self.asked > 1:
            await self.let.wait()
            self.let.clear()


@pytest.mark.parametrize("turns", range(8))
def test_whoever_is_cancelled_between_two_pieces_ends(turns: int) -> None:
    """However close to the arrival of the next piece: swallowed once, a cancellation never comes again."""

    async def cancelled() -> None:
        script = Slow()
        applying = asyncio.create_task(script.applier().run())
        while script.asked < 2:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        script.let.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        applying.cancel()
        for _ in range(50):
            await asyncio.sleep(0)
        assert applying.cancelled()

    asyncio.run(cancelled())


def test_an_idle_position_is_written_before_it_is_told() -> None:
    script = Script(Idle(Lsn(500)), Idle(Lsn(1)))
    assert script.run() == ["begin", "COMMIT", "idle 500"]
