"""Rows with computed cells behind their own, wherever they lay."""

from __future__ import annotations

import pytest

from crossfade.pgoutput.messages import UNCHANGED, Form, TextCell
from crossfade.wire import derive
from crossfade.wire.fold import Rows

ROW = (b"one", None, UNCHANGED, b"")
PACKED = b"N\0\4t\0\0\0\3onenut\0\0\0\0"


def test_a_decoded_tuple_is_packed_as_it_was_sent() -> None:
    assert derive.packed(ROW, Form.TEXT) == PACKED
    assert derive.packed((b"x", TextCell(b"y")), Form.BINARY) == b"N\0\2b\0\0\0\1xt\0\0\0\1y"


def test_cells_are_put_behind_a_row_s_own() -> None:
    alone = Rows([b"header" + PACKED], [7])
    assert derive.extended(alone, [[b"n"], [derive.cell(b"v", Form.TEXT)]]).frames == [
        b"N\0\6" + PACKED[3:] + b"nt\0\0\0\1v"
    ]


def test_rows_of_one_frame_end_where_the_next_begins() -> None:
    """As a copied block has them: a marker before each tuple."""
    block = b"O\0\1n" + b"O\0\1t\0\0\0\1a" + b"O\0\1n"
    rows = Rows([block] * 3, [1, 5, 14])
    assert derive.extended(rows, [[b"u", b"n", b"u"]]).frames == [b"N\0\2nu", b"N\0\2t\0\0\0\1an", b"N\0\2nu"]
    kept = derive.chosen(rows, [False, True, True])
    assert derive.extended(kept, [[b"n", b"n"]]).frames == [b"N\0\2t\0\0\0\1an", b"N\0\2nn"]


@pytest.mark.parametrize("behind", [b"", b"N\0\1t\0\0\0\1z"])
def test_an_old_tuple_is_made_as_long_wherever_it_ends(behind: bytes) -> None:
    """An UPDATE's new tuple comes behind its old one."""
    rows = Rows([b"K\0\2t\0\0\0\1kn" + behind], [1])
    assert derive.widened(rows, 2).frames == [b"K\0\4t\0\0\0\1knuu"]
    assert derive.widened(rows, 0) is rows
