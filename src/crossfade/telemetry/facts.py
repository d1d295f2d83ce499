"""What alarms are judged by: the newest of each fact, and of some the last minutes.

Fed by events and a tick each second, with times handed in (monotonic seconds). Refuses to judge. The invariant: memory
does not grow with time: every window is bounded, the longest is a day of one number a minute.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from crossfade.events import (
    Acknowledged,
    Applied,
    CopyState,
    DiskMeasured,
    Event,
    Failed,
    LagMeasured,
    LeaderChanged,
    Paused,
    PauseReason,
    Phase,
    PhaseChanged,
    PipeLevel,
    Received,
    Recovered,
    SourceSampled,
)
from crossfade.lsn import NOWHERE, Lsn

# Errors that say nothing about what is applied: a line that is lost, a server that goes away, our role, a slot in use.
AWAY: Final = frozenset({"", "08", "28", "55", "57"})
_LAG_HISTORY: Final = 900
_SAFE_HISTORY: Final = 1800
_PACE_EVERY: Final = 30.0
_DAY_EVERY: Final = 60.0
_DAY: Final = 86_400.0


class Series:
    """Samples of the last `seconds`, one a second at the most."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._samples: deque[tuple[float, float]] = deque()

    def add(self, value: float, now: float) -> None:
        self.forget(now)
        if self._samples and now - self._samples[-1][0] < 0.9:
            return
        self._samples.append((now, value))

    def forget(self, now: float) -> None:
        while self._samples and self._samples[0][0] <= now - self._seconds:
            self._samples.popleft()

    def clear(self) -> None:
        self._samples.clear()

    def slope(self, *, over: float, now: float) -> float | None:
        """Change per second between the first and the last sample of the time; None when there are not two of them at
        least a tenth of the time apart."""
        within = [sample for sample in self._samples if sample[0] > now - over]
        if len(within) < 2 or within[-1][0] - within[0][0] < over / 10:
            return None
        return (within[-1][1] - within[0][1]) / (within[-1][0] - within[0][0])


class Counted:
    """Counts of the last `seconds`, by whole seconds."""

    def __init__(self, seconds: float, width: int) -> None:
        self._seconds = seconds
        self._width = width
        self._buckets: deque[list[float]] = deque()

    def add(self, amounts: Iterable[float], now: float) -> None:
        if not self._buckets or self._buckets[-1][0] != int(now):
            self._buckets.append([int(now), *([0.0] * self._width)])
            self._forget(now)
        for column, amount in enumerate(amounts, start=1):
            self._buckets[-1][column] += amount

    def sums(self, now: float) -> list[float]:
        self._forget(now)
        return [sum(bucket[column] for bucket in self._buckets) for column in range(1, self._width + 1)]

    def _forget(self, now: float) -> None:
        while self._buckets and self._buckets[0][0] <= now - self._seconds:
            self._buckets.popleft()


