"""What each rule is said to do, and that it is never taken for a plain copy."""

from __future__ import annotations

import inspect
import re
from typing import get_args

import pytest

from crossfade.mapping.plan import Rule
from crossfade.preflight.data.asked import source_rows
from crossfade.preflight.data.effect import Effect
from crossfade.preflight.data.effects import effect, overlaps
from crossfade.preflight.data.fits import Ground
from crossfade.preflight.explain import explain, find
from tests.unit.mapping.builders import catalog, key, name, table
from tests.unit.preflight.data.asking import planned

IDS = "ids: {user: {from: public.users.id, strategy: uuid7}, shop: {from: public.shops.id, strategy: offset, by: 7}}\n"
USERS = [table("public.users", "id int", pk="id"), table("public.shops", "id int", pk="id")]
NEW_USERS = [table("public.users", "id uuid", pk="id"), table("public.shops", "id bigint", pk="id")]


def effect_of(rule: str, source: str, target: str) -> Effect:
    plan = planned(
        f"{IDS}tables: {{public.t: {{columns: {{b: {rule}}}}}}}",
        [*USERS, table("public.t", "id int", *([f"a {source}"] if source else []), "kind text", pk="id")],
        [*NEW_USERS, table("public.t", "id int", f"b {target}", "kind text", pk="id")],
    )
    (made,) = (each for each in plan.tables if each.target == name("public.t"))
    (column,) = (each for each in made.columns if each.target.name == "b")
    return effect(column, plan.keyspaces, Ground(150018))


@pytest.mark.parametrize(
    ("rule", "source", "target", "words"),
    [
        ("a", "int", "int", "a, as it is"),
        ("a", "int", "bigint", "a, as it is; bigint reads what integer prints"),
        ("{const: x}", "", "text", "the same constant in every row"),
        ("{const: null}", "", "text", "always NULL"),
        ("{from: a, remap: user}", "int", "uuid", "in ids.user (public.users.id): a random uuid"),
        ("{from: a, remap: shop}", "int", "bigint", "the old id plus 7"),
        ("{from: a, remap: user}", "int[]", "uuid[]", "each of its elements as the new id of ids.user"),
        ("{from: a, remap: {ids: user, path: $.id}}", "jsonb", "jsonb", "with new ids at $.id (ids.user)"),
        (
            "{from: a, remap: {by: kind, of: {U: user}, otherwise: keep}}",
            "text",
            "text",
            "that kind names (U: ids.user)",
        ),
        (
            "{from: a, timezone: Europe/Berlin, ambiguous: earlier}",
            "timestamp",
            "timestamptz",
            "is the earlier of the two",
        ),
        ("{from: a, values: {1: x}, otherwise: null}", "int", "text", "1 becomes x; anything else becomes NULL"),
        ("{up: lower(a)}", "text", "text", "computed on the target from a, by SQL of the mapping"),
        ("a", "int", "boolean", "0 as false and 1 as true"),
        ("a", "boolean", "int", "false as 0 and true as 1"),
        ("a", "boolean", "text", "as the word true or false"),
        ("a", "timestamp", "date", "its date"),
        ("{from: a, cast: lossy}", "numeric", "int", "halves away from zero; what does not fit is lost (cast: lossy)"),
        ("{from: a, cast: lossy}", "float8", "int", "halves to the even one"),
        ("{from: a, cast: lossy}", "text", "varchar(3)", "its first 3 characters"),
        ("{from: a, cast: lossy}", "char(9)", "text", "without the spaces it is padded with"),
        ("{from: a, cast: lossy}", "numeric", "numeric(4,1)", "rounded by numeric(4,1)"),
    ],
)
def test_what_is_said_of_a_rule(rule: str, source: str, target: str, words: str) -> None:
    found = effect_of(rule, source, target)
    assert words in found.words
    assert found.value is not None


