"""CPU seconds and peak memory of processes, as /proc tells of them.

A server is a tree: its postmaster, whatever backends live now, and those that have ended, whose time their parent
keeps once it has reaped them. Refuses to know what the processes do. The invariant: no time is counted twice, and none
is lost when a process ends between two samples.

proc(5): "/proc/pid/stat".
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_LOOKS: Final = 50  # a few milliseconds each


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc: `ticks` are its own time and that of its reaped children, user and system."""

    pid: int
    parent: int
    ticks: int


@dataclass(frozen=True, slots=True)
class Cpu:
    """Seconds since some moment, or between two; None where a contender has no such part."""

    source: float
    daemon: float | None
    target: float

    def since(self, before: Cpu) -> Cpu:
        daemon = None if self.daemon is None or before.daemon is None else self.daemon - before.daemon
        return Cpu(self.source - before.source, daemon, self.target - before.target)


def parse_stat(text: str) -> Process:
    """One /proc/PID/stat. The name, in parentheses, may hold spaces and parentheses of its own."""
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    return Process(int(head.partition(" ")[0]), int(fields[1]), sum(map(int, fields[11:15])))


def processes(*first: int) -> list[Process]:
    """Everything that runs, and what has ended and was not reaped yet; `first` are read before all others."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    found: list[Process] = []
    for pid in (*first, *(pid for pid in pids if pid not in first)):
        with contextlib.suppress(OSError):
            found.append(parse_stat(Path(f"/proc/{pid}/stat").read_text(errors="replace")))
    return found


def tree(root: int, among: Iterable[Process]) -> list[Process]:
    """The process and all its descendants."""
    children: Mapping[int, list[Process]] = defaultdict(list)
    by_pid: dict[int, Process] = {}
    for process in among:
        by_pid[process.pid] = process
        children[process.parent].append(process)
    found: list[Process] = []
    waiting = [by_pid[root]] if root in by_pid else []
    while waiting:
        process = waiting.pop()
        found.append(process)
        waiting += children[process.pid]
    return found


def seconds(root: int, among: Iterable[Process]) -> float:
    """CPU seconds a process tree has used so far."""
    return sum(process.ticks for process in tree(root, among)) / _TICKS


Look = Callable[..., Sequence[Process]]


def settled(roots: Sequence[int], look: Look = processes) -> Sequence[Process]:
    """One look at all processes in which nobody below the roots was lost.

    A process that is reaped after its parent was read and before it was read itself would count nowhere: a backend
    that ends with its COPY does just that. So parents are read first, and a look counts only when it found everybody
    whom the one before it had found.
    """
    before = look(*roots)
    for _ in range(_LOOKS):
        now = look(*roots)
        if all(_pids(root, before) <= _pids(root, now) for root in roots):
            return now
        before = now
    return before


def _pids(root: int, among: Iterable[Process]) -> set[int]:
    return {process.pid for process in tree(root, among)}


def sample(*, source: int, daemon: int | None, target: int) -> Cpu:
    """The three trees at one moment, by the process ids of their roots."""
    now = settled([pid for pid in (source, daemon, target) if pid is not None])
    return Cpu(seconds(source, now), None if daemon is None else seconds(daemon, now), seconds(target, now))


def peak_mb(root: int) -> float:
    """VmHWM, the most resident memory since its start, in MB (2**20); of a tree, the sum."""
    total = 0
    for process in tree(root, processes()):
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return total / 1024
