"""The dashboard `overview`: every workflow at a glance, for whoever looks once a day or was just woken."""

from __future__ import annotations

from typing import Final

from tests.dashboards import around, promql, shared
from tests.dashboards.parts import BLUE, GREEN, GREY, ORANGE, Board, Column, Kind, Panel, Query, Step

UID: Final = "crossfade-overview"
TITLE: Final = "crossfade / overview"

ALERTS: Final = Panel(
    kind=Kind.TABLE,
    title="Alerts",
    description="What fires now. The name leads to its runbook, which says what to look at and what to do; the"
    " address before it is the variable Runbooks. Empty is good, if the Prometheus rules are loaded.",
    unit="string",
    queries=(Query(f"max by (alertname, severity, workflow, cause) ({promql.FIRING})"),),
    width=10,
    height=8,
    columns=(
        Column(
            field="alertname",
            title="Alert",
            url="${runbooks}/${__value.raw}.md",
            link="What to do about ${__value.raw}",
        ),
        Column(field="severity", title="Severity"),
        Column(field="workflow", title="Workflow"),
        Column(field="cause", title="Cause"),
    ),
)

WORKFLOWS: Final = Panel(
    kind=Kind.TABLE,
    title="Workflows",
    description="One line for each workflow: where it is, how far behind, and what waits on the source. The name"
    " leads to its own dashboard. A line without numbers has no daemon that leads: see CrossfadeDown and"
    " CrossfadeNoLeader.",
    unit="short",
    queries=(
        Query(shared.phase_number()),
        Query(promql.most(promql.stream("crossfade_replication_lag_seconds"), promql.PER_FLOW)),
        Query(promql.most(promql.stream("crossfade_replication_lag_bytes"), promql.PER_FLOW)),
        Query(promql.most(promql.stream("crossfade_slot_retained_wal_bytes"), promql.PER_FLOW)),
        Query(shared.changes_per_second(promql.PER_FLOW)),
        Query(f"1000 * min by (workflow) ({promql.flow('crossfade_verify_last_success_timestamp_seconds')} > 0)"),
    ),
    width=14,
    height=8,
    joined_by="workflow",
    columns=(
        Column(
            field="workflow",
            title="Workflow",
            url="/d/crossfade-workflow?${datasource:queryparam}&var-workflow=${__value.raw}&${__url_time_range}",
            link="Look at ${__value.raw}",
        ),
        Column(field="Value #A", title="Phase", meanings=shared.PHASES),
        Column(field="Value #B", title="Lag", unit="s", steps=shared.LAG_STEPS),
        Column(field="Value #C", title="Behind", unit="bytes"),
        Column(field="Value #D", title="WAL kept", unit="bytes"),
        Column(field="Value #E", title="Changes a second", unit="cps"),
        Column(field="Value #F", title="Verified", unit="dateTimeFromNow"),
    ),
    runbooks=("CrossfadeDown", "CrossfadeNoLeader", "CrossfadeWatchdog"),
)

PHASE: Final = Panel(
    kind=Kind.STATES,
    title="Phase",
    description="The phase of each workflow as its leader tells it. A gap: nobody led, or Prometheus could not ask."
    " Red (failed): a person must act, and `crossfade status` says on what. Orange: paused, the slot keeps WAL"
    " meanwhile.",
    unit="none",
    queries=(Query(shared.phase_number(), "{{workflow}}"),),
    width=24,
    height=6,
    meanings=shared.PHASES,
    steps=(Step(None, GREY),),
    empty="nobody leads",
    runbooks=("CrossfadeHighErrorRate", "CrossfadePaused"),
)

PROGRESS: Final = Panel(
    kind=Kind.BARS,
    title="Migration Progress",
    description="How much of the initial copy is on the target, by rows as the source's statistics estimate them. It"
    " says 100 % only when the last table is done. Where a bar does not move: the rows of Migration Progress on the"
    " workflow's dashboard, then CrossfadeCopyStuck.",
    unit="percentunit",
    queries=(Query(promql.most(promql.flow("crossfade_copy_progress_ratio"), promql.PER_FLOW), "{{workflow}}"),),
    width=8,
    least=0,
    most=1,
    decimals=1,
    steps=(Step(None, BLUE), Step(1, GREEN)),
    runbooks=("CrossfadeCopyStuck", "CrossfadeMigrationStalled"),
)

