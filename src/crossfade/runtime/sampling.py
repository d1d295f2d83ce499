"""One look at the source, and one at the target: clock, log, slot, and what holds the slot back.

Refuses to judge what it sees. The invariant: a look takes one round trip, needs no privilege beyond connecting, and
shows the slot also when nobody streams from it.

PostgreSQL: view-pg-replication-slots, monitoring-stats ("pg_stat_replication_slots"), functions-info ("Transaction ID
and Snapshot Information Functions").
"""

from __future__ import annotations

import time

from crossfade.events import SourceSampled, TargetSampled
from crossfade.lsn import Lsn
from crossfade.session.connect import Connection


class Oldest:
    """For how long the oldest writing transaction of a server has been running.

    When others' transactions began is told to pg_read_all_stats alone; that one of them still is the oldest is told to
    everybody (`pg_snapshot_xmin`), so without that right its age is counted from when we first saw it.
    """

    def __init__(self) -> None:
        self._oldest = ""
        self._since = 0.0

    def seen(self, oldest: str, next_one: str, now: float) -> float | None:
        """Seconds, at least; None when none is running. `oldest` and `next_one` are the snapshot's xmin and xmax."""
        if oldest == next_one:
            self._oldest = ""
            return None
        if oldest != self._oldest:
            self._oldest, self._since = oldest, now
        return max(0.0, now - self._since)


async def sample_source(connection: Connection, slot: str, oldest: Oldest) -> SourceSampled:
    """Ask it all at once. Raises what the driver raises."""
    asked = time.time()
    cursor = await connection.execute(_source_query(connection.info.server_version), (slot,))
    row = await cursor.fetchone()
    answered = time.time()
    assert row is not None
    now, flush, exists, active, restart, confirmed, retained, safe, limit, status, reason, *rest = row
    spilled_bytes, spilled, xmin, xmax, began = rest
    return SourceSampled(
        now=float(str(now)),
        flush_lsn=Lsn.parse(str(flush)),
        slot_exists=bool(exists),
        slot_active=bool(active),
        restart_lsn=Lsn.parse(str(restart)) if restart is not None else Lsn(0),
        confirmed_flush_lsn=Lsn.parse(str(confirmed)) if confirmed is not None else Lsn(0),
        retained_bytes=int(str(retained or 0)),
        safe_wal_size=int(str(safe)) if safe is not None else None,
        wal_keep_limit=int(str(limit)) if int(str(limit)) >= 0 else None,
        wal_status=str(status or ""),
        invalidation_reason=str(reason or ""),
        clock_skew=float(str(now)) - (asked + answered) / 2,
        spilled_bytes=int(str(spilled_bytes)) if spilled_bytes is not None else None,
        spilled_transactions=int(str(spilled)) if spilled is not None else None,
        oldest_transaction=_age(oldest.seen(str(xmin), str(xmax), float(str(now))), began),
    )


async def sample_target(connection: Connection, oldest: Oldest) -> TargetSampled:
    """Its clock against ours, and its oldest writing transaction. Raises what the driver raises."""
    asked = time.time()
    cursor = await connection.execute(f"SELECT extract(epoch FROM clock_timestamp()), {_OLDEST}")
    row = await cursor.fetchone()
    answered = time.time()
    assert row is not None
    now, xmin, xmax, began = row
    return TargetSampled(
        clock_skew=float(str(now)) - (asked + answered) / 2,
        oldest_transaction=_age(oldest.seen(str(xmin), str(xmax), float(str(now))), began),
    )


def _age(counted: float | None, told: object) -> float | None:
    return counted if counted is None or told is None else max(counted, float(str(told)))


_OLDEST = (
    "pg_snapshot_xmin(pg_current_snapshot())::text, pg_snapshot_xmax(pg_current_snapshot())::text,"
    " (SELECT max(extract(epoch FROM clock_timestamp() - xact_start)) FROM pg_stat_activity"
    " WHERE backend_xid IS NOT NULL)"
)


def _source_query(version: int) -> str:
    reason = "s.invalidation_reason" if version >= 170000 else "NULL::text"
    spilled, join = "NULL::bigint, NULL::bigint", ""
    if version >= 140000:
        spilled, join = (
            "t.spill_bytes, t.spill_txns",
            " LEFT JOIN pg_stat_replication_slots t ON t.slot_name = s.slot_name::text",
        )
    return (
        "SELECT extract(epoch FROM clock_timestamp()), pg_current_wal_flush_lsn()::text, s.slot_name IS NOT NULL,"
        " s.active, s.restart_lsn::text, s.confirmed_flush_lsn::text,"
        " pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn)::bigint, s.safe_wal_size,"
        " pg_size_bytes(current_setting('max_slot_wal_keep_size')), s.wal_status,"
        f" {reason}, {spilled}, {_OLDEST}"
        f" FROM (SELECT 1) one LEFT JOIN (pg_replication_slots s{join}) ON s.slot_name = %s"
    )
