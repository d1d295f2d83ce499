"""What both dashboards say: phases as numbers with names and colours, thresholds, the share of batches that failed.

The numbers of the thresholds are those of the alert rules, read from their file, so that a line on a plot and the page
that wakes somebody never disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from crossfade.events import Phase
from tests.dashboards import promql
from tests.dashboards.parts import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, YELLOW, Meaning, Step
from tests.unit.deploy import rules

LIMITS: Final[Mapping[str, float]] = rules.thresholds()

_COLORS: Final = {
    Phase.SETUP: BLUE,
    Phase.COPY: BLUE,
    Phase.CATCHUP: YELLOW,
    Phase.STREAMING: GREEN,
    Phase.CUTOVER: PURPLE,
    Phase.REVERSE: PURPLE,
    Phase.COMPLETE: GREY,
    Phase.FAILED: RED,
}
PHASES: Final[Mapping[int, Meaning]] = {
    **{number: Meaning(phase.value, _COLORS[phase]) for number, phase in enumerate(Phase, start=1)},
    len(Phase) + 1: Meaning("paused", ORANGE),
}

YES_NO: Final[Mapping[int, Meaning]] = {0: Meaning("no", RED), 1: Meaning("yes", GREEN)}


def phase_number() -> str:
    """The leader's phase as a number of PHASES; paused wins over all of them."""
    each = [promql.flow("crossfade_phase", f'phase="{phase.value}"') for phase in Phase]
    each.append(promql.flow("crossfade_paused"))
    return promql.most(numbered(each), promql.PER_FLOW)


def numbered(states: Iterable[str]) -> str:
    """The number, counted from 1, of each state that is 1."""
    return "(\n  " + "\n  or ".join(f"{number} * ({state} == 1)" for number, state in enumerate(states, 1)) + "\n)"


def steps(warning: float, critical: float | None = None) -> tuple[Step, ...]:
    """Green, then orange, then red."""
    return (
        Step(None, GREEN),
        Step(warning, ORANGE if critical is not None else RED),
        *(() if critical is None else (Step(critical, RED),)),
    )


LAG_STEPS: Final = steps(LIMITS["lag_warning_seconds"], LIMITS["lag_critical_seconds"])
WAL_STEPS: Final = steps(LIMITS["slot_retention_warning_ratio"], LIMITS["slot_retention_critical_ratio"])
ERROR_STEPS: Final = steps(LIMITS["error_ratio"])
DISK_STEPS: Final = steps(1 - LIMITS["disk_free_ratio"])
NEVER: Final = steps(1)  # one is one too many

# As in the rule CrossfadeHighErrorRate: a line that is lost and a slot still in use are no failed batch.
_FAILED: Final = 'component=~"stream|apply", sqlstate_class!~"08|28|55|57|--"'


def failed_share() -> str:
    """Failed batches of all that were tried; nothing while nothing is tried."""
    failed = promql.per_second(promql.flow("crossfade_errors_total", _FAILED), promql.PER_FLOW)
    done = promql.per_second(promql.flow("crossfade_batches_total"), promql.PER_FLOW)
    return f"{failed}\n/ (\n  {failed}\n  + {done}\n  > 0\n)"


def wal_share() -> str:
    """WAL the slot keeps of what the source lets it keep; nothing where that is unlimited."""
    retained = promql.stream("crossfade_slot_retained_wal_bytes")
    limit = promql.stream("crossfade_slot_wal_keep_limit_bytes")
    return promql.most(f"{retained} / ({limit} > 0)")


def queue_share() -> str:
    """How full the pipe between reading and applying is."""
    return promql.most(f"{promql.stream('crossfade_queue_bytes')} / {promql.stream('crossfade_queue_limit_bytes')}")


def disk_used() -> str:
    """How full the disks are whose size is known: our own host's, and the servers' by their disk_capacity."""
    return f"1 - {promql.flow('crossfade_disk_free_bytes')} / {promql.flow('crossfade_disk_capacity_bytes')}"


def changes_per_second(by: str = promql.PER_STREAM) -> str:
    """Row changes made durable on the target."""
    return promql.per_second(promql.stream("crossfade_changes_applied_total"), by)


def seconds_per_thousand() -> str:
    """Time to apply 1,000 changes, as the rule CrossfadePerformanceDegradation reckons."""
    spent = promql.per_second(promql.stream("crossfade_apply_duration_seconds_sum"))
    changes = promql.per_second(promql.stream("crossfade_apply_batch_changes_sum"))
    return f"1000 * {spent} / ({changes} > 0)"
