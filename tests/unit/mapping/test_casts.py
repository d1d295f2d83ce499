"""Which conversions the daemon carries out, and what `cast: lossy` allows."""

from __future__ import annotations

import pytest

from crossfade.mapping.casts import cast
from crossfade.mapping.conversions import Fit
from crossfade.mapping.plan import Verbatim
from crossfade.mapping.rules import Conversion, Convert
from tests.unit.mapping.builders import column, compiled, errors, key, named, table

EXACT, CHECKED, REFUSED = Fit.EXACT, Fit.CHECKED, Fit.REFUSED


def lossy(conversion: Conversion, limit: int = 0) -> Convert:
    return Convert(conversion, is_lossy=True, limit=limit)


@pytest.mark.parametrize(
    ("source", "target", "fit", "rule"),
    [
        ("int2", "boolean", CHECKED, Convert(Conversion.TRUTH)),
        ("numeric(1)", "boolean", CHECKED, Convert(Conversion.TRUTH)),
        ("numeric(3,2)", "boolean", REFUSED, Verbatim()),
        ("float8", "boolean", REFUSED, Verbatim()),
        ("char(1)", "boolean", CHECKED, Verbatim()),
        ("text", "boolean", CHECKED, Verbatim()),
        ("boolean", "int2", EXACT, Convert(Conversion.NUMBER)),
        ("boolean", "numeric", REFUSED, Verbatim()),
        ("boolean", "text", EXACT, Convert(Conversion.WORD)),
        ("boolean", "varchar(4)", CHECKED, Convert(Conversion.WORD)),
        ("timestamp", "date", CHECKED, Convert(Conversion.DAY)),
        ("timestamp(0)", "date", CHECKED, Convert(Conversion.DAY)),
        ("timestamptz", "date", REFUSED, Verbatim()),
        ("timestamp[]", "date[]", REFUSED, Verbatim()),
        ("boolean[]", "int4[]", REFUSED, Verbatim()),
        ("numeric(10,2)", "int8", REFUSED, Verbatim()),
        ("text", "varchar(3)", CHECKED, Verbatim()),
        ("int4", "int8", EXACT, Verbatim()),
    ],
)
def test_without_a_word(source: str, target: str, fit: Fit, rule: object) -> None:
    verdict, found = cast(column(f"a {source}"), column(f"b {target}"), is_lossy=False)
    assert (verdict.fit, found) == (fit, rule)


@pytest.mark.parametrize(
    ("source", "target", "fit", "rule"),
    [
        ("int4", "boolean", EXACT, lossy(Conversion.TRUTH)),
        ("timestamp", "date", EXACT, lossy(Conversion.DAY)),
        ("numeric(10,2)", "int8", CHECKED, lossy(Conversion.ROUNDED)),
        ("numeric", "int2", CHECKED, lossy(Conversion.ROUNDED)),
        ("float8", "int4", CHECKED, lossy(Conversion.ROUNDED_EVEN)),
        ("float8", "numeric(5,2)", CHECKED, lossy(Conversion.BY_TARGET)),
        ("numeric(10,2)", "numeric(10,1)", EXACT, lossy(Conversion.BY_TARGET)),
        ("numeric(10,2)[]", "numeric(10,1)[]", EXACT, lossy(Conversion.BY_TARGET)),
        ("numeric", "float8", EXACT, lossy(Conversion.BY_TARGET)),
        ("int8", "float8", EXACT, lossy(Conversion.BY_TARGET)),
        ("float8", "float4", EXACT, lossy(Conversion.BY_TARGET)),
        ("timestamp(6)", "timestamp(3)", EXACT, lossy(Conversion.BY_TARGET)),
        ("text", "varchar(3)", EXACT, lossy(Conversion.CUT, 3)),
        ("varchar(9)", "char(3)", EXACT, lossy(Conversion.CUT, 3)),
        ("char(9)", "char(3)", EXACT, lossy(Conversion.CUT, 3)),
        ("char(9)", "text", EXACT, lossy(Conversion.UNPADDED)),
        ("char(9)", "varchar(3)", EXACT, lossy(Conversion.UNPADDED, 3)),
        # What has no meaning does not get one, and what loses nothing stays as it is.
        ("timestamptz", "timestamp", REFUSED, Verbatim()),
        ("timestamptz", "date", REFUSED, Verbatim()),
        ("bytea", "text", REFUSED, Verbatim()),
        ("int8", "int4", CHECKED, Verbatim()),
        ("varchar(3)", "varchar(9)", EXACT, Verbatim()),
        ("oid", "int4", REFUSED, Verbatim()),
    ],
)
def test_when_losses_are_allowed(source: str, target: str, fit: Fit, rule: object) -> None:
    verdict, found = cast(column(f"a {source}"), column(f"b {target}"), is_lossy=True)
    assert (verdict.fit, found) == (fit, rule)


MAPPING = "version: 1\nschemas: {public: app}\ntables:\n  app.t:\n    columns:\n      a: {cast: lossy}\n"


def test_a_refusal_that_a_word_would_lift_names_the_word() -> None:
    source, target = table("public.t", "id int", "a numeric", pk="id"), table("app.t", "id int", "a int", pk="id")
    (error,) = errors(compiled("version: 1\nschemas: {public: app}\n", [source], [target]))
    assert (error.name, "{cast: lossy}" in error.remedy) == ("type_not_convertible", True)
    assert errors(compiled(MAPPING, [source], [target])) == []


def test_a_needless_word_is_told() -> None:
    source, target = table("public.t", "id int", "a int", pk="id"), table("app.t", "id int", "a int8", pk="id")
    (finding,) = compiled(MAPPING, [source], [target]).findings
    assert (finding.name, finding.subject) == ("cast_needless", "mapping.yaml:6:11")


@pytest.mark.parametrize("rounded", ["numeric(5,1)", "int4"])
def test_what_identifies_rows_is_never_rounded(rounded: str) -> None:
    source = table("public.t", "a numeric(5,2)", pk="a")
    (error,) = errors(compiled(MAPPING, [source], [table("app.t", f"a {rounded}", pk="a")]))
    assert error.name == "identity_not_one_to_one"


def test_what_is_unique_on_the_target_may_not_stay_so() -> None:
    source = table("public.t", "id int", "a timestamp!", pk="id", keys=[key("a")])
    target = table("app.t", "id int", "a date!", pk="id", keys=[key("a")])
    assert named(compiled(MAPPING, [source], [target])) == ["unique_not_one_to_one"]
