"""How long a contender takes to bring a backlog into its target.

The clock starts when the contender's slot is seen to be read, and stops when the last row of the backlog is visible in
the target. With synchronous_commit on nothing is visible before it is durable, and transactions arrive in commit
order, so that moment is "everything is durable". Both moments are seen by the same polls for everybody. Starting up (a
daemon's interpreter, a worker's launch) is told apart. Afterwards the slot must be acknowledged past the backlog, and
the rows must be right. Refuses to know the contenders' ways.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar

from tests.bench.backlogs import Backlog, Shape, end_mark
from tests.bench.compare import Expectation
from tests.bench.contenders import Contender, Crossfade, Native, Pglogical, publish
from tests.bench.ground import Ground, wait_until
from tests.bench.results import CROSSFADE, NATIVE, Run
from tests.servers.databases import Side

_DRAIN_SECONDS: Final = 3600.0
_ACKNOWLEDGE_SECONDS: Final = 60.0
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Entry:
    """A contender of one repetition: `workloads` are those its runs are recorded under, `key` tells entries apart."""

    key: str
    kind: type[Contender]
    shape: Shape
    workloads: tuple[str, ...]
    settings: str = ""


@dataclass(slots=True)
class Repetition:
    """One source database with its backlog, and a prepared target for each entry."""

    ground: Ground
    source: Side
    contenders: list[tuple[Entry, Contender]] = field(default_factory=list)
    reached: int = 0


def entries(backlog: Backlog, wanted: Sequence[str], *, has_pglogical: bool) -> list[Entry]:
    """Who takes part, given the workloads asked for; the native runs count for the plain and the reshaped one."""
    reshaped = f"{backlog.name}_reshaped"
    peers = tuple(name for name in (backlog.name, reshaped) if name in wanted)
    found = [Entry(NATIVE, Native, backlog.plain, peers)]
    if has_pglogical:
        found.append(Entry("pglogical", Pglogical, backlog.plain, peers))
    if backlog.name in wanted:
        found.append(Entry(CROSSFADE, Crossfade, backlog.plain, (backlog.name,)))
    if reshaped in wanted and backlog.reshaped is not None:
        found.append(Entry(reshaped, Crossfade, backlog.reshaped, (reshaped,)))
    return found


@contextmanager
def prepared(
    ground: Ground, backlog: Backlog, size: int, taking_part: Sequence[Entry], tag: str
) -> Iterator[Repetition]:
    """Fresh databases, everybody's initial copy, and then the backlog, written once while nobody reads."""
    with ExitStack() as stack:
        source = stack.enter_context(ground.database(ground.source, f"s_{tag}"))
        source.execute(backlog.ddl)
        backlog.fill(ground, source, size)
        publish(source, backlog.tables, backlog.appended)
        repetition = Repetition(ground, source)
        for number, entry in enumerate(taking_part):
            target = stack.enter_context(ground.database(ground.target, f"t_{tag}_{number}"))
            target.execute(entry.shape.ddl)
            if issubclass(entry.kind, Crossfade):
                contender: Contender = Crossfade(ground, source, target, backlog, entry.shape, settings=entry.settings)
            else:
                contender = entry.kind(ground, source, target, backlog, entry.shape)
            stack.callback(contender.discard)
            repetition.contenders.append((entry, contender))
        with ThreadPoolExecutor() as pool:  # nothing is measured yet
            for done in [pool.submit(contender.prepare) for _, contender in repetition.contenders]:
                done.result()
        for _, contender in repetition.contenders:
            contender.target.execute("ANALYZE")
        backlog.pile_up(ground, source, size)
        repetition.reached = end_mark(source)
        yield repetition


def rotated(items: Sequence[_T], by: int) -> list[_T]:
    """Another one begins each time: whatever comes first or last hurts all alike."""
    by %= len(items)
    return [*items[by:], *items[:by]]


def drain(ground: Ground, repetition: Repetition, entry: Entry, contender: Contender, expected: Expectation) -> Run:
    """One timed drain. Raises `WrongResult` when the target is wrong, `NotMeasured` when it does not get there."""
    source = ground.pair.admin(ground.source)
    ground.checkpoint()
    slot_query = "SELECT active, confirmed_flush_lsn - '0/0' FROM pg_replication_slots WHERE slot_name = %s"

    def slot() -> tuple[object, ...]:
        row = source.execute(slot_query, (contender.slot,)).fetchone()
        assert row is not None
        return row

    watch = EverySecond(contender)
    with contender.target.connect() as session:
        mark = f"SELECT 1 FROM {entry.shape.schema}.bench_marks".encode()
        assert session.execute(mark).fetchone() is None, "the backlog is there already"
        called = time.monotonic()
        contender.start()
        began = wait_until(lambda: slot()[0], "the slot is read", timeout=120, tick=0.002, ended=watch)
        before = ground.cpu(contender.daemon_pid)
        over = wait_until(
            lambda: session.execute(mark).fetchone() is not None,
            f"{contender.name}: the end of the backlog",
            timeout=_DRAIN_SECONDS,
            tick=0.01,
            ended=watch,
        )
        used = ground.cpu(contender.daemon_pid).since(before)
    acknowledged = wait_until(
        lambda: int(str(slot()[1])) >= repetition.reached,
        f"{contender.name}: acknowledged",
        timeout=_ACKNOWLEDGE_SECONDS,
        ended=watch,
    )
    peak = contender.peak_mb()
    contender.stop()
    rows = expected.check(contender.target.admin, entry.shape.compared, contender=f"{entry.key}, {contender.name}")
    return Run(
        entry.workloads[0],
        contender.name,
        over - began,
        cpu=used,
        startup_s=began - called,
        peak_mb=peak,
        details={"acknowledged_after_s": round(acknowledged - began, 3), "rows_compared": rows},
    )


class EverySecond:
    """Asks a contender whether it can go on, but not on every tick of a wait."""

    def __init__(self, contender: Contender) -> None:
        self._contender = contender
        self._next = time.monotonic() + 1.0

    def __call__(self) -> str:
        if time.monotonic() < self._next:
            return ""
        self._next = time.monotonic() + 1.0
        return self._contender.ended()
