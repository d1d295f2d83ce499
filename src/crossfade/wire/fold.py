# cython: language_level=3, annotation_typing=False, boundscheck=False, wraparound=False, initializedcheck=False
"""Many changes of a table become one per row: what a batch does to each identity in the end.

Frames are folded as they came from the wire, by the bytes of the source's identity columns, so that neither ids nor
the target are needed and a row is never more than the frame it arrived in. Refuses to know what the columns become
(`encode`). The invariant: applying deletes, updates, moves and inserts of the result to what was there before the batch
gives what applying the changes one by one gives; where that cannot be said from the frames alone, the fold is refused
by name and the batch is applied exactly (C3-C7, D2-D6).

Two rows may hold one identity for a moment only where it is not enforced at once, and such tables publish whole old
rows (FULL): there, an old row that is not the last image we know under its identity is somebody else, and a conflict.

Compiled where there is a compiler, see `native`; `fold.pxd` holds the types for that. Every read is checked by hand
against the end of its frame, because compiled code has no other guard.

PostgreSQL: protocol-logicalrep-message-formats, "TupleData".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from crossfade.faults import ProtocolViolation
from crossfade.mapping.derived import Expression
from crossfade.mapping.idrules import RemapBy
from crossfade.mapping.plan import Remap, TablePlan
from crossfade.pgoutput.messages import Form, Relation
from crossfade.wire.shape import positions

NO_KEY: Final = "no_key"
"""Rows cannot be told apart on the target, and something other than an INSERT came (C7)."""

ID_MOVED: Final = "id_moved"
"""The column whose ids a keyspace maps was changed: entries must move with the changes that refer to them (I5)."""

WIDE_KEY: Final = "wide_key"
"""A row is named only by a value that was stored out of line and not sent (D4)."""

CONFLICT: Final = "conflict"
"""An INSERT over a row that lives, or a change of one that does not: the frames alone cannot explain it."""


@dataclass(slots=True)
class Rows:
    """Tuples where they lie: row i is a TupleData, its int16 column count first, at offsets[i] of frames[i]."""

    frames: list[bytes]
    offsets: list[int]

    def __len__(self) -> int:
        return len(self.offsets)


@dataclass(slots=True)
class Folded:
    """What a batch does to a table: to rows that were there before it, and which are there after it.

    `inserts` in stream order. `deletes` carry the original key (K, O or N tuples), sorted by its bytes, as `updates`
    and `moves` are: by which places of `plan.columns` were not sent (promise 4). An update's image holds its key; a
    move's original key is in the first rows, its final image in the second.
    """

    inserts: Rows
    deletes: Rows
    updates: list[tuple[frozenset[int], Rows]]
    moves: list[tuple[frozenset[int], Rows, Rows]]


class _Slot:
    """One row through the batch. `frame` is None once it is dead; `unsent` is the number of the set of places of which
    no value is known (0: none, `TableFold` numbers them).

    For a row that was there before the batch, `key` is its original identity and `old_frame`, `old_at` the tuple that
    carries it. Compiled, nothing but bytes and numbers: the cyclic collector, which a million rows would keep busier
    than all else, leaves such objects alone.
    """

    __slots__ = ("at", "frame", "has_moved", "key", "old_at", "old_frame", "unsent")

    def __init__(self, frame: bytes, at: int) -> None:
        self.frame: bytes | None = frame
        self.at = at
        self.key: bytes | None = None
        self.old_frame = frame
        self.old_at = at
        self.unsent = 0
        self.has_moved = False


class TableFold:
    """The changes of one relation shape in one batch. `inserts`, `updates`, `deletes` count what was seen.

    `refused` is "" or why this cannot be folded; nothing but the counts means anything then.
    """

    __slots__ = (
        "_born",
        "_columns",
        "_end",
        "_first",
        "_gaps",
        "_identity",
        "_is_keyless",
        "_kind",
        "_last",
        "_missing",
        "_moved",
        "_old",
        "_owner",
        "_pairs",
        "_places",
        "_slots",
        "_unsent",
        "deletes",
        "form",
        "inserts",
        "plan",
        "refused",
        "relation",
        "updates",
    )

    def __init__(self, relation: Relation, plan: TablePlan, form: Form) -> None:
        where = positions(relation, plan)
        self.relation = relation
        self.plan = plan
        self.form = form
        self.inserts = 0
        self.updates = 0
        self.deletes = 0
        self.refused = ""
        self._moved = 0
        self._columns = len(relation.columns)
        self._kind = 98 if form is Form.BINARY else 116
        self._is_keyless = plan.append_only or not plan.key_is_unique or not plan.identity
        self._identity = tuple(sorted(where[name] for name in plan.identity))
        self._first = min(self._identity, default=-1)
        self._last = max(self._identity, default=-1)
        places: dict[int, list[int]] = {}
        owner: set[int] = set()
        self._pairs: list[tuple[int, int]] = []
        for place, column in enumerate(plan.columns):
            if column.source is not None:
                places.setdefault(where[column.source.name], []).append(place)
                if isinstance(column.rule, Remap) and column.rule.keyspace == plan.owns:
                    owner.add(where[column.source.name])
                if isinstance(column.rule, RemapBy):
                    # Not sent, it makes nobody's place unknown by itself; but an id that was sent cannot do without.
                    self._pairs.append((where[column.rule.by], where[column.source.name]))
                    places.setdefault(where[column.rule.by], [])
            elif isinstance(column.rule, Expression):
                # What is made of a single value that did not change did not either. Of several nothing can be said:
                # the cell stays as it is, and whoever is to evaluate the SQL refuses it.
                names = column.rule.names
                for name in names:
                    places.setdefault(where[name], []).extend([place] if len(names) == 1 else [])
        for name in () if plan.where is None else plan.where.names:
            places.setdefault(where[name], [])  # filled from the image before, too
        self._places = places  # by position; what is not in it is nobody's, or only part of the identity
        # Which of these the keyspace is declared on is not the plan's to know. The others refer to the table itself;
        # a change of one that an old tuple tells is applied exactly, too.
        self._owner = tuple(sorted(owner))
        self._gaps: dict[tuple[int, ...], int] = {}  # positions not sent: the number of the places that means
        self._unsent: list[frozenset[int]] = [frozenset()]
        self._slots: dict[bytes, _Slot | None] = {}  # who holds an identity now; None: nobody any more
        self._born: list[_Slot] = []
        self._old: list[_Slot] = []
        self._end = 0  # what the last walk of a tuple found besides its key: the offset behind it ...
        self._missing: list[int] | None = None  # ... and the positions of used columns that were not sent

    @property
    def has_moves(self) -> bool:
        """The identity of some row that was there before is another one now."""
        return self._moved > 0

    def rows(self) -> Folded:
        """The outcome; means nothing when refused."""
        inserts = Rows([], [])
        frames, offsets = inserts.frames, inserts.offsets
        for slot in self._born:
            if slot.frame is not None:
                frames.append(slot.frame)
                offsets.append(slot.at)
        deletes = Rows([], [])
        updates: dict[int, Rows] = {}
        moves: dict[int, tuple[Rows, Rows]] = {}
        for slot in sorted(self._old, key=_original):
            if slot.frame is None:
                _add(deletes, slot.old_frame, slot.old_at)
            elif slot.has_moved:
                before, after = moves.setdefault(slot.unsent, (Rows([], []), Rows([], [])))
                _add(before, slot.old_frame, slot.old_at)
                _add(after, slot.frame, slot.at)
            else:
                _add(updates.setdefault(slot.unsent, Rows([], [])), slot.frame, slot.at)
        return Folded(
            inserts,
            deletes,
            [(self._unsent[unsent], rows) for unsent, rows in updates.items()],
            [(self._unsent[unsent], before, after) for unsent, (before, after) in moves.items()],
        )

    # changes -------------------------------------------------------------------------------------------------------

    def insert(self, frame: bytes, at: int, size: int) -> None:
        """An I message whose new tuple's marker is at `at`."""
        data = frame
        self.inserts += 1
        if at >= size or data[at] != 78:
            raise _violation("Insert: expected N.", frame, at)
        if self.refused:
            return
        slot = _Slot(frame, at + 1)
        if not self._is_keyless:
            key = self._key(frame, at + 1, size)
            if key is None:
                self.refused = WIDE_KEY
                return
            found = self._slots.setdefault(key, slot)
            if found is not slot:
                if found is not None:
                    self.refused = CONFLICT
                    return
                self._slots[key] = slot
        self._born.append(slot)

    def update(self, frame: bytes, at: int, size: int) -> None:
        """A U message whose first marker is at `at`."""
        data = frame
        self.updates += 1
        old_at = -1
        old_key: bytes | None = None
        if at < size and (data[at] == 75 or data[at] == 79):
            old_at = at + 1
            old_key = self._walk(frame, old_at, size)
            at = self._end
        if at >= size or data[at] != 78:
            raise _violation("Update: expected K, O or N, and N behind an old tuple.", frame, at)
        at += 1
        new_key = self._walk(frame, at, size)
        if self._end != size:
            raise _violation("The message goes on after its last field.", frame, self._end)
        if self.refused:
            return
        if self._is_keyless:
            self.refused = NO_KEY
            return
        if old_at < 0:
            old_key = new_key
        if old_key is None:
            self.refused = WIDE_KEY
            return
        if old_at >= 0 and self._owner and self._owner_changes(frame, old_at, at, size):
            self.refused = ID_MOVED
            return
        slot = self._holder(old_key, frame, old_at if old_at >= 0 else at)
        if slot is None:
            self.refused = CONFLICT
            return
        unsent = 0
        if self._missing is not None:
            frame, at, unsent = self._filled(frame, at, size, self._missing, slot, old_at)
            if self._pairs and self._is_undecided(frame, at):
                self.refused = CONFLICT
                return
            if new_key is None:
                new_key = self._key(frame, at, len(frame))
                if new_key is None:
                    self.refused = WIDE_KEY
                    return
        slot.frame = frame
        slot.at = at
        slot.unsent = unsent
        if new_key is not None and new_key != old_key:
            self._move(slot, old_key, new_key)

    def delete(self, frame: bytes, at: int, size: int) -> None:
        """A D message whose old tuple's marker is at `at`."""
        data = frame
        self.deletes += 1
        if at >= size or (data[at] != 75 and data[at] != 79):
            raise _violation("Delete: expected K or O.", frame, at)
        at += 1
        key = self._walk(frame, at, size)
        if self._end != size:
            raise _violation("The message goes on after its last field.", frame, self._end)
        if self.refused:
            return
        if self._is_keyless:
            self.refused = NO_KEY
            return
        if key is None:
            self.refused = WIDE_KEY
            return
        slot = self._holder(key, frame, at)
        if slot is None:
            self.refused = CONFLICT
            return
        slot.frame = None
        if slot.has_moved:
            slot.has_moved = False
            self._moved -= 1
        self._slots[key] = None

    # rows ----------------------------------------------------------------------------------------------------------

    def _holder(self, key: bytes, frame: bytes, at: int) -> _Slot | None:
        """Who holds an identity that a change names by the tuple at `at`; None when nobody can."""
        if key in self._slots:
            slot = self._slots[key]
            if slot is not None and frame[at - 1] == 79 and not _is_equal(slot, frame, at):
                return None
            return slot
        slot = _Slot(frame, -1)  # alive, its image not known yet
        slot.key = key
        slot.old_at = at
        self._slots[key] = slot
        self._old.append(slot)
        return slot

    def _move(self, slot: _Slot, old_key: bytes, new_key: bytes) -> None:
        if self._slots.get(new_key) is not None:
            self.refused = CONFLICT
            return
        self._slots[old_key] = None
        self._slots[new_key] = slot
        if slot.key is None:  # born in the batch: nobody else has ever seen its former identity
            return
        has_moved = new_key != slot.key
        self._moved += has_moved - slot.has_moved
        slot.has_moved = has_moved

    def _filled(
        self, frame: bytes, at: int, size: int, missing: list[int], slot: _Slot, old_at: int
    ) -> tuple[bytes, int, int]:
        """An image whose missing cells are taken from the old tuple (D2) or the image before (C4), where they have one.

        `slot` must still hold the image before. A K tuple knows identity columns only (D3).
        """
        image = slot.frame
        before = _cells(image, slot.at, len(image)) if image is not None and slot.at >= 0 else None
        old = _cells(frame, old_at, size) if old_at >= 0 else None
        values: dict[int, bytes] = {}
        for position in missing:
            value = b"u"
            if old is not None and (frame[old_at - 1] == 79 or position in self._identity):
                value = old[position]
            if value == b"u" and before is not None:
                value = before[position]
            if value != b"u":
                values[position] = value
        gaps = tuple([position for position in missing if position not in values])
        unsent = self._gaps.get(gaps, -1)
        if unsent < 0:
            unsent = self._gaps[gaps] = self._number(gaps)
        if not values:
            return frame, at, unsent
        cells = _cells(frame, at, size)
        for position, value in values.items():
            cells[position] = value
        return b"N" + frame[at : at + 2] + b"".join(cells), 1, unsent

    def _is_undecided(self, frame: bytes, at: int) -> bool:
        """Of an id and the column that says whose it is, one is known and the other is not."""
        cells = _cells(frame, at, len(frame))
        return any((cells[asked] == b"u") is not (cells[position] == b"u") for asked, position in self._pairs)

    def _number(self, gaps: tuple[int, ...]) -> int:
        """Of the set of places that these positions fill."""
        places = frozenset([place for position in gaps for place in self._places.get(position, ())])
        if places not in self._unsent:
            self._unsent.append(places)
        return self._unsent.index(places)

    def _owner_changes(self, frame: bytes, old_at: int, new_at: int, size: int) -> bool:
        """A column the table's keyspace is mapped by has another value than before; one not sent has the same."""
        old = _cells(frame, old_at, size)
        new = _cells(frame, new_at, size)
        is_whole = frame[old_at - 1] == 79
        for position in self._owner:
            if (is_whole or position in self._identity) and new[position] != b"u" and old[position] != new[position]:
                return True
        return False

    # tuples --------------------------------------------------------------------------------------------------------

    def _key(self, frame: bytes, at: int, size: int) -> bytes | None:
        """The identity cells of a tuple, one after the other, each with its kind and length; None when one is 'u'.

        Walks no further than it must: what is behind the key is looked at when the row is encoded.
        """
        data = frame
        key: bytes | None = None
        wanted = 0
        awaited = self._first
        count = self._count(frame, at, size)
        at += 2
        for position in range(count):
            end = _past(frame, at, size)
            if position == awaited:
                kind = data[at]
                if kind == 117:
                    return None
                if kind != self._kind and kind != 110:
                    raise _violation("A column of the identity is in another form than was asked for.", frame, at)
                key = data[at:end] if key is None else key + data[at:end]
                if position == self._last:
                    return key
                wanted += 1
                awaited = self._identity[wanted]
            at = end
        raise _violation("A tuple has fewer columns than its relation.", frame, at)

    def _walk(self, frame: bytes, at: int, size: int) -> bytes | None:
        """The same of a tuple walked to its end, which `_end` then holds, and `_missing` the used columns not sent."""
        data = frame
        key: bytes | None = None
        missing: list[int] | None = None
        wanted = 0
        awaited = -1 if self._is_keyless else self._first
        count = self._count(frame, at, size)
        at += 2
        for position in range(count):
            end = _past(frame, at, size)
            kind = data[at]
            if kind == 117 and (position in self._places or position in self._identity):
                if missing is None:
                    missing = []
                missing.append(position)
            if position == awaited:
                if kind == 117:
                    key = None
                    awaited = -1
                elif kind != self._kind and kind != 110:
                    raise _violation("A column of the identity is in another form than was asked for.", frame, at)
                else:
                    key = data[at:end] if key is None else key + data[at:end]
                    wanted += 1
                    awaited = -1 if position == self._last else self._identity[wanted]
            at = end
        self._end = at
        self._missing = missing
        return key

    def _count(self, frame: bytes, at: int, size: int) -> int:
        data = frame
        if at + 2 > size:
            raise _violation("The message ends inside the number of columns.", frame, at)
        count = data[at] << 8 | data[at + 1]
        if count != self._columns:
            raise _violation("A tuple has another number of columns than its relation.", frame, at)
        return count


