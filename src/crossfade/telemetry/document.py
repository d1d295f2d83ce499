"""The status document: what `status --json` and the HTTP interface both show, field by field.

A contract with scripts and dashboards, so it is typed here and versioned by `schema_version`; fields are added, never
renamed or given another meaning within one version. Refuses to know where the values come from: the daemon's book
and the two databases both fill it. The invariant: plain JSON values only, LSNs as the server prints them, times as
ISO 8601 in UTC, durations in seconds, sizes in bytes, and null for what is not known (never a comforting 0).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, TypedDict

SCHEMA_VERSION: Final = 1


class ErrorEntry(TypedDict):
    """The fault that is not over yet. `retry_in_seconds` null: no retry is planned."""

    component: str
    text: str
    sqlstate: str
    is_transient: bool
    since: str
    retry_in_seconds: float | None


class PositionsEntry(TypedDict):
    """Four positions on the source's log, none ahead of the one named before it; null before the first."""

    received: str | None
    applied: str | None
    durable: str | None
    acknowledged: str | None


class SlotEntry(TypedDict):
    """The slot as the source last showed it. `safe_wal_size` and `wal_keep_limit` null: nothing limits it."""

    name: str
    exists: bool
    active: bool
    restart_lsn: str | None
    confirmed_flush_lsn: str | None
    retained_bytes: int
    safe_wal_size: int | None
    wal_keep_limit: int | None
    wal_status: str
    invalidation_reason: str


class TableEntry(TypedDict):
    """One mapped table. `state` is pending, running, done or failed; `changes` counts what this daemon applied.

    `clock_notes` counts local times that fell in a gap or an overlap of their zone; `yields` how often the copy gave
    its lock to somebody who waited.
    """

    source: str
    target: str
    state: str
    rows_estimated: int
    rows_copied: int
    bytes_copied: int
    from_lsn: str | None
    yields: int
    changes: dict[str, int]
    clock_notes: dict[str, int]


class CopyEntry(TypedDict):
    """The initial copy as a whole; `percent` and `eta_seconds` by rows, null where nothing can be said."""

    tables_total: int
    tables_done: int
    rows: int
    bytes: int
    rows_per_second: float | None
    percent: float | None
    eta_seconds: float | None


class RatesEntry(TypedDict):
    """Averages over the last ten seconds; null without a daemon."""

    transactions_per_second: float | None
    changes_per_second: float | None
    bytes_per_second: float | None


class QuarantineEntry(TypedDict):
    rows: int


class AlertEntry(TypedDict):
    name: str
    level: str
    text: str
    since: str


class HeadlineEntry(TypedDict):
    """How it stands in one sentence. `level` is ok, working (only wait), warning or error (somebody must act)."""

    level: str
    text: str


class DiskEntry(TypedDict):
    """A disk as far as we know it: our own is measured, those of the servers follow from `disk_capacity`."""

    free_bytes: int
    capacity_bytes: int


class DaemonEntry(TypedDict):
    pid: int
    host: str
    version: str
    started_at: str


class StatusDocument(TypedDict):
    """Everything there is to know at a glance; see the module's docstring for how values are written."""

    schema_version: int
    name: str
    at: str
    headline: HeadlineEntry
    phase: str | None
    phase_since: str | None
    paused: str | None
    error: ErrorEntry | None
    lag_seconds: float | None
    lag_bytes: int | None
    positions: PositionsEntry
    slot: SlotEntry | None
    tables: list[TableEntry]
    copy: CopyEntry
    rates: RatesEntry
    quarantine: QuarantineEntry
    verify: None
    disks: dict[str, DiskEntry]
    alerts: list[AlertEntry]
    next_steps: list[str]
    leader: bool
    daemon: DaemonEntry | None


# The numbers of a second that are plotted, in this order; `at` is unix seconds, null what is not known.
POINT_FIELDS: Final = (
    "at",
    "lag_seconds",
    "lag_bytes",
    "changes_per_second",
    "bytes_per_second",
    "rows_per_second",
    "retained_bytes",
)
Point = tuple[float | None, ...]


def iso(moment: float) -> str:
    """Unix seconds as ISO 8601 in UTC, to the millisecond, with a Z."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
