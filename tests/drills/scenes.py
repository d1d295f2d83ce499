"""The nine drills: what is broken, what must be shown then, and what mends it.

docs/runbooks/drills.md tells a person the same; tests/unit/deploy/test_drills.py holds it to what is promised here. The
invariant: what a scene promises is shown at one moment, by the status, the probes and the alerts together.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

import psycopg

from tests.drills.theatre import WAL_ALLOWED, Seen, Theatre

Breaking = Callable[[Theatre], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Scene:
    """One drill. `breaks` is a context: what is broken when it is entered is mended when it is left.

    `status` are words that `crossfade status` shows, `page` those of the page in a browser ("": there is none),
    `alerts` those that fire, `panels` those of the dashboard with what they draw (`theatre.look`), `ready` what
    /readyz answers (None: nobody does). `elsewhere`: what is looked at is the standby's, which must lead.
    """

    title: str
    breaks: Breaking
    status: tuple[str, ...]
    page: str
    alerts: tuple[str, ...]
    panels: tuple[tuple[str, str], ...]
    ready: int | None
    elsewhere: bool = False

    def missing(self, seen: Seen) -> list[str]:
        """What is promised and not shown."""
        unsaid = [f"status says {words!r}" for words in self.status if words not in " ".join(seen.status.split())]
        unfired = [f"alert {name}" for name in self.alerts if name not in seen.firing]
        unready = [] if seen.ready == self.ready else [f"/readyz {self.ready}"]
        undrawn = [f"panel {' '.join(each)}" for each in self.panels if " ".join(each) not in seen.panels]
        idle = ["the standby leads"] if self.elsewhere and not seen.document.get("leader") else []
        return unsaid + unfired + unready + undrawn + idle


@contextlib.contextmanager
def _source_down(theatre: Theatre) -> Iterator[None]:
    theatre.source.stop("immediate")
    try:
        yield
    finally:
        theatre.source.start()


@contextlib.contextmanager
def _target_down(theatre: Theatre) -> Iterator[None]:
    theatre.target.stop("immediate")
    try:
        yield
    finally:
        theatre.target.start()


@contextlib.contextmanager
def _target_full(theatre: Theatre) -> Iterator[None]:
    assert theatre.leader.terminate() == 0
    try:
        with theatre.small_disk(96 * 1024**2) as disk:
            theatre.leader.start()
            theatre.leader.wait_for_phase("streaming")
            with contextlib.suppress(OSError), (disk / "filler").open("wb") as filler:
                while True:
                    filler.write(b"\0" * 65536)
                    filler.flush()
            theatre.databases.source.execute(
                "INSERT INTO orders (note) SELECT repeat('x', 900) FROM generate_series(1, 3000)"
            )
            try:
                yield
            finally:
                (disk / "filler").unlink()
            theatre.well()
            assert theatre.leader.terminate() == 0
    finally:
        if not theatre.leader.running:  # also where no disk could be made
            theatre.leader.start()


@contextlib.contextmanager
def _slot_nearly_lost(theatre: Theatre) -> Iterator[None]:
    assert theatre.workspace.run("pause").returncode == 0
    theatre.write_wal(WAL_ALLOWED * 85 // 100)
    try:
        yield
    finally:
        assert theatre.workspace.run("resume").returncode == 0
        theatre.leader.wait_until_caught_up()
        theatre.databases.source.execute("CHECKPOINT")


@contextlib.contextmanager
def _blocked(theatre: Theatre) -> Iterator[None]:
    with psycopg.connect(theatre.databases.target_admin) as somebody:
        somebody.execute("LOCK TABLE app.orders IN ACCESS EXCLUSIVE MODE")
        theatre.write_wal(32 * 1024**2)
        yield
        somebody.rollback()


@contextlib.contextmanager
def _row_refused(theatre: Theatre) -> Iterator[None]:
    theatre.databases.target.execute(
        "ALTER TABLE app.orders ADD CONSTRAINT short CHECK (length(note) < 1000) NOT VALID"
    )
    theatre.databases.source.execute("INSERT INTO orders (note) VALUES (repeat('x', 1000))")
    try:
        yield
    finally:
        theatre.databases.target.execute("ALTER TABLE app.orders DROP CONSTRAINT short")
        assert theatre.workspace.run("resume").returncode == 0


@contextlib.contextmanager
def _long_transaction(theatre: Theatre) -> Iterator[None]:
    with psycopg.connect(theatre.databases.source_admin) as somebody:
        somebody.execute("INSERT INTO orders (note) VALUES ('never committed')")
        theatre.write_wal(WAL_ALLOWED * 60 // 100)
        yield
        somebody.rollback()
    theatre.databases.source.execute("CHECKPOINT")


@contextlib.contextmanager
def _killed(theatre: Theatre) -> Iterator[None]:
    theatre.leader.kill9()
    try:
        yield
    finally:
        theatre.leader.start()


@contextlib.contextmanager
def _taken_over(theatre: Theatre) -> Iterator[None]:
    standby = theatre.standby()
    theatre.leader.kill9()
    try:
        yield
    finally:
        assert standby.terminate() == 0
        theatre.leader.start()


SCENES: Final = (
    Scene(
        "The source is down",
        _source_down,
        status=("Not working since", "Cannot connect", "lag -", "look at the source if it stays"),
        page="look at the source if it stays",
        alerts=("CrossfadeNotWorking",),
        panels=(("Alerts", ">= 1"), ("Lag", "absent")),
        ready=503,
    ),
    Scene(
        "The target is down",
        _target_down,
        status=("Not working since", "Cannot connect", "look at the target if it stays"),
        page="look at the target if it stays",
        alerts=("CrossfadeNotWorking",),
        panels=(("Alerts", ">= 1"), ("Lag", "> 5")),
        ready=503,
    ),
    Scene(
        "The target's disk is full",
        _target_full,
        status=("Paused because the target's disk is full", "make room there. It goes on by itself"),
        page="make room there. It goes on by itself",
        alerts=("CrossfadePaused",),
        panels=(("Alerts", ">= 1"), ("Lag", "> 5")),
        ready=200,
    ),
    Scene(
        "The slot is about to be lost",
        _slot_nearly_lost,
        status=("paused: operator", "of the WAL that max_slot_wal_keep_size allows", "crossfade resume"),
        page="of the WAL that max_slot_wal_keep_size allows",
        alerts=("CrossfadeSlotRetention",),
        panels=(("WAL kept of its limit", "> 0.8"), ("Changes applied", "== 0")),
        ready=200,
    ),
    Scene(
        "The apply is blocked by a lock",
        _blocked,
        status=("The apply waits for a lock held by session", "Ask whose session it is that blocks the apply"),
        page="Ask whose session it is that blocks the apply",
        alerts=("CrossfadeStalled", "CrossfadeLagHigh"),
        panels=(("Lag", "> 5"), ("Changes applied", "== 0")),
        ready=200,
    ),
    Scene(
        "The target refuses a row",
        _row_refused,
        status=("Failed, somebody must act", "constraint short", "Mend what the error says, then `crossfade resume`"),
        page="Failed, somebody must act",
        alerts=("CrossfadeHighErrorRate",),
        panels=(("Alerts", ">= 1"), ("Errors by cause", "> 0")),
        ready=503,
    ),
    Scene(
        "A long transaction on the source",
        _long_transaction,
        status=("A writing transaction has been open on the source", "most likely a long transaction on the source"),
        page="most likely a long transaction on the source",
        alerts=("CrossfadeSlotRetention", "CrossfadeLongTransaction"),
        panels=(("WAL kept of its limit", "> 0.5"), ("Oldest transaction", "> 10"), ("Lag", "< 5")),
        ready=200,
    ),
    Scene(
        "The daemon is killed",
        _killed,
        status=("No daemon runs", "No daemon runs and the slot retains WAL: start it again with `crossfade run`"),
        page="",
        alerts=("CrossfadeDown",),
        panels=(("Who leads", "absent"),),
        ready=None,
    ),
    Scene(
        "A standby takes over",
        _taken_over,
        status=("Streaming", "leader"),
        page="Streaming",
        alerts=(),
        panels=(("Who leads", "== 1"),),
        ready=200,
        elsewhere=True,
    ),
)
