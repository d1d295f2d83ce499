"""Ids that were fetched before they are needed: enough of them, each once, and none where there is none."""

from __future__ import annotations

import pytest

from crossfade.faults import RowRefused
from crossfade.mapping.plan import Keyspace, Strategy
from crossfade.wire.stock import Drawn, Entries
from tests.unit.mapping.builders import name

KEYSPACE = Keyspace("k", name("public.t"), "id", "integer", "bigint", Strategy.TABLE, 0, name("legacy.ids"))


def olds(count: int) -> set[bytes]:
    return {b"%d" % number for number in range(count)}


def test_numbers_are_drawn_for_all_and_given_in_order() -> None:
    drawn = Drawn(KEYSPACE)
    assert (drawn.lacks(set()), drawn.lacks(olds(1)), drawn.lacks(olds(100))) == (0, 32, 100)
    drawn.take_in(b"%d" % number for number in range(40))
    assert (drawn.lacks(olds(40)), drawn.lacks(olds(41)), drawn.lacks(olds(100))) == (0, 32, 60)
    assert [drawn(b"x"), *drawn.many([b"y", b"z"])] == [b"0", b"1", b"2"]
    assert drawn.lacks(olds(38)) == 32
    with pytest.raises(ValueError, match="more ids were asked for than were drawn"):
        drawn.many([b"x"] * 38)


def test_entries_are_read_once_and_missing_ones_again() -> None:
    entries = Entries(KEYSPACE)
    assert entries.unread(olds(3)) == olds(3)
    entries.take_in([(b"0", b"10"), (b"1", b"11")])
    assert entries.unread(olds(3)) == {b"2"}
    assert entries.many([b"1", b"0"]) == [b"11", b"10"]
    with pytest.raises(RowRefused, match="has no entry in legacy"):
        entries(b"2")


def test_two_entries_are_as_bad_as_none_until_mended() -> None:
    entries = Entries(KEYSPACE)
    entries.take_in([(b"0", b"10"), (b"0", b"11"), (b"1", b"12"), (b"1", b"12"), (b"2", None)])
    assert entries(b"1") == b"12"
    for old in (b"0", b"2"):
        with pytest.raises(RowRefused, match="no usable entry"):
            entries(old)
    assert entries.unread({b"0", b"1", b"2"}) == {b"0", b"2"}
