"""The COPY-out side of a connection, against a client library that buffers as libpq does."""

from __future__ import annotations

import itertools
from typing import cast

from crossfade.session.connect import Connection
from crossfade.session.drain import Drain


class Library:
    """What libpq does with a server that always has more: each look at the socket doubles what it holds."""

    def __init__(self) -> None:
        self.held: list[memoryview] = []
        self.pgconn = self
        self._arriving = (memoryview(b"%d" % number) for number in itertools.count())

    def consume_input(self) -> None:
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
        drain.consume()
        for frame in drain.frames():
            taken.append(int(bytes(frame)))
            break
        assert len(library.held) <= 4
    assert taken == list(range(20))
