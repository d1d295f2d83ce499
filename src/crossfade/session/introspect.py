"""Photographs of a database: its tables as `catalog` describes them, and the facts of its server.

A handful of set queries, whatever the number of tables, on every version from 13 on. They read system catalogs only,
so a role that may not read a single table can run them. Refuses to know what the answer is for. The invariant: one
call is one snapshot, names come back exactly as the catalog stores them (never quoted, never folded), and nothing
waits behind somebody's lock for longer than `LOCK_PATIENCE`.

PostgreSQL: catalogs ("System Catalogs"), functions-info, functions-admin ("Database Object Size Functions").
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, LiteralString, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import args_row

from crossfade.catalog import (
    Action,
    Catalog,
    Column,
    ForeignKey,
    Key,
    Leaf,
    ReplicaIdentity,
    Table,
    TableKind,
    TableName,
    Trigger,
)
from crossfade.session.connect import Connection

# Sizes need an ACCESS SHARE lock for a moment; a migration that holds its table for an hour must not hold us as well.
LOCK_PATIENCE: Final = "1s"

_Row = TypeVar("_Row")
_Value = TypeVar("_Value")


async def read_catalog(connection: Connection, *, schemas: Collection[str] | None = None) -> Catalog:
    """Every table, view and foreign table of `schemas` (None: all but pg_*, information_schema and crossfade).

    Partitions appear as tables of their own (`is_partition`) and as leaves of their root. Row estimates and bytes of
    a root are the sums over its leaves, wherever those live. On an idle connection the photograph is taken in a
    read-only transaction of its own; inside a transaction it sees what that transaction sees.
    """
    if connection.info.transaction_status is not TransactionStatus.IDLE:
        return await _read(connection, schemas)
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        return await _read(connection, schemas)


async def _read(connection: Connection, schemas: Collection[str] | None) -> Catalog:
    tables = await _rows(connection, _TableRow, _TABLES, None if schemas is None else list(schemas))
    oids = [row.relation for row in tables]
    columns = await _by_relation(connection, _column, _COLUMNS, oids)
    keys = await _by_relation(connection, _key, _KEYS, oids)
    foreign_keys = await _by_relation(connection, _foreign_key, _FOREIGN_KEYS, oids)
    triggers = await _by_relation(connection, Trigger, _TRIGGERS, oids)
    leaves = await _by_relation(connection, _sized_leaf, _LEAVES, oids)
    sizes = await _sizes(connection, tables, leaves)
    database = await _rows(connection, str, "SELECT pg_catalog.current_database()::text", None)
    sequences = await _rows(connection, TableName, _SEQUENCES, None if schemas is None else list(schemas))
    return Catalog(
        version=connection.info.server_version,
        database=database[0],
        tables={
            TableName(row.schema, row.name): Table(
                name=TableName(row.schema, row.name),
                oid=row.relation,
                kind=TableKind(row.kind),
                persistence=row.persistence,
                owner=row.owner,
                replica_identity=ReplicaIdentity(row.replica_identity),
                columns=tuple(columns[row.relation]),
                keys=tuple(keys[row.relation]),
                foreign_keys=tuple(foreign_keys[row.relation]),
                triggers=tuple(triggers[row.relation]),
                leaves=tuple(each.leaf for each in leaves[row.relation]),
                is_partition=row.is_partition,
                has_inheritance_children=row.has_inheritance_children,
                row_security=row.row_security,
                row_security_forced=row.row_security_forced,
                row_estimate=sum(leaf.row_estimate for leaf in leaves[row.relation])
                if row.kind == TableKind.PARTITIONED.value
                else row.row_estimate,
                bytes=sizes[row.relation],
            )
            for row in tables
        },
        sequences=frozenset(sequences),
    )


async def _sizes(
    connection: Connection, tables: Collection[_TableRow], leaves: Mapping[int, Collection[_SizedLeaf]]
) -> Mapping[int, int]:
    """Bytes by oid, TOAST included, indexes not; from relpages (possibly stale) where a lock is in the way."""
    measured: dict[int, int] = {row.relation: row.page_bytes for row in tables}
    measured.update({each.leaf.oid: each.page_bytes for family in leaves.values() for each in family})
    stored = [row.relation for row in tables if row.kind in _STORED]
    stored += [each.leaf.oid for family in leaves.values() for each in family]
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (LOCK_PATIENCE,))
            measured.update(await _rows(connection, _pair, _SIZES, stored))
            # A savepoint that is released keeps SET LOCAL's effect until the end of the transaction: put it back.
            await connection.execute("SELECT pg_catalog.set_config('lock_timeout', '0', true)")
    except psycopg.errors.LockNotAvailable:
        pass  # the savepoint took the setting back, and the page counts stand
    return {
        row.relation: sum(measured[each.leaf.oid] for each in leaves[row.relation])
        if row.kind == TableKind.PARTITIONED.value
        else measured[row.relation]
        for row in tables
    }


async def _rows(
    connection: Connection,
    row: Callable[..., _Row],
    query: LiteralString,
    parameter: list[str] | list[int] | None,
) -> list[_Row]:
    cursor = connection.cursor(row_factory=args_row(row))
    if "%(p)s" in query:
        await cursor.execute(query, {"p": parameter})
    else:
        await cursor.execute(query)
    return await cursor.fetchall()


async def _by_relation(
    connection: Connection, value: Callable[..., _Value], query: LiteralString, oids: list[int]
) -> Mapping[int, list[_Value]]:
    """Rows that begin with the oid of the relation they belong to; `value` makes something of what follows it."""
    groups: defaultdict[int, list[_Value]] = defaultdict(list)
    for relation, each in await _rows(connection, lambda oid, *fields: (int(oid), value(*fields)), query, oids):
        groups[relation].append(each)
    return groups


_STORED: Final = frozenset({TableKind.ORDINARY.value, TableKind.MATERIALIZED_VIEW.value})


def _pair(relation: int, size: int) -> tuple[int, int]:
    return relation, size


@dataclass(frozen=True, slots=True)
class _TableRow:
    relation: int
    schema: str
    name: str
    kind: str
    persistence: str
    owner: str
    replica_identity: str
    is_partition: bool
    has_inheritance_children: bool
    row_security: bool
    row_security_forced: bool
    row_estimate: int
    page_bytes: int


def _column(*fields: Any) -> Column:
    """The catalog's row, whose last field is a list."""
    column = Column(*fields)
    return dataclasses.replace(column, labels=tuple(column.labels))


