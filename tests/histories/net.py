"""What a fold says a batch does, done to plain dicts: the slow twin that the fold is checked against.

Rows are lists of cells (bytes with kind and length, as on the wire) under their identity's cells. Knows the manual's
table of TupleData and nothing of the fold's inside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crossfade.pgoutput.messages import Form, Relation
from crossfade.wire.fold import Folded, Rows, TableFold, fold
from tests.histories.tables import BY_NAME, TableSpec

Cells = list[bytes]
State = dict[tuple[bytes, ...], Cells]


def cells_at(frame: bytes, at: int) -> tuple[Cells, int]:
    """The TupleData at an offset, and where it ends."""
    count, at = int.from_bytes(frame[at : at + 2], "big"), at + 2
    cells: Cells = []
    for _ in range(count):
        size = 1 if frame[at : at + 1] in (b"n", b"u") else 5 + int.from_bytes(frame[at + 1 : at + 5], "big")
        cells.append(frame[at : at + size])
        at += size
    return cells, at


@dataclass(frozen=True, slots=True)
class _Shape:
    key: tuple[int, ...]
    used: tuple[int, ...]

    def of(self, cells: Sequence[bytes]) -> tuple[bytes, ...]:
        return tuple(cells[at] for at in self.key)


def _shape(table: TableSpec) -> _Shape:
    names = table.names
    used = tuple(at for at, name in enumerate(names) if name not in table.dropped)
    return _Shape(tuple(names.index(name) for name in table.key), used)


def one_by_one(state: State, frames: Sequence[bytes], table: TableSpec) -> State:
    """Each row message of the table's in order."""
    shape = _shape(table)
    state = dict(state)
    for frame in frames:
        tag, at = frame[25:26], 30
        old: Cells | None = None
        if frame[at : at + 1] in (b"K", b"O"):
            old, at = cells_at(frame, at + 1)
        if tag == b"D":
            assert old is not None
            del state[shape.of(old)]
            continue
        new, _ = cells_at(frame, at + 1)
        if tag == b"I":
            assert shape.of(new) not in state
        else:
            before = state.pop(shape.of(old if old is not None else new))
            new = [before[n] if cell == b"u" else cell for n, cell in enumerate(new)]
        state[shape.of(new)] = new
    return state


class Unequal(AssertionError):
    """The fold's outcome is not what the changes do one by one."""


def folded(state: State, frames: Sequence[bytes], relation: Relation, table_fold: TableFold) -> State | None:
    """The same by the fold: everything it says out of the way first, then put there. None when refused."""
    fold(frames, {relation.oid: table_fold})
    if table_fold.refused:
        return None
    table = BY_NAME[relation.table.name]
    shape = _shape(table)
    result: Folded = table_fold.rows()
    after = dict(state)

    def take(rows: Rows) -> list[Cells]:
        taken = []
        for frame, at in zip(rows.frames, rows.offsets, strict=True):
            key = shape.of(cells_at(frame, at)[0])
            if key not in after:
                raise Unequal("a row is taken out that is not there, or twice")
            taken.append(after.pop(key))
        return taken

    def images(rows: Rows) -> list[Cells]:
        return [cells_at(frame, at)[0] for frame, at in zip(rows.frames, rows.offsets, strict=True)]

    take(result.deletes)
    coming: list[tuple[Cells, Cells, frozenset[int]]] = []
    for unsent, rows in result.updates:
        coming += [(before, image, unsent) for before, image in zip(take(rows), images(rows), strict=True)]
    for unsent, originals, rows in result.moves:
        coming += [(before, image, unsent) for before, image in zip(take(originals), images(rows), strict=True)]
    names = [column.source.name if column.source is not None else "" for column in table_fold.plan.columns]
    coming += [([], image, frozenset()) for image in images(result.inserts)]
    for before, image, unsent in coming:
        missing = {table.names.index(names[place]) for place in unsent}
        for at in shape.used:
            if (image[at] == b"u") is not (at in missing):
                raise Unequal("what was not sent is not what is said not to have been")
        whole = [before[at] if at in missing else cell for at, cell in enumerate(image)]
        key = shape.of(whole)
        if key in after:
            raise Unequal("two rows of one key")
        after[key] = whole
    return after


def used(state: State, table: TableSpec) -> Mapping[tuple[bytes, ...], list[bytes]]:
    """Without the columns nobody uses."""
    return {key: [cells[at] for at in _shape(table).used] for key, cells in state.items()}


__all__ = ["Form", "State", "Unequal", "cells_at", "folded", "one_by_one", "used"]
