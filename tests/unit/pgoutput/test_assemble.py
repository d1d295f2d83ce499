"""Whole transactions out of messages: order, skipping, pieces."""

from __future__ import annotations

import random

import pytest

from crossfade.catalog import ReplicaIdentity, TableName
from crossfade.faults import ProtocolViolation
from crossfade.lsn import Lsn
from crossfade.pgoutput.assemble import Assembler, Change, Piece, Truncation
from crossfade.pgoutput.messages import (
    AnyMessage,
    Begin,
    Commit,
    Insert,
    Message,
    Origin,
    Relation,
    RelationColumn,
    Truncate,
    Type,
)

ITEMS = Relation(7, TableName("public", "items"), ReplicaIdentity.DEFAULT, (RelationColumn("id", 23, -1, True),))
NOTHING = Lsn(0)


def begin(final: int, xid: int = 1) -> Begin:
    return Begin(Lsn(final), 0, xid)


def commit(at: int, end: int | None = None) -> Commit:
    return Commit(Lsn(at), Lsn(end if end is not None else at + 8), 0)


def insert(value: int) -> Insert:
    return Insert(7, (str(value).encode(),))


def feed(assembler: Assembler, *messages: AnyMessage, size: int = 10) -> list[Piece]:
    return [piece for message in messages if (piece := assembler.feed(message, size)) is not None]


def values(pieces: list[Piece]) -> list[bytes]:
    found = []
    for piece in pieces:
        for change in piece.changes:
            assert isinstance(change, Change)
            assert isinstance(change.message, Insert)
            cell = change.message.new[0]
            assert isinstance(cell, bytes)
            found.append(cell)
    return found


def test_a_transaction_comes_whole_with_the_relation_as_it_was() -> None:
    (piece,) = feed(Assembler(NOTHING, piece_bytes=1 << 20), begin(100), ITEMS, insert(1), insert(2), commit(100))
    assert piece.is_whole
    assert piece.commit is not None
    assert piece.commit.end_lsn == Lsn(108)
    assert values([piece]) == [b"1", b"2"]
    assert all(isinstance(change, Change) and change.relation is ITEMS for change in piece.changes)


@pytest.mark.parametrize(("final", "comes"), [(99, False), (100, True), (101, True)])
def test_A8_skipped_exactly_when_it_committed_before_our_position(final: int, comes: bool) -> None:
    """The server's own test: a transaction is ours already iff its commit record starts before our position (A1)."""
    assembler = Assembler(Lsn(100), piece_bytes=1 << 20)
    pieces = feed(assembler, begin(final), ITEMS, insert(1), commit(final))
    assert bool(pieces) is comes
    assert assembler.transactions_skipped == (0 if comes else 1)


def test_A8_a_relation_described_in_a_skipped_transaction_is_known_afterwards() -> None:
    """The server describes a relation once per connection."""
    assembler = Assembler(Lsn(100), piece_bytes=1 << 20)
    assert feed(assembler, begin(50), ITEMS, insert(1), commit(50)) == []
    (piece,) = feed(assembler, begin(150), insert(2), commit(150))
    assert values([piece]) == [b"2"]


def test_A19_an_empty_transaction_is_whole_and_holds_nothing() -> None:
    (piece,) = feed(Assembler(NOTHING, piece_bytes=1 << 20), begin(100), commit(100))
    assert piece.is_whole
    assert piece.changes == []


@pytest.mark.parametrize("seed", range(100))
def test_A5_pieces_put_together_are_the_transaction_and_only_the_last_has_its_commit(seed: int) -> None:
    """Random transactions and piece sizes: nothing lost, nothing doubled, order kept, commits only at the end."""
    chance = random.Random(seed)
    assembler = Assembler(NOTHING, piece_bytes=chance.choice((1, 500, 2_000, 100_000)))
    assembler.feed(ITEMS, 10)
    position = 100
    for _ in range(20):
        rows = list(range(chance.randint(0, 30)))
        pieces = feed(
            assembler, begin(position), *(insert(row) for row in rows), commit(position), size=chance.randint(1, 400)
        )
        assert values(pieces) == [str(row).encode() for row in rows]
        assert [piece.commit is not None for piece in pieces] == [False] * (len(pieces) - 1) + [True]
        assert [piece.is_first for piece in pieces] == [True] + [False] * (len(pieces) - 1)
        assert not assembler.is_mid_transaction
        position += chance.randint(1, 1000)


def test_A4_between_begin_and_commit_it_says_so() -> None:
    assembler = Assembler(NOTHING, piece_bytes=1)
    assembler.feed(ITEMS, 10)
    assert not assembler.is_mid_transaction
    for message in (begin(100), insert(1), insert(2)):
        assembler.feed(message, 10)
        assert assembler.is_mid_transaction
    assembler.feed(commit(100), 10)
    assert not assembler.is_mid_transaction


def test_a_skipped_transaction_is_one_as_well() -> None:
    """A keepalive in its middle must not count as past it."""
    assembler = Assembler(Lsn(1000), piece_bytes=1 << 20)
    feed(assembler, ITEMS, begin(100), insert(1))
    assert assembler.is_mid_transaction


def test_C16_a_truncate_names_its_relations_as_they_are() -> None:
    (piece,) = feed(
        Assembler(NOTHING, piece_bytes=1 << 20), begin(100), ITEMS, Truncate((7,), True, False), commit(100)
    )
    assert piece.changes == [Truncation((ITEMS,), True, False)]


def test_E6_a_relation_described_again_holds_for_what_follows_only() -> None:
    changed = Relation(7, ITEMS.table, ReplicaIdentity.FULL, ITEMS.columns)
    (piece,) = feed(
        Assembler(NOTHING, piece_bytes=1 << 20), begin(100), ITEMS, insert(1), changed, insert(2), commit(100)
    )
    relations = [change.relation for change in piece.changes if isinstance(change, Change)]
    assert relations == [ITEMS, changed]


@pytest.mark.parametrize(
    "messages",
    [
        [insert(1)],
        [commit(100)],
        [Truncate((7,), False, False)],
        [begin(100), begin(200)],
        [begin(100), commit(200)],
        [begin(100), Insert(99, (b"1",))],
        [begin(100), Truncate((99,), False, False)],
        [Message(False, Lsn(1), "p", b"")],
        [begin(100), Message(True, Lsn(1), "p", b"")],
    ],
    ids=[
        "change",
        "commit",
        "truncate",
        "nested",
        "another_commit",
        "unknown",
        "truncate_unknown",
        "message",
        "in_txn",
    ],
)
def test_an_order_the_protocol_does_not_have_is_named(messages: list[AnyMessage]) -> None:
    with pytest.raises(ProtocolViolation):
        feed(Assembler(NOTHING, piece_bytes=1 << 20), ITEMS, *messages)


def test_types_and_origins_pass() -> None:
    (piece,) = feed(
        Assembler(NOTHING, piece_bytes=1 << 20),
        begin(100),
        Origin(Lsn(1), "elsewhere"),
        Type(16_400, "public", "mood"),
        ITEMS,
        insert(1),
        commit(100),
    )
    assert values([piece]) == [b"1"]