def _key(name: str, columns: list[str], *flags: bool) -> Key:
    return Key(name, tuple(columns), *flags)


def _foreign_key(
    name: str,
    schema: str,
    table: str,
    columns: list[str],
    referenced_schema: str,
    referenced_table: str,
    referenced_columns: list[str],
    on_delete: str,
    on_update: str,
    *flags: bool,
) -> ForeignKey:
    return ForeignKey(
        name,
        TableName(schema, table),
        tuple(columns),
        TableName(referenced_schema, referenced_table),
        tuple(referenced_columns),
        Action(on_delete),
        Action(on_update),
        *flags,
    )


@dataclass(frozen=True, slots=True)
class _SizedLeaf:
    leaf: Leaf
    row_estimate: int
    page_bytes: int


def _sized_leaf(
    schema: str, name: str, oid: int, replica_identity: str, persistence: str, row_estimate: int, page_bytes: int
) -> _SizedLeaf:
    leaf = Leaf(TableName(schema, name), oid, ReplicaIdentity(replica_identity), persistence)
    return _SizedLeaf(leaf, row_estimate, page_bytes)


# Relations a person may mean. The server refuses user schemas that begin with pg_, so the prefix is enough, and it
# covers everybody's temporary and TOAST schemas. reltuples is -1 before the first VACUUM or ANALYZE (0 before 14).
_TABLES: Final = """
    SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text,
           pg_catalog.pg_get_userbyid(c.relowner)::text, c.relreplident::text, c.relispartition,
           c.relkind = 'r' AND EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid),
           c.relrowsecurity, c.relforcerowsecurity, greatest(c.reltuples, 0)::int8,
           (c.relpages + coalesce(t.relpages, 0))::int8 * pg_catalog.current_setting('block_size')::int8
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'crossfade')
      AND (%(p)s::text[] IS NULL OR n.nspname = ANY (%(p)s::text[]))
    ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
    """

