"""Whether both servers are of a version, a role in life and a configuration we can work with.

Refuses to know tables and rights. The invariant: what would make us lose data, or never start, is an ERROR; what an
operator should merely know is not.

PostgreSQL: runtime-config-replication, runtime-config-wal, logicaldecoding ("Replication Slot Synchronization").
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from crossfade.findings import Kind, Severity
from crossfade.preflight.facts import Override, Replication, Slot, SourceFacts, TargetFacts
from crossfade.preflight.minors import first_good, known_faults
from crossfade.preflight.remarks import Remark, Side, remark, size
from crossfade.session.introspect import ServerFacts

OLDEST: Final = 13
NEWEST: Final = 18

# What would end a long copy or an idle stream. Our own connections pin every one of them to "never".
_TIMEOUTS: Final = frozenset(
    {
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
        "transaction_timeout",
    }
)


def source(facts: SourceFacts) -> Iterator[Remark]:
    """Version, wal_level, encoding, recovery and the settings that decide a slot's fate."""
    server = facts.server
    yield from _version(Side.SOURCE, server)
    yield from _minor(server)
    yield from _overrides(Side.SOURCE, facts.overrides)
    if server.in_recovery:
        yield _error(
            "source_in_recovery",
            "The source is a standby. Crossfade streams from a primary only (B12).",
            "Let source.dsn name the primary, for example with target_session_attrs=read-write.",
            kind=Kind.CONFIGURATION,
        )
    level = server.settings.get("wal_level", "")
    if level != "logical":
        yield _error(
            "wal_level",
            f"wal_level is {level}; logical replication needs logical.",
            "As a superuser, then restart the server (Amazon RDS: parameter rds.logical_replication = 1):",
            sql="ALTER SYSTEM SET wal_level = 'logical';",
        )
    if server.encoding == "SQL_ASCII":
        yield _error(
            "source_encoding",
            "The source database is SQL_ASCII: the server does not know how its bytes are encoded, so no text of it"
            " can be converted safely (F21).",
            "Move the data to a database with a real encoding first (dump, convert, restore).",
        )
    plugins = server.settings.get("output_plugin_libraries")
    if plugins is not None and "pgoutput" not in {name.strip() for name in plugins.split(",")}:
        yield _error(
            "output_plugin_not_allowed",
            "output_plugin_libraries does not name pgoutput, so no slot of ours can be decoded (B14).",
            "As a superuser, then reload the configuration:",
            sql="ALTER SYSTEM SET output_plugin_libraries = 'pgoutput', 'test_decoding';",
        )
    yield from _slot_limits(server)
    yield from _standby_slots(server, facts.slots)


def target(facts: TargetFacts) -> Iterator[Remark]:
    """Version, durability, encoding and whether it can be written at all."""
    server = facts.server
    yield from _version(Side.TARGET, server)
    yield from _overrides(Side.TARGET, facts.overrides)
    if server.in_recovery:
        yield _target(
            Severity.ERROR,
            "target_in_recovery",
            "The target is a standby and takes no writes (H8).",
            "Let target.dsn name the primary, for example with target_session_attrs=read-write.",
            kind=Kind.CONFIGURATION,
        )
    elif server.settings.get("default_transaction_read_only") == "on":
        yield _target(
            Severity.WARNING,
            "target_read_only",
            "default_transaction_read_only is on for our sessions on the target; crossfade overrides it (H8).",
            "Nothing, if somebody fences users off on purpose; else find out who set it.",
        )
    off = [name for name in ("fsync", "full_page_writes") if server.settings.get(name) == "off"]
    if off:
        yield _target(
            Severity.WARNING,
            "target_not_durable",
            f"{' and '.join(off)} {'are' if len(off) > 1 else 'is'} off: a crash of the target can lose rows which the"
            " source was told are safe (A13).",
            "As a superuser, then reload the configuration:",
            sql=tuple(f"ALTER SYSTEM SET {name} = on;" for name in off),
        )
    if server.settings.get("synchronous_standby_names"):
        yield _target(
            Severity.INFO,
            "target_synchronous",
            "The target has synchronous standbys: every batch waits until one of them has its commit (we always commit"
            " with synchronous_commit=on).",
            "Nothing; keep it in mind when lag grows while the target looks idle.",
        )
    if server.encoding != "UTF8":
        yield _target(
            Severity.WARNING,
            "target_encoding",
            f"The target database is {server.encoding}, not UTF8: rows with characters it lacks will be refused (F22).",
            "Create the target database with ENCODING 'UTF8'.",
        )


def identities(source_found: Replication, source_server: ServerFacts, target_facts: TargetFacts) -> Iterator[Remark]:
    """Two connection strings that lead to one database."""
    same_cluster = (
        source_found.system_identifier is not None and source_found.system_identifier == target_facts.system_identifier
    )
    if same_cluster and source_server.database == target_facts.server.database:
        yield remark(
            Side.BOTH,
            Severity.ERROR,
            "same_database",
            "source.dsn, target.dsn",
            "Source and target are the same database.",
            remedy="Let target.dsn name the new database.",
            kind=Kind.CONFIGURATION,
        )


