"""What both dashboards have around their panels: the variables, and the moments marked on every plot."""

from __future__ import annotations

from tests.dashboards import promql
from tests.dashboards.parts import BLUE, RED, YELLOW, Choice, Mark


def choices(*, one_workflow: bool) -> tuple[Choice, ...]:
    """What can be chosen above the panels, beside the data source."""
    return (
        Choice(name="job", label="Job", metric="crossfade_up"),
        Choice(name="instance", label="Instance", metric="crossfade_up"),
        Choice(name="workflow", label="Workflow", metric="crossfade_up", multi=not one_workflow),
        Choice(name="direction", label="Direction", metric="crossfade_received_bytes_total"),
    )


def marks() -> tuple[Mark, ...]:
    """Phase changes, what fires, and restarts. Two minutes: at a scrape a minute there are two samples in it."""
    phase = promql.flow("crossfade_phase")
    return (
        Mark(
            name="Phase changes",
            expr=f"max by (workflow, phase) {promql.led(f'({phase} == 1 and changes({phase}[2m]) > 0)')}",
            title="{{workflow}}: {{phase}}",
            text="The phase became {{phase}}",
            color=BLUE,
        ),
        Mark(
            name="Alerts",
            expr=f"max by (alertname, severity, workflow, cause) ({promql.FIRING})",
            title="{{alertname}}",
            text="{{severity}} {{workflow}} {{cause}}",
            color=RED,
            enabled=False,  # they may be many; a click on their name shows them
        ),
        Mark(
            name="Restarts",
            expr="max by (instance, workflow)"
            f" (changes(process_start_time_seconds{{{promql.SCRAPED}}}[2m]) * {promql.OF_WORKFLOW}) > 0",
            title="{{instance}} was started",
            text="crossfade {{workflow}} on {{instance}} was started",
            color=YELLOW,
        ),
    )
