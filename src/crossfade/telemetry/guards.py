"""What the guards decide: when to pause by ourselves and when to go on, and when the slot is to be given up.

Observations in, decisions out; times are handed in (monotonic seconds). Refuses to measure, to pause and to drop
anything itself: `runtime/guarding` does. The invariants: a guard knows its own reasons only, so that what an operator
paused stays paused; it pauses at once and goes on with a distance, so that nothing flaps; and the slot is never given
up for one odd look.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from typing import Final

from crossfade.events import PauseReason

WINDOW_SECONDS: Final = 300.0  # of the error rate, as in the alert HighErrorRate
LEAST_FAILURES: Final = 5  # fewer say nothing about a rate
LOOKS: Final = 5  # in a row past a limit of WAL: one odd look is none
# Going on takes more room than pausing left: else the first batch would pause it again.
_OWN_DISK_DISTANCE: Final = 2.0
_CAPACITY_DISTANCE: Final = 0.98
# Whoever had to pause again so soon after going on waits twice as long before the next try.
_SOON: Final = 300.0
_LONGEST_PATIENCE: Final = 600.0


class Retention(enum.Enum):
    """How much WAL the slot keeps, against the two limits."""

    FINE = "fine"
    SOFT = "soft"
    HARD = "hard"


@dataclass(frozen=True, slots=True)
class Limits:
    """What is allowed; bytes, seconds and ratios. None: no such limit."""

    own_disk_reserve: int = 256 * 1024**2
    target_capacity: int | None = None
    error_ratio: float = 0.5
    probe_interval: float = 30.0
    wal_soft: int | None = None
    wal_hard: int | None = None
    gives_up_slot: bool = False


class _Patience:
    """How long to wait before the next try: twice as long each time it was too early."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._lifted: float | None = None

    def begin(self, shortest: float, now: float) -> float:
        """The wait before the first try of a new pause."""
        soon = self._lifted is not None and now - self._lifted < _SOON
        self._seconds = max(shortest, min(_LONGEST_PATIENCE, self._seconds * 2)) if soon else shortest
        return self._seconds

    def lifted(self, now: float) -> None:
        self._lifted = now


class Guards:
    """One workflow's guards. `limits` may be exchanged at any time."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._own_disk = False
        self._over_capacity = False
        self._refused = False  # the target said that its disk is full
        self._probe_at = 0.0
        self._probing = _Patience()
        self._tried: deque[list[float]] = deque()  # second, failed, applied
        self._applied = 0  # and not counted there yet
        self._tripped_until: float | None = None
        self._cooling = _Patience()
        self._soft_looks = self._hard_looks = 0

    # the whole -----------------------------------------------------------------------------------------------------

    def reasons(self, now: float) -> frozenset[PauseReason]:
        """What the guards pause for now. To be asked every second."""
        if self._applied:
            self._try(now)
        if self._tripped_until is not None and now >= self._tripped_until:
            # One try: the window begins anew, and a rate that is still bad trips it again, for longer.
            self._tripped_until = None
            self._tried.clear()
            self._cooling.lifted(now)
        found = {
            PauseReason.TARGET_FULL: self._refused or self._over_capacity,
            PauseReason.OWN_DISK: self._own_disk,
            PauseReason.ERROR_RATE: self._tripped_until is not None,
        }
        return frozenset(reason for reason, holds in found.items() if holds)

    def take_over(self, reason: PauseReason, now: float) -> None:
        """A daemon before us paused for this. What holds is found again; what cannot be measured is tried soon."""
        if reason is PauseReason.TARGET_FULL:
            self._refused, self._probe_at = True, now
        elif reason is PauseReason.ERROR_RATE and self._tripped_until is None:
            self._tripped_until = now + self.limits.probe_interval

    def resumed(self) -> None:
        """An operator says go: whatever still holds must show itself again."""
        self._own_disk = self._over_capacity = self._refused = False
        self._tripped_until = None
        self._tried.clear()

    # disks ---------------------------------------------------------------------------------------------------------

    def own_disk(self, free: int | None) -> None:
        """Bytes free on our own disk; None where it is not watched."""
        reserve = self.limits.own_disk_reserve
        if free is None or free >= reserve * _OWN_DISK_DISTANCE:
            self._own_disk = False
        elif free < reserve:
            self._own_disk = True

    def target_used(self, used: int | None) -> None:
        """Bytes in use on the target, against the capacity it is said to have."""
        capacity = self.limits.target_capacity
        if capacity is None or used is None:
            self._over_capacity = self._over_capacity and capacity is not None
        elif used >= capacity:
            self._over_capacity = True
        elif used < capacity * _CAPACITY_DISTANCE:
            self._over_capacity = False

    def target_refused(self, now: float) -> None:
        """The target said that its disk is full (SQLSTATE 53100)."""
        if not self._refused:
            self._refused = True
            self._probe_at = now + self._probing.begin(self.limits.probe_interval, now)

    def wants_probe(self, now: float) -> bool:
        """Whether it is time to try if the target has room again."""
        return self._refused and now >= self._probe_at

    def probed(self, *, has_room: bool, now: float) -> None:
        """A probe was written, or refused."""
        if has_room:
            self._refused = False
            self._probing.lifted(now)
        else:
            self._probe_at = now + self.limits.probe_interval

    # errors --------------------------------------------------------------------------------------------------------

    def applied(self) -> None:
        """A batch is durable. There may be thousands in a second: they are counted when `reasons` is asked for."""
        self._applied += 1

    def failed(self, now: float) -> None:
        """An attempt to apply failed, and would be made again by itself."""
        self._try(now)[1] += 1
        failed = sum(second[1] for second in self._tried)
        every = failed + sum(second[2] for second in self._tried)
        if self._tripped_until is None and failed >= LEAST_FAILURES and failed / every > self.limits.error_ratio:
            self._tripped_until = now + self._cooling.begin(self.limits.probe_interval, now)

    def _try(self, now: float) -> list[float]:
        """The counts of this second."""
        while self._tried and self._tried[0][0] < now - WINDOW_SECONDS:
            self._tried.popleft()
        if not self._tried or self._tried[-1][0] != int(now):
            self._tried.append([int(now), 0.0, 0.0])
        self._tried[-1][2] += self._applied
        self._applied = 0
        return self._tried[-1]

    # WAL on the source ---------------------------------------------------------------------------------------------

    def slot(self, retained: int) -> None:
        """A fresh look at the slot: bytes of WAL it keeps."""
        self._soft_looks = self._soft_looks + 1 if _is_past(retained, self.limits.wal_soft) else 0
        self._hard_looks = self._hard_looks + 1 if _is_past(retained, self.limits.wal_hard) else 0

    @property
    def retention(self) -> Retention:
        """Against the limits, as seen several times in a row."""
        if self._hard_looks >= LOOKS:
            return Retention.HARD
        return Retention.SOFT if self._soft_looks >= LOOKS else Retention.FINE

    @property
    def gives_up_slot(self) -> bool:
        """The source is to be saved, at the price of a new copy."""
        return self.limits.gives_up_slot and self.retention is Retention.HARD


def _is_past(retained: int, limit: int | None) -> bool:
    return limit is not None and retained > limit
