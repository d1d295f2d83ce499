"""Who leads a workflow: a session advisory lock in the target, held on the connection that writes progress.

PostgreSQL is the only coordinator: the lock dies with its session, and a leader that lost its session can no longer
write. Refuses to know what the leader does. The invariant: whoever holds the lock holds it on the very connection
whose transactions move `crossfade.progress`.

PostgreSQL: explicit-locking, "Advisory Locks".
"""

from __future__ import annotations

import hashlib

from crossfade import failpoints
from crossfade.session.connect import Connection


def lock_key(workflow: str) -> int:
    """The advisory lock's key: the first eight bytes of a SHA-256, as a signed 64-bit number."""
    digest = hashlib.sha256(f"crossfade:{workflow}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


async def try_lead(connection: Connection, workflow: str) -> bool:
    """Take the lock without waiting; True when we hold it now."""
    if failpoints.is_on("no_leader_lock"):
        return True
    cursor = await connection.execute("SELECT pg_try_advisory_lock(%s::bigint)", (lock_key(workflow),))
    row = await cursor.fetchone()
    return bool(row and row[0])


async def is_led(connection: Connection, workflow: str) -> bool:
    """Whether some session of this database holds the lock."""
    key = lock_key(workflow) & 0xFFFF_FFFF_FFFF_FFFF
    cursor = await connection.execute(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
        " AND classid = %s::bigint::oid AND objid = %s::bigint::oid"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
        (key >> 32, key & 0xFFFF_FFFF),
    )
    row = await cursor.fetchone()
    return bool(row and row[0])
