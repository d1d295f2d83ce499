"""The reader: owns the replication connection, hands whole transactions over, and answers the server on its own clock.

It drains everything libpq holds per wake-up, stops reading while the pipe is full, and sends status all the same, so
that a slow or blocked target never makes the server hang up (A10). Refuses to know how changes are applied. The
invariant: the flush position it reports comes from the ledger alone (promise 1).

PostgreSQL: protocol-replication ("START_REPLICATION"), protocol-logical-replication.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from crossfade import failpoints
from crossfade.catalog import TableName
from crossfade.events import Acknowledged, Listener, Operation, PipeLevel, Received
from crossfade.faults import Fault, Refused, Transient
from crossfade.ledger import AckLedger
from crossfade.lsn import Lsn
from crossfade.pgoutput.assemble import Assembler, Piece
from crossfade.pgoutput.messages import Commit, Form
from crossfade.pipe import EndOfStream, Idle, Pipe
from crossfade.session.drain import Drain
from crossfade.session.plain import PlainDrain
from crossfade.source.flow import REST, Flow
from crossfade.source.slot import IN_USE, publications_warning, start_command, taken
from crossfade.walstream import Keepalive, keepalive, standby_status

# How often an idle position is written to the target: each write makes WAL there, which may wake a neighbour for ever.
_PERSIST_EVERY: Final = 10.0
# Bytes of frames between two looks at clock and pipe: a few milliseconds' worth, so that the loop stays responsive
# (A11). Not more than the pipe has room for.
_BYTES: Final = 1024 * 1024
_ACK_EVERY: Final = 0.25
_TELL_EVERY: Final = 0.05


class StreamReader:
    """One START_REPLICATION, from `start` until told to stop. Not reusable. `form` is how values shall come; `drain`
    is how they are read from the source, and hears of notices by `noticed`.

    `is_paused` is asked before reading on; `ends` tells that we are to stop; `applier_is_done` that the pipe's other
    end has returned after our EndOfStream.
    """

    def __init__(
        self,
        drain: Callable[[Callable[[str, str], None]], Drain | PlainDrain],
        *,
        slot: str,
        publications: Sequence[str],
        form: Form,
        start: Lsn,
        ledger: AckLedger,
        pipe: Pipe,
        piece_bytes: int,
        status_interval: float,
        listener: Listener,
        is_paused: Callable[[], bool],
        ends: Callable[[], bool],
        applier_is_done: Callable[[], bool],
    ) -> None:
        self._slot = slot
        self._publications = tuple(publications)
        self._form = form
        self._start = start
        self._ledger = ledger
        self._pipe = pipe
        self._assembler = Assembler(start, piece_bytes=piece_bytes)
        self._status_interval = status_interval
        self._listener = listener
        self._is_paused = is_paused
        self._ends = ends
        self._applier_is_done = applier_is_done
        self._drain = drain(self._noticed)
        self._warning: Fault | None = None
        self._sent_at = 0.0
        self._sent_flush = start
        self._persisted_at = 0.0
        self._persist_now = False
        self._offered = start
        self._flow = Flow(is_local=self._drain.is_local)
        self._untold_bytes = self._untold_keepalives = 0
        self._told_at = 0.0
        self.heard_at = time.monotonic()
        self.is_listening = False  # not while paused, ending, or waiting for the target

    def kick(self) -> None:
        """Something changed that the reader should look at: a commit, a pause, a stop."""
        self._drain.kick()

    def made_durable(self) -> None:
        """A commit of the target: kicks if it is to be acknowledged at once. Of many small ones most are not, and to
        look at each costs as much as to read it."""
        if self._persist_now or time.monotonic() - self._sent_at >= _ACK_EVERY:
            self._drain.kick()

    def persist_soon(self) -> None:
        """Somebody waits for our position: write an idle one at once."""
        self._persist_now = True
        self._drain.kick()

    async def run(self) -> None:
        """Stream until told to stop; then wait for the applier, acknowledge what it made durable, and end the COPY."""
        try:
            await self._stream()
        finally:
            self._tell(math.inf)
            self._drain.close()

    async def _stream(self) -> None:
        await self._begin()
        ended = False
        while True:
            ends = self._ends()
            if ends and not ended:
                # An unfinished transaction is dropped: the source sends it again.
                self._pipe.put(EndOfStream())
                ended = True
            if ended and self._applier_is_done():
                break
            reads = not ends and not self._is_paused() and not self._pipe.is_full
            if reads and not self.is_listening:
                self.heard_at = time.monotonic()  # silence counts from now: until now we did not listen
            self.is_listening = reads
            if reads and self._read():
                await asyncio.sleep(0)  # whoever waited for it goes first
            await self._answer()
            self._tell(time.monotonic())
            if reads and self._flow.rests(time.monotonic(), is_empty=not self._drain.holds_more):
                await self._drain.wait(REST, reading=False)
                continue
            if reads and self._flow.is_to_be_read:
                self._drain.kick()
            await self._drain.wait(self._tick(), reading=reads)
        await self._send_status(reply=False)
        with contextlib.suppress(Transient):  # a server that does not take leave is left alone
            await self._drain.end()

    async def _begin(self) -> None:
        try:
            await self._drain.start(start_command(self._slot, self._start, self._publications, self._form))
        except Fault as fault:
            if fault.sqlstate != IN_USE:
                raise self._explained(fault) from None
            raise taken(self._slot) from None

    def _noticed(self, severity: str, sqlstate: str) -> None:
        if severity in {"WARNING", "ERROR"}:
            self._warning = publications_warning(self._slot, self._publications, sqlstate)

    # reading -------------------------------------------------------------------------------------------------------

    def _read(self) -> bool:
        """Take what has arrived, up to a slice of work or a full pipe; returns whether anything was handed over."""
        before = self._pipe.puts
        try:
            frames = self._drain.take(min(_BYTES, self._pipe.limit_bytes - self._pipe.held))
            keepalives = self._assemble(frames)
        except Fault as fault:
            raise self._explained(fault) from None
        if self._warning is not None:
            raise self._warning
        if self._drain.is_finished:
            raise Transient("The source ended the stream.", where=f"slot {self._slot}", means="Nothing is lost.")
        if self._drain.holds_more:
            # Inside libpq, of which the socket knows nothing; or, the socket having been nearly full, behind it.
            self._drain.kick()
        if self._drain.heard:  # a part of a huge row is a sign of life as well
            self.heard_at = time.monotonic()
        if frames:
            received = sum(map(len, frames))
            self._flow.saw(received)
            self._untold_bytes += received
            self._untold_keepalives += keepalives
        return self._pipe.puts != before

    def _tell(self, now: float) -> None:
        """What was received, every now and then: for each of many small messages it costs as much as their rows."""
        if not self._untold_bytes or now - self._told_at < _TELL_EVERY:
            return
        self._told_at = now
        self._listener(
            Received(
                self._untold_bytes,
                self._untold_keepalives,
                self._counted(),
                self._assembler.transactions_skipped,
                self._ledger.received,
            )
        )
        self._untold_bytes = self._untold_keepalives = self._assembler.transactions_skipped = 0
        self._listener(PipeLevel(self._pipe.changes, self._pipe.held, self._pipe.limit_bytes))

    def _keepalive(self, message: Keepalive) -> None:
        self._ledger.heard(message.wal_end, mid_transaction=self._assembler.is_mid_transaction)
        if message.reply_requested:
            # The server may be waiting for exactly this position before it can shut down (B16).
            self._persist_now = True
            self._sent_at = 0.0

    def _assemble(self, frames: list[bytes]) -> int:
        """Put the frames together and hand over what is complete; returns how many were keepalives."""
        at, keepalives = 0, 0
        while at < len(frames):
            at, piece = self._assembler.rows(frames, at)
            if piece is None and at < len(frames):
                frame = frames[at]
                at += 1
                sign = keepalive(frame)
                if sign is not None:
                    keepalives += 1
                    self._keepalive(sign)
                    continue
                message, piece = self._assembler.feed(frame)
                if isinstance(message, Commit) and (piece is None or (piece.is_whole and not piece.frames)):
                    # Skipped; or empty, as servers before 15 send one for every transaction that touched no
                    # published table (A19).
                    self._ledger.heard(message.end_lsn, mid_transaction=False)
                    continue
            if piece is not None:
                self._hand_over(piece)
        return keepalives

    def _hand_over(self, piece: Piece) -> None:
        if piece.commit is not None:
            self._ledger.handed_over(piece.commit.end_lsn)
            if failpoints.is_on("ack_early"):
                self._ledger.made_durable(piece.commit.end_lsn)
        self._pipe.put(piece)

    def _counted(self) -> Counter[tuple[TableName, Operation]]:
        changes: Counter[tuple[TableName, Operation]] = Counter()
        for tag, relation, times in self._assembler.counted():
            changes[relation.table, _OPERATIONS[tag]] += times
        return changes

    def _explained(self, fault: Fault) -> Fault:
        """What the walsender's own errors mean to us."""
        if fault.sqlstate == "42704":
            return Refused(
                "The source cannot find a publication at the position it reads.",
                where=f"source, slot {self._slot}, publications {', '.join(self._publications)}",
                means="Decoding sees the catalog as it was then; making the publication now does not help.",
                do="`crossfade teardown`, make the publications as `crossfade check` prints, empty the target tables,"
                " `crossfade run`.",
                sqlstate=fault.sqlstate,
            )
        if fault.sqlstate in {"XX000", "54000"}:
            is_text = self._form is Form.TEXT
            return Fault(
                f"The source could not decode a change (SQLSTATE {fault.sqlstate}); "
                + (
                    "a bytea above 500 MB, whose text form does not fit a message, is the usual reason."
                    if is_text
                    else "a row whose values together do not fit a message of 1 GB is the usual reason."
                ),
                where=f"source, slot {self._slot}, after {self._ledger.received}, stream in {self._form.value}",
                means="The slot cannot pass that change; WAL is retained meanwhile.",
                do=(
                    "In binary it passes: `crossfade check` says what keeps the stream in text. Failing that, "
                    * is_text
                )
                + "read the source's log for the reason. The last way out is to remove the value and copy again:"
                " `crossfade teardown`, empty the target tables, `crossfade run`.",
                sqlstate=fault.sqlstate,
            )
        return fault

    # answering -----------------------------------------------------------------------------------------------------

    def _tick(self) -> float:
        if self._untold_bytes:
            return _TELL_EVERY
        is_owed = self._ledger.pending or self._ledger.flush_position() > self._sent_flush
        return min(self._status_interval / 2, _ACK_EVERY if is_owed else 1.0)

    async def _answer(self) -> None:
        now = time.monotonic()
        idle = self._ledger.to_persist()
        if (
            idle is not None
            and idle > self._offered
            and not self._ends()
            # Pieces of an open transaction may be on their way already; nothing may come between them.
            and not self._assembler.is_mid_transaction
            and (self._persist_now or now - self._persisted_at >= _PERSIST_EVERY)
        ):
            self._pipe.put(Idle(idle))
            self._offered = idle
            self._persisted_at = now
            self._persist_now = False
        flush_position = self._ledger.flush_position()
        due = now - self._sent_at >= self._status_interval
        moved = flush_position > self._sent_flush and now - self._sent_at >= _ACK_EVERY
        if due or moved:
            # Asking for a reply when nothing was heard for long tells a silent server from a dead line (B4).
            await self._send_status(reply=due and now - self.heard_at > self._status_interval)

    async def _send_status(self, *, reply: bool) -> None:
        flush_position = self._ledger.flush_position()
        failpoints.reached("before_ack")
        payload = standby_status(self._ledger.positions(), datetime.now(UTC), reply)
        await self._drain.send(payload)
        failpoints.reached("after_ack")
        self._sent_at = time.monotonic()
        if flush_position > self._sent_flush:
            self._sent_flush = flush_position
            self._listener(Acknowledged(flush_position))


_OPERATIONS: Final = {
    ord("I"): Operation.INSERT,
    ord("U"): Operation.UPDATE,
    ord("D"): Operation.DELETE,
    ord("T"): Operation.TRUNCATE,
}
