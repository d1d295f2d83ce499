from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import generate_latest

import crossfade
from crossfade.catalog import Route, TableName
from crossfade.events import (
    Acknowledged,
    Connected,
    DiskMeasured,
    LagMeasured,
    LeaderChanged,
    Notified,
    Operation,
    PartCopied,
    Paused,
    PauseReason,
    Phase,
    PhaseChanged,
    PipeLevel,
    Recovered,
    Reloaded,
    TargetSampled,
)
from crossfade.lsn import Lsn
from crossfade.telemetry.metrics import CONFLICTS, MOST_TABLES, OTHER, Metrics
from crossfade.telemetry.status import WatchedTable
from tests.unit.telemetry.facts import (
    APP_ORDERS,
    OF_USERS,
    ORDERS,
    TABLES,
    Clock,
    applied,
    copied,
    failed,
    received,
    sampled,
)

FLOW = {"workflow": "shop"}
STREAM = {"workflow": "shop", "direction": "forward"}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics(clock: Clock) -> Metrics:
    return Metrics("shop", TABLES, clock=clock)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"crossfade_{name}", labels)


def series(metrics: Metrics) -> list[str]:
    return [line for line in generate_latest(metrics.registry).decode().splitlines() if not line.startswith("#")]


def test_every_kind_of_conflict_is_counted_somewhere_and_every_counted_kind_is_shown() -> None:
    target = Path(crossfade.__file__).parent / "target"
    counted = {
        kind
        for file in target.glob("*.py")
        for kind in re.findall(r'conflicts\[[^\]]*"(\w+)"\]', file.read_text(encoding="utf-8"))
    }
    assert counted == set(CONFLICTS)


def test_label_sets_exist_at_zero_from_the_start(metrics: Metrics) -> None:
    for op in ("insert", "update", "delete", "truncate"):
        for table in ("public.users", "public.orders"):
            assert value(metrics, "changes_received_total", **STREAM, table=table, op=op) == 0
            assert value(metrics, "changes_applied_total", **STREAM, table=table, op=op) == 0
    for kind in ("missing_row", "orphan_id"):
        assert value(metrics, "conflicts_total", **STREAM, table="public.users", kind=kind) == 0
    for level, reason in (("set", "none"), ("final", "unique"), ("exact", "small"), ("exact_pieces", "row_count")):
        assert value(metrics, "batches_total", **STREAM, level=level, reason=reason) == 0
    for endpoint in ("source", "target"):
        assert value(metrics, "reconnects_total", **FLOW, endpoint=endpoint) == 0
    for result in ("hit", "miss", "created"):
        assert value(metrics, "idmap_lookups_total", **FLOW, result=result) == 0
    assert value(metrics, "errors_total", **FLOW, component="apply", sqlstate_class="23") == 0
    assert value(metrics, "errors_total", **FLOW, component="stream", sqlstate_class="--") == 0
    assert value(metrics, "slot_active", **STREAM) == 0


def test_what_is_not_known_is_absent(metrics: Metrics) -> None:
    for name in ("replication_lag_seconds", "replication_lag_bytes", "durable_lsn_bytes", "slot_safe_wal_size_bytes"):
        assert value(metrics, name, **STREAM) is None
    metrics.observe(LagMeasured(0.0, 0))
    assert value(metrics, "replication_lag_seconds", **STREAM) == 0
    metrics.observe(LagMeasured(None, 12))
    assert value(metrics, "replication_lag_seconds", **STREAM) is None
    assert value(metrics, "replication_lag_bytes", **STREAM) == 12


def test_every_name_has_our_prefix_or_is_the_process_s(metrics: Metrics) -> None:
    for family in metrics.registry.collect():
        assert family.name.startswith(("crossfade_", "process_", "python_gc_")), family.name
        assert family.documentation


def test_no_created_series(metrics: Metrics) -> None:
    assert not [line for line in series(metrics) if "_created" in line and "crossfade_" in line]


