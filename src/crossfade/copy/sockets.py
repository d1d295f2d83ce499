"""COPY over the bare socket behind a libpq connection: many rows per system call, none of them an object of its own.

libpq hands a COPY out one message at a time and takes its buffer's sixteen kilobytes from the socket at once; that is
most of what a daemon would spend on a table it does not reshape. Here libpq connects, authenticates and sends the
query, and the protocol's own bytes are then read from its socket and written to the other side's, as they are. Only
where the socket carries those bytes (`is_plain`): under TLS the driver's way is the only one. Refuses to know tables
and transactions. The invariant: libpq reads nothing from the source's socket once the query is sent, so that no byte
is seen by both, and a source connection used so is good for nothing else afterwards.

PostgreSQL: protocol-flow ("COPY Operations"), monitoring-stats (pg_stat_gssapi).
"""

from __future__ import annotations

import contextlib
import socket
from typing import Final, NoReturn

import psycopg
from psycopg import generators, pq

from crossfade.copy.frames import Walk
from crossfade.copydata import HEADER, head
from crossfade.faults import ProtocolViolation, Transient
from crossfade.session.connect import Connection, message_fault, result_fault
from crossfade.session.plain import ready, second

BLOCK: Final = 256 * 1024  # what is read at once; a target that is busy lets the kernel gather as much again
_TICK: Final = 0.5


class Outlet:
    """The source's end of a COPY TO STDOUT, read from its socket. Take `runs` or `rows`, not both."""

    def __init__(self, connection: Connection, *, where: str) -> None:
        self._pgconn = connection.pgconn
        self._where = where
        self._socket: socket.socket | None = None
        self._walk = Walk()
        self._block = bytearray(BLOCK)
        self._view = memoryview(self._block)
        self._kept = b""  # the beginning of a message that is not complete yet

    async def start(self, query: bytes) -> None:
        """Send the query; from here on libpq must not be asked for anything but to be closed."""
        self._pgconn.send_query(query)
        while self._pgconn.flush():
            await ready(self._pgconn.socket, _TICK, writing=True)
        self._socket = second(self._pgconn)

    def close(self) -> None:
        """Let go of the socket's second descriptor; the connection is its owner's to close."""
        if self._socket is not None:
            self._socket.close()

    @property
    def is_finished(self) -> bool:
        return self._walk.is_over

    @property
    def messages(self) -> int:
        """CopyData messages so far: a row each, and in binary one more for the trailer."""
        return self._walk.messages

    @property
    def count(self) -> int:
        """The rows the server says it sent; -1 before the end."""
        return self._walk.count

    async def runs(self) -> list[memoryview]:
        """What has come, as runs of CopyData messages, headers included. Empty at the end, and after a tick without
        anything. Good until the next call."""
        stop = await self._take()
        if not stop:
            return []
        spans, at = self._walk.spans(self._block, stop)
        self._kept = bytes(self._view[at:stop])
        self._check(len(self._kept) < BLOCK)
        return [self._view[start:end] for start, end in spans]

    async def rows(self) -> list[bytes]:
        """What has come, one COPY row each (in binary, header and trailer come along as they do on the wire)."""
        stop = await self._take()
        if not stop:
            return []
        rows: list[bytes] = []
        at = self._walk.rows(self._block, stop, rows)
        self._kept = bytes(self._view[at:stop])
        self._check(True)
        if len(self._kept) >= HEADER and head(self._kept, 0)[1] > BLOCK // 2:
            rows += await self._huge()
        return rows

    async def _huge(self) -> list[bytes]:
        """The one message that has begun, in a buffer of its own size."""
        size = head(self._kept, 0)[1]
        message = bytearray(size)
        message[: len(self._kept)] = self._kept
        at, self._kept = len(self._kept), b""
        with memoryview(message) as view:
            while at < size:
                at += self._receive(view[at:]) or await self._nothing()
        rows: list[bytes] = []
        self._walk.rows(message, size, rows)
        self._check(True)
        return rows

    async def _take(self) -> int:
        """Put what was kept and what has come into the block; how many bytes it holds, 0 when nothing has come."""
        kept = len(self._kept)
        self._view[:kept] = self._kept
        count = self._receive(self._view[kept:])
        return kept + count if count else await self._nothing()

    def _receive(self, into: memoryview) -> int:
        assert self._socket is not None
        try:
            count = self._socket.recv_into(into)
        except BlockingIOError:
            return 0
        except OSError:
            count = 0
        if not count:
            raise Transient("The connection was lost.", where=self._where, means="Nothing is lost.")
        return count

    async def _nothing(self) -> int:
        assert self._socket is not None
        await ready(self._socket.fileno(), _TICK, reading=True)
        return 0

    def _check(self, fits: bool) -> None:
        """Raise what the server reported; its text stays out (promise 6)."""
        if not fits:
            raise ProtocolViolation("A message larger than any that belongs into a COPY.", tag=chr(self._kept[0]))
        if self._walk.error:
            raise message_fault(self._walk.error, where=self._where)


