"""The replication slot: created with a snapshot, looked at, dropped; and the few commands a walsender understands.

Replication commands have no parameters, so everything put into one goes through two tested quoting functions. Refuses
to decide what a moved or missing slot means for us: `check_continuity` says it in one place. The invariant: a slot is
never created before its name was recorded in the target.

PostgreSQL: protocol-replication ("CREATE_REPLICATION_SLOT", "IDENTIFY_SYSTEM"), view-pg-replication-slots.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import psycopg

from crossfade.events import Listener, Note
from crossfade.faults import Locked, Misconfigured, Refused, Unreachable
from crossfade.lsn import Lsn
from crossfade.pgoutput.messages import Form
from crossfade.session.connect import Connection, connect, server_fault

_LOOK_EVERY: Final = 0.25
_TELL_EVERY: Final = 3.0
_FREE_EVERY: Final = 0.05
_FREE_LOOKS: Final = 100
IN_USE: Final = "55006"
_SLOT_NAME: Final = re.compile(r"[a-z0-9_]{1,63}")


def quoted_name(name: str) -> str:
    """A slot name for a replication command. Raises ValueError outside what PostgreSQL allows for slots."""
    if not _SLOT_NAME.fullmatch(name):
        raise ValueError("a slot name has 1 to 63 of a-z, 0-9 and _")
    return f'"{name}"'


def quoted_publications(names: tuple[str, ...]) -> str:
    """The value of `publication_names`: identifiers in double quotes, the list in single quotes (F27)."""
    identifiers = ",".join('"' + name.replace('"', '""') + '"' for name in names)
    return "'" + identifiers.replace("'", "''") + "'"


def start_command(name: str, start: Lsn, publications: tuple[str, ...], form: Form) -> str:
    """START_REPLICATION from `start`, values in `form`."""
    # Sources before 14 do not know the option, and must not be told it.
    binary = ", binary 'true'" if form is Form.BINARY else ""
    return (
        f"START_REPLICATION SLOT {quoted_name(name)} LOGICAL {start}"
        f" (proto_version '1', publication_names {quoted_publications(publications)}{binary})"
    )


def taken(name: str) -> Locked:
    """What the server's IN_USE means where a stream begins."""
    return Locked(
        "Another client streams from our slot.",
        where=f"source, slot {name}",
        means="It is our own connection of before, until wal_sender_timeout ends it, or a stranger.",
        do="Nothing for the first minute; then look at pg_stat_replication on the source.",
        sqlstate=IN_USE,
    )


def publications_warning(name: str, publications: tuple[str, ...], sqlstate: str) -> Refused:
    """Version 18 skips a publication that is gone with a WARNING, and silently sends nothing of it (E8)."""
    return Refused(
        f"The source warned on the stream (SQLSTATE {sqlstate}): a publication may be missing.",
        where=f"source, slot {name}, publications {', '.join(publications)}",
        means="Changes may have been skipped.",
        do="`crossfade teardown`, make the publications as `crossfade check` prints, empty the target tables,"
        " `crossfade run`.",
    )


@dataclass(frozen=True, slots=True)
class System:
    """IDENTIFY_SYSTEM."""

    identifier: str
    timeline: int
    database: str


@dataclass(frozen=True, slots=True)
class CreatedSlot:
    """A new slot: where it begins and, until the connection's next command, what its snapshot is called (G1)."""

    name: str
    consistent_point: Lsn
    snapshot: str


@dataclass(frozen=True, slots=True)
class SlotState:
    """A row of pg_replication_slots, as far as we care."""

    plugin: str
    database: str
    active_pid: int | None
    restart_lsn: Lsn
    confirmed_flush_lsn: Lsn
    wal_status: str
    invalidation_reason: str


async def identify_system(connection: Connection) -> System:
    """On a replication connection. Raises `Misconfigured` where a pooler made an ordinary one of it (B18)."""
    try:
        cursor = await connection.execute("IDENTIFY_SYSTEM")
    except psycopg.errors.SyntaxError:
        raise Misconfigured(
            "What answers is no replication connection: something between us and the server (PgBouncer or the like)"
            " swallowed the request for one (B18).",
            where="source",
            means="Nothing was changed.",
            do="Let source.dsn name the PostgreSQL server itself.",
        ) from None
    row = await cursor.fetchone()
    assert row is not None
    return System(str(row[0]), int(str(row[1])), str(row[3]))


