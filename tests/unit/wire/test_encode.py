"""Rows as COPY data and arrays, in both forms: against values converted one by one, and read back field by field."""

from __future__ import annotations

import dataclasses
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from struct import pack, unpack_from
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.catalog import ReplicaIdentity, Table
from crossfade.faults import ProtocolViolation, RowRefused
from crossfade.mapping.plan import Ambiguous, Nonexistent, TablePlan
from crossfade.pgoutput.messages import Form, Relation, RelationColumn
from crossfade.wire.fields import copy_unescape, timestamp_to_utc
from crossfade.wire.form import BUILT_IN
from crossfade.wire.idstate import IdState
from crossfade.wire.remarks import Remarks
from crossfade.wire.zones import Zone
from tests.unit.mapping.builders import compiled, name, reference, table
from tests.unit.pgoutput.encoder import TOAST
from tests.unit.wire.conftest import Hot
from tests.unit.wire.tuples import OID, Cell, delete, insert, update

NEW_YORK: Final = "America/New_York"
ZONES = {NEW_YORK: Zone.load(NEW_YORK)}
MAPPING = """
version: 1
schemas: {public: app}
ids: {user: {from: public.users.id, to: uuid, strategy: uuid7}}
tables:
  app.users:
    columns:
      full_name: name
      at: {timezone: America/New_York}
      kind: {const: 'a "quoted" \\ one'}
      gone: {const: null}
    drop: [pw]
"""


def typed(one: Table) -> Table:
    """With the types' own OIDs, by which binary is decided."""
    columns = tuple(dataclasses.replace(each, type_oid=BUILT_IN[each.base_type][0]) for each in one.columns)
    return dataclasses.replace(one, columns=columns)


SOURCE = typed(
    table("public.users", "name text", "pw text", "id bigint", "boss int", "small smallint", "at timestamp",
          "mark uuid", "code int", pk="id", references=[reference("boss", "public.users")])
)  # fmt: skip
TARGET = typed(
    table("app.users", "id uuid", "full_name varchar(200)", "kind text!", "gone date", "boss uuid", "small bigint",
          "at timestamptz", "mark uuid", "code int", pk="id")
)  # fmt: skip
RESULT = compiled(MAPPING, [SOURCE], [TARGET])
PLACES = ("id", "full_name", "kind", "gone", "boss", "small", "at", "mark", "code")
CONST: Final = r'a "quoted" \ one'


def plan() -> TablePlan:
    assert RESULT.plan is not None, RESULT.findings
    made = RESULT.plan.by_source()[name("public.users")][0]
    assert tuple(column.target.name for column in made.columns) == PLACES
    return made


def relation(of: TablePlan) -> Relation:
    columns = tuple(
        RelationColumn(one.name, one.type_oid, one.typmod, one.name in of.identity) for one in of.source_columns
    )
    return Relation(OID, of.source, ReplicaIdentity.DEFAULT, columns)


def new_id(old: int) -> uuid.UUID:
    return uuid.UUID(int=(old % 2**64) << 40 | 7 << 76)


def encoder(hot: Hot, form: Form, *known: int) -> Any:
    assert RESULT.plan is not None
    state = IdState(RESULT.plan.keyspaces["user"], lambda old: old)
    for one in known:
        state.learn(b"%d" % one, str(new_id(one)).encode())
    return hot.encode.Encoder(relation(plan()), plan(), form, {"user": state}, ZONES)


@dataclasses.dataclass(frozen=True)
class Person:
    """A source row as values; `at` counts microseconds since 2000-01-01, local."""

    id: int
    name: str | None
    boss: int | None
    small: int | None
    at: int | None
    mark: uuid.UUID | None
    code: int | None


EPOCH = datetime(2000, 1, 1)  # noqa: DTZ001  # local times have no zone: that is what is being tested
ZONE = ZoneInfo(NEW_YORK)


