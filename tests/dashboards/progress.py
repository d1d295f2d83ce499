"""The row Migration Progress: how far the copy is, and how far behind the stream."""

from __future__ import annotations

from typing import Final

from tests.dashboards import promql, shared
from tests.dashboards.parts import BLUE, GREEN, GREY, Kind, Panel, Query, Row, Step

_RATIO: Final = promql.most(promql.flow("crossfade_copy_progress_ratio"), promql.PER_FLOW)


def _behind(ahead: str, reached: str) -> str:
    """How many bytes of WAL lie between two positions. The source's end is asked each second, what arrives is known at
    once: a moment's difference the other way round is none."""
    return promql.most(f"clamp_min({promql.stream(ahead)} - {promql.stream(reached)}, 0)")


ROW: Final = Row(
    "Migration Progress",
    (
        Panel(
            kind=Kind.NUMBER,
            title="Copied",
            description="How much of the initial copy is on the target, finished tables included, by rows as the"
            " source's statistics estimate them; 100 % only when the last table is done.",
            unit="percentunit",
            queries=(Query(_RATIO),),
            width=4,
            decimals=1,
            steps=(Step(None, BLUE), Step(1, GREEN)),
            trend=True,
            runbooks=("CrossfadeCopyStuck",),
        ),
        Panel(
            kind=Kind.NUMBER,
            title="Time left",
            description="Until the copy is done, if it goes on as in the last five minutes. Catching up with what the"
            " source wrote meanwhile comes on top. Nothing is shown while it does not move, 0 when it is done.",
            unit="s",
            queries=(
                Query(
                    f"(1 - {_RATIO})\n/ (\n  max by (workflow)"
                    f" (deriv({promql.flow('crossfade_copy_progress_ratio')}[5m])) > 0\n)"
                    f"\nor ({_RATIO} == 1) - 1"
                ),
            ),
            width=4,
            decimals=0,
            steps=(Step(None, BLUE),),
            empty="-",
        ),
        Panel(
            kind=Kind.LINES,
            title="Tables of the copy",
            description="Tables by state. Pending ones wait for a worker (copy.workers); one that goes back from"
            " running to pending let go of its lock because somebody queued behind it, and is copied again later.",
            unit="short",
            queries=(
                Query(f"max by (workflow, state) {promql.led(promql.flow('crossfade_copy_tables'))}", "{{state}}"),
            ),
            width=8,
            decimals=0,
            least=0,
            stacked=True,
        ),
        Panel(
            kind=Kind.LINES,
            title="Rows copied a second, by table",
            description="The twelve fastest tables. Attempts that were started over count. All at 0 during the copy:"
            " it waits for a lock or for a transaction on the source, see CrossfadeCopyStuck.",
            unit="cps",
            queries=(
                Query(
                    f"topk(12, {promql.per_second(promql.flow('crossfade_copy_rows_total'), 'workflow, table')})",
                    "{{table}}",
                ),
            ),
            width=8,
            least=0,
            runbooks=("CrossfadeCopyStuck",),
        ),
        Panel(
            kind=Kind.LINES,
            title="Replication lag",
            description="The age of the newest source position the target has durably passed, by the source's clock;"
            " 0 when there is nothing to do. It includes transactions the source has not sent yet. If it grows: is"
            " the target slow (see Performance)? Is it blocked by a lock? Is one huge transaction on its way? The"
            " runbooks say.",
            unit="s",
            queries=(Query(promql.most(promql.stream("crossfade_replication_lag_seconds")), "lag {{direction}}"),),
            width=8,
            least=0,
            steps=shared.LAG_STEPS,
            lines=True,
            runbooks=("CrossfadeLagHigh", "CrossfadeLagGrowing", "CrossfadeStalled"),
        ),
        Panel(
            kind=Kind.LINES,
            title="Behind, in bytes of WAL",
            description="How far each step is behind the end of the source's log. The first line that is far up names"
            " the culprit: received (source or network), durable (target), acknowledged (only what the source has"
            " heard of). WAL of other databases counts until it is passed.",
            unit="bytes",
            queries=(
                Query(_behind("crossfade_source_current_lsn_bytes", "crossfade_received_lsn_bytes"), "not received"),
                Query(_behind("crossfade_source_current_lsn_bytes", "crossfade_durable_lsn_bytes"), "not durable"),
                Query(
                    _behind("crossfade_source_current_lsn_bytes", "crossfade_acknowledged_lsn_bytes"),
                    "not acknowledged",
                ),
            ),
            width=8,
            least=0,
            runbooks=("CrossfadeStalled",),
        ),
        Panel(
            kind=Kind.LINES,
            title="WAL a second",
            description="How fast the source writes WAL, and how fast the target passes it. The second below the"
            " first: the lag grows. All databases of the source's server write into the same WAL.",
            unit="binBps",
            queries=(
                Query(
                    promql.most(f"deriv({promql.stream('crossfade_source_current_lsn_bytes')}[$__rate_interval])"),
                    "written by the source",
                ),
                Query(
                    promql.most(f"deriv({promql.stream('crossfade_durable_lsn_bytes')}[$__rate_interval])"),
                    "passed by the target",
                ),
            ),
            width=8,
        ),
        Panel(
            kind=Kind.STATES,
            title="Phase over time",
            description="The phase as the leader tells it. A gap: nobody led, or Prometheus could not ask.",
            unit="none",
            queries=(Query(shared.phase_number(), "phase"),),
            width=24,
            height=4,
            meanings=shared.PHASES,
            steps=(Step(None, GREY),),
            empty="nobody leads",
        ),
    ),
)
