"""What the target has computed of decoded changes: asked for together, handed out one by one in the same order.

Refuses to know statements and codecs; the exact path uses it. The invariant: for each change asked about, and each
target of its table, there is one answer, taken once.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from crossfade.catalog import Route
from crossfade.mapping.plan import TablePlan
from crossfade.pgoutput.messages import UNCHANGED, Cell, Form, Insert, Relation, Tuple, Update
from crossfade.target.evaluate import Evaluator
from crossfade.target.pipeline import Pipeline
from crossfade.wire import derive
from crossfade.wire.fold import Rows

# Rows asked about at once, so that arrays stay small.
_AT_ONCE: Final = 2000


@dataclass(slots=True)
class _Table:
    """One way into a target table: what asks about its rows, the rows asked about, and what came of them."""

    relation: Relation
    plan: TablePlan
    evaluator: Evaluator
    asked: list[Tuple] = field(default_factory=list)
    answers: deque[tuple[bool, tuple[Cell, ...]]] = field(default_factory=deque)


class Derived:
    """`tables` are those it answers for."""

    def __init__(self, pipeline: Pipeline, form: Form) -> None:
        self._pipeline = pipeline
        self._form = form
        self.tables: dict[Route, _Table] = {}

    def describe(self, relation: Relation, plan: TablePlan) -> None:
        """Rows of that table are of this shape from now on, and not yet extended."""
        known = self.tables.get(plan.route)
        evaluator = Evaluator(self._pipeline, relation, plan, self._form)
        made = _Table(relation, plan, evaluator)
        if known is not None:
            made.answers = known.answers
        self.tables[plan.route] = made

    def forget(self) -> None:
        """Whatever was asked is of no use any more."""
        for table in self.tables.values():
            table.asked.clear()
            table.answers.clear()

    def ask(self, plan: TablePlan, message: Insert | Update) -> None:
        """Ask about the new row of a change."""
        table = self.tables.get(plan.route)
        if table is not None:
            table.asked.append(_whole(message))

    async def answer(self) -> None:
        """Have everything asked about answered. Raises RowRefused."""
        for table in self.tables.values():
            for start in range(0, len(table.asked), _AT_ONCE):
                table.answers += await self._answers(table, table.asked[start : start + _AT_ONCE])
            table.asked.clear()

    def take(self, plan: TablePlan, message: Insert | Update) -> tuple[Insert | Update, bool]:
        """The next change asked about, its rows extended, and whether the condition takes the new one."""
        is_taken, cells = self.tables[plan.route].answers.popleft()
        if not is_taken or not cells:
            return message, is_taken
        new = (*message.new, *cells)
        if isinstance(message, Update) and message.old is not None:
            old = (*message.old, *([UNCHANGED] * len(cells)))
            return dataclasses.replace(message, new=new, old=old), True
        return dataclasses.replace(message, new=new), True

    async def _answers(self, table: _Table, rows: list[Tuple]) -> list[tuple[bool, tuple[Cell, ...]]]:
        taken = await table.evaluator.matching(self._packed(rows))
        answers: list[tuple[bool, tuple[Cell, ...]]] = [(False, ())] * len(rows)
        # Rows that lack the same values are asked about together.
        groups: dict[frozenset[int], list[int]] = {}
        for at, row in enumerate(rows):
            if taken[at]:
                groups.setdefault(frozenset(_unsent(table, row)), []).append(at)
        for unsent, group in groups.items():
            results = await table.evaluator.computed(self._packed([rows[at] for at in group]), unsent)
            for number, at in enumerate(group):
                answers[at] = True, tuple(_decoded(cells[number]) for cells in results)
        return answers

    def _packed(self, rows: list[Tuple]) -> Rows:
        frames = [derive.packed(row, self._form) for row in rows]
        return Rows(frames, [1] * len(frames))


def _whole(message: Insert | Update) -> Tuple:
    """The new row, what was not sent taken from a whole old one (D2)."""
    if isinstance(message, Insert) or message.old is None or not message.old_is_full:
        return message.new
    return tuple(
        before if after is UNCHANGED else after for before, after in zip(message.old, message.new, strict=True)
    )


def _unsent(table: _Table, row: Tuple) -> Iterator[int]:
    """Places of the plan whose SQL reads one value, which was not sent: then its result is what it was. Of several
    values one may have changed, so that nothing can be said of the result (`Evaluator` refuses)."""
    missing = {column.name for column, value in zip(table.relation.columns, row, strict=True) if value is UNCHANGED}
    if missing:
        for place, expression in derive.computed(table.plan):
            if expression.names <= missing and len(expression.names) == 1:
                yield place


def _decoded(cell: bytes) -> Cell:
    if cell == b"n":
        return None
    return UNCHANGED if cell == b"u" else cell[5:]
