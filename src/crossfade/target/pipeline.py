"""Many prepared statements, one round trip: how rows are written without waiting for each.

Parameters are the wire's own bytes, never Python values; each statement is prepared once per connection. Refuses to
know what a statement means. The invariant: results come back in order, one per statement, and after the first error
nothing that followed it was executed.

PostgreSQL: libpq-pipeline-mode, libpq-copy. psycopg: `generators.send`, `fetch_many`, `copy_to`, `copy_end`, driven
by `AsyncConnection.wait`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple, NoReturn

import psycopg
from psycopg import generators, pq
from psycopg.abc import PQGen
from psycopg.waiting import Wait

from crossfade.faults import Transient
from crossfade.session.connect import Connection

# Prepared statements cost the server memory; thousands of TOAST masks over hundreds of tables must not pile up.
_KEEP = 1000

Parameters = Sequence[bytes | None]


class Statement(NamedTuple):
    """One statement to run; `is_binary` says that all its parameters are in binary form, `answers_binary` that what it
    returns is to be."""

    text: bytes
    parameters: Parameters = ()
    is_binary: bool = False
    answers_binary: bool = False


COMMIT: Final = Statement(b"COMMIT")


class StatementFailed(Exception):
    """The statement at `index` was refused; `result` holds the server's words, which must not be shown (promise 6)."""

    def __init__(self, index: int, result: pq.abc.PGresult) -> None:
        super().__init__(f"statement {index} was refused")
        self.index = index
        self.result = result

    @property
    def sqlstate(self) -> str:
        """The server's code, '' when it gave none."""
        return (self.result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode("ascii", "replace")


class Pipeline:
    """Runs batches of statements on one connection, which the caller owns meanwhile."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._prepared: dict[bytes, bytes] = {}
        self._number = 0

    async def run(self, statements: Sequence[tuple[bytes, Parameters] | Statement]) -> list[int]:
        """Execute in order; returns each statement's row count. Raises StatementFailed, or Transient when cut off."""
        return [result.command_tuples or 0 for result in await self.results(statements)]

    async def results(self, statements: Sequence[tuple[bytes, Parameters] | Statement]) -> list[pq.abc.PGresult]:
        """The same, with what each statement returned."""
        if len(self._prepared) > _KEEP:
            await self._connection.execute("DEALLOCATE ALL")
            self._prepared.clear()
        pgconn = self._connection.pgconn
        commands: list[Callable[[], None]] = []
        # Which results belong to whom: a statement's index, or the text of what is only being prepared.
        expected: list[int | bytes] = []
        new: dict[bytes, bytes] = {}
        for index, statement in enumerate(statements):
            text, parameters = statement[0], statement[1]
            name = self._prepared.get(text) or new.get(text)
            if name is None:
                self._number += 1
                name = new[text] = b"cf%d" % self._number
                commands.append(partial(pgconn.send_prepare, name, text))
                expected.append(text)
            if isinstance(statement, Statement) and statement.is_binary:
                formats, answer = [1] * len(parameters), int(statement.answers_binary)
                commands.append(partial(pgconn.send_query_prepared, name, parameters, formats, answer))
            else:
                commands.append(partial(pgconn.send_query_prepared, name, parameters))
            expected.append(index)
        commands.append(pgconn.pipeline_sync)
        try:
            pgconn.enter_pipeline_mode()
            results = await self._connection.wait(_exchange(pgconn, commands, len(expected)))
            pgconn.exit_pipeline_mode()
        except psycopg.OperationalError:
            _cut_off()
        return self._read(expected, results, new)

    def _read(
        self, expected: list[int | bytes], results: list[list[pq.abc.PGresult]], new: dict[bytes, bytes]
    ) -> list[pq.abc.PGresult]:
        answered: list[pq.abc.PGresult] = []
        for what, answers in zip(expected, results, strict=False):
            result = answers[0]
            if result.status == pq.ExecStatus.FATAL_ERROR:
                raise StatementFailed(len(answered), result)
            if isinstance(what, bytes):
                self._prepared[what] = new[what]
            else:
                answered.append(result)
        return answered

    async def copy(self, text: bytes, chunks: Iterable[bytes]) -> int:
        """COPY … FROM STDIN; returns the row count. Each chunk is made when the one before has been handed over, so
        that server and daemon work at the same time. Should making one raise, the server is told to give up.

        Raises StatementFailed (index 0), or Transient when cut off.
        """
        pgconn = self._connection.pgconn
        wait = self._connection.wait
        is_whole = False
        try:
            pgconn.send_query(text)
            begun = (await wait(generators.execute(pgconn)))[0]
            if begun.status != pq.ExecStatus.COPY_IN:
                raise StatementFailed(0, begun)
            try:
                for chunk in chunks:
                    await wait(generators.copy_to(pgconn, chunk, flush=True))
                is_whole = True
            finally:
                ended = await wait(_end_copy(pgconn, is_whole=is_whole))
        except psycopg.OperationalError:
            _cut_off()
        if ended.status != pq.ExecStatus.COMMAND_OK:
            raise StatementFailed(0, ended)
        return ended.command_tuples or 0


def _exchange(
    pgconn: pq.abc.PGconn, commands: list[Callable[[], None]], expected: int
) -> PQGen[list[list[pq.abc.PGresult]]]:
    """Send all and fetch as many answers, then that of the sync: one wait of the event loop's for the lot."""
    for command in commands:  # into libpq's buffer, which it begins to send by itself when there is much
        command()
    # While the rest of a big value waits for the server, what the server says already is taken in.
    yield from generators.send(pgconn)
    results: list[list[pq.abc.PGresult]] = []
    while len(results) <= expected:
        results.append((yield from generators.fetch_many(pgconn)))
    return results


def _end_copy(pgconn: pq.abc.PGconn, *, is_whole: bool) -> PQGen[pq.abc.PGresult]:
    """Say that the data is complete, or that it never will be; returns the server's answer, an error included."""
    while pgconn.put_copy_end(None if is_whole else b"given up") == 0:
        yield Wait.W
    yield from generators.send(pgconn)
    answers: list[pq.abc.PGresult] = yield from generators.fetch_many(pgconn)
    return answers[-1]


def _cut_off() -> NoReturn:
    raise Transient(
        "The connection was lost.", where="target", means="Nothing of the open transaction was applied."
    ) from None
