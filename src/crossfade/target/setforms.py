"""A plan, as SQL over arrays: one statement for all rows of a table that a batch updates, deletes, moves or adds.

Each parameter is an array, one element for each row, spread by `unnest`; there is no staging table (decision 0011).
Composes text only, as `statements` does for single rows, and refuses to know connections and values. The invariant:
an array is typed by its target column without the typmod, so that a value reaches the column by assignment and what
does not fit is refused, never cut (F31); rows are found by a unique key only (C7).

PostgreSQL: functions-array ("unnest"), queries-with ("Data-Modifying Statements in WITH"), typeconv-query.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from psycopg import sql

from crossfade import statements
from crossfade.catalog import Column
from crossfade.mapping.derived import Expression
from crossfade.mapping.plan import Const, Keyspace, TablePlan
from crossfade.pgoutput.messages import Form

# format_type() without a typmod prints these so that, read back, they mean a length of one.
_WITHOUT_LENGTH: Final = {"character": "pg_catalog.bpchar", "bit": 'pg_catalog."bit"'}


def type_of(column: Column) -> str:
    """The column's type as a cast may name it: any length."""
    name = column.base_type
    element = name.removesuffix("[]")
    return _WITHOUT_LENGTH.get(element, element) + name[len(element) :]


def is_array(column: Column) -> bool:
    """Of an array type: an array of such values cannot be written, since arrays have dimensions, not nesting."""
    return column.element_type_kind != ""


def goes_as_array(column: Column, form: Form) -> bool:
    """Whether a set statement can carry the column's values: all can, save arrays in binary form."""
    return form is Form.TEXT or not is_array(column)


def _spread(column: Column, number: int, form: Form) -> str:
    """One column of rows out of parameter `number`; the column's own input function reads each element."""
    name = type_of(column)
    if form is Form.TEXT and _is_read_alone(column):
        return f"unnest(${number}::text[])::{name}"
    return f"unnest(${number}::{name}[])"


def _is_read_alone(column: Column) -> bool:
    """An array literal of the type itself cannot be relied on: its elements are arrays, or parted otherwise than by
    a comma (box; what an extension brings)."""
    own = "." in column.base_type  # the search path is pg_catalog alone
    return column.type_kind == "b" and (is_array(column) or own or column.base_type == "box")


