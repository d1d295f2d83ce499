"""Keyspaces whose new ids are made elsewhere: a sequence of the target, or a table with old and new ids.

Refuses to know rows and rights: whether our role may use them is found out by using them. The invariant: what it passes
exists, and its columns can be compared with the old ids and kept as the new ones.
"""

from __future__ import annotations

from typing import Final

from crossfade.catalog import Catalog, Column, Table, TableName
from crossfade.mapping.collect import Collector, sql_name
from crossfade.mapping.conversions import BIGINT, INTEGERS, TEXT, VARCHAR
from crossfade.mapping.places import did_you_mean
from crossfade.mapping.plan import Strategy
from crossfade.mapping.spec import KeyspaceSpec

_OLD: Final = "old"
_NEW: Final = "new"


def family(column: Column) -> str | None:
    """The SQL type a map keeps an id in, before widths are compared; None for what cannot be an id."""
    if column.base_type in INTEGERS:
        return column.base_type
    if column.base_type in {TEXT, VARCHAR}:
        return TEXT
    return "uuid" if column.base_type == "uuid" else None


def type_taken(
    declared: KeyspaceSpec, name: TableName, old_type: str, target: Catalog, collect: Collector
) -> str | None:
    """The type of the new ids; None after an error."""
    if declared.strategy is Strategy.SEQUENCE:
        if name in target.sequences:
            return declared.to or BIGINT
        hint = did_you_mean(str(name), (str(one) for one in target.sequences))
        collect.error(
            "keyspace_sequence_missing",
            declared.place,
            f"ids.{declared.name}: the target has no sequence {name}.{hint}",
            f"Correct the name, or CREATE SEQUENCE {sql_name(name)};",
        )
        return None
    table = target.tables.get(name)
    if table is None:
        hint = did_you_mean(str(name), (str(one) for one in target.tables))
        collect.error(
            "keyspace_map_missing",
            declared.place,
            f"ids.{declared.name}: the target has no table or view {name}.{hint}",
            "Correct the name, or create it there with the columns old and new, and fill it.",
        )
        return None
    return _of_map(declared, table, old_type, collect)


def _of_map(declared: KeyspaceSpec, table: Table, old_type: str, collect: Collector) -> str | None:
    old, new = table.column(_OLD), table.column(_NEW)
    if old is None or new is None:
        collect.error(
            "keyspace_map_columns",
            declared.place,
            f"ids.{declared.name}: {table.name} has no column {(_OLD if old is None else _NEW)!r}.",
            "Ids are looked up in its columns old and new: rename them, or name a view that has them.",
        )
        return None
    kind, made = family(old), family(new)
    if kind != old_type and not (kind in INTEGERS and old_type in INTEGERS):
        collect.error(
            "keyspace_map_columns",
            declared.place,
            f"ids.{declared.name}: {table.name}.old is {old.type_name}, but the old ids are {old_type}.",
            f"Make it {old_type}, or name a view that casts it.",
        )
        return None
    if made is None or (declared.to and declared.to != made and not (made in INTEGERS and declared.to in INTEGERS)):
        collect.error(
            "keyspace_map_columns",
            declared.place,
            f"ids.{declared.name}: {table.name}.new is {new.type_name}; ids become "
            f"{declared.to or 'smallint, integer, bigint, text, varchar or uuid'}.",
            "Correct 'to', or the table.",
        )
        return None
    unique = any(key.is_unique and key.columns == (_OLD,) and not key.is_partial for key in table.keys)
    if not unique:
        collect.warning(
            "keyspace_map_not_unique",
            declared.place,
            f"ids.{declared.name}: nothing makes {table.name}.old unique. It is searched for every batch, and a row "
            "whose old id has two new ones stops the stream.",
            f"CREATE UNIQUE INDEX ON {sql_name(table.name)} (old);",
        )
    return declared.to or made
