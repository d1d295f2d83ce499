from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.catalog import ReplicaIdentity, TableName
from crossfade.faults import ProtocolViolation
from crossfade.lsn import Lsn
from crossfade.pgoutput.decode import boundary, decode
from crossfade.pgoutput.messages import (
    UNCHANGED,
    AnyMessage,
    Begin,
    Cell,
    Commit,
    Delete,
    Insert,
    Message,
    Origin,
    Relation,
    RelationColumn,
    Truncate,
    Type,
    Update,
)
from tests.unit.pgoutput import encoder as encode

CAPTURED = sorted(Path(__file__).with_name("captured").glob("*.hex"))

u32s = st.integers(0, 2**32 - 1)
u64s = st.integers(0, 2**64 - 1)
i64s = st.integers(-(2**63), 2**63 - 1)
i32s = st.integers(-(2**31), 2**31 - 1)
names = st.text(st.characters(exclude_characters="\x00", codec="utf-8"), max_size=30)
identities = st.sampled_from(ReplicaIdentity)
cells: st.SearchStrategy[Cell] = st.none() | st.just(UNCHANGED) | st.binary(max_size=40)
tuples = st.lists(cells, max_size=8).map(tuple)
columns = st.lists(st.builds(RelationColumn, names, u32s, i32s, st.booleans()), max_size=6).map(tuple)


@st.composite
def updates(draw: st.DrawFn) -> Update:
    old = draw(st.none() | tuples)
    return Update(draw(u32s), old, old is not None and draw(st.booleans()), draw(tuples))


messages: st.SearchStrategy[AnyMessage] = st.one_of(
    st.builds(Begin, u64s.map(Lsn), i64s, u32s),
    st.builds(Commit, u64s.map(Lsn), u64s.map(Lsn), i64s),
    st.builds(Origin, u64s.map(Lsn), names),
    st.builds(Message, st.booleans(), u64s.map(Lsn), names, st.binary(max_size=40)),
    st.builds(Relation, u32s, st.builds(TableName, names.filter(bool), names), identities, columns),
    st.builds(Type, u32s, names.filter(bool), names),
    st.builds(Insert, u32s, tuples),
    updates(),
    st.builds(Delete, u32s, tuples, st.booleans()),
    st.builds(Truncate, st.lists(u32s, max_size=5).map(tuple), st.booleans(), st.booleans()),
)


def specs(row: Sequence[Cell]) -> list[encode.CellSpec]:
    return [encode.NULL if each is None else encode.TOAST if each is UNCHANGED else each for each in row]


def encoded(message: AnyMessage) -> bytes:
    match message:
        case Begin(final_lsn, commit_time, xid):
            return encode.begin(final_lsn, commit_time, xid)
        case Commit(commit_lsn, end_lsn, commit_time):
            return encode.commit(commit_lsn, end_lsn, commit_time)
        case Origin(commit_lsn, name):
            return encode.origin(commit_lsn, name)
        case Message(is_transactional, lsn, prefix, content):
            return encode.message(int(is_transactional), lsn, prefix, content)
        case Relation(oid, table, identity, columns):
            listed = [(int(each.is_key), each.name, each.type_oid, each.typmod) for each in columns]
            return encode.relation(oid, table.schema, table.name, identity.value.encode(), listed)
        case Type(oid, schema, name):
            return encode.type_(oid, schema, name)
        case Insert(oid, new):
            return encode.insert(oid, specs(new))
        case Update(oid, old, is_full, new):
            return encode.update(oid, specs(new), None if old is None else specs(old), b"O" if is_full else b"K")
        case Delete(oid, old, is_full):
            return encode.delete(oid, specs(old), b"O" if is_full else b"K")
        case Truncate(oids, cascade, restart):
            return encode.truncate(oids, cascade + 2 * restart)


def refused(frame: bytes | memoryview) -> ProtocolViolation:
    with pytest.raises(ProtocolViolation) as caught:
        decode(frame)
    return caught.value


@given(messages)
def test_every_message_comes_back_as_it_was_written(message: AnyMessage) -> None:
    frame = encoded(message)
    assert decode(frame) == message
    assert decode(memoryview(frame)) == message
    assert decode(memoryview(bytearray(frame))) == message


@given(messages)
def test_every_strict_prefix_is_refused(message: AnyMessage) -> None:
    frame = encoded(message)
    for size in range(len(frame)):
        refused(frame[:size])
        refused(memoryview(frame)[:size])


@given(messages, st.binary(min_size=1, max_size=5))
def test_a_message_with_bytes_left_over_is_no_message(message: AnyMessage, more: bytes) -> None:
    fault = refused(encoded(message) + more)
    assert fault.tag == chr(encoded(message)[0])
    assert fault.offset == len(encoded(message))


