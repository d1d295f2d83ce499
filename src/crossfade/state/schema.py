"""The schema `crossfade` in the target: made, and upgraded in place.

Refuses to know what the tables are for. The invariant: a daemon never works on a schema whose version it does not know.
"""

from __future__ import annotations

from importlib import resources
from typing import Final

import psycopg

from crossfade.faults import Misconfigured, Refused
from crossfade.session.connect import Connection, server_fault

VERSION: Final = 5


def statements() -> tuple[str, ...]:
    """The SQL of the current version, one statement each; every one may be run twice."""
    text = resources.files("crossfade.state").joinpath("schema.sql").read_text("utf-8")
    return tuple(part.strip() for part in text.split("\n--;\n") if part.strip())


async def exists(connection: Connection) -> bool:
    """Whether our tables are there (a DBA, or an earlier run, made them)."""
    cursor = await connection.execute("SELECT to_regclass('crossfade.progress') IS NOT NULL")
    row = await cursor.fetchone()
    return bool(row and row[0])


async def ensure(connection: Connection) -> None:
    """Make what is missing, and upgrade what an older program made: every statement adds what is not there.

    Raises Misconfigured when we lack the right, Refused for a newer schema than ours.
    """
    found = await _version(connection)
    if found is not None and found > VERSION:
        raise Refused(
            f"The schema crossfade has version {found}; this program knows version {VERSION}.",
            where="target",
            means="Nothing was changed.",
            do="Run the program version that made it, or a newer one.",
        )
    if found == VERSION:
        return
    try:
        async with connection.transaction():
            # Two daemons that start together must not both create: the second waits here and finds it done.
            await connection.execute("SELECT pg_advisory_xact_lock(7241937001)")
            for statement in statements():
                await connection.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        raise Misconfigured(
            "Our role may not create the schema crossfade, or what is new in it.",
            where="target",
            means="Nothing was changed.",
            do="Let a DBA run deploy/sql/state.sql, or: GRANT CREATE ON DATABASE ... TO our role.",
        ) from None
    except psycopg.Error as error:
        raise server_fault(error, where="target schema crossfade") from None


async def _version(connection: Connection) -> int | None:
    """That of the tables which are there; None when there are none."""
    if not await exists(connection):
        return None
    cursor = await connection.execute("SELECT version FROM crossfade.version")
    row = await cursor.fetchone()
    return int(str(row[0])) if row else 0
