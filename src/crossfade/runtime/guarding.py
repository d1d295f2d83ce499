"""The tasks behind the guards: they measure disks and WAL, probe the target, and do what `telemetry/guards` says.

    ├── guards.own           the disk of this host, every few seconds
    ├── guards.target        how much is used there, and whether it has room again
    ├── guards.source        the slot, while no attempt is there to look (the target is away, for example)
    └── guards.judge         each second: pauses for what the guards say, gives the slot up

They live as long as the daemon, not as an attempt: WAL grows most while an attempt cannot even begin. Refuses to decide
anything. The invariants: only a daemon that led last acts, never one that stands by; a measurement that failed changes
nothing; and no error of theirs disturbs the work.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, LiteralString

import psycopg

from crossfade.events import (
    Applied,
    CopyState,
    DiskMeasured,
    Event,
    Failed,
    LeaderChanged,
    Listener,
    Note,
    PauseReason,
    SourceSampled,
)
from crossfade.faults import Fault
from crossfade.runtime.giveup import GivenUp, given_up
from crossfade.runtime.limits import limits
from crossfade.runtime.sampling import Oldest, sample_source
from crossfade.runtime.state import WorkflowState
from crossfade.session.connect import TARGET, Connection, connect
from crossfade.settings import Settings
from crossfade.telemetry.amounts import size
from crossfade.telemetry.facts import AWAY
from crossfade.telemetry.guards import Guards, Retention
from crossfade.waiting import until

DISK_FULL: Final = "53100"
_TICK: Final = 1.0
_OWN_EVERY: Final = 5.0
_SIZES_EVERY: Final = 30.0
# So long after the last look of an attempt we look at the slot ourselves.
_UNSEEN: Final = 5.0
_ERRAND: Final = 10.0  # seconds; on a half-open network even a query never returns
_PROBE_ROWS: Final = 8192  # four to a page: 16 MiB


class Guarding:
    """One daemon's guards. `settings` gives those in force, which may change."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        *,
        state: WorkflowState,
        listener: Listener,
        stopped: asyncio.Event,
    ) -> None:
        self._settings = settings
        self._state = state
        self._listener = listener
        self._stopped = stopped
        self._guards = Guards(limits(settings()))
        self._led = False
        self._seen_at = 0.0
        self._rows = self._bytes = 0
        self._copies: dict[object, tuple[int, int]] = {}
        self._retention = Retention.FINE
        self._looked_at_capacity = False
        self.verdict = asyncio.Event()
        self.sentence: GivenUp | None = None

    # what happens ---------------------------------------------------------------------------------------------------

    def observe(self, event: Event) -> None:
        """Take note of one fact. Never raises, never waits."""
        match event:
            case Applied():
                self._guards.applied()
            case Failed():
                is_of_apply = event.component in ("apply", "stream") and event.sqlstate[:2] not in AWAY
                if is_of_apply and event.is_transient and event.sqlstate != DISK_FULL:
                    self._guards.failed(time.monotonic())
            case SourceSampled():
                self._seen_at = time.monotonic()
                self._guards.slot(event.retained_bytes if event.slot_exists else 0)
            case LeaderChanged():
                if not event.tries_again:
                    self._led = event.is_leader
            case CopyState():
                if event.state == "done":
                    self._copies[event.source, event.target] = (event.rows, event.bytes)
            case _:
                pass

    def target_refused(self) -> None:
        """The target said that its disk is full."""
        self._guards.target_refused(time.monotonic())
        self._pause()

    def resumed(self) -> None:
        """An operator said go."""
        self._guards.resumed()

    def take_over(self, reason: PauseReason) -> None:
        """The daemon that led before was paused by its guard."""
        self._guards.take_over(reason, time.monotonic())
        self._pause()

    def reloaded(self) -> None:
        """The settings have changed."""
        self._guards.limits = limits(self._settings())

    def _pause(self) -> None:
        self._state.guarded(self._guards.reasons(time.monotonic()))

    # tasks ----------------------------------------------------------------------------------------------------------

    async def judge(self) -> None:
        """Each second: pause, go on, give up."""
        while not self._stopped.is_set():
            self._pause()
            self._tell_of_wal()
            if self._led and self._guards.gives_up_slot and self.sentence is None:
                settings = self._settings()
                assert settings.guards.wal_hard_limit is not None
                self.sentence = given_up(settings.stream.slot, settings.guards.wal_hard_limit, copied=self._copied())
                self.verdict.set()
            await self._sleep(_TICK)

    async def own(self) -> None:
        """Our own disk."""
        while not self._stopped.is_set():
            path = self._settings().guards.own_disk_path
            free, capacity = await asyncio.to_thread(_room, path) if path else (None, None)
            self._guards.own_disk(free)
            self._listener(DiskMeasured("own", free, capacity))
            await self._sleep(min(_OWN_EVERY, self._settings().guards.probe_interval.total_seconds()))

    async def target(self) -> None:
        """What the target's disk holds, where its capacity is said; and whether it takes something again."""
        measured = 0.0
        while not self._stopped.is_set():
            now, settings = time.monotonic(), self._settings()
            interval = min(_SIZES_EVERY, settings.guards.probe_interval.total_seconds())
            if self._led and now - measured >= interval:
                measured = now
                await self._measure(settings)
            if self._led and self._guards.wants_probe(now):
                has_room = await self._probe(settings)
                if has_room is not None:
                    self._guards.probed(has_room=has_room, now=time.monotonic())
            await self._sleep(min(_TICK, interval))

    async def source(self) -> None:
        """The slot and the end of the source's log, as long as nobody else looks."""
        oldest = Oldest()
        while not self._stopped.is_set():
            if self._led and time.monotonic() - self._seen_at > _UNSEEN:
                try:
                    async with self._on_source() as source:
                        while not self._stopped.is_set() and self._led:
                            async with asyncio.timeout(_ERRAND):
                                sample = await sample_source(source, self._settings().stream.slot, oldest)
                            self._state.sampled(sample)
                            ours = self._seen_at
                            await self._sleep(_TICK)
                            if self._seen_at != ours:
                                break  # an attempt looks again
                except (Fault, psycopg.Error, TimeoutError):
                    # The source is away: the slot stands as it was seen last, but nobody knows how far the log is.
                    self._state.unseen()
            await self._sleep(_TICK)

    async def condemned(self) -> None:
        """Raises once the slot is to be given up: the attempt under way must end."""
        await self.verdict.wait()
        assert self.sentence is not None
        raise self.sentence

    # measuring ------------------------------------------------------------------------------------------------------

    async def _measure(self, settings: Settings) -> None:
        for endpoint, capacity in (
            ("target", settings.target.disk_capacity),
            ("source", settings.source.disk_capacity),
        ):
            used: int | None = None
            if capacity is not None:
                try:
                    async with self._on_target() if endpoint == "target" else self._on_source() as connection:
                        used = await _used(connection)
                except (Fault, psycopg.Error, TimeoutError):
                    continue
            if endpoint == "target":
                self._guards.target_used(used)
            free = max(0, capacity - used) if capacity is not None and used is not None else None
            self._listener(DiskMeasured(endpoint, free, capacity if free is not None else None))

    async def _probe(self, settings: Settings) -> bool | None:
        """Write 16 MiB to the target and take them back; None when it could not even be asked."""
        try:
            async with self._on_target() as target:
                await target.execute("BEGIN")
                await target.execute(_PROBE_TABLE)
                await target.execute(_PROBE_FILL, (_PROBE_ROWS,))
                await target.execute("ROLLBACK")
        except psycopg.errors.DiskFull:
            return False
        except Fault as fault:
            return False if fault.sqlstate == DISK_FULL else None
        except psycopg.Error as error:
            # Some other word of the server's (our schema is not made yet, say): only the work itself can tell.
            return None if (error.sqlstate or "")[:2] in AWAY else True
        except TimeoutError:
            return None
        return True

    def _copied(self) -> tuple[int, int, int]:
        """Tables, rows and bytes of the copy that would have to be made again."""
        copies = self._copies.values()
        return len(copies), sum(rows for rows, _ in copies), sum(each for _, each in copies)

    def _tell_of_wal(self) -> None:
        """Alarms for both limits, and their end."""
        now, before = self._guards.retention, self._retention
        self._retention = now
        if now is before:
            return
        guards = self._settings().guards
        for kind, limit, level in (
            (Retention.SOFT, guards.wal_soft_limit, "warning"),
            (Retention.HARD, guards.wal_hard_limit, "error"),
        ):
            if kind in (now, before):
                name = f"wal_{kind.value}_limit"
                text = f"The slot keeps more WAL on the source than guards.{name} ({size(limit)})."
                action = _ACTIONS[guards.on_wal_hard_limit] if kind is Retention.HARD else _LOOK
                self._listener(Note(name, f"{text} {action}", level, alert=True, cleared=kind is before))

    # connections ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _on_target(self) -> AsyncIterator[Connection]:
        dsn = self._settings().target.dsn.get_secret_value()
        async with asyncio.timeout(_ERRAND):
            connection = await connect(dsn, purpose="guard", endpoint="target", settings=TARGET)
            async with connection:
                yield connection

    @asynccontextmanager
    async def _on_source(self) -> AsyncIterator[Connection]:
        dsn = self._settings().source.dsn.get_secret_value()
        async with asyncio.timeout(_ERRAND):
            connection = await connect(dsn, purpose="guard", endpoint="source")
        async with connection:
            yield connection

    async def _sleep(self, seconds: float) -> None:
        await until(self._stopped, seconds)


