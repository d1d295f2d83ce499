"""One consistent view of the source for many readers: the exported snapshot, held open.

The walsender that exported it can be ended by idle timeouts and forgets it at its next command (G1), so the first
reader imports it, exports it again from an ordinary transaction whose timeouts are pinned, and holds that open until
every table is done. Refuses to know what is read. The invariant: as long as `is_alive`, every transaction that imports
`name` sees exactly what was committed before `consistent_point`.

PostgreSQL: functions-admin ("Snapshot Synchronization Functions"), sql-set-transaction.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

import psycopg
from psycopg import sql

from crossfade import failpoints
from crossfade.events import Listener
from crossfade.faults import Transient
from crossfade.lsn import Lsn
from crossfade.session.connect import Connection, connect, server_fault
from crossfade.source import slot

READ_ONLY: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class SnapshotGone(Transient):
    """The holder died; tables not finished need a new snapshot."""


class Snapshot:
    """`name` for importers, `consistent_point` for the stream: changes committed before it are in the snapshot."""

    def __init__(self, holder: Connection, name: str, consistent_point: Lsn) -> None:
        self._holder = holder
        self.name = name
        self.consistent_point = consistent_point

    @classmethod
    async def hold(cls, dsn: str, exported: slot.CreatedSlot) -> Snapshot:
        """Import what the slot's creation exported and export it again; then the creating connection may go on."""
        holder = await connect(dsn, purpose="snapshot", endpoint="source")
        try:
            await enter(holder, exported.snapshot)
            cursor = await holder.execute("SELECT pg_export_snapshot()")
            row = await cursor.fetchone()
        except psycopg.Error as error:
            await holder.close()
            raise server_fault(error, where="source, holding the snapshot") from None
        assert row is not None
        return cls(holder, str(row[0]), exported.consistent_point)

    @classmethod
    async def take(cls, dsn: str, slot_name: str, *, ends: Callable[[], bool], listener: Listener) -> Snapshot | None:
        """A new snapshot with its exact position, by a temporary slot that is dropped with its connection.

        None when told to stop while the slot waits for running transactions.
        """
        looker = await connect(dsn, purpose="snapshot", endpoint="source")
        try:
            connection = await connect(dsn, purpose="snapshot slot", endpoint="source", replication=True)
            try:
                created = await slot.create_watched(
                    connection,
                    _temporary(slot_name),
                    temporary=True,
                    looker=looker,
                    ends=ends,
                    listener=listener,
                )
                if created is None:
                    return None
                failpoints.reached("after_temporary_slot")
                return await cls.hold(dsn, created)
            finally:
                await connection.close()
        finally:
            await looker.close()

    async def check(self) -> None:
        """Raise SnapshotGone when the holder is not there any more."""
        try:
            await self._holder.execute("SELECT 1")
        except psycopg.Error:
            raise SnapshotGone(
                "The session that holds the copy's snapshot has ended.",
                where="source",
                means="Finished tables stay; the others are copied again from a new snapshot.",
            ) from None

    async def close(self) -> None:
        """Let go of it."""
        await self._holder.close()


def _temporary(slot_name: str) -> str:
    """A name of its own each time: a session of before may keep its temporary slot until the server notices that the
    line is dead, and other workflows make theirs on the same source."""
    return f"{slot_name[:46]}_snapshot_{secrets.token_hex(3)}"


async def enter(connection: Connection, name: str) -> None:
    """Open a read-only transaction that sees the snapshot. Raises SnapshotGone when it is no more."""
    await connection.execute(READ_ONLY)
    try:
        await connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(name)))
    except (psycopg.errors.InvalidParameterValue, psycopg.errors.UndefinedObject):
        raise SnapshotGone(
            "The copy's snapshot is gone.",
            where="source",
            means="Finished tables stay; the others are copied again from a new snapshot.",
        ) from None