@given(
    st.binary(max_size=200)
    | st.tuples(st.sampled_from(b"BMCORYIUDT"), st.binary(max_size=200)).map(lambda pair: bytes((pair[0],)) + pair[1])
)
def test_any_bytes_decode_or_are_refused(frame: bytes) -> None:
    try:
        message = decode(frame)
    except ProtocolViolation:
        return
    # What decodes must be the whole of the bytes and nothing else; the empty schema's meaning is the one exception.
    again = encoded(message)
    assert again == frame or (isinstance(message, Relation | Type) and b"pg_catalog" in again)


@given(messages, st.data())
def test_a_damaged_byte_is_refused_or_read_as_what_it_says(message: AnyMessage, data: st.DataObject) -> None:
    frame = bytearray(encoded(message))
    frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode(bytes(frame))
    except ProtocolViolation:
        return
    if not isinstance(decoded, Relation | Type):
        assert encoded(decoded) == bytes(frame)


BEGIN = encode.begin(5, 6, 7)
RELATION = encode.relation(1, "public", "t", b"d", [(1, "id", 23, -1)])


@pytest.mark.parametrize(
    ("frame", "tag", "offset", "says"),
    [
        (b"", "(none)", 0, "no bytes"),
        (b"Z", "Z", 0, "No message"),
        (b"\x00\x00", "\\x00", 0, "No message"),
        (b"S" + bytes(9), "S", 0, "No message"),  # Stream Start: newer protocols only
        (BEGIN[:-1], "B", 17, "transaction id"),
        (encode.commit(1, 2, 3, flags=1), "C", 1, "flags 0x01"),
        (encode.message(2, 1, "p", b""), "M", 1, "flags 0x02"),
        (b"M" + bytes(9) + b"p\x00" + encode.i32(-1), "M", 16, "negative"),
        (encode.relation(1, "public", "t", b"x", []), "R", 14, "replica identity"),
        (encode.relation(1, "public", "t", b"d", [(2, "id", 23, -1)]), "R", 17, "flags 0x02"),
        (b"R" + encode.u32(1) + b"public\x00t\x00d" + encode.i16(-1), "R", 15, "negative"),
        (b"R" + encode.u32(1) + b"publ\xffc\x00t\x00d\x00\x00", "R", 5, "UTF-8"),
        (b"R" + encode.u32(1) + b"public", "R", 5, "no terminating"),
        (b"O" + bytes(8) + b"\xed\xa0\x80\x00", "O", 9, "UTF-8"),  # a surrogate
        (b"I" + encode.u32(1) + b"K" + encode.tuple_data([]), "I", 5, "expected N"),
        (b"U" + encode.u32(1) + b"X" + encode.tuple_data([]), "U", 5, "K, O or N"),
        (b"U" + encode.u32(1) + b"K" + encode.i16(0) + b"O" + encode.i16(0), "U", 8, "expected N"),
        (b"D" + encode.u32(1) + b"N" + encode.tuple_data([]), "D", 5, "K or O"),
        (b"I" + encode.u32(1) + b"N" + encode.i16(-1), "I", 6, "negative"),
        (b"I" + encode.u32(1) + b"N" + encode.i16(1) + b"x", "I", 8, "kind 0x78"),
        (b"I" + encode.u32(1) + b"N" + encode.i16(1) + b"b" + encode.i32(1) + b"1", "I", 8, "binary"),
        (b"I" + encode.u32(1) + b"N" + encode.i16(1) + b"t" + encode.i32(-1), "I", 8, "claims -1"),
        (b"I" + encode.u32(1) + b"N" + encode.i16(1) + b"t" + encode.i32(9) + b"12", "I", 8, "claims 9"),
        (b"I" + encode.u32(1) + b"N" + encode.i16(2) + b"n", "I", 9, "column 2 of 2"),
        (encode.truncate([1], 4), "T", 5, "flags 0x04"),
        (b"T" + encode.i32(-1) + b"\x00", "T", 1, "negative"),
        (b"T" + encode.i32(2**31 - 1) + b"\x00", "T", 6, "relation's OID"),
    ],
)
def test_what_is_wrong_is_said_with_tag_and_offset(frame: bytes, tag: str, offset: int, says: str) -> None:
    fault = refused(frame)
    assert (fault.tag, fault.offset) == (tag, offset)
    assert says in fault.what


def test_no_value_gets_into_a_fault() -> None:
    frame = encode.insert(1, [b"ada@example.org"]) + b"secret"
    assert "ada" not in str(refused(frame))
    assert "secret" not in str(refused(frame))


def test_the_empty_schema_means_pg_catalog() -> None:
    decoded = decode(encode.relation(1, "", "pg_class", b"n", []))
    assert decoded == Relation(1, TableName("pg_catalog", "pg_class"), ReplicaIdentity.NOTHING, ())
    assert decode(encode.type_(1, "", "mood")) == Type(1, "pg_catalog", "mood")


