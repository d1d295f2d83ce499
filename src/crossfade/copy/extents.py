"""How large the tables are that are going to be copied, leaf by leaf: what they are cut by; and in which files.

Asked in a transaction at the copy's snapshot. Refuses to cut (`parts`). The invariant: a leaf is listed only where our
role may read it by its own name, since rights on a root do not reach further.

PostgreSQL: functions-admin (pg_relation_size), functions-info (has_table_privilege, row_security_active).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from psycopg import sql

from crossfade import statements
from crossfade.catalog import Route, TableName
from crossfade.copy.parts import Extent
from crossfade.mapping.plan import TablePlan
from crossfade.session.connect import Connection

# The server reads a range of pages without reading those before it (release-14, "TID Range Scan").
PAGES_SINCE: Final = 140_000

# pg_class.relpages is what the last VACUUM counted; this asks the file system, TOAST included (G8). pg_inherits is read
# under the snapshot: which leaves there are now is compared with it when the part's lock is there.
_EXTENTS: Final = """
WITH RECURSIVE seen (root, oid, relkind) AS (
    SELECT c.oid, c.oid, c.relkind FROM pg_class c WHERE c.oid = ANY (%(oids)s::bigint[]::oid[])
    UNION ALL
    SELECT seen.root, c.oid, c.relkind
    FROM seen JOIN pg_inherits i ON i.inhparent = seen.oid JOIN pg_class c ON c.oid = i.inhrelid
    WHERE seen.relkind = 'p'
)
SELECT s.root::bigint, n.nspname, c.relname, s.oid = s.root,
       coalesce(pg_relation_size(s.oid), 0) / current_setting('block_size')::int,
       coalesce(pg_table_size(s.oid), 0),
       s.relkind = 'r' AND has_table_privilege(s.oid, 'SELECT') AND NOT row_security_active(s.oid),
       coalesce((
           SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
           WHERE i.indrelid = s.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indnkeyatts = 1
             AND a.attnotnull AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
           ORDER BY i.indisprimary DESC, i.indexrelid LIMIT 1), '')
FROM seen s JOIN pg_class c ON c.oid = s.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE s.relkind <> 'p'
ORDER BY 1, 2, 3
"""


# What the snapshot says of the files that hold each table's rows, in which a row that nobody touched stays where it is;
# of its columns, whose names may change places without a row being touched; and of its leaves: parts are written down
# by their names, and what happened to one between DETACH and ATTACH nobody told. Its line in pg_inherits is new then.
_FILES: Final = """
WITH RECURSIVE seen (root, oid, relkind, about) AS (
    SELECT c.oid, c.oid, c.relkind, c.relfilenode::text COLLATE "C"
    FROM pg_class c WHERE c.oid = ANY (%(oids)s::bigint[]::oid[])
    UNION ALL
    SELECT seen.root, c.oid, c.relkind,
        concat_ws(' ', c.relfilenode, c.relnamespace, c.relname, seen.oid, i.xmin) COLLATE "C"
    FROM seen JOIN pg_inherits i ON i.inhparent = seen.oid JOIN pg_class c ON c.oid = i.inhrelid
    WHERE seen.relkind = 'p'
)
SELECT root::bigint, string_agg(concat_ws(' ', oid, about), ', ' ORDER BY oid), (
    SELECT string_agg(concat_ws(' ', a.attnum, a.attname, a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
    FROM pg_attribute a WHERE a.attrelid = root AND a.attnum > 0 AND NOT a.attisdropped)
FROM seen GROUP BY root
"""


async def files(source: Connection, tables: Iterable[TablePlan]) -> dict[Route, str]:
    """Of each table, what tells its files, leaves and columns from others. While it is the same, a row that nobody
    touched is in the same part, and is the same."""
    listed = list(tables)
    cursor = await source.execute(_FILES, {"oids": [table.source_oid for table in listed]})
    found = {int(str(root)): f"{leaves}; {columns}" for root, leaves, columns in await cursor.fetchall()}
    return {table.route: found.get(table.source_oid, "") for table in listed}


async def measure(source: Connection, plans: Iterable[TablePlan], *, part_bytes: int) -> dict[Route, list[Extent]]:
    """The extents of each table; none for a table that can only be read in one."""
    by_oid = {plan.source_oid: plan for plan in plans}
    cursor = await source.execute(_EXTENTS, {"oids": list(by_oid)})
    found: dict[Route, list[Extent]] = {}
    unreadable: set[Route] = set()
    by_page = source.info.server_version >= PAGES_SINCE
    for root, schema, name, is_root, pages, size, is_readable, key in await cursor.fetchall():
        plan = by_oid[int(str(root))]
        relation = None if is_root else TableName(str(schema), str(name))
        if not is_root and not is_readable:
            unreadable.add(plan.route)
        extent = Extent(relation, int(str(pages)), int(str(size)))
        if not by_page and key and extent.bytes > part_bytes:
            extent = await _with_key(source, extent, plan, str(key))
        found.setdefault(plan.route, []).append(extent)
    return {route: extents for route, extents in found.items() if route not in unreadable}


async def _with_key(source: Connection, extent: Extent, plan: TablePlan, key: str) -> Extent:
    """The same with the span of a key to cut by."""
    cursor = await source.execute(
        sql.SQL("SELECT min({0})::bigint, max({0})::bigint FROM ONLY {1}").format(
            sql.Identifier(key), statements.table(extent.relation or plan.source)
        )
    )
    row = await cursor.fetchone()
    if row is None or row[0] is None or row[1] is None:
        return extent
    return Extent(extent.relation, extent.pages, extent.bytes, key, int(str(row[0])), int(str(row[1])))
