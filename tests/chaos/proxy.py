"""A TCP proxy that knows just enough of PostgreSQL's protocol to hurt where it hurts most.

It stands in front of a server and passes bytes until told otherwise: stalls (both ways or one), goes half-open, splits
into tiny segments, slows down, cuts at a random byte, right before a COMMIT is forwarded, after COMMIT was carried out
but before its answer comes back, or around a Standby Status Update. Refuses to know what the bytes mean otherwise.
The invariant: `counts` holds only faults that really happened to somebody's bytes, so that a test can tell a storm
survived from a storm that never came.

Runs its own event loop in its own thread; every public method may be called from any other thread.

PostgreSQL: protocol-message-formats; protocol-replication, "Standby status update (F)".
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

_HEAD: Final = 16 * 1024  # of a message body; enough to know a statement by
_SSL: Final = 80877103
_GSS: Final = 80877104
_CANCEL: Final = 80877102
_COMMIT: Final = re.compile(rb"(?:^|;)\s*(?:COMMIT|END)\b(?!\s+PREPARED)", re.IGNORECASE)
_ENDS: Final = re.compile(rb"(?:^|;)\s*(?:COMMIT|END|ROLLBACK(?!\s+TO)|ABORT)\b", re.IGNORECASE)
_POSITION: Final = re.compile(rb'(?:UPDATE|INSERT)\b.*crossfade"?\."?progress\b', re.IGNORECASE | re.DOTALL)


class Flow(enum.Enum):
    """What happens to the bytes of every connection, old and new."""

    PASS = "pass"
    STALL = "stall"  # neither way
    STALL_UP = "stall_up"  # what the client says does not arrive
    STALL_DOWN = "stall_down"  # what the server says does not arrive


class Trap(enum.Enum):
    """A cut that waits for its moment. One-shot: arm it again for another."""

    BEFORE_COMMIT = "before_commit"
    AFTER_COMMIT = "after_commit"  # carried out by the server, the answer lost (A18)
    BLIND_COMMIT = "blind_commit"  # forwarded and cut at once: nobody knows
    BEFORE_STATUS = "before_status"  # A12
    AFTER_STATUS = "after_status"


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole message: where it lies in the chunk that completed it (`start` is negative if it began earlier)."""

    tag: bytes  # b"" for a start-up packet
    start: int
    end: int
    head: bytes  # of the body


class Framer:
    """Cuts one direction of a connection into messages, fed any chunks. Keeps no more than a message's head."""

    def __init__(self, *, startup: bool) -> None:
        self._untagged = startup
        self._header = bytearray()
        self._body = bytearray()
        self._left = -1  # of the body; -1: header not complete
        self._taken = 0  # bytes of the current message in earlier chunks
        self.raw_bytes = 0  # single answer bytes to SSLRequest and GSSENCRequest still expected

    def feed(self, data: bytes) -> Iterator[Frame]:
        position, size = 0, len(data)
        start = -self._taken
        while position < size:
            if self._left < 0:
                if self.raw_bytes and not self._header:
                    self.raw_bytes -= 1
                    position += 1
                    start = position
                    continue
                length_at = 0 if self._untagged else 1
                piece = data[position : position + length_at + 4 - len(self._header)]
                self._header += piece
                position += len(piece)
                if len(self._header) < length_at + 4:
                    break
                self._left = struct.unpack_from("!I", self._header, length_at)[0] - 4
                self._body.clear()
            take = min(self._left, size - position)
            if (room := _HEAD - len(self._body)) > 0:
                self._body += data[position : position + min(take, room)]
            position += take
            self._left -= take
            if self._left == 0:
                frame = Frame(b"" if self._untagged else bytes(self._header[:1]), start, position, bytes(self._body))
                self._header.clear()
                self._left = -1
                if self._untagged and struct.unpack_from("!I", frame.head)[0] not in {_SSL, _GSS}:
                    self._untagged = False
                start = position
                yield frame
        self._taken = size - start