class _Spread:
    """Builds the SELECT that makes rows of array parameters, numbering them as they come."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._count = 0
        self._parts: list[str] = []

    def add(self, column: Column, name: str) -> None:
        self._count += 1
        self._parts.append(f"{_spread(column, self._count, self._form)} AS {name}")

    def flag(self, name: str) -> None:
        self._count += 1
        self._parts.append(f"unnest(${self._count}::pg_catalog.bool[]) AS {name}")

    def select(self) -> sql.SQL:
        # Not through format(): a type's name, quoted by the server, may hold braces.
        return sql.SQL("(SELECT " + ", ".join(self._parts) + ")")


def key_places(plan: TablePlan) -> list[int]:
    """Where the key's columns stand among the plan's."""
    by_name = {column.target.name: at for at, column in enumerate(plan.columns)}
    return [by_name[name] for name in plan.key]


def assigned_places(plan: TablePlan, unsent: Collection[int]) -> list[int]:
    """What an update of rows that keep their key writes: not the key, no constants, not what was not sent."""
    key = set(key_places(plan))
    return [
        at
        for at, column in enumerate(plan.columns)
        if at not in key and at not in unsent and not isinstance(column.rule, Const)
    ]


def _matches(plan: TablePlan) -> sql.Composed:
    return sql.SQL(" AND ").join(
        sql.SQL("t.{} = n.k{}").format(sql.Identifier(name), sql.SQL(str(at))) for at, name in enumerate(plan.key)
    )


def _text(*parts: sql.Composable) -> bytes:
    return sql.Composed(parts).as_bytes(None)


def _with_key(plan: TablePlan, spread: _Spread) -> None:
    for at, place in enumerate(key_places(plan)):
        spread.add(plan.columns[place].target, f"k{at}")


def update(plan: TablePlan, assigned: Sequence[int], form: Form) -> bytes:
    """Parameters: an array for each assigned place, then one for each key column. The row count is that of the rows
    found; with nothing to assign it only looks for them."""
    spread = _Spread(form)
    for at, place in enumerate(assigned):
        spread.add(plan.columns[place].target, f"c{at}")
    _with_key(plan, spread)
    name = statements.table(plan.target)
    if not assigned:
        return _text(
            sql.SQL("SELECT FROM "), spread.select(), sql.SQL(" AS n JOIN "), name, sql.SQL(" AS t ON "), _matches(plan)
        )
    values = sql.SQL(", ").join(
        sql.SQL("{} = n.c{}").format(sql.Identifier(plan.columns[place].target.name), sql.SQL(str(at)))
        for at, place in enumerate(assigned)
    )
    return _text(
        sql.SQL("UPDATE "), name, sql.SQL(" AS t SET "), values, sql.SQL(" FROM "), spread.select(),
        sql.SQL(" AS n WHERE "), _matches(plan),
    )  # fmt: skip


def delete(plan: TablePlan, form: Form) -> bytes:
    """Parameters: an array for each key column."""
    spread = _Spread(form)
    _with_key(plan, spread)
    return _text(
        sql.SQL("DELETE FROM "), statements.table(plan.target), sql.SQL(" AS t USING "), spread.select(),
        sql.SQL(" AS n WHERE "), _matches(plan),
    )  # fmt: skip


def evaluate(expression: Expression, result: str, form: Form) -> bytes:
    """Parameters: an array for each input. A row for each element, in order: the expression's value as `result`.

    The name given to the rows is none that an expression could refer to by chance.
    """
    spread = _Spread(form)
    for each in expression.inputs:
        spread.add(each.shown, sql.Identifier(each.source.name).as_string(None))
    return _text(
        sql.SQL("SELECT (" + expression.sql + ")::" + result + " FROM "), spread.select(),
        sql.SQL(' AS "the source row"'),
    )  # fmt: skip


def upsert(plan: TablePlan, form: Form) -> bytes:
    """Parameters as for `insert`. A row that is there becomes the new one, save its constants and what the stream never
    brings; one that is not is added. Counts both, unless there is nothing to assign."""
    spread = _Spread(form)
    for at, column in enumerate(plan.columns):
        spread.add(column.target, f"c{at}")
    names = [column.target.name for column in plan.columns]
    assigned = [plan.columns[place].target.name for place in assigned_places(plan, ())]
    values = sql.SQL(", ").join(sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(name)) for name in assigned)
    action = sql.SQL("UPDATE SET ") + values if assigned else sql.SQL("NOTHING")
    overriding = sql.SQL(" OVERRIDING SYSTEM VALUE" if plan.overrides_identity else "")
    return _text(
        sql.SQL("INSERT INTO "), statements.table(plan.target), sql.SQL(" ("), _names(names), sql.SQL(")"), overriding,
        sql.SQL(" SELECT * FROM "), spread.select(), sql.SQL(" AS n ON CONFLICT ("), _names(plan.key),
        sql.SQL(") DO "), action,
    )  # fmt: skip


def _names(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def insert(plan: TablePlan, form: Form) -> bytes:
    """Parameters: an array for each plan column. For a few rows; many go by `copy_in`."""
    spread = _Spread(form)
    for at, column in enumerate(plan.columns):
        spread.add(column.target, f"c{at}")
    overriding = sql.SQL(" OVERRIDING SYSTEM VALUE" if plan.overrides_identity else "")
    return _text(
        sql.SQL("INSERT INTO "), statements.table(plan.target), sql.SQL(" ("),
        _names([column.target.name for column in plan.columns]), sql.SQL(")"), overriding,
        sql.SQL(" SELECT * FROM "), spread.select(), sql.SQL(" AS n"),
    )  # fmt: skip


def reinsert(plan: TablePlan, optional: Sequence[int], form: Form) -> bytes:
    """Final state: every row taken out by its old key, then all put back as they are to be.

    The sort makes the deletes happen before the first insert, so that values may move between rows and keys in a chain
    (C1, C5). `optional` are places that some row did not send: those keep what the target has, as does whatever the
    stream never brings. Parameters: an array for each old key column, one for each place of `brought_places`, then one
    of booleans ("was sent") for each of `optional`. The row count is that of the rows found.

    Only fit for replica role: a DELETE may cascade.
    """
    spread = _Spread(form)
    _with_key(plan, spread)
    brought = brought_places(plan)
    for place in brought:
        spread.add(plan.columns[place].target, f"c{place}")
    for place in optional:
        spread.flag(f"s{place}")
    places = {plan.columns[place].target.name: place for place in brought}
    parked: list[sql.Composable] = []
    values: list[sql.Composable] = []
    for at, name in enumerate(plan.writable):
        place = places.get(name, -1)
        if place < 0 or place in optional:
            parked.append(sql.SQL("t.{} AS o{}").format(sql.Identifier(name), sql.SQL(str(at))))
        else:
            parked.append(sql.SQL(f"n.c{place}"))
        if place < 0:
            values.append(sql.SQL(f"o{at}"))
        elif place in optional:
            parked.append(sql.SQL(f"n.c{place}, n.s{place}"))
            values.append(sql.SQL(f"CASE WHEN s{place} THEN c{place} ELSE o{at} END"))
        else:
            values.append(sql.SQL(f"c{place}"))
    keys = ", ".join(f"k{at}" for at in range(len(plan.key)))
    parked.append(sql.SQL(", ".join(f"n.k{at}" for at in range(len(plan.key)))))
    target = statements.table(plan.target)
    return _text(
        sql.SQL("WITH parked AS (DELETE FROM "), target, sql.SQL(" AS t USING "), spread.select(),
        sql.SQL(" AS n WHERE "), _matches(plan), sql.SQL(" RETURNING "), sql.SQL(", ").join(parked),
        sql.SQL(") INSERT INTO "), target, sql.SQL(" ("), _names(plan.writable),
        sql.SQL(") OVERRIDING SYSTEM VALUE SELECT "), sql.SQL(", ").join(values),
        sql.SQL(" FROM parked ORDER BY " + keys),
    )  # fmt: skip


def brought_places(plan: TablePlan) -> list[int]:
    """What the stream brings of a row, key included: everything but constants, which an update leaves alone."""
    return [at for at, column in enumerate(plan.columns) if not isinstance(column.rule, Const)]


_BINARY: Final = {Form.TEXT: "", Form.BINARY: " WITH (FORMAT binary)"}


def copy_in(plan: TablePlan, form: Form) -> bytes:
    """Many rows: every plan column, in plan order. COPY writes GENERATED ALWAYS identities as they come (sql-copy)."""
    return _text(
        sql.SQL("COPY "), statements.table(plan.target), sql.SQL(" ("),
        _names([column.target.name for column in plan.columns]), sql.SQL(") FROM STDIN" + _BINARY[form]),
    )  # fmt: skip


def copy_ids(keyspace: Keyspace) -> bytes:
    """New entries of an id map. One that is there already is an error: somebody else was first."""
    name = statements.id_table(keyspace.name)
    return _text(sql.SQL("COPY "), name, sql.SQL(" (old, new) FROM STDIN" + _BINARY[Form.BINARY]))


def look_up_ids(keyspace: Keyspace) -> bytes:
    """One parameter: the old ids as a text[]."""
    return _text(
        sql.SQL("SELECT old::text, new::text FROM "), statements.id_table(keyspace.name),
        sql.SQL(" WHERE old = ANY ($1::text[]::" + keyspace.old_type + "[])"),
    )  # fmt: skip


def add_ids(keyspace: Keyspace) -> bytes:
    """Two parameters: old and new ids as text[]. Whatever is there already stays, and is not counted."""
    return _text(
        sql.SQL("INSERT INTO "), statements.id_table(keyspace.name),
        sql.SQL(
            " (old, new) SELECT unnest($1::text[]::" + keyspace.old_type + "[]), unnest($2::text[]::"
            + keyspace.new_type + "[]) ON CONFLICT (old) DO NOTHING"
        ),
    )  # fmt: skip


def move_id(keyspace: Keyspace) -> bytes:
    """Two parameters: the key the entry goes to, the key it comes from."""
    return _text(
        sql.SQL("UPDATE "), statements.id_table(keyspace.name),
        sql.SQL(" SET old = $1::text::" + keyspace.old_type + " WHERE old = $2::text::" + keyspace.old_type),
    )  # fmt: skip
