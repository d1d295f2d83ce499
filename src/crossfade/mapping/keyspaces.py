"""Which source columns hold ids of which keyspace: the declared column, and all that refer to it by foreign keys.

References are followed over any number of steps: a column that refers to a column that refers to the keyspace holds
its ids too, and so does each part of a composite or self-referencing key. Refuses to know target tables beyond their
column types. The invariant: a column belongs to one keyspace or to none; where the catalog says two, a person decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from crossfade.catalog import Catalog, Column, Table, TableName
from crossfade.mapping.collect import Collector, quoted, sql_name
from crossfade.mapping.compoundnames import is_compound, parts_of, written
from crossfade.mapping.conversions import BIGINT, INTEGERS, TEXT, VARCHAR, length_limit
from crossfade.mapping.places import did_you_mean
from crossfade.mapping.plan import Keyspace, Strategy
from crossfade.mapping.spec import KeyspaceSpec, Spec
from crossfade.mapping.takenids import family, type_taken

ColumnOf = tuple[TableName, str]

_UUID: Final = "uuid"
_UUID_CHARACTERS: Final = 36


@dataclass(frozen=True, slots=True)
class Keyspaces:
    """The keyspaces, and for each source column the names of those whose ids it holds (more than one: a conflict)."""

    by_name: Mapping[str, Keyspace]
    members: Mapping[ColumnOf, frozenset[str]]

    def of(self, table: TableName, column: str) -> frozenset[str]:
        """Keyspaces of a source column."""
        return self.members.get((table, column), frozenset())


def compile_keyspaces(spec: Spec, source: Catalog, target: Catalog, collect: Collector) -> Keyspaces:
    """Check every declared keyspace against the source and follow the foreign keys that refer to it; of the target
    only where ids are taken from it."""
    keyspaces: dict[str, Keyspace] = {}
    members: dict[ColumnOf, frozenset[str]] = {}
    references = _references(source)
    for name, declared in spec.keyspaces.items():
        reached = _reached((declared.owner, declared.column), references)
        for column in reached:
            members[column] = members.get(column, frozenset()) | {name}
        keyspace = _keyspace(declared, reached, source, target, collect)
        if keyspace is not None:
            keyspaces[name] = keyspace
    return Keyspaces(keyspaces, members)


def _references(source: Catalog) -> Mapping[ColumnOf, tuple[ColumnOf, ...]]:
    """For each column the columns that refer to it by a foreign key, alone or as a part of one."""
    references: dict[ColumnOf, tuple[ColumnOf, ...]] = {}
    for table in source.tables.values():
        for key in table.foreign_keys:
            for name, referenced_name in zip(key.columns, key.referenced_columns, strict=True):
                referenced = (key.referenced, referenced_name)
                references[referenced] = (*references.get(referenced, ()), (key.table, name))
    return references


def _reached(owner: ColumnOf, references: Mapping[ColumnOf, tuple[ColumnOf, ...]]) -> list[ColumnOf]:
    """The owner and every column that refers to it, directly or through others."""
    reached = [owner]
    seen = {owner}
    for column in reached:  # grows while it is walked; each column once, so cycles end
        for child in references.get(column, ()):
            if child not in seen:
                seen.add(child)
                reached.append(child)
    return reached


def _keyspace(
    declared: KeyspaceSpec, reached: list[ColumnOf], source: Catalog, target: Catalog, collect: Collector
) -> Keyspace | None:
    table = source.tables.get(declared.owner)
    if table is None:
        hint = did_you_mean(str(declared.owner), (str(name) for name in source.tables))
        collect.error(
            "keyspace_table_missing",
            declared.place,
            f"ids.{declared.name}: the source has no table {declared.owner}.{hint}",
            "Correct 'from'.",
        )
        return None
    column = table.column(declared.column)
    if column is None:
        _no_column(declared, table, collect)
        return None
    is_fine = _check_unique(declared, table, collect)
    old_type = _old_type(declared, column, reached, source, collect)
    new_type = _new_type(declared, old_type, target, collect) if old_type is not None else None
    if not is_fine or old_type is None or new_type is None:
        return None
    return Keyspace(
        declared.name,
        declared.owner,
        declared.column,
        old_type,
        new_type,
        declared.strategy,
        declared.by,
        declared.taken_from,
    )


def _no_column(declared: KeyspaceSpec, table: Table, collect: Collector) -> None:
    for name in parts_of(declared.column):
        part = table.column(name)
        if part is None:
            hint = did_you_mean(name, (other.name for other in table.columns if not is_compound(other.name)))
            collect.error(
                "keyspace_column_missing",
                declared.place,
                f"ids.{declared.name}: {declared.owner} has no column {name!r}.{hint}",
                "Correct 'from'.",
            )
        elif family(part) is None or part.is_generated:
            what = "generated" if part.is_generated else part.type_name
            collect.error(
                "keyspace_type",
                declared.place,
                f"ids.{declared.name}: {declared.owner}.{name} is {what}; ids can be smallint, integer, bigint, text, "
                "varchar or uuid, and be made of such columns.",
                "Keep these columns as they are, without a keyspace.",
            )


def _check_unique(declared: KeyspaceSpec, table: Table, collect: Collector) -> bool:
    """One id, one row; and checked at once, since a deferrable key may hold the same id twice inside a transaction."""
    unique = [
        key
        for key in table.keys
        if key.is_unique
        and key.is_valid
        and not key.is_partial
        and not key.has_expressions
        and key.columns == (declared.column,)
    ]
    if any(not key.is_deferrable for key in unique):
        return True
    where = f"ids.{declared.name}: {declared.owner}.{written(declared.column)}"
    listed = ", ".join(map(quoted, parts_of(declared.column)))
    if unique:
        collect.error(
            "keyspace_deferrable",
            declared.place,
            f"{where} is unique by {unique[0].name}, which is deferrable: an id may occur twice inside a transaction.",
            f"CREATE UNIQUE INDEX CONCURRENTLY ON {sql_name(table.name)} ({listed});",
        )
    else:
        collect.error(
            "keyspace_not_unique",
            declared.place,
            f"{where} is not unique by itself on the source.",
            "Declare the column whose ids are to be replaced, with a primary key or unique index of its own.",
        )
    return False


def _old_type(
    declared: KeyspaceSpec, column: Column, reached: list[ColumnOf], source: Catalog, collect: Collector
) -> str | None:
    """The type of the map's old ids: wide enough for every column that refers to them (orphans may be wider)."""
    old_type = family(column)
    if old_type is None:
        collect.error(
            "keyspace_type",
            declared.place,
            f"ids.{declared.name}: {declared.owner}.{declared.column} is {column.type_name}; ids can be smallint, "
            "integer, bigint, text, varchar or uuid.",
            "Keep this column as it is, without a keyspace.",
        )
        return None
    for table_name, name in reached[1:]:
        table = source.tables.get(table_name)
        child = table.column(name) if table is not None else None
        kind = family(child) if child is not None else None
        if kind in INTEGERS and old_type in INTEGERS:
            old_type = max(old_type, kind, key=lambda one: INTEGERS[one])
        elif child is not None and kind != old_type:
            collect.error(
                "keyspace_reference_type",
                declared.place,
                f"ids.{declared.name}: {table_name}.{name} refers to it but is {child.type_name}, not {old_type}.",
                "Give both columns the same type on the source.",
            )
            return None
    return old_type


