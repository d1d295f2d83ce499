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
from collections.abc import Callable
from typing import Final

import psycopg
from psycopg import pq

from crossfade.faults import Transient
from crossfade.session.connect import Connection, result_fault, server_fault

# Between two looks of the caller at its clock: a few milliseconds' worth, so that the loop stays responsive (A11).
_MESSAGES: Final = 2000


class Wakeup:
    """Waiting for a socket, in one task: until it is readable, a tick has passed, or somebody kicks.

    The event loop keeps looking at the socket, and a timer keeps running, from one wait to the next: to begin and end
    both for each of many small messages costs more than to read them. A wait may therefore end early, for nothing.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._woken = asyncio.Event()
        self._is_watched = False
        self._timer: asyncio.TimerHandle | None = None
        self._lowest = 1  # SO_RCVLOWAT, as it was last set

    def kick(self) -> None:
        """End the present or the next `wait` early."""
        self._woken.set()

    async def wait(self, tick: float, *, reading: bool = True) -> None:
        """Until the socket is readable (when `reading`), `tick` seconds passed, or somebody kicked. Others always get a
        turn."""
        if reading is not self._is_watched:
            self._watch(reading)  # also where the wait ends at once: a socket that nobody reads would wake us for ever
        if self._woken.is_set():
            self._woken.clear()
            await asyncio.sleep(0)
            return
        if reading:
            self._set_lowest(self._least())
        loop = asyncio.get_running_loop()
        if self._timer is None or self._timer.when() > loop.time() + tick:
            self._end_timer()
            self._timer = loop.call_later(tick, self._ring)
        try:
            await self._woken.wait()
        finally:
            self._woken.clear()

    def _least(self) -> int:
        """The bytes for which a wait need not end."""
        return 1

    def _ring(self) -> None:
        self._timer = None
        self._woken.set()

    def _end_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch(self, reading: bool) -> None:
        loop = asyncio.get_running_loop()
        if reading:
            loop.add_reader(self._descriptor, self._woken.set)
        else:
            loop.remove_reader(self._descriptor)
        self._is_watched = reading

    def rest(self) -> None:
        """Nobody waits any more, or another waits for the same descriptor: before it is closed, at the latest."""
        self._end_timer()
        if self._is_watched:
            self._watch(False)

    def _set_lowest(self, least: int) -> None:
        """Let so many bytes arrive before a wait ends by itself. Kernels that cannot, do not."""
        if least == self._lowest:
            return
        self._lowest = least
        # A second descriptor for the same socket: libpq's own must not be closed by us.
        with socket.socket(fileno=os.dup(self._descriptor)) as shared, contextlib.suppress(OSError):
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least)


class Drain(Wakeup):
    """The COPY-out side of one connection through libpq, owned by one task. `noticed` gets severity and SQLSTATE of
    what the server remarks."""

    def __init__(
        self, connection: Connection, *, where: str, noticed: Callable[[str, str], None] | None = None
    ) -> None:
        super().__init__(connection.pgconn.socket)
        self._connection = connection
        self._pgconn = connection.pgconn
        self._where = where
        self._noticed = noticed
        self.is_local = False  # or encrypted, which is as good as far away
        self._is_ending = False
        self._is_exhausted = True  # libpq holds nothing complete that was not handed out
        self.is_finished = False
        self.heard = False  # the last look brought a message

    def close(self) -> None:
        """Nothing is held besides the connection, which is its owner's."""
        self.rest()

    async def start(self, command: str) -> None:
        """Send the command and wait until the server streams. Raises its refusal as a Fault."""
        if self._noticed is not None:
            self._connection.add_notice_handler(self._remarked)
        try:
            await self._connection.execute(command)
        except psycopg.Error as error:
            raise server_fault(error, where=self._where) from None

    def _remarked(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        assert self._noticed is not None
        self._noticed(diagnostic.severity_nonlocalized or "", diagnostic.sqlstate or "")

    async def send(self, payload: bytes) -> None:
        """One CopyData message. Raises Transient when the connection is gone."""
        try:
            self._pgconn.put_copy_data(payload)
            await self._flush()
        except psycopg.OperationalError:
            raise Transient("The connection was lost.", where=self._where) from None

    async def end(self) -> None:
        """Say that we are done; the server answers in its own time."""
        try:
            self._pgconn.put_copy_end()
            await self._flush()
        except psycopg.OperationalError:
            raise Transient("The connection was lost.", where=self._where) from None

    async def _flush(self) -> None:
        """Hand everything to the kernel; only when that has no room, the loop must look at the socket for `flush`."""
        if self._pgconn.flush():
            self.rest()
            await flush(self._connection)

    def _consume(self) -> None:
        try:
            self._pgconn.consume_input()
        except psycopg.OperationalError:
            raise Transient("The connection was lost.", where=self._where, means="Nothing is lost.") from None

    @property
    def holds_more(self) -> bool:
        """libpq may have complete messages that were not handed out."""
        return not self._is_exhausted

    def take(self, most_bytes: int, most: int = _MESSAGES) -> list[bytes]:
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
        self.heard = bool(taken)
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
