"""In which form a stream travels: binary where every used column allows it, and why not otherwise."""

from __future__ import annotations

import pytest

from crossfade.mapping.plan import Plan
from crossfade.wire.form import Form, Obstacle, obstacle, stream_form
from tests.unit.mapping.builders import compiled, key, name, table, with_oids

USERS = "public.users"


def plan(source: str, target: str, rules: str = "", *, dropped: str = "") -> Plan:
    """One column `c` of one table, and a dropped column beside it."""
    mapping = f"version: 1\nschemas: {{public: public}}\n{rules}"
    if dropped:
        mapping += f"tables: {{{USERS}: {{drop: [gone]}}}}\n"
    columns = [f"c {source}", *([f"gone {dropped}"] if dropped else [])]
    made = compiled(
        mapping,
        [with_oids(table(USERS, "id int", *columns, pk="id", keys=[key("c")] * ("ids:" in rules)))],
        [with_oids(table(USERS, "id int", f"c {target}", pk="id"))],
    )
    assert made.plan is not None, made.findings
    return made.plan


def why(of: Plan, source: int = 150018, target: int = 150018) -> str:
    found = obstacle(of, source_version=source, target_version=target)
    return "" if found is None else str(found)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("int", "int"), ("smallint", "bigint"), ("int", "bigint"), ("text", "varchar(20)"), ("varchar(20)", "text"),
        ("text", "char(9)"), ("char(9)", "char(12)"), ("numeric(10,2)", "numeric"), ("bytea", "bytea"),
        ("timestamptz", "timestamptz"), ("int[]", "int[]"), ("jsonb", "jsonb"), ("uuid", "uuid"),
    ],
)  # fmt: skip
def test_F16_binary_where_the_bytes_mean_the_same(source: str, target: str) -> None:
    assert why(plan(source, target)) == ""
    assert stream_form(plan(source, target), source_version=140000, target_version=180000, wanted="auto") is Form.BINARY


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("int", "numeric", "integer becomes numeric"),
        ("real", "double precision", "real becomes double precision"),
        ("char(9)", "text", "character(9) becomes text"),
        ("money", "money", "money is not safe in binary"),
        ("<e>public.mood", "<e>public.mood", "mood is not safe in binary"),
        ("<d>public.doc", "<d>public.doc", "doc is not safe in binary"),
        ("<e>public.mood[]", "<e>public.mood[]", "mood[] is not safe in binary"),
        ("<c>public.pair[]", "<c>public.pair[]", "pair[] is not safe in binary"),
    ],
)
def test_F15_F16_one_column_keeps_the_whole_stream_in_text(source: str, target: str, said: str) -> None:
    made = plan(source, target)
    assert said in why(made)
    assert "public.users, column c: " in why(made)
    assert stream_form(made, source_version=150018, target_version=150018, wanted="auto") is Form.TEXT


@pytest.mark.parametrize("kind", ["oid", "regclass", "pg_lsn", "xid"])
def test_F17_what_means_an_object_of_one_database_does_not_travel_in_binary(kind: str) -> None:
    mapping = "version: 1\nschemas: {public: public}\n"
    tables = [with_oids(table(USERS, "id int", f"c {kind}", pk="id"))]
    made = compiled(mapping, tables, tables)
    # The compiler may refuse such a column altogether; if it does not, it goes as text.
    assert made.plan is None or "not safe in binary" in why(made.plan)


def test_a_column_that_nobody_uses_may_be_of_any_type() -> None:
    assert why(plan("int", "int", dropped="<e>public.mood")) == ""


def test_text_when_it_is_wanted_or_the_source_is_older_than_14() -> None:
    made = plan("int", "int")
    assert stream_form(made, source_version=150018, target_version=150018, wanted="text") is Form.TEXT
    assert "before version 14" in why(made, source=130021)
    assert stream_form(made, source_version=130021, target_version=180000, wanted="auto") is Form.TEXT


@pytest.mark.parametrize(
    ("source", "target", "is_text"),
    [(160000, 160000, False), (170000, 180000, False), (160000, 170000, True), (180000, 150018, True)],
)
def test_intervals_need_two_servers_that_agree_on_what_is_infinite(source: int, target: int, is_text: bool) -> None:
    assert bool(why(plan("interval", "interval"), source, target)) is is_text
    assert bool(why(plan("interval[]", "interval[]"), source, target)) is is_text


def test_what_is_converted_by_a_rule_of_ours() -> None:
    local = f"tables: {{{USERS}: {{columns: {{c: {{timezone: America/New_York}}}}}}}}\n"
    assert why(plan("timestamp", "timestamptz", local)) == ""
    ids = f"ids: {{user: {{from: {USERS}.c, to: uuid, strategy: uuid7}}}}\n"
    assert why(plan("bigint", "uuid", ids)) == ""


def test_an_obstacle_says_where_it_is() -> None:
    assert str(Obstacle(name(USERS), "c", "so")) == "public.users, column c: so"
    assert str(Obstacle(None, "", "so")) == "so"