class Statements:
    """Which messages of one client carry a COMMIT, in the simple and in the extended protocol."""

    def __init__(self) -> None:
        self._named: dict[bytes, bytes] = {}
        self._portals: dict[bytes, bytes] = {}
        self._moves_position = False
        self._committing = False

    def sees(self, frame: Frame) -> tuple[bool, bool, bool]:
        """(a COMMIT is asked for here, everything up to its answer is asked for here, it writes our position)."""
        if frame.tag == b"Q":
            return self._run(frame.head.split(b"\0", 1)[0], whole=True)
        if frame.tag == b"P":
            name, text = frame.head.split(b"\0", 2)[:2]
            self._named[name] = text
        elif frame.tag == b"B":
            portal, name = frame.head.split(b"\0", 2)[:2]
            self._portals[portal] = self._named.get(name, b"")
        elif frame.tag == b"E":
            return self._run(self._portals.get(frame.head.split(b"\0", 1)[0], b""), whole=False)
        elif frame.tag in {b"S", b"H"} and self._committing:
            self._committing = False
            moved, self._moves_position = self._moves_position, False
            return False, True, moved
        return False, False, False

    def _run(self, text: bytes, *, whole: bool) -> tuple[bool, bool, bool]:
        if _POSITION.search(text):
            self._moves_position = True
        moved = self._moves_position
        if _COMMIT.search(text):
            if whole:
                self._moves_position = False
            else:
                self._committing = True
            return True, whole, moved
        if _ENDS.search(text):
            self._moves_position = False
        return False, False, False


@dataclass(eq=False)
class _Link:
    """One client's connection and ours to the server behind it."""

    proxy: Proxy
    client: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    server: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    application: str = ""
    replication: bool = False
    frozen: bool = False  # half-open: nothing moves, nothing closes
    withheld: Trap | None = None
    asked: Framer = field(default_factory=lambda: Framer(startup=True))
    answered: Framer = field(default_factory=lambda: Framer(startup=False))
    statements: Statements = field(default_factory=Statements)
    thawed: asyncio.Event = field(default_factory=asyncio.Event)

    def cut(self, *, reset: bool | None = None) -> None:
        """Drop both halves: with FIN or, to the client, sometimes with RST."""
        hard = self.proxy.random.random() < 0.5 if reset is None else reset
        for _, writer in (self.client, self.server):
            raw = writer.transport.get_extra_info("socket")
            if hard and raw is not None and writer is self.client[1]:
                with contextlib.suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        self.thawed.set()

    def _introduced(self, frame: Frame) -> None:
        code = struct.unpack_from("!I", frame.head)[0]
        if code in {_SSL, _GSS}:
            self.answered.raw_bytes += 1
        elif code != _CANCEL:
            words = frame.head[4:].split(b"\0")
            given = dict(zip(words[::2], words[1::2], strict=False))
            self.application = given.get(b"application_name", b"").decode("utf-8", "replace")
            self.replication = given.get(b"replication", b"") not in {b"", b"false", b"off", b"0"}

    async def up(self) -> None:
        """Client to server."""
        reader, writer = self.client[0], self.server[1]
        proxy = self.proxy
        while data := await reader.read(65536):
            await proxy.passage(self, up=True)
            for frame in self.asked.feed(data):
                if not frame.tag:
                    self._introduced(frame)
                    continue
                if frame.tag == b"d":
                    if frame.head[:1] == b"r":
                        if proxy.spring(Trap.BEFORE_STATUS, self, moved=False):
                            await self._send(writer, data[: max(0, frame.start)], up=True)
                            return self.cut()
                        if proxy.spring(Trap.AFTER_STATUS, self, moved=False):
                            await self._send(writer, data[: frame.end], up=True)
                            return self.cut(reset=False)
                    continue
                asks, is_whole, moved = self.statements.sees(frame)
                if asks and proxy.spring(Trap.BEFORE_COMMIT, self, moved=moved):
                    await self._send(writer, data[: max(0, frame.start)], up=True)
                    return self.cut()
                if is_whole and self.withheld is None:
                    if proxy.spring(Trap.BLIND_COMMIT, self, moved=moved):
                        await self._send(writer, data[: frame.end], up=True)
                        return self.cut(reset=False)
                    if proxy.spring(Trap.AFTER_COMMIT, self, moved=moved, count=False):
                        self.withheld = Trap.AFTER_COMMIT
                        await self._send(writer, data[: frame.end], up=True)
                        await asyncio.sleep(proxy.patience)
                        proxy.counts["after_commit_unanswered"] += 1
                        return self.cut()
            await self._send(writer, data, up=True)
        return None

    async def down(self) -> None:
        """Server to client."""
        reader, writer = self.server[0], self.client[1]
        proxy = self.proxy
        while data := await reader.read(65536):
            await proxy.passage(self, up=False)
            for frame in self.answered.feed(data):
                if self.withheld is None:
                    continue
                if frame.tag == b"C" and frame.head.startswith(b"COMMIT"):
                    proxy.counts[Trap.AFTER_COMMIT.value] += 1
                    return self.cut()
                if frame.tag == b"E" or (frame.tag == b"C" and frame.head.startswith(b"ROLLBACK")):
                    proxy.counts["after_commit_refused"] += 1
                    return self.cut()
            if self.withheld is None:
                await self._send(writer, data, up=False)
        return None

    async def _send(self, writer: asyncio.StreamWriter, data: bytes, *, up: bool) -> None:
        proxy = self.proxy
        for piece in proxy.pieces(self, data):
            await proxy.passage(self, up=up)
            writer.write(piece)
            await writer.drain()
            if proxy.slowness:
                await asyncio.sleep(len(piece) * proxy.slowness)

    async def run(self) -> None:
        pumps = [asyncio.create_task(self.up(), name="up"), asyncio.create_task(self.down(), name="down")]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if self.frozen:  # an end that hung up is not told to the other
                await self.thawed.wait()
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for _, writer in (self.server, self.client):
                with contextlib.suppress(OSError):
                    writer.close()


