"""Frames in, whole source transactions (or pieces of large ones) out, in commit order.

Keeps the relations the stream described, drops what the target already has, and cuts a transaction into pieces when
it outgrows a byte limit or when a relation changes its shape. Row messages are passed on as the frames they came in.
Refuses to know what is done with a piece. The invariant: a piece that is not the last of its transaction is never
acknowledged, because only the last one carries the Commit (promise 3), and a transaction is skipped only by the
server's own test, `Begin.final_lsn < start` (edge-cases 0.1).

PostgreSQL: protocol-logical-replication, "Logical Streaming Replication Protocol"; SnapBuildXactNeedsSkip.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from crossfade.faults import Fault, ProtocolViolation
from crossfade.lsn import Lsn
from crossfade.pgoutput.decode import boundary, decode
from crossfade.pgoutput.messages import AnyMessage, Begin, Commit, Message, Origin, Relation, Truncate, Type
from crossfade.pgoutput.rows import FRAME_OVERHEAD, take_rows
from crossfade.walstream import HEADER


@dataclass(slots=True)
class Piece:
    """A run of changes of one source transaction, in order; the last one carries the Commit.

    `frames` are row messages and Truncates as they came, XLogData header included; `truncates` says that there is a
    Truncate among them, `oids` are the relations of the row messages. `relations` describes every relation they name,
    and holds for all of them: pieces of one `shape` may be read by the relations of the later one. `cost` is bytes
    held. `fault` says why it cannot be applied, where that was found before its turn came.
    """

    begin: Begin
    is_first: bool
    relations: Mapping[int, Relation] = field(default_factory=dict)
    shape: int = 0
    frames: list[bytes] = field(default_factory=list)
    commit: Commit | None = None
    truncates: bool = False
    oids: set[int] = field(default_factory=set)
    cost: int = 0
    fault: Fault | None = None

    @property
    def is_whole(self) -> bool:
        """The transaction has no other piece."""
        return self.is_first and self.commit is not None


class Assembler:
    """Feed it every frame that carries a message, in stream order; it returns a piece when one is complete.

    `start` is the position the target already holds: transactions that committed before it are dropped (A8).
    """

    def __init__(self, start: Lsn, *, piece_bytes: int) -> None:
        self._start = start
        self._piece_bytes = piece_bytes
        self._relations: Mapping[int, Relation] = {}
        self._shape = 0
        self._piece: Piece | None = None
        self._skips = False
        self._counts: dict[bytes, int] = {}
        self.transactions_skipped = 0

    @property
    def is_mid_transaction(self) -> bool:
        """A Begin was seen whose Commit was not."""
        return self._piece is not None

    def counted(self) -> list[tuple[int, Relation, int]]:
        """The changes seen since this was asked last, skipped ones too: by message tag and relation, how many."""
        counts = [
            (head[0], self._relation(int.from_bytes(head[1:]), chr(head[0])), times)
            for head, times in self._counts.items()
        ]
        self._counts.clear()
        return counts

    def rows(self, frames: list[bytes], at: int) -> tuple[int, Piece | None]:
        """Take the run of row messages that begins with frame `at`, if one does; returns the place of the first frame
        not taken, and a piece that became full. Raises ProtocolViolation for rows outside a transaction or of unknown
        relations."""
        piece = self._piece
        # What is skipped is held nowhere.
        room = sys.maxsize if piece is None or self._skips else self._piece_bytes - piece.cost
        counts: dict[bytes, int] = {}
        stop, held = take_rows(frames, at, max(room, 1), counts)
        if stop == at:
            return at, None
        for head, times in counts.items():
            tag = chr(head[0])
            self._open(tag)
            self._relation(int.from_bytes(head[1:]), tag)
            self._counts[head] = self._counts.get(head, 0) + times
        if piece is None or self._skips:
            return stop, None
        piece.frames += frames[at:stop]
        piece.oids.update([int.from_bytes(head[1:]) for head in counts])
        piece.cost += held
        return stop, self._cut(piece) if piece.cost >= self._piece_bytes else None

    def feed(self, frame: bytes) -> tuple[AnyMessage, Piece | None]:
        """Take one frame that is no row message; returns what was in it, and a piece that became complete.

        Raises ProtocolViolation for an order the protocol does not have.
        """
        message = boundary(frame, HEADER) or decode(memoryview(frame)[HEADER:])
        return message, self._fed(message, frame)

    def _fed(self, message: AnyMessage, frame: bytes) -> Piece | None:
        if isinstance(message, Begin):
            if self._piece is not None:
                raise ProtocolViolation("Begin inside a transaction", tag="B", offset=0)
            self._piece = Piece(message, is_first=True, relations=self._relations, shape=self._shape)
            self._skips = message.final_lsn < self._start
            return None
        if isinstance(message, Commit):
            return self._commit(message)
        if isinstance(message, Relation):
            return self._described(message)
        if isinstance(message, Truncate):
            return self._truncate(message, frame)
        if isinstance(message, Type | Origin):
            return None
        assert isinstance(message, Message), "row messages are taken by `rows`"
        raise ProtocolViolation("a logical message arrived although none was asked for", tag="M", offset=0)

    def _described(self, relation: Relation) -> Piece | None:
        """A relation, new or changed: what was gathered under its old shape must not be read by the new one."""
        known = self._relations.get(relation.oid)
        if known == relation:
            return None
        complete = None
        piece = self._piece
        if known is not None:
            self._shape += 1
            if piece is not None and piece.frames:
                complete, piece = self._cut(piece), self._piece
        # Another mapping, never the same one changed: pieces already handed over keep theirs.
        self._relations = {**self._relations, relation.oid: relation}
        if piece is not None:
            piece.relations, piece.shape = self._relations, self._shape
        return complete

    def _truncate(self, message: Truncate, frame: bytes) -> Piece | None:
        piece = self._open("T")
        for oid in message.relation_oids:
            self._relation(oid, "T")
            head = b"T" + oid.to_bytes(4)
            self._counts[head] = self._counts.get(head, 0) + 1
        if self._skips:
            return None
        piece.frames.append(frame)
        piece.truncates = True
        piece.cost += len(frame) + FRAME_OVERHEAD
        return self._cut(piece) if piece.cost >= self._piece_bytes else None

    def _cut(self, piece: Piece) -> Piece:
        """The open transaction goes on in another piece."""
        self._piece = Piece(piece.begin, is_first=False, relations=self._relations, shape=self._shape)
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
