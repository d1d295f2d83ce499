"""What the target demands of rows in SQL of its own: CHECK constraints, unique indexes over expressions, partitions.

The server's text of such a clause is asked of the source, with the target's columns put in their places. Refuses to
know how the text is fetched. The invariant: a clause is only portable when it is made of the server's own functions,
none of them volatile, and of columns whose values the source can compute; any other is said to be left out.

PostgreSQL: functions-info (`pg_get_expr`, `pg_get_indexdef`, `pg_get_partition_constraintdef`).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import LiteralString

from psycopg import sql

from crossfade.catalog import Column, TableName
from crossfade.preflight.data.effect import Effect


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
