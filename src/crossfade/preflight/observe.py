"""Asks both servers about what surrounds the mapped tables: types, collations, zones, sequences, partitions, space.

The second half of `probe`: what can only be asked once the mapping is compiled. Refuses to judge. The invariant: as
there, system catalogs alone are read, as any role, in a session that is read-only.

PostgreSQL: catalogs ("System Catalogs"), functions-datetime ("AT TIME ZONE"), monitoring-stats ("pg_stat_wal").
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, LiteralString, TypeVar

import psycopg
from psycopg.rows import args_row

from crossfade.catalog import TableName
from crossfade.mapping.plan import Plan
from crossfade.preflight.natures import (
    DatabaseCollation,
    IdSource,
    PartitionedRoot,
    SequenceUse,
    SourceNatures,
    TargetNatures,
    TypeNature,
    WalRate,
    ZoneAnswers,
)
from crossfade.session.connect import Connection

_Row = TypeVar("_Row")


async def source_natures(connection: Connection, plan: Plan, instants: Mapping[str, Sequence[int]]) -> SourceNatures:
    """What is around the source's tables. `instants` are those to ask about, by zone."""
    tables = {"oids": [table.source_oid for table in plan.tables]}
    types = {column.type_oid for table in plan.tables for column in table.source_columns}
    return SourceNatures(
        types=await _types(connection, types),
        collation=(await _rows(connection, DatabaseCollation, _COLLATION))[0],
        zones=await _zones(connection, instants),
        index_bytes=(await _rows(connection, int, _INDEX_BYTES, tables))[0],
        large_objects=(await _rows(connection, bool, _LARGE_OBJECTS))[0],
        free_sequences=tuple(await _rows(connection, TableName, _FREE_SEQUENCES)),
        wal_rate=await _wal_rate(connection),
    )


async def target_natures(
    connection: Connection, plan: Plan, oids: Collection[int], instants: Mapping[str, Sequence[int]]
) -> TargetNatures:
    """The same of the target; `oids` are its mapped tables."""
    tables = {"oids": list(oids)}
    types = {column.target.type_oid for table in plan.tables for column in table.columns}
    return TargetNatures(
        types=await _types(connection, types),
        collation=(await _rows(connection, DatabaseCollation, _COLLATION))[0],
        zones=await _zones(connection, instants),
        sequences=tuple(await _rows(connection, _sequence, _SEQUENCES, tables)),
        id_sources=tuple(await _rows(connection, _id_source, _ID_SOURCES, _taken_from(plan))),
        partitioned=tuple(await _rows(connection, _root, _PARTITIONED, tables)),
        merging=tuple(await _rows(connection, _merging, _MERGING, tables)),
    )


async def _rows(
    connection: Connection,
    row: Callable[..., _Row],
    query: LiteralString,
    parameters: Mapping[str, object] | None = None,
) -> list[_Row]:
    cursor = connection.cursor(row_factory=args_row(row))
    await cursor.execute(query, parameters)
    return await cursor.fetchall()


async def _types(connection: Connection, oids: Collection[int]) -> Mapping[int, TypeNature]:
    def nature(oid: int, name: str, kind: str, definition: list[str], *extension: str) -> tuple[int, TypeNature]:
        return oid, TypeNature(name, kind, tuple(definition), *extension)

    return dict(await _rows(connection, nature, _TYPES, {"oids": list(oids)}))


