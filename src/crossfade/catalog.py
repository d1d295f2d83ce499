"""What a database is, as plain values: tables, columns, keys, foreign keys, triggers.

The queries that fill these types live in `session/introspect`; everybody who decides (the mapping compiler, the
preflight rules, the statements) reads them here. Refuses to know about connections, versions of the query, or the
mapping. The invariant: a value of these types is a photograph; nothing in it changes after it was taken.

PostgreSQL: catalogs ("System Catalogs"): pg_class, pg_attribute, pg_index, pg_constraint, pg_trigger.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class TableName(NamedTuple):
    """A schema-qualified relation name, unquoted, exactly as the catalog stores it."""

    schema: str
    name: str

    def __str__(self) -> str:
        """`schema.name` for people to read (messages, status, metrics); never for building SQL."""
        return f"{self.schema}.{self.name}"


class Route(NamedTuple):
    """One source table's way into one target table. A source may have several targets, and a target several sources,
    so that neither name alone says whose rows are meant."""

    source: TableName
    target: TableName


class ReplicaIdentity(enum.Enum):
    """What the server logs of an old row (pg_class.relreplident, and the Relation message's byte)."""

    DEFAULT = "d"
    NOTHING = "n"
    FULL = "f"
    INDEX = "i"


class TableKind(enum.Enum):
    """pg_class.relkind, as far as rows can live there."""

    ORDINARY = "r"
    PARTITIONED = "p"
    VIEW = "v"
    MATERIALIZED_VIEW = "m"
    FOREIGN = "f"


class Action(enum.Enum):
    """What a foreign key does to the children (pg_constraint.confdeltype and confupdtype)."""

    NO_ACTION = "a"
    RESTRICT = "r"
    CASCADE = "c"
    SET_NULL = "n"
    SET_DEFAULT = "d"


@dataclass(frozen=True, slots=True)
class Column:
    """A live (not dropped) column.

    `type_name` is format_type() with the typmod (`character varying(20)`), `base_type` without it
    (`character varying`), a domain by its own name in both; `typmod` is pg_attribute.atttypmod (-1: none).
    `type_kind` is pg_type.typtype (b base, e enum, d domain, c composite, r range, m multirange), and
    `element_type_kind` the same for an array's element ('' when it is no array).
    `identity` is '', 'a' (ALWAYS) or 'd' (BY DEFAULT); `generated` is '', 's' (stored) or 'v' (virtual).
    `labels` are those of an enum, or of the enum an array holds, in their order.
    """

    name: str
    number: int
    type_oid: int
    type_name: str
    base_type: str
    typmod: int
    type_kind: str
    element_type_kind: str
    not_null: bool
    has_default: bool
    identity: str
    generated: str
    storage: str
    labels: tuple[str, ...] = ()

    @property
    def is_generated(self) -> bool:
        """Computed by the server: never sent before version 18, never written by us (H10, E19)."""
        return self.generated != ""


@dataclass(frozen=True, slots=True)
class Key:
    """A unique index, with or without a constraint behind it, or an exclusion constraint.

    `columns` are the plain key columns in index order, without INCLUDE columns; an index over an expression has
    `has_expressions` and lists only its plain columns. `is_usable_identity` says that PostgreSQL would accept it
    for REPLICA IDENTITY (unique, valid, not partial, not deferrable, no expressions, every column NOT NULL: D13).
    """

    name: str
    columns: tuple[str, ...]
    is_primary: bool
    is_unique: bool
    is_exclusion: bool
    is_deferrable: bool
    is_partial: bool
    has_expressions: bool
    is_valid: bool
    is_replica_identity: bool
    is_usable_identity: bool
    nulls_not_distinct: bool


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key of `table`; `columns[i]` refers to `referenced_columns[i]` of `referenced`."""

    name: str
    table: TableName
    columns: tuple[str, ...]
    referenced: TableName
    referenced_columns: tuple[str, ...]
    on_delete: Action
    on_update: Action
    is_deferrable: bool
    is_initially_deferred: bool
    is_validated: bool


@dataclass(frozen=True, slots=True)
class Trigger:
    """A user trigger or (`is_rule`) a rewrite rule. `enabled` is O (origin), D (disabled), R (replica), A (always)."""

    name: str
    enabled: str
    is_rule: bool


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf partition of a partitioned table, as far as replication cares."""

    name: TableName
    oid: int
    replica_identity: ReplicaIdentity
    persistence: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table as the catalog describes it. Estimates come from pg_class and may be stale or zero.

    `persistence` is p (permanent), u (unlogged) or t (temporary). `is_partition` tables are reached through their
    root; `has_inheritance_children` marks old-style inheritance (never partitions). `bytes` sums the leaves of a
    partitioned table, TOAST and indexes left out, TOAST included.
    """

    name: TableName
    oid: int
    kind: TableKind
    persistence: str
    owner: str
    replica_identity: ReplicaIdentity
    columns: tuple[Column, ...]
    keys: tuple[Key, ...]
    foreign_keys: tuple[ForeignKey, ...]
    triggers: tuple[Trigger, ...]
    leaves: tuple[Leaf, ...]
    is_partition: bool
    has_inheritance_children: bool
    row_security: bool
    row_security_forced: bool
    row_estimate: int
    bytes: int

    def column(self, name: str) -> Column | None:
        """The live column of that exact name."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def primary_key(self) -> Key | None:
        """The primary key, deferrable or not."""
        return next((key for key in self.keys if key.is_primary), None)

    @property
    def identity_key(self) -> Key | None:
        """The key whose columns PostgreSQL logs for an old row; None under FULL and NOTHING, or when there is none.

        PostgreSQL: sql-altertable, "REPLICA IDENTITY".
        """
        if self.replica_identity is ReplicaIdentity.DEFAULT:
            key = self.primary_key
        elif self.replica_identity is ReplicaIdentity.INDEX:
            key = next((key for key in self.keys if key.is_replica_identity), None)
        else:
            return None
        return key if key is not None and not key.is_deferrable and key.is_valid else None


@dataclass(frozen=True, slots=True)
class Catalog:
    """The user tables of one database, and the names of its sequences. `version` is server_version_num (150018)."""

    version: int
    database: str
    tables: Mapping[TableName, Table]
    sequences: frozenset[TableName] = frozenset()

    @property
    def major(self) -> int:
        """13 to 18 and whatever comes."""
        return self.version // 10_000

    def references_to(self, name: TableName) -> tuple[ForeignKey, ...]:
        """Every foreign key of any table that refers to `name`, in catalog order."""
        return tuple(key for table in self.tables.values() for key in table.foreign_keys if key.referenced == name)
