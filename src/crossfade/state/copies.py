"""What `crossfade.copy_tables` says of each table, as the events of a copy: told at the start of an attempt.

So that status and metrics know the mapped tables, and what an earlier process copied, before anything happens to them.
Refuses to decide what is copied next (`copy/driver`). The invariant: read only.
"""

from __future__ import annotations

from crossfade.catalog import TableName
from crossfade.events import CopyState
from crossfade.lsn import NOWHERE, Lsn
from crossfade.session.connect import Connection


async def recorded(connection: Connection, workflow: str) -> tuple[CopyState, ...]:
    """One event per table of the workflow, `pending` or `done`, in the order of their source names."""
    cursor = await connection.execute(
        "SELECT source_schema, source_name, target_schema, target_name, state, copied_rows, copied_bytes,"
        " rows_estimated, from_lsn::text FROM crossfade.copy_tables WHERE workflow = %s"
        " ORDER BY source_schema, source_name, target_schema, target_name",
        (workflow,),
    )
    return tuple(
        CopyState(
            source=TableName(str(source_schema), str(source_name)),
            target=TableName(str(target_schema), str(target_name)),
            state=str(state),
            rows=int(str(rows)),
            bytes=int(str(copied)),
            rows_estimated=int(str(estimated)),
            from_lsn=Lsn.parse(str(from_lsn)) if from_lsn is not None else NOWHERE,
        )
        for (
            source_schema,
            source_name,
            target_schema,
            target_name,
            state,
            rows,
            copied,
            estimated,
            from_lsn,
        ) in await cursor.fetchall()
    )
