"""What the publications hold, and what their tables look like: remembered when the copy begins, compared ever after.

A table taken out of a publication, a changed operation list or a rewritten column loses changes without any error on
the stream, so what was true at the copy is stored and compared at every start and every ten seconds (E3, E7, D16).
The picture says itself what it is about, so that it can be compared before, and whether or not, the mapping still
compiles. A row filter that is not the mapping's own condition leaves out rows that belong to the target (E11).
Refuses to change anything on the source. The invariant: `differences` is empty only while everything the
mapping relied on is as it was; what was taken away and put back is not (it has another oid or attribute number).

PostgreSQL: catalog-pg-publication, view-pg-publication-tables, sql-createpublication.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from crossfade.catalog import TableName
from crossfade.mapping.compoundnames import all_parts
from crossfade.mapping.plan import Plan
from crossfade.session import rowfilters
from crossfade.session.connect import Connection

_VARCHAR: Final = "1043"

_PUBLICATIONS: Final = """
SELECT p.pubname, p.puballtables, p.pubviaroot,
       concat(CASE WHEN p.pubinsert THEN 'i' END, CASE WHEN p.pubupdate THEN 'u' END,
              CASE WHEN p.pubdelete THEN 'd' END, CASE WHEN p.pubtruncate THEN 't' END),
       coalesce((SELECT jsonb_object_agg(format('%%s.%%s', n.nspname, c.relname), r.oid::bigint)
                 FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid
                 JOIN pg_namespace n ON n.oid = c.relnamespace WHERE r.prpubid = p.oid), '{}')
