"""The SQL over arrays: what each statement finds, writes and leaves alone, and how values reach their columns."""

from __future__ import annotations

import pytest

from crossfade.catalog import ReplicaIdentity, TableName
from crossfade.mapping.plan import Keyspace, Strategy, TablePlan
from crossfade.pgoutput.messages import Form
from crossfade.target import setforms
from tests.unit.mapping.builders import compiled, name, table

NAMES = ('quo"te', "MixedCase", "select", "with space", "new\nline", "%s", "%(a)s", "{}", "$1", "it's", "ü😀", "a;b")
KEYSPACE = Keyspace("user", TableName("s", "t"), "id", "bigint", "uuid", Strategy.UUID7)


def plan(
    *columns: str, pk: str = "id", target: tuple[str, ...] = (), mapping: str = "version: 1\nschemas: {public: app}"
) -> TablePlan:
    result = compiled(
        mapping,
        [table("public.t", *columns, pk=pk, identity=ReplicaIdentity.DEFAULT)],
        [table("app.t", *(target or columns), pk=pk)],
    )
    assert result.plan is not None, result.findings
    return result.plan.by_source()[name("public.t")][0]


SIMPLE = plan("id int", "v text", "big text")


def test_update_takes_an_array_for_each_column_and_finds_rows_by_their_key() -> None:
    assert setforms.update(SIMPLE, [1], Form.BINARY) == (
        b'UPDATE "app"."t" AS t SET "v" = n.c0 FROM (SELECT unnest($1::text[]) AS c0, unnest($2::integer[]) AS k0)'
        b' AS n WHERE t."id" = n.k0'
    )


def test_D1_an_update_with_nothing_to_assign_only_counts_rows() -> None:
    assert setforms.update(SIMPLE, [], Form.TEXT) == (
        b'SELECT FROM (SELECT unnest($1::integer[]) AS k0) AS n JOIN "app"."t" AS t ON t."id" = n.k0'
    )


def test_what_an_update_assigns_is_neither_key_nor_constant_nor_unsent() -> None:
    made = plan(
        "id int",
        "v text",
        "big text",
        target=("id int", "v text", "big text", "kind text!"),
        mapping="version: 1\nschemas: {public: app}\ntables: {app.t: {columns: {kind: {const: x}}}}",
    )
    names = [column.target.name for column in made.columns]
    assert [names[at] for at in setforms.assigned_places(made, {names.index("big")})] == ["v"]


def test_delete_finds_by_every_key_column_in_the_order_of_the_key() -> None:
    composite = plan("a int", "b text", "c int", pk="b a")
    assert setforms.delete(composite, Form.TEXT) == (
        b'DELETE FROM "app"."t" AS t USING (SELECT unnest($1::text[]) AS k0, unnest($2::integer[]) AS k1) AS n'
        b' WHERE t."b" = n.k0 AND t."a" = n.k1'
    )


def test_H10_insert_overrides_a_generated_identity() -> None:
    made = setforms.insert(plan("id int", "v text", target=("id int always", "v text")), Form.TEXT)
    assert made == (
        b'INSERT INTO "app"."t" ("id", "v") OVERRIDING SYSTEM VALUE'
        b" SELECT * FROM (SELECT unnest($1::integer[]) AS c0, unnest($2::text[]) AS c1) AS n"
    )


def test_E19_no_statement_names_a_generated_column() -> None:
    made = plan("id int", "v text", target=("id int", "v text", "twice text generated"))
    for text in (
        setforms.insert(made, Form.TEXT),
        setforms.update(made, [1], Form.TEXT),
        setforms.reinsert(made, [], Form.TEXT),
        setforms.copy_in(made, Form.TEXT),
    ):
        assert b"twice" not in text


