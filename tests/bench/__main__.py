"""`python -m tests.bench`: measure, print a Markdown table, write build/bench.json and build/bench-runs.json.

What counts and how it is kept fair is in docs/performance.md. Options come from the environment or the command line
(`make bench QUICK=1 ONLY=insert_backlog,latency DOCS=1 CURVES=1 BIG=1`). Exit code 1 when a contender's rows are wrong
or something could not be measured: then nothing is written.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.bench import copies, curves, drain, latency, resident, results
from tests.bench.backlogs import BACKLOGS, SIZES, Backlog
from tests.bench.compare import Expectation, WrongResult
from tests.bench.contenders import Contender, Crossfade, Native, publish
from tests.bench.ground import Ground, NotMeasured
from tests.bench.results import CROSSFADE, Run, Workload

_BEGAN: Final = time.monotonic()
ROOT: Final = Path(__file__).parents[2]
PERFORMANCE: Final = ROOT / "docs" / "performance.md"

WORKLOADS: Final = (
    *(Workload(name, "s") for backlog in BACKLOGS for name in (backlog, f"{backlog}_reshaped")),
    Workload(copies.COPY, "s", against=copies.PSQL),
    Workload(copies.RESHAPED, "s", against=copies.PSQL),
    Workload("latency_p50", "ms"),
    Workload("latency_p99", "ms"),
    Workload("idle", "%", against=""),
    Workload("memory", "MB", against=""),
    Workload(resident.LARGE.name, "MB", against=""),
)
# Words that stand for several.
_GROUPS: Final = {"latency": ("latency_p50", "latency_p99"), "memory": ("memory", resident.LARGE.name)}


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything: the table's sizes, or a tenth of them."""

    quick: bool

    def of(self, full: int) -> int:
        return full // 10 if self.quick else full

    @property
    def latency_s(self) -> float:
        return 1.5 if self.quick else 25.0

    @property
    def idle_s(self) -> float:
        return 6.0 if self.quick else 60.0


def chosen(only: str, known: Sequence[str]) -> list[str]:
    """What was asked for of what there is, in its order. Raises ValueError for a name there is none of."""
    if not only.strip():
        return list(known)
    wanted: set[str] = set()
    for word in (word.strip() for word in only.split(",") if word.strip()):
        names = _GROUPS.get(word, (word,))
        if not set(names) <= set(known):
            raise ValueError(f"ONLY: there is no {word!r}; there are: {', '.join(known)}")
        wanted.update(names)
    return [name for name in known if name in wanted]


class Session:
    """One run of the benchmark: every workload asked for, repetition by repetition."""

    def __init__(self, ground: Ground, sizes: Sizes, wanted: Sequence[str], repetitions: int) -> None:
        self.ground = ground
        self.sizes = sizes
        self.wanted = wanted
        self.repetitions = repetitions
        self.runs: list[Run] = []

    def measure(self) -> list[Run]:
        for name, backlog in BACKLOGS.items():
            if {name, f"{name}_reshaped"} & set(self.wanted):
                for number in range(self.repetitions):
                    self._backlog(backlog, number)
        if {copies.COPY, copies.RESHAPED} & set(self.wanted):
            self._copies()
        if {"latency_p50", "latency_p99"} & set(self.wanted):
            for number in range(self.repetitions):
                self._latency(number)
        if "idle" in self.wanted:
            for run in resident.idle(self.ground, self.sizes.idle_s):
                self._add(run)
        if resident.LARGE.name in self.wanted:
            self._add(resident.large_transaction(self.ground, self.sizes.of(resident.ROWS)))
        if "memory" in self.wanted:
            for run in [run for run in self.runs if run.peak_mb is not None]:
                assert run.peak_mb is not None
                self.runs.append(Run("memory", CROSSFADE, run.peak_mb, details={"of": run.workload}))
        return self.runs

    def _add(self, run: Run) -> None:
        unit = next(workload.unit for workload in WORKLOADS if workload.name == run.workload)
        cpu = ""
        if run.cpu is not None:
            parts = (run.cpu.source, run.cpu.daemon, run.cpu.target)
            cpu = "  CPU s " + " / ".join("-" if part is None else f"{part:.2f}" for part in parts)
        peak = f"  peak {run.peak_mb:.0f} MB" if run.peak_mb is not None else ""
        say(f"{run.workload:<26} {run.contender:<10} {run.value:9.2f} {unit}{cpu}{peak}")
        self.runs.append(run)

    def _backlog(self, backlog: Backlog, number: int) -> None:
        size = self.sizes.of(SIZES[backlog.name])
        taking_part = drain.entries(backlog, self.wanted, has_pglogical=self.ground.has_pglogical)
        say(f"{backlog.name}, repetition {number + 1}: preparing {size:,} ...")
        with drain.prepared(self.ground, backlog, size, taking_part, f"{backlog.name}_{number}") as repetition:
            expected = Expectation(repetition.source.admin)
            for entry, contender in drain.rotated(repetition.contenders, number):
                run = drain.drain(self.ground, repetition, entry, contender, expected)
                self._add(run)
                # The same run counts in both tables: what is not transformed has one time.
                self.runs += [replace(run, workload=other) for other in entry.workloads[1:]]

    def _copies(self) -> None:
        say("initial copy: preparing ...")
        with copies.filled(self.ground, self.sizes.of(copies.SIZE)) as source:
            expected = Expectation(source.admin)
            who = copies.plan(self.wanted)
            for number in range(self.repetitions):
                by = number % len(who)
                for name in [*who[by:], *who[:by]]:
                    run = copies.measure(self.ground, source, name, expected, f"{name}_{number}")
                    if name in (copies.COPY, copies.RESHAPED):
                        self._add(run)
                        continue
                    counted = [workload for workload in (copies.COPY, copies.RESHAPED) if workload in self.wanted]
                    self._add(replace(run, workload=counted[0]))
                    self.runs += [replace(run, workload=other) for other in counted[1:]]

    def _latency(self, number: int) -> None:
        kinds: list[type[Contender]] = [Native, Crossfade]
        for kind in kinds if number % 2 == 0 else reversed(kinds):
            tag = f"latency_{kind.name}_{number}"
            with ExitStack() as stack:
                source = stack.enter_context(self.ground.database(self.ground.source, f"s_{tag}"))
                target = stack.enter_context(self.ground.database(self.ground.target, f"t_{tag}"))
                source.execute(latency.LOAD.ddl)
                latency.LOAD.fill(self.ground, source, 0)
                target.execute(latency.LOAD.plain.ddl)
                publish(source, latency.LOAD.tables, ())
                contender = kind(self.ground, source, target, latency.LOAD, latency.LOAD.plain)
                contender.prepare()
                for run in latency.measure(self.ground, contender, source, self.sizes.latency_s):
                    self._add(run)