def test_promise_4_null_empty_and_unchanged_are_three_things() -> None:
    decoded = decode(encode.insert(1, [encode.NULL, b"", encode.TOAST]))
    assert isinstance(decoded, Insert)
    assert decoded.new == (None, b"", UNCHANGED)


class Frame(bytearray):
    """A buffer whose end can be watched."""


@pytest.mark.parametrize("size", [3, 200_000])
def test_a_cell_is_bytes_of_its_own_and_does_not_keep_the_frame(size: int) -> None:
    value = b"x" * size
    buffer = Frame(encode.insert(1, [value]))
    gone = weakref.ref(buffer)
    decoded = decode(memoryview(buffer))
    assert isinstance(decoded, Insert)
    buffer[-1:] = b"y"  # also proves that no view of the buffer is left: it could not be resized else
    buffer.extend(b"more")
    del buffer
    gc.collect()
    assert gone() is None
    assert type(decoded.new[0]) is bytes
    assert decoded.new == (value,)


def test_a_wide_table_is_read_from_a_view_too() -> None:
    columns = [(0, f"a_rather_long_column_name_of_a_wide_table_{n:05}", 25, -1) for n in range(1600)]
    frame = encode.relation(7, "public", "wide", b"f", columns)
    assert len(frame) > 65_536
    decoded = decode(memoryview(frame))
    assert isinstance(decoded, Relation)
    assert [each.name for each in decoded.columns] == [each[1] for each in columns]


@pytest.mark.parametrize("path", CAPTURED, ids=lambda path: path.stem)
def test_what_real_servers_sent_is_understood_and_nothing_less(path: Path) -> None:
    frames = captured(path)
    decoded = [decode(frame) for frame in frames]
    assert {type(each) for each in decoded} >= {
        Begin,
        Commit,
        Relation,
        Type,
        Insert,
        Update,
        Delete,
        Truncate,
        Message,
        Origin,
    }
    for frame, message in zip(frames, decoded, strict=True):
        assert encoded(message) == frame
        for size in range(min(len(frame), 600)):
            refused(frame[:size])


@pytest.mark.parametrize("path", CAPTURED, ids=lambda path: path.stem)
def test_what_real_servers_sent_means_what_was_done(path: Path) -> None:
    changes = [m for m in map(decode, captured(path)) if isinstance(m, Insert | Update | Delete | Truncate)]
    tables = {m.oid: m for m in map(decode, captured(path)) if isinstance(m, Relation)}
    named = [(tables[m.relation_oid].table.name, m) for m in changes if not isinstance(m, Truncate)]
    plain = [m for name, m in named if name == "plain"]
    assert isinstance(plain[0], Insert)
    assert plain[0].new[:5] == (b"1", b"caf\xc3\xa9", None, b"", b"happy")
    toasted = plain[1]
    assert isinstance(toasted, Update)
    assert (toasted.old, toasted.new[5]) == (None, UNCHANGED)
    moved = plain[2]
    assert isinstance(moved, Update)
    assert moved.old is not None
    assert not moved.old_is_full
    assert moved.old == (b"1", None, None, None, None, None)  # D3: NULL here says "not in the identity"
    full = [m for name, m in named if name == "whole"]
    assert isinstance(full[1], Update)
    assert (full[1].old, full[1].old_is_full, full[1].new) == ((b"1", b"a"), True, (b"1", b"b"))
    assert full[2] == Delete(full[2].relation_oid, (b"1", b"b"), old_is_full=True)
    truncated = [m for m in changes if isinstance(m, Truncate)]
    assert [(len(m.relation_oids), m.cascade, m.restart_identity) for m in truncated] == [
        (2, True, True),
        (1, False, False),
    ]


def test_there_are_captures_of_two_versions() -> None:
    assert len(CAPTURED) == 2


def captured(path: Path) -> list[bytes]:
    """One frame per line, in hex; lines beginning with # say where they come from."""
    return [bytes.fromhex(line) for line in path.read_text().splitlines() if line and not line.startswith("#")]


# boundaries, read in one step -----------------------------------------------------------------------------------------

u64s, i64s, u32s = st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**32 - 1)


@given(u64s, u64s, i64s, u32s)
def test_begin_and_commit_are_the_same_by_the_short_way(lsn: int, end: int, time: int, xid: int) -> None:
    for message in (encode.begin(lsn, time, xid), encode.commit(lsn, end, time)):
        assert boundary(b"head" + message, 4) == decode(message)


@given(st.one_of(st.binary(max_size=40), st.binary(min_size=20, max_size=25).map(lambda rest: b"B" + rest),
                 st.binary(min_size=24, max_size=27).map(lambda rest: b"C" + rest)))  # fmt: skip
def test_the_short_way_takes_nothing_that_the_decoder_refuses(message: bytes) -> None:
    read = boundary(message, 0)
    if read is not None:
        assert decode(message) == read


def test_a_commit_with_flags_is_left_to_the_decoder() -> None:
    assert boundary(encode.commit(1, 2, 3, flags=1), 0) is None
