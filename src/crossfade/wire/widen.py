"""Rows with compound columns: what several columns hold together, put behind the cells that the source sent.

Done before anybody else looks at a row, so that folding, encoding and the exact path find an ordinary column. Refuses
to know what is made of the value. The invariant: the cell is what the source's server makes of the same parts in the
copy (`statements.source_value`), byte for byte: two spellings of one key would be two ids.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from crossfade.catalog import TableName
from crossfade.faults import PlanMismatch, ProtocolViolation, Refused, RowRefused
from crossfade.mapping.compoundnames import is_compound, parts_of, written
from crossfade.mapping.plan import TablePlan
from crossfade.pgoutput.messages import Form, Relation, RelationColumn
from crossfade.wire.cells import id_reader

_TEXT_OID: Final = 25
_TUPLE: Final = 30  # where a row message's first marker stands in its frame
_ROWS: Final = b"IUD"
_TO_ESCAPE: Final = re.compile(rb'[\x00-\x1f"\\]')


@dataclass(frozen=True, slots=True)
class _Compound:
    """The place of each part in a tuple, what reads its cell, whether it is of the identity; `where` is for people."""

    parts: tuple[tuple[int, Callable[[bytes], bytes], bool], ...]
    where: str


class Widener:
    """Of the relations whose plans use compound columns; `plans` by source table."""

    def __init__(self, plans: Mapping[TableName, Sequence[TablePlan]], form: Form) -> None:
        self._form = form
        self._kind = b"b" if form is Form.BINARY else b"t"
        self._plans = {
            name: (targets[0], found)
            for name, targets in plans.items()
            if (found := sorted({used for plan in targets for used in plan.used if is_compound(used)}))
        }
        self._seen: Mapping[int, Relation] | None = None
        self._relations: Mapping[int, Relation] = {}
        self._compounds: dict[int, tuple[_Compound, ...]] = {}
        self._columns: dict[int, int] = {}  # how many the source sends
        self._known: dict[int, tuple[Relation, Relation]] = {}

    @property
    def is_needed(self) -> bool:
        """Whether there is a compound column at all."""
        return bool(self._plans)

    def relations(self, sent: Mapping[int, Relation]) -> Mapping[int, Relation]:
        """The relations as widened rows have them; the same objects for the same ones. Raises Refused, PlanMismatch."""
        if sent is not self._seen:
            self._relations = {oid: self._widened(relation) for oid, relation in sent.items()}
            self._seen = sent
        return self._relations

    def concerns(self, oids: set[int]) -> bool:
        """Whether rows of one of these relations are widened; only after `relations`."""
        return not self._compounds.keys().isdisjoint(oids)

    def frame(self, frame: bytes) -> bytes:
        """A row message with the compound cells behind those of each tuple; a frame that has none comes back as it is.

        Raises ProtocolViolation.
        """
        oid = int.from_bytes(frame[26:30], "big")
        compounds = self._compounds.get(oid)
        if compounds is None or frame[25] not in _ROWS:
            return frame
        columns = self._columns[oid]
        count = (columns + len(compounds)).to_bytes(2, "big")
        parts = [frame[:_TUPLE]]
        at, size = _TUPLE, len(frame)
        old: Sequence[int] | None = None
        while at < size:
            start = at + 3  # behind the marker and the number of columns
            starts = _starts(frame, start, size, columns)
            parts += (frame[at : at + 1], count, frame[start : starts[-1]])
            parts += [self._cell(frame, starts, each, old) for each in compounds]
            at, old = starts[-1], starts
        return b"".join(parts)

    def _widened(self, relation: Relation) -> Relation:
        known = self._known.get(relation.oid)
        if known is not None and known[0] is relation:
            return known[1]
        wide = relation
        if relation.table in self._plans:
            plan, names = self._plans[relation.table]
            self._compounds[relation.oid] = tuple(_compound(relation, plan, name, self._form) for name in names)
            self._columns[relation.oid] = len(relation.columns)
            keys = {column.name for column in relation.columns if column.is_key}
            added = tuple(RelationColumn(name, _TEXT_OID, -1, is_key=keys.issuperset(parts_of(name))) for name in names)
            wide = dataclasses.replace(relation, columns=(*relation.columns, *added))
        self._known[relation.oid] = relation, wide
        return wide

    def _cell(self, frame: bytes, starts: Sequence[int], compound: _Compound, old: Sequence[int] | None) -> bytes:
        """`old` is where the cells of the tuple before this one are, if there is one."""
        texts: list[bytes] = []
        unsent = 0
        for place, read, is_key in compound.parts:
            at, end = starts[place], starts[place + 1]
            if end == at + 1 and frame[at] == 117:
                # A part of the identity that was not sent stands in the old tuple; of others K says nothing (D3).
                if old is None or not (is_key or frame[old[0] - 3] == 79):
                    unsent += 1
                    continue
                at, end = old[place], old[place + 1]
                if end == at + 1 and frame[at] == 117:
                    unsent += 1
                    continue
            if end == at + 1:
                return b"n"
            texts.append(read(frame[at + 5 : end]))
        if unsent:
            if texts:
                raise _undecided(compound)
            return b"u"
        value = joined(texts)
        return self._kind + len(value).to_bytes(4, "big") + value


def joined(texts: Sequence[bytes]) -> bytes:
    """The value of a compound column, of its parts as the server prints them."""
    if _TO_ESCAPE.search(b"".join(texts)) is None:
        return b'["' + b'", "'.join(texts) + b'"]'
    return b"[" + b", ".join(map(_quoted, texts)) + b"]"


def _quoted(text: bytes) -> bytes:
    if _TO_ESCAPE.search(text) is None:
        return b'"' + text + b'"'
    return json.dumps(text.decode("utf-8"), ensure_ascii=False).encode()


def _compound(relation: Relation, plan: TablePlan, name: str, form: Form) -> _Compound:
    """Where its parts stand in this shape. What other columns must be, `shape` says."""
    sent = {column.name: at for at, column in enumerate(relation.columns)}
    mapped = {column.name: column for column in plan.source_columns}
    places: list[int] = []
    for part in parts_of(name):
        at = sent.get(part)
        if at is None or part not in mapped:
            raise Refused(
                f"Column {part}, which the mapping uses, is gone from the source table (dropped or renamed).",
                where=str(relation.table),
                means="Nothing of that transaction was applied.",
                do="Give the column back its name if no row was written meanwhile, then `crossfade run`; else change"
                " the mapping, `crossfade teardown`, empty the target tables, `crossfade run`.",
            )
        if relation.columns[at].type_oid != mapped[part].type_oid:
            raise PlanMismatch(
                f"Column {part} changed its type on the source; ids made of it would be others.",
                where=str(relation.table),
                means="Nothing of that transaction was applied; the slot keeps it.",
                do="`crossfade teardown`, empty the target tables, `crossfade run`: the table must be copied again.",
            )
        places.append(at)
    readers = [id_reader(relation.columns[at].type_oid) if form is Form.BINARY else _as_it_is for at in places]
    keys = [relation.columns[at].is_key for at in places]
    return _Compound(tuple(zip(places, readers, keys, strict=True)), f"{relation.table}, {written(name)}")


def _undecided(compound: _Compound) -> RowRefused:
    return RowRefused(
        "A change brings a part of an id that several columns are together without the others: they were stored out of"
        " line and not sent.",
        where=compound.where,
        means="Nothing of that transaction was applied; the slot keeps it.",
        do="On the source: set REPLICA IDENTITY FULL for the table; then `crossfade teardown`, empty the target tables,"
        " `crossfade run`.",
    )


def _as_it_is(cell: bytes) -> bytes:
    return cell


def _starts(frame: bytes, at: int, size: int, columns: int) -> list[int]:
    """Where each cell of a tuple begins, `at` being the first; behind the last one, where it ends."""
    if at > size or frame[at - 2] << 8 | frame[at - 1] != columns:
        raise _violation("A tuple has another number of columns than its relation.", frame, at)
    starts = [at]
    for _ in range(columns):
        if at >= size:
            raise _violation("The message ends before a column.", frame, at)
        kind = frame[at]
        if kind == 116 or kind == 98:
            at += 5 + int.from_bytes(frame[at + 1 : at + 5], "big")
        elif kind == 110 or kind == 117:
            at += 1
        else:
            raise _violation("A column is of an unknown kind.", frame, at)
        starts.append(at)
    if at > size:
        raise _violation("The message ends inside a column.", frame, at)
    return starts


def _violation(what: str, frame: bytes, at: int) -> ProtocolViolation:
    """Offsets are told from the message's tag, behind the header (25)."""
    return ProtocolViolation(what, tag=chr(frame[25]), offset=max(0, at - 25))
