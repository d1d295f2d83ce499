"""Expressions as the dashboards need them: every series restricted by the variables, gauges to who speaks.

Refuses to know panels. The invariant: what a former leader or a standby shows of positions, slot and copy is never
drawn - they know none, or knew one long ago - and every selector carries the variables its metric has labels for.
"""

from __future__ import annotations

from typing import Final

SCRAPED: Final = 'job=~"$job", instance=~"$instance"'
FLOW: Final = f'{SCRAPED}, workflow=~"$workflow"'
STREAM: Final = f'{FLOW}, direction=~"$direction"'
PER_FLOW: Final = "workflow"
PER_STREAM: Final = "workflow, direction"


# What fires, but for the one that always does, so that its absence is noticed. Alerts that are reckoned over all
# instances carry neither job nor instance, and that of a workflow nobody has heard of carries none.
FIRING: Final = (
    'ALERTS{alertname=~"Crossfade.*", alertname!="CrossfadeWatchdog", alertstate="firing", workflow=~"$workflow|"}'
)


def flow(metric: str, matchers: str = "") -> str:
    """A series of the workflow as a whole; `matchers` as PromQL writes them."""
    return _series(metric, FLOW, matchers)


def stream(metric: str, matchers: str = "") -> str:
    """A series of one direction of the workflow."""
    return _series(metric, STREAM, matchers)


def _series(metric: str, variables: str, matchers: str) -> str:
    return f"{metric}{{{', '.join(filter(None, (variables, matchers)))}}}"


def led(expr: str) -> str:
    """What is said of it by who speaks for the workflow: the leader or, when nobody leads, who waits after an error."""
    leader, waiting = f"{flow('crossfade_leader')} == 1", f"{flow('crossfade_up')} == 0"
    return f"({expr} and on (job, instance, workflow) ({leader} or {waiting} unless on (workflow) {leader}))"


def most(expr: str, by: str = PER_STREAM) -> str:
    """The leader's value, without the labels of where it was scraped."""
    return f"max by ({by}) {led(expr)}"


def per_second(series: str, by: str = PER_STREAM) -> str:
    """How fast counters grow, of all instances together: a standby's do not."""
    return f"sum by ({by}) (rate({series}[$__rate_interval]))"


def grown(series: str, by: str = PER_STREAM, over: str = "$__range") -> str:
    """By how much counters grew in the time shown."""
    return f"sum by ({by}) (increase({series}[{over}]))"


def quantile(share: float, histogram: str, by: str = PER_STREAM, *, labels: str = "") -> str:
    """A quantile of what was observed lately."""
    buckets = stream(f"{histogram}_bucket", labels)
    return f"histogram_quantile({share}, sum by (le, {by}) (rate({buckets}[$__rate_interval])))"


def process(metric: str) -> str:
    """A series of the process, named after its workflow."""
    return f"{metric}{{{SCRAPED}}} * {OF_WORKFLOW}"


def process_per_second(metric: str) -> str:
    """How fast a counter of the process grows, named after its workflow."""
    return f"rate({metric}{{{SCRAPED}}}[$__rate_interval]) * {OF_WORKFLOW}"


# Joined to what knows no workflow.
OF_WORKFLOW: Final = f"on (job, instance) group_left (workflow) ({flow('crossfade_up')} >= bool 0)"
