"""What following costs while nothing happens: how often the daemon asks, and how it hears without asking."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from crossfade.session.connect import Connection, connect
from crossfade.session.listen import until_spoken
from tests.integration.following import follow
from tests.integration.sides import ITEMS
from tests.servers.daemon import Workspace
from tests.servers.databases import Databases, Side

pytestmark = [pytest.mark.parametrize("replica_role", [True], ids=["replica"]), pytest.mark.one_version]

NEVER = 600.0  # seconds; a wait that ended by itself is a failure
SECONDS = 6.0


def asked(side: Side, since: int) -> Counter[str]:
    """Statements in the server's log from that byte on, by who sent them."""
    log = side.server.log.read_bytes()[since:].decode("utf-8", "replace")
    return Counter(re.findall(rf"@{side.dbname} (crossfade [a-z ]+?) LOG: +(?:statement|execute)", log))


def test_an_idle_daemon_asks_each_side_once_a_second(workspace: Workspace, databases: Databases) -> None:
    """And on the connections it has: a look must not cost a session."""
    sides = (databases.source, databases.target)
    for side in sides:
        side.execute(f"ALTER DATABASE {side.dbname} SET log_statement = 'all'")
    followed = follow(workspace, source=ITEMS)
    followed.write("INSERT INTO items VALUES (1, 'the last')")
    began = [side.server.log.stat().st_size for side in sides]
    time.sleep(SECONDS)  # nothing happens: there is nothing else to wait for
    for side, since in zip(sides, began, strict=True):
        counts = asked(side, since)
        rare = counts.pop("crossfade publication guard", 0) + counts.pop("crossfade apply", 0)
        assert 0 < sum(counts.values()) <= 1.5 * SECONDS, counts
        assert rare <= 8, rare  # every ten seconds, a handful
        assert len(counts) == 1, counts
    followed.stop()


def listening(databases: Databases, talk: Callable[[Connection, Connection], Awaitable[None]]) -> None:
    """Two sessions on the target, one of which listens, on the loop the daemon has."""

    async def both() -> None:
        async with (
            await connect(databases.target_dsn, purpose="control", endpoint="target") as ear,
            await connect(databases.target_dsn, purpose="test", endpoint="target") as mouth,
        ):
            await ear.execute("LISTEN crossfade_control")
            await talk(ear, mouth)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(both(), 30))


def test_a_notification_ends_the_wait_and_comes_with_the_next_answer(databases: Databases) -> None:
    async def talk(ear: Connection, mouth: Connection) -> None:
        heard: list[str] = []
        ear.add_notify_handler(lambda notice: heard.append(notice.payload))
        for word in ("one", "two"):
            waiting = asyncio.create_task(until_spoken(ear, asyncio.Event(), NEVER))
            await asyncio.sleep(0)
            await mouth.execute("SELECT pg_notify('crossfade_control', %s)", (word,))
            await waiting
            await ear.execute("SELECT")
            assert heard.pop() == word

    listening(databases, talk)


def test_the_end_of_the_session_ends_the_wait(databases: Databases) -> None:
    async def talk(ear: Connection, mouth: Connection) -> None:
        waiting = asyncio.create_task(until_spoken(ear, asyncio.Event(), NEVER))
        await asyncio.sleep(0)
        await mouth.execute("SELECT pg_terminate_backend(%s)", (ear.pgconn.backend_pid,))
        await waiting

    listening(databases, talk)


def test_nothing_said_it_ends_when_it_is_over_or_in_time(databases: Databases) -> None:
    async def talk(ear: Connection, _: Connection) -> None:
        over = asyncio.Event()
        await until_spoken(ear, over, 0.01)
        asyncio.get_running_loop().call_soon(over.set)
        await until_spoken(ear, over, NEVER)

    listening(databases, talk)
