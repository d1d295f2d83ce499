"""The daemon's book of itself: events in, the status document out.

Every room reports small facts (`events`); this keeps the newest of each, so that HTTP and the CLI can show one
coherent page at any moment without asking a database. Refuses to know how facts are shown, and computes no lag: it
is told (`LagMeasured`). The invariant: positions never claim more than was reported (received >= applied >= durable
>= acknowledged), and what is not known is null.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from crossfade import __version__
from crossfade.catalog import Route, TableName
from crossfade.events import (
    Acknowledged,
    Applied,
    Configured,
    Connected,
    CopyState,
    DiskMeasured,
    Event,
    Failed,
    LagMeasured,
    LeaderChanged,
    Note,
    Notified,
    Operation,
    PartCopied,
    Paused,
    Phase,
    PhaseChanged,
    PipeLevel,
    Received,
    Recovered,
    Reloaded,
    SourceSampled,
    TargetSampled,
)
from crossfade.lsn import NOWHERE, Lsn
from crossfade.mapping.plan import Plan
from crossfade.telemetry.advice import SlotLimits, next_steps, slot_alerts
from crossfade.telemetry.alarms import Alarms
from crossfade.telemetry.document import (
    SCHEMA_VERSION,
    AlertEntry,
    CopyEntry,
    DaemonEntry,
    DiskEntry,
    ErrorEntry,
    Point,
    PositionsEntry,
    SlotEntry,
    StatusDocument,
    TableEntry,
    iso,
)
from crossfade.telemetry.headline import UNSAID, headline
from crossfade.telemetry.rates import SmoothedRate, Window
from crossfade.telemetry.thresholds import Thresholds

_RATE_WINDOW: Final = 10  # seconds
_LONGEST_ETA: Final = 30 * 86400.0  # seconds; a copy that stands still has none
_COPY_MEMORY: Final = 30.0  # seconds; a table's switch or a yield shall not throw the ETA about


@dataclass(frozen=True, slots=True)
class WatchedTable:
    """A mapped table as telemetry needs it: both names, and how many rows the source's statistics promise."""

    source: TableName
    target: TableName
    rows_estimated: int = 0

    @property
    def route(self) -> Route:
        return Route(self.source, self.target)


def watched(plan: Plan) -> tuple[WatchedTable, ...]:
    """The tables of a plan, in its order."""
    return tuple(WatchedTable(table.source, table.target, table.row_estimate) for table in plan.tables)


def _slot_limits(thresholds: Thresholds | None) -> SlotLimits:
    if thresholds is None:
        return SlotLimits()
    return SlotLimits(
        thresholds.slot_retention_warning_ratio,
        thresholds.slot_retention_critical_ratio,
        thresholds.slot_retained_unlimited_bytes,
    )


@dataclass(slots=True)
class _Table:
    source: TableName
    target: TableName
    state: str = "pending"
    rows_estimated: int = 0
    rows: int = 0
    bytes: int = 0
    from_lsn: Lsn = NOWHERE
    yields: int = 0
    changes: dict[str, int] = field(default_factory=lambda: {operation.value: 0 for operation in Operation})
    clock_notes: dict[str, int] = field(default_factory=dict)

    def entry(self) -> TableEntry:
        return TableEntry(
            source=str(self.source),
            target=str(self.target),
            state=self.state,
            rows_estimated=self.rows_estimated,
            rows_copied=self.rows,
            bytes_copied=self.bytes,
            from_lsn=_text(self.from_lsn),
            yields=self.yields,
            changes=dict(self.changes),
            clock_notes=dict(self.clock_notes),
        )


def _text(position: Lsn) -> str | None:
    return str(position) if position else None


