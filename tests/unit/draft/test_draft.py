"""The first draft: what is matched, what is left to a person, and that what is written reads back."""

from __future__ import annotations

import dataclasses
import re
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.catalog import Catalog, ReplicaIdentity, Table, TableKind, TableName
from crossfade.draft.proposal import Draft, draft
from crossfade.draft.spelling import dotted, pattern, scalar
from crossfade.draft.write import mapping_text
from crossfade.faults import Misconfigured
from crossfade.findings import Severity
from crossfade.mapping.compile import Compiled, compile_plan
from crossfade.mapping.load import parse_mapping
from crossfade.mapping.plan import Remap
from crossfade.mapping.reading import split_name
from tests.drafts.ddl import LEGACY, NEW, read_ddl
from tests.unit.mapping.builders import catalog, key, reference, table

# The pairs of the sixty tables whose names do not say it all.
RENAMED = {
    "tbl_user": "accounts",
    "tbl_user_role": "account_roles",
    "tbl_product_text": "product_translations",
    "tbl_stock": "stock_levels",
    "tbl_order_line": "order_items",
    "tbl_order_state_log": "order_status_changes",
    "tbl_invoice_line": "invoice_items",
    "tbl_shipment_line": "shipment_items",
    "tbl_return_line": "return_items",
    "tbl_coupon_use": "coupon_redemptions",
    "tbl_subscription": "newsletter_subscriptions",
    "tbl_cust_note": "customer_notes",
    "tbl_audit": "audit_log",
    "tbl_config": "settings",
}


def filled(text: str, zone: str = "Europe/Berlin") -> str:
    return text.replace('timezone: "?"', f"timezone: {zone}")


def compiled(text: str, source: Catalog, target: Catalog) -> Compiled:
    return compile_plan(parse_mapping(text), source, target, workflow="shop", replica_role=True)


def error_names(result: Compiled) -> list[str]:
    return sorted(finding.name for finding in result.findings if finding.severity is Severity.ERROR)


def pairs(drafted: Draft) -> dict[str, str]:
    return {each.source.name.name: each.target.name.name for each in drafted.tables}


def test_sixty_tables_and_a_handful_of_decisions() -> None:
    source, target = read_ddl(LEGACY), read_ddl(NEW)
    drafted = draft(source, target)
    found = pairs(drafted)
    assert len(found) == 60
    assert {name: found[name] for name in RENAMED} == RENAMED
    assert not drafted.offered
    assert not drafted.unmatched
    assert [str(name) for name in drafted.unfilled] == ["app.feature_flags"]
    assert len(drafted.keyspaces) == 32
    assert len(drafted.decisions) <= 10, drafted.decisions
    text = filled(mapping_text(drafted))
    # What a person has to add, in the words that the draft itself offers.
    text = text.replace("    # append_only: true", "    append_only: true")
    text = text.replace("      # action: what", "      action: what")
    text = text.replace("      # statistics: stat", "      statistics: stat")
    text = text.replace("      # succeeded: ok", "      succeeded: ok")
    text = re.sub(r"# (email_verified: \{const:) \}.*", r"\1 false}", text)
    text = re.sub(r"# (drop: \[(?:passwd_md5|legacy_flags)\])", r"\1", text)
    result = compiled(text, source, target)
    assert error_names(result) == []
    assert result.plan is not None
    # Every reference among the sixty is remapped, declared or not.
    for each in result.plan.tables:
        for column in each.columns:
            if column.target.base_type == "uuid":
                assert isinstance(column.rule, Remap), (each.target, column.target.name)


