"""Facts of a source and a target with nothing to complain about; a test replaces what it is about."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from crossfade.preflight.facts import (
    Begun,
    Blocker,
    Link,
    Replication,
    Role,
    Slot,
    SourceFacts,
    StateSchema,
    TargetFacts,
)
from crossfade.preflight.remarks import Remark
from crossfade.preflight.rules import Intent
from crossfade.session.introspect import ServerFacts

INTENT = Intent(
    workflow="shop",
    slot="crossfade",
    publication="crossfade",
    append_publication="crossfade_append",
    workers=2,
    resuming=False,
)
LINK = Link(host="", sslmode="prefer", is_local=True, is_encrypted=False, is_pooled=False)
ROLE = Role(
    name="crossfade",
    is_superuser=False,
    may_replicate=True,
    may_create_in_database=False,
    connection_limit=-1,
    role_connections=1,
    database_connection_limit=-1,
    database_connections=1,
    all_connections=1,
    own_sessions=0,
    own_senders=0,
)
SETTINGS = {
    "wal_level": "logical",
    "max_replication_slots": "10",
    "max_wal_senders": "10",
    "max_connections": "100",
    "superuser_reserved_connections": "3",
    "max_slot_wal_keep_size": "-1",
    "wal_sender_timeout": "60000",
    "fsync": "on",
    "full_page_writes": "on",
    "default_transaction_read_only": "off",
    "synchronous_standby_names": "",
}
SLOT = Slot(
    name="crossfade",
    plugin="pgoutput",
    is_logical=True,
    is_in_our_database=True,
    is_temporary=False,
    active_pid=None,
    wal_status="reserved",
    retained_bytes=0,
    safe_wal_bytes=None,
    confirmed_flush=None,
    invalidation="",
)
BEGUN = Begun(slot="crossfade", end_lsn=None, system_identifier="1", database="shop", tables=frozenset())
BLOCKER = Blocker(xid="700", pid=42, gid=None, role="app", database="shop", age_seconds=3600)


def server(
    version: int = 180006,
    *,
    encoding: str = "UTF8",
    in_recovery: bool = False,
    database: str = "shop",
    without: Iterable[str] = (),
    **settings: str,
) -> ServerFacts:
    values = {**SETTINGS, **settings}
    for name in without:
        del values[name]
    return ServerFacts(
        version=version,
        version_text=f"{version // 10000}.{version % 10000}",
        database=database,
        role="crossfade",
        encoding=encoding,
        in_recovery=in_recovery,
        is_superuser=False,
        settings=values,
    )


SOURCE = SourceFacts(
    server=server(),
    link=LINK,
    role=ROLE,
    overrides=(),
    replication=Replication(system_identifier="1", timeline=1, fault=None),
    slots=(),
    senders_used=0,
    publications={},
    blockers=(),
)
TARGET = TargetFacts(
    server=server(),
    link=LINK,
    role=ROLE,
    overrides=(),
    system_identifier="2",
    replica_role=True,
    state=StateSchema(exists=True, may_use=True, may_create=True, unwritable=()),
    begun=None,
    is_led=False,
)


def source(**changes: object) -> SourceFacts:
    return replace(SOURCE, **changes)  # type: ignore[arg-type]


def target(**changes: object) -> TargetFacts:
    return replace(TARGET, **changes)  # type: ignore[arg-type]


def names(remarks: Iterable[Remark]) -> list[str]:
    return [each.finding.name for each in remarks]


def only(remarks: Iterable[Remark]) -> Remark:
    """The one remark there is."""
    (each,) = remarks
    return each
