"""The messages of the pgoutput plugin, protocol version 1, as plain values.

Refuses to know how they are encoded or what is done with them. The invariant: a cell is one of three kinds, always
(promise 4): `bytes` as the server sent them, in the stream's `Form`, None for NULL, `UNCHANGED` for a TOASTed value
that was not sent.

PostgreSQL: protocol-logicalrep-message-formats, "Logical Replication Message Formats".
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, Literal

from crossfade.catalog import ReplicaIdentity, TableName
from crossfade.lsn import Lsn


class Unchanged(enum.Enum):
    """The third kind of value: TOASTed, not changed, not sent."""

    UNCHANGED = "unchanged TOAST"


UNCHANGED: Final = Unchanged.UNCHANGED


class Form(enum.Enum):
    """How the values of one stream travel: the output of their types' output functions, or of their send functions."""

    TEXT = "text"
    BINARY = "binary"


class TextCell(bytes):
    """A value that came as text in a BINARY stream: its type has no send function. Nobody may take it for binary."""

    __slots__ = ()


Cell = bytes | None | Literal[Unchanged.UNCHANGED]
Tuple = tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Begin:
    """`final_lsn` is where the commit record will start; `commit_time` is microseconds since 2000-01-01 UTC."""

    final_lsn: Lsn
    commit_time: int
    xid: int


@dataclass(frozen=True, slots=True)
class Commit:
    """`commit_lsn` starts the commit record; `end_lsn` is the byte after it, the only position worth keeping (A1)."""

    commit_lsn: Lsn
    end_lsn: Lsn
    commit_time: int


@dataclass(frozen=True, slots=True)
class RelationColumn:
    """`is_key`: part of the replica identity; under FULL every column is flagged (D9)."""

    name: str
    type_oid: int
    typmod: int
    is_key: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A table as the changes that follow describe it; sent anew per connection and after each change of it (E6)."""

    oid: int
    table: TableName
    replica_identity: ReplicaIdentity
    columns: tuple[RelationColumn, ...]


@dataclass(frozen=True, slots=True)
class Type:
    """The name of a user type used by the Relation that follows."""

    oid: int
    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class Origin:
    """The transaction was replicated into the source under this replication origin."""

    commit_lsn: Lsn
    name: str


@dataclass(frozen=True, slots=True)
class Message:
    """pg_logical_emit_message(); only sent to those who ask for messages, which we never do."""

    is_transactional: bool
    lsn: Lsn
    prefix: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Insert:
    relation_oid: int
    new: Tuple


@dataclass(frozen=True, slots=True)
class Update:
    """`old` is None when the identity did not change; else `old_is_full` tells an O tuple from a K tuple.

    In a K tuple only the key columns mean anything: NULL elsewhere says "not in the identity" (D3).
    """

    relation_oid: int
    old: Tuple | None
    old_is_full: bool
    new: Tuple


@dataclass(frozen=True, slots=True)
class Delete:
    relation_oid: int
    old: Tuple
    old_is_full: bool


@dataclass(frozen=True, slots=True)
class Truncate:
    relation_oids: tuple[int, ...]
    cascade: bool
    restart_identity: bool


RowMessage = Insert | Update | Delete
AnyMessage = Begin | Commit | Relation | Type | Origin | Message | Insert | Update | Delete | Truncate
