"""The dashboard `workflow`: everything about one workflow, at a glance first and then row by row."""

from __future__ import annotations

from typing import Final

from tests.dashboards import around, cutover, errors, integrity, performance, progress, promql, resources, shared
from tests.dashboards.overview import TITLE as OVERVIEW_TITLE
from tests.dashboards.overview import UID as OVERVIEW
from tests.dashboards.parts import BLUE, GREY, Board, Kind, Panel, Query, Step

UID: Final = "crossfade-workflow"
TITLE: Final = "crossfade / workflow"

GLANCE: Final = (
    Panel(
        kind=Kind.NUMBER,
        title="Phase",
        description="Where the migration is, as the leader tells it. failed: a person must act, `crossfade status`"
        " says on what. paused: `crossfade resume` goes on; the slot keeps WAL meanwhile.",
        unit="none",
        queries=(Query(shared.phase_number()),),
        width=4,
        height=4,
        meanings=shared.PHASES,
        steps=(Step(None, GREY),),
        empty="nobody leads",
        runbooks=("CrossfadeHighErrorRate", "CrossfadePaused", "CrossfadeNoLeader"),
    ),
    Panel(
        kind=Kind.NUMBER,
        title="Lag",
        description="The age of the newest source position the target has durably passed; 0 when there is nothing to"
        " do.",
        unit="s",
        queries=(Query(promql.most(promql.stream("crossfade_replication_lag_seconds"))),),
        width=4,
        height=4,
        decimals=1,
        steps=shared.LAG_STEPS,
        trend=True,
        empty="not known",
        runbooks=("CrossfadeLagHigh",),
    ),
    Panel(
        kind=Kind.NUMBER,
        title="Behind",
        description="WAL the source has written past what is durable on the target.",
        unit="bytes",
        queries=(Query(promql.most(promql.stream("crossfade_replication_lag_bytes"))),),
        width=4,
        height=4,
        decimals=1,
        steps=shared.steps(shared.LIMITS["stalled_lag_bytes"]),
        trend=True,
        empty="not known",
        runbooks=("CrossfadeStalled",),
    ),
    Panel(
        kind=Kind.NUMBER,
        title="Changes applied",
        description="Row changes a second that became durable on the target.",
        unit="cps",
        queries=(Query(shared.changes_per_second()),),
        width=4,
        height=4,
        decimals=0,
        steps=(Step(None, BLUE),),
        trend=True,
    ),
    Panel(
        kind=Kind.NUMBER,
        title="WAL kept of its limit",
        description="Of what max_slot_wal_keep_size lets the slot keep. At 100 % the slot is lost and everything is"
        " copied again. Nothing is shown where the source sets no limit: then it is its disk that fills.",
        unit="percentunit",
        queries=(Query(shared.wal_share()),),
        width=4,
        height=4,
        decimals=1,
        steps=shared.WAL_STEPS,
        trend=True,
        empty="unlimited",
        runbooks=("CrossfadeSlotRetention", "CrossfadeSlotWillBeLost"),
    ),
    Panel(
        kind=Kind.NUMBER,
        title="Alerts",
        description="How many alerts fire for this workflow; the overview lists them with their runbooks.",
        unit="short",
        queries=(Query(f"count({promql.FIRING}) or 0 * max({promql.flow('crossfade_up')})"),),
        width=4,
        height=4,
        decimals=0,
        steps=shared.NEVER,
        empty="not known",
    ),
)

BOARD: Final = Board(
    uid=UID,
    title=TITLE,
    description="One crossfade workflow: how far it is, how fast, what fails, whether both sides agree, and what may"
    " run out. The description of each panel says what to do.",
    choices=around.choices(one_workflow=True),
    marks=around.marks(),
    panels=GLANCE,
    rows=(progress.ROW, performance.ROW, errors.ROW, integrity.ROW, resources.ROW, cutover.ROW),
    other=OVERVIEW,
    other_title=OVERVIEW_TITLE,
)
