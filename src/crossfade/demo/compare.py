"""Do both sides hold the same? Asked in plain SQL, written by hand from the two schemas.

For every pair of tables each server makes a key and a digest of every row, in the order of the key; the two streams
are merged here. Ids are compared as the source knows them (the target's are looked up in crossfade's id maps), times
are made instants by the source server's own AT TIME ZONE. Refuses to know the mapping, the plans and the code that
applies them: a mistake there must not be repeated here. The invariant: memory does not grow with the tables, and
each side is read in one snapshot.

PostgreSQL: functions-datetime ("AT TIME ZONE and AT LOCAL").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, cast

import psycopg
from psycopg import sql

from crossfade.demo.pairs import MAPS, PAIRS, Pair

Connection = psycopg.Connection[tuple[object, ...]]

_FETCH: Final = 2000  # rows held per side
_LOOK: Final = 200  # differing rows of a table that are looked into for the names of their columns
_SETTINGS: Final = (
    "-c timezone=UTC -c datestyle=ISO,YMD -c intervalstyle=postgres -c extra_float_digits=3 -c bytea_output=hex"
    " -c search_path=pg_catalog -c jit=off"
    # Freshly filled tables have no statistics: no plan that is quick only for few rows.
    " -c enable_nestloop=off -c cursor_tuple_fraction=1"
)


class Line(NamedTuple):
    """What one side says of one row: `times` is 1, or how many rows are exactly alike where there is no key."""

    key: str
    digest: str
    times: int


@dataclass(frozen=True, slots=True)
class TableResult:
    """One pair of tables. `missing` rows are not on the target, `extra` ones only there, `different` on both but not
    alike; `columns` names where they differ (of the first such rows)."""

    source: str
    target: str
    source_rows: int
    target_rows: int
    equal: int
    missing: int
    extra: int
    different: int
    columns: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Both sides hold the same rows, as often."""
        return not (self.missing or self.extra or self.different)


@dataclass(frozen=True, slots=True)
class MapResult:
    """One id map: `entries` in all, and how many of them share an old or a new id with another."""

    name: str
    entries: int
    shared: int


@dataclass(frozen=True, slots=True)
class ForeignKeyResult:
    """One foreign key of the target: how many rows refer to nothing (replica role does not look)."""

    table: str
    name: str
    violations: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """The answer, with its reasons."""

    tables: tuple[TableResult, ...]
    maps: tuple[MapResult, ...]
    foreign_keys: tuple[ForeignKeyResult, ...]

    @property
    def agrees(self) -> bool:
        """Every table agrees, every map is one-to-one, every foreign key holds."""
        return (
            all(table.agrees for table in self.tables)
            and not any(each.shared for each in self.maps)
            and not any(key.violations for key in self.foreign_keys)
        )

    @property
    def rows(self) -> int:
        """Rows compared, as the source counts them."""
        return sum(table.source_rows for table in self.tables)


def compare(source_dsn: str, target_dsn: str) -> Comparison:
    """Compare every pair. Blocks; needs SELECT on everything on both sides, schema crossfade included.

    Raises psycopg's errors as they come: this is for a demonstration and for tests, and has no secrets to keep.
    """
    with _snapshot(source_dsn) as source, _snapshot(target_dsn) as target:
        return Comparison(
            tables=tuple(_compare_pair(pair, source, target) for pair in PAIRS),
            maps=tuple(_check_map(name, target) for name in MAPS),
            foreign_keys=tuple(_check_foreign_keys(target)),
        )


def _snapshot(dsn: str) -> Connection:
    connection = psycopg.connect(dsn, application_name="crossfade demo compare", options=_SETTINGS)
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    return connection


