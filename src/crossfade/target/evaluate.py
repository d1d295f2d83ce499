"""SQL of the mapping, evaluated by the target for many rows at once: which of them are taken, and what is computed.

One statement for each expression, its inputs as arrays; copy, fast path and exact path ask here, so that there is one
evaluator. Refuses to know where rows come from and where they go. The invariant: a result belongs to the row it was
asked for, there is one for each, and an expression is only asked about rows that the condition takes.

PostgreSQL: functions-array ("unnest"), xfunc-volatility.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crossfade.faults import Fault, ProtocolViolation, RowRefused, Transient, Unreachable
from crossfade.mapping.derived import Expression
from crossfade.mapping.plan import TablePlan
from crossfade.pgoutput.messages import Form, Relation
from crossfade.session.connect import result_fault
from crossfade.target import setforms
from crossfade.target.pipeline import Pipeline, Statement, StatementFailed
from crossfade.wire import derive
from crossfade.wire.encode import Encoder
from crossfade.wire.fold import Rows
from crossfade.wire.remarks import Remarks


@dataclass(slots=True)
class _Asked:
    """One expression: its statement, and what makes arrays of its inputs. `place` is its column's in the plan."""

    expression: Expression
    place: int
    text: bytes
    encoder: Encoder
    what: str


class Evaluator:
    """Asks about rows of one relation shape in one form."""

    def __init__(self, pipeline: Pipeline, relation: Relation, plan: TablePlan, form: Form) -> None:
        self._pipeline = pipeline
        self._plan = plan
        self._form = form
        self._where = None
        if plan.where is not None:
            text = setforms.evaluate(plan.where, "boolean", form)
            self._where = _Asked(plan.where, -1, text, self._inputs(relation, plan.where), "where")
        self._computed = [
            _Asked(
                expression,
                place,
                setforms.evaluate(expression, setforms.type_of(plan.columns[place].target), form),
                self._inputs(relation, expression),
                plan.columns[place].target.name,
            )
            for place, expression in derive.computed(plan)
        ]

    @property
    def results(self) -> int:
        """How many cells a row gets."""
        return len(self._computed)

    def _inputs(self, relation: Relation, expression: Expression) -> Encoder:
        return Encoder(relation, derive.inputs_plan(self._plan, expression), self._form, {}, {})

    async def matching(self, rows: Rows) -> list[bool]:
        """Which rows the condition takes; all of them where there is none. NULL does not take a row."""
        if self._where is None or not rows.offsets:
            return [True] * len(rows.offsets)
        (values,) = await self._ask([(self._where, rows)])
        return [value in (b"t", b"\x01") for value in values]

    async def computed(self, rows: Rows, unsent: frozenset[int] = frozenset()) -> list[list[bytes]]:
        """For each expression a cell of each row. `unsent` are places of the plan's columns that an UPDATE left alone,
        since it did not send what they are made of."""
        if not rows.offsets:
            return [[] for _ in self._computed]
        asked = [each for each in self._computed if each.place not in unsent]
        answers = iter(await self._ask([(each, rows) for each in asked]))
        return [
            [b"u"] * len(rows.offsets)
            if each.place in unsent
            else [derive.cell(value, self._form) for value in next(answers)]
            for each in self._computed
        ]

    async def derived(self, rows: Rows) -> Rows:
        """Whole rows: those that are taken, with what is computed of them."""
        taken = derive.chosen(rows, await self.matching(rows))
        return derive.extended(taken, await self.computed(taken))

    async def _ask(self, asked: Sequence[tuple[_Asked, Rows]]) -> list[list[bytes | None]]:
        """Raises RowRefused naming the expression's place, or a fault that passes."""
        if not asked:
            return []
        is_binary = self._form is Form.BINARY
        statements: list[Statement] = []
        for each, rows in asked:
            try:
                arrays = each.encoder.arrays(rows, range(len(each.expression.inputs)), Remarks())
            except ProtocolViolation as violation:
                raise self._unsent(each) from violation
            statements.append(Statement(each.text, arrays, is_binary, is_binary))
        try:
            results = await self._pipeline.results(statements)
        except StatementFailed as failed:
            raise self._refused(asked[failed.index][0], failed) from None
        found: list[list[bytes | None]] = []
        for (each, rows), result in zip(asked, results, strict=True):
            if result.ntuples != len(rows.offsets):
                raise Fault(
                    f"The expression of {each.what} gave {result.ntuples} values for {len(rows.offsets)} rows.",
                    where=each.expression.place,
                    do="Report it with the expression and the server's version.",
                )
            found.append([result.get_value(at, 0) for at in range(result.ntuples)])
        return found

    def _refused(self, asked: _Asked, failed: StatementFailed) -> Fault:
        fault = result_fault(failed.result, where=f"{asked.expression.place} ({self._plan.target}: {asked.what})")
        if isinstance(fault, Transient | Unreachable):
            return fault
        return RowRefused(
            f"The SQL of {asked.what} cannot be evaluated for a row (SQLSTATE {failed.sqlstate}).",
            where=fault.where,
            means="Nothing of that transaction was applied; the slot keeps it.",
            do="Mend the row, then `crossfade resume`. An expression that can take such a row is another mapping: "
            "`crossfade teardown`, empty the target tables, `crossfade run`.",
            sqlstate=failed.sqlstate,
        )

    def _unsent(self, asked: _Asked) -> RowRefused:
        return RowRefused(
            f"The SQL of {asked.what} reads a value that was stored out of line and not sent.",
            where=f"{asked.expression.place} ({self._plan.target})",
            means="Nothing of that transaction was applied; the slot keeps it.",
            do=f"On the source: ALTER TABLE {self._plan.source} REPLICA IDENTITY FULL; then `crossfade teardown`, empty"
            " the target tables, `crossfade run`.",
        )