@pytest.mark.parametrize(
    ("rule", "source", "target", "may_be_null"),
    [
        ("a", "int", "int", True),
        ("a", "int!", "int", False),
        ("{from: a, values: {1: x}}", "int!", "text", False),
        ("{from: a, values: {1: null}}", "int!", "text", True),
        ("{from: a, values: {1: x}, otherwise: null}", "int!", "text", True),
        ("{from: a, values: {1: x}, otherwise: {const: y}}", "int!", "text", False),
        ("{from: a, remap: {by: kind, of: {U: user}, otherwise: null}}", "text!", "text", True),
        ("{from: a, remap: {by: kind, of: {U: user}}}", "text!", "text", False),
    ],
)
def test_what_may_become_NULL(rule: str, source: str, target: str, may_be_null: bool) -> None:
    assert effect_of(rule, source, target).may_be_null is may_be_null


def test_every_kind_of_rule_has_an_effect_of_its_own() -> None:
    kinds = {kind.__name__ for kind in get_args(Rule)}
    named = set(re.findall(r"\w+", inspect.getsource(effect)))
    assert kinds <= named, "say in preflight/data/effects.py what it does to a value: --explain and --data live by it"


def test_an_expression_is_asked_over_the_columns_it_reads_and_nothing_else() -> None:
    found = effect_of("{up: lower(a)}", "text", "varchar(3)")
    assert found.value is not None
    assert found.value.as_string() == '(SELECT (lower(a)) FROM (SELECT s."a" AS "a") AS i)'
    assert found.shown.as_string() == "(lower(a))"
    assert [each.words for each in found.misfits] == ["longer than the 3 characters of character varying(3)"]


def test_by_how_much_clocks_are_set_back() -> None:
    assert 3600 in overlaps("America/New_York")
    assert 1800 in overlaps("Australia/Lord_Howe")
    assert overlaps("Nowhere/At_All") == ()


def test_a_target_table_is_found_by_its_name_alone_where_that_is_enough() -> None:
    source = [
        table("public.t", "id int", pk="id"),
        table("other.t", "id int", pk="id"),
        table("other.u", "id int", pk="id"),
    ]
    plan = planned("", source[:1], source[:1])
    assert find(plan, "public.t") == find(plan, "t") == name("public.t")
    assert find(plan, "u") is None
    both = planned("tables: {other.t: {from: other.t}, other.u: {from: other.u}}", source, source)
    assert (find(both, "t"), find(both, "other.t"), find(both, "u")) == (None, name("other.t"), name("other.u"))


def test_a_filter_is_told_and_asked() -> None:
    tables = [table("public.t", "id int", "n int", pk="id")]
    plan = planned('tables: {public.t: {where: "n > 0"}}', tables, tables)
    (said,) = explain(plan, catalog(*tables), catalog(*tables), name("public.t"))
    assert said.rows.startswith("Every row of public.t for which n > 0 becomes one row: one that starts to match")
    assert said.select.endswith('FROM "public"."t" AS s\nWHERE n > 0;')
    assert source_rows(plan.tables[0]).as_string() == (
        '(SELECT t.ctid, t.* FROM "public"."t" AS t WHERE (SELECT (n > 0) FROM (SELECT t."n" AS "n") AS i)) AS s'
    )


def test_keys_and_policies_are_told_in_words() -> None:
    source = [table("public.t", "id int", "a text!", pk="id")]
    target = [table("public.t", "id int", "a text!", keys=[key("a")])]
    plan = planned("tables: {public.t: {missing_row: stop, truncate: stop}}", source, target)
    (said,) = explain(plan, catalog(*source), catalog(*target), name("public.t"))
    assert "stops the stream; TRUNCATE stops the stream." in said.rows
    assert "no unique index of the target covers them (slow)" in said.keys
    assert said.select == 'SELECT\n    s."id" AS "id",\n    s."a" AS "a"\nFROM "public"."t" AS s;'
