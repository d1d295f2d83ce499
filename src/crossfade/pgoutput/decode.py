"""Turns the bytes of one pgoutput message, protocol version 1, into a plain value.

Each function reads like the table of its message in the manual, top to bottom. Refuses to know transactions, tables or
what comes next. The invariant: bytes are either exactly one message that the manual describes, or a
`ProtocolViolation`; nothing is skipped, defaulted or guessed, because a message misread once is a row lost for good.

PostgreSQL: protocol-logicalrep-message-formats, "Logical Replication Message Formats".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from struct import Struct
from typing import Final

from crossfade.catalog import ReplicaIdentity, TableName
from crossfade.faults import ProtocolViolation
from crossfade.lsn import Lsn
from crossfade.pgoutput.messages import (
    AnyMessage,
    Begin,
    Commit,
    Delete,
    Form,
    Insert,
    Message,
    Origin,
    Relation,
    RelationColumn,
    Truncate,
    Type,
    Update,
)
from crossfade.pgoutput.reader import Reader

_KEY, _OLD, _NEW = b"KON"
_TAG_BEGIN, _TAG_COMMIT = b"BC"
_BEGIN: Final = Struct("!BQqI")
_COMMIT: Final = Struct("!BBQQq")
_IS_KEY: Final = 1
_CASCADE: Final = 1
_RESTART_IDENTITY: Final = 2
_TRANSACTIONAL: Final = 1
_IDENTITIES: Final = {ord(identity.value): identity for identity in ReplicaIdentity}


def decode(frame: bytes | memoryview, form: Form = Form.TEXT) -> AnyMessage:
    """The message in `frame`, which is the payload of one XLogData of a stream whose values travel in `form`.

    The result holds copies only: `frame` may be reused or freed. Raises `ProtocolViolation` for anything else.
    """
    if not len(frame):
        raise ProtocolViolation("A message of no bytes.", tag="(none)", offset=0)
    body = _BODIES.get(frame[0])
    if body is None:
        raise ProtocolViolation("No message of protocol version 1 begins like this.", tag=_shown(frame[0]), offset=0)
    reader = Reader(frame, chr(frame[0]), form)
    message = body(reader)
    reader.finish()
    return message


def boundary(frame: bytes, at: int) -> Begin | Commit | None:
    """What `decode` would make of the message that begins at `at`, if that is a Begin or a Commit as they always are;
    None when it is for `decode` to say. Of small transactions these two are half of all messages."""
    size = len(frame) - at
    if size == _BEGIN.size and frame[at] == _TAG_BEGIN:
        _, lsn, time, xid = _BEGIN.unpack_from(frame, at)
        return Begin(Lsn(lsn), time, xid)
    if size == _COMMIT.size and frame[at] == _TAG_COMMIT and not frame[at + 1]:
        _, _, lsn, end, time = _COMMIT.unpack_from(frame, at)
        return Commit(Lsn(lsn), Lsn(end), time)
    return None


def _shown(byte: int) -> str:
    return chr(byte) if 0x20 < byte < 0x7F else f"\\x{byte:02x}"


def _begin(reader: Reader) -> Begin:
    final_lsn = reader.lsn("the final LSN")
    commit_time = reader.int64("the commit time")
    xid = reader.oid("the transaction id")
    return Begin(final_lsn, commit_time, xid)


def _message(reader: Reader) -> Message:
    flags = _flags(reader, _TRANSACTIONAL)
    lsn = reader.lsn("the LSN")
    prefix = reader.string("the prefix")
    size = reader.int32("the length of the content")
    content = reader.octets(size, "the content")
    return Message(flags == _TRANSACTIONAL, lsn, prefix, content)


def _commit(reader: Reader) -> Commit:
    _flags(reader, 0)  # "currently unused"
    commit_lsn = reader.lsn("the commit LSN")
    end_lsn = reader.lsn("the end LSN")
    commit_time = reader.int64("the commit time")
    return Commit(commit_lsn, end_lsn, commit_time)


def _origin(reader: Reader) -> Origin:
    commit_lsn = reader.lsn("the commit LSN")
    name = reader.string("the origin's name")
    return Origin(commit_lsn, name)


def _relation(reader: Reader) -> Relation:
    oid = reader.oid("the relation's OID")
    table = TableName(_schema(reader), reader.string("the relation's name"))
    at = reader.offset
    identity = _IDENTITIES.get(reader.byte("the replica identity"))
    if identity is None:
        raise reader.violation("The replica identity is none of d, n, f and i.", at=at)
    count = reader.int16("the number of columns")
    if count < 0:
        raise reader.violation("The number of columns is negative.", at=at + 1)
    columns = tuple(_column(reader) for _ in range(count))
    return Relation(oid, table, identity, columns)


def _column(reader: Reader) -> RelationColumn:
    flags = _flags(reader, _IS_KEY)
    name = reader.string("a column's name")
    type_oid = reader.oid("a column's type OID")
    typmod = reader.int32("a column's type modifier")
    return RelationColumn(name, type_oid, typmod, flags == _IS_KEY)


def _type(reader: Reader) -> Type:
    oid = reader.oid("the type's OID")
    schema = _schema(reader)
    name = reader.string("the type's name")
    return Type(oid, schema, name)


def _insert(reader: Reader) -> Insert:
    oid = reader.oid("the relation's OID")
    if reader.byte("the tuple's marker") != _NEW:
        raise reader.violation("Insert: expected N.", at=reader.offset - 1)
    return Insert(oid, reader.cells())


def _update(reader: Reader) -> Update:
    oid = reader.oid("the relation's OID")
    old = None
    marker = reader.byte("the tuple's marker")
    is_full = marker == _OLD
    if is_full or marker == _KEY:
        old = reader.cells()
        marker = reader.byte("the new tuple's marker")
        if marker != _NEW:
            raise reader.violation("Update: expected N after the old tuple.", at=reader.offset - 1)
    elif marker != _NEW:
        raise reader.violation("Update: expected K, O or N.", at=reader.offset - 1)
    return Update(oid, old, is_full, reader.cells())


def _delete(reader: Reader) -> Delete:
    oid = reader.oid("the relation's OID")
    marker = reader.byte("the tuple's marker")
    if marker not in (_KEY, _OLD):
        raise reader.violation("Delete: expected K or O.", at=reader.offset - 1)
    return Delete(oid, reader.cells(), marker == _OLD)


def _truncate(reader: Reader) -> Truncate:
    count = reader.int32("the number of relations")
    if count < 0:
        raise reader.violation("The number of relations is negative.", at=reader.offset - 4)
    options = _flags(reader, _CASCADE | _RESTART_IDENTITY)
    # A count that the bytes cannot hold fails at the first OID missing, so a lie costs no memory.
    oids = tuple(reader.oid("a relation's OID") for _ in range(count))
    return Truncate(oids, bool(options & _CASCADE), bool(options & _RESTART_IDENTITY))


def _schema(reader: Reader) -> str:
    """Namespace; the empty string stands for pg_catalog."""
    return reader.string("the schema's name") or "pg_catalog"


def _flags(reader: Reader, known: int) -> int:
    """A byte of flags in which only the `known` bits may be set: a bit we do not know changes what the rest means."""
    flags = reader.byte("the flags")
    if flags & ~known:
        raise reader.violation(f"Unknown flags 0x{flags:02x}.", at=reader.offset - 1)
    return flags


_BODIES: Final[Mapping[int, Callable[[Reader], AnyMessage]]] = {
    ord("B"): _begin,
    ord("M"): _message,
    ord("C"): _commit,
    ord("O"): _origin,
    ord("R"): _relation,
    ord("Y"): _type,
    ord("I"): _insert,
    ord("U"): _update,
    ord("D"): _delete,
    ord("T"): _truncate,
}
