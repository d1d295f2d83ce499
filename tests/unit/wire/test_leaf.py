"""The innermost steps in Python; their twins in C answer for the same through the encoder's tests."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.wire import leaf
from crossfade.wire.fields import copy_escape, copy_unescape


@given(st.binary(), st.binary(), st.binary())
def test_put_takes_the_middle(before: bytes, value: bytes, after: bytes) -> None:
    data, start, stop = before + value + after, len(before), len(before) + len(value)
    out = bytearray(b"!")
    leaf.put(out, data, start, stop)
    assert out == b"!" + value
    out = bytearray()
    leaf.put_escaped(out, data, start, stop)
    assert out == copy_escape(value)
    assert copy_unescape(bytes(out)) == value
    out = bytearray()
    leaf.put_quoted(out, data, start, stop)
    assert out[:1] == out[-1:] == b'"'
    assert out[1:-1].replace(rb"\"", b'"').replace(rb"\\", b"\\") == value or b"\\" in value


@pytest.mark.parametrize("size", [2, 4, 8])
def test_integers_there_and_back(size: int) -> None:
    bits = 8 * size - 1
    for value in (0, 1, -1, 2**bits - 1, -(2**bits), 258):
        out = bytearray()
        leaf.put_integer(out, value, size)
        assert out[:4] == bytes((0, 0, 0, size))
        assert leaf.integer(b"xx" + bytes(out) + b"x", 6, size) == value
        assert leaf.decimal(value) == str(value).encode()


@given(st.uuids())
def test_uuids_there_and_back(value: uuid.UUID) -> None:
    assert leaf.uuid_text(b"x" + value.bytes, 1) == str(value).encode()
    assert leaf.uuid_bytes(str(value).encode()) == value.bytes


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"0a0b0c0d-0000-4000-8000-00000000ffe",
        b"0A0B0C0D-0000-4000-8000-00000000FFEE",
        b"0a0b0c0d000004000-8000-00000000ffeee",
        b"0a0b0c0d-0000-4000-8000-0000000-ffee",
        b"0a0b0c0d-0000-4000-8000-00000000ffeg",
        b"0a0b0c0d-0000-4000-8000-00000000ffee\n",
    ],
)
def test_what_is_no_uuid_as_printed_has_no_bytes(text: bytes) -> None:
    assert leaf.uuid_bytes(text) == b""
