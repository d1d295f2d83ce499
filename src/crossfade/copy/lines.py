"""A worker's connections, kept from part to part as long as all goes well.

Refuses to know what travels on them. The invariant: after a fault both are closed, a COPY that still runs on the source
being cancelled first, so that its lock does not outlast us.
"""

from __future__ import annotations

import contextlib

import psycopg
from psycopg import pq

from crossfade.session.connect import TARGET, Connection, connect, server_fault
from crossfade.session.plain import is_plain


class Lines:
    """Opened when first asked for, and again when one was used up."""

    def __init__(self, source_dsn: str, target_dsn: str) -> None:
        self._source_dsn = source_dsn
        self._target_dsn = target_dsn
        self._source: Connection | None = None
        self._target: Connection | None = None
        self._asking: Connection | None = None
        self.source_is_plain = False
        self.target_is_plain = False

    async def open(self) -> tuple[Connection, Connection]:
        """Both, outside any transaction."""
        try:
            if self._source is None or self._source.closed:
                self._source = await connect(self._source_dsn, purpose="copy", endpoint="source")
                self.source_is_plain = await is_plain(self._source)
            if self._target is None or self._target.closed:
                self._target = await connect(self._target_dsn, purpose="copy", endpoint="target", settings=TARGET)
                self.target_is_plain = await is_plain(self._target)
        except psycopg.Error as error:
            raise server_fault(error, where="opening the copy's connections") from None
        return self._source, self._target

    async def asking(self) -> Connection:
        """Another one to the target, for questions while the first is in the middle of a COPY."""
        try:
            if self._asking is None or self._asking.closed:
                self._asking = await connect(
                    self._target_dsn, purpose="copy expressions", endpoint="target", settings=TARGET
                )
        except psycopg.Error as error:
            raise server_fault(error, where="opening the copy's connections") from None
        return self._asking

    async def give_up(self) -> None:
        """Close both, whatever they are in the middle of."""
        for connection in (self._target, self._asking):
            if connection is not None:
                await connection.close()
        if self._source is not None:
            await give_up(self._source)

    async def close(self) -> None:
        await self.give_up()


async def give_up(source: Connection) -> None:
    """Close a connection that may be in the middle of a COPY, and make the server notice at once, for its locks."""
    if not source.closed and source.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
        with contextlib.suppress(psycopg.Error):  # then it will notice at its next write
            await source.cancel_safe(timeout=5.0)
    await source.close()
