"""Ids that are made on the target: what must be there, and what their types allow."""

from __future__ import annotations

import dataclasses

import pytest

from crossfade.catalog import Catalog, Table
from crossfade.findings import Finding
from crossfade.mapping.compile import Compiled, compile_plan
from crossfade.mapping.load import parse_mapping
from tests.unit.mapping.builders import catalog, errors, key, name, table

MAPPING = "version: 1\nschemas: {public: app}\nids: {k: {from: public.t.id, %s}}\n"
SEQUENCE = "strategy: sequence, sequence: app.numbers"
MAP = "strategy: table, table: legacy.ids"


def result(how: str, old: str = "int", new: str = "uuid", *others: Table) -> Compiled:
    there: Catalog = catalog(table("app.t", f"id {new}", pk="id"), *others)
    there = dataclasses.replace(there, sequences=frozenset({name("app.numbers"), name("app.others")}))
    here = catalog(table("public.t", f"id {old}", pk="id"))
    return compile_plan(parse_mapping(MAPPING % how), here, there, workflow="shop", replica_role=True)


def refused(found: Compiled) -> tuple[str, str]:
    error: Finding = errors(found)[0]
    assert error.subject == "mapping.yaml:3:7"
    return error.name, error.sentence


def test_a_sequence_makes_integers_of_any_key() -> None:
    for old in ("smallint", "text", "uuid"):
        found = result(SEQUENCE, old, "int8")
        assert found.plan is not None, found.findings
        keyspace = found.plan.keyspaces["k"]
        assert (keyspace.new_type, keyspace.taken_from) == ("bigint", name("app.numbers"))


def test_the_sequence_must_be_there() -> None:
    kind, sentence = refused(result("strategy: sequence, sequence: app.number", "int", "int8"))
    assert (kind, "Did you mean 'app.numbers'?" in sentence) == ("keyspace_sequence_missing", True)


@pytest.mark.parametrize(
    ("old", "new", "to"), [("int", "uuid", ""), ("text", "int8", ", to: bigint"), ("uuid", "text", "")]
)
def test_a_map_may_be_of_any_types_of_ids(old: str, new: str, to: str) -> None:
    ids = table("legacy.ids", f"old {old}", f"new {new}", "note text", pk="old")
    found = result(MAP + to, old, new, ids)
    assert found.plan is not None, found.findings
    assert {one.name for one in found.findings} <= {"identity_wide"}
    assert found.plan.keyspaces["k"].old_type in {"integer", "text", "uuid"}


@pytest.mark.parametrize(
    ("columns", "how", "words"),
    [
        (("old int", "neu uuid"), MAP, "has no column 'new'"),
        (("alt int", "new uuid"), MAP, "has no column 'old'"),
        (("old text", "new uuid"), MAP, "old is text, but the old ids are integer"),
        (("old int", "new timestamptz"), MAP, "new is timestamp with time zone; ids become"),
        (("old int", "new uuid"), f"{MAP}, to: bigint", "new is uuid; ids become bigint"),
    ],
)
def test_a_map_that_does_not_fit(columns: tuple[str, ...], how: str, words: str) -> None:
    kind, sentence = refused(result(how, "int", "uuid", table("legacy.ids", *columns, keys=[key("old")])))
    assert kind == "keyspace_map_columns"
    assert words in sentence


def test_a_map_must_be_there_and_should_be_unique() -> None:
    assert refused(result(MAP))[0] == "keyspace_map_missing"
    (warning,) = result(MAP, "int", "uuid", table("legacy.ids", "old int", "new uuid")).findings
    assert warning.name == "keyspace_map_not_unique"


@pytest.mark.parametrize(("how", "new"), [(SEQUENCE, "uuid"), (SEQUENCE, "text"), (MAP, "int8"), (MAP, "varchar(30)")])
def test_the_target_column_must_hold_what_is_made(how: str, new: str) -> None:
    found = result(how, "int", new, table("legacy.ids", "old int", "new uuid", pk="old"))
    assert [error.name for error in errors(found)] == ["type_of_remapped"]


def test_other_sources_of_ids_are_other_meanings() -> None:
    plans = [result(how, "int", "int8").plan for how in (SEQUENCE, SEQUENCE.replace("numbers", "others"))]
    assert len({plan.mapping_hash for plan in plans if plan is not None}) == 2
