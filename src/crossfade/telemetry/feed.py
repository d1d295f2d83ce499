"""The last half hour second by second, and what whoever watches is sent next: the live page's side of the daemon.

Once a second a few numbers of the book are kept, and everybody who waits is woken; the document itself is only made for
who follows. A follower
holds only a number, the newest second it has: one that was slow, or comes back, is given what it missed from the ring,
so nothing is queued for anybody. Refuses to know HTTP, and to ask anybody but the book. The invariants: memory does not
grow with time or with followers, a document is encoded once however many follow, and the end is told to all.

Server-sent events: html.spec.whatwg.org, "Server-sent events".
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import Final

import orjson

from crossfade.telemetry.document import POINT_FIELDS, Point
from crossfade.telemetry.status import StatusBook
from crossfade.waiting import until

KEPT: Final = 1800  # seconds of history
_TICK: Final = 1.0  # seconds
_RETRY_MS: Final = 1000  # what a browser waits before it connects again
# A document of thousands of tables is not sent every second; the numbers that are plotted are.
_LARGE: Final = 64 * 1024  # bytes
_LARGE_EVERY: Final = 5  # seconds


class Feed:
    """Reads the book each second, and wakes who follows. Belongs to the event loop, as the book does."""

    def __init__(self, book: StatusBook) -> None:
        self._book = book
        self._session = secrets.token_hex(4)  # a number of another process means nothing here
        self._points: deque[Point] = deque(maxlen=KEPT)
        self._number = 0  # of the newest point; the first is 1
        self._encoded: bytes | None = None  # the document of this second, once somebody wanted it
        self._size = 0  # of the newest that was encoded
        self._woken = asyncio.Event()
        self._is_closed = False

    async def run(self, stopped: asyncio.Event) -> None:
        """Tick until `stopped`, then say goodbye."""
        while not stopped.is_set():
            self.tick()
            await until(stopped, _TICK)
        self.close()

    def tick(self) -> None:
        """Take note of this second."""
        self._points.append(self._book.point())
        self._encoded = None
        self._number += 1
        self._wake()

    def close(self) -> None:
        """Everybody is told that this is the end. May be repeated."""
        self._is_closed = True
        self._wake()

    def _wake(self) -> None:
        woken, self._woken = self._woken, asyncio.Event()
        woken.set()

    async def after(self, number: int) -> bool:
        """Wait for a second newer than `number`; False when there will be none."""
        while self._number <= number and not self._is_closed:
            await self._woken.wait()
        return not self._is_closed

    def follow(self, last_event_id: str = "") -> Follower:
        """Begin; `last_event_id` is what a browser that was here before has seen last ('' or anything unknown: all)."""
        session, _, number = last_event_id.partition("-")
        known = session == self._session and number.isascii() and number.isdigit() and int(number) <= self._number
        return Follower(self, number=int(number) if known else None)

    @property
    def number(self) -> int:
        """Of the newest second."""
        return self._number

    @property
    def is_large(self) -> bool:
        """Whether a document is too much for every second."""
        return self._size > _LARGE

    def status_event(self) -> bytes:
        """The document of the newest second."""
        if self._encoded is None:
            self._encoded = orjson.dumps(self._book.document())
            self._size = len(self._encoded)
        return b"event: status\ndata: %b\n\n" % self._encoded

    def history_event(self) -> bytes:
        """All points kept, in place of whatever the page had of this daemon."""
        data = orjson.dumps({"fields": POINT_FIELDS, "points": list(self._points)})
        return b"event: history\nid: %b\ndata: %b\n\n" % (self._id(self._number), data)

    def point_events(self, after: int) -> bytes:
        """The points newer than number `after`, as far as they are kept."""
        missing = min(self._number - after, len(self._points))
        first = self._number - missing
        newest = islice(self._points, len(self._points) - missing, None)
        return b"".join(
            b"event: point\nid: %b\ndata: %b\n\n" % (self._id(first + at), orjson.dumps(point))
            for at, point in enumerate(newest, start=1)
        )

    def _id(self, number: int) -> bytes:
        return f"{self._session}-{number}".encode()


GOODBYE: Final = b"event: goodbye\ndata: {}\n\n"


@dataclass(slots=True)
class Follower:
    """One who watches. `number` is the newest point it was given, None before the first."""

    feed: Feed
    number: int | None
    shown: int | None = None  # the number when it was last given a document

    async def next(self) -> bytes | None:
        """What to send now: all that is newer, after a wait for it. None at the end, with GOODBYE to be sent before."""
        if self.number is None or self.shown is None:
            return self._first()
        if not await self.feed.after(self.number):
            return None
        chunk = self.feed.point_events(self.number)
        self.number = self.feed.number
        if not self.feed.is_large or self.number - self.shown >= _LARGE_EVERY:
            chunk, self.shown = chunk + self.feed.status_event(), self.number
        return chunk

    def _first(self) -> bytes:
        told = self.feed.history_event() if self.number is None else self.feed.point_events(self.number)
        self.number = self.shown = self.feed.number
        return b"retry: %d\n\n" % _RETRY_MS + told + self.feed.status_event()