def test_names_in_capitals_and_keys_named_after_their_tables() -> None:
    source = catalog(
        table("dbo.Employees", "EmployeeID int", "LastName text!", "ReportsTo int", "BirthDate date", pk="EmployeeID",
              references=[reference("ReportsTo", "dbo.Employees", "EmployeeID")]),
        table("dbo.Orders", "OrderID int", "EmployeeID int", "OrderDate timestamp", "Discount real", pk="OrderID",
              references=[reference("EmployeeID", "dbo.Employees", "EmployeeID")]),
        table("dbo.OrderDetails", "OrderID int", "LineNo int", "Qty smallint!", pk="OrderID LineNo",
              references=[reference("OrderID", "dbo.Orders", "OrderID")]),
    )  # fmt: skip
    target = catalog(
        table("sales.staff", "id uuid", "last_name text!", "manager_id uuid", "born_on date", pk="id",
              references=[reference("manager_id", "sales.staff")]),
        table("sales.orders", "id uuid", "sales_rep_id uuid", "ordered_at timestamptz", "discount numeric(5,4)",
              pk="id", references=[reference("sales_rep_id", "sales.staff")]),
        table("sales.order_lines", "order_id uuid", "position int", "quantity int!", pk="order_id position",
              references=[reference("order_id", "sales.orders")]),
    )  # fmt: skip
    drafted = draft(source, target)
    assert pairs(drafted) == {"Employees": "staff", "Orders": "orders", "OrderDetails": "order_lines"}
    text = mapping_text(drafted)
    for expected in ("manager_id: ReportsTo ", "born_on: BirthDate ", "sales_rep_id: EmployeeID ", "position: LineNo "):
        assert f"      {expected}" in text, text
    offered = "# discount: {from: Discount, cast: lossy}"
    assert offered in text
    assert "; but real to" in text
    assert error_names(compiled(filled(text).replace(offered, offered.lstrip("# ")), source, target)) == []


def test_an_open_draft_is_refused_and_says_where() -> None:
    source, target = read_ddl(LEGACY), read_ddl(NEW)
    text = mapping_text(draft(source, target))
    with pytest.raises(Misconfigured) as refused:
        parse_mapping(text)
    first = str(refused.value).splitlines()[0]
    line, column = map(int, re.findall(r":(\d+):(\d+):", first)[0])
    assert text.splitlines()[line - 1][column - 1 :].startswith('"?"')
    assert "this blank is for you to fill in: whose local time does the source column hold?" in first
    # With the blanks filled, what is left open is refused against the catalogs, each thing by its name.
    left = error_names(compiled(filled(text), source, target))
    assert {"source_column_unused", "target_column_unfed", "identity_missing"} >= set(left) - {"no_replica_identity"}
    assert "target_column_unfed" in left


def test_the_same_schemas_need_no_word() -> None:
    one = catalog(table("public.a", "id int", "note text", pk="id"), table("public.b", "id int", "a_id int", pk="id"))
    drafted = draft(one, one)
    text = mapping_text(drafted)
    assert drafted.decisions == []
    assert "Nothing is left to decide" in text
    assert "tables:" not in text
    assert "public.a, public.b" in text
    assert error_names(compiled(text, one, one)) == []


def test_a_namesake_is_paired_whatever_its_type_and_the_objection_is_told() -> None:
    source = catalog(table("public.a", "id int", "when_ timestamptz", "n double precision", pk="id"))
    target = catalog(table("app.a", "id int", "when_ timestamptz", "n real", pk="id"))
    drafted = draft(source, target)
    assert any("public.a.n" in line for line in drafted.decisions)
    assert "DECIDE: n (double precision) to n (real)" in mapping_text(drafted)


def test_enums_and_losses_are_asked_about_with_what_could_be_written() -> None:
    source = catalog(
        _enum("public.a", ("new", "cancelled", "zz")), table("public.b", "id int", "n numeric(8,4)", pk="id")
    )
    target = catalog(_enum("app.a", ("new", "canceled")), table("app.b", "id int", "n numeric(8,2)", pk="id"))
    text = mapping_text(draft(source, target))
    assert '# state: {values: {new: new, cancelled: canceled, zz: "?"}}' in text
    assert "# n: {cast: lossy}" in text
    assert error_names(compiled(text.replace("# n:", "n:"), source, target)) == []


def _enum(name: str, labels: tuple[str, ...]) -> Table:
    one = table(name, "id int", "state <e>state", pk="id")
    return dataclasses.replace(
        one,
        columns=tuple(dataclasses.replace(each, labels=labels if each.name == "state" else ()) for each in one.columns),
    )


