"""The exact path's codec and the fast path's encoder make the same cells of the same tuples, whatever the rule."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Sequence
from struct import pack, unpack_from
from typing import Any

import pytest

from crossfade.catalog import Column, ReplicaIdentity, Table
from crossfade.faults import ProtocolViolation, RowRefused
from crossfade.mapping.plan import Plan
from crossfade.pgoutput.messages import UNCHANGED, Form, Relation, RelationColumn
from crossfade.wire.codec import RowCodec
from crossfade.wire.fields import copy_unescape
from crossfade.wire.idstate import IdState
from crossfade.wire.remarks import Remarks
from tests.unit.mapping.builders import compiled, table, with_oids
from tests.unit.pgoutput.encoder import TOAST
from tests.unit.wire.conftest import Hot
from tests.unit.wire.tuples import OID, Cell, insert, update

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


INNER = """
version: 1
schemas: {public: app}
ids:
  user: {from: public.users.id, to: uuid, strategy: uuid7}
  team: {from: public.teams.id, to: bigint, strategy: offset, by: 1000}
tables:
  app.t:
    columns:
      users: {remap: user}
      teams: {from: team_ids, remap: team}
      doc: {remap: [{ids: user, path: [$.owner, "$.all[*]"]}, {ids: team, path: $.team}]}
      who: {from: who_id, remap: {by: who_type, of: {User: user, Team: team}, otherwise: keep}}
      strict: {from: who_id, remap: {by: who_type, of: {User: user}}}
      lax: {from: who_id, remap: {by: who_type, of: {Team: team, User: team}, otherwise: null}}
