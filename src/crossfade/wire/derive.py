"""Rows with what the target computed of them: further cells behind those that the source sent.

An expression's result becomes a cell of a column that the relation does not have, under a name no column can have, and
the plan's expression becomes a plain copy of it; so whoever encodes rows knows nothing of SQL. Refuses to know how a
result was come by (`target/evaluate`). The invariant: an extended row has the source's cells where they were, and one
more cell for each expression, in the plan's order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

from crossfade.catalog import Column
from crossfade.mapping.derived import Expression
from crossfade.mapping.plan import ColumnPlan, TablePlan, Verbatim
from crossfade.pgoutput.messages import UNCHANGED, Cell, Form, Relation, RelationColumn, TextCell, Tuple
from crossfade.wire.fold import Rows

# No column's name holds a zero byte.
_MARK: Final = "\0"


def has_expressions(plan: TablePlan) -> bool:
    """Whether the target must compute anything for a row before it can be written."""
    return bool(plan.expressions)


def computed(plan: TablePlan) -> list[tuple[int, Expression]]:
    """Places of `plan.columns` that an expression feeds."""
    return [(at, column.rule) for at, column in enumerate(plan.columns) if isinstance(column.rule, Expression)]


def extended_plan(plan: TablePlan) -> TablePlan:
    """The plan for rows that hold the results."""
    added = {at: _result(plan.columns[at].target, at) for at, _ in computed(plan)}
    columns = tuple(
        ColumnPlan(column.target, added[at], Verbatim()) if at in added else column
        for at, column in enumerate(plan.columns)
    )
    return dataclasses.replace(plan, columns=columns, source_columns=(*plan.source_columns, *added.values()))


def extended_relation(relation: Relation, plan: TablePlan) -> Relation:
    """The relation such rows are of; `plan` is the one that was not extended."""
    added = [_result(plan.columns[at].target, at) for at, _ in computed(plan)]
    columns = [RelationColumn(column.name, column.type_oid, column.typmod, is_key=False) for column in added]
    return dataclasses.replace(relation, columns=(*relation.columns, *columns))


def _result(target: Column, at: int) -> Column:
    return dataclasses.replace(target, name=f"{_MARK}{at}")


def inputs_plan(plan: TablePlan, expression: Expression) -> TablePlan:
    """A plan whose columns are the inputs of an expression, as the target sees them."""
    columns = tuple(ColumnPlan(each.shown, each.source, Verbatim()) for each in expression.inputs)
    return dataclasses.replace(plan, columns=columns, key=(), owns=None, where=None)


def reading_plan(plan: TablePlan) -> TablePlan:
    """A plan that only says which of the source's columns are read."""
    columns = tuple(
        ColumnPlan(column, column, Verbatim()) for column in plan.source_columns if column.name in plan.used
    )
    return dataclasses.replace(plan, columns=columns, key=(), owns=None, where=None)


def cell(value: bytes | None, form: Form) -> bytes:
    """One result as a tuple holds it."""
    if value is None:
        return b"n"
    return (b"b" if form is Form.BINARY else b"t") + len(value).to_bytes(4, "big") + value


def packed(row: Tuple, form: Form) -> bytes:
    """A decoded tuple as it was sent, behind a marker."""
    parts = [b"N", len(row).to_bytes(2, "big")]
    for each in row:
        if each is UNCHANGED:
            parts.append(b"u")
        elif type(each) is TextCell:
            parts.append(cell(each, Form.TEXT))
        else:
            assert each is None or isinstance(each, bytes)
            parts.append(cell(each, form))
    return b"".join(parts)


def chosen(rows: Rows, wanted: Sequence[bool]) -> Rows:
    """Those rows of which it is true."""
    if all(wanted):
        return rows
    kept = [at for at, is_wanted in enumerate(wanted) if is_wanted]
    # Where many rows lie in one frame, what follows a row says where it ends: each gets a frame of its own.
    frames = [rows.frames[at][rows.offsets[at] - 1 : _end(rows, at)] for at in kept]
    return Rows(frames, [1] * len(frames))


def extended(rows: Rows, results: Sequence[Sequence[bytes]]) -> Rows:
    """Rows with cells behind theirs; `results` has a cell of each row for each expression. Each tuple of `rows` is the
    last of its frame, or the next row's begins behind it."""
    if not results:
        return rows
    frames: list[bytes] = []
    for at, offset in enumerate(rows.offsets):
        frame = rows.frames[at]
        count = int.from_bytes(frame[offset : offset + 2], "big") + len(results)
        tail = [cells[at] for cells in results]
        frames.append(b"".join([b"N", count.to_bytes(2, "big"), frame[offset + 2 : _end(rows, at)], *tail]))
    return Rows(frames, [1] * len(frames))


def widened(rows: Rows, by: int) -> Rows:
    """Old tuples as long as extended ones: nothing is known behind their cells. Any tuple of a message will do."""
    if not by or not rows.offsets:
        return rows
    frames: list[bytes] = []
    for frame, offset in zip(rows.frames, rows.offsets, strict=True):
        count = int.from_bytes(frame[offset : offset + 2], "big")
        at = offset + 2
        for _ in range(count):
            is_sent = frame[at] in b"tb"
            at += 5 + int.from_bytes(frame[at + 1 : at + 5], "big") if is_sent else 1
        frames.append(b"K" + (count + by).to_bytes(2, "big") + frame[offset + 2 : at] + b"u" * by)
    return Rows(frames, [1] * len(frames))


def _end(rows: Rows, at: int) -> int:
    """Where a tuple ends: a marker before the next one of the same frame, or the frame's end."""
    if at + 1 < len(rows.offsets) and rows.frames[at + 1] is rows.frames[at]:
        return rows.offsets[at + 1] - 1
    return len(rows.frames[at])


def with_cells(row: Tuple, cells: Sequence[Cell]) -> Tuple:
    """The same for a decoded tuple."""
    return (*row, *cells)
