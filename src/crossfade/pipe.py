"""The pipe between the reader of the stream and the applier: bounded in bytes, not in items.

One row can be a byte or a gigabyte, so the bound is what the pieces hold, including those the applier has taken but
not finished. Refuses to know what a piece means. The invariant: at most one piece lies beyond the limit, and pieces
come out in the order they went in. One task puts, another takes; into an empty pipe it may also be handed, in a call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from crossfade.lsn import Lsn
from crossfade.pgoutput.assemble import Piece


@dataclass(frozen=True, slots=True)
class Idle:
    """The stream is drained up to here: worth persisting, so that it may be acknowledged (A3)."""

    position: Lsn


@dataclass(frozen=True, slots=True)
class EndOfStream:
    """Nothing follows: apply what came before, then return."""


Item = Piece | Idle | EndOfStream


class Pipe:
    """`held` is bytes put and not yet released, `changes` how many changes these are.

    `puts` counts what was ever put. `on_room` is called when a full pipe has room again. `offer` is asked before a
    piece is laid into the empty pipe, and may take it.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held = 0
        self.changes = 0
        self.puts = 0
        self.on_room: Callable[[], None] | None = None
        self.offer: Callable[[Piece], bool] | None = None
        self._items: deque[Item] = deque()
        self._arrived = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """No more may be read until something is released."""
        return self.held >= self.limit_bytes

    def put(self, item: Item) -> None:
        """Never waits: whoever reads asks `is_full` first."""
        self.puts += 1
        if isinstance(item, Piece):
            self.held += item.cost
            self.changes += len(item.frames)
            if not self._items and self.offer is not None and self.offer(item):
                return
        self._items.append(item)
        self._arrived.set()

    def take(self) -> Item | None:
        """The oldest item, when there is one."""
        item = self._items.popleft() if self._items else None
        if not self._items:
            self._arrived.clear()
        return item

    def peek(self) -> Item | None:
        """The oldest item, left where it is."""
        return self._items[0] if self._items else None

    async def arrived(self) -> None:
        """Wait until there is something to take."""
        await self._arrived.wait()

    def released(self, cost: int, changes: int) -> None:
        """The applier is done with pieces of that cost, and so many changes."""
        was_full = self.is_full
        self.held -= cost
        self.changes -= changes
        if was_full and not self.is_full and self.on_room is not None:
            self.on_room()
