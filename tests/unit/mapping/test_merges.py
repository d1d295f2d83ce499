"""Several source tables as one target: what keeps their rows apart, what `check` says where nothing does."""

from __future__ import annotations

import dataclasses

import pytest

from crossfade.catalog import Route
from crossfade.findings import Severity
from crossfade.mapping.changes import between
from crossfade.mapping.compile import Compiled, compile_plan
from crossfade.mapping.effects import Effect
from crossfade.mapping.load import parse_mapping
from crossfade.mapping.plan import Plan, Remap
from crossfade.mapping.rules import Within
from crossfade.mapping.shares import InMap, InNoMap, InRange, Share
from tests.unit.mapping.builders import catalog, compiled, errors, key, name, named, reference, table

HEAD = "version: 1\n"
PEOPLE = "tables: {app.people: {from: [public.customers, legacy.clients]}}\n"
CUSTOMERS = table("public.customers", "id int!", "name text", pk="id")
CLIENTS = table("legacy.clients", "id int!", "name text", pk="id")
TARGET = table("app.people", "id int8!", "name text", pk="id")
OFFSET = "ids: {client: {from: legacy.clients.id, strategy: offset, by: 1000000}}\n"


def plan_of(result: Compiled) -> Plan:
    assert result.plan is not None, result.findings
    return result.plan


def shares(result: Compiled) -> dict[str, Share | None]:
    return {each.source.name: each.share for each in plan_of(result).tables}


def test_numbers_from_an_offset_on_are_apart() -> None:
    plan = plan_of(compiled(HEAD + OFFSET + PEOPLE, [CUSTOMERS, CLIENTS], [TARGET]))
    clients, customers = sorted(plan.tables, key=lambda each: each.source)
    assert clients.route == Route(name("legacy.clients"), name("app.people"))
    assert (customers.share, clients.share) == (InRange("id", None, 1_000_000), InRange("id", 1_000_000, None))
    assert customers.beside == (clients.source,)
    assert customers.columns[0].rule == Within(None, 1_000_000), "what is not its own is refused"
    assert clients.columns[0].rule == Remap("client")
    assert (plan.keyspaces["client"].lower, plan.keyspaces["client"].upper) == (1_000_000, None)


def test_three_sources_have_the_numbers_between_their_offsets() -> None:
    old = table("old.people", "id int!", "name text", pk="id")
    mapping = (
        HEAD
        + "ids:\n  client: {from: legacy.clients.id, strategy: offset, by: 1000000}\n"
        + "  old: {from: old.people.id, strategy: offset, by: -500}\n"
        + "tables: {app.people: {from: [public.customers, legacy.clients, old.people]}}\n"
    )
    assert shares(compiled(mapping, [CUSTOMERS, CLIENTS, old], [TARGET])) == {
        "customers": InRange("id", 0, 1_000_000),
        "clients": InRange("id", 1_000_000, None),
        "people": InRange("id", None, 0),
    }


UUIDS = """ids:
  customer: {from: public.customers.id, to: uuid, strategy: uuid7}
  client: {from: legacy.clients.id, to: uuid, strategy: uuid5}
"""
BY_UUID = table("app.people", "id uuid!", "name text", pk="id")


def test_ids_of_keyspaces_of_their_own_are_apart() -> None:
    found = compiled(HEAD + UUIDS + PEOPLE, [CUSTOMERS, CLIENTS], [BY_UUID])
    assert shares(found) == {"customers": InMap("id", "customer"), "clients": InMap("id", "client")}


def test_one_source_may_keep_ids_that_nobody_would_make() -> None:
    customers = table("public.customers", "id uuid!", "name text", pk="id")
    mapping = HEAD + "ids: {client: {from: legacy.clients.id, strategy: uuid4}}\n" + PEOPLE
    assert shares(compiled(mapping, [customers, CLIENTS], [BY_UUID])) == {
        "customers": InNoMap("id", ("client",)), "clients": InMap("id", "client")
    }  # fmt: skip


def drawn(*sequences: str) -> str:
    lines = [
        f"  k{at}: {{from: {source}.id, to: bigint, strategy: sequence, sequence: app.{sequence}}}\n"
        for at, (source, sequence) in enumerate(zip(("public.customers", "legacy.clients"), sequences, strict=False))
    ]
    return HEAD + "ids:\n" + "".join(lines) + PEOPLE


