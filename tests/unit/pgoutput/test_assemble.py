"""Whole transactions out of messages: order, skipping, pieces."""

from __future__ import annotations

import random

import pytest

from crossfade.catalog import ReplicaIdentity, TableName
from crossfade.faults import ProtocolViolation
from crossfade.lsn import Lsn
from crossfade.pgoutput.assemble import Assembler, Piece
from crossfade.pgoutput.changes import Change, Truncation, changes_of
from crossfade.pgoutput.messages import Form, Insert, Relation, RelationColumn
from tests.unit.pgoutput import encoder

ITEMS = Relation(7, TableName("public", "items"), ReplicaIdentity.DEFAULT, (RelationColumn("id", 23, -1, True),))
OTHERS = Relation(8, TableName("public", "others"), ReplicaIdentity.DEFAULT, (RelationColumn("id", 23, -1, True),))
CHANGED = Relation(7, ITEMS.table, ReplicaIdentity.FULL, ITEMS.columns)
NOTHING = Lsn(0)


def begin(final: int, xid: int = 1) -> bytes:
    return encoder.frame(encoder.begin(final, 0, xid))


def commit(at: int, end: int | None = None) -> bytes:
    return encoder.frame(encoder.commit(at, end if end is not None else at + 8, 0))


def describe(what: Relation) -> bytes:
    columns = [(int(column.is_key), column.name, column.type_oid, column.typmod) for column in what.columns]
    identity = what.replica_identity.value.encode()
    return encoder.frame(encoder.relation(what.oid, what.table.schema, what.table.name, identity, columns))


def insert(value: int, oid: int = 7, *, pad: int = 0) -> bytes:
    return encoder.frame(encoder.insert(oid, [str(value).encode().rjust(pad, b"0")]))


def truncate(*oids: int, options: int = 0) -> bytes:
    return encoder.frame(encoder.truncate(oids, options))


def feed(assembler: Assembler, *given: bytes) -> list[Piece]:
    """As the reader does: runs of rows as far as they go, everything else one by one."""
    frames, pieces, at = list(given), [], 0
    while at < len(frames):
        at, piece = assembler.rows(frames, at)
        if piece is None and at < len(frames):
            _, piece = assembler.feed(frames[at])
            at += 1
        if piece is not None:
            pieces.append(piece)
    return pieces


def changes(pieces: list[Piece]) -> list[Change | Truncation]:
    return [change for piece in pieces for change in changes_of(piece, Form.TEXT)]


def values(pieces: list[Piece]) -> list[int]:
    found = []
    for change in changes(pieces):
        assert isinstance(change, Change)
        assert isinstance(change.message, Insert)
        cell = change.message.new[0]
        assert isinstance(cell, bytes)
        found.append(int(cell))
    return found


def test_a_transaction_comes_whole_with_the_relation_as_it_was() -> None:
    (piece,) = feed(
        Assembler(NOTHING, piece_bytes=1 << 20), begin(100), describe(ITEMS), insert(1), insert(2), commit(100)
    )
    assert piece.is_whole
    assert piece.commit is not None
    assert piece.commit.end_lsn == Lsn(108)
    assert values([piece]) == [1, 2]
    assert all(isinstance(change, Change) and change.relation == ITEMS for change in changes([piece]))
    assert piece.frames == [insert(1), insert(2)], "handed on as they came"


@pytest.mark.parametrize(("final", "comes"), [(99, False), (100, True), (101, True)])
def test_A8_skipped_exactly_when_it_committed_before_our_position(final: int, comes: bool) -> None:
    """The server's own test: a transaction is ours already iff its commit record starts before our position (A1)."""
    assembler = Assembler(Lsn(100), piece_bytes=1 << 20)
    pieces = feed(assembler, begin(final), describe(ITEMS), insert(1), commit(final))
    assert bool(pieces) is comes
    assert assembler.transactions_skipped == (0 if comes else 1)


def test_A8_a_skipped_transaction_may_be_larger_than_any_piece() -> None:
    assembler = Assembler(Lsn(100), piece_bytes=1)
    skipped = [insert(number) for number in range(40)]
    assert feed(assembler, begin(50), describe(ITEMS), *skipped, commit(50)) == []
    assert assembler.transactions_skipped == 1


def test_A8_a_relation_described_in_a_skipped_transaction_is_known_afterwards() -> None:
    """The server describes a relation once per connection."""
    assembler = Assembler(Lsn(100), piece_bytes=1 << 20)
    assert feed(assembler, begin(50), describe(ITEMS), insert(1), commit(50)) == []
    (piece,) = feed(assembler, begin(150), insert(2), commit(150))
    assert values([piece]) == [2]


def test_A19_an_empty_transaction_is_whole_and_holds_nothing() -> None:
    (piece,) = feed(Assembler(NOTHING, piece_bytes=1 << 20), begin(100), commit(100))
    assert piece.is_whole
    assert piece.frames == []


@pytest.mark.parametrize("seed", range(100))
def test_A5_pieces_put_together_are_the_transaction_and_only_the_last_has_its_commit(seed: int) -> None:
    """Random transactions and piece sizes: nothing lost, nothing doubled, order kept, commits only at the end."""
    chance = random.Random(seed)
    assembler = Assembler(NOTHING, piece_bytes=chance.choice((1, 500, 2_000, 100_000)))
    feed(assembler, describe(ITEMS))
    position = 100
    for _ in range(20):
        rows = list(range(chance.randint(0, 30)))
        pad = chance.randint(1, 400)
        pieces = feed(assembler, begin(position), *(insert(row, pad=pad) for row in rows), commit(position))
        assert values(pieces) == rows
        assert [piece.commit is not None for piece in pieces] == [False] * (len(pieces) - 1) + [True]
        assert [piece.is_first for piece in pieces] == [True] + [False] * (len(pieces) - 1)
        assert not assembler.is_mid_transaction
        position += chance.randint(1, 1000)


