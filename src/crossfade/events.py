"""What the doing rooms tell whoever listens: small facts with a name, sent once, acted on by nobody but telemetry.

A room that works is handed a `Listener` and calls it; it never imports telemetry. Refuses to know metrics, pages or
logs. The invariant: no row value is in any of these (promise 6), and they are sent per batch or per tick, never per
row.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from crossfade.catalog import Route, TableName
from crossfade.lsn import Lsn


class Phase(enum.Enum):
    """Where a workflow stands; the words of status, metrics and the journey."""

    SETUP = "setup"
    COPY = "copy"
    CATCHUP = "catchup"
    STREAMING = "streaming"
    CUTOVER = "cutover"
    REVERSE = "reverse"
    COMPLETE = "complete"
    FAILED = "failed"


class PauseReason(enum.Enum):
    """Why a workflow is paused; `paused` is a flag beside the phase."""

    OPERATOR = "operator"
    TARGET_FULL = "target_full"
    OWN_DISK = "own_disk"
    ERROR_RATE = "error_rate"


class Operation(enum.Enum):
    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"
    TRUNCATE = "truncate"


@dataclass(frozen=True, slots=True)
class Configured:
    """What we run with: SHA-256 (hex) of the settings, secrets left out, and of what the mapping does to rows."""

    settings_hash: str
    mapping_hash: str


@dataclass(frozen=True, slots=True)
class PhaseChanged:
    phase: Phase


@dataclass(frozen=True, slots=True)
class Paused:
    """`reason` None: not paused any more. `others` hold as well: all must be gone before anything goes on."""

    reason: PauseReason | None
    others: frozenset[PauseReason] = frozenset()


@dataclass(frozen=True, slots=True)
class LeaderChanged:
    """Not leading: another one does, and this one stands by. With `tries_again` nobody else is known to: the lock went
    with an attempt, and the next one takes it again."""

    is_leader: bool
    tries_again: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt ended with a fault. `retry_in` is seconds until the next one; None: the process exits.

    `component` is one of source, target, stream, apply, copy, setup, runtime.
    """

    component: str
    text: str
    sqlstate: str
    is_transient: bool
    retry_in: float | None


@dataclass(frozen=True, slots=True)
class Recovered:
    """The attempt after a fault got to work again: the error in the status is over."""


@dataclass(frozen=True, slots=True)
class Connected:
    """`endpoint` is source or target; `is_reconnect` tells the second and later times."""

    endpoint: str
    version: int
    is_reconnect: bool


@dataclass(frozen=True, slots=True)
class Received:
    """The reader drained the socket once: counts since the last such event, and the furthest position heard."""

    bytes: int
    keepalives: int
    changes: Mapping[tuple[TableName, Operation], int]
    transactions_skipped: int
    position: Lsn


@dataclass(frozen=True, slots=True)
class Applied:
    """The target has made everything up to `end_lsn` durable. Sent after COMMIT returned, not before.

    `commit_times` are the source's commit times (unix seconds, source clock) of the transactions in it, and
    `committed_at` the same clock's best estimate of now; `changes` counts what was written, `conflicts` what was
    expected and not found, by (route, kind) with kind missing_row; `by_level` is the level of apply, `reason` why it
    was none faster ('' for the fastest).
    """

    end_lsn: Lsn
    transactions: int
    changes: Mapping[tuple[Route, Operation], int]
    conflicts: Mapping[tuple[Route, str], int]
    clock_notes: Mapping[tuple[Route, str], int]
    ids_created: int
    ids_known: int
    seconds: float
    commit_times: tuple[float, ...]
    committed_at: float
    by_level: str
    reason: str = ""
    ids_looked_up: int = 0  # asked of the map in the target, since nobody here knew them
    filtered: Mapping[Route, int] = field(default_factory=dict)  # new rows that the mapping's condition did not take


@dataclass(frozen=True, slots=True)
class Acknowledged:
    position: Lsn


@dataclass(frozen=True, slots=True)
class PipeLevel:
    """How full the pipe between reader and applier is."""

    changes: int
    bytes: int
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class CopyState:
    """One table's copy. `state` is pending, running, done or failed; rows and bytes count this attempt."""

    source: TableName
    target: TableName
    state: str
    rows: int
    bytes: int
    rows_estimated: int
    from_lsn: Lsn
    yields: int = 0


@dataclass(frozen=True, slots=True)
class PartCopied:
    """One part of a table, or a small table as a whole, is durable on the target."""

    seconds: float


@dataclass(frozen=True, slots=True)
class SourceSampled:
    """One look at the source, each second. `now` is the source's clock (unix seconds).

    `flush_lsn` is pg_current_wal_flush_lsn(); the slot's fields are as pg_replication_slots has them, with
    `safe_wal_size` None when nothing limits it and `wal_keep_limit` (bytes of max_slot_wal_keep_size) None likewise.
    `clock_skew` is source clock minus ours, in seconds, by half the round trip. What was spilled while decoding counts
    since the slot was made, or its statistics reset; None: the server does not tell (before version 14).
    `oldest_transaction` is for how long (seconds) the oldest writing transaction we know of has held the slot back.
    """

    now: float
    flush_lsn: Lsn
    slot_exists: bool
    slot_active: bool
    restart_lsn: Lsn
    confirmed_flush_lsn: Lsn
    retained_bytes: int
    safe_wal_size: int | None
    wal_keep_limit: int | None
    wal_status: str
    invalidation_reason: str
    clock_skew: float
    spilled_bytes: int | None = None
    spilled_transactions: int | None = None
    oldest_transaction: float | None = None


@dataclass(frozen=True, slots=True)
class TargetSampled:
    """One look at the target. `clock_skew` is its clock minus ours; `oldest_transaction` as for the source."""

    clock_skew: float
    oldest_transaction: float | None = None


@dataclass(frozen=True, slots=True)
class DiskMeasured:
    """How much room a disk has. `endpoint` is own, source or target; the latter two by what the settings say of their
    capacity. None: not known any more."""

    endpoint: str
    free: int | None
    capacity: int | None


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The settings were read again, and taken (`is_taken`) or left as they were."""

    is_taken: bool


@dataclass(frozen=True, slots=True)
class Notified:
    """Somebody was to be told of an alert. `channel` is command, webhook or alertmanager; `outcome` sent, failed (it
    is tried again) or dropped (it is not)."""

    channel: str
    outcome: str


@dataclass(frozen=True, slots=True)
class LagMeasured:
    """Honest lag: 0 when the durable position passed the newest sample. None before the first."""

    seconds: float | None
    bytes: int | None


@dataclass(frozen=True, slots=True)
class Note:
    """A thing worth a line in the log and, when `alert`, in the status's alerts until `cleared`.

    `name` is stable and snake_case, `text` a sentence with its remedy.
    """

    name: str
    text: str
    level: str  # info | warning | error
    alert: bool = False
    cleared: bool = False


Event = (
    Configured
    | PhaseChanged
    | Paused
    | LeaderChanged
    | Failed
    | Recovered
    | Connected
    | Received
    | Applied
    | Acknowledged
    | PipeLevel
    | CopyState
    | PartCopied
    | SourceSampled
    | TargetSampled
    | DiskMeasured
    | Reloaded
    | Notified
    | LagMeasured
    | Note
)
Listener = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Stamp:
    """When something was true, by our own clock; kept by telemetry only."""

    at: datetime