# An array is described by its elements. What is pinned in every database is the same everywhere.
_TYPES: Final = """
    SELECT a.oid::int8, pg_catalog.format_type(t.oid, NULL), t.typtype::text,
           CASE t.typtype
           WHEN 'd' THEN ARRAY(
               SELECT pg_catalog.format_type(t.typbasetype, t.typtypmod)
               UNION ALL SELECT 'NOT NULL' WHERE t.typnotnull
               UNION ALL (SELECT pg_catalog.pg_get_constraintdef(k.oid) FROM pg_catalog.pg_constraint k
                          WHERE k.contypid = t.oid AND k.contype = 'c' ORDER BY 1))
           WHEN 'c' THEN ARRAY(
               SELECT m.attname || ' ' || pg_catalog.format_type(m.atttypid, m.atttypmod)
               FROM pg_catalog.pg_attribute m WHERE m.attrelid = t.typrelid AND m.attnum > 0 AND NOT m.attisdropped
               ORDER BY m.attnum)
           ELSE ARRAY[]::text[] END,
           coalesce(x.extname::text, ''), coalesce(x.extversion, '')
    FROM pg_catalog.pg_type a
    JOIN pg_catalog.pg_type t ON t.oid = CASE WHEN a.typelem <> 0 AND a.typlen = -1 THEN a.typelem ELSE a.oid END
    LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid
        AND d.deptype = 'e' AND d.refclassid = 'pg_catalog.pg_extension'::regclass
    LEFT JOIN pg_catalog.pg_extension x ON x.oid = d.refobjid
    WHERE a.oid = ANY (%(oids)s::oid[]) AND t.oid >= 16384
    """

# Versions of a database's collation are kept since version 15; through jsonb they are NULL before.
_COLLATION: Final = """
    SELECT coalesce(pg_catalog.to_jsonb(d) ->> 'datlocale', pg_catalog.to_jsonb(d) ->> 'daticulocale', d.datcollate),
           coalesce(pg_catalog.to_jsonb(d) ->> 'datlocprovider', 'c'),
           coalesce(pg_catalog.to_jsonb(d) ->> 'datcollversion', ''),
           coalesce(CASE WHEN pg_catalog.to_jsonb(d) ->> 'datlocprovider' IN ('c', 'd', 'i')
                         THEN (SELECT pg_catalog.pg_collation_actual_version(c.oid) FROM pg_catalog.pg_collation c
                               WHERE c.collname = 'default' AND c.collnamespace = 'pg_catalog'::regnamespace) END, '')
    FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
    """

_INDEX_BYTES: Final = """
    WITH RECURSIVE tree(member) AS (
        SELECT o::oid FROM pg_catalog.unnest(%(oids)s::oid[]) AS o
        UNION SELECT i.inhrelid FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.member
    )
    SELECT coalesce(sum(c.relpages::int8), 0)::int8 * pg_catalog.current_setting('block_size')::int8
    FROM tree t JOIN pg_catalog.pg_index x ON x.indrelid = t.member JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid
    """

_LARGE_OBJECTS: Final = "SELECT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata)"

_FREE_SEQUENCES: Final = """
    SELECT n.nspname::text, c.relname::text
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'S' AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'crossfade')
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                      WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
                        AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i'))
    ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
    """

_WAL: Final = """
    SELECT w.wal_bytes::int8, extract(epoch FROM pg_catalog.clock_timestamp() - w.stats_reset)::float8
    FROM pg_catalog.pg_stat_wal w WHERE w.stats_reset IS NOT NULL
    """


async def _wal_rate(connection: Connection) -> WalRate | None:
    if connection.info.server_version < 140000:
        return None
    for rate in await _rows(connection, WalRate, _WAL):
        return rate
    return None


async def _zones(connection: Connection, instants: Mapping[str, Sequence[int]]) -> tuple[ZoneAnswers, ...]:
    found: list[ZoneAnswers] = []
    for zone, asked in instants.items():
        try:
            offsets = await _rows(connection, int, _OFFSETS, {"zone": zone, "instants": list(asked)})
        except psycopg.errors.InvalidParameterValue:
            found.append(ZoneAnswers(zone, None))
        else:
            found.append(ZoneAnswers(zone, tuple(offsets)))
    return tuple(found)


_OFFSETS: Final = """
    SELECT (extract(epoch FROM pg_catalog.timezone(%(zone)s, pg_catalog.to_timestamp(i.instant)))::int8 - i.instant)
    FROM pg_catalog.unnest(%(instants)s::int8[]) WITH ORDINALITY AS i(instant, place) ORDER BY i.place
    """


def _sequence(schema: str, name: str, table_schema: str, table: str, column: str, ascending: bool) -> SequenceUse:
    return SequenceUse(TableName(schema, name), TableName(table_schema, table), column, ascending)