LAG: Final = Panel(
    kind=Kind.LINES,
    title="Replication lag",
    description="The age of the newest source position the target has durably passed, by the source's clock; 0 when"
    " there is nothing to do. Orange and red are where CrossfadeLagHigh warns and wakes somebody, unless it shrinks.",
    unit="s",
    queries=(Query(promql.most(promql.stream("crossfade_replication_lag_seconds")), "{{workflow}} {{direction}}"),),
    width=8,
    least=0,
    steps=shared.LAG_STEPS,
    lines=True,
    runbooks=("CrossfadeLagHigh", "CrossfadeLagGrowing", "CrossfadeStalled"),
)

PERFORMANCE: Final = Panel(
    kind=Kind.LINES,
    title="Performance",
    description="Row changes that became durable on the target. Falling with a growing lag: the target or the daemon"
    " is the bottleneck, see Performance on the workflow's dashboard. Falling without lag: the source writes less.",
    unit="cps",
    queries=(Query(shared.changes_per_second(), "{{workflow}} {{direction}}"),),
    width=8,
    least=0,
    runbooks=("CrossfadePerformanceDegradation", "CrossfadeMigrationStalled"),
)

ERRORS: Final = Panel(
    kind=Kind.LINES,
    title="Error Rate",
    description="Batches the target refused, of all that were tried; a lost connection is none. They are tried again"
    f" and nothing is lost, but above {shared.LIMITS['error_ratio']:.0%} for 5 minutes CrossfadeHighErrorRate wakes"
    " somebody. A gap: nothing was tried.",
    unit="percentunit",
    queries=(Query(shared.failed_share(), "{{workflow}}"),),
    width=8,
    least=0,
    steps=shared.ERROR_STEPS,
    lines=True,
    runbooks=("CrossfadeHighErrorRate", "CrossfadeNotWorking"),
)

INTEGRITY: Final = Panel(
    kind=Kind.NUMBER,
    title="Data Integrity",
    description="What speaks against both sides being equal, in the time shown: changes that met another row than"
    " expected, changes put aside, rows that differ after the last verification, columns the source got meanwhile."
    " Each should be 0; the workflow's dashboard says in which table.",
    unit="short",
    queries=(
        Query(promql.grown(promql.stream("crossfade_conflicts_total"), promql.PER_FLOW), "{{workflow}}: conflicts"),
        Query(
            promql.grown(promql.stream("crossfade_changes_quarantined_total"), promql.PER_FLOW),
            "{{workflow}}: changes put aside",
        ),
        Query(
            f"sum by (workflow) ({promql.flow('crossfade_verify_rows_mismatched')})", "{{workflow}}: rows that differ"
        ),
        Query(f"sum by (workflow) ({promql.flow('crossfade_schema_drift_columns')})", "{{workflow}}: columns drifted"),
    ),
    width=8,
    decimals=0,
    steps=(Step(None, GREEN), Step(1, ORANGE)),
    runbooks=("CrossfadeConflictsHigh",),
)

RESOURCES: Final = Panel(
    kind=Kind.LINES,
    title="Resource Utilization",
    description="What can run out: the WAL the source lets the slot keep (at 100 % the slot is lost and everything is"
    " copied again), the disks it knows, the pipe between reading and applying (full: the target is slow), a core"
    " for the daemon.",
    unit="percentunit",
    queries=(
        Query(shared.wal_share(), "{{workflow}}: WAL kept of its limit"),
        Query(shared.queue_share(), "{{workflow}}: pipe"),
        Query(f"max by (workflow, endpoint) ({shared.disk_used()})", "{{workflow}}: disk ({{endpoint}})"),
        Query(
            f"max by (workflow) ({promql.process_per_second('process_cpu_seconds_total')})",
            "{{workflow}}: CPU (a core)",
        ),
    ),
    width=8,
    least=0,
    steps=shared.WAL_STEPS,
    lines=True,
    runbooks=("CrossfadeSlotRetention", "CrossfadeSlotWillBeLost", "CrossfadeQueueFull", "CrossfadeDiskSpaceLow"),
)

BOARD: Final = Board(
    uid=UID,
    title=TITLE,
    description="All crossfade workflows: what fires, where each is, and the five things a migration is watched for.",
    choices=around.choices(one_workflow=False),
    marks=around.marks(),
    panels=(ALERTS, WORKFLOWS, PHASE, PROGRESS, LAG, PERFORMANCE, ERRORS, INTEGRITY, RESOURCES),
    rows=(),
    other="crossfade-workflow",
    other_title="crossfade / workflow",
)
