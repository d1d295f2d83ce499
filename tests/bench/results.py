"""What was measured, and the two forms in which it leaves: build/bench.json and a Markdown table.

Refuses to know how anything was measured. The invariant: every number shown is the median of the runs recorded, and
its smallest and largest are shown beside it; nothing is left out and nothing is averaged away.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from tests.bench.cpu import Cpu

NATIVE: Final = "native"
CROSSFADE: Final = "crossfade"
BEGIN: Final = "<!-- benchmark: begin ({}) -->"
END: Final = "<!-- benchmark: end ({}) -->"


@dataclass(frozen=True, slots=True)
class Run:
    """One contender, once. `startup_s` is what its daemon took before the clock began; None: it has none."""

    workload: str
    contender: str
    value: float
    cpu: Cpu | None = None
    startup_s: float | None = None
    peak_mb: float | None = None
    details: Mapping[str, object] = field(default_factory=dict)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of all values do not exceed. Raises ValueError for none."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    rank = -(-len(ordered) * share // 1)  # rounded up
    return ordered[max(0, min(len(ordered), int(rank)) - 1)]


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """median, min, max and the medians of the CPU seconds of one contender's runs."""
    values = [run.value for run in runs]
    cpus = [run.cpu for run in runs if run.cpu is not None]

    def middle(part: str) -> float | None:
        known = [getattr(cpu, part) for cpu in cpus if getattr(cpu, part) is not None]
        return round(statistics.median(known), 3) if known else None

    return {
        "median": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
        "cpu_s": {part: middle(part) for part in ("source", "daemon", "target")},
    }


@dataclass(frozen=True, slots=True)
class Workload:
    """A row of the report. `against` is who crossfade is compared with; "" when it stands alone."""

    name: str
    unit: str
    against: str = NATIVE


def document(machine: Mapping[str, object], workloads: Sequence[Workload], runs: Sequence[Run]) -> dict[str, Any]:
    """build/bench.json. A workload without runs is left out; one without a peer has the ratio null."""
    found: dict[str, Any] = {}
    for workload in workloads:
        by_contender: dict[str, list[Run]] = {}
        for run in runs:
            if run.workload == workload.name:
                by_contender.setdefault(run.contender, []).append(run)
        if not by_contender:
            continue
        contenders = {name: summary(theirs) for name, theirs in by_contender.items()}
        ratio = None
        if workload.against in contenders and contenders.get(CROSSFADE, {}).get("median"):
            ratio = round(contenders[workload.against]["median"] / contenders[CROSSFADE]["median"], 3)
        found[workload.name] = {"unit": workload.unit, "contenders": contenders, "ratio": ratio}
    return {"machine": dict(machine), "workloads": found}


def details(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Every single run, for whoever wants to look behind the medians."""
    return [asdict(run) for run in runs]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if value < 100 else f"{value:,.0f}"


def table(report: Mapping[str, Any]) -> str:
    """The document as a Markdown table, a line for each workload and contender.

    The ratio stands beside whoever crossfade is compared with: how many times as long they took as crossfade did.
    """
    lines = [
        "| workload | contender | median | min to max | CPU s source | CPU s daemon | CPU s target | ratio |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, workload in report["workloads"].items():
        ours = workload["contenders"].get(CROSSFADE, {}).get("median")
        for contender, found in workload["contenders"].items():
            cells = [
                name,
                contender,
                f"{_number(found['median'])} {workload['unit']}",
                f"{_number(found['min'])} to {_number(found['max'])}",
                *(_number(found["cpu_s"][part]) for part in ("source", "daemon", "target")),
                f"**{found['median'] / ours:.2f}**" if ours and contender != CROSSFADE else "",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def limits(report: Mapping[str, Any]) -> str:
    """For each timed workload of crossfade: how busy each part was while it ran, as percent of one core."""
    lines = ["| workload | source | daemon | target | busiest |", "|---|---:|---:|---:|---|"]
    for name, workload in report["workloads"].items():
        ours = workload["contenders"].get(CROSSFADE)
        if ours is None or workload["unit"] != "s" or not ours["median"]:
            continue
        busy = {part: 100 * (used or 0.0) / ours["median"] for part, used in ours["cpu_s"].items()}
        cells = [name, *(f"{share:.0f} %" for share in busy.values()), max(busy, key=lambda part: busy[part])]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def machine_lines(machine: Mapping[str, object]) -> str:
    """The machine and the settings, as a Markdown list."""
    lines: list[str] = []
    for name, value in machine.items():
        shown = ", ".join(f"{k} = {v}" for k, v in value.items()) if isinstance(value, Mapping) else str(value)
        lines.append(f"- {name.replace('_', ' ')}: {shown}")
    return "\n".join(lines)


def put(text: str, section: str, body: str) -> str:
    """The document's text with what lies between the section's two marks replaced. Raises ValueError without them."""
    begin, end = BEGIN.format(section), END.format(section)
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"no marks for {section!r}: {begin}")
    return pattern.sub(lambda _: f"{begin}\n{body}\n{end}", text, count=1)
