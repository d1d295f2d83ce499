"""What somebody wrote, against a column's type: which values it may hold, and how the server prints a key."""

from __future__ import annotations

import dataclasses

import pytest

from crossfade.mapping.spellings import printed, unfit
from tests.unit.mapping.builders import column


def described(kind: str) -> object:
    return dataclasses.replace(column(f"c {kind}"), labels=("sad", "so so") if "<e>" in kind else ())


@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        ("int2", "32767", ""), ("int2", "32768", "is no smallint"), ("int4", " -7 ", ""),
        ("int4", "1.0", "is no integer"),
        ("numeric", "1e400", ""), ("numeric", "1e131071", ""), ("numeric", "1e131072", "is no numeric"),
        ("numeric", "nan", ""), ("numeric", "a", "is no numeric"), ("numeric(4,2)", "99.99", ""),
        ("numeric(4,2)", "100", "is no numeric(4,2)"), ("numeric(4,2)", "0", ""),
        ("float8", "1e308", ""), ("float8", "1e400", "is no double precision"), ("float8", "-Infinity", ""),
        ("float8", "1e-400", "is no double precision"), ("float8", "0e-400", ""), ("float4", "3e38", ""),
        ("float4", "4e38", "is no real"), ("float4", "1e-60", "is no real"),
        ("boolean", "on", ""), ("boolean", "o", "is no boolean"), ("uuid", "x", "is no uuid"),
        ("varchar(3)", "abc", ""), ("varchar(3)", "abcd", "is longer than character varying(3)"),
        ("varchar(3)", "abc  ", ""),
        ("char(2)", "abc", "is longer than character(2)"), ("text", "abcd", ""), ("date", "yesterday", ""),
        ("<e>mood", "sad", ""), ("<e>mood", "glad", "is no label of mood"), ("<d>d", "anything", ""),
    ],
)  # fmt: skip
def test_what_a_column_may_hold(kind: str, text: str, why: str) -> None:
    assert unfit(text, described(kind)) == why  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "text", "shown"),
    [
        ("int4", "007", "7"), ("int4", "-0", "0"), ("int4", "x", None), ("int2", "40000", None),
        ("boolean", "true", "t"), ("boolean", "NO", "f"), ("boolean", "2", None),
        ("uuid", "{A0EEBC99-9C0B4EF8BB6D6BB9BD380A11}", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("date", "2024-02-29", "2024-02-29"), ("date", "2024-02-30", None), ("date", "today", None),
        ("numeric(5,2)", "1", "1.00"), ("numeric(5,2)", "1.5e1", "15.00"), ("numeric(5,2)", "1.234", None),
        ("numeric(5,2)", "1000", None), ("numeric(5,0)", "1.0", "1"), ("numeric(5,2)", "-0", "0.00"),
        ("numeric(30,25)", "1", "1." + 25 * "0"), ("numeric(5,2)", "nan", None),
        ("text", "Ab ", "Ab "), ("varchar(2)", "abc", None), ("char(3)", "a", "a  "), ("char(3)", "a   ", "a  "),
        ("char(3)", "abcd", None), ("<e>mood", "so so", "so so"), ("<e>mood", "glad", None),
    ],
)  # fmt: skip
def test_how_the_source_prints_a_key(kind: str, text: str, shown: str | None) -> None:
    assert printed(text, described(kind)) == shown  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "kind", ["numeric", "float8", "timestamptz", "jsonb", "public.citext", "<d>d", "<c>pair", "int4[]", "numeric(3,-2)"]
)
def test_types_whose_values_are_not_told_apart_by_their_text(kind: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        printed("1", described(kind))  # type: ignore[arg-type]