def printed(at: int) -> str:
    moment = EPOCH + timedelta(microseconds=at)
    shown = moment.strftime("%Y-%m-%d %H:%M:%S")
    return f"{shown}.{moment.microsecond:06d}".rstrip("0") if moment.microsecond else shown


def to_utc(at: int) -> int:
    """By Python's own zoneinfo, with the later of two moments, as PostgreSQL has it."""
    local = (EPOCH + timedelta(microseconds=at)).replace(tzinfo=ZONE, fold=0)
    later = local.replace(fold=1)
    offset = later.utcoffset() if later.utcoffset() < local.utcoffset() else local.utcoffset()  # type: ignore[operator]
    assert offset is not None
    return at - int(offset.total_seconds()) * 1_000_000


def sent(row: Person, form: Form) -> list[Cell]:
    def both(value: Any, text: str | None, binary: bytes) -> bytes | None:
        if value is None:
            return None
        return binary if form is Form.BINARY else str(value if text is None else text).encode()

    return [
        both(row.name, None, (row.name or "").encode()),
        b"secret",
        both(row.id, None, pack("!q", row.id)),
        both(row.boss, None, pack("!i", row.boss or 0)),
        both(row.small, None, pack("!h", row.small or 0)),
        both(row.at, printed(row.at or 0), pack("!q", row.at or 0)),
        both(row.mark, None, row.mark.bytes if row.mark else b""),
        both(row.code, None, pack("!i", row.code or 0)),
    ]


def expected(row: Person, form: Form) -> list[bytes | None]:
    """The target row, value by value, in the order of PLACES."""
    is_binary = form is Form.BINARY

    def identity(old: int | None) -> bytes | None:
        return None if old is None else new_id(old).bytes if is_binary else str(new_id(old)).encode()

    def number(value: int | None, size: str) -> bytes | None:
        return None if value is None else pack(size, value) if is_binary else b"%d" % value

    at: bytes | None = None
    if row.at is not None:
        at = pack("!q", to_utc(row.at)) if is_binary else printed(to_utc(row.at)).encode() + b"+00"
    mark: bytes | None = None
    if row.mark is not None:
        mark = row.mark.bytes if is_binary else str(row.mark).encode()
    return [
        identity(row.id),
        None if row.name is None else row.name.encode(),
        CONST.encode(),
        None,
        identity(row.boss),
        number(row.small, "!q"),
        at,
        mark,
        number(row.code, "!i"),
    ]


def rows_of(hot: Hot, frames: Sequence[bytes], at: int = 31) -> Any:
    return hot.fold.Rows(list(frames), [at] * len(frames))


def read_copy(data: bytes, form: Form, columns: int) -> list[list[bytes | None]]:
    """The rows of COPY data, without header and trailer."""
    if form is Form.TEXT:
        assert data.endswith(b"\n") or not data
        return (
            [[copy_unescape(field) for field in line.split(b"\t")] for line in data[:-1].split(b"\n")] if data else []
        )
    found: list[list[bytes | None]] = []
    at = 0
    while at < len(data):
        assert unpack_from("!h", data, at) == (columns,)
        at += 2
        row: list[bytes | None] = []
        for _ in range(columns):
            (length,) = unpack_from("!i", data, at)
            at += 4
            row.append(None if length < 0 else data[at : at + length])
            at += max(length, 0)
        found.append(row)
    assert at == len(data)
    return found


def read_array(data: bytes, form: Form, oid: int) -> list[bytes | None]:
    """The elements of an array of one dimension, in binary or as text."""
    found: list[bytes | None] = []
    if form is Form.BINARY:
        dimensions, has_null, element = unpack_from("!iiI", data)
        assert element == oid
        if dimensions == 0:
            assert (len(data), has_null) == (12, 0)
            return []
        count, lower = unpack_from("!ii", data, 12)
        assert (dimensions, lower) == (1, 1)
        at = 20
        for _ in range(count):
            (length,) = unpack_from("!i", data, at)
            at += 4
            found.append(None if length < 0 else data[at : at + length])
            at += max(length, 0)
        assert at == len(data)
        assert has_null == int(None in found)
        return found
    assert data[:1] == b"{"
    assert data[-1:] == b"}"
    at = 1
    while at < len(data) - 1:
        if data[at : at + 4] == b"NULL":
            found.append(None)
            at += 4
        else:
            assert data[at : at + 1] == b'"'
            value = b""
            at += 1
            while data[at : at + 1] != b'"':
                at += data[at : at + 1] == b"\\"
                value += data[at : at + 1]
                at += 1
            found.append(value)
            at += 1
        assert data[at : at + 1] in (b",", b"}")
        at += 1
    return found