def test_the_phase_is_a_state_set(metrics: Metrics, clock: Clock) -> None:
    clock.advance(10)
    metrics.observe(PhaseChanged(Phase.STREAMING))
    clock.advance(10)
    metrics.observe(PhaseChanged(Phase.STREAMING))
    states = {phase.value: value(metrics, "phase", **FLOW, phase=phase.value) for phase in Phase}
    assert states == {phase.value: float(phase is Phase.STREAMING) for phase in Phase}
    assert value(metrics, "phase_start_timestamp_seconds", **FLOW) == clock.now - 10


def test_up_and_leader(metrics: Metrics) -> None:
    assert value(metrics, "up", **FLOW) == 1
    metrics.observe(failed())
    assert value(metrics, "up", **FLOW) == 0
    metrics.observe(Recovered())
    assert value(metrics, "up", **FLOW) == 1
    metrics.observe(PhaseChanged(Phase.FAILED))
    assert value(metrics, "up", **FLOW) == 0
    assert value(metrics, "leader", **FLOW) == 0
    metrics.observe(LeaderChanged(True))
    assert value(metrics, "leader", **FLOW) == 1


def test_between_two_attempts_nobody_leads_and_what_was_known_stays(metrics: Metrics) -> None:
    metrics.observe(LeaderChanged(True))
    metrics.observe(sampled(slot_active=True))
    metrics.observe(LagMeasured(7.0, 70))
    metrics.observe(failed())
    metrics.observe(LeaderChanged(False, tries_again=True))
    assert value(metrics, "leader", **FLOW) == 0
    assert value(metrics, "up", **FLOW) == 0
    assert value(metrics, "replication_lag_seconds", **STREAM) == 7
    assert value(metrics, "slot_active", **STREAM) == 1


def test_who_stands_by_works_and_knows_no_lag_and_no_slot(metrics: Metrics) -> None:
    metrics.observe(LeaderChanged(True))
    metrics.observe(sampled(safe_wal_size=77, wal_keep_limit=1000, oldest_transaction=9.0))
    metrics.observe(LagMeasured(7.0, 70))
    metrics.observe(applied(2000))
    metrics.observe(DiskMeasured("target", 1, 2))
    metrics.observe(DiskMeasured("own", 3, 4))
    metrics.observe(failed())
    metrics.observe(LeaderChanged(False))
    assert value(metrics, "leader", **FLOW) == 0
    assert value(metrics, "up", **FLOW) == 1
    for name in (
        "replication_lag_seconds", "replication_lag_bytes", "durable_lsn_bytes", "source_current_lsn_bytes",
        "slot_retained_wal_bytes", "slot_safe_wal_size_bytes", "slot_wal_keep_limit_bytes",
    ):  # fmt: skip
        assert value(metrics, name, **STREAM) is None, name
    assert value(metrics, "oldest_snapshot_transaction_age_seconds", **FLOW, endpoint="source") is None
    assert value(metrics, "disk_free_bytes", **FLOW, endpoint="target") is None
    assert value(metrics, "disk_free_bytes", **FLOW, endpoint="own") == 3
    # The series that rules and panels single out by their value are there all the same.
    assert value(metrics, "slot_active", **STREAM) == 0
    assert value(metrics, "slot_wal_status", **STREAM, wal_status="reserved") == 0
    metrics.observe(LeaderChanged(True))
    metrics.observe(LagMeasured(1.0, 10))
    assert value(metrics, "replication_lag_seconds", **STREAM) == 1


def test_what_the_source_spilled_is_counted_from_our_first_look_on(metrics: Metrics) -> None:
    for total, count in ((None, None), (5000, 50), (5300, 53), (100, 1), (150, 2)):  # the fourth: statistics were reset
        metrics.observe(sampled(spilled_bytes=total, spilled_transactions=count))
    assert value(metrics, "slot_spilled_bytes_total", **STREAM) == 300 + 100 + 50
    assert value(metrics, "slot_spilled_transactions_total", **STREAM) == 3 + 1 + 1


