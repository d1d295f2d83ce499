"""The first start: publications, the record of the slot, the slot, and where it begins.

Refuses to copy or stream. The invariant: killed between any two lines, the next start finds out from the target how
far this came, and no slot exists that is not recorded there (B19).
"""

from __future__ import annotations

from datetime import datetime

from crossfade import failpoints
from crossfade.copy import driver as copy
from crossfade.events import Listener, Note
from crossfade.faults import Refused
from crossfade.lsn import Lsn
from crossfade.mapping.plan import Plan
from crossfade.mapping.spec import Spec
from crossfade.preflight.publications import create_statement, wanted
from crossfade.runtime.stop import Stop
from crossfade.session.connect import Connection, connect
from crossfade.session.introspect import read_catalog
from crossfade.settings import Settings, Stream
from crossfade.source import appended, publication, slot
from crossfade.source.snapshot import Snapshot
from crossfade.state import mappings
from crossfade.target import progress
from crossfade.target.progress import Progress, SourceIdentity


def publications(plan: Plan, stream: Stream) -> tuple[str, ...]:
    """The names of those the plan needs: a publication without tables is not made and not asked for."""
    return tuple(
        name
        for name, tables in ((stream.publication, plan.published), (stream.append_publication, plan.append_only))
        if tables
    )


class SetUp:
    """Done once per workflow, or again where the last one was interrupted."""

    def __init__(self, settings: Settings, spec: Spec, plan: Plan, *, stop: Stop, listener: Listener) -> None:
        self._settings = settings
        self._spec = spec
        self._plan = plan
        self._stop = stop
        self._listener = listener
        self._source_dsn = settings.source.dsn.get_secret_value()

    async def run(
        self, target: Connection, replication: Connection, system: slot.System, stored: Progress | None
    ) -> Snapshot | None:
        """Returns the snapshot that the slot's creation exported; None when it is gone, or when told to stop."""
        source = await connect(self._source_dsn, purpose="setup", endpoint="source")
        try:
            await self._create_publications(source)
            if stored is None:
                await progress.begin(
                    target,
                    self._settings.name,
                    source=SourceIdentity(system.identifier, system.timeline, system.database),
                    slot=self._settings.stream.slot,
                    mapping_hash=self._plan.mapping_hash,
                )
            await mappings.record(
                target,
                self._settings.name,
                text=self._spec.text,
                file=self._spec.file,
                mapping_hash=self._plan.mapping_hash,
                why="the workflow began",
            )
            failpoints.reached("after_slot_recorded")
            try:
                return await self._place(source, target, replication, was_recorded=stored is not None)
            except Refused:
                # Somebody took the slot's name since we looked: our record must not make it ours at the next start.
                await progress.forget(target, self._settings.name)
                raise
        finally:
            await source.close()

    async def _place(
        self, source: Connection, target: Connection, replication: Connection, *, was_recorded: bool
    ) -> Snapshot | None:
        """Create the slot, unless it is there, and record where it begins and what is published."""
        name = self._settings.stream.slot
        created_at = await _clock(source)
        published = await publication.read(source, self._plan, publications(self._plan, self._settings.stream))
        published = appended.remember(published, await appended.counted(source, self._plan.append_only))
        found = await slot.look(source, name) if was_recorded else None
        snapshot: Snapshot | None = None
        if found is None:
            created = await slot.create_watched(
                replication,
                name,
                temporary=False,
                looker=source,
                ends=self._stop.is_requested,
                listener=self._listener,
            )
            if created is None:
                return None
            failpoints.reached("after_slot_created")
            snapshot = await Snapshot.hold(self._source_dsn, created)
            start: Lsn = created.consistent_point
        else:
            # Recorded, created, and then we died: its snapshot is gone, its position is not.
            start = slot.starts_at(name, found)
        await copy.register(target, self._plan)
        await progress.place(target, self._settings.name, start=start, published=published, created_at=created_at)
        failpoints.reached("after_slot_placed")
        return snapshot

    async def _create_publications(self, source: Connection) -> None:
        """Make the missing ones, before the slot: one made after it would stop decoding for good (E8)."""
        stream = self._settings.stream
        cursor = await source.execute("SELECT pubname FROM pg_publication")
        there = {str(row[0]) for row in await cursor.fetchall()}
        missing = [name for name in publications(self._plan, stream) if name not in there]
        if not missing:
            return
        catalog = await read_catalog(source)
        for each in wanted(
            self._plan, catalog, publication=stream.publication, append_publication=stream.append_publication
        ):
            if each.name in missing:
                await source.execute(create_statement(each))
                self._listener(Note("publication_created", f"Created publication {each.name} on the source.", "info"))


async def _clock(source: Connection) -> datetime:
    cursor = await source.execute("SELECT clock_timestamp()")
    row = await cursor.fetchone()
    assert row is not None
    now = row[0]
    assert isinstance(now, datetime)
    return now
