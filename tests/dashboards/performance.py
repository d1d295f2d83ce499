"""The row Performance: how much is applied, how long it takes, and by which level of apply."""

from __future__ import annotations

from typing import Final

from tests.dashboards import promql, shared
from tests.dashboards.parts import Kind, Panel, Query, Row

_QUANTILES: Final = ((0.5, "half"), (0.95, "95 of 100"), (0.99, "99 of 100"))


def _quantiles(histogram: str) -> tuple[Query, ...]:
    return tuple(Query(promql.quantile(share, histogram), f"{said} below") for share, said in _QUANTILES)


ROW: Final = Row(
    "Performance",
    (
        Panel(
            kind=Kind.LINES,
            title="Changes a second",
            description="Row changes that became durable on the target, by kind. Below"
            f" {shared.LIMITS['migration_stalled_changes_per_second']:g} a second for 5 minutes"
            " while there is lag, CrossfadeMigrationStalled warns.",
            unit="cps",
            queries=(Query(shared.changes_per_second("workflow, direction, op"), "{{op}}"),),
            width=8,
            least=0,
            stacked=True,
            runbooks=("CrossfadeMigrationStalled",),
        ),
        Panel(
            kind=Kind.LINES,
            title="Busiest tables",
            description="The twelve tables with the most changes a second, by the source's names.",
            unit="cps",
            queries=(Query(f"topk(12, {shared.changes_per_second('workflow, direction, table')})", "{{table}}"),),
            width=8,
            least=0,
        ),
        Panel(
            kind=Kind.LINES,
            title="Transactions a second",
            description="Source transactions made durable, and target transactions that took them: the more of the"
            " first in one of the second, the further behind it was and the faster it goes.",
            unit="cps",
            queries=(
                Query(promql.per_second(promql.stream("crossfade_transactions_applied_total")), "of the source"),
                Query(promql.per_second(promql.stream("crossfade_batches_total")), "on the target"),
            ),
            width=8,
            least=0,
        ),
        Panel(
            kind=Kind.LINES,
            title="Source commit to target commit",
            description="How long a transaction takes from its commit on the source to that on the target, by both"
            " servers' clocks. Sign of a target that is slow to commit when 'half' rises, of single large"
            " transactions when only '99 of 100' does.",
            unit="s",
            queries=_quantiles("crossfade_end_to_end_latency_seconds"),
            width=8,
            least=0,
            runbooks=("CrossfadeLagHigh",),
        ),
        Panel(
            kind=Kind.LINES,
            title="Time to apply a batch",
            description="From the first statement to the commit of one target transaction. It grows with the batch"
            " when it is behind; with small batches it is the target's disk, or a lock: look at the target's"
            " pg_stat_activity.",
            unit="s",
            queries=_quantiles("crossfade_apply_duration_seconds"),
            width=8,
            least=0,
            runbooks=("CrossfadeStalled", "CrossfadeQueueFull"),
        ),
        Panel(
            kind=Kind.LINES,
            title="Time to apply 1,000 changes",
            description="What a change costs, whatever the size of batches. CrossfadePerformanceDegradation warns"
            " when it is half as long again as yesterday's median: look for a missing index, bloat, another load on"
            " the target.",
            unit="s",
            queries=(Query(shared.seconds_per_thousand(), "{{direction}}"),),
            width=8,
            least=0,
            runbooks=("CrossfadePerformanceDegradation",),
        ),
        Panel(
            kind=Kind.HEATMAP,
            title="Changes in a batch",
            description="How many changes went into one target transaction. Small ones are the sign of a stream that"
            " keeps up; large ones of one that is behind, or of large transactions on the source.",
            unit="short",
            queries=(
                Query(
                    "sum by (le)"
                    f" (increase({promql.stream('crossfade_apply_batch_changes_bucket')}[$__rate_interval]))",
                    "{{le}}",
                ),
            ),
            width=8,
        ),
        Panel(
            kind=Kind.LINES,
            title="Batches by level of apply",
            description="How rows were written and why not faster: operations.md, Levels of apply. Many of"
            " exact_single or refused: single transactions are tried one by one, and one may be about to fail.",
            unit="cps",
            queries=(
                Query(
                    promql.per_second(promql.stream("crossfade_batches_total"), "workflow, direction, level, reason")
                    + " > 0",
                    "{{level}} ({{reason}})",
                ),
            ),
            width=8,
            least=0,
            stacked=True,
        ),
        Panel(
            kind=Kind.LINES,
            title="Received from the source",
            description="Bytes of the replication stream a second. At 0 with WAL being written: the source decodes a"
            " large transaction, or does not send (CrossfadeSlotInactive).",
            unit="binBps",
            queries=(Query(promql.per_second(promql.stream("crossfade_received_bytes_total")), "{{direction}}"),),
            width=8,
            least=0,
            runbooks=("CrossfadeSlotInactive", "CrossfadeHeartbeatMissing"),
        ),
    ),
)
