"""`crossfade wait`: block until a goal is reached, for scripts.

Needs no daemon on this host: it asks the databases. "Caught up" means: what was committed on the source when this
was called is durable on the target. The mark is the position of a small logical message committed now, since the
server's own notion of "now" misses asynchronous commits. Refuses to know how the daemon gets there. The invariant:
0 is returned only for what the target has durably recorded.

PostgreSQL: functions-admin, pg_logical_emit_message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import orjson
import psycopg

from crossfade.cli import exits
from crossfade.faults import Misconfigured, Transient, Unreachable
from crossfade.lsn import Lsn
from crossfade.session.connect import TARGET, Connection, connect, server_fault
from crossfade.settings import Settings, load_settings
from crossfade.state import control
from crossfade.state.schema import exists

_TICK: Final = 0.2  # seconds between two looks
_ASK_EVERY: Final = 5  # looks between two requests to persist an idle position

# Asks the target: reached, and one sentence of where it stands.
Look = Callable[[Connection], Awaitable[tuple[bool, str]]]


def wait(config: Path, *, goal: str, timeout: float, json_output: bool) -> int:
    """0 when the goal is reached, 3 after `timeout` seconds. Raises Unreachable when a database does not answer."""
    if goal == "verified":
        raise Misconfigured(
            "`wait --for verified` is not there yet.",
            means="Nothing was waited for.",
            do="Use --for copied or --for caught-up.",
        )
    return asyncio.run(_wait(load_settings(config), goal=goal, timeout=timeout, json_output=json_output))


async def _wait(settings: Settings, *, goal: str, timeout: float, json_output: bool) -> int:
    clock = asyncio.get_running_loop()
    started = clock.time()
    mark: Lsn | None = None
    if goal == "caught-up":
        mark = await _mark(settings)
    look = _copied(settings.name) if mark is None else _caught_up(settings.name, mark)
    reached, standing = await _until(settings, look, deadline=started + timeout)
    if json_output:
        answer = {
            "schema_version": 1,
            "name": settings.name,
            "goal": goal,
            "reached": reached,
            "mark": None if mark is None else str(mark),
            "seconds": round(clock.time() - started, 3),
            "standing": standing,
            "next_steps": [] if reached else ["Look at `crossfade status`, then wait again with a longer --timeout."],
        }
        exits.say(orjson.dumps(answer).decode())
    elif reached:
        exits.say(f"{goal}: {standing}")
    if reached:
        return exits.DONE
    exits.tell(f"crossfade: not {goal} within {timeout:g} s: {standing} `crossfade status` tells more.")
    return exits.NO


async def _mark(settings: Settings) -> Lsn:
    """Commit a mark on the source; its position."""
    source = await connect(settings.source.dsn.get_secret_value(), purpose="wait", endpoint="source", settings=TARGET)
    try:
        cursor = await source.execute("SELECT pg_logical_emit_message(true, 'crossfade', '')::text")
        row = await cursor.fetchone()
    except psycopg.Error as error:
        raise server_fault(error, where="source, writing a mark") from None
    finally:
        await source.close()
    if row is None:
        raise Unreachable("The server gave no position for the mark.", where="source")
    return Lsn.parse(str(row[0]))


async def _until(settings: Settings, look: Look, *, deadline: float) -> tuple[bool, str]:
    """Look until it is reached or the deadline passed. A target that restarts meanwhile is waited for."""
    clock = asyncio.get_running_loop()
    dsn = settings.target.dsn.get_secret_value()
    connection: Connection | None = await connect(dsn, purpose="wait", endpoint="target", settings=TARGET)
    standing = "nothing was seen."
    looks = 0
    try:
        while True:
            try:
                if connection is None:
                    connection = await connect(dsn, purpose="wait", endpoint="target", settings=TARGET)
                if not await exists(connection):
                    reached, standing = False, "nothing was started yet (the target has no schema crossfade)."
                else:
                    reached, standing = await look(connection)
                    if not reached and looks % _ASK_EVERY == 0:
                        await control.ask_to_persist(connection)
                if reached:
                    return True, standing
            except psycopg.Error as error:
                fault = server_fault(error, where="target, waiting")
                if not isinstance(fault, Transient):
                    raise fault from None
                await _drop(connection)
                standing, connection = str(fault), None
            except (Transient, Unreachable) as fault:
                await _drop(connection)
                standing, connection = str(fault), None
            if clock.time() >= deadline:
                return False, standing
            looks += 1
            await asyncio.sleep(min(_TICK, max(0.0, deadline - clock.time())))
    finally:
        await _drop(connection)


async def _drop(connection: Connection | None) -> None:
    if connection is not None:
        await connection.close()


def _caught_up(workflow: str, mark: Lsn) -> Look:
    async def look(connection: Connection) -> tuple[bool, str]:
        cursor = await connection.execute(
            "SELECT p.end_lsn::text, w.phase, w.paused, w.error FROM crossfade.progress p"
            " LEFT JOIN crossfade.workflows w USING (workflow) WHERE workflow = %s",
            (workflow,),
        )
        row = await cursor.fetchone()
        if row is None or row[0] is None:
            return False, f"the target has no position yet, {mark} is asked for."
        durable = Lsn.parse(str(row[0]))
        return durable >= mark, _standing(f"durable {durable}, asked for {mark}", row[1], row[2], row[3])

    return look


def _copied(workflow: str) -> Look:
    async def look(connection: Connection) -> tuple[bool, str]:
        cursor = await connection.execute(
            "SELECT (SELECT count(*) FROM crossfade.copy_tables c WHERE c.workflow = asked.name),"
            " (SELECT count(*) FROM crossfade.copy_tables c WHERE c.workflow = asked.name AND c.state = 'done'),"
            " w.phase, w.paused, w.error"
            " FROM (VALUES (%s::text)) AS asked (name) LEFT JOIN crossfade.workflows w ON w.workflow = asked.name",
            (workflow,),
        )
        row = await cursor.fetchone()
        tables, done = (int(str(row[0])), int(str(row[1]))) if row is not None else (0, 0)
        rest = row[2:] if row is not None else (None, None, None)
        return 0 < tables == done, _standing(f"{done} of {tables} tables copied", *rest)

    return look


def _standing(where: str, phase: object, paused: object, error: object) -> str:
    """One sentence, with what keeps it from going on."""
    parts = [where]
    if phase is not None:
        parts.append(f"phase {phase}")
    if paused is not None:
        parts.append(f"paused ({paused})")
    text = ", ".join(parts)
    return f"{text}; last error: {error}" if error is not None else f"{text}."
