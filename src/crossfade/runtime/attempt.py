"""One attempt at the whole job: lead, check, copy what is missing, stream until told to stop or something fails.

The tree of tasks of one attempt:

    attempt
    ├── source.watch         samples clock, log and slot each second
    ├── target.watch         operators' commands, the row people read, the applier's connection
    └── work                 copy, then stream:
        ├── copy.0 …         one table at a time each;  copy.locks
        ├── stream.read      the replication connection
        ├── apply.0          the target connection that leads and moves the position
        ├── publication.guard
        └── caughtup.watch   catchup -> streaming; ends `run --until caught-up`

Refuses to decide whether to try again: a fault climbs out of here and the supervisor reads its policy. The invariant:
everything starts from what is stored in the target, so that any attempt may be the first after kill -9.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg

from crossfade import failpoints
from crossfade.catalog import TableName
from crossfade.copy import driver as copy
from crossfade.events import Connected, LeaderChanged, Listener, Note, Phase
from crossfade.faults import Fault, Locked, Misconfigured, Refused, Unreachable
from crossfade.findings import Finding, Kind, Severity
from crossfade.ledger import AckLedger
from crossfade.lsn import Lsn
from crossfade.mapping.plan import LocalTime, Plan
from crossfade.mapping.spec import Spec
from crossfade.pipe import Pipe
from crossfade.preflight.examine import Examined, examine
from crossfade.preflight.publications import create_statement, wanted
from crossfade.runtime import watch
from crossfade.runtime.state import WorkflowState
from crossfade.runtime.stop import Stop
from crossfade.session.connect import TARGET, Connection, connect, server_fault
from crossfade.session.introspect import read_catalog
from crossfade.settings import Settings
from crossfade.source import publication, slot
from crossfade.source.snapshot import Snapshot
from crossfade.source.stream import StreamReader
from crossfade.state import copies, leader, schema, workflow
from crossfade.target import idmap, progress
from crossfade.target.apply import Applier
from crossfade.target.progress import Position, Progress, SourceIdentity
from crossfade.target.replay import Replayer
from crossfade.wire.ids import allocator
from crossfade.wire.idstate import IdState
from crossfade.wire.zones import Zone

_STANDBY_EVERY = 2.0
_COPY_AGAIN = "`crossfade teardown`, empty the target tables, `crossfade run`."


@dataclass(slots=True)
class Backend:
    """The session of ours that last led; a new attempt ends it, should it still hang on a dead line."""

    pid: int = 0
    started: datetime | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asked for."""

    until_caught_up: bool
    no_wait: bool


