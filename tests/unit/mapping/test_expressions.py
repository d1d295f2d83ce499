"""SQL of the mapping, once the target has said what it is: what is refused because a row may come without a value."""

from __future__ import annotations

import dataclasses

import pytest

from crossfade.catalog import ReplicaIdentity, Table
from crossfade.mapping.compile import Compiled, compile_plan
from crossfade.mapping.effects import Effect
from crossfade.mapping.expressions import Answer, Question, questions
from crossfade.mapping.load import parse_mapping
from crossfade.mapping.specchanges import between_specs
from tests.unit.mapping.builders import catalog, compiled, errors, key, name, named, reference, table

T = table("public.t", "id int", "a int", "short varchar(20)", "long text", "more text", pk="id")
TARGET = table("app.t", "id int", "v text", pk="id")


def mapping(body: str) -> str:
    return f"version: 1\ntables:\n  app.t:\n    from: public.t\n    {body}\n    only: true\n"


def computed(sql: str) -> str:
    return mapping(f"columns: {{id: id, v: {{up: {sql}}}}}")


def filtered(sql: str, more: str = "") -> str:
    return mapping(f"where: {sql}\n    columns: {{id: id}}{more}")


def of(text: str, source: Table = T) -> Compiled:
    return compiled(text, [source], [TARGET])


def test_what_it_reads_is_used() -> None:
    result = of(computed("a::text"))
    assert result.plan is not None, result.findings
    (plan,) = result.plan.tables
    assert plan.used == {"id", "a"}
    assert [expression.names for expression in plan.expressions] == [{"a"}]


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        (computed("lower(long)"), []),  # not sent: not changed either
        (computed("long || short"), ["expression_unsent"]),
        (computed("short || a"), []),
        (filtered("long = short"), ["filter_unsent"]),
        (filtered("a > 0"), ["filter_incomplete_row"]),
        (computed("4 + 2"), ["expression_of_nothing"]),
    ],
)
def test_D1_values_that_may_not_be_sent(text: str, findings: list[str]) -> None:
    assert named(of(text)) == findings
    whole = dataclasses.replace(T, replica_identity=ReplicaIdentity.FULL)
    assert named(of(text, whole)) == [each for each in findings if each == "expression_of_nothing"]


def test_rows_that_are_only_inserted_come_whole() -> None:
    assert named(of(filtered("long = short", "\n    append_only: true"))) == []


def test_the_target_s_words_are_told_with_the_place() -> None:
    spec = parse_mapping(computed("lower(long)"))
    source, target = catalog(T), catalog(TARGET)
    (asked,) = questions(spec, source, target)
    assert asked.question == Question(name("public.t"), "lower(long)", name("app.t"), "v")
    for answer, finding in (
        (Answer("the target says: no."), "expression_refused"),
        (Answer(inputs=frozenset({"long"}), volatile="f()"), "expression_volatile"),
    ):
        result = compile_plan(spec, source, target, workflow="w", replica_role=True, answers={asked.question: answer})
        (found,) = errors(result)
        assert (found.name, found.subject) == (finding, "mapping.yaml:5:27")


def test_a_type_that_the_target_does_not_know_is_read_as_text() -> None:
    spec = parse_mapping(computed("a::text"))
    (asked,) = questions(spec, catalog(T), catalog(TARGET))
    answers = {asked.question: Answer(inputs=frozenset({"a"}), texts=frozenset({"a"}))}
    result = compile_plan(spec, catalog(T), catalog(TARGET), workflow="w", replica_role=True, answers=answers)
    assert result.plan is not None
    (expression,) = result.plan.tables[0].expressions
    assert [(each.source.type_name, each.shown.type_name) for each in expression.inputs] == [("integer", "text")]


def test_a_unique_key_that_is_computed_is_told_of() -> None:
    target = table("app.t", "id int", "v text", pk="id", keys=[key("v")])
    assert named(compiled(computed("lower(short)"), [T], [target])) == ["unique_on_target_only"]


def test_a_filtered_parent_is_told_of_and_refused_where_it_is_enforced() -> None:
    parent = table("public.p", "id int", "n int", pk="id")
    child = table("public.c", "id int", "p_id int", pk="id", references=[reference("p_id", "public.p")])
    targets = [
        table("app.p", "id int", "n int", pk="id"),
        table("app.c", "id int", "p_id int", pk="id", references=[reference("p_id", "app.p")]),
    ]
    text = "version: 1\nschemas: {public: app}\ntables: {app.p: {where: n > 0}}\n"
    result = compiled(text, [parent, child], targets)
    assert (named(result), errors(result)) == (["filter_of_parent"], [])
    enforced = compiled(text, [parent, child], targets, replica_role=False)
    assert [each.name for each in errors(enforced)] == ["filter_of_parent"]


def test_another_condition_or_expression_means_copying_again() -> None:
    base, moved = parse_mapping(filtered("a > 0")), parse_mapping("# moved\n" + filtered("a > 0"))
    assert between_specs(base, moved).all == ()
    assert between_specs(base, parse_mapping(filtered("a > 1"))).effect is Effect.RESYNC
    changed = between_specs(parse_mapping(computed("a::text")), parse_mapping(computed("short")))
    assert changed.effect is Effect.RESYNC
