"""When a fast stream is left alone for a moment, so that what comes next comes in large packets. Thinking only.

A reader that takes each message as it comes makes each a packet of its own, and packets are what a walsender's time
goes into: a million rows of inserts cost it 4.7 s of CPU, and 3.2 s with a reader that rests whenever it has read the
socket empty, since messages gather in the sender's buffer meanwhile. Between two hosts that are further apart there may
be nothing to gather in: what can be under way is a small window, and whoever rests for longer than a round trip waits
for nothing. So a rest has to pay, or there are none for a while. Refuses to know sockets. The invariant: a stream that
is not fast is never left alone.

PostgreSQL: walsender.c (each message is flushed by itself). tcp(7): "TCP_NODELAY", which the server sets.
"""

from __future__ import annotations

from typing import Final

REST: Final = 0.016
"""Seconds. What makes the difference is that it is longer than the sender takes to fill a socket."""

_FAST: Final = 8_000_000  # bytes a second; a row's latency is of no interest there, its reader being behind
_WINDOW: Final = 0.005  # seconds over which that is judged
_WORTH: Final = 2 * _FAST * REST  # bytes from one rest to the next
_NONE_FOR: Final = 1.0  # seconds


class Flow:
    """What comes, and when; `now` is any clock's seconds."""

    def __init__(self) -> None:
        self._since = 0.0
        self._seen = 0
        self._is_fast = False
        self._since_rest: int | None = None  # bytes; None before the first of a run of rests
        self._none_until = 0.0
        self._has_just_rested = False

    def saw(self, size: int) -> None:
        """So many bytes were read."""
        self._seen += size
        if self._since_rest is not None:
            self._since_rest += size

    def rests(self, now: float, *, is_empty: bool) -> bool:
        """Whether to leave the stream alone for `REST` before it is read again. `is_empty`: all of it was read."""
        passed = now - self._since
        if passed >= _WINDOW:
            self._is_fast = self._seen >= _FAST * passed
            self._since, self._seen = now, 0
        if not self._is_fast:
            if self._since_rest is not None:
                self._has_not_paid(now)
            return False
        if self._has_just_rested or not is_empty or now < self._none_until:
            self._has_just_rested = False
            return False
        if self._since_rest is not None and self._since_rest < _WORTH:
            self._has_not_paid(now)
            return False
        self._since_rest, self._has_just_rested = 0, True
        return True

    def _has_not_paid(self, now: float) -> None:
        self._since_rest, self._has_just_rested = None, False
        self._none_until = now + _NONE_FOR