"""
INNER_SOURCE = table("public.t", "id int", "users int[]", "team_ids int8[]", "doc jsonb", "who_type text", "who_id int",
                     pk="id")  # fmt: skip
INNER_TARGET = table("app.t", "id int", "users uuid[]", "teams int8[]", "doc jsonb", "who text", "strict uuid",
                     "lax int8", pk="id")  # fmt: skip
OWNERS = [
    (table("public.users", "id int", pk="id"), table("app.users", "id uuid", pk="id")),
    (table("public.teams", "id int8", pk="id"), table("app.teams", "id int8", pk="id")),
]


def inner(hot: Hot, form: Form) -> Both:
    source = dataclasses.replace(INNER_SOURCE, columns=INNER_SOURCE.columns)
    plan = planned(INNER, source, INNER_TARGET, *OWNERS)
    plan = dataclasses.replace(plan, tables=tuple(one for one in plan.tables if one.target.name == "t"))
    ids = {name: IdState(keyspace, lambda old: old) for name, keyspace in plan.keyspaces.items()}
    for number in range(10):
        ids["user"].learn(b"%d" % number, str(new_uuid(number)).encode())
        ids["team"].learn(b"%d" % number, b"%d" % (number + 1000))
    return Both(hot, plan, form, ids)


def new_uuid(number: int) -> uuid.UUID:
    return uuid.UUID(int=number + 16**31)


def array_of(oid: int, elements: Sequence[bytes | None], *, bounds: bytes = b"") -> bytes:
    """One dimension, in binary."""
    data = pack("!iiI", 1, int(None in elements), oid) + (bounds or pack("!ii", len(elements), 1))
    return data + b"".join(pack("!i", -1) if one is None else pack("!i", len(one)) + one for one in elements)


def inner_cells(form: Form, who: str | None, number: int = 3) -> list[Cell]:
    document = b'{"all": [1, "2", null], "team": 4, "owner": "5", "n": 1.50}'
    kind = None if who is None else who.encode()
    if form is Form.TEXT:
        return [b"7", b"{1,NULL,2}", b"[0:1]={3,4}", document, kind, b"%d" % number]
    teams = array_of(20, [pack("!q", 3), pack("!q", 4)], bounds=pack("!ii", 2, 0))
    users = array_of(23, [pack("!i", 1), None, pack("!i", 2)])
    return [pack("!i", 7), users, teams, b"\1" + document, kind, pack("!i", number)]


def inner_row(form: Form, who: bytes | None, strict: uuid.UUID | None, lax: int | None) -> list[bytes | None]:
    one, two, five = (new_uuid(number) for number in (1, 2, 5))
    document = f'{{"all": ["{one}", "{two}", null], "team": 1004, "owner": "{five}", "n": 1.50}}'.encode()
    if form is Form.TEXT:
        uuids = f"{{{one},NULL,{two}}}".encode()
        shown = None if strict is None else str(strict).encode()
        return [b"7", uuids, b"[0:1]={1003,1004}", document, who, shown, None if lax is None else b"%d" % lax]
    users = array_of(2950, [one.bytes, None, two.bytes])
    teams = array_of(20, [pack("!q", 1003), pack("!q", 1004)], bounds=pack("!ii", 2, 0))
    packed = None if lax is None else pack("!q", lax)
    return [pack("!i", 7), users, teams, b"\1" + document, who, None if strict is None else strict.bytes, packed]


class OneByOne(Both):
    """Arrays cannot be elements of arrays in binary: only the rest is compared so."""

    def cells(self, *row: Cell) -> list[Cell]:
        exact = self.codec.row(tuple(row), None, Remarks())  # type: ignore[arg-type]
        rows = self.rows([insert(row, self.form)])
        assert self.copied(self.encoder.copy_data(rows, 0, 1, Remarks())) == exact
        places = range(self.width) if self.form is Form.TEXT else [0, *range(3, self.width)]
        arrays = self.encoder.arrays(rows, places, Remarks())
        assert [self.element(one) for one in arrays] == [exact[place] for place in places]
        return exact  # type: ignore[return-value]


@pytest.mark.parametrize("form", FORMS)
def test_ids_inside_values(hot: Hot, form: Form) -> None:
    both = inner(hot, form)
    both.__class__ = OneByOne
    user, team = str(new_uuid(3)).encode(), b"1003"
    assert both.cells(*inner_cells(form, "User")) == inner_row(form, user, new_uuid(3), 1003)
    assert "column strict" in both.refused(*inner_cells(form, "Team"))
    assert "column strict" in both.refused(*inner_cells(form, "Other"))
    assert "column strict" in both.refused(*inner_cells(form, None))
    nothing: list[Cell] = [inner_cells(form, None)[0], None, None, None, None, None]
    assert both.cells(*nothing) == [nothing[0], *[None] * 6]
    assert team not in user


@pytest.mark.parametrize("form", FORMS)
def test_which_ids_are_looked_up(hot: Hot, form: Form) -> None:
    """The same by both, of whole rows; what is no id is told when the row is written."""
    both = inner(hot, form)
    cells = inner_cells(form, "Team", 9)
    exact: dict[str, set[bytes]] = {"user": set(), "team": set()}
    fast: dict[str, list[bytes]] = {"user": [], "team": []}
    both.codec.ids_in(tuple(cells), exact)  # type: ignore[arg-type]
    both.encoder.old_ids(both.rows([insert(cells, form)]), {}, fast)
    assert {name: set(olds) for name, olds in fast.items()} == exact
    assert exact == {"user": {b"1", b"2", b"5"}, "team": {b"3", b"4", b"9"}}
    cells[3] = (b"" if form is Form.TEXT else b"\1") + b'{"owner": true}'
    both.encoder.old_ids(both.rows([insert(cells, form)]), {}, fast)
    assert "column doc" in both.refused(*cells)


@pytest.mark.parametrize("form", FORMS)
def test_an_id_that_no_map_knows(hot: Hot, form: Form) -> None:
    both = inner(hot, form)
    cells = inner_cells(form, "User", 77)
    with pytest.raises(hot.encode.UnknownId):
        both.encoder.copy_data(both.rows([insert(cells, form)]), 0, 1, Remarks())


def test_a_binary_array_that_was_cut(hot: Hot) -> None:
    both = inner(hot, Form.BINARY)
    cells = inner_cells(Form.BINARY, "User")
    whole = cells[1]
    assert isinstance(whole, bytes)
    for stop in (0, 11, 19, 22, len(whole) - 1):
        cells[1] = whole[:stop]
        with pytest.raises(ProtocolViolation):
            both.encoder.copy_data(both.rows([insert(cells, Form.BINARY)]), 0, 1, Remarks())


PAIR = """
version: 1
schemas: {public: app}
ids: {user: {from: public.users.id, to: uuid, strategy: uuid7}}
tables:
  app.t: {columns: {who: {from: who_id, remap: {by: who_type, of: {User: user}, otherwise: keep}}}}
