"""What Prometheus scrapes: names, labels and units as operators' dashboards and alerts know them.

Listens to events like the status book and keeps its own registry. Refuses to know HTTP and databases. The invariants:
every label comes from a closed set or from the mapped tables (never an SQL text, pid, address or position), every
label set exists at 0 from the start so that `increase()` sees the first event, and what is not known yet is absent
rather than 0. Counting happens per batch, never per row.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

import psycopg
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)

from crossfade import __version__, native
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
    PauseReason,
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
from crossfade.telemetry.status import WatchedTable

# A `_created` series beside every counter and histogram would double the bill and nobody reads them.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no annotation here

OTHER: Final = "_other"
MOST_TABLES: Final = 200  # named one by one; the rest share the label `_other`
DIRECTION: Final = "forward"  # the reverse stream will be the other one

COMPONENTS: Final = ("source", "target", "stream", "apply", "copy", "setup", "runtime")
NO_SQLSTATE: Final = "--"  # no server spoke; an empty label value would be no label at all
SQLSTATE_CLASSES: Final = (NO_SQLSTATE, "08", "22", "23", "25", "28", "40", "42", "53", "55", "57", "58", "XX")
ENDPOINTS: Final = ("source", "target")
NO_REASON: Final = "none"  # nothing faster was to be had, or needed
# Why a batch was not applied as sets: what only moves between rows is for the final state, the rest for the exact path.
MOVING: Final = ("moves", "unique")
REASONS: Final = (
    *MOVING, "small", "configured", "truncate", "refused", "no_key", "id_moved", "wide_key", "conflict", "array",
    "row_count", "unknown_id", "ids",
)  # fmt: skip
LEVELS: Final = {
    "set": (NO_REASON,), "set_pieces": (NO_REASON,),
    "final": MOVING, "final_pieces": MOVING,
    "exact": REASONS, "exact_single": REASONS, "exact_pieces": REASONS,
}  # fmt: skip
WAL_STATUSES: Final = ("reserved", "extended", "unreserved", "lost")
INVALIDATIONS: Final = ("wal_removed", "rows_removed", "wal_level_insufficient", "idle_timeout")
CONFLICTS: Final = ("missing_row", "orphan_id")  # those that are counted somewhere, and no more
FILTERED: Final = "where"  # the one reason there is: the condition of the table's mapping
CLOCK_NOTES: Final = ("gap", "overlap")
COPY_STATES: Final = ("pending", "running", "done", "failed")
DISKS: Final = ("own", "source", "target")
CHANNELS: Final = ("command", "webhook", "alertmanager")
OUTCOMES: Final = ("sent", "failed", "dropped")

_BATCH_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_COPY_SECONDS: Final = (*_BATCH_SECONDS, 120, 300)
_LATENCY_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_BATCH_CHANGES: Final = (1, 10, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 50000)

Changes = Mapping[tuple[TableName, Operation], int]


class _Sets(Protocol):
    """What a bound gauge can do."""

    def set(self, value: float) -> None: ...


class _Grows:
    """A counter that somebody else keeps: what it grew by is counted; a smaller number means that it began anew."""

    def __init__(self, counter: Counter, *labels: str) -> None:
        self._child = counter.labels(*labels)
        self._last: int | None = None

    def stands_at(self, value: int | None) -> None:
        if value is not None:
            if self._last is not None:  # what there was before we looked first is not of our time
                self._child.inc(_grown(self._last, value))
            self._last = value


class _Absent:
    """A gauge that does not exist until its value is known, and goes when it is not known any more."""

    def __init__(self, gauge: Gauge, *labels: str) -> None:
        self._gauge = gauge
        self._labels = labels
        self._bound: _Sets | None = None

    def set(self, value: float | None) -> None:
        if value is None:
            if self._bound is not None:
                self._gauge.remove(*self._labels)
                self._bound = None
            return
        if self._bound is None:
            self._bound = self._gauge.labels(*self._labels)
        self._bound.set(value)


class _PerTable:
    """The children of one table, bound once: a `labels()` call costs more than the increment (per batch it adds up)."""

    def __init__(self, metrics: Metrics, workflow: str, label: str) -> None:
        stream = (workflow, DIRECTION, label)
        self.received = {op: metrics.changes_received.labels(*stream, op.value) for op in Operation}
        self.applied = {op: metrics.changes_applied.labels(*stream, op.value) for op in Operation}
        self.filtered = metrics.changes_filtered.labels(*stream, FILTERED)
        self.conflicts = {kind: metrics.conflicts.labels(*stream, kind) for kind in CONFLICTS}
        self.clock_notes = {kind: metrics.clock_notes.labels(*stream, kind) for kind in CLOCK_NOTES}
        self.copy_rows = metrics.copy_rows.labels(workflow, label)
        self.copy_bytes = metrics.copy_bytes.labels(workflow, label)
        self.copy_estimated = metrics.copy_rows_estimated.labels(workflow, label)


class Metrics:
    """One workflow's metrics, in a registry of their own.

    `clock` gives unix seconds; tests inject it.
    """

    def __init__(
        self,
        workflow: str,
        tables: Iterable[WatchedTable] = (),
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._workflow = workflow
        self._clock = clock
        self._per_table: dict[str, _PerTable] = {}
        self._labels: dict[TableName, str] = {}
        self._estimates: dict[Route, int] = {}
        self._copies: dict[Route, CopyState] = {}
        self._received_to = self._durable = self._acknowledged = NOWHERE
        self._declare()
        self._bind()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.watch(tables)

    def watch(self, tables: Iterable[WatchedTable]) -> None:
        """Learn the mapped tables once the plan exists: their series appear at 0."""
        listed = tuple(tables)
        for table in listed:
            if table.route not in self._copies:
                self._copies[table.route] = CopyState(
                    table.source, table.target, "pending", 0, 0, table.rows_estimated, NOWHERE
                )
            self._table(table.source)
            self._estimate(table)
        self._count_copies()

    def configured(self, config_sha: str, mapping_sha: str) -> None:
        """Publish the first twelve hex digits of what we run with."""
        self.config_info.info({"config_sha": config_sha[:12], "mapping_sha": mapping_sha[:12]})

    def observe_loop_lag(self, seconds: float) -> None:
        """How late the event loop was when it last should have woken."""
        self.event_loop_lag.set(max(0.0, seconds))

    def observe(self, event: Event) -> None:
        """Count one fact. Never raises, never waits."""
        match event:
            case Received():
                self._observe_received(event)
            case Applied():
                self._observe_applied(event)
            case Acknowledged():
                self._acknowledged = max(self._acknowledged, event.position)
                self._moved_to(event.position)
                self._acknowledged_lsn.set(self._acknowledged)
            case PipeLevel():
                self._queue_changes.set(event.changes)
                self._queue_bytes.set(event.bytes)
                self._queue_limit.set(event.limit_bytes)
            case LagMeasured():
                self._lag_seconds.set(event.seconds)
                self._lag_bytes.set(event.bytes)
            case SourceSampled():
                self._observe_source(event)
            case CopyState():
                self._observe_copy(event)
            case PartCopied():
                self._copy_chunk.observe(event.seconds)
            case Configured():
                self.configured(event.settings_hash, event.mapping_hash)
            case PhaseChanged():
                self._show_phase(event.phase)
            case Paused():
                for reason in PauseReason:
                    self.paused.labels(self._workflow, reason.value).set(
                        reason is event.reason or reason in event.others
                    )
            case LeaderChanged():
                self._lead(event)
            case Failed():
                self._observe_failed(event)
            case Recovered():
                self._up.set(1)
            case Connected():
                if event.is_reconnect:
                    self.reconnects.labels(self._workflow, event.endpoint).inc()
            case TargetSampled():
                self._target_skew.set(event.clock_skew)
                self._target_oldest.set(event.oldest_transaction or 0.0)
            case DiskMeasured():
                self._disk_free[event.endpoint].set(event.free)
                self._disk_capacity[event.endpoint].set(event.capacity)
            case Reloaded():
                self.reload_successful.set(event.is_taken)
                if event.is_taken:
                    self.reload_time.set(self._clock())
            case Notified():
                self.notifications.labels(self._workflow, event.channel, event.outcome).inc()
            case Note():
                pass  # the status and the log tell it

    def _declare(self) -> None:
        """Every metric, in the order of the table in the documentation."""
        registry = self.registry
        flow, stream = ("workflow",), ("workflow", "direction")

        def gauge(name: str, text: str, labels: tuple[str, ...]) -> Gauge:
            return Gauge(f"crossfade_{name}", text, labels, registry=registry)

        def counter(name: str, text: str, labels: tuple[str, ...]) -> Counter:
            return Counter(f"crossfade_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], labels: tuple[str, ...] = stream) -> Histogram:
            return Histogram(f"crossfade_{name}", text, labels, buckets=buckets, registry=registry)

        self.build_info = Info("crossfade_build", "What runs.", registry=registry)
        self.config_info = Info("crossfade_config", "Hashes of configuration and mapping.", registry=registry)
        self.phase = gauge("phase", "1 for the phase the workflow is in.", (*flow, "phase"))
        self.phase_start = gauge("phase_start_timestamp_seconds", "When the phase began.", flow)
        self.up = gauge("up", "1 while the worker runs, 0 while it waits after an error.", flow)
        self.leader = gauge("leader", "1 while this daemon holds the leader's lock.", flow)
        self.paused = gauge("paused", "1 for the reason the workflow is paused for.", (*flow, "reason"))
        self.lag_seconds = gauge(
            "replication_lag_seconds",
            "Age of the newest source position the target has durably passed, by the source's clock; 0 when idle.",
            stream,
        )
        self.lag_bytes = gauge("replication_lag_bytes", "Source position minus durable position.", stream)
        self.source_current_lsn = gauge("source_current_lsn_bytes", "End of the source's log, bytes since 0/0.", stream)
        self.received_lsn = gauge("received_lsn_bytes", "Received from the source, bytes since 0/0.", stream)
        self.applied_lsn = gauge("applied_lsn_bytes", "Applied on the target, bytes since 0/0.", stream)
        self.durable_lsn = gauge("durable_lsn_bytes", "Durable on the target, bytes since 0/0.", stream)
        self.acknowledged_lsn = gauge("acknowledged_lsn_bytes", "Acknowledged to the source, bytes since 0/0.", stream)
        self.restart_lsn = gauge("restart_lsn_bytes", "Oldest position the slot may need, bytes since 0/0.", stream)
        self.last_applied_commit = gauge(
            "last_applied_commit_timestamp_seconds", "Source commit time of the newest applied transaction.", stream
        )
        self.last_message = gauge(
            "last_message_timestamp_seconds", "When the source last sent anything, by our clock.", stream
        )
        self.clock_skew = gauge("clock_skew_seconds", "The server's clock minus ours.", (*flow, "endpoint"))
        self.slot_active = gauge("slot_active", "1 while somebody streams from the slot.", stream)
        self.slot_retained = gauge("slot_retained_wal_bytes", "WAL the slot keeps on the source.", stream)
        self.slot_safe = gauge(
            "slot_safe_wal_size_bytes", "WAL that can still be written before the slot is lost.", stream
        )
        self.slot_limit = gauge("slot_wal_keep_limit_bytes", "max_slot_wal_keep_size; absent: unlimited.", stream)
        self.slot_wal_status = gauge("slot_wal_status", "1 for the slot's wal_status.", (*stream, "wal_status"))
        self.slot_invalidated = gauge("slot_invalidated", "1 for why the slot was invalidated.", (*stream, "reason"))
        self.slot_spilled_bytes = counter(
            "slot_spilled_bytes", "Bytes the source wrote to its disk while decoding for us.", stream
        )
        self.slot_spilled_transactions = counter(
            "slot_spilled_transactions", "Transactions the source wrote to its disk while decoding for us.", stream
        )
        self.oldest_transaction = gauge(
            "oldest_snapshot_transaction_age_seconds",
            "Age of the oldest writing transaction, as far as we may know it; 0 when there is none.",
            (*flow, "endpoint"),
        )
        self.disk_free = gauge("disk_free_bytes", "Free space, for the servers by disk_capacity.", (*flow, "endpoint"))
        self.disk_capacity = gauge("disk_capacity_bytes", "Size of the disk, as measured or said.", (*flow, "endpoint"))
        self.received_bytes = counter("received_bytes", "Bytes received from the source.", stream)
        self.transactions_applied = counter("transactions_applied", "Source transactions made durable.", stream)
        self.transactions_skipped = counter(
            "transactions_skipped", "Transactions the target already had when they came again.", stream
        )
        self.keepalives = counter("keepalives", "Keepalives received.", stream)
        self.changes_received = counter("changes_received", "Row changes received.", (*stream, "table", "op"))
        self.changes_applied = counter("changes_applied", "Row changes made durable.", (*stream, "table", "op"))
        self.changes_filtered = counter(
            "changes_filtered", "New rows that were left out on purpose.", (*stream, "table", "reason")
        )
        self.conflicts = counter("conflicts", "Changes that met another row than expected.", (*stream, "table", "kind"))
        self.clock_notes = counter(
            "clock_notes", "Local times that fell in a gap or an overlap.", (*stream, "table", "kind")
        )
        self.apply_duration = histogram("apply_duration_seconds", "Time to apply and commit a batch.", _BATCH_SECONDS)
        self.latency = histogram(
            "end_to_end_latency_seconds", "Source commit to target commit, per transaction.", _LATENCY_SECONDS
        )
        self.batch_changes = histogram("apply_batch_changes", "Changes in a batch.", _BATCH_CHANGES)
        self.batches = counter(
            "batches",
            "Batches by the level of apply that took them, and why.",
            (*stream, "level", "reason"),
        )
        self.queue_changes = gauge("queue_changes", "Changes between reader and applier.", stream)
        self.queue_bytes = gauge("queue_bytes", "Bytes between reader and applier.", stream)
        self.queue_limit = gauge("queue_limit_bytes", "Where the reader waits for the applier.", stream)
        self.copy_tables = gauge("copy_tables", "Tables of the initial copy by state.", (*flow, "state"))
        self.copy_progress = gauge(
            "copy_progress_ratio", "Rows on the target of those to copy, by statistics; 1: every table is done.", flow
        )
        self.copy_rows_estimated = gauge("copy_rows_estimated", "Rows to copy, by statistics.", (*flow, "table"))
        self.copy_rows = counter("copy_rows", "Rows copied, attempts started over included.", (*flow, "table"))
        self.copy_bytes = counter("copy_bytes", "Bytes copied, attempts started over included.", (*flow, "table"))
        self.copy_chunk = histogram("copy_chunk_duration_seconds", "Time to copy a part.", _COPY_SECONDS, flow)
        self.idmap_lookups = counter("idmap_lookups", "Ids remapped, by how they were found.", (*flow, "result"))
        self.errors = counter("errors", "Attempts that ended with an error.", (*flow, "component", "sqlstate_class"))
        self.reconnects = counter("reconnects", "Connections made again.", (*flow, "endpoint"))
        self.retries = counter("retries", "Attempts that will be made again after an error.", (*flow, "operation"))
        self.notifications = counter(
            "notifications", "Alerts told, or not, by the hooks.", (*flow, "channel", "outcome")
        )
        self.reload_successful = Gauge(
            "crossfade_config_last_reload_successful", "1 when the last reload was taken.", registry=registry
        )
        self.reload_time = Gauge(
            "crossfade_config_last_reload_success_timestamp_seconds", "When settings were last read.", registry=registry
        )
        self.event_loop_lag = Gauge(
            "crossfade_event_loop_lag_seconds", "How late the event loop woke.", registry=registry
        )

    def _bind(self) -> None:
        """Bind children once and bring every label set into being."""
        flow = self._workflow
        stream = (flow, DIRECTION)
        libpq = psycopg.pq.version()
        self.build_info.info(
            {
                "version": __version__,
                "python": platform.python_version(),
                "psycopg": psycopg.__version__,
                "libpq": f"{libpq // 10_000}.{libpq % 10_000}",
                "compiled": "yes" if native.is_compiled() else "no",
            }
        )
        self._up = self.up.labels(flow)
        self._up.set(1)
        self._leader = self.leader.labels(flow)
        self._phase_start = self.phase_start.labels(flow)
        self._phase: Phase | None = None
        self._show_phase(Phase.SETUP)
        for reason in PauseReason:
            self.paused.labels(flow, reason.value).set(0)
        self._lag_seconds = _Absent(self.lag_seconds, *stream)
        self._lag_bytes = _Absent(self.lag_bytes, *stream)
        self._source_lsn = _Absent(self.source_current_lsn, *stream)
        self._received_lsn = _Absent(self.received_lsn, *stream)
        self._applied_lsn = _Absent(self.applied_lsn, *stream)
        self._durable_lsn = _Absent(self.durable_lsn, *stream)
        self._acknowledged_lsn = _Absent(self.acknowledged_lsn, *stream)
        self._restart_lsn = _Absent(self.restart_lsn, *stream)
        self._last_applied_commit = _Absent(self.last_applied_commit, *stream)
        self._last_message = _Absent(self.last_message, *stream)
        self._source_skew = _Absent(self.clock_skew, flow, "source")
        self._target_skew = _Absent(self.clock_skew, flow, "target")
        self._source_oldest = _Absent(self.oldest_transaction, flow, "source")
        self._target_oldest = _Absent(self.oldest_transaction, flow, "target")
        self._disk_free = {each: _Absent(self.disk_free, flow, each) for each in DISKS}
        self._disk_capacity = {each: _Absent(self.disk_capacity, flow, each) for each in DISKS}
        self._spilled_bytes = _Grows(self.slot_spilled_bytes, *stream)
        self._spilled_transactions = _Grows(self.slot_spilled_transactions, *stream)
        for channel in CHANNELS:
            for outcome in OUTCOMES:
                self.notifications.labels(flow, channel, outcome)
        self.reload_successful.set(1)
        self.reload_time.set(self._clock())
        self._slot_active = self.slot_active.labels(*stream)
        self._slot_retained = _Absent(self.slot_retained, *stream)
        self._slot_safe = _Absent(self.slot_safe, *stream)
        self._slot_limit = _Absent(self.slot_limit, *stream)
        self._wal_status = {each: self.slot_wal_status.labels(*stream, each) for each in WAL_STATUSES}
        self._invalidated = {each: self.slot_invalidated.labels(*stream, each) for each in INVALIDATIONS}
        self._received_bytes = self.received_bytes.labels(*stream)
        self._transactions_applied = self.transactions_applied.labels(*stream)
        self._transactions_skipped = self.transactions_skipped.labels(*stream)
        self._keepalives = self.keepalives.labels(*stream)
        self._apply_duration = self.apply_duration.labels(*stream)
        self._latency = self.latency.labels(*stream)
        self._batch_changes = self.batch_changes.labels(*stream)
        self._batches = {
            (level, reason): self.batches.labels(*stream, level, reason)
            for level, reasons in LEVELS.items()
            for reason in reasons
        }
        self._queue_changes = self.queue_changes.labels(*stream)
        self._queue_bytes = self.queue_bytes.labels(*stream)
        self._queue_limit = _Absent(self.queue_limit, *stream)
        self._copy_tables = {state: self.copy_tables.labels(flow, state) for state in COPY_STATES}
        self._copy_progress = _Absent(self.copy_progress, flow)
        self._copy_chunk = self.copy_chunk.labels(flow)
        self._ids = {result: self.idmap_lookups.labels(flow, result) for result in ("hit", "miss", "created")}
        # What only a leader knows.
        self._leaders = (
            self._lag_seconds, self._lag_bytes, self._source_lsn, self._received_lsn, self._applied_lsn,
            self._durable_lsn, self._acknowledged_lsn, self._restart_lsn, self._last_message, self._slot_retained,
            self._slot_safe, self._slot_limit, self._source_oldest, self._target_oldest,
            *(each[side] for each in (self._disk_free, self._disk_capacity) for side in ENDPOINTS),
        )  # fmt: skip
        for component in COMPONENTS:
            self.retries.labels(flow, component)
            for sqlstate_class in SQLSTATE_CLASSES:
                self.errors.labels(flow, component, sqlstate_class)
        for endpoint in ENDPOINTS:
            self.reconnects.labels(flow, endpoint)

    def _lead(self, event: LeaderChanged) -> None:
        self._leader.set(event.is_leader)
        if event.is_leader or event.tries_again:
            return
        # Standing by is work. What we knew as a leader is the new leader's to tell, who knows better by now.
        self._up.set(1)
        for series in self._leaders:
            series.set(None)
        self._queue_changes.set(0)
        self._queue_bytes.set(0)
        self._slot_active.set(0)
        for child in (*self._wal_status.values(), *self._invalidated.values()):
            child.set(0)

    def _show_phase(self, current: Phase) -> None:
        if current is not self._phase:
            self._phase = current
            self._phase_start.set(self._clock())
        for phase in Phase:
            self.phase.labels(self._workflow, phase.value).set(phase is current)
        self._up.set(current is not Phase.FAILED)

    def _table(self, source: TableName) -> _PerTable:
        """The children of a table, by its source name; tables past the limit share one set."""
        label = self._labels.get(source)
        if label is None:
            label = str(source) if len(self._labels) < MOST_TABLES else OTHER
            if label != OTHER:
                self._labels[source] = label
        found = self._per_table.get(label)
        if found is None:
            found = self._per_table[label] = _PerTable(self, self._workflow, label)
        return found

    def _moved_to(self, durable: Lsn) -> None:
        self._durable = max(self._durable, durable)
        self._received_to = max(self._received_to, self._durable)
        self._applied_lsn.set(self._durable)
        self._durable_lsn.set(self._durable)
        self._received_lsn.set(self._received_to)

    def _observe_received(self, event: Received) -> None:
        self._received_bytes.inc(event.bytes)
        self._keepalives.inc(event.keepalives)
        self._transactions_skipped.inc(event.transactions_skipped)
        self._last_message.set(self._clock())
        self._received_to = max(event.position, self._durable)
        self._received_lsn.set(self._received_to)
        for (name, operation), count in event.changes.items():
            self._table(name).received[operation].inc(count)

    def _observe_applied(self, event: Applied) -> None:
        self._moved_to(event.end_lsn)
        self._transactions_applied.inc(event.transactions)
        for (route, operation), count in event.changes.items():
            self._table(route.source).applied[operation].inc(count)
        for route, count in event.filtered.items():
            self._table(route.source).filtered.inc(count)
        for (route, kind), count in event.conflicts.items():
            if (conflict := self._table(route.source).conflicts.get(kind)) is not None:
                conflict.inc(count)
        for (route, kind), count in event.clock_notes.items():
            if (note := self._table(route.source).clock_notes.get(kind)) is not None:
                note.inc(count)
        self._ids["created"].inc(event.ids_created)
        self._ids["hit"].inc(event.ids_known)
        self._ids["miss"].inc(event.ids_looked_up)
        self._apply_duration.observe(event.seconds)
        self._batch_changes.observe(sum(event.changes.values()))
        if (level := self._batches.get((event.by_level, event.reason or NO_REASON))) is not None:
            level.inc()
        for committed in event.commit_times:
            self._latency.observe(max(0.0, event.committed_at - committed))
        if event.commit_times:
            self._last_applied_commit.set(max(event.commit_times))

    def _observe_source(self, event: SourceSampled) -> None:
        self._source_lsn.set(event.flush_lsn)
        self._restart_lsn.set(event.restart_lsn or None)
        self._source_skew.set(event.clock_skew)
        self._slot_active.set(event.slot_exists and event.slot_active)
        self._slot_retained.set(event.retained_bytes)
        self._slot_safe.set(event.safe_wal_size)
        self._slot_limit.set(event.wal_keep_limit)
        self._spilled_bytes.stands_at(event.spilled_bytes)
        self._spilled_transactions.stands_at(event.spilled_transactions)
        self._source_oldest.set(event.oldest_transaction or 0.0)
        for status, status_child in self._wal_status.items():
            status_child.set(event.slot_exists and status == event.wal_status)
        for reason, reason_child in self._invalidated.items():
            reason_child.set(reason == event.invalidation_reason)

    def _observe_copy(self, event: CopyState) -> None:
        watched = WatchedTable(event.source, event.target, event.rows_estimated)
        self.watch((watched,))
        before = self._copies[watched.route]
        bound = self._table(event.source)
        found_done = event.state == "done" and before.state == "pending"
        # What an earlier process copied is no work of ours: counters count what this process did.
        if event.state != "pending" and not found_done:
            bound.copy_rows.inc(_grown(before.rows, event.rows))
            bound.copy_bytes.inc(_grown(before.bytes, event.bytes))
        self._copies[watched.route] = event
        self._count_copies()

    def _estimate(self, table: WatchedTable) -> None:
        """Set a table's estimate; `_other` is the sum of those without a name."""
        known = self._estimates.get(table.route)
        if known is not None and table.rows_estimated <= 0:
            return
        self._estimates[table.route] = max(0, table.rows_estimated)
        self._table(table.source).copy_estimated.inc(self._estimates[table.route] - (known or 0))

    def _count_copies(self) -> None:
        counts = dict.fromkeys(COPY_STATES, 0)
        for copy in self._copies.values():
            counts[copy.state] = counts.get(copy.state, 0) + 1
        for state, child in self._copy_tables.items():
            child.set(counts[state])
        self._copy_progress.set(self._copied())

    def _copied(self) -> float | None:
        """How much of the copy is on the target, finished tables included; as the status reckons its percent."""
        copies = self._copies.values()
        unfinished = [copy for copy in copies if copy.state != "done"]
        if not copies:
            return None
        if not unfinished:
            return 1.0
        rows = sum(copy.rows for copy in copies)
        remaining = sum(
            max(0, self._estimates.get(Route(copy.source, copy.target), 0) - copy.rows) for copy in unfinished
        )
        return min(0.999, rows / (rows + remaining)) if rows + remaining else 0.0

    def _observe_failed(self, event: Failed) -> None:
        component = event.component if event.component in COMPONENTS else "runtime"
        self.errors.labels(self._workflow, component, event.sqlstate[:2] or NO_SQLSTATE).inc()
        if event.retry_in is not None:
            self.retries.labels(self._workflow, component).inc()
        self._up.set(0)


def _grown(before: int, now: int) -> int:
    """How much was done since; an attempt started over begins at nothing again."""
    return now - before if now >= before else now