def fold(frames: Sequence[bytes], tables: Mapping[int, TableFold], skip: frozenset[int] = frozenset()) -> None:
    """Every row message into the fold of its relation's oid, in order; those of `skip` are in the copy already (G6).

    Frames are whole XLogData payloads of I, U and D messages; a TRUNCATE is nobody's to fold (ValueError). Raises
    ProtocolViolation; a refusal does not raise, see `TableFold.refused`.
    """
    last = -1
    table: TableFold | None = None
    for frame in frames:
        data = frame
        size = len(frame)
        if size < 31:  # the header of XLogData (25), the tag, the oid and a marker
            raise _violation("A row message ends before its tuple.", frame, size)
        tag = data[25]
        oid = data[26] << 24 | data[27] << 16 | data[28] << 8 | data[29]
        if tag == 84:
            raise ValueError("a truncate cannot be folded")
        if oid != last:
            table = tables.get(oid)
            if oid in skip:
                table = None
            elif table is None:
                raise _violation("A change of a relation that was never described.", frame, 26)
            last = oid
        if table is None:
            continue
        if tag == 73:
            table.insert(frame, 30, size)
        elif tag == 85:
            table.update(frame, 30, size)
        elif tag == 68:
            table.delete(frame, 30, size)
        else:
            raise _violation("Not a row message.", frame, 25)