def say(text: str) -> None:
    """Progress goes to standard error; standard output is the table."""
    print(f"{time.monotonic() - _BEGAN:6.0f} s  {text}", file=sys.stderr, flush=True)


def _flag(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", default=_flag("QUICK"), help="a tenth of the size")
    parser.add_argument("--only", default=os.environ.get("ONLY", ""), help="workloads, separated by commas")
    parser.add_argument("--repetitions", type=int, default=int(os.environ.get("REPETITIONS") or 3))
    parser.add_argument("--docs", action="store_true", default=_flag("DOCS"), help="write docs/performance.md's table")
    parser.add_argument("--curves", action="store_true", default=_flag("CURVES"), help="how the cost grows, as SVG")
    parser.add_argument("--big", action="store_true", default=_flag("BIG"), help="curves up to 10 million changes")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    arguments = _arguments(given)
    try:
        known = [each.name for each in (curves.CURVES if arguments.curves else WORKLOADS)]
        wanted = chosen(arguments.only, known)
    except ValueError as error:
        say(str(error))
        return 2
    try:
        with Ground() as ground:
            machine = ground.machine()
            machine["sizes"] = "a tenth (QUICK)" if arguments.quick else "as in the table"
            machine["repetitions"] = arguments.repetitions
            if not ground.has_pglogical:
                say("pglogical is not installed for this server and does not take part.")
            if copies.PGCOPYDB not in copies.plan([copies.COPY]):
                say("pgcopydb is not installed and does not take part.")
            machine["not_installed"] = ", ".join(_absent(ground)) or "nothing"
            if arguments.curves:
                drawn = curves.measure(ground, wanted, quick=arguments.quick, big=arguments.big, say=say)
                if arguments.docs:
                    _write(curves=curves.markdown(drawn))
            else:
                runs = Session(ground, Sizes(arguments.quick), wanted, arguments.repetitions).measure()
                machine["fdatasync_ms_at_the_end"] = ground.flush_ms()
                _report(machine, runs, docs=arguments.docs)
    except (WrongResult, NotMeasured, AssertionError) as error:
        say(f"FAILED: {error}")
        return 1
    say("done")
    return 0


def _absent(ground: Ground) -> list[str]:
    absent = [] if ground.has_pglogical else ["pglogical"]
    return absent if copies.PGCOPYDB in copies.plan([copies.COPY]) else [*absent, "pgcopydb"]


def _report(machine: dict[str, object], runs: list[Run], *, docs: bool) -> None:
    report = results.document(machine, WORKLOADS, runs)
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    (build / "bench.json").write_text(json.dumps(report, indent=2) + "\n")
    (build / "bench-runs.json").write_text(json.dumps(results.details(runs), indent=2) + "\n")
    print(results.table(report))
    print()
    print(results.machine_lines(machine))
    if docs:
        _write(table=results.table(report), limits=results.limits(report), machine=results.machine_lines(machine))


def _write(**sections: str) -> None:
    text = PERFORMANCE.read_text()
    for name, body in sections.items():
        text = results.put(text, name, body)
    PERFORMANCE.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
