"""A campaign: a seed, a number of faults or of seconds, and the same three questions after every one of them.

Are both sides equal, did no position go back, was nothing acknowledged early? The daemon is killed during the copy
first, then the menu is served in an order the seed decides, each dish before any comes twice. The invariant: a
campaign that ends well has injected what it says, because every fault brings its own proof.

`python -m tests.chaos.campaign --seed 7 --faults 500` (or `--seconds 600`).
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from tests.chaos import faults
from tests.chaos.faults import MENU, Fault, Missed
from tests.chaos.stage import Stage, say, wait_until
from tests.oracles.verdict import Verdict


@dataclass
class Report:
    """What was done, and what it took."""

    seed: int
    injected: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    proxies: Counter[str] = field(default_factory=Counter)
    verdict: Verdict = field(default_factory=Verdict)
    copies_killed: int = 0
    slowest: float = 0.0

    def __str__(self) -> str:
        counts = self.verdict.counts
        head = f"seed {self.seed}: {self.injected.total()} faults, the copy killed {self.copies_killed} times"
        return "\n".join(
            [
                f"{head}, slowest recovery {self.slowest:.1f} s",
                f"injected {dict(self.injected)}",
                f"missed {dict(self.missed)}",
                f"on the wire {dict(self.proxies)}",
                f"observed {dict(sorted(counts.items()))}",
            ]
        )


def kill_copy(stage: Stage, rng: random.Random, times: int) -> int:
    """kill -9 at random moments of the initial copy; returns how many hit it. The link is slow meanwhile."""
    hits = 0
    stage.to_target.throttle(400_000)
    stage.start()
    for _ in range(times):
        wait_until(lambda: stage.daemon.phase() in {"setup", "copy"} or not stage.daemon.running, "the copy", 60)
        stage.require_running()
        time.sleep(rng.uniform(0.0, 1.5))
        before = _tables_left(stage)
        stage.daemon.kill9()
        if before != 0:
            hits += 1
        stage.daemon.start()
    stage.to_target.throttle(0)
    return hits


def _tables_left(stage: Stage) -> int:
    """Tables not copied yet; -1 before that is known."""
    try:
        with psycopg.connect(stage.world.target) as session:
            row = session.execute("SELECT count(*) FROM crossfade.copy_tables WHERE state <> 'done'").fetchone()
            known = session.execute("SELECT count(*) FROM crossfade.copy_tables").fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return -1
    assert row is not None
    assert known is not None
    return int(str(row[0])) if known != (0,) else -1


def run(
    folder: Path,
    *,
    seed: int,
    count: int | None = None,
    seconds: float | None = None,
    menu: Sequence[Fault] = MENU,
    copy_kills: int = 3,
    bulk: int = 30_000,
    pace: float = 0.03,
) -> Report:
    """One campaign. Raises `AssertionError` with everything there is to know when an oracle has found something."""
    rng = random.Random(seed)
    report = Report(seed)
    began = time.monotonic()
    with Stage(folder, seed=seed, bulk=bulk, pace=pace) as stage:
        report.verdict = stage.verdict
        say(f"seed {seed}: {stage.source} to {stage.target}")
        report.copies_killed = kill_copy(stage, rng, copy_kills)
        try:
            stage.wait_for_phase("streaming", seconds=60)
        except AssertionError:
            raise AssertionError(f"not streaming after the copy\n{stage.situation()}") from None
        stage.settle()
        say(f"copied, killed {report.copies_killed} times meanwhile; equal")
        served: list[Fault] = []
        while True:
            done = report.injected.total()
            if (count is not None and done >= count) or (seconds is not None and time.monotonic() - began > seconds):
                break
            if report.missed.total() > 20 + done:
                raise AssertionError(f"most faults found nobody to hurt: {dict(report.missed)}\n{stage.situation()}")
            if not served:
                served = list(menu)
                rng.shuffle(served)
            one_round(stage, served.pop(), rng, report)
            report.proxies = stage.to_source.counts + stage.to_target.counts
        stage.gate.pause()
        stage.compare()
        wait_until(lambda: stage.verdict.counts["snapshots"] > 0, "snapshots")
    stage.verdict.require_clean()
    return report


def one_round(stage: Stage, fault: Fault, rng: random.Random, report: Report) -> None:
    """One fault under load, then rest, then the three questions."""
    stage.require_running()
    time.sleep(rng.uniform(0.1, 0.6))  # load at work
    try:
        told = fault(stage, rng)
    except Missed as missed:
        report.missed[fault.__name__] += 1
        told = f"missed: {missed}"
    else:
        report.injected[fault.__name__] += 1
    stage.verdict.note(f"{fault.__name__}: {told}")
    for proxy in (stage.to_source, stage.to_target):
        proxy.heal()
    took = stage.settle()
    report.slowest = max(report.slowest, took)
    say(f"{report.injected.total():4} {fault.__name__}: {told}; caught up after {took:.1f} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--faults", type=int, default=None)
    parser.add_argument("--seconds", type=float, default=None)
    parser.add_argument("--only", action="append", default=[], help="serve only these faults")
    parser.add_argument("--pace", type=float, default=0.03, help="seconds between the transactions of one writer")
    given = parser.parse_args()
    if given.faults is None and given.seconds is None:
        given.faults = len(MENU)
    menu = [getattr(faults, name) for name in given.only] or MENU
    folder = Path(tempfile.mkdtemp(prefix="crossfade-chaos-"))
    try:
        report = run(folder, seed=given.seed, count=given.faults, seconds=given.seconds, menu=menu, pace=given.pace)
    except AssertionError as error:
        print(f"FAILED, seed {given.seed}; logs in {folder}\n{error}")
        return 1
    print(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