TEXTS = st.text(st.sampled_from("ab\t\n\r\b\v\f\\.\"{},N 'é😀")).filter(lambda text: "\0" not in text)
PEOPLE = st.lists(
    st.builds(
        Person,
        id=st.integers(-(2**63), 2**63 - 1).filter(lambda one: one != 13),
        name=st.none() | TEXTS,
        boss=st.none() | st.integers(14, 2**31 - 1),
        small=st.none() | st.integers(-(2**15), 2**15 - 1),
        at=st.none()
        | st.integers(-30 * 365 * 86_400 * 10**6, 37 * 365 * 86_400 * 10**6).filter(
            # Where Python takes the other side of a gap: the zone's own tests are about that.
            lambda at: (EPOCH + timedelta(microseconds=at)).month not in (3, 4, 10, 11)
        ),
        mark=st.none() | st.uuids(),
        code=st.none() | st.integers(-(2**31), 2**31 - 1),
    ),
    max_size=6,
)


@settings(deadline=None, max_examples=200)
@given(people=PEOPLE, form=st.sampled_from(Form))
def test_F30_rows_are_what_converting_value_by_value_gives(hot: Hot, people: list[Person], form: Form) -> None:
    known = [one for person in people for one in (person.id, person.boss) if one is not None]
    made = encoder(hot, form, *known)
    rows = rows_of(hot, [insert(sent(person, form), form) for person in people])
    remarks = Remarks()
    wanted = [expected(person, form) for person in people]
    assert read_copy(made.copy_data(rows, 0, len(people), remarks), form, len(PLACES)) == wanted
    assert remarks.ids_known == sum(1 + (person.boss is not None) for person in people)
    assert not remarks.clock
    assert read_copy(made.copy_data(rows, min(1, len(people)), len(people), remarks), form, len(PLACES)) == wanted[1:]
    columns = made.arrays(rows, range(len(PLACES)), Remarks())
    read = [
        read_array(data, form, column.target.type_oid) for data, column in zip(columns, plan().columns, strict=True)
    ]
    assert read == [[row[place] for row in wanted] for place in range(len(PLACES))]
    assert made.arrays(rows, [6, 0], Remarks()) == [columns[6], columns[0]]


def test_header_and_trailer_make_a_file(hot: Hot) -> None:
    binary, text = encoder(hot, Form.BINARY), encoder(hot, Form.TEXT)
    assert binary.header == b"PGCOPY\n\xff\r\n\x00\0\0\0\0\0\0\0\0"
    assert binary.trailer == b"\xff\xff"
    assert (text.header, text.trailer) == (b"", b"")


ANN = Person(id=1, name="Ann", boss=2, small=3, at=0, mark=None, code=4)


@pytest.mark.parametrize("form", Form)
def test_old_ids_are_sorted_by_who_they_belong_to(hot: Hot, form: Form) -> None:
    made = encoder(hot, form)
    others = [ANN, dataclasses.replace(ANN, id=-5, boss=None)]
    owned: dict[str, list[bytes]] = {"user": []}
    referred: dict[str, list[bytes]] = {"user": []}
    made.old_ids(rows_of(hot, [insert(sent(one, form), form) for one in others]), owned, referred)
    assert (owned, referred) == ({"user": [b"1", b"-5"]}, {"user": [b"2"]})