_SEQUENCES: Final = """
    SELECT n.nspname::text, c.relname::text
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'S' AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'crossfade')
      AND (%(p)s::text[] IS NULL OR n.nspname = ANY (%(p)s::text[]))
    """

# A domain's NOT NULL and DEFAULT act on its columns as if they were the columns' own, through domains over domains.
# An array is what has elements and no fixed length (point and name have elements too, and lengths).
# The order is that of `Column`, after the relation.
_COLUMNS: Final = """
    WITH RECURSIVE strict_domain(oid) AS (
        SELECT t.oid FROM pg_catalog.pg_type t WHERE t.typtype = 'd' AND t.typnotnull
        UNION
        SELECT t.oid FROM pg_catalog.pg_type t JOIN strict_domain s ON t.typtype = 'd' AND t.typbasetype = s.oid
    )
    SELECT a.attrelid::int8, a.attname::text, a.attnum::int8, a.atttypid::int8,
           pg_catalog.format_type(a.atttypid, a.atttypmod), pg_catalog.format_type(a.atttypid, NULL),
           a.atttypmod::int8, t.typtype::text, coalesce(e.typtype::text, ''),
           a.attnotnull OR a.atttypid IN (SELECT s.oid FROM strict_domain s),
           a.attgenerated = '' AND (a.atthasdef OR (t.typtype = 'd' AND t.typdefault IS NOT NULL)),
           a.attidentity::text, a.attgenerated::text, a.attstorage::text,
           ARRAY(SELECT l.enumlabel::text FROM pg_catalog.pg_enum l
                 WHERE l.enumtypid = CASE WHEN e.typtype = 'e' THEN e.oid ELSE t.oid END ORDER BY l.enumsortorder)
    FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typlen = -1
    WHERE a.attrelid = ANY (%(p)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attrelid, a.attnum
    """

# indkey counts from 0; columns of INCLUDE come after the first indnkeyatts, expressions are column number 0.
# Asked through jsonb, a column that only newer versions have is NULL on older ones (indnullsnotdistinct: 15).
# What may be a replica identity are the conditions of ALTER TABLE ... REPLICA IDENTITY USING INDEX (D13); a temporal
# key of version 18 is unique and an exclusion at once, and is accepted there too (D15). The order is that of `Key`.
_KEYS: Final = """
    SELECT x.indrelid::int8, i.relname::text,
           ARRAY(SELECT a.attname::text
                 FROM pg_catalog.generate_series(0, x.indnkeyatts - 1) AS place(n)
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[place.n]
                 ORDER BY place.n),
           x.indisprimary, x.indisunique, x.indisexclusion, NOT x.indimmediate, x.indpred IS NOT NULL,
           x.indexprs IS NOT NULL, x.indisvalid AND x.indisready AND x.indislive, x.indisreplident,
           x.indisunique AND x.indisvalid AND x.indisready AND x.indislive AND x.indimmediate AND x.indpred IS NULL
           AND x.indexprs IS NULL
           AND NOT EXISTS (
               SELECT FROM pg_catalog.generate_series(0, x.indnkeyatts - 1) AS place(n)
               LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[place.n]
               WHERE a.attnotnull IS NOT TRUE OR a.attnum <= 0),
           coalesce((pg_catalog.to_jsonb(x) ->> 'indnullsnotdistinct')::boolean, false)
    FROM pg_catalog.pg_index x
    JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
    WHERE x.indrelid = ANY (%(p)s::oid[]) AND (x.indisunique OR x.indisexclusion)
    ORDER BY x.indrelid, x.indisprimary DESC, i.relname COLLATE "C"
    """