async def create(connection: Connection, name: str, *, temporary: bool) -> CreatedSlot:
    """Create a logical slot that exports its snapshot; waits for every transaction now running (B11).

    On a replication connection, which must stay open and unused until the snapshot was imported.
    """
    kind = "TEMPORARY LOGICAL" if temporary else "LOGICAL"
    # The options in parentheses came with 15; the keyword was removed from the grammar of none.
    option = "(SNAPSHOT 'export')" if connection.info.server_version >= 150000 else "EXPORT_SNAPSHOT"
    try:
        cursor = await connection.execute(f"CREATE_REPLICATION_SLOT {quoted_name(name)} {kind} pgoutput {option}")
        row = await cursor.fetchone()
    except psycopg.errors.DuplicateObject:
        raise Refused(
            f"A replication slot called {name} exists already, and it is not ours.",
            where="source",
            means="Nothing was changed.",
            do="Choose another name in [stream] slot, or drop that slot if nobody needs it:"
            f" SELECT pg_drop_replication_slot('{name}');",
        ) from None
    except psycopg.Error as error:
        raise server_fault(error, where=f"source, creating slot {name}") from None
    assert row is not None
    return CreatedSlot(str(row[0]), Lsn.parse(str(row[1])), str(row[2]))


async def create_watched(
    connection: Connection,
    name: str,
    *,
    temporary: bool,
    looker: Connection,
    ends: Callable[[], bool],
    listener: Listener,
) -> CreatedSlot | None:
    """`create`, telling meanwhile who keeps it waiting (B11), by an SQL connection; None when told to stop."""
    task = asyncio.ensure_future(create(connection, name, temporary=temporary))
    waited = 0.0
    try:
        while not task.done() and not ends():
            await asyncio.wait({task}, timeout=_LOOK_EVERY)
            waited += _LOOK_EVERY
            if not task.done() and waited % _TELL_EVERY == 0:
                await _tell_blockers(looker, listener)
        if not task.done():
            return None
        created = task.result()
        if waited >= _TELL_EVERY:
            listener(Note("slot_waits", "The slot exists.", "info", alert=True, cleared=True))
        return created
    finally:
        if not task.done():
            # Cancelling makes the driver cancel the server's command, which takes the unfinished slot back.
            task.cancel()
            await asyncio.wait({task}, timeout=15.0)
        if task.done() and not task.cancelled():
            task.exception()  # told already, or of no interest to one who was told to stop


async def _tell_blockers(connection: Connection, listener: Listener) -> None:
    # By their locks: of other roles' sessions, pg_stat_activity shows little more than the name to whoever is not a
    # member of pg_monitor.
    cursor = await connection.execute(
        "SELECT DISTINCT 'session ' || a.pid || ' (' || coalesce(a.usename, '?')"
        " || coalesce(', open for ' || date_trunc('second', now() - a.xact_start), '') || ')'"
        " FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid"
        " WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted"
        " AND a.pid <> pg_backend_pid()"
        " UNION ALL SELECT 'prepared transaction ' || transaction::text || ' of ' || owner FROM pg_prepared_xacts"
    )
    names = [str(row[0]) for row in await cursor.fetchall() if row[0] is not None]
    listener(
        Note(
            "slot_waits",
            "The source cannot finish creating the slot before these transactions end: "
            + (", ".join(names) or "none is left")
            + ". End them, or wait.",
            "warning",
            alert=True,
        )
    )


async def look(connection: Connection, name: str) -> SlotState | None:
    """The slot as the server sees it; None when there is none. On an SQL connection."""
    has_reason = connection.info.server_version >= 170000
    cursor = await connection.execute(
        "SELECT plugin, database, active_pid, restart_lsn::text, confirmed_flush_lsn::text, wal_status,"
        f" {'invalidation_reason' if has_reason else 'NULL'} FROM pg_replication_slots WHERE slot_name = %s",
        (name,),
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    plugin, database, pid, restart, confirmed, status, reason = row
    return SlotState(
        plugin=str(plugin),
        database=str(database),
        active_pid=int(str(pid)) if pid is not None else None,
        restart_lsn=Lsn.parse(str(restart)) if restart is not None else Lsn(0),
        confirmed_flush_lsn=Lsn.parse(str(confirmed)) if confirmed is not None else Lsn(0),
        wal_status=str(status) if status is not None else "",
        invalidation_reason=str(reason) if reason is not None else "",
    )


async def wait_until_free(dsn: str, name: str) -> None:
    """Until the walsender of a connection that was just closed has let go of the slot: a moment, not for ever."""
    looker = await connect(dsn, purpose="slot check", endpoint="source")
    try:
        for _ in range(_FREE_LOOKS):
            state = await look(looker, name)
            if state is None or state.active_pid is None:
                return
            await asyncio.sleep(_FREE_EVERY)
    except psycopg.Error as error:
        raise server_fault(error, where=f"source, looking at slot {name}") from None
    finally:
        await looker.close()


async def drop(connection: Connection, name: str) -> bool:
    """Drop it if it is there; False when it was not. On an SQL connection."""
    try:
        await connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", (name,)
        )
    except psycopg.errors.UndefinedObject:
        return False
    except psycopg.Error as error:
        raise server_fault(error, where=f"source, dropping slot {name}") from None
    return True


