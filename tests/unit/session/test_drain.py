"""The COPY-out side of a connection, against a client library that buffers as libpq does."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from typing import cast

import pytest
import uvloop

from crossfade.session.connect import Connection
from crossfade.session.drain import Drain, Wakeup


class Library:
    """What libpq does with a server that always has more: each look at the socket doubles what it holds."""

    def __init__(self) -> None:
        self.held: list[memoryview] = []
        self.pgconn = self
        self.socket = -1
        self._arriving = (memoryview(b"%d" % number) for number in itertools.count())

        self.looks = 0

    def consume_input(self) -> None:
        self.looks += 1
        self.held += itertools.islice(self._arriving, max(4, len(self.held)))

    def get_copy_data(self, _asynchronous: int) -> tuple[int, memoryview]:
        if not self.held:
            return 0, memoryview(b"")
        frame = self.held.pop(0)
        return len(frame), frame


def test_a_reader_that_takes_little_at_a_time_does_not_make_the_library_hoard() -> None:
    """Its pipe has room for one frame now and then; what libpq holds comes first, before the socket is looked at."""
    library = Library()
    drain = Drain(cast(Connection, library), where="source")
    taken = []
    for _ in range(20):
        taken += map(int, drain.take(1 << 20, 1))
        assert len(library.held) <= 4
    assert taken == list(range(20))


def test_what_is_taken_at_once_ends_with_the_limit_and_what_the_library_holds_comes_first() -> None:
    library = Library()
    drain = Drain(cast(Connection, library), where="source")
    taken = drain.take(1 << 20, 3)
    assert drain.holds_more
    taken += drain.take(5, 100)
    assert [int(frame) for frame in taken] == list(range(8))
    assert all(type(frame) is bytes for frame in taken), "copies: the library's memory is given back"
    assert library.looks == 2


class Quiet(Library):
    """A server that sent five messages and then nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._arriving = iter([memoryview(b"%d" % number) for number in range(5)])


def test_what_has_arrived_is_taken_at_once_and_nothing_more() -> None:
    library = Quiet()
    drain = Drain(cast(Connection, library), where="source")
    assert drain.take(1 << 20, 100) == [b"0", b"1", b"2", b"3", b"4"]
    assert not drain.holds_more
    looks = library.looks
    assert drain.take(1 << 20, 100) == []
    assert library.looks == looks + 1


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_who_does_not_read_is_not_woken_by_what_there_is_to_read(loop: object) -> None:
    """A full pipe: what has arrived stays where it is until there is room, and must not keep a core busy meanwhile."""

    async def waits(wakeup: Wakeup) -> int:
        await wakeup.wait(1.0)  # watched from now on
        await asyncio.sleep(0)  # and it is there again
        count, until = 0, time.monotonic() + 0.2
        while time.monotonic() < until:
            await wakeup.wait(0.05, reading=False)
            count += 1
        wakeup.rest()
        return count

    with asyncio.Runner(loop_factory=loop) as runner:  # type: ignore[arg-type]
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.sendall(b"x")
            assert runner.run(waits(Wakeup(ours.fileno()))) < 10
