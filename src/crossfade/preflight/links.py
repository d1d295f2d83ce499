"""Whether we reach both servers, how safely, and whether it is really them we talk to.

Refuses to know what is stored there. The invariant: an unreachable side is one finding, and never hides the other
side's.

PostgreSQL: libpq-ssl ("Protection Provided in Different Modes"), auth-pg-hba-conf.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from crossfade.faults import Fault, Policy
from crossfade.findings import Kind, Severity
from crossfade.preflight.facts import Link, Replication, Role
from crossfade.preflight.remarks import Remark, Side, quoted, remark

_KINDS: Final = {
    Policy.UNREACHABLE: Kind.UNREACHABLE,
    Policy.RETRY: Kind.UNREACHABLE,
    Policy.CONFIGURATION: Kind.CONFIGURATION,
}


def unreachable(side: Side, fault: Fault, *, database: str, role: str) -> Remark:
    """No connection, or it was lost while we were looking. Names are what the connection string says."""
    if "unsupported startup parameter" in fault.what:
        return _pooler(side)
    if "CONNECT privilege" in fault.what:
        return remark(
            side,
            Severity.ERROR,
            "connect_missing",
            side.value,
            "Our role may not connect to the database.",
            remedy="Nothing else could be examined on this side. As the database's owner or a superuser:",
            sql=[f"GRANT CONNECT ON DATABASE {quoted(database)} TO {quoted(role)};"],
            kind=Kind.UNREACHABLE,
        )
    kind = _KINDS.get(fault.policy, Kind.READINESS)
    return remark(
        side,
        Severity.ERROR,
        "unreachable" if kind is Kind.UNREACHABLE else "not_examined",
        side.value,
        str(fault),
        remedy="Mend this, then check again: not everything could be examined on this side.",
        kind=kind,
    )


def links(side: Side, link: Link) -> Iterator[Remark]:
    """The way to a server that answered."""
    if link.is_pooled:
        yield _pooler(side)
    if not link.is_local and link.sslmode != "verify-full":
        seen = "encrypted, but the server was not verified" if link.is_encrypted else "not encrypted"
        yield remark(
            side,
            Severity.WARNING,
            "weak_tls",
            side.value,
            f"The connection to {link.host or 'the server'} is {seen} (sslmode={link.sslmode or 'prefer'}).",
            remedy=f"Set sslmode=verify-full (and sslrootcert) in {side.value}.dsn.",
            kind=Kind.CONFIGURATION,
        )


def _pooler(side: Side) -> Remark:
    return remark(
        side,
        Severity.ERROR,
        "connection_pooler",
        side.value,
        "Something between us and the server (PgBouncer or the like) hands out its own connections; session settings,"
        " snapshots, advisory locks and replication do not survive that (B18).",
        remedy=f"Let {side.value}.dsn name the PostgreSQL server itself.",
        kind=Kind.CONFIGURATION,
    )


def replication(found: Replication, role: Role, *, senders_free: int) -> Iterator[Remark]:
    """The second kind of connection the source must let us make; its own reasons come first, the fault last."""
    if not role.may_replicate:
        yield remark(
            Side.SOURCE,
            Severity.ERROR,
            "role_without_replication",
            f"source role {role.name}",
            "Our role may not stream changes: it lacks REPLICATION.",
            remedy="As a superuser (on Amazon RDS: GRANT rds_replication TO the role instead):",
            sql=[f"ALTER ROLE {quoted(role.name)} REPLICATION;"],
        )
    elif found.fault is not None and senders_free > 0:
        yield remark(
            Side.SOURCE,
            Severity.ERROR,
            "replication_refused",
            "source",
            f"A replication connection to the database is refused: {found.fault}",
            remedy="Add a pg_hba.conf line for our role that matches the database by its name (the keyword"
            " `replication` matches physical replication only), and reload.",
            kind=Kind.UNREACHABLE if found.fault.policy is Policy.UNREACHABLE else Kind.READINESS,
        )
