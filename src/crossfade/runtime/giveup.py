"""Giving the slot up: the source is saved, at the price of a new copy.

Refuses to decide when (`telemetry/guards` does). The invariants: why is written to the target before the slot goes, as
far as the target can be reached, so that the next start can say it; and nothing but our own slot is dropped.

PostgreSQL: functions-admin ("pg_drop_replication_slot").
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

import psycopg

from crossfade.events import Listener, Note
from crossfade.faults import Fault, Refused
from crossfade.runtime.stop import Stop
from crossfade.session.connect import Connection
from crossfade.source import slot
from crossfade.state import control
from crossfade.telemetry.amounts import size

COMMAND: Final = "give_up_slot"
_BETWEEN: Final = 1.0  # seconds between two tries to drop it

Errand = Callable[[], AbstractAsyncContextManager[Connection]]


class GivenUp(Refused):
    """The slot was given up by its guard: exit 3, the copy must be made again."""


def given_up(name: str, limit: int, *, copied: tuple[int, int, int]) -> GivenUp:
    """`limit` in bytes; `copied`: tables, rows and bytes of the copy so far."""
    tables, rows, copied_bytes = copied
    cost = f" ({tables} tables, {rows:,} rows, {size(copied_bytes)})" if tables else ""
    return GivenUp(
        f"The slot kept more WAL on the source than guards.wal_hard_limit allows ({size(limit)}), so it was"
        " given up to save the source.",
        where=f"source, slot {name}",
        means=f"The source is well. The target is a past state of it and will not move on: everything must be copied"
        f" again{cost}.",
        do="Find out why crossfade fell so far behind; then `crossfade teardown`, empty the target tables,"
        " `crossfade run`.",
    )


async def carry_out(
    fault: GivenUp, *, workflow: str, name: str, on_target: Errand, on_source: Errand, stop: Stop, listener: Listener
) -> bool:
    """Write down why, end our walsender, drop the slot; tries until it is gone. False when told to stop first."""
    try:
        async with on_target() as target:
            await control.record(target, workflow, COMMAND, str(fault))
    except (Fault, psycopg.Error, TimeoutError):
        listener(Note("give_up_unrecorded", "Why the slot is given up could not be written to the target.", "warning"))
    while not stop.is_requested():
        try:
            async with on_source() as source:
                await source.execute(
                    "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots s"
                    " JOIN pg_stat_activity a ON a.pid = s.active_pid"
                    " WHERE s.slot_name = %s AND a.application_name = 'crossfade stream'",
                    (name,),
                )
                await slot.drop(source, name)
            listener(Note("slot_given_up", f"Slot {name} is dropped: the source lets go of its WAL.", "error"))
            return True
        except (Fault, psycopg.Error, TimeoutError):
            await stop.sleep(_BETWEEN)
    return False


async def told_before(target: Connection, workflow: str) -> str | None:
    """Why a daemon before us gave the slot up; None when none did."""
    return await control.recorded(target, workflow, COMMAND)


__all__ = ["GivenUp", "carry_out", "given_up", "told_before"]
