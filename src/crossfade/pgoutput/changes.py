"""The changes in a piece, decoded one by one for those who want them as objects (the exact path, tests).

Refuses to know where a piece came from and what becomes of a change. The invariant: every frame of the piece comes out
exactly once, in order, with the relation as it was then; nothing decoded is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from crossfade.faults import ProtocolViolation
from crossfade.pgoutput.assemble import Piece
from crossfade.pgoutput.decode import decode
from crossfade.pgoutput.messages import Delete, Form, Insert, Relation, Truncate, Update
from crossfade.walstream import HEADER


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


def changes_of(piece: Piece, form: Form) -> Iterator[Change | Truncation]:
    """Decode the piece's frames. Raises ProtocolViolation for a frame that is not what the manual describes."""
    relations = piece.relations
    for frame in piece.frames:
        message = decode(memoryview(frame)[HEADER:], form)
        if isinstance(message, Insert | Update | Delete):
            yield Change(relations[message.relation_oid], message)
        elif isinstance(message, Truncate):
            named = tuple(relations[oid] for oid in message.relation_oids)
            yield Truncation(named, message.cascade, message.restart_identity)
        else:
            raise ProtocolViolation("A piece holds a frame that is no change.", tag=chr(frame[HEADER]), offset=0)
