"""The messages of pgoutput, written out from the manual by hand: what the decoder is checked against.

Deliberately without a line of the decoder's: bytes are put together field by field, in the order of the tables in
protocol-logicalrep-message-formats, with int.to_bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

NULL = object()
TOAST = object()
BINARY = object()
CellSpec = bytes | object


def u8(value: int) -> bytes:
    return value.to_bytes(1, "big")


def i16(value: int) -> bytes:
    return value.to_bytes(2, "big", signed=True)


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def i32(value: int) -> bytes:
    return value.to_bytes(4, "big", signed=True)


def u64(value: int) -> bytes:
    return value.to_bytes(8, "big")


def i64(value: int) -> bytes:
    return value.to_bytes(8, "big", signed=True)


def text(value: str) -> bytes:
    return value.encode("utf-8") + b"\x00"


def cell(spec: CellSpec) -> bytes:
    if spec is NULL:
        return b"n"
    if spec is TOAST:
        return b"u"
    assert isinstance(spec, bytes)
    return b"t" + i32(len(spec)) + spec


def tuple_data(cells: Sequence[CellSpec]) -> bytes:
    return i16(len(cells)) + b"".join(cell(each) for each in cells)


def frame(message: bytes, wal_start: int = 0, wal_end: int = 0, sent_at: int = 0) -> bytes:
    """A message in its envelope: the whole payload of one CopyData (protocol-replication, "XLogData")."""
    return b"w" + u64(wal_start) + u64(wal_end) + i64(sent_at) + message


def begin(final_lsn: int, commit_time: int, xid: int) -> bytes:
    return b"B" + u64(final_lsn) + i64(commit_time) + u32(xid)


def commit(commit_lsn: int, end_lsn: int, commit_time: int, flags: int = 0) -> bytes:
    return b"C" + u8(flags) + u64(commit_lsn) + u64(end_lsn) + i64(commit_time)


def origin(commit_lsn: int, name: str) -> bytes:
    return b"O" + u64(commit_lsn) + text(name)


def message(flags: int, lsn: int, prefix: str, content: bytes) -> bytes:
    return b"M" + u8(flags) + u64(lsn) + text(prefix) + i32(len(content)) + content


def relation(oid: int, schema: str, name: str, identity: bytes, columns: Sequence[tuple[int, str, int, int]]) -> bytes:
    head = b"R" + u32(oid) + text(schema) + text(name) + identity + i16(len(columns))
    return head + b"".join(u8(flags) + text(label) + u32(kind) + i32(typmod) for flags, label, kind, typmod in columns)


def type_(oid: int, schema: str, name: str) -> bytes:
    return b"Y" + u32(oid) + text(schema) + text(name)


def insert(oid: int, new: Sequence[CellSpec]) -> bytes:
    return b"I" + u32(oid) + b"N" + tuple_data(new)


def update(oid: int, new: Sequence[CellSpec], old: Sequence[CellSpec] | None = None, marker: bytes = b"K") -> bytes:
    before = b"" if old is None else marker + tuple_data(old)
    return b"U" + u32(oid) + before + b"N" + tuple_data(new)


def delete(oid: int, old: Sequence[CellSpec], marker: bytes = b"K") -> bytes:
    return b"D" + u32(oid) + marker + tuple_data(old)


def truncate(oids: Sequence[int], options: int) -> bytes:
    return b"T" + i32(len(oids)) + u8(options) + b"".join(u32(oid) for oid in oids)
