"""Which rows were changed between two positions of the source. Thinking only: `reread` brings the frames.

A copy that was interrupted goes on at another snapshot; what its finished parts hold is still right but for the rows
that this names. Refuses to keep anything but keys. The invariant: a table is answered for completely or not at all
(`Touched.why`), since one key that is missing would be a row that stays as it was.

PostgreSQL: protocol-logicalrep-message-formats.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from crossfade.faults import Fault
from crossfade.lsn import NOWHERE, Lsn
from crossfade.mapping.plan import TablePlan
from crossfade.pgoutput.decode import decode
from crossfade.pgoutput.messages import Begin, Delete, Insert, Relation, Truncate, Tuple, Update
from crossfade.walstream import HEADER, XLOG_DATA, keepalive
from crossfade.wire import shape

Key = tuple[bytes, ...]

# Memory for the keys of all tables together, and what one costs beyond its bytes: room for some 300,000 short ones.
# With more changes than that, to copy again is no great loss.
_ROOM: Final = 48 * 1024 * 1024
_COST: Final = 150
_BEGIN, _COMMIT, _RELATION, _TRUNCATE = b"BCRT"
_ROWS: Final = frozenset(b"IUD")


@dataclass(slots=True)
class Touched:
    """The rows of one table that were changed since `since`: the values of `plan.identity`, in text form.

    `relation` is the table as the stream described it, None where it brought no change, and `places` are where the
    values stand in its tuples. `why` says why the rows are not known, for people; None when `keys` are all of them.
    """

    plan: TablePlan
    since: Lsn
    relation: Relation | None = None
    keys: set[Key] = field(default_factory=set)
    why: str | None = None
    places: tuple[int, ...] = ()
    held: int = 0  # bytes of memory, about

    def described(self, relation: Relation) -> None:
        """From now on rows come in this shape."""
        if self.why is None and self.relation != relation:
            try:
                places = shape.positions(relation, self.plan)
            except Fault:
                self.give_up("its columns or its replica identity changed")
                return
            self.relation = relation
            self.places = tuple(places[name] for name in self.plan.identity)

    def saw(self, image: Tuple) -> None:
        """A row's new or old image."""
        key = []
        for place in self.places:
            cell = image[place]
            if not isinstance(cell, bytes):
                self.give_up("a change does not say which row it is of")
                return
            key.append(cell)
        found = tuple(key)
        if found not in self.keys:
            self.keys.add(found)
            self.held += _COST + sum(map(len, found))

    def give_up(self, why: str) -> None:
        """Nobody can say which rows were changed."""
        self.why = why
        self.keys.clear()
        self.held = 0


class Reading:
    """Frames in, keys out."""

    def __init__(self, tables: Iterable[Touched], until: Lsn) -> None:
        self._by_oid: dict[int, list[Touched]] = {}
        for table in tables:
            self._by_oid.setdefault(table.plan.source_oid, []).append(table)
        self._until = until
        self._final_lsn = NOWHERE  # of the transaction that is being read
        self._is_inside = False
        self._room = _ROOM
        self.is_done = False
        self.is_asked = False

    def take(self, frames: Iterable[bytes]) -> None:
        """Look at everything that came, until `until` is reached."""
        for frame in frames:
            tag = frame[HEADER] if len(frame) > HEADER else 0
            if tag in _ROWS and frame[0] == XLOG_DATA:
                tables = self._by_oid.get(int.from_bytes(frame[HEADER + 1 : HEADER + 5]))
                if tables is not None:
                    self._row(frame, tables)
                continue
            sign = keepalive(frame)
            if sign is not None:
                self.is_asked = self.is_asked or sign.reply_requested
                self.is_done = self.is_done or (not self._is_inside and sign.wal_end >= self._until)
            else:
                self._other(frame, tag)
            if self.is_done:
                return

    def give_up(self, why: str) -> None:
        """Of no table it is known which rows were changed."""
        for tables in self._by_oid.values():
            for table in tables:
                table.give_up(why)
        self.is_done = True

    def _other(self, frame: bytes, tag: int) -> None:
        if tag == _BEGIN:
            begin = decode(memoryview(frame)[HEADER:])
            assert isinstance(begin, Begin)
            self._final_lsn, self._is_inside = begin.final_lsn, True
            # The server's own test of what a snapshot shows (edge-cases 0.1).
            self.is_done = begin.final_lsn >= self._until
        elif tag == _RELATION:
            relation = decode(memoryview(frame)[HEADER:])
            assert isinstance(relation, Relation)
            for table in self._by_oid.get(relation.oid, ()):
                table.described(relation)
        elif tag == _TRUNCATE:
            truncate = decode(memoryview(frame)[HEADER:])
            assert isinstance(truncate, Truncate)
            for oid in truncate.relation_oids:
                for table in self._by_oid.get(oid, ()):
                    if self._final_lsn >= table.since:
                        table.give_up("it was truncated")
        elif tag == _COMMIT:
            self._is_inside = False

    def _row(self, frame: bytes, tables: list[Touched]) -> None:
        message: Insert | Update | Delete | None = None
        for table in tables:
            if table.why is not None or self._final_lsn < table.since:
                continue
            if message is None:
                decoded = decode(memoryview(frame)[HEADER:])
                assert isinstance(decoded, Insert | Update | Delete)
                message = decoded
            before = table.held
            if not isinstance(message, Insert) and message.old is not None:
                table.saw(message.old)
            if not isinstance(message, Delete) and table.why is None:
                table.saw(message.new)
            self._room -= table.held - before
            if self._room < 0:
                self._room += table.held
                table.give_up("so many of its rows were changed")
