"""Waiting on an idle connection for whatever the server says by itself: a NOTIFY, or its end.

Refuses to read it: the answer to the next query brings it along, to the connection's notify handlers. The invariant:
while nothing is said nobody wakes up, where the driver's own wait for notifications would ten times a second.

PostgreSQL: libpq-notify.
"""

from __future__ import annotations

import asyncio

from crossfade.session.connect import Connection


async def until_spoken(connection: Connection, over: asyncio.Event, seconds: float) -> None:
    """Until the server says something, `over` is set, or so many seconds passed. The caller asks something then."""
    loop = asyncio.get_running_loop()
    descriptor = connection.pgconn.socket
    try:
        async with asyncio.timeout(seconds) as patience:

            def readable() -> None:
                loop.remove_reader(descriptor)
                patience.reschedule(loop.time())

            loop.add_reader(descriptor, readable)
            await over.wait()
    except TimeoutError:
        return
    finally:
        loop.remove_reader(descriptor)