def _add(rows: Rows, frame: bytes, at: int) -> None:
    rows.frames.append(frame)
    rows.offsets.append(at)


def _original(slot: _Slot) -> bytes:
    assert slot.key is not None, "only of rows that were there before"
    return slot.key


def _past(frame: bytes, at: int, size: int) -> int:
    """The offset behind the cell at `at`."""
    data = frame
    if at >= size:
        raise _violation("The message ends before a column.", frame, at)
    kind = data[at]
    if kind == 116 or kind == 98:
        end = at + 5
        if end > size:
            raise _violation("The message ends inside the length of a column.", frame, at)
        length = data[at + 1] << 24 | data[at + 2] << 16 | data[at + 3] << 8 | data[at + 4]
        if length < 0 or length > size - end:
            raise _violation("A column claims more bytes than are left in the message.", frame, at)
        return end + length
    if kind == 110 or kind == 117:
        return at + 1
    raise _violation("A column is of an unknown kind.", frame, at)


def _cells(frame: bytes, at: int, size: int) -> list[bytes]:
    """The cells of a tuple that was walked before, each with its kind and length; its bounds are checked again."""
    if at + 2 > size:
        raise _violation("The message ends inside the number of columns.", frame, at)
    count = frame[at] << 8 | frame[at + 1]
    at += 2
    cells: list[bytes] = []
    for _ in range(count):
        end = _past(frame, at, size)
        cells.append(frame[at:end])
        at = end
    return cells


def _is_equal(slot: _Slot, frame: bytes, at: int) -> bool:
    """A whole old row (the tuple at `at`) is the last image we know: else two rows share an identity for a moment."""
    image = slot.frame
    return image is not None and _cells(image, slot.at, len(image)) == _cells(frame, at, len(frame))


def _violation(what: str, frame: bytes, at: int) -> ProtocolViolation:
    """Offsets are told from the message's tag, behind the header (25); a tuple we put together has none."""
    tag = chr(frame[25]) if frame[:1] == b"w" and frame[25:26] in (b"I", b"U", b"D") else "(row)"
    return ProtocolViolation(what, tag=tag, offset=max(0, at - 25))
