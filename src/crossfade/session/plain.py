"""The bare socket behind a libpq connection: many messages per system call, where nothing encrypts them.

libpq hands CopyData out one message at a time and takes sixteen kilobytes from the socket at once, which costs more
than all that is done with the rows afterwards. Here libpq connects, authenticates and sends the command; what follows
is read from its socket and written to it directly. Under TLS or GSSAPI encryption only `drain` will do. Refuses to know
what frames mean. The invariant: libpq reads nothing once the command is sent, so that no byte is seen by both, and a
connection used so is good for nothing else afterwards but to be closed.

PostgreSQL: protocol-flow ("COPY Operations"), protocol-replication, monitoring-stats (pg_stat_gssapi).
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import sys
from collections.abc import Callable
from struct import Struct
from typing import Final

from psycopg import pq

from crossfade.copydata import HEADER, fields, head, split
from crossfade.faults import ProtocolViolation, Transient
from crossfade.session.connect import Connection, message_fault
from crossfade.session.drain import Wakeup

BLOCK: Final = 256 * 1024
"""What is read at once, in bytes; the kernel may gather as much again meanwhile."""

_LEAST: Final = 4096  # a caller with little room still gets on
_TICK: Final = 0.5
# While a reader's window is open, every message of a walsender is a packet of its own; while it is full they gather in
# the sender's buffer. With room for megabytes the window of a quick reader never fills, and a million rows cost the
# walsender half as much again (of CPU). Only where a round trip is so short that a small window costs no throughput.
_NEAR_US: Final = 1000
_NEAR_BUFFER: Final = 64 * 1024
# With so much in it the window was full, more or less: what waits behind it comes now, and at once.
_NEAR_FULL: Final = 40 * 1024
_TCP_INFO_RTT: Final = 68  # struct tcp_info: eight bytes, then 32-bit words, of which tcpi_rtt is the sixteenth
# A walsender sends one behind every transaction that we have not acknowledged yet. Nobody need wake for it alone: what
# it says is read with what comes next, or when the caller looks by its own clock.
_KEEPALIVE: Final = HEADER + 18
_DATA_HEADER: Final = Struct("!cI")
_COPY_DONE: Final = b"c\0\0\0\x04"
_COPY_BOTH: Final = ord("W")
_COPY_OUT: Final = ord("H")
_DONE: Final = ord("c")
_COMPLETE: Final = ord("C")
_READY: Final = ord("Z")
_ERROR: Final = ord("E")
_NOTICE: Final = ord("N")
_ASIDE: Final = frozenset(b"SA")  # ParameterStatus, NotificationResponse: at any time, and nothing of ours


async def is_plain(connection: Connection) -> bool:
    """Whether the connection's socket carries the protocol's own bytes: neither TLS nor GSSAPI encryption."""
    if connection.pgconn.ssl_in_use:
        return False
    cursor = await connection.execute(
        "SELECT coalesce(bool_or(encrypted), false) FROM pg_catalog.pg_stat_gssapi WHERE pid = pg_backend_pid()"
    )
    row = await cursor.fetchone()
    return row is not None and str(row[0]) in {"False", "f"}


async def ready(descriptor: int, tick: float, *, reading: bool = False, writing: bool = False) -> None:
    """Until the socket can be read or written, or `tick` seconds have passed."""
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()
    timer = loop.call_later(tick, woken.set)
    if reading:
        loop.add_reader(descriptor, woken.set)
    if writing:
        loop.add_writer(descriptor, woken.set)
    try:
        await woken.wait()
    finally:
        timer.cancel()
        if reading:
            loop.remove_reader(descriptor)
        if writing:
            loop.remove_writer(descriptor)


def second(pgconn: pq.abc.PGconn) -> socket.socket:
    """The same socket under a descriptor of our own: event loop and libpq do not get into each other's way."""
    found = socket.socket(fileno=os.dup(pgconn.socket))
    found.setblocking(False)
    return found


def _is_near(connected: socket.socket) -> bool:
    """A round trip over it takes less than a millisecond, as far as the kernel tells."""
    if connected.family not in (socket.AF_INET, socket.AF_INET6) or not hasattr(socket, "TCP_INFO"):
        return False
    try:
        told = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_RTT + 4)
    except OSError:
        return False
    return len(told) == _TCP_INFO_RTT + 4 and int.from_bytes(told[_TCP_INFO_RTT:], sys.byteorder) < _NEAR_US


def _is_local(connected: socket.socket) -> bool:
    """Its other end is on this host, reached without a network."""
    if connected.family == socket.AF_UNIX:
        return True
    if connected.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    return ipaddress.ip_address(connected.getpeername()[0]).is_loopback


