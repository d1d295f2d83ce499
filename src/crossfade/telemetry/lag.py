"""How far behind we are, by the source's clock alone (K1).

Each second the source is asked for its time and the end of its log. When the durable position has passed such a
sample, everything committed before that moment is on the target; the age of the newest sample passed is the lag.
No commit time and no clock of ours takes part, so skewed clocks cannot make it negative or huge, and an idle source
does not look like a growing lag. Refuses to know who samples and who shows the answer. The invariant: an answer is
never younger than the truth, and memory is bounded however long the target stands still.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from crossfade.lsn import Lsn

# A month of standing still needs about 500 * (1 + ln(2.6 million / 500)) = 4,800 samples at one part in 500.
_MOST_SAMPLES: Final = 8192
_PRECISION: Final = 1 / 500


class Sample(NamedTuple):
    """One look at the source: its clock (unix seconds) and pg_current_wal_flush_lsn()."""

    now: float
    flush_lsn: Lsn


class Lag(NamedTuple):
    """`seconds` and `bytes` behind; None while it cannot be said."""

    seconds: float | None
    bytes: int | None


class LagMeter:
    """Samples in, lag out.

    `passed_at` (source clock, unix seconds) is what `progress.sample_passed_at` holds, so that lag is right at once
    after a restart; for a new slot, the source's time when the slot was created. None: lag in seconds is unknown
    until the first sample is passed.
    """

    def __init__(self, passed_at: float | None = None, *, most_samples: int = _MOST_SAMPLES) -> None:
        self._passed_at = passed_at
        self._ahead: deque[Sample] = deque()  # not passed yet, oldest first, LSNs strictly increasing
        self._newest: Sample | None = None
        self._most_samples = most_samples

    @property
    def passed_at(self) -> float | None:
        """The time of the newest sample passed, to be stored with the position."""
        return self._passed_at

    def restore(self, passed_at: float) -> None:
        """Learn a stored `passed_at` late; an older one than known is ignored."""
        self._passed_at = passed_at if self._passed_at is None else max(self._passed_at, passed_at)

    def sample(self, now: float, flush_lsn: Lsn) -> None:
        """Add one look at the source. Call it about once a second."""
        # A log that ends earlier than before is another server's; the supervisor stops for that, we just stay sane.
        taken = Sample(now, flush_lsn if self._newest is None else max(flush_lsn, self._newest.flush_lsn))
        self._newest = taken
        if self._ahead and self._ahead[-1].flush_lsn == taken.flush_lsn:
            self._ahead.pop()  # passing one is passing both, and the later time is the better news
        self._ahead.append(taken)
        if len(self._ahead) > self._most_samples:
            self._thin_out()

    def measure(self, durable: Lsn, heard: Lsn, is_drained: bool) -> Lag:
        """The lag now.

        `durable` is what the target has for good, `heard` the furthest position the source told, which counts while
        `is_drained`: nothing received waits to be applied. Both are end positions (one past the last byte).
        """
        if self._newest is None:
            return Lag(None, None)
        reached = max(durable, heard) if is_drained else durable
        while self._ahead and self._ahead[0].flush_lsn <= reached:
            passed = self._ahead.popleft().now
            # The source's clock may be set back; the age of what was passed must not grow by that.
            self._passed_at = passed if self._passed_at is None else max(self._passed_at, passed)
        bytes_behind = max(0, self._newest.flush_lsn - reached)
        if bytes_behind == 0:
            self._passed_at = self._newest.now
            return Lag(0.0, 0)
        if self._passed_at is None:
            return Lag(None, bytes_behind)
        return Lag(max(0.0, self._newest.now - self._passed_at), bytes_behind)

    def _thin_out(self) -> None:
        """Keep samples whose distance grows with their age: fine for a short lag, one part in 500 for a long one."""
        newest = self._ahead[-1]
        precision = _PRECISION
        while precision < 1.0:
            kept: deque[Sample] = deque([self._ahead[0]])
            for sample in self._ahead:
                if sample.now - kept[-1].now >= precision * (newest.now - sample.now) and sample is not kept[-1]:
                    kept.append(sample)
            if len(kept) <= self._most_samples * 3 // 4:
                self._ahead = kept
                return
            precision *= 2
        # Ages mean nothing (the source's clock was set back): every other one goes, the newest stays.
        self._ahead = deque(list(self._ahead)[::-2][::-1])
