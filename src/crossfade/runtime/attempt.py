"""One attempt at the whole job: lead, check, copy what is missing, stream until told to stop or something fails.

The tree of tasks of one attempt:

    attempt
    ├── source.watch         samples clock, log and slot each second
    ├── target.watch         operators' commands, the row people read, the applier's connection
    └── work                 copy, then stream:
        ├── copy.0 …         one table at a time each;  copy.locks
        └── …                `streaming` draws its own

Refuses to decide whether to try again: a fault climbs out of here and the supervisor reads its policy. The invariant:
everything starts from what is stored in the target, so that any attempt may be the first after kill -9.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import psycopg

from crossfade import failpoints
from crossfade.copy import driver as copy
from crossfade.events import Configured, Connected, Listener, PauseReason, Phase
from crossfade.faults import Misconfigured, Refused
from crossfade.findings import Severity
from crossfade.lsn import Lsn
from crossfade.mapping.plan import Plan
from crossfade.mapping.spec import Spec
from crossfade.preflight.examine import Examined, examine
from crossfade.runtime import giveup, watch
from crossfade.runtime.guarding import Guarding
from crossfade.runtime.leading import Backend, lead
from crossfade.runtime.remapping import settle
from crossfade.runtime.setup import SetUp, publications
from crossfade.runtime.state import WorkflowState
from crossfade.runtime.stop import Stop
from crossfade.runtime.streaming import Streaming, make_ids, zones
from crossfade.runtime.verdict import amounting_to
from crossfade.session.connect import TARGET, Connection, connect, server_fault
from crossfade.settings import Settings
from crossfade.source import slot
from crossfade.source.snapshot import Snapshot
from crossfade.source.stream import StreamReader
from crossfade.state import copies, schema, workflow
from crossfade.target import idmap, progress
from crossfade.target.progress import Progress

_COPY_AGAIN = "`crossfade teardown`, empty the target tables, `crossfade run`."


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
        guarding: Guarding,
    ) -> None:
        self._guarding = guarding
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
        self._streaming: Streaming | None = None
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
            if not await lead(
                target,
                self._name,
                backend=self._backend,
                no_wait=self._options.no_wait,
                stop=self._stop,
                listener=self._listener,
            ):
                return
            system = await slot.identify_system(replication)
            stored = await self._stored(target)
            if stored is not None:
                await self._announce(target)
                await self._check_continuity(target, stored, system)
            plan = self._accept(await examine(self._settings, self._spec, resuming=stored is not None), stored)
            if stored is not None:
                await settle(self._settings, self._spec, plan, stored, target, listener=self._listener)
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
        """One of the two connections an attempt lives by: told once for each side."""
        connection = await connect(dsn, purpose=purpose, endpoint=endpoint, settings=settings, replication=replication)
        stack.push_async_callback(connection.close)
        self._listener(Connected(endpoint, connection.info.server_version, is_reconnect=not self._is_first))
        return connection

    # before anything is touched --------------------------------------------------------------------------------------

    async def _stored(self, target: Connection) -> Progress | None:
        """Where this workflow stands; None when it never began, with or without our tables being there."""
        if not await schema.exists(target):
            return None
        await schema.ensure(target)
        return await progress.load(target, self._name)

    async def _announce(self, target: Connection) -> None:
        stored = await workflow.announce(target, self._name)
        if stored is PauseReason.OPERATOR:
            self._state.pause(stored)
        elif stored is not None:
            self._guarding.take_over(stored)

    async def _explain_missing(self, target: Connection) -> None:
        """A slot that a guard of ours gave up is not one that somebody dropped behind our back."""
        told = await giveup.told_before(target, self._name)
        if told is not None:
            raise Refused(told)

    async def _check_continuity(self, target: Connection, stored: Progress, system: slot.System) -> None:
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
            looker = await connect(self._source_dsn, purpose="slot check", endpoint="source")
            try:
                found = await slot.look(looker, self._slot)
                if found is None:
                    await self._explain_missing(target)
                slot.check_continuity(self._slot, found, end_lsn=stored.end_lsn, database=system.database)
                # Before the mapping is compiled: a column that is gone is told as what it is, changes that may be lost.
                await self._check_published(looker, stored)
            finally:
                await looker.close()

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
            raise amounting_to(errors, resuming=stored is not None)
        plan = examined.plan
        assert plan is not None, "no plan without an error"
        self._replica_role = examined.replica_role
        self._listener(Configured(_settings_hash(self._settings), plan.mapping_hash))
        return plan

    # the work --------------------------------------------------------------------------------------------------------

    async def _work(
        self, plan: Plan, target: Connection, replication: Connection, system: slot.System, stored: Progress | None
    ) -> None:
        try:
            snapshot: Snapshot | None = None
            if stored is None or stored.end_lsn is None:
                self._state.enter(Phase.SETUP)
                await idmap.check_tables(target, plan)
                setup = SetUp(self._settings, self._spec, plan, stop=self._stop, listener=self._listener)
                snapshot = await setup.run(target, replication, system, stored)
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
            plan = await idmap.create_tables(target, plan)
            if snapshot is None and not self._replica_role:
                await copy.restart_connected(target, plan, enforced=True)
            if not await self._copy(plan, snapshot, stored.end_lsn):
                return
            failpoints.reached("after_copy")
            # Read again: an earlier leader may have committed until our epoch shut it out.
            stored = await progress.load(target, self._name)
            assert stored is not None
            assert stored.end_lsn is not None
            self._streaming = Streaming(
                self._settings,
                plan,
                replica_role=self._replica_role,
                until_caught_up=self._options.until_caught_up,
                state=self._state,
                stop=self._stop,
                listener=self._listener,
                check_published=self._check_published,
                over=self._over,
                works=self.works,
            )
            await self._streaming.run(target, replication, stored, epoch)
        except psycopg.Error as error:
            raise server_fault(error, where=self._state.component) from None
        finally:
            self._over.set()

    async def _copy(self, plan: Plan, snapshot: Snapshot | None, position: Lsn) -> bool:
        self._state.component = "copy"
        self._state.enter(Phase.COPY)
        copier = copy.CopyDriver(
            plan,
            source_dsn=self._source_dsn,
            target_dsn=self._target_dsn,
            slot=self._slot,
            publications=publications(plan, self._settings.stream),
            position=position,
            workers=self._settings.copy_.workers,
            part_bytes=self._settings.copy_.part_bytes,
            lock_yield=self._settings.copy_.lock_yield,
            wire=self._settings.stream.wire,
            replica_role=self._replica_role,
            make_ids=lambda: make_ids(plan),
            zones=zones(plan),
            listener=self._listener,
            ends=self._stop.is_requested,
            is_paused=self._state.is_paused,
        )
        return await copier.run(snapshot)

    # watchers --------------------------------------------------------------------------------------------------------

    def _reader(self) -> StreamReader | None:
        return self._streaming.reader if self._streaming is not None else None

    def _kick(self) -> None:
        if (reader := self._reader()) is not None:
            reader.kick()

    def _persist(self) -> None:
        if (reader := self._reader()) is not None:
            reader.persist_soon()

    def _silence(self) -> float:
        return max(5.0, 3 * self._settings.stream.status_interval.total_seconds())

    def _source_watch(self) -> watch.SourceWatch:
        return watch.SourceWatch(
            self._source_dsn,
            self._slot,
            state=self._state,
            ledger=lambda: self._streaming.ledger if self._streaming is not None else None,
            reader=self._reader,
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
            applier=lambda: self._streaming.applier if self._streaming is not None else None,
            backend_pid=target.pgconn.backend_pid,
            silence=self._silence(),
            kick=self._kick,
            resumed=self._guarding.resumed,
            refused=self._guarding.target_refused,
            persist=self._persist,
            listener=self._listener,
            is_over=self._over.is_set,
            over=self._over,
        )


def _settings_hash(settings: Settings) -> str:
    """What tells two configurations apart; the DSNs, which may hold secrets, stay out of it."""
    return hashlib.sha256(settings.model_dump_json(exclude={"source", "target"}).encode()).hexdigest()
