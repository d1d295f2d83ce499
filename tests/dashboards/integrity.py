"""The row Data Integrity: what speaks against both sides being equal, and when they were last compared."""

from __future__ import annotations

from typing import Final

from tests.dashboards import promql, shared
from tests.dashboards.parts import GREEN, ORANGE, RED, Kind, Panel, Query, Row, Step

_DAY: Final = 24 * 3600


def _in_range(metric: str, by: str) -> str:
    return promql.grown(promql.stream(metric), by) + " > 0"


ROW: Final = Row(
    "Data Integrity",
    (
        Panel(
            kind=Kind.NUMBER,
            title="Rows that differ",
            description="What the last verification found different and still different when it looked again."
            " Anything but 0: `crossfade verify` says which rows, do not switch over before it is explained.",
            unit="short",
            queries=(Query(f"sum by (workflow) ({promql.flow('crossfade_verify_rows_mismatched')})"),),
            width=4,
            decimals=0,
            steps=shared.NEVER,
            empty="not verified",
        ),
        Panel(
            kind=Kind.NUMBER,
            title="Since the last verification",
            description="Time since every table was last found equal. More than a day: verify again, the proof is old.",
            unit="s",
            queries=(
                Query(
                    f"time() - min by (workflow) ({promql.flow('crossfade_verify_last_success_timestamp_seconds')} > 0)"
                ),
            ),
            width=4,
            decimals=0,
            steps=(Step(None, GREEN), Step(_DAY, ORANGE)),
            empty="never",
        ),
        Panel(
            kind=Kind.NUMBER,
            title="Changes put aside",
            description="Changes in quarantine since the beginning of the time shown: rows that are on the source and"
            " not on the target. Each must be retried or discarded by a person.",
            unit="short",
            queries=(Query(promql.grown(promql.stream("crossfade_changes_quarantined_total"), promql.PER_FLOW)),),
            width=4,
            decimals=0,
            steps=shared.NEVER,
            empty="-",
        ),
        Panel(
            kind=Kind.NUMBER,
            title="Conflicts",
            description="Changes in the time shown that met another row than expected; by table beside. Somebody else"
            " writes to the target, or a row was missing from the copy. More than"
            f" {shared.LIMITS['conflicts_in_10_minutes']:g} in 10 minutes of one kind and"
            " table: CrossfadeConflictsHigh.",
            unit="short",
            queries=(Query(promql.grown(promql.stream("crossfade_conflicts_total"), promql.PER_FLOW)),),
            width=4,
            decimals=0,
            steps=(Step(None, GREEN), Step(1, ORANGE), Step(shared.LIMITS["conflicts_in_10_minutes"], RED)),
            runbooks=("CrossfadeConflictsHigh",),
        ),
        Panel(
            kind=Kind.NUMBER,
            title="Columns drifted",
            description="Columns of mapped source tables that the mapping does not know: somebody changed the"
            " source's schema during the migration. The stream stops at them unless the mapping says otherwise.",
            unit="short",
            queries=(Query(f"sum by (workflow) ({promql.flow('crossfade_schema_drift_columns')})"),),
            width=4,
            decimals=0,
            steps=shared.NEVER,
            empty="-",
        ),
        Panel(
            kind=Kind.NUMBER,
            title="Came again",
            description="Transactions the source sent again after a restart and the target already had: they were"
            " passed over, which is how nothing is applied twice. Any number is good.",
            unit="short",
            queries=(Query(promql.grown(promql.stream("crossfade_transactions_skipped_total"), promql.PER_FLOW)),),
            width=4,
            decimals=0,
        ),
        Panel(
            kind=Kind.LINES,
            title="Conflicts by table",
            description="missing_row: an UPDATE or DELETE whose row was not on the target. orphan_id: a reference"
            " without a parent. The policies of the mapping say what was done about each.",
            unit="short",
            queries=(
                Query(
                    promql.grown(
                        promql.stream("crossfade_conflicts_total"),
                        "workflow, direction, table, kind",
                        "$__rate_interval",
                    )
                    + " > 0",
                    "{{table}} {{kind}}",
                ),
            ),
            width=8,
            least=0,
            empty="no conflicts",
            runbooks=("CrossfadeConflictsHigh",),
        ),
        Panel(
            kind=Kind.BARS,
            title="Rows that differ, by table",
            description="What the last verification found, by kind: missing on the target, extra there, different.",
            unit="short",
            queries=(
                Query(
                    f"sum by (workflow, table, kind) ({promql.flow('crossfade_verify_rows_mismatched')}) > 0",
                    "{{table}} {{kind}}",
                ),
            ),
            width=8,
            decimals=0,
            steps=shared.NEVER,
            empty="none",
        ),
        Panel(
            kind=Kind.LINES,
            title="Local times in a gap or an overlap",
            description="Timestamps without a zone that fell into the hour a clock change skips or repeats, and were"
            " moved as the mapping says. Not an error, but a decision somebody made: mapping.md, time zones.",
            unit="short",
            queries=(
                Query(
                    promql.grown(
                        promql.stream("crossfade_clock_notes_total"),
                        "workflow, direction, table, kind",
                        "$__rate_interval",
                    )
                    + " > 0",
                    "{{table}} {{kind}}",
                ),
            ),
            width=8,
            least=0,
            empty="none",
        ),
        Panel(
            kind=Kind.LINES,
            title="Received and applied",
            description="Row changes a second as they come and as they become durable. In the long run as many go as"
            " come: what is left out, put aside or already there is counted in the panels around.",
            unit="cps",
            queries=(
                Query(promql.per_second(promql.stream("crossfade_changes_received_total")), "received"),
                Query(shared.changes_per_second(), "applied"),
            ),
            width=8,
            least=0,
        ),
        Panel(
            kind=Kind.LINES,
            title="Left out on purpose",
            description="Changes that the mapping's row filters keep from the target, by table. A table that should"
            " not be here has a filter that says too much: `crossfade check --explain TABLE`.",
            unit="cps",
            queries=(
                Query(
                    promql.per_second(promql.stream("crossfade_changes_filtered_total"), "workflow, direction, table"),
                    "{{table}}",
                ),
            ),
            width=8,
            least=0,
        ),
        Panel(
            kind=Kind.LINES,
            title="Ids remapped",
            description="Ids looked up in the id maps, by how they were found: hit in memory, miss only on the"
            " target, created new. Many misses for long: more ids are in use than the cache holds.",
            unit="cps",
            queries=(
                Query(
                    promql.per_second(promql.flow("crossfade_idmap_lookups_total"), "workflow, result"), "{{result}}"
                ),
            ),
            width=8,
            least=0,
        ),
    ),
)
