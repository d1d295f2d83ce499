"""Which conditions may stand in the publication: only those that neither lose a row nor harm the source."""

from __future__ import annotations

import dataclasses

import pytest

from crossfade.catalog import Leaf, ReplicaIdentity, Table, TableKind
from crossfade.mapping.compile import compile_plan
from crossfade.mapping.expressions import Answer, questions
from crossfade.mapping.load import parse_mapping
from tests.unit.mapping.builders import catalog, name, table

T = table("public.t", "tenant int", "id int", "n int", "short varchar(20)", pk="tenant id")
LONG = table("public.t", "tenant int", "id int", "n int", "long text", pk="tenant id")
FULL = dataclasses.replace(T, replica_identity=ReplicaIdentity.FULL)
TARGET = table("app.t", "tenant int", "id int", "n int", "short varchar(20)", "long text", pk="tenant id")
OTHER = table("app.u", "tenant int", "id int", pk="tenant id")
SAFE = Answer(is_portable=True, cannot_fail=True)

BY_KEY = "app.t: {from: public.t, where: tenant = 5}"
BY_OTHER = "app.t: {from: public.t, where: n > 0}"
APPENDED = "app.t: {from: public.t, where: n > 0, append_only: true}"


def pushed(
    source: Table, *entries: str, answer: Answer = SAFE, version: int = 150018, ids: str = ""
) -> dict[str, str] | None:
    """The filters, of a mapping with these entries; None where it is refused."""
    text = "version: 1\n" + ids + "tables:\n" + "".join(f"  {entry}\n" for entry in entries)
    spec, old, new = parse_mapping(text), catalog(source, version=version), catalog(TARGET, OTHER)
    answers = {
        asked.question: dataclasses.replace(
            answer, inputs=frozenset({"n"} if "n > 0" in asked.question.sql else {"tenant"})
        )
        for asked in questions(spec, old, new)
    }
    plan = compile_plan(spec, old, new, workflow="w", replica_role=True, answers=answers).plan
    return None if plan is None else {str(one): text for one, text in plan.row_filters.items()}


@pytest.mark.parametrize(
    ("source", "entry", "text"),
    [
        (T, BY_KEY, "tenant = 5"),
        (FULL, BY_OTHER, "n > 0"),
        (T, APPENDED, "n > 0"),
        (dataclasses.replace(LONG, replica_identity=ReplicaIdentity.FULL), BY_OTHER, "n > 0"),
    ],
    ids=["columns of the key", "whole old rows", "only inserted", "long values come with whole old rows"],
)
def test_E11_a_condition_that_may_be_pushed(source: Table, entry: str, text: str) -> None:
    assert pushed(source, entry) == {"public.t": text}


@pytest.mark.parametrize(
    ("source", "entry"),
    [
        (T, BY_OTHER),  # publishing it would make the application's UPDATEs fail
        (LONG, BY_KEY),  # a row that begins to match by a change of its key comes without its long value
    ],
    ids=["not of the key", "long values"],
)
def test_E11_a_condition_that_may_not(source: Table, entry: str) -> None:
    assert pushed(source, entry) == {}


@pytest.mark.parametrize(
    "answer",
    [Answer(is_portable=True), Answer(cannot_fail=True)],
    ids=["may end the decoding", "may mean something else there"],
)
def test_E11_what_the_server_says_of_it_decides(answer: Answer) -> None:
    assert pushed(FULL, BY_OTHER, answer=answer) == {}


def test_E11_no_row_filters_before_version_15() -> None:
    assert pushed(FULL, BY_OTHER, version=140012) == {}


def test_E11_every_target_of_a_split_must_want_only_some() -> None:
    other = "app.u: {from: public.t, only: true, where: tenant = 5, columns: {tenant: tenant, id: id}}"
    assert pushed(FULL, BY_OTHER, other) == {"public.t": "(n > 0) OR (tenant = 5)"}
    assert pushed(FULL, BY_KEY, other) == {"public.t": "tenant = 5"}
    whole = "app.u: {from: public.t, only: true, columns: {tenant: tenant, id: id}}"
    assert pushed(FULL, BY_OTHER, whole) == {}


def test_E11_the_owner_of_ids_is_sent_whole() -> None:
    source = table("public.t", "id int", "n int", pk="id", identity=ReplicaIdentity.FULL)
    target = table("app.t", "id uuid", "n int", pk="id")
    text = (
        "version: 1\nids: {t: {from: public.t.id, strategy: uuid7}}\ntables: {app.t: {from: public.t, where: n > 0}}\n"
    )
    spec, old, new = parse_mapping(text), catalog(source), catalog(target)
    (asked,) = questions(spec, old, new)
    answers = {asked.question: dataclasses.replace(SAFE, inputs=frozenset({"n"}))}
    plan = compile_plan(spec, old, new, workflow="w", replica_role=True, answers=answers).plan
    assert plan is not None
    assert plan.row_filters == {}


@pytest.mark.parametrize(
    ("identity", "leaf", "entry", "expected"),
    [
        (ReplicaIdentity.DEFAULT, ReplicaIdentity.DEFAULT, BY_KEY, {"public.t": "tenant = 5"}),
        # A partition that is made tomorrow has the default identity.
        (ReplicaIdentity.FULL, ReplicaIdentity.FULL, BY_OTHER, {}),
    ],
    ids=["by the primary key", "by what the partitions happen to log"],
)
def test_E11_partitions(identity: ReplicaIdentity, leaf: ReplicaIdentity, entry: str, expected: dict[str, str]) -> None:
    root = dataclasses.replace(
        T, replica_identity=identity, kind=TableKind.PARTITIONED, leaves=(Leaf(name("public.t1"), 5, leaf, "p"),)
    )
    assert pushed(root, entry) == expected
