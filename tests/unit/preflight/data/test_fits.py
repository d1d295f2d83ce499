"""Which values a target type may refuse, and that nothing is asked where none can be."""

from __future__ import annotations

import pytest
from psycopg import sql

from crossfade.mapping.conversions import Fit, judge
from crossfade.preflight.data.fits import Ground, canonical, misfits
from tests.unit.mapping.builders import column

VALUE = sql.SQL("v")
OLD, NEW = Ground(150018), Ground(160010)


def words(source: str, target: str, ground: Ground = OLD) -> list[str]:
    return [each.words for each in misfits(VALUE, column(f"a {source}"), column(f"b {target}"), ground)]


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("varchar(10)", "varchar(10)", []),
        ("varchar(10)", "text", []),
        ("text", "varchar(10)", ["longer than the 10 characters of character varying(10)"]),
        ("varchar(20)", "char(10)", ["longer than the 10 characters of character(10)"]),
        ("int2", "int4", []),
        ("int8", "int4", ["outside the range of integer"]),
        ("numeric(9,0)", "int4", ["outside the range of integer"]),
        ("int4", "numeric(12,2)", []),
        ("int4", "numeric(6,2)", ["of more than 4 digits before the point"]),
        ("numeric", "numeric(6,2)", ["of more than 4 digits before the point"]),
        ("numeric(6,2)", "numeric(8,4)", []),
        ("text", "uuid", ["no uuid"]),
        ("text", "int4", ["no integer"]),
        ("varchar(5)", "boolean", ["no boolean"]),
        ("text", "jsonb", []),
        ("json", "jsonb", ["json that jsonb refuses (F3)"]),
        ("date", "timestamp", ["after the year 294276"]),
        ("varbit", "varbit(3)", ["longer than 3 bits"]),
        ("varchar(9)[]", "varchar(3)[]", ["elements that are longer than the 3 characters of character varying(3)"]),
        ("bytea", "bytea", []),
    ],
)
def test_misfits(source: str, target: str, said: list[str]) -> None:
    assert words(source, target) == said


def test_a_newer_source_can_try_a_text_as_a_document() -> None:
    assert words("text", "jsonb", NEW) == ["no jsonb"]


@pytest.mark.parametrize(
    "type_", ["int4", "text", "varchar(9)", "numeric(6,2)", "uuid", "jsonb", "timestamp(3)", "bit(4)"]
)
def test_nothing_is_asked_of_equal_types(type_: str) -> None:
    assert judge(column(f"a {type_}"), column(f"b {type_}")).fit is Fit.EXACT
    assert words(type_, type_) == []


@pytest.mark.parametrize(
    ("source", "target", "is_merged"),
    [
        ("text", "text", False),
        ("int4", "int8", False),
        ("text", "public.citext", True),
        ("public.citext", "public.citext", False),
        ("varchar(9)", "char(9)", True),
        ("char(9)", "char(9)", False),
        ("text", "uuid", True),
        ("text", "int8", True),
    ],
)
def test_what_compares_as_the_target_will(source: str, target: str, is_merged: bool) -> None:
    compared, why = canonical(VALUE, column(f"a {source}"), column(f"b {target}"))
    assert bool(why) is is_merged
    assert (compared is VALUE) is not is_merged
