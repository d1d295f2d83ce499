# cython: language_level=3, annotation_typing=False, boundscheck=False, wraparound=False, initializedcheck=False
"""Folded rows as the target takes them: COPY data, or one array per column for the set-form statements.

Compiled once per relation shape: each tuple is walked once, then every column of the plan is put where it goes, in the
form the stream travels in. Refuses to make ids: one that no map knows raises `UnknownId`, and the batch is applied
exactly. The invariant: what is written for a row is what the exact path would write for it (`codec`), every column of
the plan in plan order, and a row is written whole or the call raises.

Compiled where there is a compiler, see `native`; `encode.pxd` holds the types for that. Every read is checked by hand
against the end of its frame, because compiled code has no other guard.

PostgreSQL: sql-copy, "Text Format" and "Binary Format"; array_recv() for arrays in binary.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Final

from crossfade.faults import ProtocolViolation, RowRefused
from crossfade.mapping.plan import ColumnPlan, Const, LocalTime, Remap, TablePlan
from crossfade.pgoutput.messages import Form, Relation
from crossfade.wire.constants import binary_constant
from crossfade.wire.entries import HEADER, TRAILER
from crossfade.wire.fields import copy_escape, timestamp_to_utc
from crossfade.wire.fold import Rows
from crossfade.wire.idstate import IdState
from crossfade.wire.references import References, asked_column, references
from crossfade.wire.remarks import Remarks
from crossfade.wire.rewrites import rewriter
from crossfade.wire.shape import owner_position, positions
from crossfade.wire.zones import Zone

try:
    import cython
except ImportError:  # it is only there to compile
    from crossfade.wire import uncompiled as cython

if not cython.compiled:  # compiled code takes their twins from leaf.pxd
    from crossfade.wire.leaf import (
        decimal,
        integer,
        local_time,
        printed_utc,
        put,
        put_escaped,
        put_int32,
        put_integer,
        put_quoted,
        uuid_bytes,
        uuid_text,
    )

_WIDTHS: Final = {21: 2, 23: 4, 20: 8}  # int2, int4, int8 by OID
_UUID: Final = 2950
_INT64: Final = 8

# What is done to a column's cell.
_CONST, _VERBATIM, _WIDEN, _CLOCK, _REMAP, _REWRITE, _INNER = range(7)


class UnknownId(Exception):
    """A row refers to an id that has no entry in its map yet: the exact path makes one."""


class _Place:
    """How one column of the plan is fed.

    `copied` and `listed` are a constant as COPY data and as an array's element. `source_width` and `target_width` are
    those of integers in binary, 16 for a uuid, 0 for text. `zone_start`, `zone_stop` (microseconds) bound the local
    times for which `offset` was found to hold.
    """

    __slots__ = (
        "asked",
        "column",
        "copied",
        "element_oid",
        "ids",
        "inner",
        "keyspace",
        "kind",
        "listed",
        "offset",
        "position",
        "rewrite",
        "rule",
        "source_width",
        "target_width",
        "zone",
        "zone_start",
        "zone_stop",
    )

    def __init__(
        self,
        column: ColumnPlan,
        position: int,
        form: Form,
        ids: Mapping[str, IdState],
        zones: Mapping[str, Zone],
        inner: References | None,
        asked: int,
    ) -> None:
        self.column = column
        self.position = position
        self.inner = inner
        self.asked = asked  # where the column stands that says of which keyspace an id is; -1: none does
        self.element_oid = column.target.type_oid
        self.source_width = 0
        self.target_width = 0
        self.copied = b""
        self.listed = b""
        self.keyspace = ""
        self.ids: dict[bytes, bytes] | None = None
        self.rewrite = rewriter(column, form)
        self.rule: LocalTime | None = None
        self.zone: Zone | None = None
        self.zone_start = 0
        self.zone_stop = 0
        self.offset = 0
        rule = column.rule
        is_binary = form is Form.BINARY
        if is_binary and column.source is not None:
            self.source_width = _width(column.source.type_oid)
            self.target_width = _width(column.target.type_oid)
        if isinstance(rule, Const) or column.source is None:
            self.kind = _CONST
            self.copied, self.listed = _constant(column, form)
        elif isinstance(rule, Remap):
            self.kind = _REMAP
            self.keyspace = rule.keyspace
            self.ids = ids[rule.keyspace].known
        elif isinstance(rule, LocalTime):
            self.kind = _CLOCK
            self.rule = rule
            self.zone = zones[rule.zone]
        elif self.rewrite is not None:
            self.kind = _REWRITE
        elif inner is not None:
            self.kind = _INNER
        elif self.source_width and self.target_width and self.source_width != self.target_width:
            self.kind = _WIDEN
        else:
            self.kind = _VERBATIM


class Encoder:
    """Rows of one relation shape in one form. `header` and `trailer` go around COPY data (empty in text)."""

    __slots__ = (
        "_columns",
        "_count",
        "_ids",
        "_ids_known",
        "_is_binary",
        "_key_places",
        "_kind",
        "_owner",
        "_places",
        "_starts",
        "header",
        "plan",
        "relation",
        "trailer",
    )

    def __init__(
        self,
        relation: Relation,
        plan: TablePlan,
        form: Form,
        ids: Mapping[str, IdState],
        zones: Mapping[str, Zone],
    ) -> None:
        where = positions(relation, plan)
        owner = owner_position(plan, where, ids)
        keyspaces = {name: state.keyspace for name, state in ids.items()}
        self.relation = relation
        self.plan = plan
        self._ids = ids
        self._is_binary = form is Form.BINARY
        self._kind = 98 if self._is_binary else 116
        self._columns = len(relation.columns)
        self._places = [
            _Place(
                column,
                -1 if column.source is None else where[column.source.name],
                form,
                ids,
                zones,
                references(column, plan, keyspaces, form),
                -1 if (asked := asked_column(column.rule)) is None else where[asked],
            )
            for column in plan.columns
        ]
        self._count = len(self._places).to_bytes(2, "big") if self._is_binary else b""
        self._starts = array("q", bytes(8 * (self._columns + 1)))
        self._ids_known = 0  # in the rows at hand
        self._owner = -1 if owner is None else owner[1]
        by_target = {column.target.name: place for place, column in enumerate(plan.columns)}
        self._key_places = [by_target[name] for name in plan.key]
        self.header = HEADER if self._is_binary else b""
        self.trailer = TRAILER if self._is_binary else b""

    # ids -----------------------------------------------------------------------------------------------------------

    def old_ids(
        self,
        rows: Rows,
        owned: Mapping[str, list[bytes]],
        referred: Mapping[str, list[bytes]],
        *,
        keys_only: bool = False,
    ) -> None:
        """Append every old id of the rows to its keyspace's list, as normalised text (what IdState is keyed by), in the
        order of the rows and as often as it is named.

        Those of the column the keyspace is declared on go to `owned`, references to `referred`. `keys_only`: the
        tuples are old ones, of which only the identity columns mean anything (D3).
        """
        numbers = self._key_places if keys_only else range(len(self._places))
        places = [place for place in (self._places[number] for number in numbers) if place.kind == _REMAP]
        if places and _length(rows):
            into = [(owned if place.position == self._owner else referred)[place.keyspace] for place in places]
            self._gather(rows.frames, rows.offsets, places, into)
        inner = [place for place in (self._places[number] for number in numbers) if place.kind == _INNER]
        if inner and _length(rows):
            self._gather_inner(rows.frames, rows.offsets, inner, referred)

    def _gather_inner(
        self, frames: list[bytes], offsets: list[int], places: list[_Place], referred: Mapping[str, list[bytes]]
    ) -> None:
        starts = self._starts
        for number in range(len(offsets)):
            frame = frames[number]
            data = frame
            self._walk(frame, offsets[number], self._columns)
            for place in places:
                at = starts[place.position]
                if data[at] != self._kind:
                    continue
                assert place.inner is not None
                try:
                    olds = place.inner.ids(frame[at + 5 : starts[place.position + 1]], self._asked(place, frame))
                except RowRefused:
                    continue  # told when the row is written
                for keyspace, old in olds:
                    referred[keyspace].append(old)

    def _asked(self, place: _Place, frame: bytes) -> bytes | None:
        """The cell of the column that says of which keyspace an id is; None for NULL, and where there is no such
        column or it was not sent (`fold` lets none pass that would be needed)."""
        if place.asked < 0:
            return None
        data = frame
        at = self._starts[place.asked]
        return frame[at + 5 : self._starts[place.asked + 1]] if data[at] == self._kind else None

    def _gather(self, frames: list[bytes], offsets: list[int], places: list[_Place], into: list[list[bytes]]) -> None:
        starts = self._starts
        columns = 1 + max([place.position for place in places])  # what is behind is looked at when the row is written
        for number in range(len(offsets)):
            frame = frames[number]
            data = frame
            self._walk(frame, offsets[number], columns)
            for which in range(len(places)):
                place = places[which]
                at = starts[place.position]
                if data[at] == self._kind:
                    olds = into[which]
                    olds.append(self._old_id(place, frame, at + 5, starts[place.position + 1]))

    def _old_id(self, place: _Place, frame: bytes, start: int, stop: int) -> bytes:
        width = place.source_width
        if width == 0:
            return frame[start:stop]
        if stop - start != width:
            raise self._violation("A value has another length than its type.", frame, start)
        if width == 16:
            return uuid_text(frame, start)
        return decimal(integer(frame, start, width))

    # rows ----------------------------------------------------------------------------------------------------------

    def copy_data(self, rows: Rows, start: int, stop: int, remarks: Remarks) -> bytes:
        """Rows [start, stop) as COPY data: every column of the plan in plan order.

        Raises UnknownId, RowRefused (a value no conversion takes) and ProtocolViolation.
        """
        if not 0 <= start <= stop <= _length(rows):
            raise ValueError(f"rows {start} to {stop} of {_length(rows)}")
        out = bytearray()
        self._ids_known = 0
        starts = self._starts
        places = self._places
        frames, offsets = rows.frames, rows.offsets
        is_binary, kind = self._is_binary, self._kind
        for number in range(start, stop):
            frame = frames[number]
            data = frame
            self._walk(frame, offsets[number], self._columns)
            is_first = True
            if is_binary:
                put(out, self._count, 0, 2)
            for place in places:
                if is_first:
                    is_first = False
                elif not is_binary:
                    out.append(9)
                if place.kind == _CONST:
                    put(out, place.copied, 0, len(place.copied))
                    continue
                at = starts[place.position]
                if data[at] == kind:
                    if place.kind == _VERBATIM:
                        if is_binary:
                            put(out, frame, at + 1, starts[place.position + 1])
                        else:
                            put_escaped(out, frame, at + 5, starts[place.position + 1])
                        continue
                    self._put_converted(out, place, frame, at + 5, starts[place.position + 1], remarks, False)
                elif data[at] == 110:
                    if is_binary:
                        put_int32(out, -1)
                    else:
                        put(out, b"\\N", 0, 2)
                else:
                    raise self._violation("A column of a whole row was not sent in the form asked for.", frame, at)
            if not is_binary:
                out.append(10)
        remarks.ids_known += self._ids_known
        return bytes(out)

    def arrays(self, rows: Rows, places: Sequence[int], remarks: Remarks) -> list[bytes]:
        """One array per place of `plan.columns`, an element per row: in binary of the target column's own type, in
        text the literal of a text[].

        A column that is an array itself has no array of its own in PostgreSQL; only the text form can carry it.
        Raises as `copy_data` does.
        """
        if places and (min(places) < 0 or max(places) >= len(self._places)):
            raise ValueError("a place that the plan does not have")
        chosen = [self._places[number] for number in places]
        self._ids_known = 0
        outs = [bytearray() for _ in chosen]
        has_null = [False for _ in chosen]
        frames, offsets = rows.frames, rows.offsets
        count = _length(rows)
        starts = self._starts
        is_binary, kind = self._is_binary, self._kind
        for number in range(count):
            frame = frames[number]
            data = frame
            self._walk(frame, offsets[number], self._columns)
            for at_place in range(len(chosen)):
                place = chosen[at_place]
                out = outs[at_place]
                if number and not is_binary:
                    out.append(44)
                if place.kind == _CONST:
                    put(out, place.listed, 0, len(place.listed))
                    continue
                at = starts[place.position]
                if data[at] == kind:
                    if place.kind == _VERBATIM:
                        if is_binary:
                            put(out, frame, at + 1, starts[place.position + 1])
                        else:
                            put_quoted(out, frame, at + 5, starts[place.position + 1])
                        continue
                    if self._put_converted(out, place, frame, at + 5, starts[place.position + 1], remarks, True):
                        has_null[at_place] = True
                elif data[at] == 110:
                    has_null[at_place] = True
                    if is_binary:
                        put_int32(out, -1)
                    else:
                        put(out, b"NULL", 0, 4)
                else:
                    raise self._violation("A column that is needed was not sent in the form asked for.", frame, at)
        remarks.ids_known += self._ids_known
        if not is_binary:
            return [b"{" + bytes(out) + b"}" for out in outs]
        return [
            _array_header(count, place, has_null=null or (count > 0 and place.listed == b"\xff\xff\xff\xff"))
            + bytes(out)
            for place, null, out in zip(chosen, has_null, outs, strict=True)
        ]

    # values --------------------------------------------------------------------------------------------------------

    def _put_converted(
        self, out: bytearray, place: _Place, frame: bytes, start: int, stop: int, remarks: Remarks, is_listed: bool
    ) -> bool:
        """Append a cell that is neither NULL nor verbatim, by its column's rule; `is_listed`: as an array's element.

        Returns whether it became NULL.
        """
        if place.kind == _CLOCK:
            value = self._to_utc(out, place, frame, start, stop, remarks)
            if self._is_binary:
                return False
        elif place.kind == _REWRITE or place.kind == _INNER:
            rewritten = self._rewritten(place, frame, frame[start:stop])
            if rewritten is None:
                if self._is_binary:
                    put_int32(out, -1)
                elif is_listed:
                    put(out, b"NULL", 0, 4)
                else:
                    put(out, b"\\N", 0, 2)
                return True
            value = rewritten
        elif place.kind == _WIDEN:
            if stop - start != place.source_width:
                raise self._violation("A value has another length than its type.", frame, start)
            put_integer(out, integer(frame, start, place.source_width), place.target_width)
            return False
        else:
            value = self._new_id(place, frame, start, stop)
        if is_listed and not self._is_binary:
            put_quoted(out, value, 0, len(value))
        elif self._is_binary:
            put_int32(out, len(value))
            put(out, value, 0, len(value))
        else:
            put_escaped(out, value, 0, len(value))
        return False

    def _rewritten(self, place: _Place, frame: bytes, cell: bytes) -> bytes | None:
        try:
            if place.inner is not None:
                return place.inner.rebuilt(cell, self._asked(place, frame), self._known)
            assert place.rewrite is not None
            return place.rewrite(cell)
        except RowRefused as fault:
            fault.where = f"{self.plan.source}, column {place.column.target.name}"
            raise

    def _known(self, keyspace: str, old: bytes) -> bytes:
        new = self._ids[keyspace].known.get(old)
        if new is None:
            raise UnknownId(keyspace)
        self._ids_known += 1
        return new

    def _new_id(self, place: _Place, frame: bytes, start: int, stop: int) -> bytes:
        known = place.ids
        assert known is not None
        new = known.get(self._old_id(place, frame, start, stop))
        if new is None:
            raise UnknownId(place.keyspace)
        self._ids_known += 1
        width = place.target_width
        if width == 0:
            return new
        if width == 16:
            value = uuid_bytes(new)
            if not value:
                raise _no_id(place, self.plan)
            return value
        try:
            return int(new).to_bytes(width, "big", signed=True)
        except (ValueError, OverflowError):
            raise _no_id(place, self.plan) from None

    def _to_utc(self, out: bytearray, place: _Place, frame: bytes, start: int, stop: int, remarks: Remarks) -> bytes:
        """A local time in UTC: in binary appended to `out`, in text returned.

        Where a stretch of the zone with one offset is known and holds the time, that is all there is to it.
        """
        if self._is_binary:
            if stop - start != _INT64:
                raise self._violation("A value has another length than its type.", frame, start)
            local = integer(frame, start, 8)
            if place.zone_start <= local < place.zone_stop:
                put_integer(out, local - place.offset, 8)
                return b""
        else:
            local = local_time(frame, start, stop)
            if place.zone_start <= local < place.zone_stop:
                value = printed_utc(local - place.offset)
                if value:
                    return value
        zone, rule = place.zone, place.rule
        assert zone is not None
        assert rule is not None
        value = b""
        try:
            if self._is_binary:
                utc, note = zone.to_utc(local, ambiguous=rule.ambiguous, nonexistent=rule.nonexistent)
                put_integer(out, utc, 8)
            else:
                value, note = timestamp_to_utc(frame[start:stop], zone, rule.ambiguous, rule.nonexistent)
        except RowRefused as fault:
            fault.where = f"{self.plan.source}, column {place.column.target.name}"
            raise
        place.zone_start, place.zone_stop, place.offset = zone.segment(local)
        if note:
            remarks.clock[note] += 1
        return value

    # tuples --------------------------------------------------------------------------------------------------------

    def _walk(self, frame: bytes, at: int, columns: int) -> None:
        """Where each of the first `columns` cells of a tuple starts, into `_starts`; behind the last, where it ends.

        A new tuple (marker N) is the last thing in its frame: bytes behind it make it no message.
        """
        data = frame
        starts = self._starts
        size = len(frame)
        if at < 1 or at + 2 > size:
            raise self._violation("The message ends inside the number of columns.", frame, at)
        if data[at] << 8 | data[at + 1] != self._columns:
            raise self._violation("A tuple has another number of columns than its relation.", frame, at)
        is_last = data[at - 1] == 78
        at += 2
        for position in range(columns):
            starts[position] = at
            if at >= size:
                raise self._violation("The message ends before a column.", frame, at)
            kind = data[at]
            if kind == 116 or kind == 98:
                if at + 5 > size:
                    raise self._violation("The message ends inside the length of a column.", frame, at)
                length = data[at + 1] << 24 | data[at + 2] << 16 | data[at + 3] << 8 | data[at + 4]
                at += 5
                if length < 0 or length > size - at:
                    raise self._violation("A column claims more bytes than are left in the message.", frame, at)
                at += length
            elif kind == 110 or kind == 117:
                at += 1
            else:
                raise self._violation("A column is of an unknown kind.", frame, at)
        starts[columns] = at
        if is_last and columns == self._columns and at != size:
            raise self._violation("The message goes on after its last field.", frame, at)

    def _violation(self, what: str, frame: bytes, at: int) -> ProtocolViolation:
        """Offsets are told from the message's tag, behind the header (25)."""
        tag = chr(frame[25]) if frame[:1] == b"w" and frame[25:26] in (b"I", b"U", b"D") else "(row)"
        return ProtocolViolation(f"{self.relation.table}: {what}", tag=tag, offset=max(0, at - 25))


