"""What is to be known of the things around the tables: types, collations, zones, sequences, partitions, space.

Values as `facts` has them, for rules that need the compiled mapping. Refuses to know how they were found out. The
invariant: as in `facts`, what could not be found out is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from crossfade.catalog import TableName


@dataclass(frozen=True, slots=True)
class TypeNature:
    """A type of the user's own, or of an extension. `definition` is what makes two types of one name the same: a
    domain's type and checks, a composite's attributes ('' for others). `extension` is '' when it belongs to none."""

    name: str
    kind: str
    definition: tuple[str, ...]
    extension: str
    extension_version: str


@dataclass(frozen=True, slots=True)
class DatabaseCollation:
    """How a database sorts. `recorded` and `actual` are versions of the collation library, '' when unknown (before 15
    nobody records it)."""

    name: str
    provider: str
    recorded: str
    actual: str


@dataclass(frozen=True, slots=True)
class SequenceUse:
    """A sequence that gives numbers to a column of a mapped target table. `is_ascending` as its increment."""

    sequence: TableName
    table: TableName
    column: str
    is_ascending: bool


@dataclass(frozen=True, slots=True)
class IdSource:
    """A sequence or table of the target that new ids are taken from. `may_use`: what `crossfade run` needs of it."""

    name: TableName
    is_sequence: bool
    schema_usage: bool
    may_use: bool


@dataclass(frozen=True, slots=True)
class PartitionedRoot:
    """How a partitioned table is divided: `strategy` r, l or h; `bounds` of its direct partitions in the server's
    words."""

    table: TableName
    strategy: str
    has_default: bool
    bounds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ZoneAnswers:
    """What a server says of one zone: seconds east of UTC at each instant asked about; None when it knows no such
    zone."""

    zone: str
    offsets: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class WalRate:
    """How much WAL the source wrote since its statistics were reset; None before version 14, which does not count."""

    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class SourceNatures:
    """Of the source. `types` by oid; `index_bytes` of each mapped table, from page counts; `large_objects`: whether
    there are any; `free_sequences` belong to no column."""

    types: Mapping[int, TypeNature]
    collation: DatabaseCollation
    zones: tuple[ZoneAnswers, ...]
    index_bytes: int
    large_objects: bool
    free_sequences: tuple[TableName, ...]
    wal_rate: WalRate | None


@dataclass(frozen=True, slots=True)
class TargetNatures:
    """Of the target. `merging` are (table, column, collation) of unique keys whose collation is nondeterministic."""

    types: Mapping[int, TypeNature]
    collation: DatabaseCollation
    zones: tuple[ZoneAnswers, ...]
    sequences: tuple[SequenceUse, ...]
    id_sources: tuple[IdSource, ...]
    partitioned: tuple[PartitionedRoot, ...]
    merging: tuple[tuple[TableName, str, str], ...]
