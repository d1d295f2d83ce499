"""What the probe brought home: plain values about both servers, our roles and the objects we depend on.

The rules judge these and nothing else, so that every rule can be tested without a server. Refuses to know how a fact
was found out. The invariant: a fact that could not be found out is None, never a default that looks like good news.

PostgreSQL: view-pg-replication-slots, catalog-pg-publication, view-pg-locks, ddl-priv ("Privileges").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from crossfade.catalog import TableName
from crossfade.faults import Fault
from crossfade.lsn import Lsn
from crossfade.session.introspect import ServerFacts


@dataclass(frozen=True, slots=True)
class Link:
    """How we reach a server. `host` is '' on a Unix socket; `is_pooled` says that the backend is not the one we
    greeted, so something in between hands out its own connections (B18)."""

    host: str
    sslmode: str
    is_local: bool
    is_encrypted: bool
    is_pooled: bool


@dataclass(frozen=True, slots=True)
class Role:
    """Our role on one server. Connection limits are -1 when there is none; the counts beside them are those in use.

    `own_sessions` and `own_senders` are sessions of crossfade under this role, the one that asks left out.
    """

    name: str
    is_superuser: bool
    may_replicate: bool
    may_create_in_database: bool
    connection_limit: int
    role_connections: int
    database_connection_limit: int
    database_connections: int
    all_connections: int
    own_sessions: int
    own_senders: int


@dataclass(frozen=True, slots=True)
class Override:
    """A setting somebody fixed for our role or database (ALTER ROLE ... SET, ALTER DATABASE ... SET)."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Slot:
    """A replication slot. `retained_bytes` is None for a slot that holds no WAL; `invalidation` is '' while it is
    valid."""

    name: str
    plugin: str
    is_logical: bool
    is_in_our_database: bool
    is_temporary: bool
    active_pid: int | None
    wal_status: str
    retained_bytes: int | None
    safe_wal_bytes: int | None
    confirmed_flush: Lsn | None
    invalidation: str


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """A table in a publication; `columns` is None when all are published."""

    name: TableName
    is_filtered: bool
    columns: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Publication:
    """A publication as it is. `operations`: insert, update, delete, truncate; `schemas`: FOR TABLES IN SCHEMA."""

    name: str
    is_ours: bool
    all_tables: bool
    schemas: tuple[str, ...]
    operations: frozenset[str]
    via_root: bool
    publishes_generated: bool
    tables: tuple[PublishedTable, ...]


@dataclass(frozen=True, slots=True)
class Blocker:
    """A running or prepared transaction with an xid: a new slot waits for it (B11, C12).

    `age_seconds` is None when our role may not see it. `gid` is set for prepared ones, `pid` for running ones.
    """

    xid: str
    pid: int | None
    gid: str | None
    role: str | None
    database: str | None
    age_seconds: int | None


@dataclass(frozen=True, slots=True)
class Replication:
    """What a replication connection answered to IDENTIFY_SYSTEM, or why there was none."""

    system_identifier: str | None
    timeline: int | None
    fault: Fault | None


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """The source as a whole. `senders_used` counts walsenders of everybody."""

    server: ServerFacts
    link: Link
    role: Role
    overrides: tuple[Override, ...]
    replication: Replication
    slots: tuple[Slot, ...]
    senders_used: int
    publications: Mapping[str, Publication]
    blockers: tuple[Blocker, ...]


@dataclass(frozen=True, slots=True)
class SourceAccess:
    """What our role may do with one source table. `owns` means: may put it into a publication."""

    table: TableName
    schema_usage: bool
    select: bool
    owns: bool
    rows_hidden: bool


@dataclass(frozen=True, slots=True)
class StateSchema:
    """The schema `crossfade` in the target. `unwritable` are relations in it our role lacks a privilege on."""

    exists: bool
    may_use: bool
    may_create: bool
    unwritable: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Begun:
    """This workflow's progress, as stored in the target. `tables` are the source's it copies; none before it began to
    copy."""

    slot: str
    end_lsn: Lsn | None
    system_identifier: str
    database: str
    tables: frozenset[TableName]


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """The target as a whole. `begun` is None when this workflow has not begun there, or its state cannot be read.

    `is_led`: a daemon of this workflow runs (the one that asks, perhaps).
    """

    server: ServerFacts
    link: Link
    role: Role
    overrides: tuple[Override, ...]
    system_identifier: str | None
    replica_role: bool
    state: StateSchema
    begun: Begun | None
    is_led: bool


@dataclass(frozen=True, slots=True)
class DefaultSequence:
    """A sequence behind a column's default which our role may not use."""

    column: str
    sequence: TableName


@dataclass(frozen=True, slots=True)
class TargetAccess:
    """What our role may do with one target table. `has_rows` is None when we could not look (`lock_held`, or no right).
    `missing` are privileges of the table itself, in the server's words."""

    table: TableName
    schema_usage: bool
    missing: tuple[str, ...]
    rows_hidden: bool
    sequences: tuple[DefaultSequence, ...]
    has_rows: bool | None
    lock_held: bool
