"""The row filters of publications, as they are, and whether each is the condition that the mapping says.

A server keeps a filter as it has parsed it, and prints it in words of its own. So it is asked to print both texts, the
one it keeps and the mapping's, by planning a SELECT of each over columns of the table's types: nothing is executed, no
table is touched and no right is needed. Refuses to judge what a filter means. The invariant: a filter is only called
ours when the server has printed the same expression for both; whatever cannot be told is not ours.

PostgreSQL: catalog-pg-publication-rel (prqual), sql-explain ("VERBOSE"), functions-json ("json_to_record").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql

from crossfade.catalog import TableName
from crossfade.mapping.onesql import problem_of
from crossfade.session.connect import Connection

_SINCE: Final = 150000

_FILTERS: Final = """
SELECT p.pubname::text, n.nspname::text, c.relname::text, c.oid::bigint, pg_catalog.pg_get_expr(r.prqual, r.prrelid)
FROM pg_catalog.pg_publication p
JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
JOIN pg_catalog.pg_class c ON c.oid = r.prrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE p.pubname = ANY (%s) AND r.prqual IS NOT NULL
"""
_COLUMNS: Final = """
SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""


@dataclass(frozen=True, slots=True)
class RowFilter:
    """A filter as the server prints it. `is_ours`: it is certainly the mapping's condition of that table."""

    text: str
    is_ours: bool


async def read(
    connection: Connection, publications: Sequence[str], ours: Mapping[TableName, str]
) -> dict[tuple[str, TableName], RowFilter]:
    """Every filter of these publications, by publication and table. `ours` are the mapping's conditions, as written,
    of the tables that may have one."""
    if connection.info.server_version < _SINCE:
        return {}
    found: dict[tuple[str, TableName], RowFilter] = {}
    cursor = await connection.execute(_FILTERS, (list(publications),))
    for publication, schema, name, oid, text in await cursor.fetchall():
        table = TableName(str(schema), str(name))
        is_ours = table in ours and await _is_alike(connection, int(str(oid)), ours[table], str(text))
        found[str(publication), table] = RowFilter(str(text), is_ours)
    return found


async def _is_alike(connection: Connection, table: int, written: str, kept: str) -> bool:
    cursor = await connection.execute(_COLUMNS, (table,))
    columns = [(str(name), str(kind)) for name, kind in await cursor.fetchall()]
    printed = await _printed(connection, columns, written)
    return printed is not None and printed == await _printed(connection, columns, kept)


async def _printed(connection: Connection, columns: Sequence[tuple[str, str]], text: str) -> str | None:
    """How the server prints an expression over these columns; None when it does not take it for one."""
    if problem_of(text):  # it could close our parentheses
        return None
    listed = sql.SQL(", ").join(sql.Identifier(name) + sql.SQL(f" {kind}") for name, kind in columns)
    try:
        cursor = await connection.execute(
            sql.SQL("EXPLAIN (VERBOSE, COSTS OFF, FORMAT JSON) SELECT (" + text + ") FROM ")
            + sql.SQL("pg_catalog.json_to_record('{{}}') AS {} (").format(sql.Identifier("the row"))
            + listed
            + sql.SQL(")")
        )
    except (psycopg.DataError, psycopg.ProgrammingError, psycopg.NotSupportedError):
        return None
    row = await cursor.fetchone()
    match row:
        case ([{"Plan": {"Output": [str(printed)]}}],):
            return printed
    return None