def test_what_cannot_be_followed_is_excluded_with_the_reason() -> None:
    source = catalog(
        table("public.a", "id int", pk="id"),
        table("public.scratch", "id int", pk="id", persistence="u"),
        table("public.far", "id int", kind=TableKind.FOREIGN),
        table("public.mother", "id int", pk="id", has_children=True),
        table("public.seen", "id int", kind=TableKind.VIEW),
    )
    target = catalog(table("app.a", "id int", pk="id"))
    text = mapping_text(draft(source, target))
    spec = parse_mapping(text)
    assert {each.pattern for each in spec.exclude} == {"public.scratch", "public.far", "public.mother"}
    assert error_names(compiled(text, source, target)) == []


def test_what_resembles_nothing_is_left_to_a_person() -> None:
    source = catalog(table("public.a", "id int", pk="id"), table("public.zebra", "stripes int", pk="stripes"))
    target = catalog(table("app.a", "id int", pk="id"), table("app.weather", "rain text", pk="rain"))
    drafted = draft(source, target)
    assert [str(name) for name in drafted.unmatched] == ["public.zebra"]
    text = mapping_text(drafted)
    assert "  # - public.zebra" in text
    assert error_names(compiled(text, source, target)) == ["target_table_missing"]
    decided = text.replace("  # - public.zebra", "  - public.zebra")
    assert error_names(compiled(decided, source, target)) == []


def test_references_follow_their_keyspace_by_declaration_by_the_target_or_by_name() -> None:
    source = catalog(
        table("public.users", "id int", "name text", pk="id"),
        table("public.orders", "id int", "user_id int", "approver int", "user_no int", pk="id",
              references=[reference("user_id", "public.users")]),
    )  # fmt: skip
    target = catalog(
        table("app.users", "id uuid", "name text", pk="id"),
        table("app.orders", "id int", "user_id uuid", "approver uuid", "user_no uuid", pk="id",
              references=[reference("user_id", "app.users"), reference("approver", "app.users")]),
    )  # fmt: skip
    text = mapping_text(draft(source, target))
    spec = parse_mapping(text)
    columns = spec.tables[TableName("app", "orders")].columns
    assert "user_id" not in columns  # its foreign key says so
    assert columns["approver"].rule == Remap("user")
    assert "a foreign key of the target says so" in text
    assert "user_no" not in columns
    assert "if so, remap: user" in text


def test_arrays_of_ids_follow_by_their_name_and_uuids_that_become_numbers_are_asked_about() -> None:
    source = catalog(
        table("public.users", "id int", "n int", pk="id"),
        table("public.teams", "id uuid", "user_ids int[]", pk="id"),
    )
    target = catalog(
        table("app.users", "id uuid", "n int", pk="id"),
        table("app.teams", "id bigint", "user_ids uuid[]", pk="id"),
    )
    drafted = draft(source, target)
    text = mapping_text(drafted)
    assert "user_ids: {remap: user}" in text
    assert "DECIDE: id (uuid) to id (bigint): if these are ids, declare them under ids with the strategy" in text
    assert error_names(compiled(text, source, target)) == ["type_not_convertible"]


def test_text_that_may_hold_uuids_is_no_keyspace() -> None:
    for kind, expected in (("text", 0), ("varchar(36)", 0), ("varchar(20)", 1), ("bigint", 1)):
        source = catalog(table("public.users", f"id {kind}", pk="id"))
        target = catalog(table("app.users", "id uuid", pk="id"))
        drafted = draft(source, target)
        assert len(drafted.keyspaces) == expected, kind
        assert error_names(compiled(mapping_text(drafted), source, target)) == []


def test_two_keyspaces_of_one_name_are_told_apart() -> None:
    source = catalog(table("a.users", "id int", "x int", pk="id"), table("b.users", "id int", "y int", pk="id"))
    target = catalog(table("c.users", "id uuid", "x int", pk="id"), table("d.users", "id uuid", "y int", pk="id"))
    drafted = draft(source, target)
    assert sorted(each.name for each in drafted.keyspaces) == ["user", "user_2"]
    text = mapping_text(drafted)
    assert parse_mapping(text).schemas == {"a": "c", "b": "d"}
    assert error_names(compiled(text, source, target)) == []


