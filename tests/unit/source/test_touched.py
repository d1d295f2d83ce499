"""Which rows were changed between two positions: complete, or not at all (G6)."""

from __future__ import annotations

import dataclasses

import pytest

from crossfade.catalog import ReplicaIdentity, TableName
from crossfade.lsn import Lsn
from crossfade.pgoutput.messages import Relation, RelationColumn
from crossfade.source import touched
from crossfade.source.touched import Reading, Touched
from tests.unit.pgoutput import encoder
from tests.unit.pgoutput.encoder import NULL, TOAST
from tests.unit.pgoutput.test_assemble import begin, commit, describe, truncate
from tests.unit.target.test_setforms import plan

TABLE = dataclasses.replace(plan("id int", "v text"), source_oid=7)
COLUMNS = tuple(
    RelationColumn(each.name, each.type_oid, each.typmod, each.name == "id") for each in TABLE.source_columns
)
DESCRIBED = describe(Relation(7, TableName("public", "t"), ReplicaIdentity.DEFAULT, COLUMNS))
OTHERS = describe(Relation(8, TableName("public", "o"), ReplicaIdentity.DEFAULT, COLUMNS))


def insert(key: bytes, oid: int = 7) -> bytes:
    return encoder.frame(encoder.insert(oid, [key, b"x"]))


def read(*frames: bytes, since: int = 100, until: int = 200) -> tuple[Touched, Reading]:
    table = Touched(TABLE, Lsn(since))
    reading = Reading([table], Lsn(until))
    reading.take([DESCRIBED, OTHERS, *frames])
    return table, reading


def keys(table: Touched) -> set[bytes]:
    assert table.why is None
    return {key for (key,) in table.keys}


def test_only_transactions_that_one_snapshot_does_not_show_and_the_other_does() -> None:
    """The server's own test of what a snapshot shows: where the commit record starts."""
    frames = [
        frame
        for final, key in ((99, b"1"), (100, b"2"), (199, b"3"), (200, b"4"), (300, b"5"))
        for frame in (begin(final), insert(key), commit(final))
    ]
    table, reading = read(*frames)
    assert keys(table) == {b"2", b"3"}
    assert reading.is_done


def test_of_each_change_the_old_and_the_new_key() -> None:
    table, reading = read(
        begin(150),
        encoder.frame(encoder.update(7, [b"2", b"y"], old=[b"1", NULL])),
        encoder.frame(encoder.update(7, [b"3", TOAST])),
        encoder.frame(encoder.delete(7, [b"4", NULL])),
        insert(b"5"),
        insert(b"6", oid=8),
        commit(150),
    )
    assert keys(table) == {b"1", b"2", b"3", b"4", b"5"}
    assert not reading.is_done


def test_an_idle_source_says_that_nothing_else_came_but_not_within_a_transaction() -> None:
    sign = b"k" + encoder.u64(250) + encoder.i64(0) + encoder.u8(1)
    table, reading = read(begin(150), insert(b"1"), sign)
    assert not reading.is_done
    assert reading.is_asked
    reading.take([commit(150), sign])
    assert reading.is_done
    assert keys(table) == {b"1"}


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (truncate(7), "truncated"),
        (encoder.frame(encoder.update(7, [TOAST, b"x"])), "which row"),
        (encoder.frame(encoder.insert(7, [NULL, b"x"])), "which row"),
        (
            describe(Relation(7, TableName("public", "t"), ReplicaIdentity.DEFAULT, (COLUMNS[1],))),
            "columns",
        ),
        (describe(Relation(7, TableName("public", "t"), ReplicaIdentity.NOTHING, COLUMNS[1:])), "columns"),
    ],
    ids=["truncated", "key not sent", "key null", "key gone", "no identity"],
)
def test_what_cannot_be_known_for_all_rows_is_known_for_none(frame: bytes, why: str) -> None:
    table, _ = read(begin(150), insert(b"1"), frame, insert(b"2"), commit(150))
    assert table.why is not None
    assert why in table.why
    assert not table.keys


def test_a_truncate_that_the_first_snapshot_shows_is_of_no_interest() -> None:
    table, _ = read(begin(50), truncate(7), commit(50), begin(150), insert(b"1"), commit(150))
    assert keys(table) == {b"1"}


def test_too_many_keys_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(touched, "_ROOM", 3 * (touched._COST + 1))
    table, _ = read(begin(150), *(insert(b"%d" % key) for key in (1, 2, 3, 1)), commit(150))
    assert len(keys(table)) == 3
    table, _ = read(begin(150), *(insert(b"%d" % key) for key in (1, 2, 3, 4)), commit(150))
    assert table.why is not None
    assert "so many" in table.why
