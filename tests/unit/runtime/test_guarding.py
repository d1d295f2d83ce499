from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from crossfade.events import Event, LeaderChanged, Note, PauseReason
from crossfade.faults import Fault, Transient, Unreachable
from crossfade.runtime.giveup import carry_out, given_up
from crossfade.runtime.guarding import Guarding
from crossfade.runtime.state import WorkflowState
from crossfade.runtime.stop import Stop
from crossfade.runtime.supervisor import _is_of_source
from crossfade.session.connect import Connection
from crossfade.settings import Settings, load_settings
from tests.unit.telemetry.facts import APP_ORDERS, ORDERS, copied, failed, sampled

GIB = 1024**3
FILE = """
name = "shop"
source.dsn = "host=old"
target.dsn = "host=new"
[guards]
wal_soft_limit = "1 GiB"
wal_hard_limit = "2 GiB"
"""


class Scene:
    """Guards of one daemon, without a database; `events` is what they and the state told."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.events: list[Event] = []
        self.state = WorkflowState(self.events.append)
        self.stopped = asyncio.Event()
        self.guarding = Guarding(
            lambda: self.settings, state=self.state, listener=self.events.append, stopped=self.stopped
        )

    def tell(self, *events: Event) -> None:
        for event in events:
            self.guarding.observe(event)

    def judged(self) -> None:
        """One round of the judge."""

        async def one_round() -> None:
            task = asyncio.create_task(self.guarding.judge())
            await asyncio.sleep(0)
            task.cancel()

        asyncio.run(one_round())

    def notes(self) -> list[tuple[str, str, bool]]:
        return [(each.name, each.level, each.cleared) for each in self.events if isinstance(each, Note)]


def scene(folder: Path, extra: str = "") -> Scene:
    (folder / "crossfade.toml").write_text(FILE + extra)
    return Scene(load_settings(folder / "crossfade.toml", environment={}, run_secrets=folder / "none"))


GIVES_UP = 'on_wal_hard_limit = "give_up_slot"\n'


def keeps(retained: int) -> tuple[Event, ...]:
    return tuple(sampled(retained_bytes=retained) for _ in range(10))


@pytest.mark.parametrize(
    ("roles", "gives_up"),
    [
        ((LeaderChanged(True),), True),
        ((LeaderChanged(True), LeaderChanged(False, tries_again=True)), True),
        ((LeaderChanged(True), LeaderChanged(False)), False),
        ((LeaderChanged(False),), False),
        ((), False),
    ],
    ids=["leads", "between two attempts", "was passed", "stands by", "just starts"],
)
def test_only_who_leads_or_led_last_gives_the_slot_up(
    tmp_path: Path, roles: tuple[LeaderChanged, ...], gives_up: bool
) -> None:
    daemon = scene(tmp_path, GIVES_UP)
    daemon.tell(*roles, *keeps(3 * GIB))
    daemon.judged()
    assert (daemon.guarding.sentence is not None) is gives_up
    assert daemon.guarding.verdict.is_set() is gives_up


def test_the_sentence_says_what_it_costs(tmp_path: Path) -> None:
    daemon = scene(tmp_path, GIVES_UP)
    daemon.tell(LeaderChanged(True), copied("done", 1000), copied("done", 500, source=ORDERS, target=APP_ORDERS))
    daemon.tell(copied("running", 9), *keeps(3 * GIB))
    daemon.judged()
    assert daemon.guarding.sentence is not None
    text = str(daemon.guarding.sentence)
    assert "2.0 GiB" in text
    assert "2 tables, 1,500 rows" in text
    assert "crossfade teardown" in text


def test_both_limits_are_told_and_that_they_are_over(tmp_path: Path) -> None:
    daemon = scene(tmp_path)
    daemon.tell(LeaderChanged(True))
    for retained in (GIB, 3 * GIB // 2, 3 * GIB, 3 * GIB // 2, GIB // 2):
        daemon.tell(*keeps(retained))
        daemon.judged()
    assert daemon.notes() == [
        ("wal_soft_limit", "warning", False),
        ("wal_soft_limit", "warning", True),
        ("wal_hard_limit", "error", False),
        ("wal_soft_limit", "warning", False),
        ("wal_hard_limit", "error", True),
        ("wal_soft_limit", "warning", True),
    ]
    assert daemon.guarding.sentence is None  # nobody asked for that


def test_a_full_target_pauses_at_once_and_an_operator_s_word_ends_it(tmp_path: Path) -> None:
    daemon = scene(tmp_path)
    daemon.guarding.target_refused()
    assert daemon.state.paused is PauseReason.TARGET_FULL
    daemon.guarding.resumed()
    daemon.state.resume()
    daemon.judged()
    assert not daemon.state.is_paused()


def test_what_a_leader_before_paused_for_is_taken_over_beside_an_operator_s_pause(tmp_path: Path) -> None:
    daemon = scene(tmp_path)
    daemon.state.pause(PauseReason.OPERATOR)
    daemon.guarding.take_over(PauseReason.TARGET_FULL)
    daemon.judged()
    assert daemon.state.pauses == {PauseReason.OPERATOR, PauseReason.TARGET_FULL}


@pytest.mark.parametrize(
    ("component", "sqlstate", "pauses"),
    [
        ("apply", "40P01", True),
        ("stream", "53200", True),
        ("apply", "53100", False),  # a full disk has a guard of its own
        ("apply", "23505", False),  # refused for good: phase failed
        ("target", "", False),
        ("stream", "57P01", False),
        ("copy", "40P01", False),
    ],
)
def test_which_errors_make_a_rate(tmp_path: Path, component: str, sqlstate: str, pauses: bool) -> None:
    daemon = scene(tmp_path)
    daemon.tell(*[failed(component, sqlstate=sqlstate)] * 6)
    daemon.judged()
    assert (daemon.state.paused is PauseReason.ERROR_RATE) is pauses


@pytest.mark.parametrize(
    ("where", "is_source"),
    [
        ("source", True),
        ("source, slot crossfade", True),
        ("source (db:5432, database shop, role crossfade)", True),
        ("source.items, in the transaction whose commit is at 0/1", False),
        ("target, committing up to end LSN 0/1", False),
        ("", False),
    ],
)
def test_whose_disk_is_full(where: str, is_source: bool) -> None:
    assert _is_of_source(Transient("The server's disk is full.", where=where, sqlstate="53100")) is is_source


# giving up


class Server:
    """Answers the errands as told: an exception, or a connection that takes everything and counts."""

    def __init__(self, *answers: Fault) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def execute(self, *_: object) -> None:
        self.asked += 1

    def __call__(self) -> AbstractAsyncContextManager[Connection]:
        return self._errand()

    @asynccontextmanager
    async def _errand(self) -> AsyncIterator[Connection]:
        if self.answers:
            raise self.answers.pop(0)
        yield cast(Connection, self)


async def at_once(_: float) -> None:
    await asyncio.sleep(0)


def surrender(
    target: Server, source: Server, *, stop: Callable[[Stop], None] = lambda _: None
) -> tuple[bool, list[str]]:
    told: list[Event] = []
    stopping = Stop(20)
    stopping.sleep = at_once  # type: ignore[method-assign]  # nobody waits
    stop(stopping)
    fault = given_up("crossfade", 2 * GIB, copied=(0, 0, 0))
    is_dropped = asyncio.run(
        carry_out(
            fault, workflow="shop", name="crossfade", on_target=target, on_source=source, stop=stopping,
            listener=told.append,
        )
    )  # fmt: skip
    return is_dropped, [event.name for event in told if isinstance(event, Note)]


def test_why_is_written_down_before_the_slot_goes() -> None:
    order: list[str] = []

    class Noted(Server):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        async def execute(self, *_: object) -> None:
            order.append(self.name)

    assert surrender(Noted("target"), Noted("source")) == (True, ["slot_given_up"])
    assert order == ["target", "source", "source"]


def test_a_target_that_is_away_does_not_keep_the_source_waiting() -> None:
    source = Server()
    assert surrender(Server(Unreachable("away")), source) == (True, ["give_up_unrecorded", "slot_given_up"])
    assert source.asked == 2


def test_the_source_is_asked_until_the_slot_is_gone() -> None:
    source = Server(Unreachable("away"), Transient("still in use", sqlstate="55006"))
    assert surrender(Server(), source) == (True, ["slot_given_up"])


def test_who_is_told_to_stop_leaves_the_slot_where_it_is() -> None:
    source = Server()
    assert surrender(Server(), source, stop=lambda stopping: stopping.request()) == (False, [])
    assert source.asked == 0