# A partitioned table on either side makes the server keep copies of the constraint: those on the referencing side
# are true of that partition; those per referenced partition are bookkeeping and would look like more foreign keys.
_FOREIGN_KEYS: Final = """
    WITH RECURSIVE foreign_key AS MATERIALIZED (
        SELECT k.* FROM pg_catalog.pg_constraint k WHERE k.contype = 'f'
    ),
    declared AS (
        SELECT k.* FROM foreign_key k WHERE k.conparentid = 0
        UNION ALL
        SELECT k.* FROM foreign_key k
        JOIN declared d ON k.conparentid = d.oid AND k.confrelid = d.confrelid AND k.conparentid <> 0
    )
    SELECT k.conrelid::int8, k.conname::text, n.nspname::text, c.relname::text,
           ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY AS place(number, n)
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = place.number
                 ORDER BY place.n),
           fn.nspname::text, f.relname::text,
           ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(k.confkey) WITH ORDINALITY AS place(number, n)
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = place.number
                 ORDER BY place.n),
           k.confdeltype::text, k.confupdtype::text, k.condeferrable, k.condeferred, k.convalidated
    FROM declared k
    JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_class f ON f.oid = k.confrelid
    JOIN pg_catalog.pg_namespace fn ON fn.oid = f.relnamespace
    WHERE k.conrelid = ANY (%(p)s::oid[])
    ORDER BY k.conrelid, k.conname COLLATE "C"
    """

# Every view has a rule _RETURN, which is the view itself.
_TRIGGERS: Final = """
    SELECT t.tgrelid::int8, t.tgname::text, t.tgenabled::text, false
    FROM pg_catalog.pg_trigger t
    WHERE t.tgrelid = ANY (%(p)s::oid[]) AND NOT t.tgisinternal
    UNION ALL
    SELECT r.ev_class::int8, r.rulename::text, r.ev_enabled::text, true
    FROM pg_catalog.pg_rewrite r
    WHERE r.ev_class = ANY (%(p)s::oid[]) AND r.rulename <> '_RETURN'
    ORDER BY 1, 2
    """

# A partition on its way out (DETACH ... CONCURRENTLY, since version 14) no longer counts for new queries.
_LEAVES: Final = """
    WITH RECURSIVE tree(root, member) AS (
        SELECT c.oid, c.oid FROM pg_catalog.pg_class c WHERE c.oid = ANY (%(p)s::oid[]) AND c.relkind = 'p'
        UNION ALL
        SELECT t.root, i.inhrelid FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.member
        WHERE (pg_catalog.to_jsonb(i) ->> 'inhdetachpending')::boolean IS NOT TRUE
    )
    SELECT t.root::int8, n.nspname::text, l.relname::text, l.oid::int8, l.relreplident::text, l.relpersistence::text,
           greatest(l.reltuples, 0)::int8,
           (l.relpages + coalesce(o.relpages, 0))::int8 * pg_catalog.current_setting('block_size')::int8
    FROM tree t
    JOIN pg_catalog.pg_class l ON l.oid = t.member AND l.relkind <> 'p'
    JOIN pg_catalog.pg_namespace n ON n.oid = l.relnamespace
    LEFT JOIN pg_catalog.pg_class o ON o.oid = l.reltoastrelid
    ORDER BY t.root, n.nspname COLLATE "C", l.relname COLLATE "C"
    """

# A relation dropped meanwhile has no size: the join to nothing is a NULL, counted as empty.
_SIZES: Final = """
    SELECT o::int8, coalesce(pg_catalog.pg_table_size(o::pg_catalog.oid), 0)
    FROM pg_catalog.unnest(%(p)s::int8[]) AS o
    """


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a server says about itself and our session. `settings` are pg_settings values in the setting's own unit.

    Absent settings (an older server has no `transaction_timeout`) are absent from the mapping.
    """

    version: int
    version_text: str
    database: str
    role: str
    encoding: str
    in_recovery: bool
    is_superuser: bool
    settings: Mapping[str, str]

    @property
    def major(self) -> int:
        """13 to 18 and whatever comes."""
        return self.version // 10_000


async def server_facts(connection: Connection) -> ServerFacts:
    """Version, role, encoding and every setting our role may see, in one round of two queries."""
    settings = dict(
        await _rows(connection, _setting, "SELECT name, coalesce(setting, '') FROM pg_catalog.pg_settings", None)
    )
    facts = partial(ServerFacts, connection.info.server_version, settings=settings)
    return (await _rows(connection, facts, _FACTS, None))[0]


def _setting(name: str, value: str) -> tuple[str, str]:
    return name, value


_FACTS: Final = """
    SELECT pg_catalog.current_setting('server_version'), pg_catalog.current_database()::text, current_user::text,
           pg_catalog.getdatabaseencoding()::text, pg_catalog.pg_is_in_recovery(),
           (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
    """
