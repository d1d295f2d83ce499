"""Who queues behind the copy's locks: asked twice a second, so that an ALTER TABLE never waits for a whole table.

Refuses to decide what follows. The invariant: a session is told of only when one of ours holds what it waits for.

PostgreSQL: functions-info (pg_blocking_pids), view-pg-locks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from crossfade.session.connect import Connection

_QUEUERS: Final = """
SELECT holder, l.pid, coalesce(a.usename, '?')
FROM pg_locks l
CROSS JOIN LATERAL unnest(pg_blocking_pids(l.pid)) AS holder
LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE NOT l.granted AND l.locktype = 'relation' AND holder = ANY (%s::int[])
"""


async def behind(watcher: Connection, pids: Iterable[int]) -> list[tuple[int, str]]:
    """Each session that waits, as (our pid it waits for, "session 123 (role)")."""
    cursor = await watcher.execute(_QUEUERS, (list(pids),))
    return [(int(str(holder)), f"session {pid} ({user})") for holder, pid, user in await cursor.fetchall()]
