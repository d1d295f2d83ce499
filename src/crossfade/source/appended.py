"""What happens to append_only tables that is not published: their UPDATEs and DELETEs, by the server's own counters.

Refuses to judge: a count that grew since the copy means the target is missing something, and somebody must know. The
invariant: counters that were reset are started over from, never taken for good news about the past.

PostgreSQL: monitoring-stats ("pg_stat_all_tables").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from crossfade.catalog import TableName
from crossfade.session.connect import Connection

# Partitions count for their root, where the mapping sees them.
_COUNTED: Final = """
SELECT t.schema, t.name, coalesce(sum(s.n_tup_upd + s.n_tup_del), 0)::bigint
FROM unnest(%s::text[], %s::text[]) AS t (schema, name)
LEFT JOIN LATERAL pg_partition_tree(to_regclass(format('%%I.%%I', t.schema, t.name))) p ON true
LEFT JOIN pg_stat_all_tables s
    ON s.relid = coalesce(p.relid, to_regclass(format('%%I.%%I', t.schema, t.name)))::oid
GROUP BY 1, 2
"""


async def counted(connection: Connection, tables: Iterable[TableName]) -> dict[TableName, int]:
    """How many rows of each table were ever updated or deleted, since the server's statistics began."""
    names = list(tables)
    if not names:
        return {}
    cursor = await connection.execute(_COUNTED, ([name.schema for name in names], [name.name for name in names]))
    return {TableName(str(row[0]), str(row[1])): int(str(row[2])) for row in await cursor.fetchall()}


def remember(published: Mapping[str, object], counts: Mapping[TableName, int]) -> dict[str, object]:
    """What is stored beside the publications when the copy begins, with the counters of that moment."""
    return {**published, "appended": [[*table, count] for table, count in sorted(counts.items())]}


def remembered(published: Mapping[str, object]) -> dict[TableName, int]:
    """The counters `remember` stored; none for a workflow that began without them."""
    stored = published.get("appended", [])
    assert isinstance(stored, list)
    return {TableName(str(schema), str(name)): int(count) for schema, name, count in stored}


class AppendOnlyCounts:
    """Compares looks with each other; the first one is where it starts."""

    def __init__(self, start: Mapping[TableName, int]) -> None:
        self._start = dict(start)

    def grown(self, now: Mapping[TableName, int]) -> dict[TableName, int]:
        """How many changes each table has had since the start, where it had any."""
        grown: dict[TableName, int] = {}
        for table, count in now.items():
            before = self._start.setdefault(table, count)
            if count < before:
                self._start[table] = 0  # the statistics were reset: everything counted now is new
                before = 0
            if count > before:
                grown[table] = count - before
        return grown
