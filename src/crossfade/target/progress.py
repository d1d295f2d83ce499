"""Where the target stands: one row, moved by compare-and-set inside the transaction that brings the rows (promise 2).

The epoch fences: every leader raises it once, so whatever an earlier leader still holds open fails its compare-and-set
and rolls back (A17). Refuses to know what is applied. The invariant: `end_lsn` never moves back, and never without the
rows before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg.types.json import Json

from crossfade import failpoints
from crossfade.faults import Fenced, Refused
from crossfade.lsn import Lsn
from crossfade.session.connect import Connection
from crossfade.target.pipeline import Statement

Published = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class SourceIdentity:
    """Which source, and which life of it, our positions belong to (IDENTIFY_SYSTEM)."""

    system_identifier: str
    timeline: int
    database: str


@dataclass(frozen=True, slots=True)
class Progress:
    """The row as stored. `end_lsn` is None until the slot has a position."""

    end_lsn: Lsn | None
    epoch: int
    source: SourceIdentity
    slot: str
    slot_start: Lsn | None
    published: Published | None
    mapping_hash: str
    sample_passed_at: datetime | None


async def load(connection: Connection, workflow: str) -> Progress | None:
    """Read the row; None when this workflow never began here."""
    cursor = await connection.execute(
        "SELECT end_lsn::text, epoch, system_identifier, timeline, source_database, slot, slot_start::text, published,"
        " mapping_hash, sample_passed_at FROM crossfade.progress WHERE workflow = %s",
        (workflow,),
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    end_lsn, epoch, system, timeline, database, slot, slot_start, published, mapping_hash, passed = row
    assert passed is None or isinstance(passed, datetime)
    assert published is None or isinstance(published, dict)
    return Progress(
        end_lsn=Lsn.parse(str(end_lsn)) if end_lsn is not None else None,
        epoch=int(str(epoch)),
        source=SourceIdentity(str(system), int(str(timeline)), str(database)),
        slot=str(slot),
        slot_start=Lsn.parse(str(slot_start)) if slot_start is not None else None,
        published=published,
        mapping_hash=str(mapping_hash),
        sample_passed_at=passed,
    )


async def begin(connection: Connection, workflow: str, *, source: SourceIdentity, slot: str, mapping_hash: str) -> None:
    """Record that this workflow owns `slot`, before the slot is created, so that no slot is ever orphaned (B19)."""
    await connection.execute(
        "INSERT INTO crossfade.progress (workflow, epoch, system_identifier, timeline, source_database, slot,"
        " mapping_hash) VALUES (%s, 0, %s, %s, %s, %s, %s)",
        (workflow, source.system_identifier, source.timeline, source.database, slot, mapping_hash),
    )


async def forget(connection: Connection, workflow: str) -> None:
    """Take `begin` back: the slot turned out to be somebody else's. What has a position stays."""
    await connection.execute("DELETE FROM crossfade.progress WHERE workflow = %s AND end_lsn IS NULL", (workflow,))


async def place(
    connection: Connection, workflow: str, *, start: Lsn, published: Published, created_at: datetime
) -> None:
    """Record where the new slot begins and what the publications hold; only before anything was applied.

    `created_at` is the source's clock before the slot was made: the oldest thing we may lag behind.
    """
    cursor = await connection.execute(
        "UPDATE crossfade.progress SET end_lsn = %(start)s::pg_lsn, slot_start = %(start)s::pg_lsn,"
        " published = %(published)s, sample_passed_at = %(created_at)s, updated_at = now()"
        " WHERE workflow = %(workflow)s AND end_lsn IS NULL",
        {"workflow": workflow, "start": str(start), "published": Json(published), "created_at": created_at},
    )
    if cursor.rowcount != 1:
        raise Refused(
            "The workflow already has a position.",
            where=f"target crossfade.progress, workflow {workflow}",
            means="Somebody else started it meanwhile.",
            do="Run `crossfade status`.",
        )


def lost(published: Published) -> list[object]:
    """What was remembered by `remember_lost`."""
    told = published.get("lost", [])
    assert isinstance(told, list)
    return told


async def remember_lost(connection: Connection, workflow: str, told: Sequence[str]) -> None:
    """Keep what made us say that changes are lost: once put back, nothing else would tell (C17)."""
    await connection.execute(
        "UPDATE crossfade.progress SET published = published || jsonb_build_object('lost',"
        " coalesce(published -> 'lost', '[]') || %s::jsonb) WHERE workflow = %s",
        (Json(list(told)), workflow),
    )


async def raise_epoch(connection: Connection, workflow: str) -> int:
    """Fence every earlier leader; waits for a transaction of theirs that is about to commit. Returns our epoch."""
    cursor = await connection.execute(
        "UPDATE crossfade.progress SET epoch = epoch + 1, updated_at = now() WHERE workflow = %s RETURNING epoch",
        (workflow,),
    )
    row = await cursor.fetchone()
    if row is None:
        raise Refused(
            "The workflow's progress is gone.",
            where=f"target crossfade.progress, workflow {workflow}",
            means="The position is lost with it.",
            do="`crossfade teardown`, empty the target tables, `crossfade run`.",
        )
    return int(str(row[0]))


_MOVE: Final = (
    b"UPDATE crossfade.progress SET end_lsn = $1::pg_lsn, updated_at = now(),"
    b" sample_passed_at = coalesce($2::timestamptz, sample_passed_at)"
    b" WHERE workflow = $3 AND end_lsn = $4::pg_lsn AND epoch = $5::bigint"
)
_MOVE_ANYWAY: Final = b"UPDATE crossfade.progress SET end_lsn = $1::pg_lsn WHERE workflow = $2"


class Position:
    """The compare-and-set, for one leader. Not shared between connections."""

    def __init__(self, workflow: str, *, end_lsn: Lsn, epoch: int) -> None:
        self._workflow = workflow
        self._epoch = epoch
        self.end_lsn = end_lsn

    def move(self, to: Lsn, *, sample_passed_at: datetime | None) -> Statement:
        """What moves it to `to`, for the caller's transaction; `check` the row count before COMMIT.

        `self.end_lsn` is moved by `moved()`, after COMMIT returned.
        """
        workflow = self._workflow.encode()
        if failpoints.is_on("skip_cas"):
            return Statement(_MOVE_ANYWAY, [str(to).encode(), workflow])
        passed = sample_passed_at.isoformat().encode() if sample_passed_at is not None else None
        was, epoch = str(self.end_lsn).encode(), str(self._epoch).encode()
        return Statement(_MOVE, [str(to).encode(), passed, workflow, was, epoch])

    def check(self, rows: int) -> None:
        """Raises Fenced when the row was not as we left it."""
        if rows != 1:
            raise self._fenced()

    def moved(self, to: Lsn) -> None:
        """The COMMIT of a move returned."""
        self.end_lsn = to

    def _fenced(self) -> Fenced:
        return Fenced(
            "Our position was moved by somebody else: another daemon leads this workflow now.",
            where=f"target crossfade.progress, workflow {self._workflow}, expected end LSN {self.end_lsn}",
            means="Our transaction was rolled back; nothing is applied twice.",
            do="Nothing, if a standby took over on purpose; else look for a second daemon with `crossfade status`.",
        )
