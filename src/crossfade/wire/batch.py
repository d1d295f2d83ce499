"""Whole source transactions, in commit order, gathered to become one target transaction.

What has arrived while the target was busy is taken together, within a byte limit: many transactions when behind, one
when idle. Refuses to know how a batch is applied: the exact path walks its pieces in order, and whatever is faster
folds them. The invariant: a batch is never empty, holds only whole transactions, and is acknowledged by the last end
position in it (promise 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crossfade.lsn import Lsn
from crossfade.pgoutput.assemble import Piece


@dataclass(frozen=True, slots=True)
class Batch:
    """`pieces` are whole transactions, or the last piece of one that was applied in pieces."""

    pieces: Sequence[Piece]

    def __post_init__(self) -> None:
        if not self.pieces or any(piece.commit is None for piece in self.pieces):
            raise ValueError("a batch holds whole transactions, at least one")

    @property
    def end_lsn(self) -> Lsn:
        """The position the target stands at once the batch is durable."""
        last = self.pieces[-1].commit
        assert last is not None, "checked when it was made"
        return last.end_lsn

    @property
    def cost(self) -> int:
        """Bytes held."""
        return sum(piece.cost for piece in self.pieces)

    def first(self, count: int) -> Batch:
        """The first `count` transactions (at least one, at most all)."""
        return Batch(self.pieces[: max(1, count)])

    def after(self, count: int) -> Batch | None:
        """What follows the first `count`; None when nothing does."""
        rest = self.pieces[count:]
        return Batch(rest) if rest else None
