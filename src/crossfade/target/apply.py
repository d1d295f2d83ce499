"""The applier: takes batches as they are gathered, chooses the level that applies them, commits, and tells.

    set      one statement for all rows of a kind in a table; one target transaction for the whole batch
    final    the same for values and keys that move between rows: all touched rows out, then in again (replica role)
    exact    change by change in source order; should a batch fail, one target transaction per source transaction,
             so that the good ones become durable and the bad one stands alone (and is tried in final state once)

A level that meets anything unexpected takes back what it did and leaves the batch to the next; only what the exact
path refuses is an error. A transaction too large for a batch is applied in pieces inside a target transaction of its
own, each piece by the same levels, a savepoint before it. Refuses to know how rows are written (`sets`, `replay`) or
what may be acknowledged (`ledger`). The invariant: nothing is committed before the source's Commit was seen
(promise 3), and every COMMIT carries the position it brings us to (promise 2).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Final

import psycopg

from crossfade import failpoints
from crossfade.events import Applied, Listener
from crossfade.faults import (
    Fault,
    PlanMismatch,
    ProtocolViolation,
    Rebuild,
    Refused,
    RowRefused,
    Transient,
    Unreachable,
)
from crossfade.lsn import Lsn
from crossfade.pgoutput.assemble import Piece
from crossfade.pipe import EndOfStream, Idle, Pipe
from crossfade.session.connect import Connection, result_fault, server_fault
from crossfade.target.collision import TAKEN
from crossfade.target.gather import Gatherer, Ready
from crossfade.target.pipeline import COMMIT, StatementFailed
from crossfade.target.progress import Position
from crossfade.target.replay import Replayer
from crossfade.target.sets import SetLevel, TableChanges, Unfit, session
from crossfade.target.tally import Tally
from crossfade.wire.batch import Batch
from crossfade.wire.idstate import IdState

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

    `gatherer` runs as a task of its own beside `run`; `pipe` is told what has been let go of. `source_now` is the
    source's clock now (unix seconds), by the last sample; `sample_passed` the time of the newest sample a position has
    passed. `replica_role` says that we may set session_replication_role; `at_once` that a small transaction goes with
    its COMMIT in one round trip, the server comparing the row counts.
    """

    def __init__(
        self,
        connection: Connection,
        replayer: Replayer,
        sets: SetLevel,
        position: Position,
        gatherer: Gatherer,
        pipe: Pipe,
        *,
        ids: Mapping[str, IdState],
        replica_role: bool,
        at_once: bool,
        durable: MadeDurable,
        idle_persisted: IdlePersisted,
        listener: Listener,
        source_now: Callable[[], float],
        sample_passed: SamplePassed,
        is_paused: Callable[[], bool],
    ) -> None:
        self._connection = connection
        self._replayer = replayer
        self._sets = sets
        self._position = position
        self._gatherer = gatherer
        self._pipe = pipe
        self._ids = ids
        self._replica_role = replica_role
        self._at_once = at_once
        self._durable = durable
        self._idle_persisted = idle_persisted
        self._listener = listener
        self._source_now = source_now
        self._sample_passed = sample_passed
        self._is_paused = is_paused
        self._busy_since: float | None = None
        self._taken: Ready | None = None

    def busy_for(self) -> float:
        """Seconds since the statement run in flight began; 0 while waiting for something to apply."""
        return time.monotonic() - self._busy_since if self._busy_since is not None else 0.0

    async def run(self) -> None:
        """Apply until the end of the stream. Raises the fault that stopped it, everything uncommitted rolled back.

        No name here holds a piece while another is waited for: one may be a gigabyte.
        """
        try:
            await self._connection.execute(session(replica_role=self._replica_role))
        except psycopg.Error as error:
            raise server_fault(error, where="target, preparing the session") from None
        while True:
            self._busy_since = None
            await self._gatherer.ready()
            self._busy_since = time.monotonic()
            self._taken = self._gatherer.take()
            if isinstance(self._taken, EndOfStream):
                return
            if isinstance(self._taken, Idle):
                await self._idle(self._taken.position)
            elif self._taken.is_whole:
                await self._apply(self._batch())
            elif await self._in_pieces():
                return

    def _batch(self) -> Batch:
        """The batch that was taken, which is nobody else's from now on."""
        batch, self._taken = self._taken, None
        assert isinstance(batch, Batch)
        return batch

    # whole transactions --------------------------------------------------------------------------------------------

    async def _apply(self, batch: Batch) -> None:
        try:
            reason = batch.reason or await self._as_sets(batch)
            rest: Batch | None = batch if reason else None
            while rest is not None:
                rest = rest.after(await self._some(rest, reason))
        finally:
            self._pipe.released(batch.cost, batch.changes)

    async def _as_sets(self, batch: Batch) -> str:
        """Apply a batch as sets, in final state if need be; returns why not, or ''."""
        is_final, reason = False, ""
        if any(table.has_moves for table in batch.tables):
            is_final, reason = True, "moves"
        while not is_final or self._replica_role:
            started = time.monotonic()
            self._busy_since = started
            try:
                await self._set_transaction(batch, started, is_final=is_final, reason=reason)
                return ""
            except Unfit as unfit:
                await self._take_back()
                if is_final or unfit.reason != "unique":
                    return unfit.reason
                is_final, reason = True, unfit.reason
            except Rebuild:
                await self._take_back()
                if not self._sets.look_first():
                    return "ids"
            except (Transient, Unreachable):
                await self._take_back()
                raise
            except Fault:
                # Refused by the codec, by a policy or at COMMIT by a deferred check: the exact path says which row's.
                await self._take_back()
                return "refused"
        return reason

    async def _set_transaction(
        self, batch: Batch, started: float, *, is_final: bool, reason: str, guesses: bool = True
    ) -> None:
        replayer = self._replayer
        opening = replayer.opening()
        for state in self._ids.values():
            state.begin_transaction()
        tables = self._sets.tables(batch)
        await self._sets.derive(tables)
        await self._sets.identify(tables, replayer.remarks.orphans, guesses=guesses)
        replayer.settle_orphans(batch.pieces[0].begin.final_lsn)
        await self._sets.apply(tables, replayer.tally, is_final=is_final, first=opening)
        await self._commit(batch, started, "final" if is_final else "set", reason)

    async def _some(self, batch: Batch, reason: str) -> int:
        """Apply the beginning of a batch exactly, all of it one by one when it fails; returns how many transactions."""
        self._busy_since = time.monotonic()
        try:
            return await self._transaction(batch, "exact", reason)
        except Rebuild:
            pass  # ids are read again
        except (Transient, Unreachable):
            raise
        except Fault as fault:
            # Known or not: the good transactions before it become durable, and the bad one stands alone.
            if len(batch.pieces) == 1:
                await self._alone(batch.pieces[0], fault)
                return 1
        for piece in batch.pieces:
            try:
                await self._transaction(Batch([piece]), "exact_single", reason)
            except RowRefused as fault:
                await self._alone(piece, fault)
        return len(batch.pieces)

    async def _alone(self, piece: Piece, fault: Fault) -> None:
        """A transaction that the exact path could not apply: values may have to change places at once. Else `fault`."""
        batch = self._gatherer.folded(piece) if fault.sqlstate in TAKEN and self._replica_role else None
        if batch is None or batch.reason:
            raise fault
        try:
            await self._set_transaction(batch, time.monotonic(), is_final=True, reason="unique", guesses=False)
        except (Transient, Unreachable):
            await self._take_back()
            raise
        except (Unfit, Fault):
            await self._take_back()
            raise fault from None

    async def _transaction(self, batch: Batch, level: str, reason: str) -> int:
        """Apply transactions as one target transaction; returns how many: those that fit into its time."""
        started = time.monotonic()
        self._replayer.begin()
        try:
            done = 0
            while done == 0 or (done < len(batch.pieces) and time.monotonic() - started < _COMMIT_AFTER):
                await self._replayer.apply(batch.pieces[done : done + _SLICE])
                done = min(len(batch.pieces), done + _SLICE)
            await self._commit(batch.first(done), started, level, reason)
        except Fault:
            await self._take_back()
            raise
        return done

    # a large transaction -------------------------------------------------------------------------------------------

    async def _in_pieces(self) -> bool:
        """Apply one large transaction; True when the stream ended inside it (dropped: the source sends it again)."""
        started = time.monotonic()
        self._replayer.begin()
        batch: Batch | None = self._batch()
        slowest, why = 0, ""
        try:
            while True:
                assert batch is not None
                level, reason = await self._piece(batch)
                if level > slowest:
                    slowest, why = level, reason
                self._pipe.released(batch.cost, batch.changes)
                if batch.pieces[-1].commit is not None:
                    break
                if failpoints.is_on("cut_transactions"):
                    await self._connection.execute("COMMIT")
                    self._replayer.committed()
                    self._replayer.begin()
                self._busy_since = batch = None
                batch = await self._next_piece()
                self._busy_since = time.monotonic()
                if batch is None:
                    await self._take_back()
                    return True
            await self._commit(batch, started, _IN_PIECES[slowest], why)
        except Fault:
            await self._take_back()
            raise
        return False

    async def _piece(self, batch: Batch) -> tuple[int, str]:
        """Apply one piece; returns its level's place in _IN_PIECES, and why it was no lower."""
        piece = batch.pieces[0]
        if piece.is_first:
            for state in self._ids.values():
                state.begin_transaction()
        reason = batch.reason
        if not reason and any(state.has_aliases for state in self._ids.values()):
            reason = "id_moved"  # cascades follow, and only the exact path knows what a former key means to them
        if not reason:
            level, reason = await self._piece_as_sets(batch)
            if level < _EXACT:
                return level, reason
        await self._replayer.apply(batch.pieces)
        await self._replayer.write_ids()  # and whatever waits
        return _EXACT, reason

    async def _piece_as_sets(self, batch: Batch) -> tuple[int, str]:
        """`_as_sets` for a piece, behind a savepoint. Ids made for it are written before that, and stay."""
        replayer = self._replayer
        await replayer.settle()
        try:
            tables = self._sets.tables(batch)
            await self._derive_piece(tables)
            await self._sets.identify(tables, replayer.remarks.orphans)
        except (Unfit, PlanMismatch, Refused):
            return _EXACT, "refused"
        await replayer.write_ids()
        is_final, reason = False, ""
        if any(table.has_moves for table in batch.tables):
            is_final, reason = True, "moves"
        while not is_final or self._replica_role:
            await self._say("SAVEPOINT piece")
            try:
                await self._sets.apply(tables, replayer.tally, is_final=is_final, first=())
                await self._say("RELEASE SAVEPOINT piece")  # thousands of them must not nest
            except Unfit as unfit:
                await self._say("ROLLBACK TO SAVEPOINT piece")
                await self._say("RELEASE SAVEPOINT piece")
                if is_final or unfit.reason != "unique":
                    return _EXACT, unfit.reason
                is_final, reason = True, unfit.reason
                continue
            piece = batch.pieces[0]
            if piece.commit is not None:
                replayer.settle_orphans(piece.begin.final_lsn)
            return int(is_final), reason
        return _EXACT, reason

    async def _derive_piece(self, tables: Sequence[TableChanges]) -> None:
        """SQL that a row makes fail must not take the large transaction with it."""
        if not self._sets.computes:
            return
        await self._say("SAVEPOINT derive")
        try:
            await self._sets.derive(tables)
        except Unfit:
            await self._say("ROLLBACK TO SAVEPOINT derive")
            await self._say("RELEASE SAVEPOINT derive")
            raise
        await self._say("RELEASE SAVEPOINT derive")

    async def _say(self, text: str) -> None:
        try:
            await self._connection.execute(text.encode())
        except psycopg.Error as error:
            raise server_fault(error, where="target, inside a large transaction") from None

    async def _next_piece(self) -> Batch | None:
        while True:
            try:
                # Not wait_for: cancelled just when its task has ended, it would return as if nothing had been said
                # (python/cpython#86296), and whoever cancelled us would wait for ever.
                async with asyncio.timeout(1.0):
                    await self._gatherer.ready()
                break
            except TimeoutError:
                if self._is_paused():
                    # An open transaction holds locks; it is given back, and read again after `resume`.
                    raise Rebuild("Paused in the middle of a large transaction.", where="target") from None
        item = self._gatherer.take()
        if isinstance(item, EndOfStream):
            return None
        if not isinstance(item, Batch) or item.pieces[0].is_first:
            raise ProtocolViolation("another transaction began inside one applied in pieces", tag="B", offset=0)
        return item

    # the end of it -------------------------------------------------------------------------------------------------

    async def _commit(self, batch: Batch, started: float, level: str, reason: str) -> None:
        end = batch.end_lsn
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
                reason=reason,
            )
        )

    async def _move(self, end: Lsn) -> None:
        """What is left to write with the position, then COMMIT. After an error here nobody knows the outcome: the next
        start reads it back (A18)."""
        move = self._position.move(end, sample_passed_at=self._sample_passed(end))
        with _outcome_unknown(end):
            is_committed = self._at_once and await self._replayer.at_once(move)
        if not is_committed:
            self._position.check(await self._replayer.finish(move))
            failpoints.reached("before_commit")
            with _outcome_unknown(end):
                await self._say_commit(end)
        failpoints.reached("after_commit")
        self._position.moved(end)

    async def _say_commit(self, end: Lsn) -> None:
        try:
            (answer,) = await self._replayer.pipeline.results([COMMIT])
        except StatementFailed as failed:
            raise result_fault(failed.result, where=f"target, committing up to end LSN {end}") from None
        if answer.command_status != b"COMMIT":
            raise Transient("The server rolled back instead of committing.", where=f"target, end LSN {end}")

    async def _idle(self, position: Lsn) -> None:
        """Write a drained position before it is acknowledged: a source ahead of our record looks like a gap."""
        if position <= self._position.end_lsn:
            return
        self._replayer.begin()
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


@contextmanager
def _outcome_unknown(end: Lsn) -> Iterator[None]:
    """A COMMIT may be on its way: say so, should the connection be lost without a word of the server's."""
    try:
        yield
    except Transient as fault:
        if fault.sqlstate:
            raise
        fault.where = f"target, committing up to end LSN {end}"
        fault.means = "Whether it was committed is read back at the next start; nothing is lost or repeated."
        raise


# Levels of a large transaction: that of its slowest piece.
_IN_PIECES: Final = ("set_pieces", "final_pieces", "exact_pieces")
_EXACT: Final = 2


def _applied(batch: Batch, tally: Tally, *, seconds: float, now: float, level: str, reason: str) -> Applied:
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
        reason=reason,
        ids_looked_up=tally.ids_looked_up,
        filtered=tally.filtered,
    )
