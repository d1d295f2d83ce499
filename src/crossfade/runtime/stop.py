"""Stopping is data that flows down: one signal asks to drain, a second abandons, and so does the deadline.

Refuses to know what is drained. The invariant: nothing is cancelled by the first signal.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from crossfade.waiting import until


class Abandoned(Exception):
    """A second signal, or the deadline: everything in flight is dropped, the source will send it again."""


class Stop:
    """`requested` once somebody asked; `abandoned` once patience is over."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._timer: asyncio.TimerHandle | None = None
        self._kicks: list[Callable[[], object]] = []
        self.requested = asyncio.Event()
        self.abandoned = asyncio.Event()

    def listen(self, on_hangup: Callable[[], object]) -> None:
        """Take SIGTERM and SIGINT; a SIGHUP does not end us, but calls `on_hangup`."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.signalled)
        loop.add_signal_handler(signal.SIGHUP, on_hangup)

    def on_request(self, kick: Callable[[], object]) -> Callable[[], None]:
        """Call `kick` when a stop is asked for; returns what takes that back."""
        self._kicks.append(kick)
        return lambda: self._kicks.remove(kick)

    def signalled(self) -> None:
        """First: drain until the deadline. Second: abandon now."""
        if self.requested.is_set():
            self.abandoned.set()
            return
        self.request()
        self._timer = asyncio.get_running_loop().call_later(self._deadline, self.abandoned.set)

    def request(self) -> None:
        """Drain and return, without a deadline."""
        self.requested.set()
        for kick in list(self._kicks):
            kick()

    def is_requested(self) -> bool:
        return self.requested.is_set()

    async def sleep(self, seconds: float) -> None:
        """Sleep, but not past a request to stop."""
        await until(self.requested, seconds)

    def close(self) -> None:
        """Let go of the timer."""
        if self._timer is not None:
            self._timer.cancel()