class PlainDrain(Wakeup):
    """`Drain` without libpq: the same methods, owned by one task. `noticed` gets severity and SQLSTATE of notices."""

    def __init__(self, connection: Connection, *, where: str, noticed: Callable[[str, str], None]) -> None:
        self._pgconn = connection.pgconn
        self._socket = second(connection.pgconn)
        self._is_full_with = BLOCK
        if _is_near(self._socket):
            self._is_full_with = _NEAR_FULL
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _NEAR_BUFFER)
        super().__init__(self._socket.fileno())
        self.is_local = _is_local(self._socket)
        self._where = where
        self._noticed = noticed
        self._block = bytearray(BLOCK)
        self._view = memoryview(self._block)
        self._begin = self._stop = 0  # what of the block was received and not handed out
        self._huge: bytearray | None = None  # a message larger than the block, as far as it has come
        self._huge_at = 0
        self._has_begun = False
        self.is_finished = False
        self.holds_more = False  # the socket may hold more than was taken
        self.heard = False  # the last look at the socket brought something, if only a part of a message

    def close(self) -> None:
        """Let go of the second descriptor; the connection is its owner's to close."""
        self.rest()
        self._socket.close()

    async def start(self, command: str) -> None:
        """Send the command and wait until the server streams. Raises its refusal as a Fault."""
        self._pgconn.send_query(command.encode())
        while self._pgconn.flush():
            await ready(self._pgconn.socket, _TICK, writing=True)
        while not self._has_begun:
            await ready(self._socket.fileno(), _TICK, reading=True)
            self._receive(_LEAST)
            self._split([], only_until_begun=True)

    def take(self, most_bytes: int) -> list[bytes]:
        """What has arrived, complete payloads only, at most a block and about `most_bytes` of it. `holds_more` says
        that there may be more. Raises the server's error as a Fault."""
        taken: list[bytes] = []
        if self.is_finished:
            return taken
        self.holds_more = self.heard = False
        if self._huge is not None:
            self._go_on(taken)
            return taken
        if not self._receive(max(_LEAST, most_bytes)) and self._begin == self._stop:
            return taken
        self._split(taken)
        return taken

    def _least(self) -> int:
        return 1 if self._huge is not None or self._begin < self._stop else _KEEPALIVE + 1

    async def send(self, payload: bytes) -> None:
        """One CopyData message. Raises Transient when the connection is gone."""
        await self._send(_DATA_HEADER.pack(b"d", 4 + len(payload)) + payload)

    async def end(self) -> None:
        """Say that we are done; the server answers in its own time."""
        await self._send(_COPY_DONE)

    async def _send(self, message: bytes) -> None:
        at = 0
        while at < len(message):
            try:
                at += self._socket.send(message[at:])
            except BlockingIOError:
                await ready(self._socket.fileno(), _TICK, writing=True)
            except OSError:
                raise self._lost() from None

    def _receive(self, most: int) -> int:
        """Put what was kept at the block's beginning, and what has come behind it; how much has come."""
        kept = self._stop - self._begin
        if self._begin and kept:
            self._view[:kept] = bytes(self._view[self._begin : self._stop])
        self._begin, self._stop = 0, kept
        room = min(BLOCK, kept + most) - kept
        count = self._received(self._view[kept : kept + room])
        self._stop += count
        self.holds_more = count >= min(room, self._is_full_with)
        return count

    def _received(self, into: memoryview) -> int:
        """How much has come into it; 0 when nothing is there."""
        try:
            count = self._socket.recv_into(into)
        except BlockingIOError:
            return 0
        except OSError:
            count = 0
        if not count:
            raise self._lost()
        self.heard = True
        return count

    def _split(self, into: list[bytes], *, only_until_begun: bool = False) -> None:
        block, at, stop = self._block, self._begin, self._stop
        while True:
            if not only_until_begun:
                at = split(block, at, stop, into)
            if at + HEADER > stop:
                break
            tag, size = head(block, at)
            if at + size > stop:
                if size > BLOCK // 2:
                    self._huge, self._huge_at = bytearray(size), stop - at
                    self._huge[: self._huge_at] = self._view[at:stop]
                    self.holds_more = True
                    at = stop
                break
            self._begin = at + size
            self._hear(tag, bytes(block[at + HEADER : at + size]))
            at += size
            if only_until_begun and self._has_begun:
                self.holds_more = at < stop
                break
        self._begin = at

    def _go_on(self, into: list[bytes]) -> None:
        """More of the one message that does not fit the block."""
        whole = self._huge
        assert whole is not None
        with memoryview(whole) as view:
            count = self._received(view[self._huge_at :])
        self._huge_at += count
        self.holds_more = count > 0
        if self._huge_at == len(whole):
            self._huge = None
            if split(whole, 0, len(whole), into) == 0:
                self._hear(head(whole, 0)[0], bytes(whole[HEADER:]))

    def _hear(self, tag: int, payload: bytes) -> None:
        """Whatever is not CopyData."""
        if tag == _ERROR:
            raise message_fault(fields(payload), where=self._where)
        if tag == _NOTICE:
            said = fields(payload)
            self._noticed(said.get("V", ""), said.get("C", ""))
        elif tag in (_COPY_BOTH, _COPY_OUT) and not self._has_begun:
            self._has_begun = True
        elif tag in (_COMPLETE, _READY):
            self.is_finished = True
        elif tag not in _ASIDE and tag != _DONE:
            raise ProtocolViolation("not a message of a stream", tag=chr(tag), offset=0)

    def _lost(self) -> Transient:
        return Transient("The connection was lost.", where=self._where, means="Nothing is lost.")
