"""The SQL made of a plan: quoted names, numbered parameters, and never more rows than meant."""

from __future__ import annotations

import dataclasses
import re

import pytest

from crossfade import statements
from crossfade.catalog import ReplicaIdentity, TableName
from crossfade.mapping.plan import Keyspace, Strategy, TablePlan
from crossfade.mapping.shares import InMap, InNoMap, InRange, Share
from tests.unit.mapping.builders import compiled, name, table

NAMES = (
    'quo"te',
    "MixedCase",
    "select",
    "with space",
    "new\nline",
    "%s",
    "%(a)s",
    "{}",
    "{0}",
    "$1",
    "it's",
    "ü😀",
    "a;b",
)
KEYSPACE = Keyspace("user", TableName("s", "t"), 'i"d', "bigint", "uuid", Strategy.UUID7)


def plan(*columns: str, pk: str | None = "id", target: tuple[str, ...] = (), target_pk: str | None = None) -> TablePlan:
    identity = ReplicaIdentity.DEFAULT if pk is not None else ReplicaIdentity.FULL
    result = compiled(
        "version: 1\nschemas: {public: app}",
        [table("public.t", *columns, pk=pk, identity=identity)],
        [table("app.t", *(target or columns), pk=target_pk or pk)],
    )
    assert result.plan is not None, result.findings
    return result.plan.by_source()[name("public.t")][0]


SIMPLE = plan("id int", "v text", "big text")


def test_insert_gives_every_column_a_parameter() -> None:
    assert statements.insert(SIMPLE) == b'INSERT INTO "app"."t" ("id", "v", "big") VALUES ($1, $2, $3)'


def test_H10_insert_overrides_a_generated_identity() -> None:
    made = statements.insert(plan("id int", "v text", target=("id int always", "v text")))
    assert made == b'INSERT INTO "app"."t" ("id", "v") OVERRIDING SYSTEM VALUE VALUES ($1, $2)'


def test_E19_no_statement_names_a_generated_column() -> None:
    made = plan("id int", "v text", target=("id int", "v text", "twice text generated"))
    for text in (statements.insert(made), statements.update(made, ["v"]), statements.reinsert(made, ["v"])):
        assert b"twice" not in text


def test_update_assigns_what_it_is_told_and_finds_by_the_old_key() -> None:
    assert statements.update(SIMPLE, ["id", "v"]) == b'UPDATE "app"."t" SET "id" = $1, "v" = $2 WHERE "id" = $3'


def test_D1_an_update_with_nothing_to_assign_only_looks_for_the_row() -> None:
    assert statements.update(SIMPLE, []) == b'SELECT FROM "app"."t" WHERE "id" = $1'


def test_delete_finds_by_the_old_key() -> None:
    composite = plan("a int", "b text", "c int", pk="b a")
    assert statements.delete(composite) == b'DELETE FROM "app"."t" WHERE "b" = $1 AND "a" = $2'


def test_C7_without_a_unique_key_one_row_is_picked_and_null_equals_null() -> None:
    made = statements.delete(plan("a int", "b text!", pk=None)).decode()
    assert made.startswith('DELETE FROM "app"."t" WHERE tableoid = (SELECT "tableoid"')
    assert made.count("LIMIT 1") == 2
    assert '"a" IS NOT DISTINCT FROM $1 AND "b" = $2' in made


@pytest.mark.parametrize("kind", ["json", "jsonpath", "point", "box", "xml", "json[]", "<c>app.pair", "<d>app.doc"])
def test_D10_types_without_an_equality_of_values_are_compared_as_text(kind: str) -> None:
    """The parameter's own type is said where that can be sent in binary: as text its bytes would mean another value."""
    made = statements.delete(plan("a int", f"b {kind}", pk=None)).decode()
    parameter = "$2" if kind.startswith("<") else f"$2::{kind}"
    assert f'"b"::text IS NOT DISTINCT FROM {parameter}::text' in made


def test_a_domain_in_a_unique_key_is_compared_by_its_index() -> None:
    assert statements.delete(plan("id <d>app.code", "v int")).endswith(b'WHERE "id" = $1')


def test_H10_reinsert_carries_every_other_column_and_types_its_parameters() -> None:
    made = plan("id int", "v varchar(5)", target=("id int always", "v varchar(5)", "own int"))
    assert statements.reinsert(made, ["id", "v"]) == (
        b'WITH moved AS (DELETE FROM "app"."t" WHERE "id" = $3 RETURNING *) '
        b'INSERT INTO "app"."t" ("id", "v", "own") OVERRIDING SYSTEM VALUE '
        b'SELECT $1::integer, $2::character varying(5), moved."own" FROM moved'
    )