"""


def pair(identity: ReplicaIdentity) -> tuple[Plan, dict[str, IdState], Relation]:
    source = table("public.t", "id int", "who_type text", "who_id int", pk="id", identity=identity)
    target = table("app.t", "id int", "who text", pk="id")
    plan = planned(PAIR, source, target, OWNERS[0])
    plan = dataclasses.replace(plan, tables=tuple(one for one in plan.tables if one.target.name == "t"))
    ids = {"user": IdState(plan.keyspaces["user"], lambda old: old)}
    ids["user"].learn(b"3", b"new")
    columns = tuple(
        RelationColumn(one.name, one.type_oid, -1, one.name == "id") for one in plan.tables[0].source_columns
    )
    return plan, ids, Relation(OID, plan.tables[0].source, identity, columns)


def folded(hot: Hot, *frames: bytes, identity: ReplicaIdentity = ReplicaIdentity.DEFAULT) -> Any:
    plan, _, relation = pair(identity)
    made = hot.fold.TableFold(relation, plan.tables[0], Form.TEXT)
    hot.fold.fold(list(frames), {OID: made})
    return made


def test_an_id_whose_type_was_not_sent_is_for_the_exact_path(hot: Hot) -> None:
    """A type so long that it is stored out of line: who the id is of can only be said where the type is known."""
    for cells in ([b"1", TOAST, b"3"], [b"1", b"User", TOAST]):
        assert folded(hot, update(cells)).refused == hot.fold.CONFLICT
    known = folded(hot, insert([b"1", b"User", None]), update([b"1", TOAST, b"3"]))
    assert known.refused == ""
    neither = folded(hot, update([b"1", TOAST, TOAST]))
    assert neither.refused == ""
    ((unsent, _),) = neither.rows().updates
    assert unsent == {1}
    whole = folded(hot, update([b"1", TOAST, b"3"], [b"1", b"User", b"2"], b"O"), identity=ReplicaIdentity.FULL)
    assert whole.refused == ""


def test_the_exact_path_takes_the_type_from_a_whole_old_row_or_stops() -> None:
    plan, ids, relation = pair(ReplicaIdentity.FULL)
    codec = RowCodec(relation, plan.tables[0], ids, {})
    new = (b"1", UNCHANGED, b"3")
    assert codec.row(new, (b"1", b"User", b"2"), Remarks()) == [b"1", b"new"]
    assert codec.row((b"1", UNCHANGED, UNCHANGED), None, Remarks()) == [b"1", UNCHANGED]
    for undecided in (new, (b"1", b"User", UNCHANGED)):
        with pytest.raises(RowRefused, match="without the type that says whose it is"):
            codec.row(undecided, None, Remarks())


def test_a_reference_that_an_update_left_alone_is_kept() -> None:
    """Only if its type stayed as well."""
    plan, ids, relation = pair(ReplicaIdentity.FULL)
    codec = RowCodec(relation, plan.tables[0], ids, {})
    assert codec.kept((b"1", b"User", b"3"), (b"1", b"User", b"3")) == {1}
    assert codec.kept((b"1", b"User", b"3"), (b"1", b"User", b"4")) == set()
    assert codec.kept((b"1", b"User", b"3"), (b"1", b"Team", b"3")) == set()