def starts_at(name: str, state: SlotState) -> Lsn:
    """Where a slot begins that was recorded and created, but whose position we did not live to write down.

    Raises Locked while it has none: the session that creates it is not ours any more, but not over either, and what it
    has made so far goes with it.
    """
    if not state.confirmed_flush_lsn:
        raise Locked(
            "A session of before is still creating our slot.",
            where=f"source, slot {name}",
            means="Nothing is lost; the slot is made anew when that session has ended.",
            do="Nothing for the first minute; then end the session that pg_replication_slots names in active_pid.",
            sqlstate=IN_USE,
        )
    return state.confirmed_flush_lsn


_START_OVER: Final = "`crossfade teardown`, empty the target tables, `crossfade run`."


def check_continuity(name: str, state: SlotState | None, *, end_lsn: Lsn, database: str) -> None:
    """Whether streaming from `end_lsn` would miss nothing; raises Refused when it would (A7, A9, B1).

    The server silently moves a start position up to the slot's confirmed_flush_lsn, so a slot ahead of our own record
    is a gap: we never acknowledge what we did not record.
    """
    where = f"source, slot {name}"
    if state is None:
        raise Refused(
            "The replication slot is gone; what was committed since cannot be read any more.",
            where=f"{where}, our position {end_lsn}",
            means="The target is a past state of the source and will not move on.",
            do=_START_OVER,
        )
    if state.plugin != "pgoutput" or state.database != database:
        raise Refused(
            f"The slot belongs to plugin {state.plugin}, database {state.database}: it is not the one we made.",
            where=where,
            means="Somebody dropped ours and made another; changes between them are lost to us.",
            do=_START_OVER,
        )
    if state.wal_status == "lost" or state.invalidation_reason:
        reason = f" ({state.invalidation_reason})" if state.invalidation_reason else ""
        raise Refused(
            f"The source has invalidated the slot{reason}: the WAL it needs was removed.",
            where=f"{where}, our position {end_lsn}",
            means="Changes are lost to us; retrying cannot bring them back.",
            do=f"Raise max_slot_wal_keep_size first; then {_START_OVER}",
        )
    if state.confirmed_flush_lsn > end_lsn:
        raise Refused(
            f"The slot was moved or made anew behind our back: it starts at {state.confirmed_flush_lsn},"
            f" the target holds everything up to {end_lsn}.",
            where=where,
            means=f"Changes between {end_lsn} and {state.confirmed_flush_lsn} are lost to us.",
            do=_START_OVER,
        )


def check_identity(system: System, *, identifier: str, timeline: int, database: str) -> None:
    """Whether this is the very source our positions belong to; raises Refused when not (edge-cases 0.4)."""
    if system.identifier != identifier or system.database != database:
        raise Refused(
            "This is another source than the one the target was copied from.",
            where=f"source, system identifier {system.identifier}, database {system.database}",
            means=f"Our positions belong to system {identifier}, database {database}.",
            do=f"Point [source] dsn back; to start over with this source: {_START_OVER}",
        )
    if system.timeline != timeline:
        raise Refused(
            f"The source is on timeline {system.timeline}; our positions belong to timeline {timeline}.",
            where="source",
            means="It was promoted or restored: changes may be missing or undone.",
            do=_START_OVER,
        )


async def require_replication(connection: Connection) -> None:
    """Raise Unreachable, with the remedy, for a role that may not replicate."""
    try:
        await identify_system(connection)
    except psycopg.errors.InsufficientPrivilege:
        raise Unreachable(
            "Our role may not open a replication connection.",
            where="source",
            do="ALTER ROLE ... REPLICATION; and a line for it in pg_hba.conf.",
        ) from None
