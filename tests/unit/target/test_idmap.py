"""What goes to an id map's table: arrays that read back as the ids that went in."""

from __future__ import annotations

import pytest

from crossfade.target import idmap


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