def test_a_row_put_back_carries_what_the_stream_did_not_bring() -> None:
    made = plan("id int", "v text", "big text", target=("id int", "v text", "big text", "own text ="))
    assert setforms.reinsert(made, [2], Form.BINARY) == (
        b'WITH parked AS (DELETE FROM "app"."t" AS t USING (SELECT unnest($1::integer[]) AS k0,'
        b" unnest($2::integer[]) AS c0, unnest($3::text[]) AS c1, unnest($4::text[]) AS c2,"
        b" unnest($5::pg_catalog.bool[]) AS s2) AS n"
        b' WHERE t."id" = n.k0 RETURNING n.c0, n.c1, t."big" AS o2, n.c2, n.s2, t."own" AS o3, n.k0)'
        b' INSERT INTO "app"."t" ("id", "v", "big", "own") OVERRIDING SYSTEM VALUE'
        b" SELECT c0, c1, CASE WHEN s2 THEN c2 ELSE o2 END, o3 FROM parked ORDER BY k0"
    )


@pytest.mark.parametrize(
    ("column", "text", "binary"),
    [
        ("numeric(10,2)", "unnest($1::numeric[])", "unnest($1::numeric[])"),
        ("varchar(5)", "unnest($1::character varying[])", "unnest($1::character varying[])"),
        ("char(5)", "unnest($1::pg_catalog.bpchar[])", "unnest($1::pg_catalog.bpchar[])"),
        ("bit(5)", 'unnest($1::pg_catalog."bit"[])', 'unnest($1::pg_catalog."bit"[])'),
        ("<e>app.mood", "unnest($1::app.mood[])", None),
        ("<d>app.short", "unnest($1::app.short[])", None),
        ("app.geometry", "unnest($1::text[])::app.geometry", None),
        ("box", "unnest($1::text[])::box", "unnest($1::box[])"),
        ("int[]", "unnest($1::text[])::integer[]", None),
        ("varchar(5)[]", "unnest($1::text[])::character varying[]", None),
        ("char(5)[]", "unnest($1::text[])::pg_catalog.bpchar[]", None),
    ],
)
def test_F31_values_come_without_a_length_so_that_assignment_refuses_what_is_too_long(
    column: str, text: str, binary: str | None
) -> None:
    made = plan("id int", f"v {column}")
    assert f"SELECT {text} AS c0," in setforms.update(made, [1], Form.TEXT).decode()
    if binary is not None:
        assert f"SELECT {binary} AS c0," in setforms.update(made, [1], Form.BINARY).decode()


def test_F15_an_array_column_goes_by_text_only() -> None:
    made = plan("id int", "v int[]")
    assert [setforms.goes_as_array(made.columns[1].target, form) for form in (Form.TEXT, Form.BINARY)] == [True, False]


@pytest.mark.parametrize("odd", NAMES)
def test_F27_names_are_quoted(odd: str) -> None:
    quoted = '"' + odd.replace('"', '""') + '"'
    made = plan("id int", f"{odd.replace(' ', '_')} text")
    wanted = quoted.replace(" ", "_")
    for text in (
        setforms.insert(made, Form.TEXT),
        setforms.update(made, [1], Form.TEXT),
        setforms.reinsert(made, [1], Form.TEXT),
        setforms.copy_in(made, Form.TEXT),
    ):
        assert wanted in text.decode()


def test_copy_is_of_every_column_in_plan_order() -> None:
    assert setforms.copy_in(SIMPLE, Form.TEXT) == b'COPY "app"."t" ("id", "v", "big") FROM STDIN'
    assert setforms.copy_in(SIMPLE, Form.BINARY).endswith(b"FROM STDIN WITH (FORMAT binary)")


def test_ids_are_read_added_and_copied_by_their_own_types() -> None:
    assert setforms.look_up_ids(KEYSPACE) == (
        b'SELECT old::text, new::text FROM "crossfade"."id_user" WHERE old = ANY ($1::text[]::bigint[])'
    )
    assert setforms.add_ids(KEYSPACE) == (
        b'INSERT INTO "crossfade"."id_user" (old, new)'
        b" SELECT unnest($1::text[]::bigint[]), unnest($2::text[]::uuid[]) ON CONFLICT (old) DO NOTHING"
    )
    assert setforms.copy_ids(KEYSPACE) == b'COPY "crossfade"."id_user" (old, new) FROM STDIN WITH (FORMAT binary)'
