"""`crossfade pause` and `crossfade resume`: a durable request in the target, which wakes the leader wherever it runs.

Refuses to know what the daemon does about it. The invariant: once this says it is recorded, it is, and will be taken
also by a daemon that starts later.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
from pathlib import Path
from typing import Final

import psycopg

from crossfade.cli import exits
from crossfade.faults import Refused
from crossfade.session.connect import TARGET, connect, server_fault
from crossfade.settings import Settings, load_settings
from crossfade.state import control as state
from crossfade.state.schema import exists

_TAKEN_WITHIN: Final = 5.0  # seconds a person waits for the daemon's word
_TICK: Final = 0.1


def control(config: Path, command: str) -> int:
    """Ask for `command`; 0 once it is recorded, with what became of it on stdout."""
    return asyncio.run(_control(load_settings(config), command))


async def _control(settings: Settings, command: str) -> int:
    connection = await connect(
        settings.target.dsn.get_secret_value(), purpose=command, endpoint="target", settings=TARGET
    )
    try:
        if not await exists(connection):
            raise Refused(
                "Nothing was started yet: the target has no schema crossfade.",
                where=f"workflow {settings.name}",
                do="Start it with `crossfade run`.",
            )
        request = await state.request(connection, settings.name, command, _who())
        outcome = await state.outcome(connection, request)
        clock = asyncio.get_running_loop()
        deadline = clock.time() + _TAKEN_WITHIN
        while outcome is None and clock.time() < deadline:
            await asyncio.sleep(_TICK)
            outcome = await state.outcome(connection, request)
    except psycopg.Error as error:
        raise server_fault(error, where=f"target, asking for {command}") from None
    finally:
        await connection.close()
    if outcome is None:
        exits.say(f"{command}: recorded; no daemon has taken it yet. One that runs, or starts later, will.")
    else:
        exits.say(f"{command}: {outcome}")
    return exits.DONE


def _who() -> str:
    """user@host, for the audit."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"