class Proxy:
    """Listens on 127.0.0.1:`port` and forwards to `host`:`upstream`. Use as a context manager."""

    def __init__(self, upstream: int, *, host: str = "127.0.0.1", seed: int = 0, patience: float = 5.0) -> None:
        self.host = host
        self.upstream = upstream
        self.random = random.Random(seed)
        self.patience = patience
        self.counts: Counter[str] = Counter()
        self.slowness = 0.0  # seconds a byte
        self.port = 0
        self._flow = Flow.PASS
        self._traps: list[tuple[Trap, bool, re.Pattern[str]]] = []
        self._fuse: int | None = None
        self._segment = 0
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._refusing = False
        self._loop = asyncio.new_event_loop()
        self._open: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._serve, name=f"proxy.{upstream}", daemon=True)
        self._ready = threading.Event()
        self._changed = threading.Condition()

    # -- life

    def __enter__(self) -> Proxy:
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the proxy did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._open = asyncio.Event()
        self._open.set()
        server = self._loop.run_until_complete(asyncio.start_server(self._accepted, "127.0.0.1", self.port))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        try:
            self._loop.run_forever()
        finally:
            server.close()
            for link in list(self._links):
                link.cut()
            for task in list(self._tasks):
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
            for writer in self._writers:
                writer.transport.abort()
            self._loop.run_until_complete(asyncio.sleep(0.01))  # transports close on a later turn of the loop
            self._loop.close()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self._refusing:
            self.counts["refused"] += 1
            writer.transport.abort()
            return
        try:
            upstream = await asyncio.open_connection(self.host, self.upstream)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()  # as if nobody listened
            return
        self._writers |= {writer, upstream[1]}
        for out in (writer, upstream[1]):
            out.transport.set_write_buffer_limits(0)
            raw = out.get_extra_info("socket")
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = _Link(self, (reader, writer), upstream)
        self._links.add(link)
        try:
            await link.run()
        except asyncio.CancelledError:
            link.cut()
        finally:
            self._links.discard(link)
            self._writers -= {
                w for w in self._writers if w.transport.is_closing() and not w.transport.get_write_buffer_size()
            }

    # -- what the links ask

    async def passage(self, link: _Link, *, up: bool) -> None:
        """Return when bytes may pass in this direction."""
        while True:
            if link.frozen:
                self.counts["half_open"] += 1
                await link.thawed.wait()
                raise asyncio.CancelledError
            barred = {Flow.STALL, Flow.STALL_UP if up else Flow.STALL_DOWN}
            if self._flow not in barred:
                return
            self.counts[self._flow.value] += 1
            opened = self._open
            if opened is None:
                return
            await opened.wait()

    def pieces(self, link: _Link, data: bytes) -> Iterator[bytes]:
        if not data:
            return
        if self._fuse is not None:
            if self._fuse < len(data):
                cut_at, self._fuse = self._fuse, None
                self.counts["random_cut"] += 1
                yield data[:cut_at]
                link.cut()
                raise asyncio.CancelledError
            self._fuse -= len(data)
        step = self._segment
        if not step or len(data) <= step:
            yield data
            return
        self.counts["split"] += 1
        position = 0
        while position < len(data):
            size = self.random.randint(1, step)
            yield data[position : position + size]
            position += size

    def spring(self, trap: Trap, link: _Link, *, moved: bool, count: bool = True) -> bool:
        """Is this the moment an armed trap waited for? Disarms it."""
        for armed in self._traps:
            kind, only_position, applications = armed
            if kind is trap and (moved or not only_position) and applications.search(link.application):
                self._traps.remove(armed)
                if count:
                    self.counts[trap.value] += 1
                return True
        return False

    # -- what a test says

    def _tell(self, action: Callable[[], None]) -> None:
        done = threading.Event()

        def perform() -> None:
            try:
                action()
            finally:
                done.set()

        self._loop.call_soon_threadsafe(perform)
        if not done.wait(10):
            raise RuntimeError("the proxy does not answer")

    def flow(self, flow: Flow) -> None:
        """Stall, or pass again."""

        def change() -> None:
            self._flow = flow
            opened, self._open = self._open, asyncio.Event()
            if opened is not None:
                opened.set()

        self._tell(change)

    def arm(self, trap: Trap, *, only_position: bool = False, applications: str = "") -> None:
        """Set a trap; `only_position` waits for a transaction that writes crossfade.progress."""
        self._tell(lambda: self._traps.append((trap, only_position, re.compile(applications))))

    def disarm(self) -> None:
        def clear() -> None:
            self._traps.clear()
            self._fuse = None

        self._tell(clear)

    def cut_within(self, size: int) -> None:
        """Cut whichever connection carries the byte so many bytes from now."""

        def light() -> None:
            self._fuse = size

        self._tell(light)

    def split(self, largest: int) -> None:
        """Forward in pieces of 1 to `largest` bytes; 0 ends it."""

        def change() -> None:
            self._segment = largest

        self._tell(change)

    def throttle(self, bytes_per_second: float) -> None:
        """Slow every direction of every connection down; 0 ends it."""

        def change() -> None:
            self.slowness = 1.0 / bytes_per_second if bytes_per_second else 0.0

        self._tell(change)

    def cut(self, *, applications: str = "", replication: bool | None = None) -> int:
        """Cut every connection that matches, now. Returns how many there were."""
        hit = 0

        def perform() -> None:
            nonlocal hit
            for link in list(self._links):
                if link.frozen or not re.search(applications, link.application):
                    continue
                if replication is not None and link.replication is not replication:
                    continue
                link.cut()
                hit += 1

        self._tell(perform)
        self.counts["cut"] += hit
        return hit

    def half_open(self, *, applications: str = "") -> int:
        """Freeze the connections there are: nothing passes, nothing closes. New ones pass. Returns how many froze."""
        hit = 0

        def perform() -> None:
            nonlocal hit
            for link in self._links:
                if not link.frozen and re.search(applications, link.application):
                    link.frozen = True
                    hit += 1

        self._tell(perform)
        return hit

    def bury(self) -> None:
        """End the frozen connections, as the network's own timeouts would."""

        def perform() -> None:
            for link in list(self._links):
                if link.frozen:
                    link.cut()

        self._tell(perform)

    def refuse(self, refusing: bool) -> None:
        """Turn new connections away."""

        def change() -> None:
            self._refusing = refusing

        self._tell(change)

    def heal(self) -> None:
        """End every lasting fault."""
        self.disarm()
        self.refuse(False)
        self.split(0)
        self.throttle(0)
        self.flow(Flow.PASS)
        self.bury()

    def wait_for(self, *kinds: str, more_than: int = 0, seconds: float = 10.0) -> bool:
        """Wait until faults of these kinds were counted beyond `more_than`."""
        deadline = time.monotonic() + seconds
        while sum(self.counts[kind] for kind in kinds) <= more_than:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    @property
    def applications(self) -> list[str]:
        """Who is connected, by application_name."""
        return sorted(link.application for link in list(self._links))
