"""What operators ask of a running daemon, durably: rows of `crossfade.control` and a NOTIFY to wake it.

Commands go through the target database so that they are kept, audited and reach the leader wherever it runs. Refuses
to know what a command does. The invariant: a command is taken once, by whoever leads.

PostgreSQL: sql-notify.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from crossfade.session.connect import Connection

CHANNEL: Final = "crossfade_control"
PERSIST: Final = "persist"


@dataclass(frozen=True, slots=True)
class Command:
    id: int
    command: str
    requested_by: str


async def request(connection: Connection, workflow: str, command: str, by: str) -> int:
    """Leave a command for the leader; returns its id, by which `outcome` finds what became of it."""
    async with connection.transaction():
        cursor = await connection.execute(
            "INSERT INTO crossfade.control (workflow, command, requested_by) VALUES (%s, %s, %s) RETURNING id",
            (workflow, command, by),
        )
        row = await cursor.fetchone()
        await connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, workflow))
    assert row is not None
    return int(str(row[0]))


async def outcome(connection: Connection, command_id: int) -> str | None:
    """What the daemon answered; None while it has not taken the command."""
    cursor = await connection.execute("SELECT outcome FROM crossfade.control WHERE id = %s", (command_id,))
    row = await cursor.fetchone()
    return None if row is None or row[0] is None else str(row[0])


async def ask_to_persist(connection: Connection) -> None:
    """Ask the leader to write an idle position at once, so that somebody who waits need not wait ten seconds."""
    await connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, PERSIST))


async def pending(connection: Connection, workflow: str) -> list[Command]:
    """Commands nobody has taken, oldest first."""
    cursor = await connection.execute(
        "SELECT id, command, requested_by FROM crossfade.control WHERE workflow = %s AND taken_at IS NULL ORDER BY id",
        (workflow,),
    )
    return [Command(int(str(row[0])), str(row[1]), str(row[2])) for row in await cursor.fetchall()]


async def record(connection: Connection, workflow: str, command: str, outcome: str) -> None:
    """Note what the daemon did by itself, beside what people asked for."""
    await connection.execute(
        "INSERT INTO crossfade.control (workflow, command, requested_by, taken_at, outcome)"
        " VALUES (%s, %s, 'crossfade', now(), %s)",
        (workflow, command, outcome),
    )


async def recorded(connection: Connection, workflow: str, command: str) -> str | None:
    """What was noted last of it; None: nothing."""
    cursor = await connection.execute(
        "SELECT outcome FROM crossfade.control WHERE workflow = %s AND command = %s AND taken_at IS NOT NULL"
        " ORDER BY id DESC LIMIT 1",
        (workflow, command),
    )
    row = await cursor.fetchone()
    return None if row is None or row[0] is None else str(row[0])


async def taken(connection: Connection, command_id: int, answer: str) -> None:
    """Record what was done about a command."""
    await connection.execute(
        "UPDATE crossfade.control SET taken_at = now(), outcome = %s WHERE id = %s", (answer, command_id)
    )