def _length(rows: Rows) -> int:
    """How many there are. Compiled code looks no index up: what is beyond the end must be refused before."""
    if len(rows.frames) != len(rows.offsets):
        raise ValueError("as many frames as offsets make rows")
    return len(rows.offsets)


def _width(type_oid: int) -> int:
    return 16 if type_oid == _UUID else _WIDTHS.get(type_oid, 0)


def _constant(column: ColumnPlan, form: Form) -> tuple[bytes, bytes]:
    """A constant as COPY data and as an array's element."""
    rule = column.rule
    text = rule.text if isinstance(rule, Const) else None
    if form is Form.TEXT:
        if text is None:
            return b"\\N", b"NULL"
        quoted = bytearray()
        put_quoted(quoted, text.encode(), 0, len(text.encode()))
        return copy_escape(text.encode()), bytes(quoted)
    if text is None:
        return b"\xff\xff\xff\xff", b"\xff\xff\xff\xff"
    value = binary_constant(text, column.target)
    if value is None:
        raise ValueError(f"{column.target.name}: a constant of a type that `stream_form` keeps in text")
    element = len(value).to_bytes(4, "big") + value
    return element, element


def _array_header(count: int, place: _Place, *, has_null: bool) -> bytes:
    """Dimensions, whether there is a NULL, the element's type; then length and lower bound of the one dimension."""
    numbers = [1, int(has_null), place.element_oid, count, 1] if count else [0, 0, place.element_oid]
    return b"".join(number.to_bytes(4, "big") for number in numbers)


def _no_id(place: _Place, plan: TablePlan) -> RowRefused:
    return RowRefused(
        f"The map of keyspace {place.keyspace} holds a new id that is no value of the column's type.",
        where=f"{plan.source}, column {place.column.target.name}",
        means="Nothing of this transaction was applied; the slot keeps it.",
        do=f"Check what was written into crossfade.id_{place.keyspace} by hand.",
    )
