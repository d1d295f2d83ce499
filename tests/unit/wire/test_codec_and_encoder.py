"""The exact path's codec and the fast path's encoder make the same cells of the same tuples, whatever the rule."""

from __future__ import annotations

import dataclasses
from struct import unpack_from

import pytest

from crossfade.catalog import Column, ReplicaIdentity, Table
from crossfade.faults import RowRefused
from crossfade.mapping.plan import Plan
from crossfade.pgoutput.messages import Form, Relation, RelationColumn
from crossfade.wire.codec import RowCodec
from crossfade.wire.fields import copy_unescape
from crossfade.wire.idstate import IdState
from crossfade.wire.remarks import Remarks
from tests.unit.mapping.builders import compiled, table, with_oids
from tests.unit.wire.conftest import Hot
from tests.unit.wire.tuples import OID, Cell, insert

FORMS = [Form.TEXT, Form.BINARY]


def labelled(one: Table) -> Table:
    def each(column: Column) -> Column:
        return (
            dataclasses.replace(column, type_oid=90_000, labels=("free", "pro")) if column.type_kind == "e" else column
        )

    made = with_oids(one)
    return dataclasses.replace(made, columns=tuple(each(column) for column in made.columns))


def planned(mapping: str, source: Table, target: Table, *others: tuple[Table, Table]) -> Plan:
    pairs = [(source, target), *others]
    result = compiled(mapping, [labelled(one) for one, _ in pairs], [labelled(one) for _, one in pairs])
    assert result.plan is not None, result.findings
    return result.plan


class Both:
    """The first table of a plan, by both."""

    def __init__(self, hot: Hot, plan: Plan, form: Form, ids: dict[str, IdState] | None = None) -> None:
        table = plan.tables[0]
        columns = tuple(
            RelationColumn(one.name, one.type_oid, one.typmod, one.name in table.identity)
            for one in table.source_columns
        )
        relation = Relation(OID, table.source, ReplicaIdentity.DEFAULT, columns)
        self.hot, self.form, self.width = hot, form, len(table.columns)
        self.codec = RowCodec(relation, table, ids or {}, {}, form)
        self.encoder = hot.encode.Encoder(relation, table, form, ids or {}, {})

    def rows(self, frames: list[bytes]) -> object:
        return self.hot.fold.Rows(frames, [31] * len(frames))

    def cells(self, *row: Cell) -> list[Cell]:
        """The target row, by both; also as arrays of one element."""
        exact = self.codec.row(tuple(row), None, Remarks())  # type: ignore[arg-type]
        rows = self.rows([insert(row, self.form)])
        assert self.copied(self.encoder.copy_data(rows, 0, 1, Remarks())) == exact
        arrays = self.encoder.arrays(rows, range(self.width), Remarks())
        assert [self.element(one) for one in arrays] == exact
        return exact  # type: ignore[return-value]

    def copied(self, data: bytes) -> list[bytes | None]:
        if self.form is Form.TEXT:
            return [copy_unescape(field) for field in data[:-1].split(b"\t")]
        found: list[bytes | None] = []
        at = 2
        while at < len(data):
            (length,) = unpack_from("!i", data, at)
            at += 4
            found.append(None if length < 0 else data[at : at + length])
            at += max(0, length)
        return found

    def element(self, data: bytes) -> bytes | None:
        if self.form is Form.TEXT:
            if data == b"{NULL}":
                return None
            assert data[:2] == b'{"'
            return data[2:-2].replace(b'\\"', b'"').replace(b"\\\\", b"\\")
        _, has_null, _, _, _, length = unpack_from("!6i", data, 0)
        assert has_null == (length < 0)
        return None if length < 0 else data[24:]

    def refused(self, *row: Cell) -> str:
        """What both say of a row that the rule has no answer for."""
        with pytest.raises(RowRefused) as exact:
            self.codec.row(tuple(row), None, Remarks())  # type: ignore[arg-type]
        with pytest.raises(RowRefused) as fast:
            self.encoder.copy_data(self.rows([insert(row, self.form)]), 0, 1, Remarks())
        assert str(fast.value) == str(exact.value)
        return str(exact.value)


MAPPING = """
version: 1
schemas: {public: app}
tables:
  app.t:
    columns:
      plan: {from: code, values: {1: free, 2: pro, 3: null}, otherwise: null}
      quoted: {from: code, values: {1: 'a "b" \\c', 2: NULL}, otherwise: {const: "tab\\there"}}
      strict: {from: code, values: {1: x, 2: y, 3: z, 4: w}}
      cut: {from: name, cast: lossy}
"""
SOURCE = table("public.t", "id int", "code int", "on_off smallint", "done boolean", "word boolean", "at timestamp",
               "name text", pk="id")  # fmt: skip
TARGET = table("app.t", "id int", "plan <e>app.plan", "quoted text", "strict text", "on_off boolean", "done bigint",
               "word text", "at date", "cut varchar(2)", pk="id")  # fmt: skip


def values(form: Form, key: int, code: int | None, on_off: int) -> list[Cell]:
    if form is Form.TEXT:
        shown: list[Cell] = [b"%d" % key, None if code is None else b"%d" % code, b"%d" % on_off, b"t", b"f"]
        return [*shown, b"2024-02-29 00:00:00", "äöü".encode()]
    sent: list[Cell] = [key.to_bytes(4, "big"), None if code is None else code.to_bytes(4, "big")]
    at = (8825 * 86_400_000_000).to_bytes(8, "big")
    return [*sent, on_off.to_bytes(2, "big"), b"\1", b"\0", at, "äöü".encode()]


@pytest.mark.parametrize("form", FORMS)
def test_value_maps_and_conversions(hot: Hot, form: Form) -> None:
    both = Both(hot, planned(MAPPING, SOURCE, TARGET), form)
    is_text = form is Form.TEXT
    tail = [b"t", b"1", b"false", b"2024-02-29"] if is_text else [
        b"\1", (1).to_bytes(8, "big"), b"false", (8825).to_bytes(4, "big")
    ]  # fmt: skip
    tail += ["äö".encode()]

    def expected(key: int, *mapped: bytes | None) -> list[bytes | None]:
        return [b"%d" % key if is_text else key.to_bytes(4, "big"), *mapped, *tail]

    cells = both.cells(*values(form, 7, 1, 1))
    assert cells == expected(7, b"free", b'a "b" \\c', b"x")
    assert both.cells(*values(form, 7, 2, 1)) == expected(7, b"pro", None, b"y")
    assert both.cells(*values(form, 7, 3, 1)) == expected(7, None, b"tab\there", b"z")
    assert both.cells(*values(form, 7, 4, 1)) == expected(7, None, b"tab\there", b"w")
    assert both.cells(*values(form, 7, None, 1)) == expected(7, None, None, None)


@pytest.mark.parametrize("form", FORMS)
def test_what_has_no_answer(hot: Hot, form: Form) -> None:
    both = Both(hot, planned(MAPPING, SOURCE, TARGET), form)
    assert "public.t, column strict" in both.refused(*values(form, 7, 4711, 1))
    assert "4711" not in both.refused(*values(form, 7, 4711, 1))
    assert "column on_off" in both.refused(*values(form, 7, 1, 2))
