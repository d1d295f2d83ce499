"""Messages in, whole source transactions (or pieces of large ones) out, in commit order.

Keeps the relations the stream described, drops what the target already has, and cuts a transaction into pieces when
it outgrows a byte limit. Refuses to know what is done with a piece. The invariant: a piece that is not the last of its
transaction is never acknowledged, because only the last one carries the Commit (promise 3), and a transaction is
skipped only by the server's own test, `Begin.final_lsn < start` (edge-cases 0.1).

PostgreSQL: protocol-logical-replication, "Logical Streaming Replication Protocol"; SnapBuildXactNeedsSkip.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from crossfade.faults import ProtocolViolation
from crossfade.lsn import Lsn
from crossfade.pgoutput.messages import (
    AnyMessage,
    Begin,
    Commit,
    Delete,
    Insert,
    Message,
    Origin,
    Relation,
    Truncate,
    Type,
    Update,
)

# What a decoded change costs in memory beyond its bytes: the message, its tuple and a bytes object per cell.
_CHANGE_OVERHEAD = 250
_CELL_OVERHEAD = 45


@dataclass(frozen=True, slots=True)
class Change:
    """One row's change, with the relation as it was then."""

    relation: Relation
    message: Insert | Update | Delete


@dataclass(frozen=True, slots=True)
class Truncation:
    """One TRUNCATE of one or more published tables."""

    relations: tuple[Relation, ...]
    cascade: bool
    restart_identity: bool


@dataclass(slots=True)
class Piece:
    """A run of changes of one source transaction, in order; the last one carries the Commit. `cost` is bytes held."""

    begin: Begin
    is_first: bool
    changes: list[Change | Truncation] = field(default_factory=list)
    commit: Commit | None = None
    cost: int = 0

    @property
    def is_whole(self) -> bool:
        """The transaction has no other piece."""
        return self.is_first and self.commit is not None


class Assembler:
    """Feed it every message in stream order; it returns a piece when one is complete.

    `start` is the position the target already holds: transactions that committed before it are dropped (A8).
    """

    def __init__(self, start: Lsn, *, piece_bytes: int) -> None:
        self._start = start
        self._piece_bytes = piece_bytes
        self._relations: dict[int, Relation] = {}
        self._piece: Piece | None = None
        self._skips = False
        self.transactions_skipped = 0

    @property
    def is_mid_transaction(self) -> bool:
        """A Begin was seen whose Commit was not."""
        return self._piece is not None

    def feed(self, message: AnyMessage, size: int) -> Piece | None:
        """Take one message of `size` bytes. Raises ProtocolViolation for an order the protocol does not have."""
        if isinstance(message, Insert | Update | Delete):
            return self._change(message, size)
        if isinstance(message, Begin):
            if self._piece is not None:
                raise ProtocolViolation("Begin inside a transaction", tag="B", offset=0)
            self._piece = Piece(message, is_first=True)
            self._skips = message.final_lsn < self._start
            return None
        if isinstance(message, Commit):
            return self._commit(message)
        if isinstance(message, Relation):
            self._relations[message.oid] = message
            return None
        if isinstance(message, Truncate):
            piece = self._open("T")
            if self._skips:
                return None
            relations = tuple(self._relation(oid, "T") for oid in message.relation_oids)
            piece.changes.append(Truncation(relations, message.cascade, message.restart_identity))
            piece.cost += _CHANGE_OVERHEAD
            return None
        if isinstance(message, Type | Origin):
            return None
        assert isinstance(message, Message)
        raise ProtocolViolation("a logical message arrived although none was asked for", tag="M", offset=0)

    def _change(self, message: Insert | Update | Delete, size: int) -> Piece | None:
        piece = self._open(type(message).__name__[0])
        if self._skips:
            return None
        relation = self._relation(message.relation_oid, type(message).__name__[0])
        piece.changes.append(Change(relation, message))
        piece.cost += size + _CHANGE_OVERHEAD + _CELL_OVERHEAD * len(relation.columns)
        if piece.cost < self._piece_bytes:
            return None
        self._piece = Piece(piece.begin, is_first=False)
        return piece

    def _commit(self, message: Commit) -> Piece | None:
        piece = self._open("C")
        self._piece = None
        if message.commit_lsn != piece.begin.final_lsn:
            raise ProtocolViolation("Commit of another transaction than the one begun", tag="C", offset=2)
        if self._skips:
            self.transactions_skipped += 1
            return None
        piece.commit = message
        return piece

    def _open(self, tag: str) -> Piece:
        if self._piece is None:
            raise ProtocolViolation("a change outside a transaction", tag=tag, offset=0)
        return self._piece

    def _relation(self, oid: int, tag: str) -> Relation:
        relation = self._relations.get(oid)
        if relation is None:
            raise ProtocolViolation("a change of a relation that was never described", tag=tag, offset=1)
        return relation
