"""What a batch promises: whole transactions, or a piece of a larger one alone; acknowledged by the last of them."""

from __future__ import annotations

import pytest

from crossfade.lsn import Lsn
from crossfade.pgoutput.assemble import Piece
from crossfade.pgoutput.messages import Begin, Commit
from crossfade.wire.batch import Batch


def transaction(number: int, *, cost: int = 10) -> Piece:
    begin = Begin(Lsn(number * 100), 0, number)
    return Piece(begin, is_first=True, commit=Commit(Lsn(number * 100), Lsn(number * 100 + 8), 0), cost=cost)


def test_it_is_acknowledged_by_its_last_end_position() -> None:
    batch = Batch([transaction(1), transaction(2, cost=5)])
    assert batch.end_lsn == Lsn(208)
    assert batch.cost == 15


def test_a_piece_of_a_larger_transaction_is_alone_and_cannot_be_acknowledged() -> None:
    """Promise 3: a piece without its Commit must never be committed."""
    piece = Piece(Begin(Lsn(200), 0, 2), is_first=True)
    with pytest.raises(ValueError, match="shares its batch with nobody"):
        Batch([transaction(1), piece])
    batch = Batch([piece])
    assert not batch.is_whole
    with pytest.raises(ValueError, match="not over"):
        _ = batch.end_lsn


def test_an_empty_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Batch([])


def test_it_is_cut_between_transactions_only() -> None:
    batch = Batch([transaction(number) for number in range(1, 6)])
    head, rest = batch.first(2), batch.after(2)
    assert head.end_lsn == Lsn(208)
    assert rest is not None
    assert [piece.begin.xid for piece in (*head.pieces, *rest.pieces)] == [1, 2, 3, 4, 5]
    assert batch.after(5) is None
    assert batch.first(0).pieces == batch.pieces[:1]
