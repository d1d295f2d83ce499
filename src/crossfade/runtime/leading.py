"""Taking the lead: the lock, the wait as a standby, and the end of a former session of ours that still holds it.

Refuses to know what the leader does. The invariant: whoever returns True from `lead` holds the lock on `target`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from crossfade.events import LeaderChanged, Listener, Note
from crossfade.faults import Locked
from crossfade.runtime.stop import Stop
from crossfade.session.connect import Connection
from crossfade.state import leader

_STANDBY_EVERY: Final = 2.0


@dataclass(slots=True)
class Backend:
    """The session of ours that last led; a new attempt ends it, should it still hang on a dead line."""

    pid: int = 0
    started: datetime | None = None


async def lead(
    target: Connection, workflow: str, *, backend: Backend, no_wait: bool, stop: Stop, listener: Listener
) -> bool:
    """Take the leader lock, waiting as a standby; False when told to stop first. Raises Locked for `no_wait`."""
    await _end_former_session(target, backend)
    waiting = False
    while not await leader.try_lead(target, workflow):
        if no_wait:
            raise Locked(
                "Another daemon leads this workflow.",
                where=f"target, workflow {workflow}",
                means="Nothing was changed.",
                do="Without --no-wait, this one would wait as a standby.",
            )
        if not waiting:
            waiting = True
            listener(LeaderChanged(False))
            listener(Note("standby", "Another daemon leads; waiting as a standby.", "info"))
        await stop.sleep(_STANDBY_EVERY)
        if stop.is_requested():
            return False
    listener(LeaderChanged(True))
    cursor = await target.execute("SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()")
    row = await cursor.fetchone()
    if row is not None and isinstance(row[1], datetime):
        backend.pid, backend.started = int(str(row[0])), row[1]
    return True


async def _end_former_session(target: Connection, backend: Backend) -> None:
    """Our own session of before may hold the lock on a line that is dead without the server knowing (B4)."""
    if backend.started is not None:
        await target.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND backend_start = %s",
            (backend.pid, backend.started),
        )
