"""Ids inside values against both columns, the keyspaces and what identifies rows."""

from __future__ import annotations

import pytest

from crossfade.catalog import ReplicaIdentity, Table
from crossfade.mapping.compile import Compiled
from crossfade.mapping.effects import Effect, of_rules
from crossfade.mapping.idrules import OtherOwner, RemapArray, RemapBy
from tests.unit.mapping.builders import compiled, errors, named, reference, table

MAPPING = """\
version: 1
schemas: {public: app}
ids:
  user: {from: public.users.id, strategy: uuid7}
  team: {from: public.teams.id, strategy: offset, by: 5}
tables:
  app.t:
    columns:
      x: {remap: %s}
"""


def result(
    rule: str, source: str, target: str, *columns: str, pk: str = "no", drop: str = "", full: bool = False
) -> Compiled:
    identity = ReplicaIdentity.FULL if full else ReplicaIdentity.DEFAULT
    here: list[Table] = [
        table("public.users", "id int", pk="id"),
        table("public.teams", "id int8", pk="id"),
        table("public.t", "no int", f"x {source}", *columns, pk=pk, identity=identity),
    ]
    there = [
        table("app.users", "id uuid", pk="id"),
        table("app.teams", "id int8", pk="id"),
        table("app.t", "no int", f"x {target}", "kind text", pk=pk),
    ]
    return compiled(MAPPING % rule + (f"    drop: [{drop}]\n" if drop else ""), here, there)


def rule_of(found: Compiled) -> object:
    assert found.plan is not None, found.findings
    plan = next(one for one in found.plan.tables if one.target.name == "t")
    return next(column.rule for column in plan.columns if column.target.name == "x")


PAIR = "{by: kind, of: {User: user, Team: team}%s}"


def test_an_array_of_ids_needs_no_other_word() -> None:
    found = result("user", "int[]", "uuid[]", "kind text")
    assert rule_of(found) == RemapArray("user")
    assert "keyspace_unused" not in named(found)


@pytest.mark.parametrize(
    ("rule", "source", "target", "words"),
    [
        ("user", "int[]", "uuid", "an array of ids cannot become uuid"),
        ("user", "text[]", "uuid[]", "of its elements, it is text, but ids.user replaces ids of type integer"),
        ("user", "int[]", "int8[]", "of its elements, ids.user makes uuid ids, the target column is bigint"),
        ("{ids: user, path: $.a}", "text", "jsonb", "paths lead into json and jsonb, not from text to jsonb"),
        ("{ids: user, path: $.a}", "jsonb", "text", "paths lead into json and jsonb"),
        (PAIR % "", "int", "uuid", "ids.team makes bigint ids, the target column is uuid"),
        (PAIR % "", "timestamptz", "text", "it is timestamp with time zone, but ids.user replaces ids of type integer"),
        ("{by: kind, of: {User: user}, otherwise: keep}", "int", "uuid", "ids that are kept are integer, which uuid"),
    ],
)
def test_types_that_do_not_fit(rule: str, source: str, target: str, words: str) -> None:
    error = errors(result(rule, source, target, "kind text"))[0]
    assert error.name == "type_of_remapped"
    assert words in error.sentence
    assert error.subject.startswith("mapping.yaml:9:")


@pytest.mark.parametrize(("source", "target"), [("int", "text"), ("text", "text"), ("varchar(40)", "text")])
def test_a_text_takes_ids_of_every_type(source: str, target: str) -> None:
    found = result(PAIR % ", otherwise: keep", source, target, "kind text")
    assert rule_of(found) == RemapBy("kind", (("User", "user"), ("Team", "team")), OtherOwner.KEEP)


def test_the_type_column_must_be_there_and_readable() -> None:
    for columns, words in (
        (("kinds text",), "has no column 'kind' that is sent, to say whose id x is. Did you mean 'kinds'?"),
        (("kind jsonb",), "public.t.kind is jsonb: its values cannot be told apart"),
        (("kind int",), "public.t.kind never holds 'User'"),
    ):
        found = [error.sentence for error in errors(result(PAIR % "", "int", "text", *columns))]
        assert any(words in sentence for sentence in found), found


def test_the_type_column_is_used_and_may_be_nothing_else() -> None:
    """Named by `by` it is selected, published and watched; nobody need map or drop it."""
    found = result("{by: sort, of: {User: user}}", "int", "uuid", "sort text", "kind text")
    assert found.plan is not None, found.findings
    plan = next(one for one in found.plan.tables if one.target.name == "t")
    assert plan.used == {"no", "x", "kind", "sort"}
    (error,) = errors(result("{by: sort, of: {User: user}}", "int", "uuid", "sort text", "kind text", drop="sort"))
    assert error.name == "column_used_and_dropped"


def test_a_pair_that_identifies_rows_needs_its_type_there() -> None:
    columns = ("kind text!",)
    names = [error.name for error in errors(result(PAIR % "", "int!", "text!", *columns, pk="x"))]
    assert names == ["identity_pair"]
    assert errors(result(PAIR % "", "int!", "text!", *columns, pk="kind x")) == []
    names = [error.name for error in errors(result(PAIR % ", otherwise: null", "int!", "text!", *columns, pk="kind x"))]
    assert "identity_not_one_to_one" in names


def test_a_keyspace_declared_by_a_foreign_key_admits_no_other_rule() -> None:
    here = [
        table("public.users", "id int", pk="id"),
        table("public.t", "no int", "x int", "kind text", pk="no", references=[reference("x", "public.users")]),
    ]
    mapping = MAPPING.replace("  team: {from: public.teams.id, strategy: offset, by: 5}\n", "")
    there = [table("app.users", "id uuid", pk="id"), table("app.t", "no int", "x uuid", "kind text", pk="no")]
    found = compiled(mapping % "{by: kind, of: {User: user}}", here, there)
    assert [error.name for error in errors(found)] == ["keyspace_conflict"]


def pair(otherwise: OtherOwner, **of: str) -> RemapBy:
    return RemapBy("kind", tuple(of.items()), otherwise)


@pytest.mark.parametrize(
    ("old", "new", "effect"),
    [
        (pair(OtherOwner.ERROR, U="user"), pair(OtherOwner.ERROR, U="user", T="team"), Effect.FREE),
        (pair(OtherOwner.ERROR, U="user"), pair(OtherOwner.KEEP, U="user"), Effect.FREE),
        (pair(OtherOwner.KEEP, U="user"), pair(OtherOwner.KEEP, U="user", T="team"), Effect.RESYNC),
        (pair(OtherOwner.ERROR, U="user"), pair(OtherOwner.ERROR, U="team"), Effect.RESYNC),
        (pair(OtherOwner.KEEP, U="user"), pair(OtherOwner.NULL, U="user"), Effect.RESYNC),
        (pair(OtherOwner.ERROR, U="user"), RemapBy("sort", (("U", "user"),), OtherOwner.ERROR), Effect.RESYNC),
    ],
)
def test_what_a_change_of_a_pair_means(old: RemapBy, new: RemapBy, effect: Effect) -> None:
    assert of_rules(old, new) is effect
    assert of_rules(new, old) is effect