_LOOK: Final = "Let crossfade catch up: start it, `crossfade resume`, or mend its error."
_ACTIONS: Final = {
    "alarm": "Nothing is done about it by itself (guards.on_wal_hard_limit = alarm): let crossfade catch up, or drop"
    " the slot before the source's disk is full.",
    "give_up_slot": "The slot is given up to save the source (guards.on_wal_hard_limit = give_up_slot).",
}

# In crossfade's own schema, rolled back; a row of so many bytes is neither compressed nor stored out of line.
_PROBE_TABLE: LiteralString = "CREATE UNLOGGED TABLE crossfade.room_probe (filler text)"
_PROBE_FILL: LiteralString = (
    "INSERT INTO crossfade.room_probe SELECT repeat('x', 1900) FROM generate_series(1, %s::int)"
)

# Databases we may not connect to are left out where we lack the right; so is WAL where we may not look (pg_monitor):
# then what the slots keep is a part of it.
_DATABASES: LiteralString = (
    "SELECT coalesce(sum(pg_database_size(oid)), 0)::bigint FROM pg_database"
    " WHERE has_database_privilege(oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'MEMBER')"
)
_WAL: LiteralString = "SELECT coalesce(sum(size), 0)::bigint FROM pg_ls_waldir()"
_MAY_LOOK: LiteralString = "SELECT has_function_privilege('pg_ls_waldir()', 'EXECUTE')"
_KEPT: LiteralString = (
    "SELECT coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)), 0)::bigint FROM pg_replication_slots"
)


async def _used(connection: Connection) -> int:
    """Bytes of databases and WAL of the whole server, as far as we may see."""
    databases = await _number(connection, _DATABASES)
    may_look = await _number(connection, f"SELECT ({_MAY_LOOK})::int")
    return databases + await _number(connection, _WAL if may_look else _KEPT)


async def _number(connection: Connection, query: LiteralString) -> int:
    cursor = await connection.execute(query)
    row = await cursor.fetchone()
    assert row is not None
    return int(str(row[0]))


def _room(path: str) -> tuple[int, int] | tuple[None, None]:
    """Free (for us) and all bytes of the disk a path lies on."""
    try:
        found = os.statvfs(path)
    except OSError:
        return None, None
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
