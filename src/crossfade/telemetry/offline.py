"""The status document without a daemon: put together from what the two databases know.

The target keeps position, phase and copy progress; the source shows the slot and the end of its log. Refuses to know
what a daemon is doing right now (rates, alerts of its own), and changes nothing on either side. The invariants: lag
uses the source's clock alone, as with a daemon, and a database that does not answer makes the document partial, with
the reason in `error`, never an exception.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, LiteralString, TypeVar

import psycopg

from crossfade.faults import Fault, Unreachable
from crossfade.lsn import Lsn
from crossfade.session.connect import Connection, connect, server_fault
from crossfade.state.copies import recorded
from crossfade.state.leader import is_led
from crossfade.state.schema import exists
from crossfade.telemetry.advice import next_steps, slot_alerts
from crossfade.telemetry.document import (
    SCHEMA_VERSION,
    AlertEntry,
    ErrorEntry,
    PositionsEntry,
    SlotEntry,
    StatusDocument,
    TableEntry,
    iso,
)
from crossfade.telemetry.headline import UNSAID, headline
from crossfade.telemetry.status import copy_entry

_ANSWER_SECONDS: Final = 15.0  # a person waits
_MIB: Final = 1024 * 1024

Row = tuple[object, ...]
T = TypeVar("T")


@dataclass(slots=True)
class _Target:
    """What the target knows; empty when the workflow never began there."""

    end_lsn: Lsn | None = None
    passed_at: datetime | None = None
    phase: str | None = None
    phase_since: datetime | None = None
    paused: str | None = None
    error: str | None = None
    seen_at: datetime | None = None
    is_led: bool = False
    tables: list[TableEntry] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Source:
    """What the source knows. `now` is its clock (unix seconds)."""

    now: float
    flush_lsn: Lsn
    slot: SlotEntry


async def read_status(
    workflow: str, *, source_dsn: str, target_dsn: str, slot: str, clock: Callable[[], float] = time.time
) -> StatusDocument:
    """The document, with `daemon` null. Raises nothing a database can cause."""
    target_read, target_fault = await _attempt("target", target_dsn, lambda c: _read_target(c, workflow))
    source_read, source_fault = await _attempt("source", source_dsn, lambda c: _read_source(c, slot))
    target = target_read or _Target()
    at = iso(clock())
    faults = {side: fault for side, fault in (("target", target_fault), ("source", source_fault)) if fault is not None}
    error: ErrorEntry | None = None
    for side, fault in faults.items():
        error = error or _error(side, str(fault), fault.sqlstate, since=at)
    if error is None and target.error is not None:
        seen = target.phase_since if target.phase == "failed" else target.seen_at
        error = _error("runtime", target.error, "", since=iso(seen.timestamp()) if seen else at)
    seconds, bytes_behind = _lag(target, source_read)
    end = str(target.end_lsn) if target.end_lsn is not None else None
    acknowledged = source_read.slot["confirmed_flush_lsn"] if source_read is not None else None
    positions = PositionsEntry(received=None, applied=end, durable=end, acknowledged=acknowledged)
    document = StatusDocument(
        schema_version=SCHEMA_VERSION,
        name=workflow,
        at=at,
        headline=UNSAID,
        phase=target.phase,
        phase_since=iso(target.phase_since.timestamp()) if target.phase_since else None,
        paused=target.paused,
        error=error,
        lag_seconds=seconds,
        lag_bytes=bytes_behind,
        positions=positions,
        slot=source_read.slot if source_read is not None else None,
        tables=target.tables,
        copy=copy_entry(target.tables, None),
        rates={"transactions_per_second": None, "changes_per_second": None, "bytes_per_second": None},
        quarantine={"rows": 0},
        verify=None,
        disks={},
        alerts=[
            AlertEntry(name=f"{side}_unreachable", level="error", text=str(fault), since=at)
            for side, fault in faults.items()
        ]
        + slot_alerts(source_read.slot if source_read is not None else None, positions, since=at),
        next_steps=[],
        leader=target.is_led,
        daemon=None,
    )
    document["next_steps"] = (
        ["Make the database answer, then ask again; what is shown here is incomplete."]
        if faults
        else next_steps(document)
    )
    document["headline"] = headline(document)
    return document


def _error(component: str, text: str, sqlstate: str, *, since: str) -> ErrorEntry:
    return ErrorEntry(
        component=component, text=text, sqlstate=sqlstate, is_transient=False, since=since, retry_in_seconds=None
    )


def _lag(target: _Target, source: _Source | None) -> tuple[float | None, int | None]:
    """The rule of the daemon (`lag`), with the one sample taken just now."""
    if source is None or target.end_lsn is None:
        return None, None
    bytes_behind = max(0, source.flush_lsn - target.end_lsn)
    if bytes_behind == 0:
        return 0.0, 0
    if target.passed_at is None:
        return None, bytes_behind
    return round(max(0.0, source.now - target.passed_at.timestamp()), 3), bytes_behind


async def _attempt(
    endpoint: str, dsn: str, read: Callable[[Connection], Awaitable[T]]
) -> tuple[T | None, Fault | None]:
    """Connect, read, or say why not."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            connection = await connect(
                dsn, purpose="status", endpoint=endpoint, settings={"default_transaction_read_only": "on"}
            )
            try:
                return await read(connection), None
            except psycopg.Error as error:
                raise server_fault(error, where=f"{endpoint}, reading the status") from None
            finally:
                await connection.close()
    except Fault as fault:
        return None, fault
    except TimeoutError:
        return None, Unreachable(f"No answer within {_ANSWER_SECONDS:.0f} s.", where=endpoint)


