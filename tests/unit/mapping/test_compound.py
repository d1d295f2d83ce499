"""Several columns that are one id: the catalog they are given to, and what the compiler makes of them."""

from __future__ import annotations

import dataclasses

import pytest

from crossfade.catalog import ReplicaIdentity
from crossfade.draft.refresh import refresh
from crossfade.mapping.compile import Compiled
from crossfade.mapping.compound import with_compounds
from crossfade.mapping.compoundnames import all_parts, compound, is_compound, parts_of, written
from crossfade.mapping.load import parse_mapping
from crossfade.mapping.plan import Remap
from tests.unit.mapping.builders import catalog, compiled, key, name, named, reference, table

A = table("public.a", "tenant int", "no bigint", "v text", pk="tenant no")
B = table(
    "public.b",
    "id int",
    "tenant int",
    "a_no bigint",
    pk="id",
    references=[reference("a_no tenant", "public.a", "no tenant")],
)
C = table(
    "public.c",
    "tenant int",
    "a_no bigint",
    "n int",
    pk="tenant a_no n",
    references=[reference("tenant a_no", "public.a", "tenant no")],
)
TARGETS = [
    table("app.a", "id uuid", "v text", pk="id"),
    table("app.b", "id int", "a_id uuid", pk="id"),
    table("app.c", "a_id uuid", "n int", pk="a_id n"),
]
MAPPING = """\
version: 1
schemas: {public: app}
ids: {a: {from: [public.a.tenant, public.a.no], strategy: uuid7}}
tables:
  app.a: {columns: {id: [tenant, no]}}
  app.b: {columns: {a_id: [tenant, a_no]}}
  app.c: {columns: {a_id: {from: [tenant, a_no], remap: a}}}
"""
AB = compound(["tenant", "no"])


def of(text: str = MAPPING) -> Compiled:
    return compiled(text, [A, B, C], TARGETS)


def test_names() -> None:
    assert parts_of(AB) == ("tenant", "no")
    assert parts_of("tenant+no") == ("tenant+no",)
    assert is_compound(AB)
    assert not is_compound("tenant+no")
    assert all_parts([AB, "x"]) == {"tenant", "no", "x"}
    assert (written(AB), written("x")) == ("[tenant, no]", "x")


def test_the_catalog_gets_a_column_its_key_and_what_refers_to_it() -> None:
    wide = with_compounds(parse_mapping(MAPPING), catalog(A, B, C))
    owner = wide.tables[name("public.a")]
    made = owner.column(AB)
    assert made is not None
    assert (made.base_type, made.not_null, made.storage) == ("text", True, "p")
    assert [one.columns for one in owner.keys] == [("tenant", "no"), (AB,)]
    child = wide.tables[name("public.b")]
    # In the owner's order, whatever that of the foreign key is.
    assert child.foreign_keys[-1].columns == (compound(["tenant", "a_no"]),)
    assert child.foreign_keys[-1].referenced_columns == (AB,)
    assert child.column(compound(["tenant", "a_no"])) is not None
    assert wide.tables[name("public.a")].primary_key == A.primary_key


def test_a_catalog_without_any_is_left_alone() -> None:
    source = catalog(A, B)
    assert with_compounds(parse_mapping("version: 1\nschemas: {public: app}\n"), source) is source


def test_rows_are_found_by_the_new_id() -> None:
    result = of()
    assert result.plan is not None, result.findings
    plans = {str(plan.target): plan for plan in result.plan.tables}
    a, b, c = plans["app.a"], plans["app.b"], plans["app.c"]
    assert (a.identity, a.key, a.owns) == ((AB,), ("id",), "a")
    assert (b.identity, b.key, b.owns) == (("id",), ("id",), None)
    assert (c.identity, c.key) == ((compound(["tenant", "a_no"]), "n"), ("a_id", "n"))
    assert {column.rule for column in b.columns if column.target.name == "a_id"} == {Remap("a")}
    assert result.plan.keyspaces["a"].old_type == "text"
    assert named(result) == []


def test_parts_that_reach_the_target_s_key_by_themselves_stay_the_key() -> None:
    kept = table("app.a", "id uuid", "tenant int", "no bigint", "v text", pk="tenant no")
    result = compiled(MAPPING, [A, B, C], [kept, *TARGETS[1:]])
    assert result.plan is not None, result.findings
    (a,) = [plan for plan in result.plan.tables if plan.target == kept.name]
    assert (a.identity, a.key) == (("tenant", "no"), ("tenant", "no"))


def test_whole_old_rows() -> None:
    whole = dataclasses.replace(A, replica_identity=ReplicaIdentity.FULL)
    result = compiled(MAPPING, [whole, B, C], TARGETS)
    assert result.plan is not None, result.findings
    assert next(plan.identity for plan in result.plan.tables if plan.owns == "a") == (AB,)


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("strategy: uuid7", "strategy: offset, by: 5", "keyspace_offset_type"),
        ("[public.a.tenant, public.a.no]", "[public.a.tenant, public.a.x]", "keyspace_column_missing"),
        ("[public.a.tenant, public.a.no]", "[public.b.tenant, public.b.a_no]", "keyspace_not_unique"),
        (
            "app.b: {columns: {a_id: [tenant, a_no]}}",
            "app.b: {columns: {a_id: [a_no, tenant]}}",
            "compound_without_ids",
        ),
        ("app.b: {columns: {a_id: [tenant, a_no]}}", "app.b: {columns: {a_id: [tenant, x]}}", "source_column_missing"),
    ],
)
def test_what_is_refused(old: str, new: str, finding: str) -> None:
    assert old in MAPPING
    result = of(MAPPING.replace(old, new))
    assert result.plan is None
    assert finding in named(result)
    assert not any("\x1f" in found.sentence + found.remedy for found in result.findings)


def test_parts_of_other_types_are_refused() -> None:
    source = table("public.a", "tenant int", "no date", "v text", pk="tenant no")
    result = compiled(MAPPING.replace("  app.b: {columns: {a_id: [tenant, a_no]}}\n", ""), [source], TARGETS[:1])
    assert "keyspace_type" in named(result)


def test_deferrable_keys_are_refused() -> None:
    source = dataclasses.replace(
        A, keys=(key("tenant no", primary=True, deferrable=True),), replica_identity=ReplicaIdentity.FULL
    )
    assert "keyspace_deferrable" in named(compiled(MAPPING, [source, B, C], TARGETS))


def test_a_refreshed_draft_has_nothing_to_add() -> None:
    assert refresh(parse_mapping(MAPPING), catalog(A, B, C), catalog(*TARGETS)).is_empty
