"""Arrays put together of arrays: the same elements, in order, in both forms."""

from __future__ import annotations

import pytest

from crossfade.pgoutput.messages import Form
from crossfade.target import arrays

INT4 = 23


def int4s(*values: int | None) -> bytes:
    """What array_send() makes of an int4[]."""
    elements = [b"\xff\xff\xff\xff" if value is None else b"\0\0\0\4" + value.to_bytes(4, "big") for value in values]
    has_null = int(None in values)
    numbers = [1, has_null, INT4, len(values), 1] if values else [0, 0, INT4]
    return b"".join(number.to_bytes(4, "big") for number in numbers) + b"".join(elements)


def test_binary_arrays_are_joined_under_one_header() -> None:
    made = arrays.joined([int4s(1, 2), int4s(), int4s(3), arrays.nulls(2, INT4, Form.BINARY)], Form.BINARY)
    assert made == int4s(1, 2, 3, None, None)


def test_text_arrays_are_joined_within_one_pair_of_braces() -> None:
    parts = [b'{1,"a,b"}', b"{}", arrays.nulls(2, INT4, Form.TEXT), b'{"}"}']
    assert arrays.joined(parts, Form.TEXT) == b'{1,"a,b",NULL,NULL,"}"}'


@pytest.mark.parametrize("form", list(Form))
def test_nothing_joined_with_nothing_is_an_empty_array(form: Form) -> None:
    empty = b"{}" if form is Form.TEXT else bytes(8) + INT4.to_bytes(4, "big")
    assert arrays.joined([arrays.nulls(0, INT4, form), arrays.nulls(0, INT4, form)], form) == empty


def test_flags_are_booleans() -> None:
    assert arrays.flags(2, value=True, form=Form.TEXT) == b"{t,t}"
    header = b"\0\0\0\1\0\0\0\1\0\0\0\x10\0\0\0\2\0\0\0\1"
    assert arrays.flags(2, value=False, form=Form.BINARY) == header + b"\0\0\0\1\0" * 2
