"""The applier: takes pieces from the pipe, decides what becomes one target transaction, commits, and tells.

Whole source transactions that have gathered while the target was busy become one target transaction; a transaction
too large for that is applied in pieces inside a target transaction of its own. Should a batch fail, it is rolled back
and its transactions are applied one by one, so that the good ones become durable and the bad one stands alone.
Refuses to know how a change is written (`replay`) or what may be acknowledged (`ledger`). The invariant: nothing is
committed before the source's Commit was seen (promise 3), and every COMMIT carries the position it brings us to
(promise 2).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

import psycopg

from crossfade import failpoints
from crossfade.events import Applied, Listener
from crossfade.faults import Fault, PlanMismatch, ProtocolViolation, Rebuild, Refused, RowRefused, Transient
from crossfade.lsn import Lsn
from crossfade.pgoutput.assemble import Piece
from crossfade.pipe import EndOfStream, Idle, Pipe
from crossfade.session.connect import Connection, server_fault
from crossfade.target.progress import Position
from crossfade.target.replay import Replayer, Tally
from crossfade.wire.batch import Batch

# Microseconds between 1970-01-01 and 2000-01-01: PostgreSQL's epoch.
_POSTGRES_EPOCH: Final = 946_684_800

MadeDurable = Callable[[Lsn], None]
IdlePersisted = Callable[[Lsn], None]
SamplePassed = Callable[[Lsn], datetime | None]

# A batch that is full by bytes can keep the exact path busy for many seconds: until then nothing would be durable, lag
# would stand still for whoever looks at it, and a crash would throw all of it away. Seconds, and transactions between
# two looks at the clock.
_COMMIT_AFTER: Final = 0.5
_SLICE: Final = 100


class Applier:
    """One ordered apply. `durable` is called after each COMMIT returned, in order, with the position it made durable,
    and `idle_persisted` when that brought no rows.

    `source_now` is the source's clock now (unix seconds), by the last sample; `sample_passed` the time of the newest
    sample a position has passed.
    """

    def __init__(
        self,
        connection: Connection,
        replayer: Replayer,
        position: Position,
        pipe: Pipe,
        *,
        batch_bytes: int,
        durable: MadeDurable,
        idle_persisted: IdlePersisted,
        listener: Listener,
        source_now: Callable[[], float],
        sample_passed: SamplePassed,
        is_paused: Callable[[], bool],
    ) -> None:
        self._connection = connection
        self._replayer = replayer
        self._position = position
        self._pipe = pipe
        self._batch_bytes = batch_bytes
        self._durable = durable
        self._idle_persisted = idle_persisted
        self._listener = listener
        self._source_now = source_now
        self._sample_passed = sample_passed
        self._is_paused = is_paused
        self._busy_since: float | None = None

    def busy_for(self) -> float:
        """Seconds since the statement run in flight began; 0 while waiting for something to apply."""
        return time.monotonic() - self._busy_since if self._busy_since is not None else 0.0

    async def run(self) -> None:
        """Apply until the end of the stream. Raises the fault that stopped it, everything uncommitted rolled back.

        No name here holds a piece while another is waited for: one may be a gigabyte.
        """
        while True:
            self._busy_since = None
            await self._pipe.arrived()
            self._busy_since = time.monotonic()
            coming = self._coming()
            if coming is EndOfStream:
                return
            if coming is Idle:
                await self._idle()
            elif coming is Piece:
                await self._apply(self._gather())
            elif await self._in_pieces():
                return

    def _coming(self) -> type[EndOfStream | Idle | Piece] | None:
        """What is next in the pipe: for a Piece, a whole transaction; None: the first piece of a large one."""
        item = self._pipe.peek()
        if isinstance(item, Piece):
            return Piece if item.is_whole else None
        return type(item) if item is not None else Idle

    def _gather(self) -> Batch:
        """Every whole transaction that has arrived meanwhile, within the limit: many when behind, few when idle."""
        pieces: list[Piece] = []
        cost = 0
        while cost < self._batch_bytes:
            following = self._pipe.peek()
            if not isinstance(following, Piece) or not following.is_whole:
                break
            self._pipe.take()
            pieces.append(following)
            cost += following.cost
        return Batch(pieces)

    async def _apply(self, batch: Batch) -> None:
        """Apply a batch, in as many target transactions as its time takes."""
        try:
            rest: Batch | None = batch
            while rest is not None:
                rest = rest.after(await self._some(rest))
        finally:
            self._pipe.released(batch.cost)

    async def _some(self, batch: Batch) -> int:
        """Apply the beginning of a batch, or all of it one by one when it fails; returns how many transactions."""
        self._busy_since = time.monotonic()
        try:
            return await self._transaction(batch, "exact")
        except (RowRefused, PlanMismatch, Refused, Rebuild) as fault:
            if len(batch.pieces) == 1 and not isinstance(fault, Rebuild):
                raise
        for piece in batch.pieces:
            await self._transaction(Batch([piece]), "exact_single")
        return len(batch.pieces)

    async def _transaction(self, batch: Batch, level: str) -> int:
        """Apply transactions as one target transaction; returns how many: those that fit into its time."""
        started = time.monotonic()
        await self._replayer.begin()
        try:
            done = 0
            while done == 0 or (done < len(batch.pieces) and time.monotonic() - started < _COMMIT_AFTER):
                await self._replayer.apply(batch.pieces[done : done + _SLICE])
                done = min(len(batch.pieces), done + _SLICE)
            await self._commit(batch.first(done), started, level)
        except Fault:
            await self._take_back()
            raise
        return done

    async def _in_pieces(self) -> bool:
        """Apply one large transaction; True when the stream ended inside it (dropped: the source sends it again)."""
        started = time.monotonic()
        await self._replayer.begin()
        piece = self._pipe.take()
        try:
            while True:
                assert isinstance(piece, Piece)
                await self._replayer.apply([piece])
                await self._replayer.write_ids()
                self._pipe.released(piece.cost)
                if piece.commit is not None:
                    break
                if failpoints.is_on("cut_transactions"):
                    await self._connection.execute("COMMIT")
                    self._replayer.committed()
                    await self._replayer.begin()
                self._busy_since = piece = None
                piece = await self._next_piece()
                self._busy_since = time.monotonic()
                if piece is None:
                    await self._take_back()
                    return True
            await self._commit(Batch([piece]), started, "exact_pieces")
        except Fault:
            await self._take_back()
            raise
        return False

    async def _next_piece(self) -> Piece | None:
        while (item := self._pipe.take()) is None:
            if self._is_paused():
                # An open transaction holds locks; it is given back, and read again after `resume`.
                raise Rebuild("Paused in the middle of a large transaction.", where="target")
            try:
                await asyncio.wait_for(self._pipe.arrived(), 1.0)
            except TimeoutError:
                continue
        if isinstance(item, EndOfStream):
            return None
        if not isinstance(item, Piece) or item.is_first:
            raise ProtocolViolation("another transaction began inside one applied in pieces", tag="B", offset=0)
        return item

    async def _commit(self, batch: Batch, started: float, level: str) -> None:
        end = batch.end_lsn
        await self._replayer.write_ids()
        await self._move(end)
        self._replayer.committed()
        self._durable(end)
        self._listener(
            _applied(
                batch,
                self._replayer.tally,
                seconds=time.monotonic() - started,
                now=self._source_now(),
                level=level,
            )
        )

    async def _move(self, end: Lsn) -> None:
        """Position and COMMIT. After an error here nobody knows the outcome: the next start reads it back (A18)."""
        where = f"target, committing up to end LSN {end}"
        try:
            await self._position.move(self._connection, end, sample_passed_at=self._sample_passed(end))
            failpoints.reached("before_commit")
            await self._connection.execute("COMMIT")
        except psycopg.Error as error:
            raise server_fault(error, where=where) from None
        failpoints.reached("after_commit")
        self._position.moved(end)

    async def _idle(self) -> None:
        """Write a drained position before it is acknowledged: a source ahead of our record looks like a gap."""
        item = self._pipe.take()
        position = item.position if isinstance(item, Idle) else self._position.end_lsn
        if position <= self._position.end_lsn:
            return
        try:
            await self._connection.execute("BEGIN")
        except psycopg.Error as error:
            raise server_fault(error, where="target, writing an idle position") from None
        try:
            await self._move(position)
            self._idle_persisted(position)
        except Fault:
            await self._take_back()
            raise

    async def _take_back(self) -> None:
        """Roll back without hiding the fault that made us; a connection that is gone has rolled back by itself."""
        try:
            await self._replayer.rollback()
        except Transient:
            return


def _applied(batch: Batch, tally: Tally, *, seconds: float, now: float, level: str) -> Applied:
    return Applied(
        end_lsn=batch.end_lsn,
        transactions=len(batch.pieces),
        changes=tally.changes,
        conflicts=tally.conflicts,
        clock_notes=tally.clock,
        ids_created=tally.ids_created,
        ids_known=tally.ids_known,
        seconds=seconds,
        commit_times=tuple(piece.begin.commit_time / 1e6 + _POSTGRES_EPOCH for piece in batch.pieces),
        committed_at=now,
        by_level=level,
    )
