"""Reads the slot for rows that were touched, without moving it: what comes is looked at and let go.

Refuses to acknowledge anything: whoever streams from the slot later gets all of it again. The invariant: when it
returns, the server has let go of the slot.

PostgreSQL: protocol-replication ("START_REPLICATION").
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from crossfade.faults import Fault, Transient
from crossfade.lsn import Lsn
from crossfade.pgoutput.messages import Form
from crossfade.session.connect import connect
from crossfade.session.drain import Drain
from crossfade.source import slot
from crossfade.source.touched import Reading, Touched
from crossfade.walstream import Positions, standby_status

_BYTES: Final = 1024 * 1024
_ANSWER_EVERY: Final = 1.0
# Whether the line is dead or the server has a huge row or transaction to get past, nobody can tell: then it is not
# worth waiting for. Nor is a line that is lost again and again.
_SILENCE: Final = 120.0
_TRIES: Final = 3
# What a server says of a value that it cannot decode as text; the stream may come in binary and pass it.
_TOO_LARGE: Final = frozenset({"XX000", "54000"})


async def read(
    dsn: str,
    *,
    slot_name: str,
    publications: tuple[str, ...],
    start: Lsn,
    until: Lsn,
    tables: Sequence[Touched],
    ends: Callable[[], bool],
) -> None:
    """Fill in `tables` with what was committed before `until`; told to stop, it leaves them as they are.

    `start` is what the target has made durable, which is said again and again. Nobody else may stream from the slot
    meanwhile. Raises the server's refusals; where it cannot be read, every table says so.
    """
    for tried in range(1, _TRIES + 1):
        reading = Reading(tables, until)
        try:
            await _once(dsn, slot_name, publications, start, reading, ends)
        except Transient:
            if tried < _TRIES and not ends():
                await asyncio.sleep(tried)
                continue
            reading.give_up("the source could not be read for changed rows")
        break
    await slot.wait_until_free(dsn, slot_name)


async def _once(
    dsn: str,
    slot_name: str,
    publications: tuple[str, ...],
    start: Lsn,
    reading: Reading,
    ends: Callable[[], bool],
) -> None:
    warnings: list[Fault] = []

    def noticed(severity: str, sqlstate: str) -> None:
        if severity in {"WARNING", "ERROR"}:
            warnings.append(slot.publications_warning(slot_name, publications, sqlstate))

    where = f"source, slot {slot_name}"
    connection = await connect(dsn, purpose="touched rows", endpoint="source", replication=True)
    drain = Drain(connection, where=where, noticed=noticed)
    try:
        try:
            await drain.start(slot.start_command(slot_name, start, publications, Form.TEXT))
        except Fault as fault:
            raise slot.taken(slot_name) if fault.sqlstate == slot.IN_USE else fault from None
        answered_at = heard_at = time.monotonic()
        while not (reading.is_done or ends()):
            try:
                frames = drain.take(_BYTES)
            except Fault as fault:
                if fault.sqlstate not in _TOO_LARGE:
                    raise
                reading.give_up("the source could not write a change as text")
                return
            if warnings:
                raise warnings[0]
            if drain.is_finished:
                raise Transient("The source ended the stream.", where=where, means="Nothing is lost.")
            reading.take(frames)
            now = time.monotonic()
            heard_at = now if frames else heard_at
            if now - heard_at > _SILENCE:
                reading.give_up("the source did not answer in time")
                return
            if now - answered_at >= _ANSWER_EVERY or reading.is_asked:
                # Asking for a reply where nothing comes: it says how far the server has read.
                await drain.send(standby_status(Positions(start, start, start), datetime.now(UTC), reply=not frames))
                answered_at, reading.is_asked = now, False
            if drain.holds_more:
                await asyncio.sleep(0)
            else:
                await drain.wait(_ANSWER_EVERY / 4)
    finally:
        drain.close()
        await connection.close()
