"""Whole source transactions, in commit order, gathered to become one target transaction; or one piece of a large one.

What has arrived while the target was busy is taken together, within a byte limit: many transactions when behind, one
when idle. Refuses to know how a batch is applied: the exact path walks its pieces in order, and the faster levels take
what `tables` make of them. The invariant: a batch is never empty, holds whole transactions of one shape or a single
piece of a large one, and is acknowledged by the last end position in it (promise 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crossfade.lsn import Lsn
from crossfade.pgoutput.assemble import Piece
from crossfade.wire.fold import TableFold


@dataclass(slots=True)
class Batch:
    """`pieces` in stream order; `tables` their changes folded, in the order in which their relations first came.

    A source table that is split has a fold for each of its targets.
    `reason` is why they were not folded, so that only the exact path can apply them; '' when they were.
    """

    pieces: Sequence[Piece]
    tables: Sequence[TableFold] = ()
    reason: str = ""

    def __post_init__(self) -> None:
        if not self.pieces:
            raise ValueError("a batch holds at least one piece")
        if len(self.pieces) > 1 and not all(piece.is_whole for piece in self.pieces):
            raise ValueError("a piece of a large transaction shares its batch with nobody")

    @property
    def is_whole(self) -> bool:
        """Whole transactions, not a piece of a larger one."""
        return self.pieces[0].is_whole

    @property
    def end_lsn(self) -> Lsn:
        """The position the target stands at once the batch is durable. The transaction's last piece is in it."""
        last = self.pieces[-1].commit
        if last is None:
            raise ValueError("the transaction is not over")
        return last.end_lsn

    @property
    def cost(self) -> int:
        """Bytes held."""
        return sum(piece.cost for piece in self.pieces)

    @property
    def changes(self) -> int:
        """Row messages and truncates."""
        return sum(len(piece.frames) for piece in self.pieces)

    def first(self, count: int) -> Batch:
        """The first `count` transactions (at least one, at most all), to be applied exactly."""
        return Batch(self.pieces[: max(1, count)])

    def after(self, count: int) -> Batch | None:
        """What follows the first `count`, to be applied exactly; None when nothing does."""
        rest = self.pieces[count:]
        return Batch(rest) if rest else None
