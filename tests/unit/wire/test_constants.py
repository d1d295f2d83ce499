"""Constants in binary: what is known, byte for byte, and what is left to text."""

from __future__ import annotations

import dataclasses

import pytest

from crossfade.wire.constants import binary_constant
from tests.unit.mapping.builders import column


@pytest.mark.parametrize(
    ("kind", "text", "binary"),
    [
        ("boolean", "true", "01"),
        ("boolean", "f", "00"),
        ("smallint", "-2", "fffe"),
        ("integer", "7", "00000007"),
        ("bigint", "-9223372036854775808", "8000000000000000"),
        ("double precision", "0.5", "3fe0000000000000"),
        ("text", "it's", "69742773"),
        ("varchar(3)", "", ""),
        ("json", "{}", "7b7d"),
        ("jsonb", "{}", "017b7d"),
        ("uuid", "0A0b0c0d-0000-4000-8000-00000000ffee", "0a0b0c0d 0000 4000 8000 00000000ffee"),
        ("date", "2000-01-02", "00000001"),
        ("date", "1999-12-31", "ffffffff"),
        # What numeric_send() gives on a server: digits, weight, sign, scale, digits.
        ("numeric", "0", "0000 0000 0000 0000"),
        ("numeric", "0.00", "0000 0000 0000 0002"),
        ("numeric", "-0.0", "0000 0000 0000 0001"),
        ("numeric", "1", "0001 0000 0000 0000 0001"),
        ("numeric", "-12345.6789", "0003 0001 4000 0004 0001 0929 1a85"),
        ("numeric", "10000", "0001 0001 0000 0000 0001"),
        ("numeric", "0.00001", "0001 fffe 0000 0005 03e8"),
        ("<e>mood", "sad", "736164"),
    ],
)  # fmt: skip
def test_a_plain_spelling_has_a_binary_form(kind: str, text: str, binary: str) -> None:
    assert binary_constant(text, column(f"c {kind}")) == bytes.fromhex(binary)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("boolean", "yes"),
        ("boolean", " true"),
        ("integer", "2147483648"),
        ("integer", "1e3"),
        ("integer", "0x10"),
        ("double precision", "NaN"),
        ("real", "0.1"),
        ("numeric", "NaN"),
        ("numeric", "1e3"),
        ("numeric(5,2)", "1"),
        ("uuid", "0a0b0c0d00004000800000000000ffee"),
        ("date", "today"),
        ("date", "2000-02-30"),
        ("timestamptz", "now"),
        ("character(3)", "ab"),
        ("integer[]", "{1}"),
        ("<d>email", "x"),
        ("<c>pair", "(1,2)"),
    ],
)
def test_anything_else_is_left_to_the_server(kind: str, text: str) -> None:
    assert binary_constant(text, column(f"c {kind}")) is None


def test_an_array_of_enums_is_no_enum() -> None:
    assert binary_constant("{sad}", dataclasses.replace(column("c <e>mood[]"))) is None
