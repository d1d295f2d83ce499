"""One relation shape, compiled: how a wire tuple becomes a target row and a target key.

Built once per Relation message from the table's plan, it looks every column up by name once and walks tuples by
position after that. Refuses to wait: ids it does not know must have been loaded before. The invariant: the row has a
cell for every plan column, in plan order, each of the three kinds (promise 4); that the relation is the one the plan
was compiled for, `shape` has seen to.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from crossfade.faults import ProtocolViolation, RowRefused
from crossfade.mapping.plan import ColumnPlan, Const, LocalTime, Remap, TablePlan, Verbatim
from crossfade.pgoutput.messages import UNCHANGED, Cell, Form, Relation, TextCell, Tuple
from crossfade.wire import shape
from crossfade.wire.cells import id_reader, id_writer, instant_of, widener
from crossfade.wire.constants import binary_constant
from crossfade.wire.fields import timestamp_to_utc
from crossfade.wire.idstate import IdState
from crossfade.wire.references import Lookup, Old, References, asked_column, references
from crossfade.wire.remarks import Remarks
from crossfade.wire.rewrites import rewriter
from crossfade.wire.zones import Zone

Converted = tuple[bytes | None, str]


@dataclass(frozen=True, slots=True)
class Key:
    """An old row's key on the target. There are `others` when an id moved within this very source transaction, so that
    the old key may as well mean its new holder: try `cells` first, then them in their order."""

    cells: tuple[bytes | None, ...]
    others: tuple[tuple[bytes | None, ...], ...] = ()


class _Feed:
    """How one target column is fed: the source column's `position` (-1: a constant), and what is done to its bytes.

    `inner` knows the ids inside its cells, and `asked` is where the column stands that it asks for a keyspace (-1: no
    such column).
    `read` and `write` turn an old id of this form into the text its keyspace knows it by, and a new id's text into
    this form; `widen` makes a wider integer.
    """

    __slots__ = ("asked", "const", "convert", "inner", "keyspace", "position", "read", "widen", "write")

    def __init__(
        self,
        column: ColumnPlan,
        position: int,
        zones: Mapping[str, Zone],
        form: Form,
        inner: References | None,
        asked: int,
    ) -> None:
        self.position = position
        self.inner = inner
        self.asked = asked
        self.convert = _converter(column, zones, form)
        self.keyspace = column.rule.keyspace if isinstance(column.rule, Remap) else ""
        self.const = _const(column, form)
        self.read = self.write = self.widen = None
        if form is Form.BINARY and column.source is not None:
            pair = column.source.type_oid, column.target.type_oid
            if self.keyspace:
                self.read, self.write = id_reader(pair[0]), id_writer(pair[1])
            elif isinstance(column.rule, Verbatim):
                self.widen = widener(*pair)


class _NeverWritten(Exception):
    """An old image holds an id that no map knows."""


class RowCodec:
    """Tuples of one relation shape to target rows. `ids` holds the state of every keyspace the plan remaps by; `form`
    is that of the tuples, and of the rows that come out."""

    def __init__(
        self,
        relation: Relation,
        plan: TablePlan,
        ids: Mapping[str, IdState],
        zones: Mapping[str, Zone],
        form: Form = Form.TEXT,
    ) -> None:
        self.relation = relation
        self.plan = plan
        self._ids = ids
        positions = shape.positions(relation, plan)
        keyspaces = {name: state.keyspace for name, state in ids.items()}
        self._feeds = tuple(
            _Feed(
                column,
                positions[column.source.name] if column.source is not None else -1,
                zones,
                form,
                references(column, plan, keyspaces, form),
                -1 if (asked := asked_column(column.rule)) is None else positions[asked],
            )
            for column in plan.columns
        )
        by_target = {column.target.name: at for at, column in enumerate(plan.columns)}
        self.names = tuple(column.target.name for column in plan.columns)
        self.key_places = tuple(by_target[name] for name in plan.key)
        self.is_key = frozenset(self.key_places)
        self.is_const = frozenset(at for at, feed in enumerate(self._feeds) if feed.position < 0)
        self._identity = tuple(positions[name] for name in plan.identity)
        self._owner = shape.owner_position(plan, positions, ids)
        self._followed: dict[str, int] = {}  # by keyspace, the last move whose cascade reached this table
        self._reads = {feed.position: feed.read for feed in self._feeds if feed.keyspace}

    def _id(self, position: int, cell: Cell) -> bytes | None:
        """An old id as its keyspace knows it; None for NULL and for what was not sent."""
        if not isinstance(cell, bytes):
            return None
        read = self._reads[position]
        if read is None:
            return cell
        self._require_binary(cell)
        return read(cell)

    def _require_binary(self, cell: bytes) -> None:
        """A used column's type has a binary form, or the stream would be in text: then the server sends no other."""
        if type(cell) is TextCell:
            raise ProtocolViolation(
                f"{self.relation.table}: a value came as text in a binary stream.", tag="t", offset=0
            )

    # ids -----------------------------------------------------------------------------------------------------------

    def ids_in(self, row: Tuple, into: Mapping[str, set[bytes]]) -> None:
        """Add every old id of a tuple to its keyspace's set, so that all can be loaded in one query."""
        for feed in self._feeds:
            if feed.keyspace:
                old = self._id(feed.position, row[feed.position])
                if old is not None:
                    into[feed.keyspace].add(old)
            elif feed.inner is not None:
                cell = row[feed.position]
                if isinstance(cell, bytes):
                    for keyspace, old in self._ids_inside(feed, cell, row):
                        into[keyspace].add(old)

    def _ids_inside(self, feed: _Feed, cell: bytes, row: Tuple) -> list[Old]:
        assert feed.inner is not None
        by = row[feed.asked] if feed.asked >= 0 else None
        try:
            return feed.inner.ids(cell, by if isinstance(by, bytes) else None)
        except RowRefused:
            return []  # told when the row is written

    def owner_moved(self, old: Tuple, new: Tuple) -> None:
        """The source changed the very column the keyspace is declared on: its entry follows (I5)."""
        if self._owner is None:
            return
        keyspace, position = self._owner
        before, after = self._id(position, old[position]), self._id(position, new[position])
        if before is not None and after is not None and before != after:
            self._ids[keyspace].owner_key_changed(before, after)

    # rows ----------------------------------------------------------------------------------------------------------

    def kept(self, old: Tuple, new: Tuple) -> frozenset[int]:
        """Places of references that an UPDATE left as they were: the target keeps what it has there.

        What their text means now may be another id than the row carries: its cascade may still be on the way (I5).
        """
        return frozenset(
            at
            for at, feed in enumerate(self._feeds)
            if (feed.keyspace or feed.inner is not None)
            and self._owner != (feed.keyspace, feed.position)
            and _is_kept(old[feed.position], new[feed.position])
            and (feed.asked < 0 or _is_kept(old[feed.asked], new[feed.asked]))
        )

    def row(self, new: Tuple, old: Tuple | None, remarks: Remarks, *, is_update: bool = False) -> list[Cell]:
        """The target row of a new image. Under FULL, unchanged TOAST is taken from the old image (D2)."""
        cells: list[Cell] = []
        for at, feed in enumerate(self._feeds):
            if feed.position < 0:
                cells.append(feed.const)
                continue
            cell = new[feed.position]
            if cell is UNCHANGED and old is not None:
                cell = old[feed.position]
            if isinstance(cell, bytes):
                if feed.keyspace:
                    known = self._id(feed.position, cell)
                    assert known is not None, "it is bytes"
                    made = self._new_id(feed.keyspace, feed.position, known, remarks, is_update=is_update)
                    cell = self._written(at, made)
                elif feed.inner is not None:
                    by = self._asked(feed, new, old)
                    cell = self._rebuilt(
                        at, cell, by, lambda name, one: self._new_id(name, -1, one, remarks, is_update=is_update)
                    )
                else:
                    cell = self._plain(at, cell, remarks)
            elif cell is UNCHANGED and feed.asked >= 0 and new[feed.asked] is not UNCHANGED:
                raise self._undecided()  # the type may be another one now
            cells.append(cell)
        return cells

    def _asked(self, feed: _Feed, new: Tuple, old: Tuple | None) -> bytes | None:
        """The column that says of which keyspace an id is."""
        if feed.asked < 0:
            return None
        by = new[feed.asked]
        if by is UNCHANGED and old is not None:
            by = old[feed.asked]
        if by is UNCHANGED:
            raise self._undecided()
        assert by is None or isinstance(by, bytes)
        return by

    def _undecided(self) -> RowRefused:
        return RowRefused(
            "A change brings an id without the type that says whose it is, or the type alone: the other was stored out"
            " of line and not sent.",
            where=str(self.plan.source),
            means="Nothing of that transaction was applied; the slot keeps it.",
            do=f"On the source: ALTER TABLE {self.plan.source} REPLICA IDENTITY FULL; then `crossfade teardown`,"
            " empty the target tables, `crossfade run`.",
        )

    def _rebuilt(self, at: int, cell: bytes, by: bytes | None, lookup: Lookup) -> bytes | None:
        """A cell with ids inside, as the target takes it."""
        self._require_binary(cell)
        inner = self._feeds[at].inner
        assert inner is not None
        try:
            return inner.rebuilt(cell, by, lookup)
        except RowRefused as fault:
            fault.where = fault.where or f"{self.plan.source}, column {self.plan.columns[at].target.name}"
            raise

    def _plain(self, at: int, cell: bytes, remarks: Remarks) -> bytes | None:
        """A value that is no id, as the target takes it."""
        self._require_binary(cell)
        feed = self._feeds[at]
        if feed.convert is None:
            return cell if feed.widen is None else feed.widen(cell)
        try:
            converted, note = feed.convert(cell)
        except RowRefused as fault:
            fault.where = f"{self.plan.source}, column {self.plan.columns[at].target.name}"
            raise
        if note:
            remarks.clock[note] += 1
        return converted

    def _written(self, at: int, new: bytes) -> bytes:
        """A new id's text in the form of this stream."""
        write = self._feeds[at].write
        if write is None:
            return new
        try:
            return write(new)
        except RowRefused as fault:
            fault.where = f"{self.plan.source}, column {self.plan.columns[at].target.name}"
            raise

    def _new_id(self, keyspace: str, position: int, old: bytes, remarks: Remarks, *, is_update: bool) -> bytes:
        state = self._ids[keyspace]
        owns = self._owner == (keyspace, position)
        if owns:
            remarks.orphans.pop((keyspace, old), None)
        known = state.resolve_new(old)
        if known is not None:
            remarks.ids_known += 1
            return known
        if is_update and not owns and (waiting := state.resolve_waiting(old)) is not None:
            # A row that refers to a parent in two columns: the cascade changes one at a time, the other's is to come.
            return waiting
        if not owns:
            # Perhaps its parent comes later in this transaction (I1); perhaps never (I3): told at its end.
            remarks.orphans.setdefault((keyspace, old), self.plan)
        return state.allocate(old)

    # keys ----------------------------------------------------------------------------------------------------------

    def key_of_row(self, row: Sequence[Cell]) -> Key:
        """The key out of a converted new image: for an update that changed no identity column."""
        cells: list[bytes | None] = []
        for place in self.key_places:
            cell = row[place]
            if cell is UNCHANGED:
                raise _wide_key(self.plan)
            cells.append(cell)
        return Key(tuple(cells))

    def key_of_old(self, old: Tuple, new: Tuple | None, remarks: Remarks) -> Key:
        """The key out of a K or O tuple, of which only the identity columns mean anything (D3).

        `new` is the new image of an UPDATE, None for a DELETE. Ask before `owner_moved`. An old image never allocates:
        a key that no map knows identifies no row of ours, and comes back empty.
        """
        cascades = self._cascades(old, new) if new is not None else {}
        meanings: list[tuple[bytes | None, ...]] = []
        for place, position in zip(self.key_places, self._identity, strict=True):
            keyspace = self._feeds[place].keyspace
            cell = old[position]
            if cell is UNCHANGED:
                raise _wide_key(self.plan)
            if cell is None:
                meanings.append((None,))
            elif keyspace:
                found, alternative = self._old_id(keyspace, position, cell, new, cascades.get(keyspace))
                if found is None:
                    return Key(())
                both = (found,) if alternative is None else (found, alternative)
                meanings.append(tuple(self._written(place, each) for each in both))
            elif self._feeds[place].inner is not None:
                inside = self._old_inside(place, cell, old)
                if not inside:
                    return Key(())
                meanings.append(inside)
            else:
                meanings.append((self._plain(place, cell, remarks),))
        first, *others = itertools.product(*meanings)
        return Key(first, tuple(others))

    def _old_inside(self, place: int, cell: bytes, old: Tuple) -> tuple[bytes | None, ...]:
        """A key's cell with ids inside: by their live entries first, then by those that moved; empty when it holds one
        that was never written. No foreign key refers by them, so no cascade is on its way."""
        by = self._asked(self._feeds[place], old, None)
        found: list[bytes | None] = []
        for is_live in (True, False):

            def meant(name: str, one: bytes, is_live: bool = is_live) -> bytes:
                live, moved = self._ids[name].resolve_deleted(one)
                meaning = live if is_live or moved is None else moved
                if meaning is None:
                    raise _NeverWritten
                return meaning

            try:
                made = self._rebuilt(place, cell, by, meant)
            except _NeverWritten:
                return ()
            if made not in found:
                found.append(made)
        return tuple(found)

    def _cascades(self, old: Tuple, new: Tuple) -> dict[str, int]:
        """By keyspace, the move that this update of a referring row follows, if it is a cascade."""
        cascades: dict[str, int] = {}
        for place, position in zip(self.key_places, self._identity, strict=True):
            keyspace = self._feeds[place].keyspace
            if not keyspace:
                continue
            before, after = self._id(position, old[position]), self._id(position, new[position])
            if before is not None and after is not None and before != after:
                since = self._followed.get(keyspace, 0)
                number = self._ids[keyspace].cascade_of(before, after, since=since)
                if number is not None:
                    cascades[keyspace] = self._followed[keyspace] = number
        return cascades

    def _old_id(
        self, keyspace: str, position: int, cell: bytes, new: Tuple | None, cascade: int | None
    ) -> tuple[bytes | None, bytes | None]:
        state = self._ids[keyspace]
        old = self._id(position, cell)
        assert old is not None, "it is bytes"
        if self._owner == (keyspace, position):
            return state.resolve_owner(old), None
        if new is None:
            return state.resolve_deleted(old)
        becomes = new[position]
        if _is_kept(cell, becomes):
            return state.resolve_kept(old, cascade)
        return state.resolve_old(old, self._id(position, becomes), since=self._followed.get(keyspace, 0))


