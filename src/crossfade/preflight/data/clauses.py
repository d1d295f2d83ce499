"""What the target demands of rows in SQL of its own: CHECK constraints, unique indexes over expressions, partitions.

The server's text of such a clause is asked of the source, with the target's columns put in their places. Refuses to
know how the text is fetched. The invariant: a clause is only portable when it is made of the server's own functions,
none of them volatile, and of columns whose values the source can compute; any other is said to be left out.

PostgreSQL: functions-info (`pg_get_expr`, `pg_get_indexdef`, `pg_get_partition_constraintdef`).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import LiteralString

from psycopg import sql

from crossfade.catalog import Column, Table, TableName
from crossfade.findings import Severity
from crossfade.mapping.plan import TablePlan
from crossfade.preflight.data.asked import Blind, How, Question, fitting, inputs_of
from crossfade.preflight.data.effect import Effect
from crossfade.preflight.remarks import qualified, quoted


class ClauseKind(enum.Enum):
    CHECK = "check"  # one condition, which must not be false
    UNIQUE = "unique"  # several expressions that must differ, among rows for which `predicate` holds
    PARTITIONS = "partitions"  # one condition for each partition, one of which must hold


@dataclass(frozen=True, slots=True)
class Clause:
    """`table` is the target's root. `columns` are all that are mentioned; `predicate` is '' when there is none."""

    table: TableName
    name: str
    kind: ClauseKind
    texts: tuple[str, ...]
    predicate: str
    columns: tuple[str, ...]
    is_portable: bool


def row_of_target(
    columns: Sequence[str], target: Mapping[str, Column], effects: Mapping[str, Effect]
) -> sql.Composable | None:
    """The named columns of the target's row, made from the source's row `s`; None when one cannot be made there."""
    made: list[sql.Composable] = []
    for name in columns:
        column = target.get(name)
        if column is None:
            return None
        found = effects.get(name)
        if found is None:
            if column.has_default or column.identity or column.is_generated:
                return None
            value: sql.Composable = sql.SQL("NULL")
        elif found.value is None or not found.is_faithful:
            return None
        else:
            value = found.value
        if column.type_kind != "b" or "." in column.base_type or '"' in column.base_type:
            return None  # a type of the target's own
        made.append(
            # The type's name is the server's own spelling of a built-in type.
            sql.SQL("({})::{} AS {}").format(value, sql.SQL(column.base_type), sql.Identifier(name))
        )
    return sql.SQL("(SELECT {}) AS t").format(sql.SQL(", ").join(made))


def holds(text: str, row: sql.Composable, *, ending: LiteralString = "IS TRUE") -> sql.Composable:
    """Whether a condition holds of the target's row; or, with another ending, is not false and so on."""
    return sql.SQL("(SELECT ({}) {} FROM {})").format(_verbatim(text), sql.SQL(ending), row)


def value_of(text: str, row: sql.Composable) -> sql.Composable:
    """An expression over the target's row."""
    return sql.SQL("(SELECT {} FROM {})").format(_verbatim(text), row)


def _verbatim(text: str) -> sql.SQL:
    """A text the server wrote itself (it passed `is_portable`)."""
    return sql.SQL(text)


def clause_questions(
    table: TablePlan, target: Table, effects: Mapping[str, Effect], clauses: Sequence[Clause]
) -> Iterator[Question | Blind]:
    columns = {column.name: column for column in target.columns}
    for clause in clauses:
        row = row_of_target(clause.columns, columns, effects) if clause.is_portable else None
        if row is None:
            yield Blind(f"target {table.target}", f"whether the rows satisfy {_described(clause)}: only the target can")
        elif clause.kind is ClauseKind.UNIQUE:
            yield _unique_expressions(table, clause, row, effects)
        else:
            yield _condition(table, clause, row, effects)


def _condition(table: TablePlan, clause: Clause, row: sql.Composable, effects: Mapping[str, Effect]) -> Question:
    is_check = clause.kind is ClauseKind.CHECK
    fails = sql.SQL(" AND ").join(
        holds(text, row, ending="IS FALSE" if is_check else "IS NOT TRUE") for text in clause.texts
    )
    if is_check:
        sentence = f"would break {_described(clause)}"
        remedy = (
            "Mend these rows on the source, or drop the constraint until cutover:\n"
            f"ALTER TABLE {qualified(table.target)} DROP CONSTRAINT {quoted(clause.name)};"
        )
    else:
        sentence = f"would find no partition of {table.target}"
        remedy = (
            "Make partitions for them on the target, or one for everything else:\n"
            f"CREATE TABLE {qualified(_default_partition(table.target))}"
            f" PARTITION OF {qualified(table.target)} DEFAULT;"
        )
    return Question(
        "data_refused_by_check" if is_check else "data_without_partition",
        How.IN_PASSING,
        Severity.ERROR,
        inputs_of(table, clause.columns),
        sentence,
        remedy,
        fitting(fails, clause.columns, effects),
    )


def _unique_expressions(
    table: TablePlan, clause: Clause, row: sql.Composable, effects: Mapping[str, Effect]
) -> Question:
    values = tuple(value_of(text, row) for text in clause.texts)
    taking_part: list[sql.Composable] = [sql.SQL("{} IS NOT NULL").format(value) for value in values]
    if clause.predicate:
        taking_part.append(holds(clause.predicate, row))
    return Question(
        "data_duplicate",
        How.GROUPS,
        Severity.ERROR,
        inputs_of(table, clause.columns),
        f"share their ({', '.join(clause.texts)}) with another on {table.target}, where {clause.name} is unique",
        "Mend these rows on the source, or drop the index on the target until cutover.",
        fitting(sql.SQL(" AND ").join(taking_part), clause.columns, effects),
        values,
    )


def _described(clause: Clause) -> str:
    words = {
        ClauseKind.CHECK: f"the CHECK {clause.name}",
        ClauseKind.UNIQUE: f"the unique index {clause.name}",
        ClauseKind.PARTITIONS: f"the bounds of one of the partitions of {clause.table}",
    }
    return words[clause.kind]


def _default_partition(table: TableName) -> TableName:
    return TableName(table.schema, f"{table.name}_default")