def test_numbers_of_one_sequence_are_apart_and_of_two_they_are_not() -> None:
    assert shares(of_sequences("one", "one")) == {"customers": InMap("id", "k0"), "clients": InMap("id", "k1")}
    assert named(of_sequences("one", "two")) == ["sources_not_disjoint"]
    assert named(of_sequences("one")) == ["sources_not_disjoint"], "the other's number may be the next one"


def of_sequences(*sequences: str) -> Compiled:
    there = dataclasses.replace(catalog(TARGET), sequences=frozenset({name("app.one"), name("app.two")}))
    spec = parse_mapping(drawn(*sequences))
    return compile_plan(spec, catalog(CUSTOMERS, CLIENTS), there, workflow="w", replica_role=True)


WRONG = {
    "both as they are": ("", "id is id as it is for public.customers, id as it is for legacy.clients."),
    "one offset for both": (
        (
            "ids:\n  a: {from: public.customers.id, strategy: offset, by: 7}\n"
            "  b: {from: legacy.clients.id, strategy: offset, by: 7}\n"
        ),
        "id is an id of ids.a (offset by 7) for public.customers, an id of ids.b (offset by 7) for legacy.clients.",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_keys_that_nothing_keeps_apart_are_refused(case: str) -> None:
    ids, told = WRONG[case]
    result = compiled(HEAD + ids + PEOPLE, [CUSTOMERS, CLIENTS], [TARGET])
    assert named(result) == ["sources_not_disjoint"]
    (finding,) = (each for each in result.findings if each.name == "sources_not_disjoint")
    assert finding.sentence == (
        "app.people is made of public.customers and legacy.clients, and nothing keeps the keys of their rows apart: "
        + told
    )
    assert finding.subject.startswith("mapping.yaml:"), "the second source's place"
    assert "ids: {clients: {from: legacy.clients.id, strategy: offset" in finding.remedy


def test_keys_without_a_common_column_are_refused() -> None:
    clients = table("legacy.clients", "id int!", "name text!", pk="name")
    target = table("app.people", "id int8!", "name text!", pk="id", keys=[key("name")])
    result = compiled(HEAD + PEOPLE, [CUSTOMERS, clients], [target])
    assert [each.name for each in errors(result)] == ["sources_not_disjoint"]
    assert any("no column in common" in finding.sentence for finding in result.findings)


def test_any_column_of_the_key_may_keep_them_apart() -> None:
    """Lines of orders: numbered alike, of orders that are numbered apart."""
    sources = [
        table("public.orders", "id int!", pk="id"),
        table("legacy.orders", "id int!", pk="id"),
        table("public.lines", "n int!", "order_id int!", pk="n order_id"),
        table(
            "legacy.lines",
            "n int!",
            "order_id int!",
            pk="n order_id",
            references=[reference("order_id", "legacy.orders")],
        ),
    ]
    mapping = (
        HEAD + "ids: {order: {from: legacy.orders.id, strategy: offset, by: 5000}}\n"
        "tables:\n  app.orders: {from: [public.orders, legacy.orders]}\n"
        "  app.lines: {from: [public.lines, legacy.lines]}\n"
    )
    targets = [table("app.orders", "id int!", pk="id"), table("app.lines", "n int!", "order_id int!", pk="n order_id")]
    plan = plan_of(compiled(mapping, sources, targets))
    assert {each.source: each.share for each in plan.tables if each.target.name == "lines"} == {
        name("public.lines"): InRange("order_id", None, 5000),
        name("legacy.lines"): InRange("order_id", 5000, None),
    }


def test_a_log_of_several_sources_follows_no_truncate() -> None:
    sources = [table("public.a", "line text"), table("public.b", "line text")]
    target = table("app.log", "line text")
    mapping = HEAD + "tables: {app.log: {from: [public.a, public.b], append_only: true}}\n"
    assert named(compiled(mapping, sources, [target])) == ["sources_not_separable"]
    plan = plan_of(compiled(mapping.replace("true}", "true, truncate: stop}"), sources, [target]))
    assert [(each.share, len(each.beside)) for each in plan.tables] == [(None, 1), (None, 1)]
    assert plan.append_only == (name("public.a"), name("public.b"))


def test_another_unique_key_is_warned_of() -> None:
    target = table(
        "app.people", "id int8!", "name text", "origin text", pk="id", keys=[key("name"), key("name origin")]
    )
    mapping = HEAD + OFFSET + PEOPLE
    told = [each for each in compiled(mapping, [CUSTOMERS, CLIENTS], [target]).findings if "share" in each.name]
    assert [each.severity for each in told] == [Severity.WARNING]
    assert "(name) is unique on app.people (name_key), and nothing keeps a row of" in told[0].sentence
    mapping = HEAD + OFFSET + (
        "tables:\n  app.people:\n    from: [{table: public.customers, columns: {origin: {const: new}}},"
        " {table: legacy.clients, columns: {origin: {const: old}}}]\n"
    )  # fmt: skip
    found = compiled(mapping, [CUSTOMERS, CLIENTS], [target])
    assert len([each for each in found.findings if each.name == "sources_share_unique"]) == 1, "constants differ"


def test_children_refer_to_the_rows_of_their_own_parents() -> None:
    """Both the parents and the children are merged: ids of each pair by its own keyspace."""
    sources = [
        CUSTOMERS,
        CLIENTS,
        table("public.notes", "id int!", "who int", pk="id", references=[reference("who", "public.customers")]),
        table("legacy.notes", "id int!", "who int", pk="id", references=[reference("who", "legacy.clients")]),
    ]
    target = [
        BY_UUID,
        table("app.notes", "id uuid!", "who uuid", pk="id", references=[reference("who", "app.people")]),
    ]
    ids = UUIDS + "".join(
        f"  {each}_note: {{from: {each}.notes.id, strategy: uuid7}}\n" for each in ("public", "legacy")
    )
    mapping = HEAD + ids + PEOPLE.replace("}}\n", "}, app.notes: {from: [legacy.notes, public.notes]}}\n")
    for replica_role in (True, False):
        plan = plan_of(compiled(mapping, sources, target, replica_role=replica_role))
        rules = {
            each.source: column.rule for each in plan.tables for column in each.columns if column.target.name == "who"
        }
        assert rules == {name("public.notes"): Remap("customer"), name("legacy.notes"): Remap("client")}
    crossed = mapping.replace("app.notes: {from", "app.notes: {columns: {who: {remap: false}}, from")
    assert "type_not_convertible" in named(compiled(crossed, sources, target))


def test_each_source_has_columns_of_its_own() -> None:
    clients = table("legacy.clients", "no int!", "client text", "fax text", pk="no")
    mapping = HEAD + OFFSET.replace("clients.id", "clients.no") + (
        "tables:\n  app.people:\n    from:\n      - public.customers\n"
        "      - {table: legacy.clients, columns: {id: no, name: client}, drop: [fax]}\n"
    )  # fmt: skip
    plan = plan_of(compiled(mapping, [CUSTOMERS, clients], [TARGET]))
    assert {each.source.name: sorted(each.used) for each in plan.tables} == {
        "customers": ["id", "name"], "clients": ["client", "no"]
    }  # fmt: skip
    assert named(compiled(mapping.replace(", drop: [fax]", ""), [CUSTOMERS, clients], [TARGET])) == [
        "source_column_unused"
    ]


def test_two_schemas_into_one_are_not_merged_by_accident() -> None:
    result = compiled(
        HEAD + "schemas: {public: app, legacy: app}\n",
        [CUSTOMERS, table("legacy.customers", "id int!", "name text", pk="id")],
        [table("app.customers", "id int!", "name text", pk="id")],
    )
    assert named(result) == ["target_table_taken"]
    (finding,) = (each for each in result.findings if each.name == "target_table_taken")
    assert "make one table of both: under tables, app.customers: {from: [public.customers, legacy.customers]}" in (
        finding.remedy
    )


def test_adding_a_source_says_nothing_of_the_rows_of_the_others() -> None:
    alone = plan_of(compiled(HEAD + "tables: {app.people: {from: public.customers}}\n", [CUSTOMERS, CLIENTS], [TARGET]))
    both = plan_of(compiled(HEAD + OFFSET + PEOPLE, [CUSTOMERS, CLIENTS], [TARGET]))
    found = between(alone, both)
    assert [(each.effect, each.subject) for each in found.all if each.effect is not Effect.FREE] == [
        (Effect.RESYNC, "app.people")
    ]
    assert "is made of legacy.clients now" in found.all[0].sentence
    assert between(both, alone).effect is Effect.IMPOSSIBLE


def test_a_source_cannot_join_a_copy_that_has_begun() -> None:
    spec = parse_mapping(HEAD + OFFSET + PEOPLE)
    found = compile_plan(
        spec, catalog(CUSTOMERS, CLIENTS), catalog(TARGET), workflow="w", replica_role=True,
        begun_with=[CUSTOMERS.name],
    )  # fmt: skip
    (finding,) = (each for each in found.findings if each.name == "table_not_in_copy")
    assert "take it out of the list that app.people is made from" in finding.remedy
