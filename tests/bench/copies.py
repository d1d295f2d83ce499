"""The initial copy of one wide table: a pipe of two psql, pgcopydb where it is installed, and crossfade.

The table on the target exists and has its primary key, as logical replication needs it; pgcopydb makes its own and
builds the key afterwards, as its users run it. psql and pgcopydb are timed from start to end of the process; crossfade
from the moment its slot exists, which is when it may begin, until every table is marked done, which is committed with
the rows. What it took before is told apart. Every copy is compared with the source.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import psycopg

from tests.bench.backlogs import BACKLOGS, Backlog, Shape, fill_events
from tests.bench.compare import Expectation
from tests.bench.contenders import Crossfade, publish
from tests.bench.cpu import Cpu
from tests.bench.drain import EverySecond
from tests.bench.ground import Ground, NotMeasured, wait_until
from tests.bench.results import CROSSFADE, Run
from tests.servers.databases import Row, Side

PSQL: Final = "psql"
PGCOPYDB: Final = "pgcopydb"
COPY: Final = "initial_copy"
RESHAPED: Final = "initial_copy_reshaped"
SIZE: Final = 2_000_000
_COPY_SECONDS: Final = 3600.0
_BACKLOG: Final[Backlog] = BACKLOGS["insert_backlog"]


@contextmanager
def filled(ground: Ground, size: int) -> Iterator[Side]:
    """The source all copies of one run read from."""
    with ground.database(ground.source, "s_copy") as source:
        source.execute(_BACKLOG.ddl)
        fill_events(ground, source, size)
        publish(source, _BACKLOG.tables, ())
        source.execute("VACUUM ANALYZE public.events")
        yield source


def plan(wanted: Sequence[str]) -> list[str]:
    """Who takes part: `psql`, `pgcopydb`, and crossfade under its workload's name."""
    found = [PSQL]
    if shutil.which(PGCOPYDB) is not None and COPY in wanted:
        found.append(PGCOPYDB)
    return [*found, *(name for name in (COPY, RESHAPED) if name in wanted)]


def measure(ground: Ground, source: Side, who: str, expected: Expectation, tag: str) -> Run:
    """One copy into a fresh database."""
    with ExitStack() as stack:
        target = stack.enter_context(ground.database(ground.target, f"t_copy_{tag}"))
        shape = _BACKLOG.reshaped if who == RESHAPED else _BACKLOG.plain
        assert shape is not None
        if who != PGCOPYDB:
            target.execute(shape.ddl)
        if who == PSQL:
            run = _psql(ground, source, target)
        elif who == PGCOPYDB:
            run = _pgcopydb(ground, source, target, ground.folder / f"pgcopydb_{tag}")
        else:
            run = _crossfade(ground, source, target, shape, who)
        expected.check(target.admin, shape.compared, contender=who)
        return run


def _psql(ground: Ground, source: Side, target: Side) -> Run:
    program = ground.program(PSQL)
    if program is None:
        raise NotMeasured("psql was not found beside the server, nor on the PATH.")
    out = [
        program,
        "-qXAt",
        "-v",
        "ON_ERROR_STOP=1",
        "-c",
        "COPY public.events TO STDOUT (FORMAT binary)",
        source.admin,
    ]
    into = [
        program,
        "-qX",
        "-v",
        "ON_ERROR_STOP=1",
        "-c",
        "COPY public.events FROM STDIN (FORMAT binary)",
        target.admin,
    ]
    ground.checkpoint()
    before, own = ground.cpu(None), os.times()
    began = time.monotonic()
    with (
        subprocess.Popen(out, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as reader,
        subprocess.Popen(into, stdin=reader.stdout) as writer,
    ):
        assert reader.stdout is not None
        reader.stdout.close()  # so that the reader notices when the writer ends
        codes = writer.wait(), reader.wait()
    over = time.monotonic()
    if any(codes):
        raise NotMeasured(f"the psql pipe ended with {codes}")
    return Run(COPY, PSQL, over - began, cpu=_with_children(ground, before, own))


def _pgcopydb(ground: Ground, source: Side, target: Side, folder: Path) -> Run:
    program = shutil.which(PGCOPYDB)
    assert program is not None
    ground.checkpoint()
    before, own = ground.cpu(None), os.times()
    began = time.monotonic()
    ground.client(
        [
            program, "clone", "--table-jobs", "2", "--index-jobs", "2", "--no-owner", "--no-acl",
            "--dir", str(folder), "--source", source.admin, "--target", target.admin,
        ]
    )  # fmt: skip
    over = time.monotonic()
    return Run(COPY, PGCOPYDB, over - began, cpu=_with_children(ground, before, own))


def _with_children(ground: Ground, before: Cpu, own: os.times_result) -> Cpu:
    """The clients' time stands where crossfade's daemon has its own."""
    used, now = ground.cpu(None).since(before), os.times()
    clients = now.children_user + now.children_system - own.children_user - own.children_system
    return Cpu(used.source, clients, used.target)


def _crossfade(ground: Ground, source: Side, target: Side, shape: Shape, workload: str) -> Run:
    contender = Crossfade(ground, source, target, _BACKLOG, shape)
    contender.configure()
    ground.checkpoint()
    watch = EverySecond(contender)
    admin = ground.pair.admin(ground.source)
    slot = "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND confirmed_flush_lsn IS NOT NULL"
    with target.connect() as session:
        called = time.monotonic()
        contender.start()
        began = wait_until(
            lambda: admin.execute(slot, (contender.slot,)).fetchone(),
            "the slot is made",
            timeout=120,
            tick=0.002,
            ended=watch,
        )
        before = ground.cpu(contender.daemon_pid)
        over = wait_until(
            lambda: _all_done(session),
            "the copy",
            timeout=_COPY_SECONDS,
            tick=0.01,
            ended=watch,
        )
        used = ground.cpu(contender.daemon_pid).since(before)
    peak = contender.peak_mb()
    contender.stop()
    return Run(workload, CROSSFADE, over - began, cpu=used, startup_s=began - called, peak_mb=peak)


def _all_done(session: psycopg.Connection[Row]) -> bool:
    row = session.execute("SELECT count(*) > 0 AND bool_and(state = 'done') FROM crossfade.copy_tables").fetchone()
    return row is not None and row[0] is True
