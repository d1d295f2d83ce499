"""Spec and catalogs: the plan, and every reason why there is none."""

from __future__ import annotations

import dataclasses

import pytest

from crossfade.catalog import Action, Leaf, ReplicaIdentity, Table, TableKind, TableName, Trigger
from crossfade.findings import Kind, Severity
from crossfade.mapping.plan import Const, LocalTime, OnMissing, Remap, Strategy, TablePlan, Verbatim
from tests.unit.mapping.builders import compiled, errors, key, name, named, reference, table

SIMPLE = "version: 1\nschemas: {public: app}\n"
FULL, NOTHING, INDEX = ReplicaIdentity.FULL, ReplicaIdentity.NOTHING, ReplicaIdentity.INDEX


def one_plan(mapping: str, source: Table, target: Table, *, replica_role: bool = True) -> TablePlan:
    result = compiled(mapping, [source], [target], replica_role=replica_role)
    assert result.plan is not None, result.findings
    (plan,) = result.plan.tables
    return plan


def shop() -> tuple[list[Table], list[Table]]:
    source = [
        table("public.users", "id bigint", "name varchar(50)!", "created_at timestamp", "password_md5 text", pk="id"),
        table(
            "public.orders",
            "id bigint",
            "user_id bigint!",
            "referred_by bigint",
            "total numeric(10,2)",
            pk="id",
            references=[reference("user_id", "public.users"), reference("referred_by", "public.orders")],
        ),
    ]
    target = [
        table("app.accounts", "id uuid", "full_name text!", "created_at timestamptz", "verified boolean!", pk="id"),
        table(
            "app.orders",
            "id uuid",
            "account_id uuid!",
            "referred_by uuid",
            "total numeric(12,2)",
            "note text",
            pk="id",
            references=[reference("account_id", "app.accounts")],
        ),
    ]
    return source, target


SHOP = """
    version: 1
    schemas: {public: app}
    ids:
      user: {from: public.users.id, to: uuid, strategy: uuid7}
      order: {from: public.orders.id, to: uuid, strategy: uuid5}
    tables:
      app.accounts:
        from: public.users
        columns:
          full_name: name
          created_at: {timezone: America/New_York}
          verified: {const: false}
        drop: [password_md5]
      app.orders:
        missing_row: stop
        columns: {account_id: user_id}
"""


def test_a_whole_plan() -> None:
    result = compiled(SHOP, *shop())
    assert result.findings == ()
    plan = result.plan
    assert plan is not None
    assert plan.workflow == "shop"
    assert plan.published == (name("public.orders"), name("public.users"))
    accounts, orders = plan.tables
    assert [(one.target.name, one.source.name if one.source else None) for one in accounts.columns] == [
        ("id", "id"),
        ("full_name", "name"),
        ("created_at", "created_at"),
        ("verified", None),
    ]
    rules = {one.target.name: one.rule for one in accounts.columns}
    assert rules["id"] == Remap("user")
    assert rules["full_name"] == Verbatim()
    assert isinstance(rules["created_at"], LocalTime)
    assert rules["verified"] == Const("false")
    assert (accounts.identity, accounts.key, accounts.key_is_unique) == (("id",), ("id",), True)
    assert accounts.used == {"id", "name", "created_at"}
    assert [one.name for one in accounts.source_columns] == ["id", "name", "created_at", "password_md5"]
    assert (accounts.owns, orders.owns) == ("user", "order")
    assert orders.policies.missing_row is OnMissing.STOP
    assert accounts.policies.missing_row is OnMissing.INSERT
    rules = {one.target.name: one.rule for one in orders.columns}
    assert rules["account_id"] == Remap("user"), "follows its foreign key without being told"
    assert rules["referred_by"] == Remap("order"), "a self reference too"
    assert orders.writable == ("id", "account_id", "referred_by", "total", "note")
    keyspace = plan.keyspaces["user"]
    assert (keyspace.old_type, keyspace.new_type, keyspace.strategy) == ("bigint", "uuid", Strategy.UUID7)
    assert [(one.table, one.referenced) for one in plan.target_foreign_keys] == [
        (name("app.orders"), name("app.accounts"))
    ]


def test_a_plan_is_there_exactly_when_there_is_no_error() -> None:
    source, target = shop()
    result = compiled(SHOP.replace("drop: [password_md5]", ""), source, target)
    assert result.plan is None
    (error,) = errors(result)
    assert error.name == "source_column_unused"
    assert error.kind is Kind.CONFIGURATION
    assert error.subject.startswith("mapping.yaml:8:")
    assert "drop: [password_md5]" in error.remedy


# -- tables ------------------------------------------------------------------------------------------------------

T = "id bigint"


def test_views_partitions_and_exclusions_are_not_mapped_by_schema() -> None:
    source = [
        table("public.a", T, pk="id"),
        table("public.tmp_1", T, pk="id"),
        table("public.v", T, kind=TableKind.VIEW),
        table("public.p", T, pk="id", kind=TableKind.PARTITIONED),
        table("public.p1", T, pk="id", is_partition=True),
    ]
    target = [table("app.a", T, pk="id"), table("app.p", T, pk="id")]
    result = compiled(SIMPLE + "exclude: [public.tmp_*]\n", source, target)
    assert result.findings == ()
    assert result.plan is not None
    assert [(one.source.name, one.is_partitioned) for one in result.plan.tables] == [("a", False), ("p", True)]


