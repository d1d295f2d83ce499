"""Many prepared statements, one round trip: how the exact path writes without waiting for each row.

Parameters are the wire's own text, never Python values; each statement is prepared once per connection. Refuses to
know what a statement means. The invariant: results come back in order, one per statement, and after the first error
nothing that followed it was executed.

PostgreSQL: libpq-pipeline-mode. psycopg: `generators.pipeline_communicate`, driven by `AsyncConnection.wait`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import psycopg
from psycopg import generators, pq

from crossfade.faults import Transient
from crossfade.session.connect import Connection

# Prepared statements cost the server memory; thousands of TOAST masks over hundreds of tables must not pile up.
_KEEP = 1000

Parameters = Sequence[bytes | None]


class StatementFailed(Exception):
    """The statement at `index` was refused; `result` holds the server's words, which must not be shown (promise 6)."""

    def __init__(self, index: int, result: pq.abc.PGresult) -> None:
        super().__init__(f"statement {index} was refused")
        self.index = index
        self.result = result


class Pipeline:
    """Runs batches of statements on one connection, which the caller owns meanwhile."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._prepared: dict[bytes, bytes] = {}
        self._number = 0

    async def run(self, statements: Sequence[tuple[bytes, Parameters]]) -> list[int]:
        """Execute in order; returns each statement's row count. Raises StatementFailed, or Transient when cut off."""
        if len(self._prepared) > _KEEP:
            await self._connection.execute("DEALLOCATE ALL")
            self._prepared.clear()
        pgconn = self._connection.pgconn
        commands: deque[Callable[[], None]] = deque()
        # Which results belong to whom: a statement's index, or the text of what is only being prepared.
        expected: list[int | bytes] = []
        new: dict[bytes, bytes] = {}
        for index, (text, parameters) in enumerate(statements):
            name = self._prepared.get(text) or new.get(text)
            if name is None:
                self._number += 1
                name = new[text] = b"cf%d" % self._number
                commands.append(partial(pgconn.send_prepare, name, text))
                expected.append(text)
            commands.append(partial(pgconn.send_query_prepared, name, parameters))
            expected.append(index)
        commands.append(pgconn.pipeline_sync)
        try:
            pgconn.enter_pipeline_mode()
            results = await self._connection.wait(generators.pipeline_communicate(pgconn, commands))
            # It returns once all is queued: the rest of a big value may still wait in libpq.
            await self._connection.wait(generators.send(pgconn))
            # What has not been answered by then is fetched one by one, the sync last.
            while len(results) <= len(expected):
                results.append(await self._connection.wait(generators.fetch_many(pgconn)))
            pgconn.exit_pipeline_mode()
        except psycopg.OperationalError:
            raise Transient(
                "The connection was lost.", where="target", means="Nothing of the open transaction was applied."
            ) from None
        return self._read(expected, results, new)

    def _read(
        self, expected: list[int | bytes], results: list[list[pq.abc.PGresult]], new: dict[bytes, bytes]
    ) -> list[int]:
        counts: list[int] = []
        for what, answers in zip(expected, results, strict=False):
            result = answers[0]
            if result.status == pq.ExecStatus.FATAL_ERROR:
                raise StatementFailed(len(counts), result)
            if isinstance(what, bytes):
                self._prepared[what] = new[what]
            else:
                counts.append(result.command_tuples or 0)
        return counts
