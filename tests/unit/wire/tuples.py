"""Frames in either form and back, for the tests of the fast path: field by field, slow, and without a line of its code.

A cell is `bytes` (its content in the form at hand), None, or `TOAST`.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import unpack_from
from typing import Final

from crossfade.pgoutput.messages import Form
from tests.unit.pgoutput import encoder
from tests.unit.pgoutput.encoder import TOAST

Cell = bytes | object | None
OID: Final = 16400


def tuple_data(cells: Sequence[Cell], form: Form = Form.TEXT) -> bytes:
    made = encoder.i16(len(cells))
    for cell in cells:
        if cell is None:
            made += b"n"
        elif cell is TOAST:
            made += b"u"
        else:
            assert isinstance(cell, bytes)
            made += (b"b" if form is Form.BINARY else b"t") + encoder.i32(len(cell)) + cell
    return made


def insert(new: Sequence[Cell], form: Form = Form.TEXT, oid: int = OID) -> bytes:
    return encoder.frame(b"I" + encoder.u32(oid) + b"N" + tuple_data(new, form), 7, 8, 9)


def update(
    new: Sequence[Cell],
    old: Sequence[Cell] | None = None,
    marker: bytes = b"K",
    form: Form = Form.TEXT,
    oid: int = OID,
) -> bytes:
    before = b"" if old is None else marker + tuple_data(old, form)
    return encoder.frame(b"U" + encoder.u32(oid) + before + b"N" + tuple_data(new, form), 7, 8, 9)


def delete(old: Sequence[Cell], marker: bytes = b"K", form: Form = Form.TEXT, oid: int = OID) -> bytes:
    return encoder.frame(b"D" + encoder.u32(oid) + marker + tuple_data(old, form), 7, 8, 9)


def cells(frame: bytes, offset: int) -> list[Cell]:
    """The cells of the tuple at an offset, which is all there is to read in well-formed frames."""
    (count,) = unpack_from("!h", frame, offset)
    offset += 2
    found: list[Cell] = []
    for _ in range(count):
        kind = frame[offset : offset + 1]
        if kind in (b"t", b"b"):
            (length,) = unpack_from("!i", frame, offset + 1)
            found.append(frame[offset + 5 : offset + 5 + length])
            offset += 5 + length
        else:
            found.append({b"n": None, b"u": TOAST}[kind])
            offset += 1
    return found