def test_the_oldest_transaction_is_zero_when_there_is_none(metrics: Metrics) -> None:
    metrics.observe(sampled(oldest_transaction=12.5))
    metrics.observe(TargetSampled(-0.5, None))
    assert value(metrics, "oldest_snapshot_transaction_age_seconds", **FLOW, endpoint="source") == 12.5
    assert value(metrics, "oldest_snapshot_transaction_age_seconds", **FLOW, endpoint="target") == 0
    assert value(metrics, "clock_skew_seconds", **FLOW, endpoint="target") == -0.5
    metrics.observe(sampled())
    assert value(metrics, "oldest_snapshot_transaction_age_seconds", **FLOW, endpoint="source") == 0


def test_disks_are_absent_until_measured(metrics: Metrics) -> None:
    assert value(metrics, "disk_free_bytes", **FLOW, endpoint="own") is None
    metrics.observe(DiskMeasured("own", 30, 100))
    assert value(metrics, "disk_free_bytes", **FLOW, endpoint="own") == 30
    assert value(metrics, "disk_capacity_bytes", **FLOW, endpoint="own") == 100
    metrics.observe(DiskMeasured("own", None, None))
    assert value(metrics, "disk_free_bytes", **FLOW, endpoint="own") is None


def test_a_reload_that_was_refused_shows_until_one_is_taken(metrics: Metrics, clock: Clock) -> None:
    started = clock.now
    assert value(metrics, "config_last_reload_successful") == 1
    clock.advance(5)
    metrics.observe(Reloaded(False))
    assert value(metrics, "config_last_reload_successful") == 0
    assert value(metrics, "config_last_reload_success_timestamp_seconds") == started
    metrics.observe(Reloaded(True))
    assert value(metrics, "config_last_reload_success_timestamp_seconds") == clock.now


def test_who_was_told_is_counted_from_zero(metrics: Metrics) -> None:
    for channel in ("command", "webhook", "alertmanager"):
        for outcome in ("sent", "failed", "dropped"):
            assert value(metrics, "notifications_total", **FLOW, channel=channel, outcome=outcome) == 0
    metrics.observe(Notified("webhook", "failed"))
    assert value(metrics, "notifications_total", **FLOW, channel="webhook", outcome="failed") == 1


def test_every_reason_of_a_pause_is_shown(metrics: Metrics) -> None:
    metrics.observe(Paused(PauseReason.OPERATOR, frozenset({PauseReason.OWN_DISK})))
    shown = {reason.value: value(metrics, "paused", **FLOW, reason=reason.value) for reason in PauseReason}
    assert shown == {"operator": 1, "own_disk": 1, "target_full": 0, "error_rate": 0}


def test_what_conditions_left_out_is_counted_by_table(metrics: Metrics) -> None:
    assert value(metrics, "changes_filtered_total", **STREAM, table="public.users", reason="where") == 0
    metrics.observe(replace(applied(1), filtered={OF_USERS: 6}))
    assert value(metrics, "changes_filtered_total", **STREAM, table="public.users", reason="where") == 6
    assert value(metrics, "changes_filtered_total", **STREAM, table="public.orders", reason="where") == 0


def test_ids_asked_of_the_map_are_misses(metrics: Metrics) -> None:
    metrics.observe(replace(applied(1), ids_looked_up=4))
    assert value(metrics, "idmap_lookups_total", **FLOW, result="miss") == 4


def test_paused_tells_its_reason(metrics: Metrics) -> None:
    metrics.observe(Paused(PauseReason.TARGET_FULL))
    assert value(metrics, "paused", **FLOW, reason="target_full") == 1
    assert value(metrics, "paused", **FLOW, reason="operator") == 0
    metrics.observe(Paused(None))
    assert value(metrics, "paused", **FLOW, reason="target_full") == 0


def test_positions_in_bytes(metrics: Metrics) -> None:
    metrics.observe(received(3000))
    metrics.observe(applied(2000))
    metrics.observe(Acknowledged(Lsn(1000)))
    metrics.observe(sampled(flush=4000))
    assert [
        value(metrics, f"{name}_lsn_bytes", **STREAM)
        for name in ("source_current", "received", "applied", "durable", "acknowledged", "restart")
    ] == [4000, 3000, 2000, 2000, 1000, 1000]


