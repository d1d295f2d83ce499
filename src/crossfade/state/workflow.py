"""The row of `crossfade.workflows` that people and `status` read when the daemon is not there to ask.

Written on a connection of its own, so that it never waits for a transaction that is being applied. Refuses to know
positions (`target/progress`) or how a phase is reached. The invariant: what it says is what the daemon last knew.
"""

from __future__ import annotations

import os
import socket

from crossfade.events import PauseReason, Phase
from crossfade.session.connect import Connection


async def announce(connection: Connection, workflow: str) -> PauseReason | None:
    """Say that we lead now; returns the pause that was in force when the last leader left."""
    cursor = await connection.execute(
        "INSERT INTO crossfade.workflows (workflow, phase, daemon) VALUES (%s, 'setup', %s)"
        " ON CONFLICT (workflow) DO UPDATE SET daemon = excluded.daemon, seen_at = now()"
        " RETURNING paused",
        (workflow, f"{socket.gethostname()} pid {os.getpid()}"),
    )
    row = await cursor.fetchone()
    return PauseReason(row[0]) if row and row[0] is not None else None


async def record(
    connection: Connection, workflow: str, *, phase: Phase, paused: PauseReason | None, error: str | None
) -> None:
    """Write what holds now; `phase_since` moves only when the phase does."""
    await connection.execute(
        "UPDATE crossfade.workflows SET phase_since = CASE WHEN phase = %(phase)s THEN phase_since ELSE now() END,"
        " phase = %(phase)s, paused = %(paused)s, error = %(error)s, seen_at = now() WHERE workflow = %(workflow)s",
        {
            "workflow": workflow,
            "phase": phase.value,
            "paused": paused.value if paused else None,
            "error": error,
        },
    )