def _new_type(declared: KeyspaceSpec, old_type: str, target: Catalog, collect: Collector) -> str | None:
    if declared.taken_from is not None:
        return type_taken(declared, declared.taken_from, old_type, target, collect)
    if declared.strategy is not Strategy.OFFSET:
        return declared.to or _UUID
    if old_type not in INTEGERS:
        collect.error(
            "keyspace_offset_type",
            declared.place,
            f"ids.{declared.name}: an offset is added to integers, {declared.owner}.{written(declared.column)} is "
            f"{old_type}.",
            "Choose one of uuid7, uuid4 or uuid5.",
        )
        return None
    # Without `to`, the sum is kept in the widest type; each target column still has its own range.
    return declared.to or BIGINT


def check_remapped(keyspace: Keyspace, source: Column, target: Column, *, is_declared: bool) -> tuple[str, str] | None:
    """Why an id of this keyspace does not fit the columns it moves between: a sentence and a remedy, or None.

    `is_declared` tells that the source column is known to hold these ids; else its type is compared too.
    """
    kind = family(source)
    if not is_declared and kind != keyspace.old_type and not (kind in INTEGERS and keyspace.old_type in INTEGERS):
        return (
            f"it is {source.type_name}, but ids.{keyspace.name} replaces ids of type {keyspace.old_type}",
            "Name the right keyspace, or leave the column as it is.",
        )
    makes_texts = keyspace.strategy is Strategy.TABLE and keyspace.new_type == TEXT
    if keyspace.new_type in INTEGERS or makes_texts:
        if target.base_type in (INTEGERS if keyspace.new_type in INTEGERS else {TEXT, VARCHAR}):
            return None
        return (
            f"ids.{keyspace.name} makes {keyspace.new_type} ids, the target column is {target.type_name}",
            f"Make the target column {keyspace.new_type}.",
        )
    if target.base_type in {_UUID, TEXT}:
        return None
    if target.base_type == VARCHAR:
        limit = length_limit(target)
        if limit is None or limit >= _UUID_CHARACTERS:
            return None
    return (
        f"ids.{keyspace.name} makes uuid ids, the target column is {target.type_name}",
        "Make the target column uuid (or text).",
    )
