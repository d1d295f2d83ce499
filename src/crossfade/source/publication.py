"""What the publications hold, and what their tables look like: remembered when the copy begins, compared ever after.

A table taken out of a publication, a changed operation list or a rewritten column loses changes without any error on
the stream, so what was true at the copy is stored and compared at every start and every ten seconds (E3, E7, D16).
Refuses to change anything on the source. The invariant: `differences` is empty only while everything the mapping
relies on is as it was.

PostgreSQL: catalog-pg-publication, view-pg-publication-tables, sql-createpublication.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from crossfade.mapping.plan import Plan
from crossfade.session.connect import Connection

_VARCHAR: Final = "1043"

_PUBLICATIONS: Final = """
SELECT p.pubname, p.puballtables, p.pubviaroot,
       concat(CASE WHEN p.pubinsert THEN 'i' END, CASE WHEN p.pubupdate THEN 'u' END,
              CASE WHEN p.pubdelete THEN 'd' END, CASE WHEN p.pubtruncate THEN 't' END),
       coalesce((SELECT array_agg(format('%%s.%%s', n.nspname, c.relname) ORDER BY n.nspname, c.relname)
                 FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid
                 JOIN pg_namespace n ON n.oid = c.relnamespace WHERE r.prpubid = p.oid), '{}')
FROM pg_publication p WHERE p.pubname = ANY (%s)
"""
_TABLES: Final = """
SELECT format('%%s.%%s', n.nspname, c.relname), c.oid::bigint, c.relreplident::text, c.relpersistence::text,
       (SELECT coalesce(jsonb_object_agg(a.attname, a.atttypid::text || '/' || a.atttypmod), '{}')
        FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE (n.nspname, c.relname) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
"""


async def read(connection: Connection, plan: Plan, publications: Sequence[str]) -> dict[str, object]:
    """A JSON-able picture of the publications and of the mapped source tables."""
    held: dict[str, object] = {}
    cursor = await connection.execute(_PUBLICATIONS, (list(publications),))
    for name, all_tables, via_root, operations, tables in await cursor.fetchall():
        assert isinstance(tables, list)
        held[str(name)] = {
            "all_tables": bool(all_tables),
            "via_root": bool(via_root),
            "operations": str(operations),
            "tables": [str(table) for table in tables],
        }
    described: dict[str, object] = {}
    names = [table.source for table in plan.tables]
    cursor = await connection.execute(_TABLES, ([name.schema for name in names], [name.name for name in names]))
    for name, oid, identity, persistence, columns in await cursor.fetchall():
        described[str(name)] = {
            "oid": int(str(oid)),
            "identity": str(identity),
            "persistence": str(persistence),
            "columns": columns,
        }
    return {"publications": held, "tables": described}


def differences(stored: Mapping[str, object], current: Mapping[str, object], plan: Plan) -> list[str]:
    """What has changed since the copy in a way that may have lost changes; a sentence each, naming the tables."""
    found: list[str] = []
    before, now = _section(stored, "publications"), _section(current, "publications")
    for name, was in before.items():
        there = now.get(name, {})
        if not there:
            found.append(f"Publication {name} is gone (dropped or renamed); all its tables may have lost changes.")
            continue
        lost = sorted(set(_names(was)) - set(_names(there)))
        if lost and not there.get("all_tables"):
            found.append(f"Publication {name} no longer holds {', '.join(lost)}.")
        if was.get("operations") != there.get("operations"):
            found.append(
                f"Publication {name} publishes other operations than before"
                f" ({there.get('operations')} instead of {was.get('operations')}; i, u, d, t stand for"
                " insert, update, delete, truncate)."
            )
        if was.get("via_root") != there.get("via_root"):
            found.append(f"Publication {name} changed publish_via_partition_root.")
    tables_before, tables_now = _section(stored, "tables"), _section(current, "tables")
    for table in plan.tables:
        name = str(table.source)
        was, there = tables_before.get(name, {}), tables_now.get(name, {})
        if not was:
            continue
        if was.get("oid") != there.get("oid"):
            found.append(f"Table {name} was dropped, renamed or made anew.")
            continue
        if was.get("persistence") != there.get("persistence"):
            found.append(f"Table {name} was made unlogged for a while or is now: its changes are not logged.")
        if was.get("identity") != there.get("identity"):
            found.append(f"Table {name} has another replica identity than before.")
        found.extend(_columns(name, was.get("columns"), there.get("columns"), table.used | set(table.identity)))
    return found


def _columns(table: str, was: object, now: object, used: frozenset[str]) -> list[str]:
    assert isinstance(was, dict)
    assert isinstance(now, dict)
    found: list[str] = []
    for column in sorted(used):
        before, after = was.get(column), now.get(column)
        if before == after or before is None:
            continue
        if after is None:
            found.append(f"Column {column} of {table}, which the mapping uses, was dropped or renamed.")
        elif not _grew(str(before), str(after)):
            found.append(f"Column {column} of {table} changed its type; rewritten values are not replicated.")
    return found


def _grew(before: str, after: str) -> bool:
    """varchar(20) to varchar(50) or varchar rewrites nothing."""
    (old_type, old), (new_type, new) = before.split("/"), after.split("/")
    return old_type == new_type == _VARCHAR and (new == "-1" or (old != "-1" and int(new) >= int(old)))


def _section(picture: Mapping[str, object], name: str) -> dict[str, dict[str, object]]:
    section = picture.get(name)
    assert isinstance(section, dict)
    return section


def _names(publication: Mapping[str, object]) -> list[str]:
    names = publication.get("tables")
    return [str(name) for name in names] if isinstance(names, list) else []
