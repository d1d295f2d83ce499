"""The row Cutover: the switch, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.dashboards import promql, shared
from tests.dashboards.parts import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, Kind, Meaning, Panel, Query, Row, Step

STEPS: Final[Mapping[int, Meaning]] = {
    1: Meaning("idle", GREY),
    2: Meaning("preflight", BLUE),
    3: Meaning("pausing", ORANGE),
    4: Meaning("draining", ORANGE),
    5: Meaning("verifying", ORANGE),
    6: Meaning("switching", PURPLE),
    7: Meaning("done", GREEN),
    8: Meaning("aborted", RED),
}


def _step_number() -> str:
    each = [promql.flow("crossfade_cutover_step", f'step="{meaning.text}"') for meaning in STEPS.values()]
    return promql.most(shared.numbered(each), promql.PER_FLOW)


ROW: Final = Row(
    "Cutover",
    (
        Panel(
            kind=Kind.STATES,
            title="Step of the cutover",
            description="Where the switch is. Until switching it can be aborted, and goes back to where it was.",
            unit="none",
            queries=(Query(_step_number(), "step"),),
            width=8,
            meanings=STEPS,
            steps=(Step(None, GREY),),
            empty="no cutover",
        ),
        Panel(
            kind=Kind.BARS,
            title="What stands in its way",
            description="Checks that say no. `crossfade cutover check` says of each what to do.",
            unit="short",
            queries=(
                Query(f"max by (workflow, check) {promql.led(promql.flow('crossfade_cutover_blockers'))}", "{{check}}"),
            ),
            width=8,
            decimals=0,
            steps=(Step(None, GREEN), Step(1, RED)),
            empty="nothing known",
        ),
        Panel(
            kind=Kind.LINES,
            title="Writes paused",
            description="How long applications could not write, at rehearsals and at the switch itself: 95 of 100"
            " below.",
            unit="s",
            queries=(
                Query(
                    "histogram_quantile(0.95, sum by (le, workflow)"
                    f" (rate({promql.flow('crossfade_cutover_write_pause_seconds_bucket')}[$__rate_interval])))",
                    "paused",
                ),
            ),
            width=8,
            least=0,
            empty="never",
        ),
    ),
    collapsed=True,
)
