"""Rows of the stream with what several of their columns are together, in text and in binary."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.catalog import ReplicaIdentity
from crossfade.faults import PlanMismatch, ProtocolViolation, Refused, RowRefused
from crossfade.mapping.compoundnames import compound
from crossfade.mapping.plan import TablePlan
from crossfade.pgoutput.decode import decode
from crossfade.pgoutput.messages import UNCHANGED, Delete, Form, Insert, Relation, RelationColumn, Update
from crossfade.walstream import HEADER
from crossfade.wire.widen import Widener, joined
from tests.unit.mapping.builders import compiled, name, table, with_oids
from tests.unit.pgoutput import encoder

OID = 77
SOURCE = with_oids(table("public.a", "tenant int", "code text", "note varchar(9)", pk="tenant code"))
NAME = compound(["tenant", "code"])


def plan() -> TablePlan:
    result = compiled(
        "version: 1\nids: {a: {from: [public.a.tenant, public.a.code], strategy: uuid7}}\ntables:\n"
        "  app.a: {from: public.a, columns: {id: [tenant, code]}}\n",
        [SOURCE],
        [table("app.a", "id uuid", "note text", pk="id")],
    )
    assert result.plan is not None, result.findings
    return result.plan.tables[0]


def relation(*columns: tuple[str, int, bool]) -> Relation:
    given = columns or (("tenant", 23, True), ("code", 25, True), ("note", 1043, False))
    return Relation(
        OID,
        name("public.a"),
        ReplicaIdentity.DEFAULT,
        tuple(RelationColumn(one, oid, -1, key) for one, oid, key in given),
    )


def widener(form: Form, sent: Relation | None = None) -> Widener:
    made = Widener({name("public.a"): (plan(),)}, form)
    made.relations({OID: sent or relation()})
    return made


def frame(payload: bytes) -> bytes:
    return b"w" + bytes(HEADER - 1) + payload


def cell(value: bytes | None, kind: bytes = b"t") -> bytes:
    return b"n" if value is None else kind + encoder.i32(len(value)) + value


def row(*cells: bytes) -> bytes:
    return encoder.i16(len(cells)) + b"".join(cells)


def test_a_relation_gets_a_column_that_is_of_the_identity() -> None:
    wide = widener(Form.TEXT).relations({OID: relation()})[OID]
    assert wide.columns[-1] == RelationColumn(NAME, 25, -1, is_key=True)
    sent = {OID: relation(("tenant", 23, True), ("code", 25, False), ("note", 1043, False))}
    other = widener(Form.TEXT)
    assert other.relations(sent)[OID].columns[-1].is_key is False
    assert other.relations(sent)[OID] is other.relations(dict(sent))[OID]


def test_every_tuple_of_a_message_is_widened() -> None:
    body = b"U" + encoder.u32(OID)
    body += b"K" + row(cell(b"7"), cell(b"x"), b"n") + b"N" + row(cell(b"8"), cell(b'a"b'), b"u")
    message = decode(memoryview(widener(Form.TEXT).frame(frame(body)))[HEADER:], Form.TEXT)
    assert isinstance(message, Update)
    assert message.old is not None
    assert message.old[3] == b'["7", "x"]'
    assert message.new[2] is UNCHANGED
    assert message.new[3] == b'["8", "a\\"b"]'


def test_in_binary() -> None:
    body = (
        b"I" + encoder.u32(OID) + b"N" + row(cell((-5).to_bytes(4, "big", signed=True), b"b"), cell(b"x", b"b"), b"n")
    )
    message = decode(memoryview(widener(Form.BINARY).frame(frame(body)))[HEADER:], Form.BINARY)
    assert isinstance(message, Insert)
    assert message.new[3] == b'["-5", "x"]'


def test_null_is_nothing_and_what_was_not_sent_stays_so() -> None:
    body = b"D" + encoder.u32(OID) + b"O" + row(cell(b"7"), b"n", b"n")
    message = decode(memoryview(widener(Form.TEXT).frame(frame(body)))[HEADER:], Form.TEXT)
    assert isinstance(message, Delete)
    assert message.old[3] is None
    body = b"U" + encoder.u32(OID) + b"N" + row(b"u", b"u", b"n")
    message = decode(memoryview(widener(Form.TEXT).frame(frame(body)))[HEADER:], Form.TEXT)
    assert isinstance(message, Update)
    assert message.new[3] is UNCHANGED


@pytest.mark.parametrize("marker", [b"K", b"O"])
def test_D4_a_long_part_that_was_not_sent_is_that_of_the_old_key(marker: bytes) -> None:
    body = b"U" + encoder.u32(OID) + marker + row(cell(b"7"), cell(b"long"), b"n") + b"N"
    body += row(cell(b"8"), b"u", b"n")
    message = decode(memoryview(widener(Form.TEXT).frame(frame(body)))[HEADER:], Form.TEXT)
    assert isinstance(message, Update)
    assert message.old is not None
    assert (message.old[3], message.new[3]) == (b'["7", "long"]', b'["8", "long"]')


def test_D3_what_a_key_tuple_says_of_other_columns_is_nothing() -> None:
    sent = relation(("tenant", 23, True), ("code", 25, False), ("note", 1043, False))
    body = b"U" + encoder.u32(OID) + b"K" + row(cell(b"7"), b"n", b"n") + b"N" + row(cell(b"8"), b"u", b"n")
    with pytest.raises(RowRefused, match="without the others"):
        widener(Form.TEXT, sent).frame(frame(body))


def test_what_is_no_row_of_such_a_table_is_left_alone() -> None:
    wide = widener(Form.TEXT)
    for payload in (encoder.truncate([OID], 0), b"I" + encoder.u32(OID + 1) + b"N" + row(cell(b"7"))):
        assert wide.frame(frame(payload)) == frame(payload)
    assert wide.concerns({OID})
    assert not wide.concerns({OID + 1})


@given(st.integers(0, 60))
def test_a_message_that_ends_too_soon_is_a_violation(cut: int) -> None:
    body = b"I" + encoder.u32(OID) + b"N" + row(cell(b"1234567890"), cell(b"some code of it"), cell(b"note"))
    whole = frame(body)
    short = whole[: HEADER + 6 + min(cut, len(body) - 7)]
    with pytest.raises(ProtocolViolation):
        widener(Form.TEXT).frame(short)


@pytest.mark.parametrize(
    ("columns", "fault"),
    [
        ((("tenant", 23, True), ("note", 1043, False)), Refused),
        ((("tenant", 20, True), ("code", 25, True), ("note", 1043, False)), PlanMismatch),
    ],
    ids=["gone", "another type"],
)
def test_E4_a_part_that_is_not_what_it_was(columns: tuple[tuple[str, int, bool], ...], fault: type[Exception]) -> None:
    with pytest.raises(fault):
        widener(Form.TEXT, dataclasses.replace(relation(*columns)))


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=2, max_size=4))
def test_different_values_are_different_texts(parts: list[str]) -> None:
    text = joined([part.encode() for part in parts])
    assert json.loads(text) == parts
    assert b"\0" not in text
