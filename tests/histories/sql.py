"""The played source's statements for a real server. Out of line there means long: a marked text is made so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tests.histories.tables import SOURCE, TABLES, TOASTED, TableSpec
from tests.histories.values import KINDS, Value, Values

# Beyond what stays in line, below what an index takes.
LONG: Final = 2300

# Rows are met in the order in which a statement lists them.
SESSION: Final = "SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off; SET jit = off"
SCHEMA: Final = SOURCE + "".join(
    f"ALTER TABLE {table.name} ALTER {name} SET STORAGE EXTERNAL;\n"
    for table in TABLES
    for name, kind in table.columns
    if kind == "text"
)


def _literal(kind: str, value: Value) -> str:
    sql = KINDS[kind].sql
    if value is None:
        return f"NULL::{sql}"
    text = KINDS[kind].text(value).replace("'", "''")
    if kind == "text" and text.startswith(TOASTED):
        return f"('{text}' || repeat('x', {LONG}))"
    return f"'{text}'::{sql}"


def insert(table: TableSpec, values: Values) -> str:
    return (
        f"INSERT INTO {table.name} VALUES ({', '.join(_literal(kind, values[name]) for name, kind in table.columns)})"
    )


def _one(table: TableSpec, values: Values) -> str:
    same = " AND ".join(
        f"{name} IS NOT DISTINCT FROM {_literal(kind, values[name])}" for name, kind in table.columns if kind != "local"
    )
    return f"ctid = (SELECT min(ctid) FROM {table.name} WHERE {same})"


def update(table: TableSpec, changes: Sequence[tuple[Values, Values]]) -> list[str]:
    """One statement for all rows, each named by its key; without a key, one statement a row."""
    names = [name for name in table.names if any(after[name] is not before[name] for before, after in changes)]
    names = names or [table.names[0]]
    if not changes:
        return []
    if not table.key:
        return [
            f"UPDATE {table.name} SET "
            + ", ".join(f"{name} = {_literal(table.kind(name), after[name])}" for name in names)
            + f" WHERE {_one(table, before)}"
            for before, after in changes
        ]
    rows = ", ".join(
        "("
        + ", ".join(
            [_literal(table.kind(name), before[name]) for name in table.key]
            + [_literal(table.kind(name), after[name]) for name in names]
        )
        + ")"
        for before, after in changes
    )
    keys, news = [f"k{at}" for at in range(len(table.key))], [f"n{at}" for at in range(len(names))]
    assigned = ", ".join(f"{name} = v.{new}" for name, new in zip(names, news, strict=True))
    where = " AND ".join(f"t.{name} = v.{key}" for name, key in zip(table.key, keys, strict=True))
    return [f"UPDATE {table.name} t SET {assigned} FROM (VALUES {rows}) v({', '.join(keys + news)}) WHERE {where}"]


def delete(table: TableSpec, rows: Sequence[Values]) -> list[str]:
    if not table.key:
        return [f"DELETE FROM {table.name} WHERE {_one(table, values)}" for values in rows]
    if not rows:
        return []
    key = ", ".join(table.key)
    listed = ", ".join("(" + ", ".join(_literal(table.kind(n), values[n]) for n in table.key) + ")" for values in rows)
    return [f"DELETE FROM {table.name} WHERE ({key}) IN ({listed})"]


def truncate(names: Sequence[str], *, cascade: bool) -> str:
    return f"TRUNCATE {', '.join(names)}{' CASCADE' if cascade else ''}"