def test_a_table_without_a_key_asks_how_it_is_to_be_followed() -> None:
    source = catalog(table("public.log", "at int", "line text"))
    target = catalog(table("app.log", "at int", "line text"))
    text = mapping_text(draft(source, target))
    assert "# append_only: true" in text
    assert error_names(compiled(text, source, target))
    assert error_names(compiled(text.replace("    # append_only", "    append_only"), source, target)) == []
    full = catalog(table("public.log", "at int", "line text", identity=ReplicaIdentity.FULL))
    assert draft(full, target).decisions == []


def test_the_draft_does_not_depend_on_the_order_of_the_tables() -> None:
    source, target = read_ddl(LEGACY), read_ddl(NEW)
    turned = Catalog(source.version, source.database, dict(reversed(source.tables.items())))
    assert mapping_text(draft(turned, target)) == mapping_text(draft(source, target))


_NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)


@settings(max_examples=30)
@given(st.lists(_NAMES, min_size=1, max_size=5, unique=True), st.lists(_NAMES, min_size=1, max_size=4, unique=True))
def test_names_of_any_spelling_survive_the_file(tables: list[str], columns: list[str]) -> None:
    """In the same spelling on both sides, and in another (which takes `from` and quoting)."""
    kept = [name for name in tables if len(name.encode()) <= 50]
    if not kept:
        return
    source = catalog(*(_plain(TableName("public", name), columns) for name in kept))
    for schema in ("public", "the app"):
        target = catalog(*(_plain(TableName(schema, name), columns) for name in kept))
        text = mapping_text(draft(source, target))
        result = compiled(text, source, target)
        assert error_names(result) == [], text
        assert result.plan is not None
        assert {each.source.name: each.target.name for each in result.plan.tables} == {name: name for name in kept}


def _plain(name: TableName, columns: list[str]) -> Table:
    made = table("s.t", *(f"c{number} int" for number in range(len(columns))), keys=[key("c0", primary=True)])
    return dataclasses.replace(
        made,
        name=name,
        columns=tuple(
            dataclasses.replace(column, name=written[:60], not_null=True)
            for column, written in zip(made.columns, columns, strict=True)
        ),
        keys=(dataclasses.replace(made.keys[0], columns=(columns[0][:60],)),),
    )


@given(_NAMES)
def test_a_scalar_reads_back(text: str) -> None:
    read = parse_mapping(f"version: 1\nschemas: {{x: y}}\nexclude: [{scalar('a.' + text)}]\n")
    assert read.exclude[0].pattern == "a." + text


@given(_NAMES, _NAMES)
def test_a_pattern_matches_its_table_alone(schema: str, name: str) -> None:
    read = parse_mapping(f"version: 1\nschemas: {{x: y}}\nexclude:\n  - {pattern(TableName(schema, name))}\n")
    assert read.exclude[0].matches(TableName(schema, name))
    assert not read.exclude[0].matches(TableName(schema, name + "x"))


@given(_NAMES, _NAMES)
def test_a_dotted_name_is_taken_apart_again(schema: str, name: str) -> None:
    parts = split_name(dotted(TableName(schema, name)))
    assert parts == (schema, name)


def test_the_file_is_what_a_person_reads() -> None:
    source = catalog(table("public.tbl_user", "id int", "cdate timestamp!", "old int", "ox int", pk="id"))
    target = catalog(table("app.users", "id uuid", "created_at timestamptz!", "kind text!", pk="id"))
    text = mapping_text(draft(source, target))
    assert (
        dedent(
            """\
        ids:
          user: {from: public.tbl_user.id, to: uuid, strategy: uuid7}
        """
        )
        in text
    )
    assert "      # DECIDE: nothing feeds kind, which must not be NULL and has no default:\n" in text
    assert "    # drop: [old, ox]\n" in text
    assert max(map(len, text.splitlines())) <= 120
