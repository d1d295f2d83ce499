"""How fast things go: averages over a short window, and a smoothed rate for estimating when a copy ends.

Pure arithmetic on times handed in (monotonic seconds). Refuses to know what is counted. The invariant: memory does
not grow with time or with the number of events.
"""

from __future__ import annotations

import math
from collections import deque


class Window:
    """Counts per whole second over the last `seconds`, for an average that is honest right after a start."""

    def __init__(self, *, seconds: int, width: int, started: float) -> None:
        self._seconds = seconds
        self._width = width
        self._started = started
        self._buckets: deque[tuple[int, list[float]]] = deque()

    def add(self, amounts: tuple[float, ...], *, now: float) -> None:
        """Count `amounts` (one per column of the window) as having happened now."""
        second = int(now)
        if not self._buckets or self._buckets[-1][0] < second:
            self._buckets.append((second, [0.0] * self._width))
            self._forget(now)
        column = self._buckets[-1][1]
        for index, amount in enumerate(amounts):
            column[index] += amount

    def per_second(self, *, now: float) -> tuple[float, ...]:
        """The average of each column over the window, or over the time since the start when that is shorter."""
        self._forget(now)
        elapsed = max(1.0, min(float(self._seconds), now - self._started))
        return tuple(sum(bucket[index] for _, bucket in self._buckets) / elapsed for index in range(self._width))

    def _forget(self, now: float) -> None:
        while self._buckets and self._buckets[0][0] <= now - self._seconds:
            self._buckets.popleft()


class SmoothedRate:
    """An exponentially smoothed rate per second: recent seconds count most, a short stall does not jerk the estimate.

    `memory` is the time in seconds after which an observation has lost about two thirds of its weight.
    """

    def __init__(self, *, memory: float) -> None:
        self._memory = memory
        self._since: float | None = None
        self._gathered = 0.0
        self._rate: float | None = None

    def add(self, amount: float, *, now: float) -> None:
        """Count `amount` as done between the last call and now."""
        if self._since is None:
            self._since = now  # what was done before the first look has no duration
            return
        self._gathered += amount
        elapsed = now - self._since
        if elapsed < 1.0:  # many tables report in the same moment; a rate over microseconds is noise
            return
        measured = self._gathered / elapsed
        weight = 1.0 if self._rate is None else 1.0 - math.exp(-elapsed / self._memory)
        self._rate = measured if self._rate is None else self._rate + weight * (measured - self._rate)
        self._since, self._gathered = now, 0.0

    @property
    def per_second(self) -> float | None:
        """None before one second of work was seen."""
        return self._rate