FROM pg_publication p WHERE p.pubname = ANY (%s)
"""
_TABLES: Final = """
SELECT n.nspname, c.relname, c.oid::bigint, c.relreplident::text, c.relpersistence::text,
       (SELECT coalesce(jsonb_object_agg(a.attname, concat_ws('/', a.attnum, a.atttypid, a.atttypmod)), '{}')
        FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE (n.nspname, c.relname) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
"""


async def read(connection: Connection, plan: Plan, publications: Sequence[str]) -> dict[str, object]:
    """A JSON-able picture of the publications, the mapped source tables, and the columns the mapping relies on."""
    relied = {
        source: all_parts(name for table in tables for name in table.used | set(table.identity))
        for source, tables in plan.by_source().items()
    }
    return await _read(connection, relied, publications, plan.row_filters)


async def read_again(connection: Connection, stored: Mapping[str, object]) -> dict[str, object]:
    """The same things as in `stored`, as they are now."""
    used: dict[TableName, frozenset[str]] = {}
    filters: dict[TableName, str] = {}
    for table in _section(stored, "tables").values():
        columns = table["used"]
        assert isinstance(columns, list)
        name = TableName(str(table["schema"]), str(table["name"]))
        used[name] = frozenset(map(str, columns))
        if table.get("where") is not None:
            filters[name] = str(table["where"])
    return await _read(connection, used, list(_section(stored, "publications")), filters)


async def _read(
    connection: Connection,
    used: Mapping[TableName, frozenset[str]],
    publications: Sequence[str],
    filters: Mapping[TableName, str],
) -> dict[str, object]:
    """`filters` are the conditions that may stand in the publications, as the mapping has them."""
    held: dict[str, dict[str, Any]] = {}
    cursor = await connection.execute(_PUBLICATIONS, (list(publications),))
    for pubname, all_tables, via_root, operations, tables in await cursor.fetchall():
        held[str(pubname)] = {
            "all_tables": bool(all_tables),
            "via_root": bool(via_root),
            "operations": str(operations),
            "tables": tables,
            "filters": {},
            "foreign_filters": [],
        }
    for (pubname, table), found in (await rowfilters.read(connection, publications, filters)).items():
        holds = held[pubname]
        holds["filters"][str(table)] = found.text
        if not found.is_ours:
            holds["foreign_filters"].append(str(table))
    described: dict[str, object] = {}
    cursor = await connection.execute(_TABLES, ([table.schema for table in used], [table.name for table in used]))
    for schema, name, oid, identity, persistence, columns in await cursor.fetchall():
        table = TableName(str(schema), str(name))
        described[str(table)] = {
            "schema": table.schema,
            "name": table.name,
            "used": sorted(used[table]),
            "where": filters.get(table),
            "oid": int(str(oid)),
            "identity": str(identity),
            "persistence": str(persistence),
            "columns": columns,
        }
    return {"publications": held, "tables": described}


@dataclass(frozen=True, slots=True)
class Difference:
    """A sentence naming the tables. `is_final`: putting it back leaves no trace, yet changes may be lost for good."""

    text: str
    is_final: bool = False


def differences(stored: Mapping[str, object], current: Mapping[str, object]) -> list[Difference]:
    """What has changed since the copy in a way that may have lost changes."""
    found: list[Difference] = []
    now = _section(current, "publications")
    for name, was in _section(stored, "publications").items():
        found.extend(_publication(name, was, now.get(name)))
    tables_now = _section(current, "tables")
    for name, was in _section(stored, "tables").items():
        found.extend(_table(name, was, tables_now.get(name)))
    return found


def _publication(name: str, was: Mapping[str, object], now: Mapping[str, object] | None) -> list[Difference]:
    if now is None:
        return [Difference(f"Publication {name} is gone (dropped or renamed); all its tables may have lost changes.")]
    found: list[Difference] = []
    held_before, held_now = _mapping(was, "tables"), _mapping(now, "tables")
    lost = sorted(set(held_before) - set(held_now))
    again = sorted(table for table in held_before if table in held_now and held_before[table] != held_now[table])
    if lost and not now.get("all_tables"):
        found.append(Difference(f"Publication {name} no longer holds {', '.join(lost)}."))
    if again:
        found.append(
            Difference(
                f"Publication {name} was without {', '.join(again)} for a while (dropped and added again), or its row"
                " filter was changed, which looks the same."
            )
        )
    foreign = now.get("foreign_filters")
    if isinstance(foreign, list) and foreign:
        found.append(
            Difference(
                f"Publication {name} has a row filter on {', '.join(sorted(map(str, foreign)))} that is not the"
                " mapping's condition, as far as the server can tell: rows may be missing.",
                is_final=True,
            )
        )
    if was.get("operations") != now.get("operations"):
        found.append(
            Difference(
                f"Publication {name} published other operations than before"
                f" ({now.get('operations')} instead of {was.get('operations')}; i, u, d, t stand for"
                " insert, update, delete, truncate).",
                is_final=True,
            )
        )
    if was.get("via_root") != now.get("via_root"):
        found.append(Difference(f"Publication {name} changed publish_via_partition_root.", is_final=True))
    return found


def _table(name: str, was: Mapping[str, object], now: Mapping[str, object] | None) -> list[Difference]:
    if now is None or was.get("oid") != now.get("oid"):
        return [Difference(f"Table {name} was dropped, renamed or made anew.")]
    found: list[Difference] = []
    if was.get("persistence") != now.get("persistence"):
        found.append(Difference(f"Table {name} is unlogged now, or was: its changes are not logged.", is_final=True))
    if was.get("identity") != now.get("identity"):
        found.append(Difference(f"Table {name} has another replica identity than before."))
    used = was["used"]
    assert isinstance(used, list)
    found.extend(_columns(name, _mapping(was, "columns"), _mapping(now, "columns"), used))
    return found


def _columns(
    table: str, was: Mapping[str, object], now: Mapping[str, object], used: Sequence[object]
) -> Iterator[Difference]:
    for column in map(str, used):
        before, after = was.get(column), now.get(column)
        if before == after or before is None:
            continue
        if after is None or str(before).split("/")[0] != str(after).split("/")[0]:
            yield Difference(
                f"Column {column} of {table}, which the mapping uses, was dropped or renamed (a renamed one may have"
                " its name back: then `crossfade run` goes on)."
            )
        elif not _grew(str(before), str(after)):
            yield Difference(
                f"Column {column} of {table} changed its type; rewritten values are not replicated.", is_final=True
            )


def _grew(before: str, after: str) -> bool:
    """varchar(20) to varchar(50) or varchar rewrites nothing."""
    (_, old_type, old), (_, new_type, new) = before.split("/"), after.split("/")
    return old_type == new_type == _VARCHAR and (new == "-1" or (old != "-1" and int(new) >= int(old)))


def _section(picture: Mapping[str, object], name: str) -> dict[str, dict[str, object]]:
    section = picture.get(name)
    assert isinstance(section, dict)
    return section


def _mapping(entry: Mapping[str, object], name: str) -> Mapping[str, object]:
    held = entry.get(name)
    assert isinstance(held, dict)
    return held
