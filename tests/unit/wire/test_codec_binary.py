"""The same tuples in both forms make the same rows and keys: the codec's two ways held against each other."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.catalog import Column, ReplicaIdentity
from crossfade.faults import ProtocolViolation, RowRefused
from crossfade.mapping.plan import TablePlan
from crossfade.pgoutput.messages import UNCHANGED, Cell, Form, Relation, RelationColumn, TextCell
from crossfade.wire.codec import RowCodec
from crossfade.wire.idstate import IdState
from crossfade.wire.remarks import Remarks
from crossfade.wire.zones import Zone
from tests.unit.mapping.builders import compiled, name, reference, table, with_oids

ZONES = {"America/New_York": Zone.load("America/New_York")}
MAPPING = """
version: 1
schemas: {public: app}
ids:
  user: {from: public.users.id, to: uuid, strategy: uuid7}
  item: {from: public.items.code, to: bigint, strategy: offset, by: 1000}
tables:
  app.users:
    columns: {at: {timezone: America/New_York}, kind: {const: old}, rank: {const: 7}}
    drop: [pw]
"""
SOURCE = [
    with_oids(one)
    for one in (
        table("public.users", "id int", "boss int", "at timestamp", "name text", "pw money", "n smallint", pk="id",
              references=[reference("boss", "public.users")], identity=ReplicaIdentity.FULL),
        table("public.items", "code bigint", "tag uuid", pk="code"),
    )
]  # fmt: skip
TARGET = [
    with_oids(one)
    for one in (
        table("app.users", "id uuid", "boss uuid", "at timestamptz", "name varchar(80)", "n bigint", "kind text!",
              "rank int", pk="id"),
        table("app.items", "code int", "tag uuid", pk="code"),
    )
]  # fmt: skip
EPOCH = datetime(2000, 1, 1)  # noqa: DTZ001 - local times have no zone
WIDTHS = {"smallint": 2, "integer": 4, "bigint": 8}


def plan(of: str) -> TablePlan:
    made = compiled(MAPPING, SOURCE, TARGET)
    assert made.plan is not None, made.findings
    return made.plan.by_source()[name(f"public.{of}")][0]


def states() -> dict[str, IdState]:
    """New ids are made alike by everybody: from the old one."""
    made = compiled(MAPPING, SOURCE, TARGET)
    assert made.plan is not None
    of = made.plan.keyspaces
    return {
        "user": IdState(of["user"], lambda old: str(uuid.UUID(int=int(old) % 2**128)).encode()),
        "item": IdState(of["item"], lambda old: b"%d" % (int(old) + 1000)),
    }


def codec(of: str, form: Form) -> RowCodec:
    one = plan(of)
    columns = tuple(
        RelationColumn(each.name, each.type_oid, each.typmod, each.name in one.identity) for each in one.source_columns
    )
    identity = ReplicaIdentity.FULL if one.identity_is_full else ReplicaIdentity.DEFAULT
    return RowCodec(Relation(one.source_oid, one.source, identity, columns), one, states(), ZONES, form)


def sent(value: object, column: Column) -> Cell:
    """A value as its type's send function has it."""
    if value is None or value is UNCHANGED:
        return value  # type: ignore[return-value]
    if isinstance(value, int):
        return value.to_bytes(WIDTHS[column.base_type], "big", signed=True)
    if isinstance(value, datetime):
        return ((value - EPOCH) // timedelta(microseconds=1)).to_bytes(8, "big", signed=True)
    if isinstance(value, uuid.UUID):
        return value.bytes
    return str(value).encode()


def printed(value: object) -> Cell:
    return value if value is None or value is UNCHANGED else str(value).encode()  # type: ignore[return-value]


def meaning(cell: Cell, column: Column, form: Form) -> object:
    """What the target would make of a cell."""
    if not isinstance(cell, bytes):
        return cell
    kind = column.base_type
    if kind == "uuid":
        return uuid.UUID(bytes=cell) if form is Form.BINARY else uuid.UUID(cell.decode())
    if kind in WIDTHS:
        if form is Form.TEXT:
            return int(cell)
        assert len(cell) == WIDTHS[kind]
        return int.from_bytes(cell, "big", signed=True)
    if kind.startswith("timestamp"):
        if form is Form.TEXT:
            return datetime.fromisoformat(cell.decode())
        return EPOCH.replace(tzinfo=UTC) + timedelta(microseconds=int.from_bytes(cell, "big", signed=True))
    return cell.decode()


ids = st.integers(-(2**31), 2**31 - 1)
users = st.tuples(
    ids,
    st.none() | ids,
    st.none() | st.datetimes(datetime(1850, 1, 1), datetime(2200, 1, 1)),  # noqa: DTZ001
    st.none() | st.just(UNCHANGED) | st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))),
    st.just(TextCell(b"$1.00")),  # money has no place in a binary stream, but nobody uses this one
    st.none() | st.integers(-(2**15), 2**15 - 1),
)
WHICH = {column.name: column for column in plan("users").source_columns}