def test_the_slot_is_shown_also_when_inactive_or_gone(metrics: Metrics) -> None:
    metrics.observe(sampled(slot_active=False, wal_status="unreserved", safe_wal_size=77, wal_keep_limit=1000))
    assert value(metrics, "slot_active", **STREAM) == 0
    assert value(metrics, "slot_retained_wal_bytes", **STREAM) == 4000
    assert value(metrics, "slot_safe_wal_size_bytes", **STREAM) == 77
    assert value(metrics, "slot_wal_keep_limit_bytes", **STREAM) == 1000
    assert value(metrics, "slot_wal_status", **STREAM, wal_status="unreserved") == 1
    assert value(metrics, "slot_wal_status", **STREAM, wal_status="reserved") == 0
    assert value(metrics, "clock_skew_seconds", **FLOW, endpoint="source") == 0.25
    metrics.observe(sampled(slot_exists=False, wal_status=""))
    assert value(metrics, "slot_safe_wal_size_bytes", **STREAM) is None
    for status in ("reserved", "extended", "unreserved", "lost"):
        assert value(metrics, "slot_wal_status", **STREAM, wal_status=status) == 0


def test_an_applied_batch_counts_once_everywhere(metrics: Metrics) -> None:
    metrics.observe(
        applied(
            10,
            transactions=2,
            changes={(OF_USERS, Operation.INSERT): 7},
            conflicts={(OF_USERS, "missing_row"): 1, (OF_USERS, "never heard of"): 1},
            clock_notes={(OF_USERS, "overlap"): 4},
            commit_times=(99.0, 100.5),
            committed_at=101.0,
        )
    )
    assert value(metrics, "transactions_applied_total", **STREAM) == 2
    assert value(metrics, "changes_applied_total", **STREAM, table="public.users", op="insert") == 7
    assert value(metrics, "conflicts_total", **STREAM, table="public.users", kind="missing_row") == 1
    assert value(metrics, "clock_notes_total", **STREAM, table="public.users", kind="overlap") == 4
    assert value(metrics, "batches_total", **STREAM, level="exact", reason="small") == 1
    assert value(metrics, "apply_duration_seconds_count", **STREAM) == 1
    assert value(metrics, "apply_batch_changes_sum", **STREAM) == 7
    assert value(metrics, "end_to_end_latency_seconds_count", **STREAM) == 2
    assert value(metrics, "end_to_end_latency_seconds_sum", **STREAM) == 2.5
    assert value(metrics, "last_applied_commit_timestamp_seconds", **STREAM) == 100.5
    assert value(metrics, "idmap_lookups_total", **FLOW, result="created") == 2
    assert value(metrics, "idmap_lookups_total", **FLOW, result="hit") == 3


def test_tables_are_learnt_from_their_copy(clock: Clock) -> None:
    metrics = Metrics("shop", clock=clock)
    metrics.observe(copied("done", 7))
    assert value(metrics, "copy_rows_total", **FLOW, table="public.users") == 0
    assert value(metrics, "copy_tables", **FLOW, state="done") == 1
    metrics.observe(applied(1, changes={(OF_USERS, Operation.INSERT): 2}, conflicts={(OF_USERS, "orphan_id"): 1}))
    assert value(metrics, "changes_applied_total", **STREAM, table="public.users", op="insert") == 2
    assert value(metrics, "conflicts_total", **STREAM, table="public.users", kind="orphan_id") == 1


def test_what_was_received(metrics: Metrics, clock: Clock) -> None:
    metrics.observe(received(10, size=321, changes={(ORDERS, Operation.DELETE): 4}))
    assert value(metrics, "received_bytes_total", **STREAM) == 321
    assert value(metrics, "keepalives_total", **STREAM) == 1
    assert value(metrics, "changes_received_total", **STREAM, table="public.orders", op="delete") == 4
    assert value(metrics, "last_message_timestamp_seconds", **STREAM) == clock.now


