"""Between pipe and applier: whole transactions are folded into the open batch while the target is busy.

The applier takes what lies ready whenever it is free, which makes batches small and quick while the target keeps up
and large when it is behind. A batch is closed when it is full, when a relation changed its shape, before and after a
TRUNCATE, at an idle position and at a large transaction, whose pieces are batches of their own. Refuses to know how a
batch is applied. The invariant: batches come out in the order of the stream, each transaction in one of them, and at
most one lies ready while another is open, so that what is held stays within the pipe's limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Final

from crossfade import failpoints
from crossfade.catalog import Route
from crossfade.faults import Fault, PlanMismatch
from crossfade.lsn import Lsn
from crossfade.mapping.plan import Plan, TablePlan
from crossfade.pgoutput.assemble import Piece
from crossfade.pgoutput.messages import Form, Relation
from crossfade.pipe import EndOfStream, Idle, Pipe
from crossfade.walstream import HEADER
from crossfade.wire.batch import Batch
from crossfade.wire.fold import TableFold, fold
from crossfade.wire.widen import Widener

# Fewer changes than this are quicker one by one in a single round trip than sorted into sets; they are not folded.
FEW: Final = 24
# Frames folded before others may run: about 10 ms where nothing is compiled.
_SLICE: Final = 2048
# Of a row message in its frame: the relation it changes.
_OID: Final = slice(HEADER + 1, HEADER + 5)

Ready = Batch | Idle | EndOfStream


class _Open:
    """The batch that still grows. `folded` pieces of it are in `tables`."""

    def __init__(self, shape: int) -> None:
        self.shape = shape
        self.pieces: list[Piece] = []
        self.cost = 0
        self.changes = 0
        self.folded = 0
        self.reason = ""
        # By relation. There is another layer where one is split: each layer holds one more of its targets.
        self.layers: list[dict[int, TableFold]] = [{}]

    def batch(self) -> Batch:
        """What has gathered; nothing may be added after that."""
        reason = self.reason or ("small" if self.folded < len(self.pieces) else "")
        tables = [table for layer in self.layers for table in layer.values()]
        return Batch(self.pieces, () if reason else tables, reason)


class Gatherer:
    """Run `run` as a task of its own; the applier awaits `ready` and takes with `take`.

    `from_lsn` holds, per table copied at a later snapshot, the position before which its changes are already in
    the copy. With `folds` False nothing is folded and every batch is for the exact path. The pipe offers it what comes
    while it waits.
    """

    def __init__(
        self, pipe: Pipe, plan: Plan, *, form: Form, from_lsn: Mapping[Route, Lsn], batch_bytes: int, folds: bool
    ) -> None:
        self._pipe = pipe
        self._plans = plan.by_source()
        self._form = form
        self._widener = Widener(self._plans, form)
        self._from_lsn = from_lsn
        self._batch_bytes = batch_bytes
        self._folds = folds
        self._few = 1 if failpoints.is_on("fold_few") else FEW
        self._closed: Ready | None = None
        self._open: _Open | None = None
        self._is_folding = False
        self._since = 0  # frames folded since others had their turn
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._waits = False
        pipe.offer = self._accept

    # for the applier -----------------------------------------------------------------------------------------------

    async def ready(self) -> None:
        """Wait until there is something to take."""
        while not self._has_something():
            self._arrived.clear()
            await self._arrived.wait()

    def _has_something(self) -> bool:
        return self._closed is not None or (self._open is not None and not self._is_folding)

    def take(self) -> Ready:
        """What comes next; only after `ready`. Nothing here holds on to it."""
        closed = self._closed
        if closed is not None:
            self._closed = None
            self._room.set()
        else:
            closed = self._taken_open()
            assert closed is not None, "asked before anything was ready"
        return closed

    # the task ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Fold what comes, until the stream ends."""
        while True:
            self._waits = True
            await self._pipe.arrived()
            self._waits = False
            item = self._pipe.peek()
            if isinstance(item, Piece):
                if not self._joins(item):
                    await self._close()
                del item  # no name here may hold a piece while another is waited for: one may be a gigabyte
                await self._add()
                if self._is_complete():
                    await self._close()
                continue
            self._pipe.take()
            await self._close()
            await self._put(item or EndOfStream())
            if isinstance(item, EndOfStream):
                return

    def _joins(self, piece: Piece) -> bool:
        """May lie in one batch with what is open."""
        opened = self._open
        if opened is None:
            return True
        return piece.is_whole and not (self._folds and (piece.truncates or piece.shape != opened.shape))

    def _accept(self, piece: Piece) -> bool:
        """Take a piece where there is nothing to be done with it: a small transaction then reaches an applier that
        waits without a turn of ours in between."""
        changes, cost = len(piece.frames), piece.cost
        if self._open is not None:
            changes, cost = changes + self._open.changes, cost + self._open.cost
        if (
            not self._waits
            or self._widener.is_needed
            or not piece.is_whole
            or piece.truncates
            or changes >= self._few
            or cost >= self._batch_bytes
            or not self._joins(piece)
        ):
            return False
        self._join(piece)
        self._arrived.set()
        return True

    def _is_complete(self) -> bool:
        """Nothing may join what is open (nothing is, when the applier was quicker)."""
        opened = self._open
        if opened is None:
            return False
        last = opened.pieces[-1]
        return opened.cost >= self._batch_bytes or not last.is_whole or (self._folds and last.truncates)

    async def _add(self) -> None:
        """Take a piece from the pipe into the open batch."""
        piece = self._pipe.take()
        assert isinstance(piece, Piece)
        if self._widener.is_needed:
            await self._widen(piece)
        opened = self._join(piece)
        del piece
        if not opened.reason and opened.changes >= self._few:
            self._is_folding = True
            for frames in self._slices(opened):
                self._since += frames
                if self._since >= _SLICE:  # not for each of many small transactions
                    self._since = 0
                    await asyncio.sleep(0)
            self._is_folding = False
        self._arrived.set()

    def _join(self, piece: Piece) -> _Open:
        """The batch that it lies in now."""
        opened = self._open
        if opened is None:
            opened = self._open = _Open(piece.shape)
        opened.pieces.append(piece)
        opened.cost += piece.cost
        opened.changes += len(piece.frames)
        if not self._folds:
            opened.reason = "configured"
        elif piece.truncates:
            opened.reason = "truncate"
        elif piece.fault is not None:
            opened.reason = "refused"
        return opened

    async def _widen(self, piece: Piece) -> None:
        """Give its rows their compound columns, which the exact path wants as well; or say why it cannot be done, so
        that what came before is applied first."""
        try:
            piece.relations = self._widener.relations(piece.relations)
            if not self._widener.concerns(piece.oids):
                return
            frames, wide = piece.frames, self._widener.frame
            for start in range(0, len(frames), _SLICE):
                frames[start : start + _SLICE] = [wide(frame) for frame in frames[start : start + _SLICE]]
                await asyncio.sleep(0)
        except Fault as fault:
            piece.fault = fault

    def _slices(self, opened: _Open) -> Iterator[int]:
        """Fold what is not folded yet; yields how many frames it has been, so that others may run now and then.

        What cannot be folded is for the exact path, which finds the same and says it at the right place.
        """
        try:
            while opened.folded < len(opened.pieces):
                piece = opened.pieces[opened.folded]
                skips = self._describe(opened, piece)
                for start in range(0, len(piece.frames), _SLICE):
                    frames = (
                        piece.frames[start : start + _SLICE] if start or len(piece.frames) > _SLICE else piece.frames
                    )
                    fold(frames, opened.layers[0], skips[0])
                    yield len(frames)
                    for layer, skip in zip(opened.layers[1:], skips[1:], strict=True):
                        split = [frame for frame in frames if int.from_bytes(frame[_OID], "big") in layer]
                        fold(split, layer, skip)
                        yield len(split)
                opened.folded += 1
        except Fault:
            opened.reason = "refused"
            return
        tables = (table for layer in opened.layers for table in layer.values())
        opened.reason = next((table.refused for table in tables if table.refused), "")

    def folded(self, piece: Piece) -> Batch:
        """One transaction by itself, whatever its size; its `reason` says why it could not be folded."""
        opened = _Open(piece.shape)
        opened.pieces.append(piece)
        if piece.truncates:
            opened.reason = "truncate"
        else:
            for _ in self._slices(opened):
                pass
        return opened.batch()

    def _describe(self, opened: _Open, piece: Piece) -> list[frozenset[int]]:
        """A fold for every target of every relation that the piece changes. Returns the relations, by layer, whose
        changes that target's copy has."""
        final_lsn = piece.begin.final_lsn
        skips: list[set[int]] = [set() for _ in opened.layers]
        for oid in piece.oids:
            relation = piece.relations[oid]
            for at, plan in enumerate(self._targets(relation)):
                if at == len(opened.layers):
                    opened.layers.append({})
                    skips.append(set())
                from_lsn = self._from_lsn.get(plan.route)
                if from_lsn is not None and final_lsn < from_lsn:
                    skips[at].add(oid)
                elif oid not in opened.layers[at]:
                    opened.layers[at][oid] = TableFold(relation, plan, self._form)
        return [frozenset(skip) for skip in skips]

    def _targets(self, relation: Relation) -> tuple[TablePlan, ...]:
        plans = self._plans.get(relation.table, ())
        if not plans or plans[0].source_oid != relation.oid:
            raise PlanMismatch("not the table that the mapping means", where=str(relation.table))
        return plans

    # hand-over -----------------------------------------------------------------------------------------------------

    def _taken_open(self) -> Batch | None:
        opened = self._open
        if opened is None or self._is_folding:
            return None
        self._open = None
        return opened.batch()

    async def _close(self) -> None:
        """Nothing more joins the open batch: it waits until the applier has room for it, or takes it itself."""
        await self._has_room()
        batch = self._taken_open()
        if batch is not None:
            self._closed = batch
            self._arrived.set()

    async def _put(self, item: Idle | EndOfStream) -> None:
        await self._has_room()
        self._closed = item
        self._arrived.set()

    async def _has_room(self) -> None:
        while self._closed is not None:
            self._room.clear()
            await self._room.wait()