async def _one(connection: Connection, query: LiteralString, *values: object) -> Row | None:
    cursor = await connection.execute(query, values)
    return await cursor.fetchone()


async def _read_target(connection: Connection, workflow: str) -> _Target:
    found = _Target(is_led=await is_led(connection, workflow))
    if not await exists(connection):
        return found
    row = await _one(
        connection, "SELECT end_lsn::text, sample_passed_at FROM crossfade.progress WHERE workflow = %s", workflow
    )
    if row is not None:
        found.end_lsn = Lsn.parse(str(row[0])) if row[0] is not None else None
        found.passed_at = _time(row[1])
    row = await _one(
        connection,
        "SELECT phase, phase_since, paused, error, seen_at FROM crossfade.workflows WHERE workflow = %s",
        workflow,
    )
    if row is not None:
        found.phase, found.phase_since, found.seen_at = str(row[0]), _time(row[1]), _time(row[4])
        found.paused, found.error = _text(row[2]), _text(row[3])
    found.tables = [
        TableEntry(
            source=str(copy.source),
            target=str(copy.target),
            state=copy.state,
            rows_estimated=copy.rows_estimated,
            rows_copied=copy.rows,
            bytes_copied=copy.bytes,
            from_lsn=str(copy.from_lsn) if copy.from_lsn else None,
            yields=0,
            changes={},
            clock_notes={},
        )
        for copy in await recorded(connection, workflow)
    ]
    return found


async def _read_source(connection: Connection, slot: str) -> _Source:
    # One row, whether the slot exists or not. `invalidation_reason` came with version 17, hence by way of JSON.
    row = await _one(
        connection,
        "SELECT extract(epoch FROM clock_timestamp())::float8, pg_current_wal_flush_lsn()::text,"
        " (SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),"
        " s.slot_name IS NOT NULL, s.active, s.restart_lsn::text, s.confirmed_flush_lsn::text, s.safe_wal_size,"
        " s.wal_status, to_jsonb(s) ->> 'invalidation_reason'"
        " FROM (VALUES (%s::name)) AS asked (name) LEFT JOIN pg_replication_slots s ON s.slot_name = asked.name",
        slot,
    )
    if row is None:
        raise Unreachable("The server answered a question with nothing.", where="source")
    now, flush, limit, has_slot, is_active, restart, confirmed, safe, wal_status, reason = row
    flush_lsn, limit_mib = Lsn.parse(str(flush)), int(str(limit))
    retained = max(0, flush_lsn - Lsn.parse(str(restart))) if restart is not None else 0
    entry = SlotEntry(
        name=slot,
        exists=bool(has_slot),
        active=bool(is_active),
        restart_lsn=_text(restart),
        confirmed_flush_lsn=_text(confirmed),
        retained_bytes=retained,
        safe_wal_size=int(str(safe)) if safe is not None else None,
        wal_keep_limit=None if limit_mib < 0 else limit_mib * _MIB,
        wal_status=_text(wal_status) or "",
        invalidation_reason=_text(reason) or "",
    )
    return _Source(float(str(now)), flush_lsn, entry)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _time(value: object) -> datetime | None:
    return value if isinstance(value, datetime) else None