def test_copy_counts_work_and_not_what_an_earlier_process_did(metrics: Metrics, clock: Clock) -> None:
    assert value(metrics, "copy_tables", **FLOW, state="pending") == 2
    metrics.observe(copied("done", 500, source=ORDERS, target=APP_ORDERS))
    assert value(metrics, "copy_rows_total", **FLOW, table="public.orders") == 0
    metrics.observe(copied("running", 100))
    clock.advance(7)
    metrics.observe(copied("running", 300))
    metrics.observe(copied("running", 50))  # started over
    assert value(metrics, "copy_tables", **FLOW, state="running") == 1
    metrics.observe(copied("done", 1000))
    assert value(metrics, "copy_rows_total", **FLOW, table="public.users") == 300 + 1000
    assert value(metrics, "copy_bytes_total", **FLOW, table="public.users") == 10 * 1300
    assert value(metrics, "copy_rows_estimated", **FLOW, table="public.users") == 1000
    assert value(metrics, "copy_tables", **FLOW, state="done") == 2
    assert value(metrics, "copy_tables", **FLOW, state="pending") == 0
    metrics.observe(PartCopied(7.0))
    assert value(metrics, "copy_chunk_duration_seconds_sum", **FLOW) == 7


def test_the_copy_s_progress_is_that_of_rows_and_whole_only_when_the_last_table_is_done(metrics: Metrics) -> None:
    assert value(metrics, "copy_progress_ratio", **FLOW) == 0
    metrics.observe(copied("done", 500, source=ORDERS, target=APP_ORDERS))  # by an earlier process: it is there
    metrics.observe(copied("running", 250))
    assert value(metrics, "copy_progress_ratio", **FLOW) == pytest.approx(750 / 1500)
    metrics.observe(copied("running", 5000))  # statistics were stale
    assert value(metrics, "copy_progress_ratio", **FLOW) == 0.999
    metrics.observe(copied("done", 5000))
    assert value(metrics, "copy_progress_ratio", **FLOW) == 1


def test_errors_by_component_and_class_never_by_text(metrics: Metrics) -> None:
    metrics.observe(failed("apply", sqlstate="23505"))
    metrics.observe(failed("source", sqlstate="", retry_in=None))
    metrics.observe(Connected("source", 180006, is_reconnect=True))
    assert value(metrics, "errors_total", **FLOW, component="apply", sqlstate_class="23") == 1
    assert value(metrics, "errors_total", **FLOW, component="source", sqlstate_class="--") == 1
    assert value(metrics, "retries_total", **FLOW, operation="apply") == 1
    assert value(metrics, "retries_total", **FLOW, operation="source") == 0
    assert value(metrics, "reconnects_total", **FLOW, endpoint="source") == 1


def test_the_queue(metrics: Metrics) -> None:
    metrics.observe(PipeLevel(7, 4096, 8192))
    assert value(metrics, "queue_changes", **STREAM) == 7
    assert value(metrics, "queue_bytes", **STREAM) == 4096
    assert value(metrics, "queue_limit_bytes", **STREAM) == 8192


def test_infos(metrics: Metrics) -> None:
    metrics.configured("0123456789abcdef", "fedcba9876543210")
    metrics.observe_loop_lag(-0.001)
    text = generate_latest(metrics.registry).decode()
    assert 'crossfade_config_info{config_sha="0123456789ab",mapping_sha="fedcba987654"} 1.0' in text
    assert "crossfade_build_info{" in text
    assert "crossfade_event_loop_lag_seconds 0.0" in text


def test_past_the_limit_tables_share_a_label_and_the_budget_holds(clock: Clock) -> None:
    tables = [WatchedTable(TableName("public", f"t{n:04}"), TableName("app", f"t{n:04}"), 10) for n in range(1000)]
    metrics = Metrics("shop", tables, clock=clock)
    last = tables[-1].source
    metrics.observe(applied(1, changes={(Route(last, last), Operation.INSERT): 3}))
    metrics.observe(received(1, changes={(TableName("x", "unheard_of"), Operation.INSERT): 1}))
    assert value(metrics, "changes_applied_total", **STREAM, table=OTHER, op="insert") == 3
    assert value(metrics, "copy_rows_estimated", **FLOW, table=OTHER) == 10 * (1000 - MOST_TABLES)
    assert len(series(metrics)) < 5000


def test_promtool_finds_nothing_to_complain_about(metrics: Metrics) -> None:
    promtool = os.environ.get("PROMTOOL") or shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool on PATH, and PROMTOOL is not set")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=generate_latest(metrics.registry), capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