def both(row: tuple[object, ...], of: str = "users") -> dict[Form, tuple[Cell, ...]]:
    columns = plan(of).source_columns
    text = tuple(bytes(each) if isinstance(each, TextCell) else printed(each) for each in row)
    binary = tuple(
        each if isinstance(each, TextCell) else sent(each, column) for each, column in zip(row, columns, strict=True)
    )
    return {Form.TEXT: text, Form.BINARY: binary}


@given(users, st.none() | users)
def test_rows_mean_the_same_in_either_form(new: tuple[object, ...], old: tuple[object, ...] | None) -> None:
    rows, seen = [], []
    for form in Form:
        remarks = Remarks()
        one = codec("users", form)
        before = both(old)[form] if old is not None else None
        row = one.row(both(new)[form], before, remarks, is_update=old is not None)
        rows.append([meaning(cell, column.target, form) for cell, column in zip(row, one.plan.columns, strict=True)])
        seen.append((remarks.clock, set(remarks.orphans)))
    assert rows[0] == rows[1]
    assert seen[0] == seen[1], "the same remarks, and the same old ids as text"


@given(users, st.none() | users)
def test_keys_mean_the_same_in_either_form(old: tuple[object, ...], new: tuple[object, ...] | None) -> None:
    keys = []
    for form in Form:
        one = codec("users", form)
        wanted: dict[str, set[bytes]] = {"user": set(), "item": set()}
        after = both(new)[form] if new is not None else None
        one.ids_in(both(old)[form], wanted)
        if after is not None:
            one.ids_in(after, wanted)
        for known in sorted(wanted["user"]):
            one._ids["user"].learn(known, str(uuid.UUID(int=int(known) % 2**128)).encode())
        key = one.key_of_old(both(old)[form], after, Remarks())
        if after is not None:
            one.owner_moved(both(old)[form], after)
            keys.append(one.kept(both(old)[form], after))
        keys.append([meaning(cell, one.plan.columns[one.key_places[0]].target, form) for cell in key.cells])
    half = len(keys) // 2
    assert keys[:half] == keys[half:]


def test_an_id_that_its_column_cannot_hold_names_the_column() -> None:
    with pytest.raises(RowRefused) as refused:
        codec("items", Form.BINARY).row((sent(2**31, plan("items").source_columns[0]), None), None, Remarks())
    assert "public.items, column code" in str(refused.value)


def test_a_used_column_that_came_as_text_is_refused() -> None:
    """The server falls back to text for types without a send function: those are never on the list."""
    one = codec("users", Form.BINARY)
    row = both((1, None, None, "Ann", TextCell(b"$1"), None))[Form.BINARY]
    assert one.row(row, None, Remarks())
    for at in (0, 3, 5):
        with pytest.raises(ProtocolViolation, match="came as text"):
            one.row((*row[:at], TextCell(b"1"), *row[at + 1 :]), None, Remarks())
