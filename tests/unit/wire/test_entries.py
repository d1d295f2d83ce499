"""Entries of an id map as COPY data, from the Python source and compiled: read back, they are the ids that went in."""

from __future__ import annotations

import uuid
from struct import unpack_from

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.wire.entries import WIDTHS
from tests.unit.wire.conftest import Hot

IDS = {
    "smallint": st.integers(-(2**15), 2**15 - 1).map(lambda number: b"%d" % number),
    "integer": st.integers(-(2**31), 2**31 - 1).map(lambda number: b"%d" % number),
    "bigint": st.integers(-(2**63), 2**63 - 1).map(lambda number: b"%d" % number),
    "uuid": st.uuids().map(lambda value: str(value).encode()),
    "text": st.text(max_size=5).map(str.encode),
}


def read(data: bytes, *types: str) -> list[tuple[bytes, ...]]:
    """The rows, each field as its type prints it."""
    rows, at = [], 0
    while at < len(data):
        assert unpack_from("!h", data, at) == (len(types),)
        at += 2
        row = []
        for kind in types:
            (length,) = unpack_from("!i", data, at)
            value = data[at + 4 : at + 4 + length]
            at += 4 + length
            if kind == "text":
                row.append(value)
            elif kind == "uuid":
                row.append(str(uuid.UUID(bytes=value)).encode())
            else:
                assert length == WIDTHS[kind]
                row.append(b"%d" % int.from_bytes(value, "big", signed=True))
        rows.append(tuple(row))
    return rows


@settings(deadline=None)
@given(data=st.data(), old=st.sampled_from(sorted(IDS)), new=st.sampled_from(sorted(IDS)))
def test_entries_read_back(hot: Hot, data: st.DataObject, old: str, new: str) -> None:
    pairs = data.draw(st.lists(st.tuples(IDS[old], IDS[new]), max_size=5))
    made = hot.entries.copy_rows([pair[0] for pair in pairs], [pair[1] for pair in pairs], WIDTHS[old], WIDTHS[new])
    assert read(made, old, new) == pairs


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *[(kind, text) for kind in ("smallint", "integer", "bigint") for text in (b"", b"-", b"+1", b"1 ", b"1.0")],
        *[("bigint", b"%d" % number) for number in (2**63, -(2**63) - 1, 10**19, 2**64 + 1)],
        *[("integer", b"%d" % number) for number in (2**31, -(2**31) - 1, 2**32 + 1)],
        *[("smallint", b"%d" % number) for number in (2**15, -(2**15) - 1, 2**16 + 1)],
        ("uuid", b"1"),
        ("uuid", b"0A0B0C0D-0000-4000-8000-00000000FFEE"),
    ],
)
def test_what_is_no_value_of_the_type_is_refused(hot: Hot, kind: str, text: bytes) -> None:
    with pytest.raises(ValueError, match="an id that is"):
        hot.entries.copy_rows([text], [b"1"], WIDTHS[kind], 8)


def test_an_entry_has_two_ids(hot: Hot) -> None:
    assert hot.entries.copy_rows([], [], 8, 16) == b""
    with pytest.raises(ValueError, match="as many"):
        hot.entries.copy_rows([b"1"], [], 8, 8)
