"""What the compiler makes of a mapping and two catalogs: a `TablePlan` for each source of each target table.

Everything downstream (copy, codec, statements, preflight) reads plans and never the mapping file. Refuses to know
YAML, connections or rows. The invariant: a plan is complete (every target column is fed, defaulted or nullable;
every source column is used or dropped on purpose) and never patched: another mapping hash is another plan.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from crossfade.catalog import Column, ForeignKey, Route, TableName
from crossfade.mapping.derived import Expression
from crossfade.mapping.idrules import InnerIds, RemapBy, keyspaces_in
from crossfade.mapping.rules import Convert, ValueMap, Within
from crossfade.mapping.shares import Share


class Ambiguous(enum.Enum):
    """What a local time that occurred twice means (clocks set back)."""

    LATER = "later"  # PostgreSQL's own choice
    EARLIER = "earlier"
    ERROR = "error"


class Nonexistent(enum.Enum):
    """What a local time that never occurred means (clocks set forward)."""

    SHIFT = "shift"  # PostgreSQL's own choice: the offset before the gap
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Verbatim:
    """The source's text, handed to the target type's input function."""


@dataclass(frozen=True, slots=True)
class Remap:
    """An id, replaced by its entry in the keyspace's map; NULL stays NULL."""

    keyspace: str


@dataclass(frozen=True, slots=True)
class LocalTime:
    """A local timestamp of an IANA zone, becoming a timestamptz in UTC."""

    zone: str
    ambiguous: Ambiguous
    nonexistent: Nonexistent


@dataclass(frozen=True, slots=True)
class Const:
    """The same value for every row, as text for the target type; None is NULL."""

    text: str | None


Rule = Verbatim | Within | Remap | LocalTime | Const | ValueMap | Convert | InnerIds | Expression


def keyspaces_of(rule: Rule) -> tuple[str, ...]:
    """The keyspaces a column fed by this rule holds ids of."""
    return (rule.keyspace,) if isinstance(rule, Remap) else keyspaces_in(rule)


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """How one target column is fed. `source` is None for a `Const` and for an `Expression`, which has its inputs."""

    target: Column
    source: Column | None
    rule: Rule


class OnMissing(enum.Enum):
    INSERT = "insert"
    STOP = "stop"


class OnColumnAdded(enum.Enum):
    STOP = "stop"
    IGNORE = "ignore"


class OnOrphan(enum.Enum):
    ALLOCATE = "allocate"
    ERROR = "error"


class OnTruncate(enum.Enum):
    APPLY = "apply"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Policies:
    """What to do where the mapping has a choice (`policies`)."""

    missing_row: OnMissing = OnMissing.INSERT
    source_column_added: OnColumnAdded = OnColumnAdded.STOP
    orphan_id: OnOrphan = OnOrphan.ALLOCATE
    truncate: OnTruncate = OnTruncate.APPLY