class Attempt:
    """Not reusable. `state` and `backend` outlive it; `has_answered` becomes true once both databases did."""

    def __init__(
        self,
        settings: Settings,
        spec: Spec,
        options: Options,
        *,
        state: WorkflowState,
        backend: Backend,
        stop: Stop,
        listener: Listener,
        is_first: bool,
    ) -> None:
        self._settings = settings
        self._spec = spec
        self._options = options
        self._state = state
        self._backend = backend
        self._stop = stop
        self._listener = listener
        self._is_first = is_first
        self._source_dsn = settings.source.dsn.get_secret_value()
        self._target_dsn = settings.target.dsn.get_secret_value()
        self._name = settings.name
        self._slot = settings.stream.slot
        self._over = asyncio.Event()
        self._ledger: AckLedger | None = None
        self._reader: StreamReader | None = None
        self._applier: Applier | None = None
        self._is_drained = False
        self._applier_is_done = False
        self._replica_role = False
        self.has_answered = False
        self.works = asyncio.Event()

    # the whole -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Returns when told to stop, or when `--until` is reached; raises what stopped it, in groups or alone."""
        async with AsyncExitStack() as stack:
            self._state.component = "target"
            target = await self._open(stack, self._target_dsn, "apply", "target", settings=TARGET)
            self._state.component = "source"
            replication = await self._open(stack, self._source_dsn, "stream", "source", replication=True)
            self.has_answered = True
            self._state.component = "setup"
            if not await self._lead(target):
                return
            system = await slot.identify_system(replication)
            stored = await self._stored(target)
            if stored is not None:
                await self._announce(target)
                await self._check_continuity(stack, stored, system)
            plan = self._accept(await examine(self._settings, self._spec, resuming=stored is not None), stored)
            if stored is None:
                # Not a line sooner: whoever is refused at the first start finds both databases as they were.
                await schema.ensure(target)
                await self._announce(target)
            failpoints.reached("after_check")
            async with asyncio.TaskGroup() as group:
                group.create_task(self._source_watch().run(), name="source.watch")
                group.create_task(self._target_watch(target).run(), name="target.watch")
                group.create_task(self._work(plan, target, replication, system, stored), name="work")

    async def _open(
        self,
        stack: AsyncExitStack,
        dsn: str,
        purpose: str,
        endpoint: str,
        *,
        settings: Mapping[str, str] | None = None,
        replication: bool = False,
    ) -> Connection:
        connection = await connect(dsn, purpose=purpose, endpoint=endpoint, settings=settings, replication=replication)
        stack.push_async_callback(connection.close)
        self._listener(Connected(endpoint, connection.info.server_version, is_reconnect=not self._is_first))
        return connection

    async def _lead(self, target: Connection) -> bool:
        """Take the leader lock, waiting as a standby; False when told to stop first."""
        await self._end_former_session(target)
        waiting = False
        while not await leader.try_lead(target, self._name):
            if self._options.no_wait:
                raise Locked(
                    "Another daemon leads this workflow.",
                    where=f"target, workflow {self._name}",
                    means="Nothing was changed.",
                    do="Without --no-wait, this one would wait as a standby.",
                )
            if not waiting:
                waiting = True
                self._listener(LeaderChanged(False))
                self._listener(Note("standby", "Another daemon leads; waiting as a standby.", "info"))
            await self._stop.sleep(_STANDBY_EVERY)
            if self._stop.is_requested():
                return False
        self._listener(LeaderChanged(True))
        cursor = await target.execute("SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()")
        row = await cursor.fetchone()
        if row is not None and isinstance(row[1], datetime):
            self._backend.pid, self._backend.started = int(str(row[0])), row[1]
        return True

    async def _end_former_session(self, target: Connection) -> None:
        """Our own session of before may hold the lock on a line that is dead without the server knowing (B4)."""
        if self._backend.started is not None:
            await target.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND backend_start = %s",
                (self._backend.pid, self._backend.started),
            )

    # before anything is touched --------------------------------------------------------------------------------------

    async def _stored(self, target: Connection) -> Progress | None:
        """Where this workflow stands; None when it never began, with or without our tables being there."""
        if not await schema.exists(target):
            return None
        await schema.ensure(target)
        return await progress.load(target, self._name)

    async def _announce(self, target: Connection) -> None:
        self._state.pause(await workflow.announce(target, self._name) or self._state.paused)

    async def _check_continuity(self, stack: AsyncExitStack, stored: Progress, system: slot.System) -> None:
        """Everything that says whether going on from the stored position misses nothing."""
        slot.check_identity(
            system,
            identifier=stored.source.system_identifier,
            timeline=stored.source.timeline,
            database=stored.source.database,
        )
        if stored.slot != self._slot:
            raise Misconfigured(
                f"The workflow streams from slot {stored.slot}; the configuration says {self._slot}.",
                where="[stream] slot",
                means="Nothing was changed.",
                do=f"Set it back, or to start over: {_COPY_AGAIN}",
            )
        if stored.end_lsn is not None:
            looker = await self._open(stack, self._source_dsn, "slot check", "source")
            found = await slot.look(looker, self._slot)
            slot.check_continuity(self._slot, found, end_lsn=stored.end_lsn, database=system.database)
            # Before the mapping is compiled: a column that is gone is told as what it is, changes that may be lost.
            await self._check_published(looker, stored)

    async def _check_published(self, source: Connection, stored: Progress) -> None:
        try:
            await watch.check_published(source, stored.published or {})
        except watch.ChangesLost as fault:
            if fault.final:
                target = await connect(self._target_dsn, purpose="control", endpoint="target", settings=TARGET)
                try:
                    await progress.remember_lost(target, self._name, fault.final)
                finally:
                    await target.close()
            raise

    def _accept(self, examined: Examined, stored: Progress | None) -> Plan:
        """The plan, or the fault that all errors found amount to."""
        errors = [finding for finding in examined.findings if finding.severity is Severity.ERROR]
        if errors:
            raise _amounting_to(errors, resuming=stored is not None)
        plan = examined.plan
        assert plan is not None, "no plan without an error"
        if stored is not None and stored.mapping_hash != plan.mapping_hash:
            raise Misconfigured(
                "The mapping is not the one this workflow was started with.",
                where=str(self._settings.mapping),
                means="Rows already copied follow the old one. Nothing was changed.",
                do=f"Put the old mapping back, or to start over with the new one: {_COPY_AGAIN}",
            )
        self._replica_role = examined.replica_role
        return plan

    # the work --------------------------------------------------------------------------------------------------------

    async def _work(
        self, plan: Plan, target: Connection, replication: Connection, system: slot.System, stored: Progress | None
    ) -> None:
        try:
            snapshot: Snapshot | None = None
            if stored is None or stored.end_lsn is None:
                snapshot = await self._set_up(plan, target, replication, system, stored)
                stored = await progress.load(target, self._name)
            if self._stop.is_requested():
                return
            assert stored is not None
            assert stored.end_lsn is not None
            epoch = await progress.raise_epoch(target, self._name)
            if stored.sample_passed_at is not None:
                self._state.meter.restore(stored.sample_passed_at.timestamp())
            for table in await copies.recorded(target, self._name):
                self._listener(table)
            await idmap.create_tables(target, plan.keyspaces.values())
            if snapshot is None and not self._replica_role:
                await copy.restart_connected(target, plan, enforced=True)
            if not await self._copy(plan, snapshot):
                return
            failpoints.reached("after_copy")
            # Read again: an earlier leader may have committed until our epoch shut it out.
            stored = await progress.load(target, self._name)
            assert stored is not None
            assert stored.end_lsn is not None
            await self._stream(plan, target, replication, stored, epoch)
        except psycopg.Error as error:
            raise server_fault(error, where=self._state.component) from None
        finally:
            self._over.set()

    async def _set_up(
        self,
        plan: Plan,
        target: Connection,
        replication: Connection,
        system: slot.System,
        stored: Progress | None,
    ) -> Snapshot | None:
        """Publications, the record of the slot, the slot; returns the snapshot its creation exported, if it did."""
        self._state.enter(Phase.SETUP)
        source = await connect(self._source_dsn, purpose="setup", endpoint="source")
        try:
            await self._create_publications(plan, source)
            if stored is None:
                identity = SourceIdentity(system.identifier, system.timeline, system.database)
                await progress.begin(
                    target, self._name, source=identity, slot=self._slot, mapping_hash=plan.mapping_hash
                )
            failpoints.reached("after_slot_recorded")
            cursor = await source.execute("SELECT clock_timestamp()")
            row = await cursor.fetchone()
            assert row is not None
            created_at = row[0]
            assert isinstance(created_at, datetime)
            published = await publication.read(source, plan, self._publications(plan))
            found = await slot.look(source, self._slot) if stored is not None else None
            snapshot: Snapshot | None = None
            if found is None:
                created = await slot.create_watched(
                    replication,
                    self._slot,
                    temporary=False,
                    looker=source,
                    ends=self._stop.is_requested,
                    listener=self._listener,
                )
                if created is None:
                    return None
                failpoints.reached("after_slot_created")
                snapshot = await Snapshot.hold(self._source_dsn, created)
                start = created.consistent_point
            else:
                # Recorded, created, and then we died: its snapshot is gone, its position is not.
                start = found.confirmed_flush_lsn
            await copy.register(target, plan)
            await progress.place(target, self._name, start=start, published=published, created_at=created_at)
            failpoints.reached("after_slot_placed")
            return snapshot
        finally:
            await source.close()

    def _publications(self, plan: Plan) -> tuple[str, ...]:
        stream = self._settings.stream
        return tuple(
            name
            for name, tables in ((stream.publication, plan.published), (stream.append_publication, plan.append_only))
            if tables
        )

    async def _create_publications(self, plan: Plan, source: Connection) -> None:
        """Make the missing ones, before the slot: one made after it would stop decoding for good (E8)."""
        stream = self._settings.stream
        cursor = await source.execute("SELECT pubname FROM pg_publication")
        there = {str(row[0]) for row in await cursor.fetchall()}
        missing = [name for name in self._publications(plan) if name not in there]
        if not missing:
            return
        catalog = await read_catalog(source)
        for each in wanted(plan, catalog, publication=stream.publication, append_publication=stream.append_publication):
            if each.name in missing:
                await source.execute(create_statement(each))
                self._listener(Note("publication_created", f"Created publication {each.name} on the source.", "info"))

    def _make_ids(self, plan: Plan) -> dict[str, IdState]:
        return {
            name: IdState(keyspace, allocator(keyspace, clock=_milliseconds, randomness=os.urandom))
            for name, keyspace in plan.keyspaces.items()
        }

    async def _copy(self, plan: Plan, snapshot: Snapshot | None) -> bool:
        self._state.component = "copy"
        self._state.enter(Phase.COPY)
        copier = copy.CopyDriver(
            plan,
            source_dsn=self._source_dsn,
            target_dsn=self._target_dsn,
            slot=self._slot,
            workers=self._settings.copy_.workers,
            lock_yield=self._settings.copy_.lock_yield,
            replica_role=self._replica_role,
            make_ids=lambda: self._make_ids(plan),
            zones=_zones(plan),
            listener=self._listener,
            ends=self._stop.is_requested,
        )
        return await copier.run(snapshot)

    async def _stream(
        self, plan: Plan, target: Connection, replication: Connection, stored: Progress, epoch: int
    ) -> None:
        self._state.component = "stream"
        self._state.enter(Phase.CATCHUP)
        assert stored.end_lsn is not None
        settings = self._settings.stream
        ledger = AckLedger()
        ledger.resume(stored.end_lsn)
        pipe = Pipe(settings.pipe_bytes)
        from_lsns = await copy.from_lsns(target, plan)
        reader = StreamReader(
            replication,
            slot=self._slot,
            publications=self._publications(plan),
            start=stored.end_lsn,
            ledger=ledger,
            pipe=pipe,
            piece_bytes=settings.batch_bytes,
            status_interval=await self._status_interval(),
            listener=self._listener,
            is_paused=self._state.is_paused,
            ends=self._ends,
            applier_is_done=lambda: self._applier_is_done,
        )
        pipe.on_room = reader.kick

        def made_durable(position: Lsn) -> None:
            ledger.made_durable(position)
            reader.kick()

        def idle_persisted(position: Lsn) -> None:
            ledger.idle_persisted(position)
            reader.kick()

        applier = Applier(
            target,
            Replayer(
                target,
                plan,
                ids=self._make_ids(plan),
                zones=_zones(plan),
                from_lsn=from_lsns,
                replica_role=self._replica_role,
            ),
            Position(self._name, end_lsn=stored.end_lsn, epoch=epoch),
            pipe,
            batch_bytes=settings.batch_bytes,
            durable=made_durable,
            idle_persisted=idle_persisted,
            listener=self._listener,
            source_now=self._state.source_now,
            sample_passed=lambda _: self._sample_passed(),
            is_paused=self._state.is_paused,
        )
        self._ledger, self._reader, self._applier = ledger, reader, applier
        guard = watch.PublicationGuard(
            self._source_dsn,
            lambda source: self._check_published(source, stored),
            is_over=lambda: self._applier_is_done,
            over=self._over,
        )
        forget = self._stop.on_request(reader.kick)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(reader.run(), name="stream.read")
                group.create_task(self._apply(applier, reader), name="apply.0")
                group.create_task(guard.run(), name="publication.guard")
                group.create_task(self._caught_up(ledger, reader, from_lsns), name="caughtup.watch")
        finally:
            forget()
            self._listener(
                Note("stream_ended", f"The stream ended; everything before {ledger.durable} is durable.", "info")
            )

    async def _apply(self, applier: Applier, reader: StreamReader) -> None:
        await applier.run()
        self._applier_is_done = True
        self._over.set()
        reader.kick()

    def _ends(self) -> bool:
        return self._is_drained or self._stop.is_requested()

    def _sample_passed(self) -> datetime | None:
        at = self._state.meter.passed_at
        return datetime.fromtimestamp(at, UTC) if at is not None else None

    async def _status_interval(self) -> float:
        """A third of the server's patience, or what the configuration says if that is less (A10)."""
        configured = self._settings.stream.status_interval.total_seconds()
        source = await connect(self._source_dsn, purpose="setup", endpoint="source")
        try:
            cursor = await source.execute("SELECT setting::bigint FROM pg_settings WHERE name = 'wal_sender_timeout'")
            row = await cursor.fetchone()
        finally:
            await source.close()
        patience = int(str(row[0])) / 1000 if row is not None else 0.0
        return min(configured, patience / 3) if patience > 0 else configured

    async def _caught_up(self, ledger: AckLedger, reader: StreamReader, from_lsns: Mapping[TableName, Lsn]) -> None:
        """Until the durable position has passed what was committed when streaming began, and every copy's position."""
        source = await connect(self._source_dsn, purpose="mark", endpoint="source")
        try:
            cursor = await source.execute("SELECT pg_logical_emit_message(true, 'crossfade', '')::text")
            row = await cursor.fetchone()
        finally:
            await source.close()
        assert row is not None
        start = ledger.durable
        goal = max([Lsn.parse(str(row[0])), *from_lsns.values()])
        while not self._ends():
            if ledger.durable >= goal:
                self.works.set()
                self._state.enter(Phase.STREAMING)
                if self._options.until_caught_up:
                    self._is_drained = True
                    reader.kick()
                return
            if ledger.durable > start:
                self.works.set()
            reader.persist_soon()
            await self._stop.sleep(0.1)

    # watchers --------------------------------------------------------------------------------------------------------

    def _silence(self) -> float:
        return max(5.0, 3 * self._settings.stream.status_interval.total_seconds())

    def _source_watch(self) -> watch.SourceWatch:
        return watch.SourceWatch(
            self._source_dsn,
            self._slot,
            state=self._state,
            ledger=lambda: self._ledger,
            reader=lambda: self._reader,
            silence=self._silence(),
            listener=self._listener,
            is_over=self._over.is_set,
            over=self._over,
        )

    def _target_watch(self, target: Connection) -> watch.TargetWatch:
        return watch.TargetWatch(
            self._target_dsn,
            self._name,
            state=self._state,
            applier=lambda: self._applier,
            backend_pid=target.pgconn.backend_pid,
            silence=self._silence(),
            kick=lambda: self._reader.kick() if self._reader is not None else None,
            persist=lambda: self._reader.persist_soon() if self._reader is not None else None,
            listener=self._listener,
            is_over=self._over.is_set,
        )


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000


def _zones(plan: Plan) -> dict[str, Zone]:
    names = {
        column.rule.zone for table in plan.tables for column in table.columns if isinstance(column.rule, LocalTime)
    }
    return {name: Zone.load(name) for name in names}


def _amounting_to(errors: list[Finding], *, resuming: bool) -> Fault:
    """One fault out of every error found: the worst kind decides what is done about it."""
    text = "\n".join(
        f"  {finding.subject}: {finding.sentence}" + (f"\n    {finding.remedy}" if finding.remedy else "")
        for finding in errors
    )
    kinds = {finding.kind for finding in errors}
    count = f"{len(errors)} finding{'s' if len(errors) > 1 else ''} of `crossfade check` stand in the way:\n{text}\n"
    means = "Nothing was changed." if not resuming else "Nothing is lost; the slot keeps the changes."
    if Kind.CONFIGURATION in kinds:
        return Misconfigured(count, means=means)
    if Kind.UNREACHABLE in kinds:
        return Unreachable(count, means=means)
    # A daemon that has begun waits for the cause to go away; one that has not says no.
    return Fault(count, means=means) if resuming else Refused(count, means=means)