class Pace:
    """Seconds per 1,000 changes: of late, and over a day."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._batches = Counted(120, 2)
        self._late: deque[tuple[float, float]] = deque()
        self._day: deque[tuple[float, float]] = deque()

    def batch(self, seconds: float, changes: int, now: float) -> None:
        self._batches.add((seconds, changes), now)

    def tick(self, now: float, *, least_rate: float) -> None:
        """Take a sample when one is due; slower than `least_rate` (changes a second) there is none."""
        while self._late and self._late[0][0] <= now - 600:
            self._late.popleft()
        if not self._late or now - self._late[-1][0] >= _PACE_EVERY:
            seconds, changes = self._batches.sums(now)
            if changes / 120 > least_rate:
                self._late.append((now, 1000 * seconds / changes))
        late = self.late
        if late is not None and (not self._day or now - self._day[-1][0] >= _DAY_EVERY):
            self._day.append((now, late))
        while self._day and self._day[0][0] <= now - _DAY:
            self._day.popleft()

    @property
    def late(self) -> float | None:
        """95 of 100 samples of ten minutes are not above it."""
        if not self._late:
            return None
        ordered = sorted(value for _, value in self._late)
        return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]

    def usual(self, now: float) -> float | None:
        """The median of a day; None before there is a day to compare with."""
        if now - self._started < _DAY or not self._day:
            return None
        ordered = sorted(value for _, value in self._day)
        return ordered[len(ordered) // 2]


class Facts:
    """One daemon's, as they stand."""

    def __init__(self, started: float) -> None:
        self.phase = Phase.SETUP
        self.paused: PauseReason | None = None
        self.has_led = False
        self.stands_by = False
        self.failing_since: float | None = None
        self.failed_at: float | None = None  # in phase failed until then; each attempt to go on leaves it for a moment
        self.error = ""
        self.lag: float | None = None
        self.lag_bytes: int | None = None
        self.lags = Series(_LAG_HISTORY)
        self.durable: Lsn = NOWHERE
        self.moved_at = started
        self.heard_at = started
        self.changes = Counted(120, 1)
        self.tried = Counted(300, 2)  # failed, applied
        self.conflicts = Counted(600, 1)
        self.slot: SourceSampled | None = None
        self.safe = Series(_SAFE_HISTORY)
        self.queue: PipeLevel | None = None
        self.disks: dict[str, DiskMeasured] = {}
        self.copied_at = started
        self.pace = Pace(started)
        # Of batches since the last tick: thousands may come in a second.
        self._batches = self._changes = self._conflicts = 0
        self._seconds = 0.0

    @property
    def follows(self) -> bool:
        """In a phase in which there is a stream."""
        return self.phase in (Phase.CATCHUP, Phase.STREAMING)

    def observe(self, event: Event, now: float) -> None:
        match event:
            case Acknowledged():
                self._moved(event.position, now)
            case Applied():
                self._applied(event, now)
            case Received():
                self.heard_at = now
            case PipeLevel():
                self.queue = event
            case PhaseChanged():
                if event.phase is not self.phase:
                    self.failed_at = now if self.phase is Phase.FAILED else self.failed_at
                    self.phase, self.copied_at, self.heard_at = event.phase, now, now
            case Paused():
                self.paused, self.heard_at = event.reason, now
            case LeaderChanged():
                if not event.tries_again:
                    self.stands_by = not event.is_leader
                    self.has_led = self.has_led or event.is_leader
                if self.stands_by:
                    self._forget()
            case Failed():
                if self.failing_since is None:
                    self.failing_since = now
                self.error = event.text
                if event.component in ("apply", "stream") and event.sqlstate[:2] not in AWAY:
                    self.tried.add((1, 0), now)
            case Recovered():
                self.failing_since = self.failed_at = None
            case LagMeasured():
                self.lag, self.lag_bytes = event.seconds, event.bytes
                if event.seconds is not None:
                    self.lags.add(event.seconds, now)
            case SourceSampled():
                self.slot = event
                if event.safe_wal_size is not None:
                    self.safe.add(event.safe_wal_size, now)
                else:
                    self.safe.clear()
            case DiskMeasured():
                self.disks[event.endpoint] = event
            case CopyState():
                self.copied_at = now
            case _:
                pass

    def tick(self, now: float, *, least_rate: float) -> None:
        """Once a second, before anything is judged. `least_rate` is the pace's (changes a second)."""
        if self._batches:
            self.changes.add((self._changes,), now)
            self.tried.add((0, self._batches), now)
            self.conflicts.add((self._conflicts,), now)
            self.pace.batch(self._seconds, self._changes, now)
            self._batches = self._changes = self._conflicts = 0
            self._seconds = 0.0
        self.pace.tick(now, least_rate=least_rate)

    def _applied(self, event: Applied, now: float) -> None:
        self._moved(event.end_lsn, now)
        self._batches += 1
        self._changes += sum(event.changes.values())
        self._seconds += event.seconds
        if event.conflicts:
            self._conflicts += sum(event.conflicts.values())

    def _moved(self, position: Lsn, now: float) -> None:
        if position > self.durable:
            self.durable, self.moved_at = position, now

    def _forget(self) -> None:
        """Another one leads: what we knew of the stream is old news."""
        self.failing_since = self.failed_at = self.lag = self.lag_bytes = self.slot = self.queue = None
        self.has_led = False
        self.lags.clear()
        self.safe.clear()
        for endpoint in ("source", "target"):
            self.disks.pop(endpoint, None)