def _version(side: Side, server: ServerFacts) -> Iterator[Remark]:
    if server.major < OLDEST:
        yield remark(
            side,
            Severity.ERROR,
            "version_too_old",
            side.value,
            f"The server is PostgreSQL {server.version_text}; crossfade needs {OLDEST} or newer.",
            remedy="Upgrade the server first.",
        )
    elif server.major > NEWEST:
        yield remark(
            side,
            Severity.WARNING,
            "version_unknown",
            side.value,
            f"The server is PostgreSQL {server.version_text}, newer than any version crossfade was tested with"
            f" ({OLDEST} to {NEWEST}).",
            remedy="Look for a newer crossfade.",
        )


def _minor(server: ServerFacts) -> Iterator[Remark]:
    found = known_faults(server.version)
    if found:
        yield remark(
            Side.SOURCE,
            Severity.WARNING,
            "known_bad_minor",
            "source",
            f"PostgreSQL {server.version_text} has known faults in logical decoding (B15): "
            + "; ".join(f"{fault.what} ({fault.page})" for fault in found)
            + ".",
            remedy=f"Update the source to {server.major}.{first_good(server.version)} or newer before a long parallel"
            " run.",
        )


def _overrides(side: Side, overrides: tuple[Override, ...]) -> Iterator[Remark]:
    timeouts = [each for each in overrides if each.name in _TIMEOUTS and each.value not in {"0", "0ms", "0s"}]
    if timeouts:
        yield remark(
            side,
            Severity.INFO,
            "timeouts_overridden",
            side.value,
            "Our role or database has "
            + ", ".join(f"{each.name}={each.value}" for each in timeouts)
            + "; crossfade's own sessions switch them off (G2).",
            remedy="Nothing.",
        )


def _slot_limits(server: ServerFacts) -> Iterator[Remark]:
    keep = server.settings.get("max_slot_wal_keep_size", "-1")
    if keep.lstrip("-").isdigit() and int(keep) >= 0:
        yield _warning(
            "slot_wal_limited",
            f"max_slot_wal_keep_size is {size(int(keep) * 1024 * 1024)}: when the source writes more WAL than that"
            " while we are behind or down, the slot is lost and every table must be copied again (B1).",
            "Make it larger than the WAL of your longest outage plus the initial copy, and alert on safe_wal_size.",
        )
    idle = server.settings.get("idle_replication_slot_timeout", "0")
    if idle.isdigit() and int(idle) > 0:
        yield _warning(
            "slot_idle_timeout",
            f"idle_replication_slot_timeout is {idle} s: a slot that nobody reads for that long is invalidated, so"
            " crossfade must never be down that long (B2).",
            "As a superuser, then reload the configuration:",
            sql="ALTER SYSTEM SET idle_replication_slot_timeout = 0;",
        )
    timeout = server.settings.get("wal_sender_timeout", "60000")
    if timeout.isdigit() and 0 < int(timeout) < 1000:
        yield _warning(
            "wal_sender_timeout",
            f"wal_sender_timeout is {timeout} ms: a short pause of the network or of ours cuts the stream (A10).",
            "As a superuser, then reload the configuration:",
            sql="ALTER SYSTEM SET wal_sender_timeout = '60s';",
        )


def _standby_slots(server: ServerFacts, slots: tuple[Slot, ...]) -> Iterator[Remark]:
    named = [name.strip().strip('"') for name in server.settings.get("synchronized_standby_slots", "").split(",")]
    named = [name for name in named if name]
    alive = {slot.name for slot in slots if slot.active_pid is not None}
    dead = [name for name in named if name not in alive]
    if dead:
        yield _warning(
            "standby_slots_inactive",
            f"synchronized_standby_slots names {', '.join(dead)}, which no standby is reading: slots created with"
            " FAILOVER stall behind it without an error (B9).",
            "Bring the standby back, or take its slot out of synchronized_standby_slots.",
        )


def _error(name: str, sentence: str, remedy: str, *, sql: str = "", kind: Kind = Kind.READINESS) -> Remark:
    statements = (sql,) if sql else ()
    return remark(Side.SOURCE, Severity.ERROR, name, "source", sentence, remedy=remedy, sql=statements, kind=kind)


def _warning(name: str, sentence: str, remedy: str, *, sql: str = "") -> Remark:
    statements = (sql,) if sql else ()
    return remark(Side.SOURCE, Severity.WARNING, name, "source", sentence, remedy=remedy, sql=statements)


def _target(
    severity: Severity,
    name: str,
    sentence: str,
    remedy: str,
    *,
    sql: tuple[str, ...] = (),
    kind: Kind = Kind.READINESS,
) -> Remark:
    return remark(Side.TARGET, severity, name, "target", sentence, remedy=remedy, sql=sql, kind=kind)
