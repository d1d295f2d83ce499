"""Which types may become which (F3-F5, F10, F14, F17, F31): never a silent change of a value."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crossfade.mapping.conversions import Fit, judge, precision_and_scale, time_zone_verdict
from tests.unit.mapping.builders import column

EXACT, CHECKED, REFUSED = Fit.EXACT, Fit.CHECKED, Fit.REFUSED


@pytest.mark.parametrize(
    ("source", "target", "fit"),
    [
        # the same
        ("int4", "int4", EXACT),
        ("bytea", "bytea", EXACT),
        ("money", "money", EXACT),
        ("boolean", "boolean", EXACT),
        ("public.citext", "ext.citext", EXACT),
        ("<e>public.mood", "<e>app.mood", EXACT),
        ("<d>public.email", "<d>app.email", EXACT),
        ("<c>public.pair", "<c>app.pair", EXACT),
        ("<r>int4range", "<r>int4range", EXACT),
        ('<e>public."Mood"', '<e>app."Mood"', EXACT),
        # integers
        ("int2", "int8", EXACT),
        ("int8", "int4", CHECKED),
        ("int4", "numeric", EXACT),
        ("int4", "numeric(10)", EXACT),
        ("int4", "numeric(9)", CHECKED),
        ("int8", "numeric(19)", EXACT),
        ("int8", "numeric(20,2)", CHECKED),
        ("int4", "numeric(12,-1)", REFUSED),
        ("int4", "float8", EXACT),
        ("int8", "float8", REFUSED),
        ("int4", "float4", REFUSED),
        ("int4", "boolean", REFUSED),
        ("boolean", "int4", REFUSED),
        # numeric: a smaller scale would round
        ("numeric(10,2)", "numeric", EXACT),
        ("numeric(10,2)", "numeric(12,2)", EXACT),
        ("numeric(10,2)", "numeric(12,4)", EXACT),
        ("numeric(10,2)", "numeric(10,4)", CHECKED),
        ("numeric(10,2)", "numeric(8,2)", CHECKED),
        ("numeric(10,2)", "numeric(10,1)", REFUSED),
        ("numeric", "numeric(10,2)", REFUSED),
        ("numeric(4)", "int4", CHECKED),
        ("numeric(20)", "int8", CHECKED),
        ("numeric(10,2)", "int8", REFUSED),
        ("numeric", "float8", REFUSED),
        ("float4", "float8", EXACT),
        ("float8", "float4", REFUSED),
        ("float8", "numeric", REFUSED),
        # text
        ("varchar(20)", "varchar(50)", EXACT),
        ("varchar(50)", "varchar(20)", CHECKED),
        ("varchar", "varchar(20)", CHECKED),
        ("text", "varchar(20)", CHECKED),
        ("varchar(20)", "text", EXACT),
        ("text", "varchar", EXACT),
        ("char(3)", "char(5)", EXACT),
        ("char(5)", "char(3)", CHECKED),
        ("char(3)", "text", CHECKED),
        ("text", "char(3)", CHECKED),
        ("varchar(3)", "char(3)", CHECKED),
        ("uuid", "text", EXACT),
        ("uuid", "varchar(36)", EXACT),
        ("uuid", "varchar(35)", CHECKED),
        ("int4", "varchar(11)", EXACT),
        ("int4", "varchar(10)", CHECKED),
        ("timestamptz", "text", EXACT),
        ("boolean", "text", REFUSED),
        ("bytea", "text", REFUSED),
        ("money", "text", REFUSED),
        ("text", "uuid", CHECKED),
        ("text", "int4", CHECKED),
        ("text", "jsonb", CHECKED),
        ("text", "timestamptz", REFUSED),
        ("text", "numeric(10,2)", REFUSED),
        ("text", "date", REFUSED),
        ("text", "bytea", REFUSED),
        # user types
        ("<e>public.mood", "text", EXACT),
        ("<e>public.mood", "varchar(10)", CHECKED),
        ("<e>public.mood", "<e>app.humour", CHECKED),
        ("text", "<e>app.mood", CHECKED),
        ("<d>public.email", "text", CHECKED),
        ("text", "<d>app.email", REFUSED),
        ("<d>public.amount", "numeric", REFUSED),
        ("<c>public.pair", "text", REFUSED),
        # time
        ("timestamp", "timestamp", EXACT),
        ("timestamp(3)", "timestamp", EXACT),
        ("timestamp", "timestamp(6)", EXACT),
        ("timestamp(6)", "timestamp(3)", REFUSED),
        ("timestamptz", "timestamptz(0)", REFUSED),
        ("time", "time(2)", REFUSED),
        ("timestamp", "timestamptz", REFUSED),
        ("timestamptz", "timestamp", REFUSED),
        ("timestamp", "date", REFUSED),
        ("date", "timestamp", CHECKED),
        ("date", "timestamptz", REFUSED),
        ("interval(3)", "interval", EXACT),
        ("interval", "interval(3)", REFUSED),
        # documents, networks, bits
        ("json", "jsonb", CHECKED),
        ("jsonb", "json", EXACT),
        ("cidr", "inet", EXACT),
        ("inet", "cidr", REFUSED),
        ("bit(3)", "varbit(4)", EXACT),
        ("varbit(8)", "varbit(4)", CHECKED),
        ("bit(3)", "bit(4)", REFUSED),
        # arrays go by their elements
        ("int4[]", "int8[]", EXACT),
        ("int8[]", "int4[]", CHECKED),
        ("timestamp[]", "timestamptz[]", REFUSED),
        ("<e>public.mood[]", "<e>app.mood[]", EXACT),
        ("int4[]", "int4", REFUSED),
        ("int4[]", "text", REFUSED),
        # what means something on the source only (F17)
        ("oid", "oid", REFUSED),
        ("regclass", "text", REFUSED),
        ("xid", "int8", REFUSED),
        ("pg_lsn", "pg_lsn", REFUSED),
        ("regclass[]", "regclass[]", REFUSED),
        ("public.lo", "public.lo", REFUSED),
    ],
)
def test_judge(source: str, target: str, fit: Fit) -> None:
    verdict = judge(column(f"a {source}"), column(f"b {target}"))
    assert verdict.fit is fit
    assert bool(verdict.sentence) is (fit is not EXACT)
    assert bool(verdict.remedy) is (fit is not EXACT)


def test_enums_of_one_name_may_have_different_labels_and_the_sql_mends_it() -> None:
    source = replace(column("a <e>public.mood"), labels=("happy", "it's odd", "sad"))
    target = replace(column("b <e>app.mood"), labels=("sad", "happy"))
    verdict = judge(source, target)
    assert verdict.fit is CHECKED
    assert verdict.remedy.splitlines()[1:] == ["ALTER TYPE app.mood ADD VALUE 'it''s odd';"]
    assert judge(target, source).fit is EXACT


def test_an_unknown_pair_is_not_yet_convertible() -> None:
    assert "not yet convertible" in judge(column("a point"), column("b box")).sentence


@pytest.mark.parametrize(
    ("source", "target", "fit"),
    [
        ("timestamp", "timestamptz", EXACT),
        ("timestamp(3)", "timestamptz(6)", EXACT),
        ("timestamp", "timestamptz(3)", REFUSED),
        ("timestamptz", "timestamptz", REFUSED),
        ("timestamp", "timestamp", REFUSED),
        ("date", "timestamptz", REFUSED),
        ("timestamp[]", "timestamptz[]", REFUSED),
        ("text", "timestamptz", REFUSED),
    ],
)
def test_a_timezone_makes_timestamptz_of_timestamp_only(source: str, target: str, fit: Fit) -> None:
    assert time_zone_verdict(column(f"a {source}"), column(f"b {target}")).fit is fit


@pytest.mark.parametrize(
    ("text", "expected"), [("numeric(10,2)", (10, 2)), ("numeric(3,-2)", (3, -2)), ("numeric", None)]
)
def test_precision_and_scale(text: str, expected: tuple[int, int] | None) -> None:
    assert precision_and_scale(column(f"a {text}")) == expected
