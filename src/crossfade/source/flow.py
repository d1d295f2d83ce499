"""When a fast stream is left alone for a moment, so that what comes next comes in large packets. Thinking only.

A reader that takes each message as it comes makes each a packet of its own, and packets are what a walsender's time
goes into: a million rows of inserts cost it 4.7 s of CPU, and 3.2 s with a reader that rests when it has read the
socket empty and nothing came in the next turn of its loop. Only on the source's own host: there the sender's buffer is
emptied the moment the socket is read. Between two hosts no more than a window is under way, and who rests for longer
than a round trip waits for nothing. Refuses to know sockets. The invariant: a stream that is not fast, or not of this
host, is never left alone.

PostgreSQL: walsender.c (each message is flushed by itself). tcp(7): "TCP_NODELAY", which the server sets.
"""

from __future__ import annotations

from typing import Final

REST: Final = 0.016
"""Seconds, at most: what arrives before it has begun ends it."""

_FAST: Final = 8_000_000  # bytes a second; a row's latency is of no interest there, its reader being behind
_WINDOW: Final = 0.005  # seconds over which that is judged


class Flow:
    """What comes, and when. `is_local`: the source is on this host."""

    def __init__(self, *, is_local: bool) -> None:
        self._is_local = is_local
        self._since = 0.0
        self._seen = 0
        self._is_fast = False
        self._rested = False
        self.is_to_be_read = False
        """It has just been left alone: read it again without waiting, for what has gathered comes at once."""

    def saw(self, size: int) -> None:
        """So many bytes were read."""
        self._seen += size

    def rests(self, now: float, *, is_empty: bool) -> bool:
        """Whether to leave the stream alone for `REST` before it is read again: once between two waits for it.
        `is_empty`: all of it was read. `now` is any clock's seconds."""
        passed = now - self._since
        if passed >= _WINDOW:
            self._is_fast = self._is_local and self._seen >= _FAST * passed
            self._since, self._seen = now, 0
        self.is_to_be_read = self._is_fast and self._rested
        self._rested = self._is_fast and is_empty and not self._rested
        return self._rested