# A sequence belongs to its column (serial, identity), or a default names it.
_SEQUENCES: Final = """
    SELECT DISTINCT sn.nspname::text, s.relname::text, n.nspname::text, c.relname::text, a.attname::text,
           q.seqincrement > 0
    FROM pg_catalog.pg_class s
    JOIN pg_catalog.pg_namespace sn ON sn.oid = s.relnamespace
    JOIN pg_catalog.pg_sequence q ON q.seqrelid = s.oid
    JOIN LATERAL (
        SELECT d.refobjid, d.refobjsubid::int2 FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = s.oid
          AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i')
        UNION
        SELECT f.adrelid, f.adnum FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_attrdef f ON f.oid = d.objid
        WHERE d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.refobjid = s.oid
          AND d.refclassid = 'pg_catalog.pg_class'::regclass
    ) AS u(relation, number) ON true
    JOIN pg_catalog.pg_class c ON c.oid = u.relation
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_attribute a ON a.attrelid = u.relation AND a.attnum = u.number
    WHERE s.relkind = 'S' AND c.oid = ANY (%(oids)s::oid[])
    ORDER BY 3, 4, 5
    """


def _taken_from(plan: Plan) -> Mapping[str, object]:
    """Every keyspace's `from` on the target, as two lists."""
    names = [keyspace.taken_from for keyspace in plan.keyspaces.values() if keyspace.taken_from is not None]
    return {"schemas": [name.schema for name in names], "names": [name.name for name in names]}


def _id_source(schema: str, name: str, *flags: bool) -> IdSource:
    return IdSource(TableName(schema, name), *flags)


# Only CASE keeps has_sequence_privilege() from being asked about a table.
_ID_SOURCES: Final = """
    SELECT DISTINCT n.nspname::text, c.relname::text, c.relkind = 'S',
           pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
           CASE WHEN c.relkind = 'S' THEN pg_catalog.has_sequence_privilege(c.oid, 'USAGE')
                ELSE pg_catalog.has_table_privilege(c.oid, 'SELECT') END
    FROM ROWS FROM (pg_catalog.unnest(%(schemas)s::text[]), pg_catalog.unnest(%(names)s::text[]))
         AS wanted(schema, name)
    JOIN pg_catalog.pg_namespace n ON n.nspname = wanted.schema
    JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
    ORDER BY 1, 2
    """


def _root(schema: str, table: str, strategy: str, has_default: bool, bounds: list[str]) -> PartitionedRoot:
    return PartitionedRoot(TableName(schema, table), strategy, has_default, tuple(bounds))


_PARTITIONED: Final = """
    SELECT n.nspname::text, c.relname::text, p.partstrat::text, p.partdefid <> 0,
           ARRAY(SELECT pg_catalog.pg_get_expr(m.relpartbound, m.oid)
                 FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class m ON m.oid = i.inhrelid
                 WHERE i.inhparent = c.oid ORDER BY m.relname COLLATE "C")
    FROM pg_catalog.pg_partitioned_table p
    JOIN pg_catalog.pg_class c ON c.oid = p.partrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = ANY (%(oids)s::oid[])
    ORDER BY 1, 2
    """


def _merging(schema: str, table: str, *fields: Any) -> tuple[TableName, str, str]:
    column, collation = fields
    return TableName(schema, table), str(column), str(collation)


_MERGING: Final = """
    SELECT DISTINCT n.nspname::text, c.relname::text, a.attname::text, o.collname::text
    FROM pg_catalog.pg_index x
    CROSS JOIN pg_catalog.generate_series(0, x.indnkeyatts - 1) AS place(n)
    JOIN pg_catalog.pg_collation o ON o.oid = x.indcollation[place.n] AND NOT o.collisdeterministic
    JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[place.n]
    JOIN pg_catalog.pg_class c ON c.oid = x.indrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE x.indisunique AND x.indrelid = ANY (%(oids)s::oid[])
    ORDER BY 1, 2, 3
    """
