"""Reading COPY data from a socket without waiting for each message.

One wake-up takes what the socket holds, as a list, and a tick or a kick ends a wait empty-handed: nothing ever wraps a
read in a timeout, since cancelling one would make the driver cancel the server's work and might lose a frame already
read. Refuses to know what the frames mean. The invariant: while nobody waits for the socket nobody reads it, so a
caller that stops asking applies back-pressure.

PostgreSQL: libpq-copy ("PQgetCopyData"), libpq-async ("PQconsumeInput"). socket(7): "SO_RCVLOWAT".
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

import psycopg
from psycopg import pq

from crossfade.faults import Transient
from crossfade.session.connect import Connection, result_fault


class Drain:
    """The COPY-out side of one connection, owned by one task."""

    def __init__(self, connection: Connection, *, where: str) -> None:
        self._pgconn = connection.pgconn
        self._where = where
        self._woken = asyncio.Event()
        self._is_ending = False
        self._gathers = 1
        self._is_exhausted = True  # libpq holds nothing complete that was not handed out
        self.is_finished = False

    def kick(self) -> None:
        """End the present or the next `wait` early."""
        self._woken.set()

    async def wait(self, tick: float, *, reading: bool = True) -> None:
        """Until the socket is readable (when `reading`), `tick` seconds passed, or somebody kicked."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(tick, self._woken.set)
        descriptor = self._pgconn.socket
        if reading:
            loop.add_reader(descriptor, self._woken.set)
        try:
            await self._woken.wait()
        finally:
            self._woken.clear()
            timer.cancel()
            if reading:
                loop.remove_reader(descriptor)

    def gather(self, most: int) -> None:
        """Let `most` bytes arrive before a wait ends by itself; 1 is at once. Kernels that cannot, do not."""
        if most == self._gathers:
            return
        self._gathers = most
        # A second descriptor for the same socket: libpq's own must not be closed by us.
        with socket.socket(fileno=os.dup(self._pgconn.socket)) as shared, contextlib.suppress(OSError):
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, most)

    def _consume(self) -> None:
        try:
            self._pgconn.consume_input()
        except psycopg.OperationalError:
            raise Transient("The connection was lost.", where=self._where, means="Nothing is lost.") from None

    @property
    def holds_more(self) -> bool:
        """libpq may have complete messages that were not handed out."""
        return not self._is_exhausted

    def take(self, most: int, most_bytes: int) -> list[bytes]:
        """What has arrived, complete messages only, until `most` of them or `most_bytes` are reached or the socket is
        empty; each is a copy of ours. `holds_more` says that there may be more. Raises the server's error as a Fault.
        """
        taken: list[bytes] = []
        if self._is_ending:
            self._finish()
            return taken
        get, append, held = self._pgconn.get_copy_data, taken.append, 0
        brought = True  # the last look at the socket brought a message
        self._is_exhausted = False
        try:
            while held < most_bytes and len(taken) < most:
                size, view = get(1)
                if size > 0:
                    append(bytes(view))
                    del view  # of two huge frames in a row, not four copies
                    held += size
                    brought = True
                elif size < 0:
                    self._is_ending = self._is_exhausted = True
                    self._finish()
                    break
                elif brought:
                    # Only now: libpq doubles its buffer when it is asked while that is full.
                    self._consume()
                    brought = False
                else:
                    self._is_exhausted = True
                    break
        except psycopg.OperationalError:
            raise self._ended() from None
        return taken

    def _finish(self) -> None:
        """Take the COPY's results as they come: asking libpq while it is busy would block the loop."""
        while not self._pgconn.is_busy():
            result = self._pgconn.get_result()
            if result is None:
                self.is_finished = True
                return
            if result.status == pq.ExecStatus.FATAL_ERROR:
                raise result_fault(result, where=self._where)

    def _ended(self) -> Exception:
        result = self._pgconn.get_result()
        if result is not None and result.status == pq.ExecStatus.FATAL_ERROR:
            return result_fault(result, where=self._where)
        return Transient("The connection was lost.", where=self._where, means="Nothing is lost.")


async def flush(connection: Connection) -> None:
    """Wait until libpq has handed everything queued to the kernel."""
    pgconn = connection.pgconn
    loop = asyncio.get_running_loop()
    while pgconn.flush():
        writable = asyncio.Event()
        loop.add_writer(pgconn.socket, writable.set)
        loop.add_reader(pgconn.socket, writable.set)  # the server may need us to read before it reads on
        try:
            await writable.wait()
        finally:
            loop.remove_writer(pgconn.socket)
            loop.remove_reader(pgconn.socket)
        pgconn.consume_input()
