"""What the daemon costs when there is nothing to do, and how much memory it needs at most.

Idle: CPU time over a few windows of a quiet minute, as percent of one core. Memory: one transaction of millions of
rows, reshaped, through a running daemon; the peaks of all other runs are collected elsewhere and shown beside it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from tests.bench.backlogs import MARKS, Backlog, Shape, end_mark
from tests.bench.compare import Compared, Expectation
from tests.bench.contenders import Crossfade, publish
from tests.bench.cpu import Cpu
from tests.bench.drain import EverySecond
from tests.bench.ground import Ground, wait_until
from tests.bench.latency import LOAD
from tests.bench.results import CROSSFADE, Run
from tests.servers.databases import Side

ROWS: Final = 5_000_000
_WINDOWS: Final = 3
_ZONE: Final = "America/New_York"


def _fill(ground: Ground, source: Side, size: int) -> None:
    pass


def _one_transaction(ground: Ground, source: Side, size: int) -> None:
    source.execute(
        "INSERT INTO public.numbers SELECT i, i % 1000, md5(i::text), timestamp '2020-01-01' + i * interval '1 s'"
        f" FROM generate_series(1, {size}) i"
    )


LARGE: Final = Backlog(
    "memory_large_transaction",
    "CREATE TABLE public.numbers (id bigint PRIMARY KEY, n integer, body text, at timestamp);"
    + MARKS.format(schema="public"),
    ("public.numbers", "public.bench_marks"),
    (),
    _fill,
    _one_transaction,
    lambda size: size,
    Shape(
        "CREATE SCHEMA app; CREATE TABLE app.numbers (id uuid PRIMARY KEY, n integer, body text, at timestamptz);"
        + MARKS.format(schema="app"),
        f"""\
version: 1
schemas: {{public: app}}
ids:
  number: {{from: public.numbers.id, to: uuid, strategy: uuid7}}
tables:
  app.numbers:
    columns: {{id: {{remap: number}}, at: {{timezone: {_ZONE}}}}}
""",
        (
            Compared(
                "numbers",
                f"SELECT ROW(id::text, n, body, at AT TIME ZONE '{_ZONE}')::text FROM public.numbers",
                "SELECT ROW(m.old::text, n, body, at)::text"
                " FROM app.numbers t LEFT JOIN crossfade.id_number m ON m.new = t.id",
            ),
        ),
        "app",
    ),
)


@contextmanager
def _running(ground: Ground, load: Backlog, tag: str) -> Iterator[tuple[Side, Crossfade]]:
    with ExitStack() as stack:
        source = stack.enter_context(ground.database(ground.source, f"s_{tag}"))
        target = stack.enter_context(ground.database(ground.target, f"t_{tag}"))
        source.execute(load.ddl)
        load.fill(ground, source, 0)
        target.execute(load.plain.ddl)
        publish(source, load.tables, load.appended)
        contender = Crossfade(ground, source, target, load, load.plain)
        contender.prepare()
        contender.start()
        contender.daemon.wait_for_phase("streaming", timeout=120)
        yield source, contender


def idle(ground: Ground, seconds: float) -> list[Run]:
    """Percent of a core, a run for each window; the CPU seconds beside it are those of a minute."""
    with _running(ground, LOAD, "idle") as (_, contender):
        time.sleep(5.0)  # the last of starting up
        runs: list[Run] = []
        for _ in range(_WINDOWS):
            before, began = ground.cpu(contender.daemon_pid), time.monotonic()
            time.sleep(seconds / _WINDOWS)
            took, used = time.monotonic() - began, ground.cpu(contender.daemon_pid).since(before)
            assert used.daemon is not None
            minute = Cpu(used.source * 60 / took, used.daemon * 60 / took, used.target * 60 / took)
            runs.append(Run("idle", CROSSFADE, 100 * used.daemon / took, cpu=minute))
        peak = contender.peak_mb()
        contender.stop()
    return [Run(**{**{f: getattr(run, f) for f in run.__slots__}, "peak_mb": peak}) for run in runs]


def large_transaction(ground: Ground, rows: int) -> Run:
    """Peak resident MB while one transaction of `rows` rows goes through."""
    with _running(ground, LARGE, "large") as (source, contender):
        before, began = ground.cpu(contender.daemon_pid), time.monotonic()
        LARGE.pile_up(ground, source, rows)
        end_mark(source)
        with contender.target.connect() as session:
            wait_until(
                lambda: session.execute("SELECT 1 FROM app.bench_marks").fetchone(),
                "the large transaction",
                timeout=3600,
                tick=0.05,
                ended=EverySecond(contender),
            )
        took, used = time.monotonic() - began, ground.cpu(contender.daemon_pid).since(before)
        peak = contender.peak_mb()
        assert peak is not None
        contender.stop()
        Expectation(source.admin).check(contender.target.admin, LARGE.plain.compared, contender=CROSSFADE)
    return Run(LARGE.name, CROSSFADE, peak, cpu=used, peak_mb=peak, details={"rows": rows, "seconds": round(took, 1)})