class Inlet:
    """The target's end of a COPY FROM STDIN: whole messages past libpq where its socket is plain, data through it."""

    def __init__(self, connection: Connection, *, is_plain: bool, where: str) -> None:
        self.connection = connection
        self._pgconn = connection.pgconn
        self._is_plain = is_plain
        self._where = where
        self._socket: socket.socket | None = None
        self._has_begun = False
        self._is_cut = False  # messages were passed on, the last of them perhaps not to its end

    async def start(self, query: bytes) -> None:
        """Begin; raises the server's refusal as a Fault."""
        self._pgconn.send_query(query)
        results = await self.connection.wait(generators.execute(self._pgconn))
        if results[0].status != pq.ExecStatus.COPY_IN:
            raise result_fault(results[0], where=self._where)
        self._has_begun = True
        if self._is_plain:
            self._socket = second(self._pgconn)

    def close(self) -> None:
        """Let go of the socket's second descriptor; a COPY that was not finished is told so, where that is possible."""
        if self._socket is not None:
            self._socket.close()
        if self._has_begun and not self._is_cut:
            with contextlib.suppress(psycopg.Error):
                self._pgconn.put_copy_end(b"the copy was given up")
                self._pgconn.flush()

    async def pass_on(self, run: memoryview) -> None:
        """CopyData messages as they came from a source, which may end within one, straight to a plain socket."""
        assert self._socket is not None
        self._is_cut = True
        at, size = 0, len(run)
        while at < size:
            try:
                at += self._socket.send(run[at:])
            except BlockingIOError:
                if self._has_answered():
                    await self._refused()
                await ready(self._socket.fileno(), _TICK, reading=True, writing=True)
            except OSError:
                await self._refused()
        if self._has_answered():
            await self._refused()

    async def put(self, data: bytes) -> None:
        """COPY data through libpq, which adds the header of one message."""
        if not data:
            return
        self._pgconn.put_copy_data(data)
        while self._pgconn.flush():
            await ready(self._pgconn.socket, _TICK, reading=True, writing=True)
            self._pgconn.consume_input()

    async def finish(self) -> int:
        """End the COPY; how many rows the server took. Raises its refusal as a Fault."""
        pgconn, self._has_begun = self._pgconn, False
        try:
            while not pgconn.put_copy_end():
                await ready(pgconn.socket, _TICK, reading=True, writing=True)
                pgconn.consume_input()
            results = await self.connection.wait(generators.execute(pgconn))  # sends what is queued, too
        except psycopg.OperationalError:
            raise Transient("The connection was lost.", where=self._where, means="Nothing is lost.") from None
        for result in results:
            if result.status == pq.ExecStatus.FATAL_ERROR:
                raise result_fault(result, where=self._where)
        return results[-1].command_tuples or 0

    async def _refused(self) -> NoReturn:
        """It has said why, or it is gone."""
        await self.finish()
        raise Transient("The target ended the COPY before its end.", where=self._where, means="Nothing is lost.")

    def _has_answered(self) -> bool:
        """Before the end a target has nothing to say but that it refuses, and would take the rest for nothing."""
        assert self._socket is not None
        try:
            return self._socket.recv(1, socket.MSG_PEEK) in (b"E", b"")
        except BlockingIOError:
            return False
        except OSError:
            return True
