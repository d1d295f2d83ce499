"""Which tables pass untouched, and in which form."""

from __future__ import annotations

import dataclasses

import pytest

from crossfade.catalog import Column
from crossfade.copy.passage import Passage, passage
from crossfade.mapping.plan import ColumnPlan, Const, Plan, Remap, Rule, TablePlan, Verbatim
from crossfade.pgoutput.messages import Form
from tests.unit.copy.test_phases import plan

V15 = 150_000
OIDS = {"integer": 23, "bigint": 20, "text": 25, "character varying": 1043, "character": 1042, "mood": 99_999}


def column(name: str, kind: str) -> Column:
    return Column(name, 1, OIDS[kind], kind, kind, -1, "b", "", False, False, "", "", "x")


def fed(source: Column | None, target: Column, rule: Rule | None = None) -> ColumnPlan:
    return ColumnPlan(target, source, rule or Verbatim())


def made(*columns: ColumnPlan) -> TablePlan:
    sources = {each.source.name: each.source for each in columns if each.source is not None}
    return dataclasses.replace(plan("t"), columns=columns, source_columns=tuple(sources.values()))


def way(table: TablePlan, **versions: int) -> Passage:
    whole = Plan("w", (table,), {}, (), "")
    return passage(table, whole, source_version=versions.get("source", V15), target_version=versions.get("target", V15))


def test_renamed_and_reordered_columns_are_selected_as_the_target_wants_them() -> None:
    table = made(
        fed(column("b", "text"), column("renamed", "text")), fed(column("a", "integer"), column("a", "integer"))
    )
    assert way(table) == Passage(Form.BINARY, is_verbatim=True, columns=("b", "a"))


@pytest.mark.parametrize(
    ("source", "target", "form"),
    [
        ("integer", "integer", Form.BINARY),
        ("text", "character varying", Form.BINARY),
        ("mood", "mood", Form.TEXT),  # of another database, perhaps with other labels
        ("character", "text", Form.TEXT),  # padding
        ("integer", "text", Form.TEXT),
    ],
)
def test_the_form_follows_from_the_types(source: str, target: str, form: Form) -> None:
    chosen = way(made(fed(column("a", source), column("a", target))))
    assert chosen.form is form
    assert chosen.is_verbatim


def test_a_wider_integer_is_for_the_codec() -> None:
    """Its bytes are four, not eight."""
    table = made(fed(column("a", "integer"), column("b", "bigint")))
    assert way(table) == Passage(Form.BINARY, is_verbatim=False, columns=("a",))


def test_a_source_that_cannot_stream_binary_can_still_copy_it() -> None:
    assert way(made(fed(column("a", "text"), column("a", "text"))), source=130_000).form is Form.BINARY


def test_text_can_be_asked_for() -> None:
    table = made(fed(column("a", "text"), column("a", "text")))
    whole = Plan("w", (table,), {}, (), "")
    chosen = passage(table, whole, source_version=V15, target_version=V15, wanted="text")
    assert chosen == Passage(Form.TEXT, is_verbatim=True, columns=("a",))


@pytest.mark.parametrize("rule", [Remap("ids"), Const("7")])
def test_what_has_a_rule_is_converted(rule: Rule) -> None:
    first = fed(column("b", "integer"), column("b", "integer"))
    source = None if isinstance(rule, Const) else column("a", "integer")
    chosen = way(made(first, fed(source, column("a", "integer"), rule)))
    assert not chosen.is_verbatim
    assert chosen.form is Form.BINARY
    assert chosen.columns == (("b",) if source is None else ("b", "a"))