def _is_kept(before: Cell, after: Cell) -> bool:
    """The same reference in both images; one that was not sent again (a long text key) is the same, too."""
    return isinstance(before, bytes) and (after is UNCHANGED or after == before)


def _converter(column: ColumnPlan, zones: Mapping[str, Zone], form: Form) -> Callable[[bytes], Converted] | None:
    rule = column.rule
    rewrite = rewriter(column, form)
    if rewrite is not None:
        return lambda cell: (rewrite(cell), "")
    if not isinstance(rule, LocalTime):
        return None
    zone = zones[rule.zone]
    convert = timestamp_to_utc if form is Form.TEXT else instant_of
    return lambda cell: convert(cell, zone, rule.ambiguous, rule.nonexistent)


def _const(column: ColumnPlan, form: Form) -> bytes | None:
    if not isinstance(column.rule, Const) or column.rule.text is None:
        return None
    if form is Form.TEXT:
        return column.rule.text.encode()
    value = binary_constant(column.rule.text, column.target)
    assert value is not None, "`stream_form` keeps what has no binary form in text"
    return value


def _wide_key(plan: TablePlan) -> RowRefused:
    """D4: a key column stored out of line, unchanged, and no old tuple sent: the row cannot be identified."""
    return RowRefused(
        "A change names its row only by a key value that was stored out of line and not sent.",
        where=str(plan.source),
        means="Nothing of that transaction was applied; the slot keeps it.",
        do=f"On the source: ALTER TABLE {plan.source} REPLICA IDENTITY FULL; then `crossfade teardown`, empty the"
        " target tables, `crossfade run`.",
    )