def copy_entry(tables: Iterable[TableEntry], rows_per_second: float | None) -> CopyEntry:
    """Progress of the copy as a whole, finished tables included.

    Statistics may be stale or missing: a table counts for at least what was read of it, and nothing is called 100 %
    before the last table is done.
    """
    listed = list(tables)
    done = [table for table in listed if table["state"] == "done"]
    open_ = [table for table in listed if table["state"] != "done"]
    rows = sum(table["rows_copied"] for table in listed)
    remaining = sum(max(0, table["rows_estimated"] - table["rows_copied"]) for table in open_)
    percent: float | None
    if not listed:
        percent = None
    elif not open_:
        percent = 100.0
    else:
        percent = min(99.9, round(100.0 * rows / (rows + remaining), 1)) if rows + remaining else 0.0
    eta: float | None = None
    if listed and not open_:
        eta = 0.0
    elif rows_per_second and remaining and remaining < rows_per_second * _LONGEST_ETA:
        eta = round(remaining / rows_per_second, 1)
    return CopyEntry(
        tables_total=len(listed),
        tables_done=len(done),
        rows=rows,
        bytes=sum(table["bytes_copied"] for table in listed),
        rows_per_second=None if rows_per_second is None or not open_ else round(rows_per_second, 1),
        percent=percent,
        eta_seconds=eta,
    )


