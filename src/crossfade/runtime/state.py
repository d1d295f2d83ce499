"""What one daemon knows about its workflow while it runs, shared by the tasks of one attempt.

Plain values and the events that tell of their changes; refuses to act. The invariants: a change is told once, and a
guard takes back only the pauses of guards, never an operator's.
"""

from __future__ import annotations

import time
from collections.abc import Set as AbstractSet
from typing import Final

from crossfade.events import LagMeasured, Listener, Paused, PauseReason, Phase, PhaseChanged, SourceSampled
from crossfade.ledger import AckLedger
from crossfade.lsn import NOWHERE
from crossfade.telemetry.lag import LagMeter

# Which of several is told, and kept for the next leader: a person's word must outlive everything, a guard finds its
# own reason again.
_FIRST_TOLD: Final = (PauseReason.OPERATOR, PauseReason.TARGET_FULL, PauseReason.OWN_DISK, PauseReason.ERROR_RATE)


class WorkflowState:
    """Phase, pause, lag and the source's clock."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._clock_offset = time.time() - time.monotonic()  # until the source was asked
        self.phase = Phase.SETUP
        self._pauses: frozenset[PauseReason] = frozenset()
        self.error: str | None = None
        self.meter = LagMeter()
        self._durable = NOWHERE  # as the last stream left it
        self.component = "setup"

    def enter(self, phase: Phase) -> None:
        """Move to a phase."""
        if phase is not self.phase:
            self.phase = phase
            self._listener(PhaseChanged(phase))

    @property
    def paused(self) -> PauseReason | None:
        """The reason that is told; there may be others."""
        return next((reason for reason in _FIRST_TOLD if reason in self._pauses), None)

    @property
    def pauses(self) -> frozenset[PauseReason]:
        """Every reason there is."""
        return self._pauses

    def pause(self, reason: PauseReason) -> None:
        """Pause for a reason, beside those there are."""
        self._set(self._pauses | {reason})

    def resume(self) -> None:
        """An operator says go: every reason is gone, those of guards as well, until they find them again."""
        self._set(frozenset())

    def guarded(self, reasons: AbstractSet[PauseReason]) -> None:
        """These are the reasons the guards have now; what an operator asked for stays."""
        self._set((self._pauses & {PauseReason.OPERATOR}) | (reasons - {PauseReason.OPERATOR}))

    def _set(self, reasons: AbstractSet[PauseReason]) -> None:
        if reasons != self._pauses:
            self._pauses = frozenset(reasons)
            told = self.paused
            self._listener(Paused(told, self._pauses - {told} if told is not None else frozenset()))

    def is_paused(self) -> bool:
        return bool(self._pauses)

    def source_clock(self, now: float) -> None:
        """The source's clock was just read."""
        # Not by our own wall clock: somebody who sets it would add his correction to every latency until the next look.
        self._clock_offset = now - time.monotonic()

    def source_now(self) -> float:
        """The source's clock now, by the last look."""
        return time.monotonic() + self._clock_offset

    def sampled(self, sample: SourceSampled, ledger: AckLedger | None = None) -> None:
        """The source was looked at, by an attempt with its stream or without one: tells it, and how far behind we are.

        Without a stream the position is the last one known, and the lag grows as it should."""
        self.source_clock(sample.now)
        self._listener(sample)
        self.meter.sample(sample.now, sample.flush_lsn)
        if ledger is None:
            self._durable = max(self._durable, sample.confirmed_flush_lsn)
            lag = self.meter.measure(self._durable, self._durable, False)
        else:
            self._durable = ledger.durable
            lag = self.meter.measure(ledger.durable, ledger.applied, ledger.pending == 0)
        self._listener(LagMeasured(lag.seconds, lag.bytes))

    def unseen(self) -> None:
        """The source cannot be looked at: how far behind we are is not known."""
        self._listener(LagMeasured(None, None))
