"""What goes to an id map's table: arrays and COPY lines that read back as the ids that went in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.target import idmap
from crossfade.wire.fields import copy_unescape

IDS = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5), min_size=1)


@given(IDS)
def test_copy_lines_read_back(texts: list[str]) -> None:
    olds = [text.encode() for text in texts]
    news = [b"%d" % number for number in range(len(olds))]
    lines = idmap.copy_lines(olds, news)
    assert lines.endswith(b"\n")
    fields = [line.split(b"\t") for line in lines[:-1].split(b"\n")]
    assert [[copy_unescape(field) for field in line] for line in fields] == [
        list(pair) for pair in zip(olds, news, strict=True)
    ]
    assert b"\r" not in lines


@pytest.mark.parametrize(
    ("olds", "literal"),
    [
        ([], b"{}"),
        ([b"1", b"-2"], b'{1,"-2"}'),
        ([b"NULL", b"", b'a"b\\c', b"{,}"], b'{"NULL","","a\\"b\\\\c","{,}"}'),
    ],
)
def test_arrays_hold_text_and_never_a_null(olds: list[bytes], literal: bytes) -> None:
    assert idmap._array(olds) == literal


def test_no_ids_are_no_lines() -> None:
    assert idmap.copy_lines([], []) == b""
