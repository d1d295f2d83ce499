"""What one daemon knows about its workflow while it runs, shared by the tasks of one attempt.

Plain values and the events that tell of their changes; refuses to act. The invariant: a change is told once.
"""

from __future__ import annotations

import time

from crossfade.events import LagMeasured, Listener, Paused, PauseReason, Phase, PhaseChanged
from crossfade.telemetry.lag import LagMeter


class WorkflowState:
    """Phase, pause, lag and the source's clock."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._clock_offset = time.time() - time.monotonic()  # until the source was asked
        self.phase = Phase.SETUP
        self.paused: PauseReason | None = None
        self.error: str | None = None
        self.meter = LagMeter()
        self.component = "setup"

    def enter(self, phase: Phase) -> None:
        """Move to a phase."""
        if phase is not self.phase:
            self.phase = phase
            self._listener(PhaseChanged(phase))

    def pause(self, reason: PauseReason | None) -> None:
        """Pause for a reason, or go on."""
        if reason is not self.paused:
            self.paused = reason
            self._listener(Paused(reason))

    def is_paused(self) -> bool:
        return self.paused is not None

    def source_clock(self, now: float) -> None:
        """The source's clock was just read."""
        # Not by our own wall clock: somebody who sets it would add his correction to every latency until the next look.
        self._clock_offset = now - time.monotonic()

    def source_now(self) -> float:
        """The source's clock now, by the last look."""
        return time.monotonic() + self._clock_offset

    def lag(self, seconds: float | None, behind: int | None) -> None:
        """Tell how far behind we are."""
        self._listener(LagMeasured(seconds, behind))