@pytest.mark.parametrize("form", Form)
def test_D3_old_ids_of_a_key_are_those_of_the_identity(hot: Hot, form: Form) -> None:
    made = encoder(hot, form)
    owned: dict[str, list[bytes]] = {"user": []}
    referred: dict[str, list[bytes]] = {"user": []}
    key = delete(sent(ANN, form), b"O", form)
    made.old_ids(rows_of(hot, [key]), owned, referred, keys_only=True)
    assert (owned, referred) == ({"user": [b"1"]}, {"user": []})


def test_ids_of_every_kind_are_spelled_as_the_map_is_keyed(hot: Hot) -> None:
    mapping = """
    version: 1
    schemas: {public: app}
    ids: {one: {from: public.marks.id, to: KIND, strategy: uuid4}}
    """
    mark = uuid.UUID("0A0b0c0d-0000-4000-8000-00000000ffee")
    for kind, value, old in (
        ("uuid", mark.bytes, b"0a0b0c0d-0000-4000-8000-00000000ffee"),
        ("text", b"Key 1", b"Key 1"),
        ("smallint", b"\xff\xfe", b"-2"),
        ("bigint", b"\x80" + bytes(7), b"-9223372036854775808"),
    ):
        source, target = (
            typed(table("public.marks", f"id {kind}", pk="id")),
            typed(table("app.marks", "id uuid", pk="id")),
        )
        result = compiled(mapping.replace("KIND", "uuid"), [source], [target])
        assert result.plan is not None, result.findings
        of = result.plan.tables[0]
        state = IdState(result.plan.keyspaces["one"], lambda old: old)
        state.learn(old, str(mark).encode())
        made = hot.encode.Encoder(relation(of), of, Form.BINARY, {"one": state}, {})
        rows = rows_of(hot, [insert([value], Form.BINARY)])
        owned: dict[str, list[bytes]] = {"one": []}
        made.old_ids(rows, owned, {})
        assert owned == {"one": [old]}
        assert made.copy_data(rows, 0, 1, Remarks()) == b"\0\1\0\0\0\x10" + mark.bytes


@pytest.mark.parametrize("form", Form)
def test_an_id_no_map_knows_stops_the_batch(hot: Hot, form: Form) -> None:
    made = encoder(hot, form, 1)
    rows = rows_of(hot, [insert(sent(ANN, form), form)])
    with pytest.raises(hot.encode.UnknownId):
        made.copy_data(rows, 0, 1, Remarks())
    with pytest.raises(hot.encode.UnknownId):
        made.arrays(rows, [4], Remarks())
    made.arrays(rows, [0], Remarks())


def test_an_id_that_is_no_value_of_its_column_is_refused_without_telling_it(hot: Hot) -> None:
    state = IdState(RESULT.plan.keyspaces["user"], lambda old: old)  # type: ignore[union-attr]
    state.learn(b"1", b"no-uuid")
    made = hot.encode.Encoder(relation(plan()), plan(), Form.BINARY, {"user": state}, ZONES)
    with pytest.raises(RowRefused) as refused:
        made.copy_data(rows_of(hot, [insert(sent(ANN, Form.BINARY), Form.BINARY)]), 0, 1, Remarks())
    assert "column id" in str(refused.value)
    assert "no-uuid" not in str(refused.value)


def at_local(moment: str) -> int:
    return int((datetime.fromisoformat(moment) - EPOCH).total_seconds()) * 1_000_000