def _compare_pair(pair: Pair, source: Connection, target: Connection) -> TableResult:
    missing = extra = different = equal = source_rows = target_rows = 0
    differing: list[str] = []
    with source.cursor("compare") as left, target.cursor("compare") as right:
        for ours, theirs in merge(_lines(left, pair.source_sql()), _lines(right, pair.target_sql())):
            here = ours.times if ours is not None else 0
            there = theirs.times if theirs is not None else 0
            source_rows += here
            target_rows += there
            if ours is not None and theirs is not None and ours.digest != theirs.digest:
                different += 1
                if len(differing) < _LOOK:
                    differing.append(ours.key)
            else:
                equal += min(here, there)
                missing += max(here - there, 0)
                extra += max(there - here, 0)
    return TableResult(
        pair.source,
        pair.target,
        source_rows,
        target_rows,
        equal,
        missing,
        extra,
        different,
        _differing_columns(pair, differing, source, target) if differing else (),
    )


def _lines(cursor: psycopg.ServerCursor[tuple[object, ...]], statement: str) -> Iterator[Line]:
    cursor.itersize = _FETCH
    cursor.execute(statement.encode())
    for row in cursor:
        yield Line(*cast("tuple[str, str, int]", row))


def merge(left: Iterable[Line], right: Iterable[Line]) -> Iterator[tuple[Line | None, Line | None]]:
    """Pair the lines of equal keys; a line without a partner comes with None. Both must be sorted by code point.

    A key that comes twice on one side and once on the other has one partner: the other copy has none.
    """
    lefts, rights = iter(left), iter(right)
    one, other = next(lefts, None), next(rights, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one.key < other.key):
            yield one, None
            one = next(lefts, None)
        elif one is None or other.key < one.key:
            yield None, other
            other = next(rights, None)
        else:
            yield one, other
            one, other = next(lefts, None), next(rights, None)


def _differing_columns(pair: Pair, keys: list[str], source: Connection, target: Connection) -> tuple[str, ...]:
    here = _digests_by_column(source, pair.source_columns_sql(), keys)
    there = _digests_by_column(target, pair.target_columns_sql(), keys)
    found = {
        name
        for key in keys
        for name, mine, yours in zip(pair.names, here.get(key, ()), there.get(key, ()), strict=False)
        if mine != yours
    }
    return tuple(name for name in pair.names if name in found)


def _digests_by_column(connection: Connection, statement: str, keys: list[str]) -> dict[str, tuple[object, ...]]:
    rows = connection.execute(statement.encode(), (keys,))
    return {cast("str", key): tuple(cast("list[object]", digests)) for key, digests in rows}


def _check_map(name: str, target: Connection) -> MapResult:
    row = target.execute(
        sql.SQL("SELECT count(*), 2 * count(*) - count(DISTINCT old) - count(DISTINCT new) FROM crossfade.{}").format(
            sql.Identifier(name)
        )
    ).fetchone()
    entries, shared = cast("tuple[int, int]", row)
    return MapResult(name, entries, shared)


_FOREIGN_KEYS: Final = """
SELECT c.conname, c.conrelid::regclass::text, c.confrelid::regclass::text,
       ARRAY(SELECT quote_ident(a.attname) FROM unnest(c.conkey) WITH ORDINALITY AS k (n, i)
               JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.n ORDER BY i),
       ARRAY(SELECT quote_ident(a.attname) FROM unnest(c.confkey) WITH ORDINALITY AS k (n, i)
               JOIN pg_attribute AS a ON a.attrelid = c.confrelid AND a.attnum = k.n ORDER BY i)
  FROM pg_constraint AS c
 WHERE c.contype = 'f' AND c.conparentid = 0 AND c.connamespace = 'app'::regnamespace
 ORDER BY 2, 1
"""


def _check_foreign_keys(target: Connection) -> Iterator[ForeignKeyResult]:
    for found in target.execute(_FOREIGN_KEYS).fetchall():
        name, child, parent, columns, referenced = cast("tuple[str, str, str, list[str], list[str]]", found)
        given = " AND ".join(f"c.{column} IS NOT NULL" for column in columns)
        matched = " AND ".join(f"p.{theirs} = c.{ours}" for ours, theirs in zip(columns, referenced, strict=True))
        statement = (
            f"SELECT count(*) FROM {child} AS c WHERE {given}"  # names quoted by the server
            f" AND NOT EXISTS (SELECT FROM {parent} AS p WHERE {matched})"
        )
        row = target.execute(statement.encode()).fetchone()
        yield ForeignKeyResult(child, name, cast("int", row[0]) if row else 0)