def test_a_copy_that_has_begun_keeps_its_tables() -> None:
    a, b, c = (table(f"public.{one}", T, pk="id") for one in "abc")
    result = compiled(SIMPLE, [a, b, c], [table("app.a", T, pk="id")], begun_with=["public.a"])
    assert result.plan is None
    assert named(result) == ["table_not_in_copy", "table_not_in_copy"], "and not that b and c have no targets"
    assert "public.b is not in the running copy" in result.findings[0].sentence
    assert "exclude: [public.b]" in result.findings[0].remedy
    assert "crossfade teardown" in result.findings[0].remedy
    both = SIMPLE + "exclude: [public.b, public.c]\n"
    assert compiled(both, [a, b, c], [table("app.a", T, pk="id")], begun_with=["public.a"]).findings == ()
    (left_out,) = compiled(both, [a, b, c], [table("app.a", T, pk="id")], begun_with=["public.a", "public.c"]).findings
    assert (left_out.name, left_out.subject) == ("table_left_out", "mapping.yaml:3:21")


def test_a_table_named_for_a_copy_that_began_without_it_is_refused_by_its_entry() -> None:
    a, b = (table(f"public.{one}", T, pk="id") for one in "ab")
    result = compiled(
        SIMPLE + "tables: {app.z: {from: public.b}}\n", [a, b], [table("app.a", T, pk="id")], begun_with=["public.a"]
    )
    assert [(one.name, one.subject) for one in result.findings] == [("table_not_in_copy", "mapping.yaml:3:10")]
    assert "take app.z out of 'tables'" in result.findings[0].remedy


def test_a_misspelt_schema_does_not_make_every_table_of_a_copy_left_out() -> None:
    a = table("public.a", T, pk="id")
    result = compiled("version: 1\nschemas: {pubic: app}\n", [a], [table("app.a", T, pk="id")], begun_with=["public.a"])
    assert named(result) == ["source_schema_missing"]


def test_from_takes_a_table_out_of_its_schema_even_when_excluded() -> None:
    mapping = SIMPLE + "exclude: [public.b*]\ntables: {app.c: {from: public.b}}\n"
    result = compiled(mapping, [table("public.b", T, pk="id")], [table("app.c", T, pk="id")])
    assert result.plan is not None
    assert result.plan.by_source().keys() == {name("public.b")}


