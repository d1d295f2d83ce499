"""The mappings a workflow has run with, as they were written: the last one is the one in progress.

A position means nothing without the mapping that brought the rows there. The hash beside the position says whether it
is still the same; the text kept here says what it was, so that a change can be judged. Refuses to judge. The
invariant: the last text is one whose rows are those of the hash in `progress`.
"""

from __future__ import annotations

from crossfade.faults import Refused
from crossfade.session.connect import Connection


async def current(connection: Connection, workflow: str) -> str | None:
    """The text in progress; None for a workflow that began before texts were kept."""
    cursor = await connection.execute("SELECT to_regclass('crossfade.mappings') IS NOT NULL")
    row = await cursor.fetchone()
    if row is None or not row[0]:
        return None
    cursor = await connection.execute(
        "SELECT text FROM crossfade.mappings WHERE workflow = %s ORDER BY number DESC LIMIT 1", (workflow,)
    )
    row = await cursor.fetchone()
    return None if row is None else str(row[0])


async def record(connection: Connection, workflow: str, *, text: str, file: str, mapping_hash: str, why: str) -> None:
    """Keep a text after the others, unless it is the last one already. `why` is for people who read the table."""
    await connection.execute(
        "INSERT INTO crossfade.mappings (workflow, number, mapping_hash, file, text, why)"
        " SELECT %(workflow)s, coalesce(max(number), 0) + 1, %(mapping_hash)s, %(file)s, %(text)s, %(why)s"
        " FROM crossfade.mappings WHERE workflow = %(workflow)s"
        " HAVING (array_agg(text ORDER BY number DESC))[1] IS DISTINCT FROM %(text)s",
        {"workflow": workflow, "mapping_hash": mapping_hash, "file": file, "text": text, "why": why},
    )


async def accept(
    connection: Connection, workflow: str, *, text: str, file: str, old_hash: str, new_hash: str, why: str
) -> None:
    """Go on with another mapping: the hash beside the position and the text, in one transaction.

    Raises Refused when the hash is not `old_hash` any more.
    """
    async with connection.transaction():
        cursor = await connection.execute(
            "UPDATE crossfade.progress SET mapping_hash = %s, updated_at = now()"
            " WHERE workflow = %s AND mapping_hash = %s",
            (new_hash, workflow, old_hash),
        )
        if cursor.rowcount != 1:
            raise Refused(
                "The mapping in progress was changed by somebody else meanwhile.",
                where=f"target crossfade.progress, workflow {workflow}",
                means="Nothing was changed.",
                do="Look for a second daemon with `crossfade status`.",
            )
        await record(connection, workflow, text=text, file=file, mapping_hash=new_hash, why=why)
