"""Value maps against both columns: keys as the source prints them, values that the target reads, and the way back."""

from __future__ import annotations

import dataclasses

import pytest

from crossfade.catalog import Table
from crossfade.mapping.plan import TablePlan
from crossfade.mapping.rules import Otherwise, ValueMap
from tests.unit.mapping.builders import compiled, errors, named, reference, table

MAPPING = """\
version: 1
schemas: {public: app}
tables:
  app.t:
    columns:
      plan: {from: code, values: %s}
"""
PLANS = ("free", "pro")


def target(kind: str = "<e>app.plan") -> Table:
    made = table("app.t", "id int", f"plan {kind}", pk="id")
    labelled = [dataclasses.replace(one, labels=PLANS if one.type_kind == "e" else ()) for one in made.columns]
    return dataclasses.replace(made, columns=tuple(labelled))


def planned(values: str, source: str = "int", kind: str = "<e>app.plan") -> TablePlan:
    result = compiled(MAPPING % values, [table("public.t", "id int", f"code {source}", pk="id")], [target(kind)])
    assert result.plan is not None, result.findings
    return result.plan.tables[0]


def rule(values: str, source: str = "int", kind: str = "<e>app.plan") -> object:
    return planned(values, source, kind).columns[1].rule


def test_keys_are_spelled_as_the_source_prints_them() -> None:
    assert rule("{01: free, 2: pro}") == ValueMap((("1", "free"), ("2", "pro")), Otherwise.ERROR)
    assert rule("{true: pro, no: free}, otherwise: null", "boolean") == ValueMap(
        (("t", "pro"), ("f", "free")), Otherwise.NULL
    )
    assert rule("{P: pro}, otherwise: {const: free}", "char(2)") == ValueMap((("P ", "pro"),), Otherwise.CONST, "free")


@pytest.mark.parametrize(
    ("values", "source", "kind", "name", "place", "words"),
    [
        ("{1: fre}", "int", "<e>app.plan", "value_map_value", "6:35", "is no label of app.plan. Did you mean 'free'?"),
        ("{1: abcd}", "int", "varchar(3)", "value_map_value", "6:35", "is longer than character varying(3)"),
        ("{1: x}", "int", "int", "value_map_value", "6:35", "is no integer"),
        ("{1: free, 2: null}", "int", "text!", "value_map_value", "6:44", "is NOT NULL and cannot become null"),
        ("{1: a}, otherwise: null", "int", "text!", "value_map_value", "6:42", "is NOT NULL and cannot become null"),
        ("{1: a}, otherwise: {const: bcde}", "int", "varchar(3)", "value_map_value", "6:42", "is longer than"),
        ("{x: a}", "int", "text", "value_map_key", "6:35", "never holds 'x': it is no integer"),
        ("{abc: a}", "varchar(2)", "text", "value_map_key", "6:35", "it is longer than character varying(2)"),
        ("{1.5: a}", "numeric(3,0)", "text", "value_map_key", "6:35", "it is no value of numeric(3,0)"),
        ("{1: a, 01: b}", "int", "text", "value_map_key", "6:41", "'01' is given twice, in other words"),
        ("{1: a}", "timestamptz", "text", "value_map_type", "6:26", "its values cannot be told apart"),
        ("{1: a}", "<d>public.code", "text", "value_map_type", "6:26", "its values cannot be told apart"),
        ("{sad: a}", "<e>public.mood", "text", "value_map_key", "6:35", "it is no label of public.mood"),
    ],
)
def test_what_does_not_fit_is_told_at_its_place(
    values: str, source: str, kind: str, name: str, place: str, words: str
) -> None:
    made = table("public.t", "id int", f"code {source}", pk="id")
    (error,) = errors(compiled(MAPPING % values, [made], [target(kind)]))
    assert (error.name, error.subject) == (name, f"mapping.yaml:{place}")
    assert words in error.sentence


@pytest.mark.parametrize(
    ("values", "back"),
    [
        ("{1: free, 2: pro}", (("free", "1"), ("pro", "2"))),
        ("{1: free, 2: free}", None),
        ("{1: free, 2: null}", None),
        ("{1: free}, otherwise: null", None),
        ("{1: free}, otherwise: {const: pro}", None),
    ],
)
def test_one_to_one_is_reversible(values: str, back: tuple[tuple[str, str], ...] | None) -> None:
    made = rule(values)
    assert isinstance(made, ValueMap)
    assert made.inverse == (None if back is None else ValueMap(back, Otherwise.ERROR))
    if made.inverse is not None:
        assert made.inverse.inverse == made


def test_what_identifies_rows_keeps_them_apart() -> None:
    source, there = table("public.t", "code int", pk="code"), table("app.t", "plan text", pk="plan")
    assert errors(compiled(MAPPING % "{1: a, 2: b}", [source], [there])) == []
    for values in ("{1: a, 2: a}", "{1: a}, otherwise: {const: b}"):
        assert [one.name for one in errors(compiled(MAPPING % values, [source], [there]))] == [
            "identity_not_one_to_one"
        ]


def test_another_map_is_another_meaning() -> None:
    plan = planned("{1: free, 2: pro}")
    assert plan == planned("{01: free, 2: pro}")
    made = [table("public.t", "id int", "code int", pk="id")]
    hashes = {
        compiled(MAPPING % values, made, [target()]).plan.mapping_hash  # type: ignore[union-attr]
        for values in ("{1: free}", "{1: pro}", "{1: free, 2: pro}", "{1: free}, otherwise: null", "{01: free}")
    }
    assert len(hashes) == 4


def test_a_map_and_a_foreign_key_to_a_keyspace_exclude_each_other() -> None:
    mapping = (MAPPING % "{1: free}").replace("tables:", "ids: {k: {from: public.p.id, strategy: uuid7}}\ntables:")
    source = [
        table("public.p", "id int", pk="id"),
        table("public.t", "id int", "code int", pk="id", references=[reference("code", "public.p")]),
    ]
    found = compiled(mapping, source, [table("app.p", "id uuid", pk="id"), target()])
    assert "keyspace_conflict" in named(found)
