"""The demonstration's story with everybody scripted: what it asks of whom, in which order, and how it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import cast

import pytest

from crossfade.demo import run
from crossfade.demo.compare import Comparison, TableResult
from crossfade.demo.daemon import Daemon, DemoFailed
from crossfade.demo.run import Wishes
from crossfade.demo.screen import Screen
from crossfade.demo.stage import Stage
from crossfade.demo.view import View
from crossfade.demo.writers import Counts, Writers
from crossfade.faults import Unreachable
from crossfade.telemetry.document import StatusDocument

AGREED = Comparison((TableResult("public.a", "app.a", 1, 1, 1, 0, 0, 0),), (), ())


def _document(phase: str, state: str) -> StatusDocument:
    table = {"target": "app.a", "state": state, "rows_copied": 5, "rows_estimated": 5}
    numbers = {"lag_seconds": 0.1, "lag_bytes": 10, "rates": {"changes_per_second": 5.0}, "error": None}
    return cast("StatusDocument", {"phase": phase, "tables": [table], **numbers})


COPYING, STREAMING = _document("copy", "running"), _document("streaming", "done")


@dataclass
class FakeDaemon:
    said: Callable[[], StatusDocument | None]
    dies: bool = False
    pid: int = 42
    calls: list[str] = field(default_factory=list)

    async def start(self) -> None:
        self.calls.append("start")

    async def kill(self) -> None:
        self.calls.append("kill")

    async def status(self) -> StatusDocument | None:
        return self.said()

    async def command(self, *arguments: str, deadline: float) -> str:
        self.calls.append(" ".join(arguments[:3]))
        return ""

    def check_alive(self) -> None:
        if self.dies and "start" in self.calls:
            raise DemoFailed("crossfade ended by itself with exit code 1.", do=self.tail())

    def tail(self) -> str:
        return "Its log ends: here."


@dataclass
class FakeWriters:
    fails: bool = False
    counts: Counts = field(default_factory=Counts)
    is_writing: bool = False

    async def run(self, stop: asyncio.Event) -> None:
        self.is_writing = True
        if self.fails:
            raise Unreachable("The live writes lost the legacy database.")
        await stop.wait()
        self.counts.committed += 7
        self.is_writing = False


class FakeStage:
    judge_dsns = ("legacy", "new")


class FakeScreen:
    def __init__(self) -> None:
        self.told: list[str] = []
        self.shown: list[View] = []
        self.facts: tuple[str, ...] = ()

    def tell(self, text: str) -> None:
        self.told.append(text)

    def show(self, view: View) -> None:
        self.shown.append(view)

    def still(self) -> None:
        pass

    def print_result(self, found: Comparison, facts: tuple[str, ...]) -> None:
        self.facts = facts


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_TICK", 0.0)
    monkeypatch.setattr(run, "_COPY_SECONDS", 0.05)
    monkeypatch.setattr(run, "_RETURN_SECONDS", 0.05)


def _story(
    daemon: FakeDaemon, writers: FakeWriters, monkeypatch: pytest.MonkeyPatch, *, kill: bool = True
) -> tuple[run._Story, FakeScreen]:
    def compare(source: str, target: str) -> Comparison:
        assert (source, target) == FakeStage.judge_dsns
        assert not writers.is_writing, "compared while the shop was open"
        daemon.calls.append("compare")
        return AGREED

    monkeypatch.setattr(run, "compare", compare)
    screen = FakeScreen()
    story = run._Story(
        Wishes(seconds=0.05, kill=kill),
        cast("Screen", screen),
        cast("Stage", FakeStage()),
        cast("Daemon", daemon),
        cast("Writers", writers),
    )
    return story, screen


def _script(*documents: StatusDocument | None) -> Callable[[], StatusDocument | None]:
    """Each once, the last for ever."""
    rest: Iterator[StatusDocument | None] = iter(documents[:-1])
    return lambda: next(rest, documents[-1])


async def test_it_checks_copies_kills_catches_up_and_compares(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = FakeDaemon(_script(None, COPYING, STREAMING))
    story, screen = _story(daemon, FakeWriters(), monkeypatch)
    assert await story.tell() is AGREED
    assert daemon.calls == ["check", "start", "kill", "start", "wait --for caught-up", "compare"]
    assert any("SIGKILL" in fact for fact in screen.facts)
    assert [view.phase for view in screen.shown[:2]] == [None, "copy"]


async def test_it_spares_the_daemon_when_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = FakeDaemon(_script(STREAMING))
    story, screen = _story(daemon, FakeWriters(), monkeypatch, kill=False)
    await story.tell()
    assert daemon.calls == ["check", "start", "wait --for caught-up", "compare"]
    assert not any("SIGKILL" in fact for fact in screen.facts)


async def test_a_daemon_that_ends_by_itself_fails_it_with_the_end_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    writers = FakeWriters()
    story, _ = _story(FakeDaemon(_script(COPYING), dies=True), writers, monkeypatch)
    with pytest.raises(DemoFailed, match=r"exit code 1\. Its log ends: here\."):
        await story.tell()
    assert not writers.is_writing


async def test_a_copy_that_does_not_end_fails_it(monkeypatch: pytest.MonkeyPatch) -> None:
    story, _ = _story(FakeDaemon(_script(COPYING)), FakeWriters(), monkeypatch)
    with pytest.raises(DemoFailed, match="copy did not end"):
        await story.tell()


async def test_a_daemon_that_does_not_come_back_fails_it(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = FakeDaemon(lambda: None if "kill" in daemon.calls else STREAMING)
    story, _ = _story(daemon, FakeWriters(), monkeypatch)
    with pytest.raises(DemoFailed, match="did not come back"):
        await story.tell()


async def test_writers_that_fail_fail_it_with_their_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    story, _ = _story(FakeDaemon(_script(STREAMING)), FakeWriters(fails=True), monkeypatch)
    with pytest.raises(Unreachable, match="lost the legacy database"):
        await story.tell()


async def test_kept_running_until_interrupted_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    writers = FakeWriters()
    story, screen = _story(FakeDaemon(_script(STREAMING)), writers, monkeypatch)
    monkeypatch.setattr(story, "_directions", list)
    screen.progress = None  # type: ignore[attr-defined]
    task = asyncio.create_task(story.keep())
    while not writers.is_writing:
        await asyncio.sleep(0)
    task.cancel()
    await task
    assert not writers.is_writing
    assert screen.told[-1] == "Stopping everything."