class StatusBook:
    """Keeps the newest of every fact about one workflow.

    `clock` gives unix seconds of this host (for "since" only), `monotonic` seconds for rates; both are injected by
    tests. Not safe for threads: events and `document()` belong to the event loop.
    """

    def __init__(
        self,
        workflow: str,
        tables: Iterable[WatchedTable] = (),
        *,
        slot: str = "",
        thresholds: Thresholds | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workflow = workflow
        self._slot_name = slot
        self._clock = clock
        self._monotonic = monotonic
        started = clock()
        self._epoch = started - monotonic()  # taken once: a moment keeps its name, whatever is done to the clock
        self._daemon = DaemonEntry(
            pid=os.getpid(), host=socket.gethostname(), version=__version__, started_at=iso(started)
        )
        self._phase = Phase.SETUP
        self._phase_since = started
        self._paused: str | None = None
        self._error: ErrorEntry | None = None
        self._lag = LagMeasured(None, None)
        self._received = self._durable = self._acknowledged = NOWHERE
        self._slot: SlotEntry | None = None
        self._tables: dict[Route, _Table] = {}
        self._alerts: dict[str, AlertEntry] = {}
        self._alarms = Alarms(thresholds, started=monotonic()) if thresholds is not None else None
        self._slot_limits = _slot_limits(thresholds)
        self._disks: dict[str, DiskEntry] = {}
        self._standing_since: dict[str, str] = {}
        self._leader: bool | None = None
        self._reached: dict[str, bool] = {}
        self._window = Window(seconds=_RATE_WINDOW, width=3, started=monotonic())
        self._copy_rate = SmoothedRate(memory=_COPY_MEMORY)
        self.watch(tables)

    def watch(self, tables: Iterable[WatchedTable]) -> None:
        """Learn the mapped tables once the plan exists; known ones keep what they have counted."""
        for table in tables:
            known = self._tables.setdefault(table.route, _Table(table.source, table.target))
            known.rows_estimated = max(known.rows_estimated, table.rows_estimated)

    def observe(self, event: Event) -> None:
        """Take note of one fact. Never raises, never waits."""
        if self._alarms is not None:
            self._alarms.observe(event, self._monotonic())
        match event:
            case Received():
                self._received = max(event.position, self._durable)
                self._window.add((0, 0, event.bytes), now=self._monotonic())
            case Applied():
                self._observe_applied(event)
            case Acknowledged():
                # An idle position was made durable first and then sent, so it moves all four.
                self._acknowledged = max(self._acknowledged, event.position)
                self._moved_to(event.position)
            case LagMeasured():
                self._lag = event
            case SourceSampled():
                self._slot = self._slot_entry(event)
            case CopyState():
                self._observe_copy(event)
            case PhaseChanged():
                if event.phase is not self._phase:
                    self._phase, self._phase_since = event.phase, self._clock()
            case Paused():
                self._paused = None if event.reason is None else event.reason.value
            case LeaderChanged():
                self._lead(event)
            case Failed():
                self._observe_failed(event)
            case Recovered():
                self._error = None
                self._reached = dict.fromkeys(self._reached, True)
            case Connected():
                self._reached[event.endpoint] = True
            case Note():
                self._observe_note(event)
            case DiskMeasured():
                self._observe_disk(event)
            case PipeLevel() | PartCopied() | TargetSampled() | Reloaded() | Notified() | Configured():
                pass  # shown by metrics only

    def document(self) -> StatusDocument:
        """The status document as of now."""
        transactions, changes, received = self._window.per_second(now=self._monotonic())
        listed = sorted(self._tables.values(), key=lambda table: (table.source, table.target))
        tables = [table.entry() for table in listed]
        document = StatusDocument(
            schema_version=SCHEMA_VERSION,
            name=self._workflow,
            at=iso(self._clock()),
            headline=UNSAID,
            phase=self._phase.value,
            phase_since=iso(self._phase_since),
            paused=self._paused,
            error=self._error,
            lag_seconds=None if self._lag.seconds is None else round(self._lag.seconds, 3),
            lag_bytes=self._lag.bytes,
            positions=self._positions(),
            slot=self._slot,
            tables=tables,
            copy=copy_entry(tables, self._copy_rate.per_second),
            rates={
                "transactions_per_second": round(transactions, 1),
                "changes_per_second": round(changes, 1),
                "bytes_per_second": round(received, 1),
            },
            quarantine={"rows": 0},
            verify=None,
            disks=dict(self._disks),
            alerts=[],
            next_steps=[],
            leader=bool(self._leader),
            daemon=self._daemon,
        )
        document["alerts"] = self.alerts()
        document["next_steps"] = next_steps(document)
        document["headline"] = headline(document)
        return document

    def point(self) -> Point:
        """The plotted numbers of the document (`POINT_FIELDS`), without making one."""
        _, changes, received = self._window.per_second(now=self._monotonic())
        rows = self._copy_rate.per_second
        copying = rows is not None and any(table.state != "done" for table in self._tables.values())
        return (
            round(self._clock(), 1),
            None if self._lag.seconds is None else round(self._lag.seconds, 3),
            self._lag.bytes,
            round(changes, 1),
            round(received, 1),
            round(rows, 1) if copying and rows is not None else None,
            None if self._slot is None else self._slot["retained_bytes"],
        )

    def alerts(self) -> list[AlertEntry]:
        """What stands now, worst first: what was told, what the slot shows, and what is judged."""
        now = self._clock()
        slot_ones = slot_alerts(self._slot, self._positions(), since=iso(now), limits=self._slot_limits)
        self._standing_since = {
            alert["name"]: self._standing_since.get(alert["name"], alert["since"]) for alert in slot_ones
        }
        for alert in slot_ones:
            alert["since"] = self._standing_since[alert["name"]]
        judged: list[AlertEntry] = []
        if self._alarms is not None:
            self._alarms.tick(self._monotonic())
            judged = [
                AlertEntry(name=each.name, level=each.level, text=each.text, since=iso(each.since + self._epoch))
                for each in self._alarms.raised
            ]
        return sorted([*self._alerts.values(), *slot_ones, *judged], key=lambda alert: alert["level"] != "error")

    def reloaded(self, thresholds: Thresholds) -> None:
        """Other thresholds count from now on."""
        self._slot_limits = _slot_limits(thresholds)
        if self._alarms is not None:
            self._alarms.thresholds = thresholds

    def _lead(self, event: LeaderChanged) -> None:
        if event.tries_again:
            return  # as long as nobody else is known to lead, this one speaks for the workflow
        self._leader = event.is_leader
        if not event.is_leader:
            # What stopped us as a leader is the new leader's business now, and so is the slot.
            self._error = self._slot = None
            self._lag = LagMeasured(None, None)
            self._alerts.clear()
            self._disks = {endpoint: disk for endpoint, disk in self._disks.items() if endpoint == "own"}

    def _observe_disk(self, event: DiskMeasured) -> None:
        if event.free is None or event.capacity is None:
            self._disks.pop(event.endpoint, None)
        else:
            self._disks[event.endpoint] = DiskEntry(free_bytes=event.free, capacity_bytes=event.capacity)

    def _positions(self) -> PositionsEntry:
        return PositionsEntry(
            received=_text(self._received),
            applied=_text(self._durable),
            durable=_text(self._durable),
            acknowledged=_text(self._acknowledged),
        )

    def not_ready_because(self) -> tuple[str, ...]:
        """Why traffic or a rollout should not count on us; empty when ready. A standby is ready."""
        reasons: list[str] = []
        if self._phase is Phase.FAILED:
            reasons.append(f"phase is failed: {self._error['text']}" if self._error else "phase is failed")
        is_standby = self._leader is False
        for endpoint in ("source", "target"):
            reached = self._reached.get(endpoint)
            if reached is False:
                reasons.append(f"the {endpoint} database is unreachable")
            elif reached is None and not (is_standby and self._reached):
                reasons.append(f"the {endpoint} database has not answered yet")
        return tuple(reasons)

    def _moved_to(self, durable: Lsn) -> None:
        if not self._durable and self._slot is not None and not self._slot["exists"]:
            # No position without a slot: we looked before it was made, and a short copy is done already. The next look
            # says the rest of it.
            self._slot = {**self._slot, "exists": True}
        self._durable = max(self._durable, durable)
        self._received = max(self._received, self._durable)

    def _observe_applied(self, event: Applied) -> None:
        self._moved_to(event.end_lsn)
        self._window.add((event.transactions, sum(event.changes.values()), 0), now=self._monotonic())
        for (route, operation), count in event.changes.items():
            if (table := self._tables.get(route)) is not None:
                table.changes[operation.value] += count
        for (route, kind), count in event.clock_notes.items():
            if (table := self._tables.get(route)) is not None:
                table.clock_notes[kind] = table.clock_notes.get(kind, 0) + count

    def _observe_copy(self, event: CopyState) -> None:
        self.watch((WatchedTable(event.source, event.target),))
        table = self._tables[Route(event.source, event.target)]
        if event.state != "pending":
            # A table started over counts from nothing again; its first rows are work all the same.
            fresh = event.rows - table.rows if event.rows >= table.rows else event.rows
            # A table found done at the start was copied by an earlier process: no work of this moment.
            if not (table.state == "pending" and event.state == "done"):
                self._copy_rate.add(fresh, now=self._monotonic())
        table.state, table.rows, table.bytes = event.state, event.rows, event.bytes
        table.rows_estimated = event.rows_estimated if event.rows_estimated > 0 else table.rows_estimated
        table.from_lsn, table.yields = event.from_lsn, max(table.yields, event.yields)

    def _observe_failed(self, event: Failed) -> None:
        # A retried fault keeps the time it began.
        since = self._error["since"] if self._error is not None else iso(self._clock())
        self._error = ErrorEntry(
            component=event.component,
            text=event.text,
            sqlstate=event.sqlstate,
            is_transient=event.is_transient,
            since=since,
            retry_in_seconds=event.retry_in,
        )
        if event.component in ("source", "target"):
            self._reached[event.component] = False

    def _observe_note(self, event: Note) -> None:
        if event.cleared:
            self._alerts.pop(event.name, None)
        elif event.alert:
            known = self._alerts.get(event.name)
            since = known["since"] if known is not None else iso(self._clock())
            self._alerts[event.name] = AlertEntry(name=event.name, level=event.level, text=event.text, since=since)

    def _slot_entry(self, event: SourceSampled) -> SlotEntry:
        return SlotEntry(
            name=self._slot_name,
            exists=event.slot_exists,
            active=event.slot_active,
            restart_lsn=_text(event.restart_lsn),
            confirmed_flush_lsn=_text(event.confirmed_flush_lsn),
            retained_bytes=event.retained_bytes,
            safe_wal_size=event.safe_wal_size,
            wal_keep_limit=event.wal_keep_limit,
            wal_status=event.wal_status,
            invalidation_reason=event.invalidation_reason,
        )