@pytest.mark.parametrize("form", Form)
def test_F19_gaps_and_overlaps_are_counted(hot: Hot, form: Form) -> None:
    moments = [
        ("2018-11-04 00:59:59", "2018-11-04 04:59:59", ""),
        ("2018-11-04 01:30:00", "2018-11-04 06:30:00", "overlap"),
        ("2018-03-11 02:30:00", "2018-03-11 07:30:00", "gap"),
        ("2018-03-11 03:00:00", "2018-03-11 07:00:00", ""),
        ("2018-11-04 02:00:00", "2018-11-04 07:00:00", ""),
        ("2018-11-04 01:59:59", "2018-11-04 06:59:59", "overlap"),
    ]
    made, remarks = encoder(hot, form, 1, 2), Remarks()
    frames = [insert(sent(dataclasses.replace(ANN, at=at_local(local)), form), form) for local, _, _ in moments]
    [read] = [read_array(made.arrays(rows_of(hot, frames), [6], remarks)[0], form, 1184)]
    assert read == [
        pack("!q", at_local(utc)) if form is Form.BINARY else utc.encode() + b"+00" for _, utc, _ in moments
    ]
    assert remarks.clock == Counter(note for _, _, note in moments if note)


STAMPS = st.builds(
    lambda moment, fraction, era: moment.strftime("%m-%d %H:%M:%S").join((f"{moment.year:04d}-", fraction + era)),
    st.datetimes(),
    st.sampled_from(["", ".5", ".000001", ".999999", ".120000", ".1234567", "."]),
    st.sampled_from(["", "", "", " BC", " "]),
)
BROKEN = st.sampled_from(
    ["infinity", "-infinity", "", "2020-01-01", "10000-01-01 00:00:00", "2019-02-29 00:00:00", "1900-02-29 00:00:00",
     "2000-02-29 00:00:00", "2020-13-01 00:00:00", "2020-04-31 00:00:00", "2020-01-01 24:00:00", "2020-01-01 00:00:60",
     "2020-01-01T00:00:00", "0000-01-01 00:00:00", "2020-1-01 00:00:000", "2020-01-01 00:00:0a", "2020-01-0/ 00:00:00",
     "0001-01-01 00:00:00", "9999-12-31 23:59:59.999999", "294276-12-31 23:59:59.999999"]
)  # fmt: skip


@settings(deadline=None, max_examples=500)
@given(st.lists(STAMPS | BROKEN, min_size=1, max_size=4))
def test_F6_F19_local_times_in_text_are_what_converting_one_by_one_gives(hot: Hot, stamps: list[str]) -> None:
    made = encoder(hot, Form.TEXT, 1, 2)
    for stamp in ["2000-03-01 12:00:00", *stamps]:  # the first one's stretch is known to the others
        cells = sent(ANN, Form.TEXT)
        cells[5] = stamp.encode()
        remarks = Remarks()
        try:
            value, note = timestamp_to_utc(stamp.encode(), ZONES[NEW_YORK], Ambiguous.LATER, Nonexistent.SHIFT)
        except RowRefused:
            with pytest.raises(RowRefused):
                made.arrays(rows_of(hot, [insert(cells)]), [6], remarks)
        else:
            assert made.arrays(rows_of(hot, [insert(cells)]), [6], remarks) == [b'{"' + value + b'"}']
            assert sum(remarks.clock.values()) == bool(note)


def test_F6_infinite_times_pass_and_impossible_ones_are_refused(hot: Hot) -> None:
    made = encoder(hot, Form.BINARY, 1, 2)
    for extreme in (-(2**63), 2**63 - 1):
        cells = sent(ANN, Form.BINARY)
        cells[5] = pack("!q", extreme)
        row = insert(cells, Form.BINARY)
        assert made.arrays(rows_of(hot, [row, row]), [6], Remarks())[0][24:32] == pack("!q", extreme)
    cells[5] = pack("!q", 9_223_371_331_200_000_000 - 1)  # the last timestamp, which is later in UTC
    with pytest.raises(RowRefused) as refused:
        made.arrays(rows_of(hot, [insert(cells, Form.BINARY)]), [6], Remarks())
    assert "public.users, column at" in str(refused.value)


@pytest.mark.parametrize("form", Form)
def test_D1_a_value_not_sent_is_never_written(hot: Hot, form: Form) -> None:
    made = encoder(hot, form, 1, 2)
    cells = sent(ANN, form)
    cells[0] = TOAST
    rows = rows_of(hot, [update(cells, form=form)])
    with pytest.raises(ProtocolViolation):
        made.copy_data(rows, 0, 1, Remarks())
    with pytest.raises(ProtocolViolation):
        made.arrays(rows, [1], Remarks())
    made.arrays(rows, [0, 2, 3, 4, 5, 6, 7, 8], Remarks())


