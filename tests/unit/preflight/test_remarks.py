"""Text that people paste into a server must mean exactly what it says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

from crossfade.catalog import TableName
from crossfade.preflight.remarks import listed, literal, qualified, quoted, size

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=63)


@given(NAMES)
def test_F27_identifiers_are_quoted_as_the_driver_quotes_them(name: str) -> None:
    assert quoted(name) == sql.Identifier(name).as_string(None)


@given(NAMES, NAMES)
def test_F27_qualified_names(schema: str, name: str) -> None:
    assert qualified(TableName(schema, name)) == sql.Identifier(schema, name).as_string(None)


@pytest.mark.parametrize(("text", "expected"), [("a", "'a'"), ("it's", "'it''s'"), ("a\\'b", "E'a\\\\''b'")])
def test_literals_mean_the_same_whatever_standard_conforming_strings_says(text: str, expected: str) -> None:
    assert literal(text) == expected


def test_lists_stay_short() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed("abcdefg") == "a, b, c, d, e and 2 more"


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (64 << 20, "64 MiB"), (5 << 40, "5.0 TiB")],
)
def test_sizes_for_people(number: int, text: str) -> None:
    assert size(number) == text
