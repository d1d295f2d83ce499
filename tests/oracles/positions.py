"""Watches what the target says is durable and what the source was told, and waits for positions.

`progress.end_lsn` may never move back, and the slot's `confirmed_flush_lsn`, read first, may never be past it: that
would be an acknowledgement of rows the target does not have. Knows these two numbers and nothing else of the daemon.

PostgreSQL: view-pg-replication-slots.
"""

from __future__ import annotations

import time

import psycopg

from crossfade.lsn import Lsn
from tests.oracles.connection import LostError, Reconnecting
from tests.oracles.verdict import Loop, Verdict
from tests.oracles.world import World

_SESSIONS = """
SELECT pid, application_name, state, wait_event_type, wait_event, pg_blocking_pids(pid)::text, left(query, 100)
FROM pg_stat_activity WHERE application_name LIKE 'crossfade%%' AND %(slot)s <> ''
"""
_TARGET = (
    "SELECT phase, paused, error, daemon, seen_at FROM crossfade.workflows",
    "SELECT end_lsn::text, epoch, updated_at FROM crossfade.progress",
    "SELECT source_name, state, from_lsn::text, copied_rows FROM crossfade.copy_tables",
    _SESSIONS,
)
_SOURCE = (
    """SELECT slot_name, active, active_pid, restart_lsn::text, confirmed_flush_lsn::text, wal_status
       FROM pg_replication_slots WHERE slot_name = %(slot)s""",
    "SELECT pg_current_wal_flush_lsn()::text, pg_current_wal_insert_lsn()::text",
    "SELECT pid, application_name, state, sent_lsn::text, flush_lsn::text, reply_time FROM pg_stat_replication",
    _SESSIONS,
)


class Positions:
    """A thread that polls both numbers, and `wait_durable` for tests that need to be past something."""

    def __init__(self, world: World, verdict: Verdict, *, slot: str = "crossfade", rest: float = 0.01) -> None:
        self.world = world
        self.verdict = verdict
        self.slot = slot
        self.durable = Lsn(0)
        self.acknowledged = Lsn(0)
        self._rest = rest
        self._source = Reconnecting(world.source, "oracle positions")
        self._target = Reconnecting(world.target, "oracle positions")
        self._loop = Loop("oracle.positions", verdict, self.look)

    def start(self) -> None:
        self._loop.start()

    def stop(self) -> None:
        self._loop.stop()
        self._source.drop()
        self._target.drop()

    def look(self) -> float:
        try:
            with self._source.session() as source:
                row = source.execute(
                    "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = %s", (self.slot,)
                ).fetchone()
            acknowledged = Lsn.parse(str(row[0])) if row is not None and row[0] is not None else Lsn(0)
            with self._target.session() as target:
                row = target.execute("SELECT end_lsn::text FROM crossfade.progress").fetchone()
        except (LostError, psycopg.errors.QueryCanceled):
            self.verdict.count("positions.connection_lost")
            return 0.1
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            return 0.05
        if row is None or row[0] is None:
            if self.durable:
                self.verdict.violated("positions", f"progress is gone; it was {self.durable}")
            return 0.02
        durable = Lsn.parse(str(row[0]))
        self.verdict.count("positions.looks")
        if durable < self.durable:
            self.verdict.violated("positions", f"durable went back from {self.durable} to {durable}")
        if acknowledged > durable:
            self.verdict.violated("early_ack", f"acknowledged {acknowledged} while only {durable} is durable")
        if durable > self.durable:
            self.verdict.count("positions.moves")
        self.durable, self.acknowledged = max(durable, self.durable), acknowledged
        return self._rest


def mark(world: World, why: str, *, seconds: float = 30) -> tuple[int, Lsn]:
    """Commit a row that travels like any other; returns its id and a position its transaction ends past.

    Everything committed before this call is durable on the target once its progress is past the position.
    """
    connection = Reconnecting(world.source, "oracle mark")
    deadline = time.monotonic() + seconds
    try:
        while True:
            try:
                with connection.session() as session, session.transaction():
                    row = session.execute(
                        "INSERT INTO public.marks (why) VALUES (%s) RETURNING id, pg_current_wal_insert_lsn()::text",
                        (why,),
                    ).fetchone()
            except LostError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
                continue
            assert row is not None
            number = row[0]
            assert isinstance(number, int)
            return number, Lsn.parse(str(row[1]))
    finally:
        connection.drop()


def wait_durable(world: World, position: Lsn, *, seconds: float = 60, slot: str = "crossfade") -> float:
    """Wait until the target's progress is past `position`. Returns the seconds it took.

    Raises `AssertionError` with phase, positions and slot state when it gives up.
    """
    began = time.monotonic()
    target = Reconnecting(world.target, "oracle wait")
    try:
        while time.monotonic() - began < seconds:
            try:
                with target.session() as session:
                    row = session.execute("SELECT end_lsn::text FROM crossfade.progress").fetchone()
                if row is not None and row[0] is not None and Lsn.parse(str(row[0])) >= position:
                    return time.monotonic() - began
            except (LostError, psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
                pass
            time.sleep(0.02)
    finally:
        target.drop()
    raise AssertionError(f"not durable at {position} after {seconds:.0f} s\n{describe(world, slot=slot)}")


def describe(world: World, *, slot: str = "crossfade") -> str:
    """Phase, positions, slot and sessions of both sides, for a person who must find out why nothing moves."""
    lines: list[str] = []
    asked = ((("target", world.target), _TARGET), (("source", world.source), _SOURCE))
    for (side, dsn), queries in asked:
        try:
            with psycopg.connect(dsn, connect_timeout=5, autocommit=True) as session:
                for query in queries:
                    try:
                        rows = session.execute(query.encode(), {"slot": slot}).fetchall()
                    except psycopg.Error as error:
                        lines.append(f"  {side}: {type(error).__name__}")
                        continue
                    lines.extend(f"  {side}: {tuple(map(str, row))}" for row in rows or [("nothing",)])
        except psycopg.Error as error:
            lines.append(f"  {side}: cannot be asked: {error}".rstrip())
    return "\n".join(lines)
