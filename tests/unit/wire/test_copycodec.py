"""Rows of COPY TO as those of COPY FROM, in both forms: against values converted one by one."""

from __future__ import annotations

import contextlib
import re
from struct import pack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.faults import ProtocolViolation, RowRefused
from crossfade.pgoutput.messages import Form
from crossfade.wire.encode import UnknownId
from crossfade.wire.fields import copy_escape, copy_unescape
from crossfade.wire.idstate import IdState
from crossfade.wire.remarks import Remarks
from tests.unit.mapping.builders import compiled, table
from tests.unit.wire.conftest import Hot
from tests.unit.wire.test_encode import (
    ANN,
    PEOPLE,
    PLACES,
    RESULT,
    ZONES,
    Person,
    expected,
    new_id,
    plan,
    read_copy,
    sent,
    typed,
)

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"


def codec(hot: Hot, form: Form, *known: int) -> Any:
    assert RESULT.plan is not None
    state = IdState(RESULT.plan.keyspaces["user"], lambda old: old)
    for one in known:
        state.learn(b"%d" % one, str(new_id(one)).encode())
    return hot.copycodec.CopyCodec(plan(), form, {"user": state}, ZONES)


def copied(person: Person, form: Form) -> bytes:
    """The row as COPY TO sends it: all columns that are used, in the source's order."""
    cells = [cell for at, cell in enumerate(sent(person, form)) if at != 1]
    if form is Form.TEXT:
        return b"\t".join(copy_escape(cell) for cell in cells) + b"\n"  # type: ignore[arg-type]
    fields = b"".join(pack("!i", -1) if cell is None else pack("!i", len(cell)) + cell for cell in cells)  # type: ignore[arg-type]
    return pack("!h", len(cells)) + fields


@settings(deadline=None, max_examples=200)
@given(people=PEOPLE, form=st.sampled_from(Form))
def test_rows_are_what_converting_value_by_value_gives(hot: Hot, people: list[Person], form: Form) -> None:
    made = codec(hot, form, *[one for person in people for one in (person.id, person.boss) if one is not None])
    block = [copied(person, form) for person in people]
    rows = made.read(block)
    assert block == []
    olds: dict[str, list[bytes]] = {"user": []}
    made.ids_in(rows, olds)
    assert olds == {"user": [b"%d" % one for person in people for one in (person.id, person.boss) if one is not None]}
    data = made.convert(rows, Remarks())
    assert read_copy(data, form, len(PLACES)) == [expected(person, form) for person in people]


def test_the_header_comes_with_the_first_row_and_the_trailer_alone(hot: Hot) -> None:
    made = codec(hot, Form.BINARY, 1, 2)
    row = copied(ANN, Form.BINARY)
    assert len(made.read([HEADER + row, row, TRAILER])) == 2
    assert len(made.read([HEADER, row])) == 1
    assert len(made.read([HEADER + TRAILER])) == 0
    assert (made.header, made.trailer) == (HEADER, TRAILER)
    assert (codec(hot, Form.TEXT).header, codec(hot, Form.TEXT).trailer) == (b"", b"")


@settings(deadline=None)
@given(st.binary(max_size=30) | st.sampled_from([rb"\101\x41\x4g\N\q\08\400", rb"\x", rb"\t\n\b\f\v\r\\\0"]))
def test_F30_every_escape_that_COPY_reads_is_read(hot: Hot, field: bytes) -> None:
    field = re.sub(rb"[\t\n]", b"", field)
    one = typed(table("public.t", "a text", "b integer"))
    result = compiled("{version: 1, schemas: {public: app}, tables: {app.t: {append_only: true}}}", [one],
                      [typed(table("app.t", "b integer", "a text"))])  # fmt: skip
    assert result.plan is not None, result.findings
    made = hot.copycodec.CopyCodec(result.plan.tables[0], Form.TEXT, {}, {})
    try:
        value = copy_unescape(field)
    except ProtocolViolation:
        with pytest.raises(ProtocolViolation):
            made.read([field + b"\t7\n"])
        return
    target = made.convert(made.read([field + b"\t7\n"]), Remarks())
    places = [column.target.name for column in result.plan.tables[0].columns]
    fields = dict(zip(places, target[:-1].split(b"\t"), strict=True))
    assert fields["b"] == b"7"
    assert copy_unescape(fields["a"]) == value


@pytest.mark.parametrize("form", Form)
def test_every_strict_prefix_and_every_tail_is_a_violation(hot: Hot, form: Form) -> None:
    made = codec(hot, form, 1, 2)
    row = copied(ANN, form)
    for size in range(len(row)):
        with pytest.raises(ProtocolViolation):
            made.read([row[:size]])
    for tail in (b"x", b"\t\n", b"\0\0\0\0"):
        with pytest.raises(ProtocolViolation):
            made.read([row + tail])
    if form is Form.TEXT:
        for line in (row.replace(b"\t", b"", 1), b"\t" + row):
            with pytest.raises(ProtocolViolation):
                made.read([line])


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(Form), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=3))
def test_damaged_bytes_are_read_or_refused(hot: Hot, form: Form, damage: list[tuple[int, int]]) -> None:
    made = codec(hot, form, 1, 2)
    row = bytearray(copied(ANN, form))
    for at, byte in damage:
        row[at % len(row)] = byte
    with contextlib.suppress(ProtocolViolation, RowRefused, UnknownId):
        rows = made.read([bytes(row)])
        made.ids_in(rows, {"user": []})
        made.convert(rows, Remarks())


def test_a_violation_tells_no_value(hot: Hot) -> None:
    for form in Form:
        with pytest.raises(ProtocolViolation) as violation:
            codec(hot, form).read([copied(ANN, form)[:-1]])
        assert "public.users" in str(violation.value)
        assert "Ann" not in str(violation.value)


def test_a_header_with_an_extension_is_refused(hot: Hot) -> None:
    made = codec(hot, Form.BINARY)
    for header in (HEADER[:15] + b"\0\0\0\4" + b"oids", HEADER[:11] + b"\0\1\0\0" + bytes(4), HEADER[:12]):
        with pytest.raises(ProtocolViolation):
            made.read([header + TRAILER])


def test_F28_a_table_without_used_columns_has_rows_all_the_same(hot: Hot) -> None:
    mapping = """
    version: 1
    schemas: {public: app}
    tables: {app.t: {append_only: true, columns: {a: {const: x}}, drop: [b]}}
    """
    result = compiled(mapping, [typed(table("public.t", "b integer"))], [typed(table("app.t", "a text"))])
    assert result.plan is not None, result.findings
    of = result.plan.tables[0]
    text = hot.copycodec.CopyCodec(of, Form.TEXT, {}, {})
    assert text.convert(text.read([b"\n", b"\n"]), Remarks()) == b"x\nx\n"
    binary = hot.copycodec.CopyCodec(of, Form.BINARY, {}, {})
    assert binary.convert(binary.read([HEADER + b"\0\0", b"\0\0"]), Remarks()) == b"\0\1\0\0\0\1x" * 2