@pytest.mark.parametrize("form", Form)
def test_a_used_column_in_the_other_form_is_a_violation(hot: Hot, form: Form) -> None:
    other = Form.TEXT if form is Form.BINARY else Form.BINARY
    made = encoder(hot, form, 1, 2)
    frame = insert(sent(ANN, other), other)
    with pytest.raises(ProtocolViolation):
        made.copy_data(rows_of(hot, [frame]), 0, 1, Remarks())


def test_an_unused_column_may_be_in_any_form(hot: Hot) -> None:
    made = encoder(hot, Form.BINARY, 1, 2)
    frame = insert(sent(ANN, Form.BINARY), Form.BINARY).replace(b"b\0\0\0\6secret", b"t\0\0\0\6secret")
    assert len(made.copy_data(rows_of(hot, [frame]), 0, 1, Remarks())) > 0


@pytest.mark.parametrize("position", [2, 3, 4, 5])
def test_a_binary_value_of_the_wrong_length_is_a_violation(hot: Hot, position: int) -> None:
    made = encoder(hot, Form.BINARY, 1, 2)
    for wrong in (b"", b"\0\0\0", bytes(9)):
        cells = sent(ANN, Form.BINARY)
        cells[position] = wrong
        with pytest.raises(ProtocolViolation):
            made.copy_data(rows_of(hot, [insert(cells, Form.BINARY)]), 0, 1, Remarks())


@pytest.mark.parametrize("form", Form)
def test_every_strict_prefix_is_a_violation(hot: Hot, form: Form) -> None:
    made = encoder(hot, form, 1, 2)
    frame = insert(sent(ANN, form), form)
    for size in range(len(frame)):
        with pytest.raises(ProtocolViolation):
            made.copy_data(rows_of(hot, [frame[:size]]), 0, 1, Remarks())
    with pytest.raises(ProtocolViolation):
        made.copy_data(rows_of(hot, [frame + b"n"]), 0, 1, Remarks())
    for nowhere in (-1, 0, len(frame) - 1, len(frame), len(frame) + 5):
        with pytest.raises(ProtocolViolation):
            made.copy_data(rows_of(hot, [frame], nowhere), 0, 1, Remarks())


def test_violations_name_the_table_and_no_value(hot: Hot) -> None:
    with pytest.raises(ProtocolViolation) as violation:
        encoder(hot, Form.TEXT, 1, 2).copy_data(
            rows_of(hot, [insert(sent(ANN, Form.TEXT), Form.TEXT)[:-1]]), 0, 1, Remarks()
        )
    assert "public.users" in str(violation.value)
    assert "Ann" not in str(violation.value)


def test_rows_that_are_not_there_are_nobodys_to_encode(hot: Hot) -> None:
    made = encoder(hot, Form.TEXT, 1, 2)
    rows = rows_of(hot, [insert(sent(ANN, Form.TEXT))])
    uneven = hot.fold.Rows(rows.frames, [31, 31])
    for start, stop in ((0, 2), (-1, 1), (1, 0)):
        with pytest.raises(ValueError, match=f"rows {start} to {stop} of 1"):
            made.copy_data(rows, start, stop, Remarks())
    for place in (-1, len(PLACES)):
        with pytest.raises(ValueError, match="does not have"):
            made.arrays(rows, [place], Remarks())
    with pytest.raises(ValueError, match="as many frames"):
        made.copy_data(uneven, 0, 1, Remarks())
    with pytest.raises(ValueError, match="as many frames"):
        made.arrays(uneven, [0], Remarks())
    with pytest.raises(ValueError, match="as many frames"):
        made.old_ids(uneven, {"user": []}, {"user": []})
