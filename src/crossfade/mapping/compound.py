"""Several columns as one: a column that no table has, made of others, so that their values together may be an id.

The source's catalog is given such columns, with the keys and foreign keys that their parts have together; whoever reads
it afterwards knows nothing of parts. Refuses to know rows (`wire/widen` and `statements` make the values). The
invariant: a compound column is only named where each of its parts is a column of a type that ids may have, and it is
unique, or refers to another, exactly where its parts together do.

Its value is the parts as texts, in the order in which the mapping names them, as a JSON array: `["7", "ab"]`; NULL if
one of them is NULL, as a foreign key of several columns refers to nothing then.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from crossfade.catalog import Catalog, Column, ForeignKey, Table, TableName
from crossfade.mapping.compoundnames import compound, is_compound, parts_of
from crossfade.mapping.published import may_be_toasted
from crossfade.mapping.spec import Spec
from crossfade.mapping.takenids import family

_TEXT_OID: Final = 25


def with_compounds(spec: Spec, source: Catalog) -> Catalog:
    """The catalog with the compound columns that the mapping names, and those that refer to them by foreign keys."""
    wanted = _wanted(spec, source)
    if not wanted:
        return source
    tables = dict(source.tables)
    for name, compounds in wanted.items():
        tables[name] = _widened(tables[name], compounds, wanted)
    return dataclasses.replace(source, tables=tables)


def _wanted(spec: Spec, source: Catalog) -> dict[TableName, list[str]]:
    """Compound columns by table: those of keyspaces, those written under `columns`, and what refers to them."""
    found: dict[TableName, list[str]] = {}
    for table, name in (*_of_keyspaces(spec), *_of_columns(spec)):
        _want(found, source, table, name)
    ahead = [(table, name) for table, names in found.items() for name in names]
    for table, name in ahead:  # grows while it is walked
        for key in source.references_to(table):
            child = _referring(key, name)
            if child is not None and _want(found, source, key.table, child):
                ahead.append((key.table, child))
    return found


def _want(found: dict[TableName, list[str]], source: Catalog, table: TableName, name: str) -> bool:
    """Note it once, where it can be made."""
    known = source.tables.get(table)
    if known is None or name in found.get(table, ()):
        return False
    parts = [known.column(part) for part in parts_of(name)]
    if any(part is None or part.is_generated or family(part) is None for part in parts):
        return False
    found.setdefault(table, []).append(name)
    return True


def _of_keyspaces(spec: Spec) -> Iterator[tuple[TableName, str]]:
    for keyspace in spec.keyspaces.values():
        if is_compound(keyspace.column):
            yield keyspace.owner, keyspace.column


def _of_columns(spec: Spec) -> Iterator[tuple[TableName, str]]:
    for table in (each for entry in spec.tables.values() for each in entry.each):
        names = [entry.source for entry in table.columns.values() if entry.source and is_compound(entry.source)]
        if table.source is not None:
            sources = [table.source]
        else:
            sources = [
                TableName(old, table.target.name) for old, new in spec.schemas.items() if new == table.target.schema
            ]
        for source in sources:
            for name in names:
                yield source, name


def _referring(key: ForeignKey, name: str) -> str | None:
    """The compound column of the referring table, its parts in the order of those referred to."""
    parts = parts_of(name)
    if sorted(key.referenced_columns) != sorted(parts):
        return None
    own = dict(zip(key.referenced_columns, key.columns, strict=True))
    return compound([own[part] for part in parts])


def _widened(table: Table, names: Sequence[str], wanted: Mapping[TableName, Sequence[str]]) -> Table:
    number = max((column.number for column in table.columns), default=0)
    made = [_column(table, name, number + at) for at, name in enumerate(names, start=1)]
    keys = [
        dataclasses.replace(
            key,
            columns=(name, *(column for column in key.columns if column not in parts_of(name))),
            is_primary=False,
            is_replica_identity=False,
            is_usable_identity=False,
        )
        for name in names
        for key in table.keys
        if key.is_unique and not key.has_expressions and set(parts_of(name)) <= set(key.columns)
    ]
    references = [
        dataclasses.replace(key, columns=(child,), referenced_columns=(name,))
        for key in table.foreign_keys
        for name in wanted.get(key.referenced, ())
        if (child := _referring(key, name)) in names and child is not None
    ]
    return dataclasses.replace(
        table,
        columns=(*table.columns, *made),
        keys=(*table.keys, *keys),
        foreign_keys=(*table.foreign_keys, *references),
    )


def _column(table: Table, name: str, number: int) -> Column:
    parts = [part for part in map(table.column, parts_of(name)) if part is not None]
    return Column(
        name=name,
        number=number,
        type_oid=_TEXT_OID,
        type_name="text",
        base_type="text",
        typmod=-1,
        type_kind="b",
        element_type_kind="",
        not_null=all(part.not_null for part in parts),
        has_default=False,
        identity="",
        generated="",
        storage="x" if any(map(may_be_toasted, parts)) else "p",
    )