@pytest.mark.parametrize(
    ("mapping", "source", "target", "finding", "words"),
    [
        (SIMPLE, [table("public.users", T, pk="id")], [table("app.user", T, pk="id")], "target_table_missing",
         "The target has no table app.users, which public.users is to become. Did you mean 'app.user'?"),
        ("version: 1\nschemas: {pubic: app}\n", [table("public.a", T, pk="id")], [], "source_schema_missing",
         "Did you mean 'public'?"),
        ("version: 1\ntables: {app.a: {from: public.usrs}}\n", [table("public.users", T, pk="id")],
         [table("app.a", T, pk="id")], "source_table_missing", "Did you mean 'public.users'?"),
        ("version: 1\ntables: {app.a: {}}\n", [], [table("app.a", T, pk="id")], "source_table_unknown",
         "no schema is mapped to 'app'"),
        ("version: 1\nschemas: {x: app, y: app}\ntables: {app.a: {}}\n",
         [table("x.a", T, pk="id"), table("y.a", T, pk="id")], [table("app.a", T, pk="id")], "source_table_ambiguous",
         "x.a or y.a"),
        ("version: 1\nschemas: {x: app, y: app}\n", [table("x.a", T, pk="id"), table("y.a", T, pk="id")],
         [table("app.a", T, pk="id")], "target_table_taken", "y.a would become app.a, which x.a already feeds"),
        ("version: 1\ntables: {app.a: {from: public.p1}}\n", [table("public.p1", T, pk="id", is_partition=True)],
         [table("app.a", T, pk="id")], "source_is_partition", "is a partition"),
        ("version: 1\ntables: {app.a: {from: public.v}}\n", [table("public.v", T, kind=TableKind.VIEW)],
         [table("app.a", T, pk="id")], "source_is_view", "is a view"),
        (SIMPLE, [table("public.a", T, pk="id", persistence="u")], [table("app.a", T, pk="id")], "source_not_logged",
         "is unlogged"),
        (SIMPLE, [table("public.a", T, kind=TableKind.FOREIGN)], [table("app.a", T, pk="id")], "source_is_foreign",
         "foreign table"),
        (SIMPLE, [table("public.a", T, pk="id", has_children=True)], [table("app.a", T, pk="id")],
         "source_has_children", "does not support that yet"),
        (SIMPLE, [table("public.a", T, pk="id", leaves=[Leaf(TableName("public", "a1"), 1, FULL, "u")])],
         [table("app.a", T, pk="id")], "source_not_logged", "public.a1, a partition of public.a, is unlogged"),
        (SIMPLE, [table("public.a", T, pk="id")], [table("app.a", T, kind=TableKind.VIEW)], "target_is_no_table",
         "is no table"),
        (SIMPLE, [table("public.a", T, pk="id")], [table("app.a", T, pk="id", is_partition=True)],
         "target_is_partition", "is a partition"),
        (SIMPLE, [table("public.a", T, pk="id")], [table("app.a", T, pk="id", persistence="u")], "target_not_logged",
         "a crash would empty it"),
        (SIMPLE + "exclude: [public.*]\n", [table("public.a", T, pk="id")], [], "nothing_mapped", "matches no table"),
        (SIMPLE, [table("public.a")], [table("app.a", "x int =")], "no_columns", "publishes no column"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_paired(
    mapping: str, source: list[Table], target: list[Table], finding: str, words: str
) -> None:
    result = compiled(mapping, source, target)
    assert result.plan is None
    error = next(error for error in errors(result) if error.name == finding)
    assert words in error.sentence
    assert error.subject.startswith("mapping.yaml:")
    assert error.remedy


def test_a_pattern_that_matches_nothing_is_a_warning() -> None:
    result = compiled(SIMPLE + "exclude: [public.x]\n", [table("public.a", T, pk="id")], [table("app.a", T, pk="id")])
    assert named(result) == ["exclusion_matches_nothing"]
    assert result.findings[0].subject == "mapping.yaml:3:11"
    assert result.plan is not None


# -- columns -----------------------------------------------------------------------------------------------------


def entry(body: str) -> str:
    return f"version: 1\ntables:\n  app.t:\n    from: public.t\n    {body}\n"


@pytest.mark.parametrize(
    ("body", "source", "target", "finding", "place", "words"),
    [
        ("", ["a int"], [], "source_column_unused", "3:3", "public.t.a is neither used nor dropped"),
        ("", ["naem int"], ["name int"], "source_column_unused", "3:3", "Did you mean 'name'?"),
        ("", [], ["a int!"], "target_column_unfed", "3:3", "app.t.a is NOT NULL without a default"),
        ("columns: {b: a}", ["a int"], [], "target_column_missing", "5:15", "app.t on the target has no column 'b'"),
        ("columns: {name: nam}", ["nama int"], ["name int"], "source_column_missing", "5:15", "Did you mean 'nama'?"),
        ("columns: {a: {const: 1}}", ["a int"], ["a int"], "source_column_unused", "3:3", "public.t.a is neither"),
        ("drop: [b]", [], [], "dropped_column_missing", "5:12", "no column 'b' to drop"),
        ("{columns: {b: a}, drop: [a]}", ["a int"], ["b int"], "column_used_and_dropped", "4:", "is dropped here"),
        ("", ["a int"], ["a int generated"], "target_column_generated", "3:3", "cannot be fed from a"),
        ("columns: {a: {const: 1}}", [], ["a int generated"], "target_column_generated", "5:15", "cannot be given"),
        ("", ["a int generated"], ["a int"], "source_column_generated", "3:3", "does not send it"),
        ("columns: {b: a}", ["a int virtual"], ["b int"], "source_column_generated", "5:15", "does not send it"),
        ("", ["a timestamp"], ["a timestamptz"], "type_not_convertible", "3:3", "whose local time it is"),
        ("columns: {b: a}", ["a oid"], ["b oid"], "type_not_convertible", "5:15", "an object of the source server"),
        ("columns: {a: {timezone: UTC}}", ["a int"], ["a int"], "type_not_convertible", "5:15", "a timezone is for"),
        ("columns: {a: {const: x}}", [], ["a int"], "const_type", "5:15", "is no integer"),
        ("columns: {a: {const: 2147483648}}", [], ["a int"], "const_type", "5:15", "is no integer"),
        ("columns: {a: {const: maybe}}", [], ["a boolean"], "const_type", "5:15", "is no boolean"),
        ("columns: {a: {const: x}}", [], ["a uuid"], "const_type", "5:15", "is no uuid"),
        ("columns: {a: {const: null}}", [], ["a int!"], "const_not_null", "5:15", "cannot be the constant null"),
    ],
)  # fmt: skip
def test_columns_that_do_not_fit(
    body: str, source: list[str], target: list[str], finding: str, place: str, words: str
) -> None:
    mapping = entry(body)
    if body.startswith("{"):
        mapping = f"version: 1\ntables:\n  app.t:\n    {{from: public.t, {body[1:]}\n"
    result = compiled(mapping, [table("public.t", T, *source, pk="id")], [table("app.t", T, *target, pk="id")])
    assert result.plan is None
    error = next(error for error in errors(result) if error.name == finding)
    assert error.subject.startswith(f"mapping.yaml:{place}")
    assert words in error.sentence
    assert error.remedy


def test_what_needs_no_feeding() -> None:
    plan = one_plan(
        SIMPLE,
        table("public.t", T, "both bigint generated", pk="id"),
        table("app.t", T, "a int", "b int! =", "c int default", "d int always", "both bigint generated", pk="id"),
    )
    assert [one.target.name for one in plan.columns] == ["id"]
    assert plan.writable == ("id", "a", "b", "c", "d")
    assert [one.name for one in plan.source_columns] == ["id"]


def test_a_generated_source_column_may_be_left_behind_on_purpose() -> None:
    plan = one_plan(
        entry("drop: [total]"),
        table("public.t", T, "total int generated", pk="id"),
        table("app.t", T, "total int", pk="id"),
    )
    assert [one.target.name for one in plan.columns] == ["id"]


def test_a_namesake_that_is_generated_is_no_matter_for_a_column_used_elsewhere() -> None:
    source = table("public.t", T, "total int", pk="id")
    target = table("app.t", T, "total int generated", "amount int", pk="id")
    plan = one_plan(entry("columns: {amount: total}"), source, target)
    assert [one.target.name for one in plan.columns] == ["id", "amount"]
    assert "target_column_generated" in named(compiled("version: 1\nschemas: {public: app}", [source], [target]))


def test_a_dropped_column_does_not_map_itself() -> None:
    plan = one_plan(entry("drop: [a]"), table("public.t", T, "a int", pk="id"), table("app.t", T, "a int", pk="id"))
    assert [one.target.name for one in plan.columns] == ["id"]


def test_f31_not_null_on_the_target_only_is_a_warning() -> None:
    result = compiled(
        SIMPLE, [table("public.t", T, "a varchar(50)", pk="id")], [table("app.t", T, "a varchar(20)!", pk="id")]
    )
    assert named(result) == ["type_narrowed", "column_not_null"]
    assert result.plan is not None
    assert {finding.severity for finding in result.findings} == {Severity.WARNING}


# -- ids ---------------------------------------------------------------------------------------------------------

IDS = "version: 1\nschemas: {public: app}\nids: {k: {from: public.p.id, strategy: uuid7}}\n"


@pytest.mark.parametrize(
    ("source", "finding", "words"),
    [
        ([], "keyspace_table_missing", "the source has no table public.p"),
        ([table("public.p", "idd int", pk="idd")], "keyspace_column_missing", "Did you mean 'idd'?"),
        ([table("public.p", "id int", "b int", pk="id b")], "keyspace_not_unique", "not unique by itself"),
        ([table("public.p", "id int", keys=[key("id", partial=True)])], "keyspace_not_unique", "not unique"),
        ([table("public.p", "id int", keys=[key("id", primary=True, deferrable=True)])], "keyspace_deferrable",
         "deferrable"),
        ([table("public.p", "id numeric", pk="id")], "keyspace_type", "ids can be smallint"),
        ([table("public.p", "id int", pk="id"),
          table("public.c", "id int", "p_id numeric", pk="id", references=[reference("p_id", "public.p")])],
         "keyspace_reference_type", "public.c.p_id refers to it but is numeric"),
    ],
)  # fmt: skip
def test_keyspaces_that_cannot_be(source: list[Table], finding: str, words: str) -> None:
    result = compiled(IDS, source, [])
    error = next(error for error in errors(result) if error.name == finding)
    assert words in error.sentence
    assert error.subject == "mapping.yaml:3:7"


def test_a_keyspace_beside_a_deferrable_key_may_have_a_plain_one() -> None:
    source = table("public.p", "id int!", keys=[key("id", deferrable=True), key("id", key_name="x")], identity=FULL)
    assert "keyspace_deferrable" not in named(compiled(IDS, [source], [table("app.p", "id uuid", pk="id")]))


def test_foreign_keys_are_followed_through_chains_and_composites() -> None:
    source = [
        table("public.p", "id int", pk="id"),
        table("public.c", "p_id int", "line int", pk="p_id line", references=[reference("p_id", "public.p")]),
        table(
            "public.g",
            "id int",
            "parent int",
            "line int",
            pk="id",
            references=[reference("parent line", "public.c", "p_id line")],
        ),
    ]
    target = [
        table("app.p", "id uuid", pk="id"),
        table("app.c", "p_id uuid", "line int", pk="p_id line"),
        table("app.g", "id int", "parent uuid", "line int", pk="id"),
    ]
    result = compiled(IDS, source, target)
    assert result.plan is not None, result.findings
    rules = {(one.target.name, column.target.name): column.rule for one in result.plan.tables for column in one.columns}
    assert rules[("c", "p_id")] == rules[("g", "parent")] == rules[("p", "id")] == Remap("k")
    assert rules[("c", "line")] == rules[("g", "line")] == Verbatim()
    assert result.plan.tables[0].key == ("p_id", "line")


def test_the_old_type_is_wide_enough_for_every_reference() -> None:
    source = [
        table("public.p", "id int", pk="id"),
        table("public.c", "id int", "p int8", pk="id", references=[reference("p", "public.p")]),
    ]
    target = [table("app.p", "id uuid", pk="id"), table("app.c", "id int", "p uuid", pk="id")]
    result = compiled(IDS, source, target)
    assert result.plan is not None
    assert result.plan.keyspaces["k"].old_type == "bigint"


def test_an_offset_keeps_integers() -> None:
    mapping = IDS.replace("strategy: uuid7", "strategy: offset, by: 1000")
    result = compiled(mapping, [table("public.p", "id int", pk="id")], [table("app.p", "id int8", pk="id")])
    assert result.plan is not None
    assert (result.plan.keyspaces["k"].new_type, result.plan.keyspaces["k"].by) == ("bigint", 1000)


@pytest.mark.parametrize(
    ("strategy", "old", "new", "finding"),
    [
        ("uuid7", "int", "int", "type_of_remapped"),
        ("uuid4", "int", "varchar(30)", "type_of_remapped"),
        ("offset, by: 1", "int", "uuid", "type_of_remapped"),
        ("offset, by: 1", "text", "text", "keyspace_offset_type"),
    ],
)
def test_target_types_must_fit_the_strategy(strategy: str, old: str, new: str, finding: str) -> None:
    mapping = IDS.replace("uuid7", strategy)
    result = compiled(mapping, [table("public.p", f"id {old}", pk="id")], [table("app.p", f"id {new}", pk="id")])
    assert [error.name for error in errors(result)] == [finding]


def test_an_old_id_can_be_kept_beside_the_new_one() -> None:
    source = [
        table("public.p", "id int", pk="id"),
        table("public.c", "id int", "p int", pk="id", references=[reference("p", "public.p")]),
    ]
    target = [
        table("app.p", "id uuid", "legacy_id int", pk="id"),
        table("app.c", "id int", "p uuid", "legacy_p int", pk="id"),
    ]
    tables = "tables:\n  app.p: {columns: {legacy_id: %s}}\n  app.c: {columns: {legacy_p: {from: p, remap: false}}}\n"
    result = compiled(IDS + tables % "id", source, target)
    assert [error.name for error in errors(result)] == ["type_of_remapped"]
    assert "legacy_id: {from: id, remap: false}" in result.findings[0].remedy
    result = compiled(IDS + tables % "{from: id, remap: false}", source, target)
    assert result.findings == ()
    assert result.plan is not None
    assert [plan.key for plan in result.plan.tables] == [("id",), ("id",)]
    rules = {column.target.name: column.rule for plan in result.plan.tables for column in plan.columns}
    assert (rules["legacy_id"], rules["legacy_p"], rules["p"]) == (Verbatim(), Verbatim(), Remap("k"))


def test_a_column_of_two_keyspaces_needs_a_word() -> None:
    source = [
        table("public.p", "id int", pk="id"),
        table("public.q", "id int", pk="id"),
        table(
            "public.c", "id int", "x int", pk="id", references=[reference("x", "public.p"), reference("x", "public.q")]
        ),
    ]
    target = [
        table("app.p", "id uuid", pk="id"),
        table("app.q", "id uuid", pk="id"),
        table("app.c", "id int", "x uuid", pk="id"),
    ]
    ids = "version: 1\nschemas: {public: app}\nids:\n"
    ids += "  p: {from: public.p.id, strategy: uuid7}\n  q: {from: public.q.id, strategy: uuid7}\n"
    assert [error.name for error in errors(compiled(ids, source, target))] == ["keyspace_ambiguous"]
    result = compiled(ids + "tables: {app.c: {columns: {x: {remap: q}}}}\n", source, target)
    assert result.plan is not None


def test_a_reference_must_be_remapped_like_what_it_refers_to() -> None:
    source = [table("public.p", "id uuid", pk="id"), table("public.c", "id int", "p uuid", pk="id")]
    target = [
        table("app.p", "id uuid", pk="id"),
        table("app.c", "id int", "p uuid", pk="id", references=[reference("p", "app.p")]),
    ]
    result = compiled(IDS, source, target)
    assert [error.name for error in errors(result)] == ["reference_remapped_differently"]
    assert "app.c.p refers to app.p.id, but it is not remapped" in result.findings[0].sentence
    told = IDS + "tables: {app.c: {columns: {p: {remap: k}}}}\n"
    assert compiled(told, source, target).findings == ()


def test_an_unfit_id_says_how_to_remap() -> None:
    source = [table("public.p", "id int", pk="id"), table("public.c", "id int", "p int", pk="id")]
    target = [table("app.p", "id uuid", pk="id"), table("app.c", "id int", "p uuid", pk="id")]
    (error,) = errors(compiled(IDS, source, target))
    assert error.name == "type_not_convertible"
    assert "remap:" in error.remedy


def test_keyspaces_nobody_uses_are_a_warning() -> None:
    source = [table("public.p", "id int", pk="id"), table("public.t", "id int", pk="id")]
    result = compiled(IDS + "exclude: [public.p]\n", source, [table("app.t", "id int", pk="id")])
    assert named(result) == ["keyspace_unused"]


def test_two_keyspaces_of_one_table_are_not_yet() -> None:
    ids = "version: 1\nschemas: {public: app}\nids:\n"
    ids += "  p: {from: public.p.id, strategy: uuid7}\n  q: {from: public.p.code, strategy: uuid7}\n"
    source = table("public.p", "id int", "code text!", pk="id", keys=[key("code")])
    result = compiled(ids, [source], [table("app.p", "id uuid", "code uuid!", pk="id", keys=[key("code")])])
    assert [error.name for error in errors(result)] == ["keyspaces_of_one_table"]


# -- identity ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "finding", "remedy"),
    [
        (table("public.t", T, "a int"), "identity_missing", "ALTER TABLE public.t REPLICA IDENTITY FULL;"),
        (table("public.t", T, "a int", pk="id", identity=NOTHING), "identity_missing",
         "ALTER TABLE public.t REPLICA IDENTITY DEFAULT;"),
        (table("public.t", T, "a int", keys=[key("a", usable=True, key_name="Odd")]), "identity_missing",
         'ALTER TABLE public.t REPLICA IDENTITY USING INDEX "Odd";'),
        (table("public.t", T, "a int", keys=[key("id", primary=True, deferrable=True)]), "identity_deferrable",
         "REPLICA IDENTITY FULL"),
        (table("public.t", T, "a int", pk="id", identity=INDEX), "identity_missing", "REPLICA IDENTITY DEFAULT"),
        (table("public.t", T, "a int", "g int generated", pk="id", identity=FULL), "identity_generated",
         "REPLICA IDENTITY DEFAULT"),
        (table("public.t", T, "a int generated", keys=[key("a", primary=True)]), "identity_generated", ""),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_followed_is_never_published(source: Table, finding: str, remedy: str) -> None:
    """D7, D8, D12, D13: the application's own UPDATEs would fail."""
    target = table("app.t", T, "a int", "g int", keys=[key("id", primary=True, deferrable=False)])
    result = compiled(SIMPLE, [source], [target])
    assert result.plan is None
    error = next(error for error in errors(result) if error.name == finding)
    assert error.subject == "source public.t"
    assert remedy in error.remedy


def test_append_only_needs_no_identity() -> None:
    for source in (table("public.t", T), table("public.t", T, identity=NOTHING), table("public.t", T, pk="id")):
        plan = one_plan(entry("append_only: true"), source, table("app.t", T))
        assert (plan.append_only, plan.identity, plan.key) == (True, (), ())


def test_full_with_a_primary_key_is_identified_by_the_key() -> None:
    """D9."""
    plan = one_plan(SIMPLE, table("public.t", "a int", T, pk="id", identity=FULL), table("app.t", "a int", T, pk="id"))
    assert (plan.identity, plan.identity_is_full, plan.key, plan.key_is_unique) == (("id",), True, ("id",), True)


def test_full_without_a_key_is_identified_by_every_used_column() -> None:
    result = compiled(
        entry("drop: [b]\n    columns: {z: a}"),
        [table("public.t", "a int", "b int", "c json", identity=FULL)],
        [table("app.t", "c json", "z int")],
    )
    assert named(result) == ["key_not_unique"]
    assert result.plan is not None
    (plan,) = result.plan.tables
    assert (plan.identity, plan.key, plan.identity_is_full) == (("a", "c"), ("z", "c"), True)
    assert not plan.key_is_unique


def test_full_with_a_deferrable_key_is_identified_by_every_column() -> None:
    plan = one_plan(
        SIMPLE,
        table("public.t", T, "a int", keys=[key("id", primary=True, deferrable=True)], identity=FULL),
        table("app.t", T, "a int", keys=[key("id", primary=True, deferrable=True)]),
    )
    assert plan.identity == ("id", "a")
    assert plan.applied_as_origin


def test_an_index_identity_is_followed() -> None:
    source = table(
        "public.t", T, "code text!", pk="id", identity=INDEX, keys=[key("code", usable=True, replica_identity=True)]
    )
    result = compiled(SIMPLE, [source], [table("app.t", T, "code text!", pk="id", keys=[key("code")])])
    assert named(result) == ["identity_wide"]
    assert result.plan is not None
    (plan,) = result.plan.tables
    assert (plan.identity, plan.key, plan.key_is_unique, plan.identity_is_full) == (("code",), ("code",), True, False)


def test_the_identity_must_reach_the_target() -> None:
    result = compiled(
        entry("drop: [id]"),
        [table("public.t", T, "a int", pk="id")],
        [table("app.t", "id bigint always", "a int", pk="id")],
    )
    (error,) = errors(result)
    assert (error.name, error.subject) == ("identity_unmapped", "mapping.yaml:3:3")


@pytest.mark.parametrize(
    ("column", "is_wide"),
    [
        ("text", True),
        ("varchar(36)", False),
        ("varchar(2000)", True),
        ("bytea", True),
        ("uuid", False),
        ("int[]", True),
    ],
)
def test_d4_a_wide_identity_is_a_warning(column: str, is_wide: bool) -> None:
    result = compiled(SIMPLE, [table("public.t", f"id {column}", pk="id")], [table("app.t", f"id {column}", pk="id")])
    assert ("identity_wide" in named(result)) is is_wide
    assert result.plan is not None


@pytest.mark.parametrize(
    ("root", "leaf", "is_fine"),
    [
        (ReplicaIdentity.DEFAULT, ReplicaIdentity.DEFAULT, True),
        (ReplicaIdentity.DEFAULT, FULL, True),
        (ReplicaIdentity.DEFAULT, NOTHING, False),
        (ReplicaIdentity.DEFAULT, INDEX, False),
        (FULL, ReplicaIdentity.DEFAULT, False),
        (FULL, FULL, True),
    ],
)
def test_e14_partitions_log_by_their_own_identity(root: ReplicaIdentity, leaf: ReplicaIdentity, is_fine: bool) -> None:
    source = table("public.t", T, pk="id", identity=root, leaves=[Leaf(TableName("public", "t1"), 7, leaf, "p")])
    result = compiled(SIMPLE, [source], [table("app.t", T, pk="id")])
    assert (result.plan is not None) is is_fine
    if not is_fine:
        assert result.findings[0].name == "identity_of_partition"
        assert f"ALTER TABLE public.t1 REPLICA IDENTITY {root.name};" in result.findings[0].remedy


@pytest.mark.parametrize(
    ("keys", "is_unique"),
    [
        ([key("id", primary=True)], True),
        ([key("id")], True),
        ([key("id", partial=True)], False),
        ([key("id", expressions=True)], False),
        ([key("id", valid=False)], False),
        ([key("id a")], False),
        ([key("id", unique=False, exclusion=True)], False),
    ],
)
def test_key_is_unique_only_by_a_total_index_on_exactly_it(keys: list, is_unique: bool) -> None:  # type: ignore[type-arg]
    plan = one_plan(SIMPLE, table("public.t", T, "a int", pk="id"), table("app.t", "id bigint!", "a int", keys=keys))
    assert plan.key_is_unique is is_unique


def test_a_nullable_unique_key_of_the_target_is_not_unique() -> None:
    source = table("public.t", T, pk="id")
    assert not one_plan(SIMPLE, source, table("app.t", T, keys=[key("id")])).key_is_unique
    assert one_plan(SIMPLE, source, table("app.t", T, keys=[key("id", nulls_not_distinct=True)])).key_is_unique


def test_h10_identity_always() -> None:
    source = table("public.t", T, "n int", pk="id")
    plan = one_plan(SIMPLE, source, table("app.t", "id bigint always", "n int", pk="id"))
    assert (plan.moves_by_reinsert, plan.overrides_identity) == (True, True)
    plan = one_plan(SIMPLE, source, table("app.t", T, "n int always", pk="id"))
    assert (plan.moves_by_reinsert, plan.overrides_identity) == (False, True)
    plan = one_plan(SIMPLE, source, table("app.t", "id bigint default", "n int", pk="id"))
    assert (plan.moves_by_reinsert, plan.overrides_identity) == (False, False)


def test_a_local_time_in_the_key_is_a_warning() -> None:
    result = compiled(
        entry("columns: {at: {timezone: Europe/Berlin}}"),
        [table("public.t", T, "at timestamp", pk="id at")],
        [table("app.t", T, "at timestamptz", pk="id at")],
    )
    assert named(result) == ["identity_local_time"]


# -- unique and exclusion constraints ----------------------------------------------------------------------------


def test_c1_a_constraint_deferrable_on_the_source_must_be_on_the_target() -> None:
    source = table("public.t", T, "pos int!", pk="id", keys=[key("pos", deferrable=True)])
    plain = table("app.t", T, "place int!", pk="id", keys=[key("place")])
    deferrable = table("app.t", T, "place int!", pk="id", keys=[key("place", deferrable=True)])
    without = table("app.t", T, "place int!", pk="id")
    mapping = entry("columns: {place: pos}")
    result = compiled(mapping, [source], [plain])
    assert [error.name for error in errors(result)] == ["constraint_not_deferrable"]
    assert "ADD CONSTRAINT place_key UNIQUE (place) DEFERRABLE" in result.findings[0].remedy
    assert one_plan(mapping, source, deferrable).applied_as_origin
    assert not one_plan(mapping, source, without).applied_as_origin


@pytest.mark.parametrize(
    ("target_key", "source_key", "is_warned"),
    [
        (key("a"), None, True),
        (key("a"), key("a"), False),
        (key("a b"), key("a"), False),
        (key("a"), key("a b"), True),
        (key("a", partial=True), None, True),
        (key("a", partial=True), key("a", partial=True), False),
        (key("a", partial=True), key("a"), False),
        (key("a", expressions=True), key("a"), True),
        (key("a c"), None, False),
        (key("a", unique=False, exclusion=True), None, True),
        (key("a", unique=False, exclusion=True), key("a", unique=False, exclusion=True), False),
        (key("a", unique=False), None, False),
    ],
)
def test_h12_a_uniqueness_the_source_lacks_is_a_warning(target_key, source_key, is_warned: bool) -> None:  # type: ignore[no-untyped-def]
    source = table("public.t", T, "a int", "b int", pk="id", keys=[source_key] if source_key else [])
    target = table("app.t", T, "a int", "b int", "c int", pk="id", keys=[target_key])
    assert named(compiled(SIMPLE, [source], [target])) == (["unique_on_target_only"] if is_warned else [])


# -- foreign keys, triggers --------------------------------------------------------------------------------------


def family(
    source: dict[str, object] | None, target: dict[str, object], *, replica_role: bool = False
) -> tuple[list[Table], list[Table], bool]:
    def side(schema: str, options: dict[str, object] | None) -> list[Table]:
        references = [reference("p", f"{schema}.p", **options)] if options is not None else []  # type: ignore[arg-type]
        return [table(f"{schema}.p", T, pk="id"), table(f"{schema}.c", T, "p bigint", pk="id", references=references)]

    return side("public", source), side("app", target), replica_role


@pytest.mark.parametrize(
    ("source", "target", "finding"),
    [
        ({}, {}, None),
        ({}, {"deferrable": True}, None),
        (None, {"deferrable": True}, None),
        (None, {}, "reference_order"),
        ({"deferrable": True}, {}, "reference_order"),
        ({"on_delete": Action.CASCADE}, {}, "reference_order"),
        ({"on_delete": Action.SET_NULL}, {}, "reference_order"),
        ({"on_update": Action.CASCADE}, {}, "reference_order"),
        ({"on_delete": Action.RESTRICT}, {}, None),
        ({"on_delete": Action.CASCADE}, {"deferrable": True}, None),
        ({}, {"on_delete": Action.CASCADE, "deferrable": True}, "reference_acts"),
        ({}, {"on_delete": Action.SET_NULL}, "reference_acts"),
        ({}, {"on_delete": Action.SET_DEFAULT}, "reference_acts"),
        ({}, {"on_update": Action.CASCADE}, "reference_acts"),
        ({"validated": False}, {}, "reference_not_validated"),
    ],
)
def test_foreign_keys_without_replica_role(
    source: dict[str, object] | None, target: dict[str, object], finding: str | None
) -> None:
    from_tables, to_tables, _ = family(source, target)
    result = compiled(SIMPLE, from_tables, to_tables, replica_role=False)
    assert named(result) == ([finding] if finding else [])
    assert compiled(SIMPLE, from_tables, to_tables, replica_role=True).findings == ()


def test_a_table_applied_as_origin_meets_its_foreign_keys_even_under_replica_role() -> None:
    source = [table("public.p", T, pk="id"), table("public.c", T, "p bigint", "n int", pk="id")]
    target = [
        table("app.p", T, pk="id"),
        table("app.c", T, "p bigint", "n int", pk="id", keys=[key("n", deferrable=True)],
              references=[reference("p", "app.p")]),
    ]  # fmt: skip
    result = compiled(SIMPLE, source, target, replica_role=True)
    (error,) = errors(result)
    assert error.name == "reference_order"
    assert error.remedy == "ALTER TABLE app.c ALTER CONSTRAINT p_fkey DEFERRABLE;"


def test_a_remapped_parent_may_change_its_key() -> None:
    """I5: the new id stays, so ON UPDATE CASCADE on the source is of no consequence."""
    from_tables, to_tables, _ = family({"on_update": Action.CASCADE}, {})
    to_tables = [
        table("app.p", "id uuid", pk="id"),
        table("app.c", T, "p uuid", pk="id", references=[reference("p", "app.p")]),
    ]
    assert compiled(IDS, from_tables, to_tables, replica_role=False).findings == ()


def test_a_self_reference_must_be_deferrable_without_replica_role() -> None:
    source = table("public.t", T, "up bigint", pk="id", references=[reference("up", "public.t")])
    plain = table("app.t", T, "up bigint", pk="id", references=[reference("up", "app.t")])
    deferrable = table("app.t", T, "up bigint", pk="id", references=[reference("up", "app.t", deferrable=True)])
    assert named(compiled(SIMPLE, [source], [plain], replica_role=False)) == ["reference_to_itself"]
    assert compiled(SIMPLE, [source], [deferrable], replica_role=False).findings == ()


def test_a_ring_of_foreign_keys_cannot_be_copied_in_order() -> None:
    def ring(schema: str) -> list[Table]:
        return [
            table(f"{schema}.{one}", T, "x bigint", pk="id",
                  references=[reference("x", f"{schema}.{other}", deferrable=True)])
            for one, other in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"))
        ]  # fmt: skip

    result = compiled(SIMPLE, ring("public"), ring("app"), replica_role=False)
    (error,) = errors(result)
    assert error.name == "reference_cycle"
    assert "app.a and app.b and app.c form a ring" in error.sentence
    assert compiled(SIMPLE, ring("public"), ring("app")).findings == ()


def test_foreign_keys_across_the_border_are_warnings() -> None:
    target = [
        table("app.t", T, "x bigint", pk="id", references=[reference("x", "app.other")]),
        table("app.other", T, "t bigint", pk="id", references=[reference("t", "app.t")]),
    ]
    result = compiled(SIMPLE, [table("public.t", T, "x bigint", pk="id")], target)
    assert named(result) == ["reference_to_unmapped", "reference_from_unmapped"]
    assert result.plan is not None
    assert result.plan.target_foreign_keys == ()


@pytest.mark.parametrize("is_rule", [False, True])
@pytest.mark.parametrize(
    ("enabled", "replica_role", "severity"),
    [
        ("O", True, None),
        ("O", False, Severity.ERROR),
        ("A", True, Severity.WARNING),
        ("A", False, Severity.ERROR),
        ("R", True, Severity.WARNING),
        ("R", False, None),
        ("D", True, None),
        ("D", False, None),
    ],
)
def test_h1_triggers_and_rules(enabled: str, replica_role: bool, severity: Severity | None, is_rule: bool) -> None:
    target = table("app.t", T, pk="id", triggers=[Trigger("audit", enabled, is_rule)])
    result = compiled(SIMPLE, [table("public.t", T, pk="id")], [target], replica_role=replica_role)
    assert [finding.severity for finding in result.findings] == ([severity] if severity else [])
    if severity is not None:
        assert ("RULE audit" if is_rule else "TRIGGER audit") in result.findings[0].remedy


def test_everything_wrong_is_told_at_once() -> None:
    mapping = """
        version: 1
        schemas: {public: app}
        ids: {k: {from: public.nope.id, strategy: uuid7}}
        tables:
          app.missing: {from: public.a}
          app.b:
            columns: {x: y, z: {const: abc}}
            drop: [w]
    """
    source = [table("public.a", T, pk="id"), table("public.b", T, "u int", pk="id"), table("public.c", "q int")]
    target = [table("app.b", T, "x int", "z int", pk="id"), table("app.c", "q int")]
    assert sorted(named(compiled(mapping, source, target))) == [
        "const_type",
        "dropped_column_missing",
        "identity_missing",
        "keyspace_table_missing",
        "source_column_missing",
        "source_column_unused",
        "target_table_missing",
    ]


def test_odd_names_are_quoted_in_remedies() -> None:
    """F27."""
    mapping = 'version: 1\ntables: {"\\"T.x\\".\\"a\\"\\"b\\"": {from: s."Odd"}}\n'
    source = table("s.Odd", "id int")
    target = table("x.y", "id int")
    target = dataclasses.replace(target, name=TableName("T.x", 'a"b'))
    (error,) = errors(compiled(mapping, [source], [target]))
    assert error.remedy.startswith('ALTER TABLE s."Odd" REPLICA IDENTITY FULL;')