class Strategy(enum.Enum):
    """How a keyspace makes new ids."""

    UUID7 = "uuid7"
    UUID4 = "uuid4"
    UUID5 = "uuid5"
    OFFSET = "offset"
    SEQUENCE = "sequence"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class Keyspace:
    """A declared id map. `old_type` and `new_type` are SQL types of its table `crossfade.id_<name>`.

    `by` is the summand of OFFSET (0 otherwise), `taken_from` the target's object that
    SEQUENCE and TABLE take ids from. `lower` and `upper` bound the new ids of OFFSET, [lower, upper), where other
    sources of a table have the numbers beside them. `held` are the types its columns have, once somebody looked: a
    map that was there before may hold integers of another width. UUID5 hashes `<schema>.<table>:<old id as text>` of
    the owner under the URL namespace, so that two runs agree.
    """

    name: str
    owner: TableName
    column: str
    old_type: str
    new_type: str
    strategy: Strategy
    by: int = 0
    taken_from: TableName | None = None
    lower: int | None = None
    upper: int | None = None
    held: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class TablePlan:
    """How one source table becomes one target table, or a part of it.

    `source_columns` are the columns the source publishes, in attribute order, as the catalog had them when the plan
    was compiled; `used` the names of those that feed something. `identity` names the source columns that identify an
    old row: the primary key even under REPLICA IDENTITY FULL (D9), every column when there is none, and nothing for
    an append_only table. `key` names the target columns those feed, in the same order; `key_is_unique` says that a
    non-deferrable-or-deferrable, total unique index of the target covers exactly them. `identity_is_full` says that
    the stream carries the whole old row.
    `applied_as_origin` marks a table with deferrable unique or exclusion constraints: replica role would not enforce
    them, so its changes are applied in origin role with constraints deferred.
    `moves_by_reinsert`: a key column is GENERATED ALWAYS AS IDENTITY, which UPDATE refuses (H10).
    `writable` are all target columns that are not generated, mapped or not: what a moved row must carry along.
    `where` is the condition by which rows are taken, None for all.
    `owns` is the keyspace whose declared column is in this table, or None; of the tables that one source table is split
    into, one owns it, and the others refer to it.
    `beside` are the other sources of the target, and `share` says which of its rows are this one's: None where there
    are no others, and where rows cannot be told apart (append_only).
    """

    source: TableName
    target: TableName
    source_oid: int
    is_partitioned: bool
    source_columns: tuple[Column, ...]
    columns: tuple[ColumnPlan, ...]
    identity: tuple[str, ...]
    identity_is_full: bool
    key: tuple[str, ...]
    key_is_unique: bool
    append_only: bool
    applied_as_origin: bool
    moves_by_reinsert: bool
    overrides_identity: bool
    writable: tuple[str, ...]
    owns: str | None
    policies: Policies
    row_estimate: int
    bytes_estimate: int
    where: Expression | None = None
    beside: tuple[TableName, ...] = ()
    share: Share | None = None

    @property
    def route(self) -> Route:
        """What tells this plan from all others of a mapping."""
        return Route(self.source, self.target)

    @property
    def used(self) -> frozenset[str]:
        """Names of source columns that feed a target column, or that are read to know what becomes of a row."""
        fed = frozenset(column.source.name for column in self.columns if column.source is not None)
        asked = frozenset(column.rule.by for column in self.columns if isinstance(column.rule, RemapBy))
        return fed.union(asked, *(expression.names for expression in self.expressions))

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """All that the target must compute of a source row: the condition first, if there is one."""
        where = () if self.where is None else (self.where,)
        return (*where, *(column.rule for column in self.columns if isinstance(column.rule, Expression)))


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole mapping, compiled. `mapping_hash` is the SHA-256 (hex) of what it does to rows (`meaning`).

    `target_foreign_keys` are those among mapped target tables: they order the copy when they are enforced.
    `row_filters` are conditions, by source table, that may stand in its publication as well (`pushed`).
    """

    workflow: str
    tables: tuple[TablePlan, ...]
    keyspaces: Mapping[str, Keyspace]
    target_foreign_keys: tuple[ForeignKey, ...]
    mapping_hash: str
    row_filters: Mapping[TableName, str] = field(default_factory=dict)

    def by_source(self) -> Mapping[TableName, tuple[TablePlan, ...]]:
        """What becomes of each source table's rows: several plans where it is split.

        Tables that others refer to come first, which is the order of a new row; a row that goes, goes the other way.
        """
        found: dict[TableName, tuple[TablePlan, ...]] = {}
        rank = self.parents_first()
        for table in sorted(self.tables, key=lambda each: rank[each.target]):
            found[table.source] = (*found.get(table.source, ()), table)
        return found

    def parents_first(self) -> dict[TableName, int]:
        """A number for each target table, higher than those of the tables it refers to (cycles: as good as can be)."""
        parents: dict[TableName, set[TableName]] = {table.target: set() for table in self.tables}
        for key in self.target_foreign_keys:
            if key.table in parents and key.referenced in parents and key.table != key.referenced:
                parents[key.table].add(key.referenced)
        numbers: dict[TableName, int] = {}
        while len(numbers) < len(parents):
            ready = [name for name in parents if name not in numbers and parents[name] <= numbers.keys()]
            for name in sorted(ready or [name for name in parents if name not in numbers]):
                numbers[name] = len(numbers)
        return numbers

    @property
    def published(self) -> tuple[TableName, ...]:
        """Source tables published for every operation, sorted."""
        return tuple(sorted({table.source for table in self.tables if not table.append_only}))

    @property
    def append_only(self) -> tuple[TableName, ...]:
        """Source tables published for INSERT and TRUNCATE only, sorted."""
        return tuple(sorted({table.source for table in self.tables if table.append_only}))