def test_A4_between_begin_and_commit_it_says_so() -> None:
    assembler = Assembler(NOTHING, piece_bytes=1)
    feed(assembler, describe(ITEMS))
    assert not assembler.is_mid_transaction
    for frame in (begin(100), insert(1), insert(2)):
        feed(assembler, frame)
        assert assembler.is_mid_transaction
    feed(assembler, commit(100))
    assert not assembler.is_mid_transaction


def test_a_skipped_transaction_is_one_as_well() -> None:
    """A keepalive in its middle must not count as past it."""
    assembler = Assembler(Lsn(1000), piece_bytes=1 << 20)
    feed(assembler, describe(ITEMS), begin(100), insert(1))
    assert assembler.is_mid_transaction


def test_C16_a_truncate_names_its_relations_as_they_are() -> None:
    pieces = feed(
        Assembler(NOTHING, piece_bytes=1 << 20), begin(100), describe(ITEMS), truncate(7, options=1), commit(100)
    )
    assert changes(pieces) == [Truncation((ITEMS,), True, False)]
    assert pieces[0].truncates


def test_E6_a_relation_described_again_holds_for_what_follows_only() -> None:
    """A piece is of one shape: the transaction is cut where a relation changed."""
    frames = begin(100), describe(ITEMS), insert(1), describe(CHANGED), insert(2), commit(100)
    before, after = feed(Assembler(NOTHING, piece_bytes=1 << 20), *frames)
    assert [change.relation for change in changes([before, after]) if isinstance(change, Change)] == [ITEMS, CHANGED]
    assert after.shape > before.shape
    assert (before.is_first, before.commit, after.is_first) == (True, None, False)
    assert after.commit is not None


def test_E6_a_relation_described_again_as_it_was_changes_nothing() -> None:
    frames = begin(100), describe(ITEMS), insert(1), describe(ITEMS), insert(2), commit(100)
    (piece,) = feed(Assembler(NOTHING, piece_bytes=1 << 20), *frames)
    assert values([piece]) == [1, 2]


def test_E6_a_new_relation_joins_the_open_piece_and_leaves_those_handed_over_alone() -> None:
    assembler = Assembler(NOTHING, piece_bytes=1 << 20)
    (first,) = feed(assembler, begin(100), describe(ITEMS), insert(1), commit(100))
    (second,) = feed(assembler, begin(200), insert(2), describe(OTHERS), insert(3, 8), commit(200))
    assert (dict(first.relations), dict(second.relations)) == ({7: ITEMS}, {7: ITEMS, 8: OTHERS})
    assert first.shape == second.shape


def test_E6_a_relation_that_changed_before_the_first_row_cuts_nothing() -> None:
    assembler = Assembler(NOTHING, piece_bytes=1 << 20)
    (first,) = feed(assembler, begin(100), describe(ITEMS), insert(1), commit(100))
    (second,) = feed(assembler, begin(200), describe(CHANGED), insert(2), commit(200))
    assert second.is_whole
    assert second.shape > first.shape
    assert (first.relations[7], second.relations[7]) == (ITEMS, CHANGED)


def test_changes_are_counted_by_message_and_relation_skipped_ones_too() -> None:
    assembler = Assembler(Lsn(100), piece_bytes=1 << 20)
    feed(assembler, describe(ITEMS), describe(OTHERS), begin(50), insert(1), insert(2, 8), insert(3), commit(50))
    feed(assembler, begin(150), insert(4), truncate(7, 8), commit(150))
    expected = [(ord("I"), ITEMS, 3), (ord("I"), OTHERS, 1), (ord("T"), ITEMS, 1), (ord("T"), OTHERS, 1)]
    assert sorted(assembler.counted(), key=lambda each: (each[0], each[1].oid)) == expected
    assert assembler.counted() == []


@pytest.mark.parametrize(
    "frames",
    [
        [insert(1)],
        [commit(100)],
        [truncate(7)],
        [begin(100), begin(200)],
        [begin(100), commit(200)],
        [begin(100), insert(1, 99)],
        [begin(100), truncate(99)],
        [encoder.frame(encoder.message(0, 1, "p", b""))],
        [begin(100), encoder.frame(encoder.message(1, 1, "p", b""))],
        [begin(100), insert(1)[:28]],
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
        "cut_short",
    ],
)
def test_an_order_the_protocol_does_not_have_is_named(frames: list[bytes]) -> None:
    with pytest.raises(ProtocolViolation):
        feed(Assembler(NOTHING, piece_bytes=1 << 20), describe(ITEMS), *frames)


def test_types_and_origins_pass() -> None:
    (piece,) = feed(
        Assembler(NOTHING, piece_bytes=1 << 20),
        begin(100),
        encoder.frame(encoder.origin(1, "elsewhere")),
        encoder.frame(encoder.type_(16_400, "public", "mood")),
        describe(ITEMS),
        insert(1),
        commit(100),
    )
    assert values([piece]) == [1]