def test_copy_reads_and_writes_the_same_columns() -> None:
    made = plan("id int", "v text", "unused text", target=("v text", "id int", "unused text"), target_pk="id")
    assert statements.copy_out(made).as_string(None) == (
        'COPY (SELECT "id", "v", "unused" FROM ONLY "public"."t") TO STDOUT'
    )
    assert statements.copy_in(made).as_string(None) == 'COPY "app"."t" ("v", "id", "unused") FROM STDIN'
    partitioned = dataclasses.replace(made, is_partitioned=True)
    assert "ONLY" not in statements.copy_out(partitioned).as_string(None)
    assert "ONLY" in statements.lock(made.source, is_partitioned=False).as_string(None)
    assert "ONLY" not in statements.lock(made.source, is_partitioned=True).as_string(None)


def test_C16_tables_are_truncated_together() -> None:
    names = [TableName("a", "b"), TableName("c", 'd"')]
    assert statements.truncate(names).as_string(None) == 'TRUNCATE TABLE "a"."b", "c"."d"""'


def test_the_id_map_is_typed() -> None:
    assert statements.create_id_table(KEYSPACE).as_string(None) == (
        'CREATE TABLE IF NOT EXISTS "crossfade"."id_user" (old bigint PRIMARY KEY, new uuid NOT NULL)'
    )
    assert statements.owner_ids(KEYSPACE).as_string(None) == 'SELECT "i""d"::text FROM "s"."t"'


def test_F27_every_name_is_quoted_everywhere() -> None:
    """Take every quoted name out of a statement: nothing of what people called their things may be left."""
    simple = plan(*(f"c{at} text" for at in range(len(NAMES))), "id int")
    renamed = {f"c{at}": one for at, one in enumerate(NAMES)}
    columns = tuple(
        dataclasses.replace(
            column,
            target=dataclasses.replace(
                column.target, name=renamed.get(column.target.name, 'k"ey'), type_name='app."{} %s"'
            ),
            source=column.source and dataclasses.replace(column.source, name=renamed.get(column.source.name, 'k"ey')),
        )
        for column in simple.columns
    )
    nasty = dataclasses.replace(
        simple,
        source=TableName('s"%s', "t{}"),
        target=TableName("t%s", 't"'),
        columns=columns,
        source_columns=tuple(column.source for column in columns if column.source is not None),
        key=('k"ey',),
        writable=tuple(column.target.name for column in columns),
    )
    made = [
        statements.insert(nasty),
        statements.update(nasty, NAMES),
        statements.update(dataclasses.replace(nasty, key_is_unique=False), NAMES),
        statements.reinsert(nasty, NAMES),
        statements.delete(nasty),
        statements.truncate([nasty.target]).as_bytes(None),
        statements.delete_all(nasty.target).as_bytes(None),
        statements.copy_out(nasty).as_bytes(None),
        statements.copy_in(nasty).as_bytes(None),
        statements.lock(nasty.source, is_partitioned=False).as_bytes(None),
    ]
    for text in made:
        bare = re.sub(r'"(?:[^"]|"")*"', "", text.decode())
        assert re.fullmatch(r"[A-Za-z0-9_ ,.()=*:$]*", bare), bare
        assert not re.search(r"Mixed|space|line", bare)


def shared(share: Share | None) -> TablePlan:
    return dataclasses.replace(plan("id int!", "v text"), beside=(name("public.u"),), share=share)


def test_the_rows_of_one_of_several_sources() -> None:
    texts = {
        InRange("id", None, 5): 'DELETE FROM "app"."t" AS t WHERE t."id" < 5',
        InRange("id", -5, None): 'DELETE FROM "app"."t" AS t WHERE t."id" >= -5',
        InRange("id", 5, 9): 'DELETE FROM "app"."t" AS t WHERE t."id" >= 5 AND t."id" < 9',
        InMap("id", "k"): (
            'DELETE FROM "app"."t" AS t WHERE EXISTS (SELECT FROM "crossfade"."id_k" AS m WHERE m.new::text ='
            ' t."id"::text)'
        ),
    }
    for share, text in texts.items():
        assert statements.delete_share(shared(share)).as_string(None) == text
    left = statements.delete_share(shared(InNoMap("id", ("a", "b")))).as_string(None)
    assert left.count("NOT EXISTS (SELECT FROM") == 2


def test_rows_that_nobody_can_tell_apart_are_never_deleted() -> None:
    with pytest.raises(ValueError, match="cannot be told"):
        statements.delete_share(shared(None))
