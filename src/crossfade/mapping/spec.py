"""The mapping as somebody wrote it: plain values, one per construct of the grammar, each with its place.

Nothing here has been compared with a database yet; that is `compile`. Names are exact, as the catalog stores them.
Refuses to know YAML and catalogs. The invariant: two specs mean the same exactly when their `meaning_hash` is equal,
whatever their files look like (comments, order of keys, short or long form).
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from crossfade.catalog import TableName
from crossfade.mapping.places import Place
from crossfade.mapping.plan import (
    Ambiguous,
    Const,
    LocalTime,
    Nonexistent,
    OnColumnAdded,
    OnMissing,
    OnOrphan,
    OnTruncate,
    Policies,
    Remap,
    Rule,
    Strategy,
    Verbatim,
)
from crossfade.mapping.rules import Lossy, Sql, described

Written = Rule | Lossy | Sql
"""A rule as the mapping says it."""

__all__ = [
    "Ambiguous",
    "ColumnSpec",
    "ConditionSpec",
    "Exclusion",
    "KeyspaceSpec",
    "Nonexistent",
    "OnColumnAdded",
    "OnMissing",
    "OnOrphan",
    "OnTruncate",
    "Spec",
    "TableSpec",
    "Written",
]


@dataclass(frozen=True, slots=True)
class KeyspaceSpec:
    """`ids.<name>`: the ids of `owner`.`column` become new ones. `to` is an SQL type, '' when not given.

    `taken_from` is the target's sequence or table that the strategies of these names take ids from.
    """

    name: str
    owner: TableName
    column: str
    to: str
    strategy: Strategy
    by: int
    taken_from: TableName | None
    place: Place


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """One entry of `columns`. `source` None: of the target's name. `rule` None: verbatim, unless ids say otherwise.

    `places` are those of what stands in its block, by path from there (`values.2`).
    """

    target: str
    source: str | None
    rule: Written | None
    place: Place
    places: Mapping[str, Place] = field(default_factory=dict)

    def at(self, path: str) -> Place:
        """Where that was written, or the entry itself."""
        return self.places.get(path, self.place)


@dataclass(frozen=True, slots=True)
class ConditionSpec:
    """`where`: SQL over the source row."""

    up: str
    place: Place


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One entry of `tables`. `source` None: the table of the same name in a mapped schema. `only`: just the columns
    given.

    `sources` are the items of a list in `from`, each as if it were the whole entry: what is said beside the list holds
    for each of them. The entry itself then has no source.
    """

    target: TableName
    source: TableName | None
    columns: Mapping[str, ColumnSpec]
    drop: Mapping[str, Place]
    append_only: bool
    only: bool
    where: ConditionSpec | None
    policies: Policies
    place: Place
    source_place: Place
    sources: tuple[TableSpec, ...] = ()

    @property
    def each(self) -> tuple[TableSpec, ...]:
        """One entry for each source: usually itself."""
        return self.sources or (self,)


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A glob over `schema.table` of the source; upper and lower case differ, as they do in the catalog."""

    pattern: str
    place: Place

    def matches(self, name: TableName) -> bool:
        """Whether the schema-wide mapping leaves this table out."""
        return fnmatch.fnmatchcase(str(name), self.pattern)


@dataclass(frozen=True, slots=True)
class Spec:
    """A whole mapping file. `schemas` is source schema -> target schema; `places` has every key of the file by path.

    `file` is the name to show before a place ("mapping.yaml"), `text` the file as it was read.
    """

    file: str
    schemas: Mapping[str, str]
    exclude: tuple[Exclusion, ...]
    keyspaces: Mapping[str, KeyspaceSpec]
    policies: Policies
    tables: Mapping[TableName, TableSpec]
    places: Mapping[str, Place]
    text: str = ""

    def at(self, place: Place) -> str:
        """The subject of a finding: `mapping.yaml:9:5`."""
        return f"{self.file}:{place}"

    @property
    def meaning_hash(self) -> str:
        """SHA-256, in hex, of what the mapping says; stored with the position, so that another meaning is noticed."""
        canonical = json.dumps(_meaning(self), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def _meaning(spec: Spec) -> dict[str, object]:
    """The spec as JSON values. Table names are lists: a name may hold a dot."""
    return {
        "version": 1,
        "schemas": dict(spec.schemas),
        "exclude": sorted({exclusion.pattern for exclusion in spec.exclude}),
        "ids": {
            name: [
                *(*keyspace.owner, keyspace.column, keyspace.to, keyspace.strategy.value, keyspace.by),
                *(keyspace.taken_from or ()),
            ]
            for name, keyspace in spec.keyspaces.items()
        },
        "policies": _policies(spec.policies),
        "tables": sorted(
            [
                [
                    list(table.target),
                    None if table.source is None else list(table.source),
                    {name: [column.source, _rule(column.rule)] for name, column in table.columns.items()},
                    sorted(table.drop),
                    table.append_only,
                    table.only,
                    None if table.where is None else table.where.up,
                    _policies(table.policies),
                ]
                for entry in spec.tables.values()
                for table in entry.each
            ],
            key=lambda table: json.dumps(table, sort_keys=True),
        ),
    }


def _policies(policies: Policies) -> list[str]:
    return [
        policies.missing_row.value,
        policies.source_column_added.value,
        policies.orphan_id.value,
        policies.truncate.value,
    ]


def _rule(rule: Written | None) -> list[object]:
    match rule:
        case None:
            return []
        case Verbatim():
            return ["verbatim"]
        case Remap(keyspace=keyspace):
            return ["remap", keyspace]
        case LocalTime(zone=zone, ambiguous=ambiguous, nonexistent=nonexistent):
            return ["timezone", zone, ambiguous.value, nonexistent.value]
        case Const(text=text):
            return ["const", text]
        case _:
            return described(rule)
