"""Whether there is room for us: slots, walsenders and connections (B17).

Counts what we still need against what is free, so that nothing fails half way. Refuses to know what the room is used
for. The invariant: what we hold already, from an earlier start, is not counted as needed again.

PostgreSQL: runtime-config-replication ("max_replication_slots"), runtime-config-connection ("max_connections").
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from crossfade.findings import Severity
from crossfade.preflight.facts import Role, SourceFacts
from crossfade.preflight.remarks import Remark, Side, quoted, remark
from crossfade.session.introspect import ServerFacts

# Beside the copy's workers: who holds the snapshot, who watches, who samples, and one for a person's command.
BESIDE_WORKERS: Final = 4
# One more slot, and the walsender for it, when an interrupted copy is resumed from a new snapshot.
FOR_RESUME: Final = 1


def senders_free(facts: SourceFacts) -> int:
    """Walsenders the source could still start."""
    return _number(facts.server, "max_wal_senders") - facts.senders_used


def source(facts: SourceFacts, *, slot: str, workers: int, is_led: bool) -> Iterator[Remark]:
    """Slots, walsenders and connections on the source. `is_led`: a daemon of ours runs and has its own already."""
    have_slot = any(each.name == slot for each in facts.slots)
    needed = FOR_RESUME if have_slot else FOR_RESUME + 1
    largest, used = _number(facts.server, "max_replication_slots"), len(facts.slots)
    if largest - used < needed:
        yield _restart("max_replication_slots", largest, used, needed, used + needed)
    # A daemon that leads has its walsender already, unless it has just lost it.
    needed = FOR_RESUME + 1 - (min(facts.role.own_senders, 1) if is_led else 0)
    largest, used = _number(facts.server, "max_wal_senders"), facts.senders_used
    if largest - used < needed:
        yield _restart("max_wal_senders", largest, used, needed, used + needed)
    yield from connections(Side.SOURCE, facts.server, facts.role, workers=workers, is_led=is_led)


def connections(side: Side, server: ServerFacts, role: Role, *, workers: int, is_led: bool) -> Iterator[Remark]:
    """Ordinary connections, by the server's limit, the database's and the role's."""
    if role.is_superuser:
        return
    needed = workers + BESIDE_WORKERS
    still = max(needed - role.own_sessions, 0) if is_led else needed
    # The connection we look through is one of those counted, and will be gone.
    reserved = _number(server, "superuser_reserved_connections") + _number(server, "reserved_connections")
    largest = _number(server, "max_connections") - reserved
    if largest - role.all_connections + 1 < still:
        yield remark(
            side,
            Severity.ERROR,
            "max_connections",
            side.value,
            f"The server has room for {max(largest - role.all_connections + 1, 0)} more connections; crossfade needs"
            f" {needed} ({workers} copy workers and {BESIDE_WORKERS} others).",
            remedy="Lower copy.workers, close connections of others, or raise max_connections (restart).",
        )
    for what, limit, used, change in (
        ("role", role.connection_limit, role.role_connections, f"ALTER ROLE {quoted(role.name)}"),
        (
            "database",
            role.database_connection_limit,
            role.database_connections,
            f"ALTER DATABASE {quoted(server.database)}",
        ),
    ):
        if limit >= 0 and limit - used + 1 < still:
            yield remark(
                side,
                Severity.ERROR,
                "connection_limit",
                f"{side.value} {what} {role.name if what == 'role' else server.database}",
                f"The {what}'s CONNECTION LIMIT is {limit}, of which {used} are in use; crossfade needs {needed}.",
                sql=[f"{change} CONNECTION LIMIT {used + needed};"],
            )


def _restart(name: str, largest: int, used: int, needed: int, enough: int) -> Remark:
    return remark(
        Side.SOURCE,
        Severity.ERROR,
        name,
        "source",
        f"{name} is {largest}, of which {used} are in use; crossfade needs {needed} more (one of them for resuming an"
        " interrupted copy).",
        remedy="As a superuser, then restart the server:",
        sql=[f"ALTER SYSTEM SET {name} = {max(enough, 10)};"],
    )


def _number(server: ServerFacts, name: str) -> int:
    text = server.settings.get(name, "0")
    return int(text) if text.lstrip("-").isdigit() else 0
