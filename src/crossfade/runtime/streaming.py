"""Following the source: the reader, the applier, what lies between them, and what watches over the publications.

    ├── stream.read          the replication connection
    ├── apply.fold           what has arrived, gathered and folded while the target is busy
    ├── apply.0              the target connection that leads and moves the position
    ├── publication.guard    what is published, every ten seconds
    └── caughtup.watch       catchup -> streaming; ends `run --until caught-up`

Refuses to decide where to start (`progress` says) and whether to try again. The invariant: stopping flows down - the
reader ends the pipe, the applier drains it, the last status goes out - and every task returns.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

import psycopg

from crossfade.catalog import Route
from crossfade.copy import driver as copy
from crossfade.events import Listener, Note, Phase
from crossfade.faults import Fault
from crossfade.ledger import AckLedger
from crossfade.lsn import Lsn
from crossfade.mapping.plan import LocalTime, Plan
from crossfade.pipe import Pipe
from crossfade.runtime import watch
from crossfade.runtime.setup import publications
from crossfade.runtime.state import WorkflowState
from crossfade.runtime.stop import Stop
from crossfade.session.connect import Connection, connect, server_fault
from crossfade.session.drain import Drain
from crossfade.session.plain import PlainDrain, is_plain
from crossfade.settings import Settings
from crossfade.source import appended, slot
from crossfade.source.stream import StreamReader
from crossfade.target.apply import Applier
from crossfade.target.gather import Gatherer
from crossfade.target.progress import Position, Progress
from crossfade.target.replay import Replayer
from crossfade.target.sets import SetLevel
from crossfade.wire.form import Form, obstacle, stream_form
from crossfade.wire.ids import Allocator, allocator
from crossfade.wire.idstate import IdState
from crossfade.wire.zones import Zone

CheckPublished = Callable[[Connection, Progress], Awaitable[None]]


class Streaming:
    """One stream from one position. `over` is set when it has ended; `works` once it made anything durable."""

    def __init__(
        self,
        settings: Settings,
        plan: Plan,
        *,
        replica_role: bool,
        until_caught_up: bool,
        state: WorkflowState,
        stop: Stop,
        listener: Listener,
        check_published: CheckPublished,
        over: asyncio.Event,
        works: asyncio.Event,
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._replica_role = replica_role
        self._until_caught_up = until_caught_up
        self._state = state
        self._stop = stop
        self._listener = listener
        self._check_published = check_published
        self._over = over
        self.works = works
        self._counts = appended.AppendOnlyCounts({})
        self._source_dsn = settings.source.dsn.get_secret_value()
        self._is_drained = False
        self._applier_is_done = False
        self.ledger: AckLedger | None = None
        self.reader: StreamReader | None = None
        self.applier: Applier | None = None

    async def run(self, target: Connection, replication: Connection, stored: Progress, epoch: int) -> None:
        """Stream from the stored position until told to stop, or until `until_caught_up` is reached."""
        plan = self._plan
        self._state.component = "stream"
        self._counts = appended.AppendOnlyCounts(appended.remembered(stored.published or {}))
        self._state.enter(Phase.CATCHUP)
        assert stored.end_lsn is not None
        settings = self._settings.stream
        ledger = AckLedger()
        ledger.resume(stored.end_lsn)
        pipe = Pipe(settings.pipe_bytes)
        from_lsns = await copy.from_lsns(target, plan)
        form = self._form(replication.info.server_version, target.info.server_version)
        where = f"source, slot {settings.slot}"
        bare = await is_plain(replication)
        reader = StreamReader(
            lambda noticed: (PlainDrain if bare else Drain)(replication, where=where, noticed=noticed),
            slot=settings.slot,
            publications=publications(plan, settings),
            form=form,
            start=stored.end_lsn,
            ledger=ledger,
            pipe=pipe,
            piece_bytes=settings.batch_bytes,
            status_interval=await self._before(stored),
            listener=self._listener,
            is_paused=self._state.is_paused,
            ends=self._ends,
            applier_is_done=lambda: self._applier_is_done,
        )
        pipe.on_room = reader.kick

        def made_durable(position: Lsn) -> None:
            ledger.made_durable(position)
            reader.made_durable()

        def idle_persisted(position: Lsn) -> None:
            ledger.idle_persisted(position)
            reader.kick()

        ids, clocks = make_ids(plan), zones(plan)
        replayer = Replayer(
            target, plan, ids=ids, zones=clocks, from_lsn=from_lsns, replica_role=self._replica_role, form=form
        )
        gatherer = Gatherer(
            pipe,
            plan,
            form=form,
            from_lsn=from_lsns,
            batch_bytes=settings.batch_bytes,
            folds=settings.apply == "fast",
        )
        applier = Applier(
            target,
            replayer,
            SetLevel(
                replayer.pipeline,
                replayer.ages,
                plan,
                ids=ids,
                zones=clocks,
                form=form,
                replica_role=self._replica_role,
            ),
            Position(self._settings.name, end_lsn=stored.end_lsn, epoch=epoch),
            gatherer,
            pipe,
            ids=ids,
            replica_role=self._replica_role,
            at_once=settings.apply == "fast",
            durable=made_durable,
            idle_persisted=idle_persisted,
            listener=self._listener,
            source_now=self._state.source_now,
            sample_passed=lambda _: self._sample_passed(),
            is_paused=self._state.is_paused,
        )
        self.ledger, self.reader, self.applier = ledger, reader, applier
        guard = watch.PublicationGuard(
            self._source_dsn,
            lambda source: self._guard(source, stored),
            is_over=lambda: self._applier_is_done,
            over=self._over,
        )
        forget = self._stop.on_request(reader.kick)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(reader.run(), name="stream.read")
                group.create_task(gatherer.run(), name="apply.fold")
                group.create_task(self._apply(applier, reader), name="apply.0")
                group.create_task(guard.run(), name="publication.guard")
                group.create_task(self._caught_up(ledger, reader, from_lsns), name="caughtup.watch")
        finally:
            forget()
            self._listener(
                Note("stream_ended", f"The stream ended; everything before {ledger.durable} is durable.", "info")
            )

    def _form(self, source_version: int, target_version: int) -> Form:
        """Text or binary, told once: it decides what a huge value may weigh, and how much each row costs (F1)."""
        wanted = self._settings.stream.wire
        form = stream_form(self._plan, source_version=source_version, target_version=target_version, wanted=wanted)
        why = ""
        if form is Form.TEXT:
            found = obstacle(self._plan, source_version=source_version, target_version=target_version)
            why = f" ({found})" if wanted != "text" and found is not None else " (stream.wire)"
        self._listener(Note("stream_form", f"Changes come in {form.value} form{why}.", "info"))
        return form

    async def _guard(self, source: Connection, stored: Progress) -> None:
        """What is published is as it was, and append_only tables have only been appended to."""
        await self._check_published(source, stored)
        grown = self._counts.grown(await appended.counted(source, self._plan.append_only))
        for table, changes in grown.items():
            self._listener(
                Note(
                    "append_only_changed",
                    f"{changes} rows of {table} were updated or deleted on the source; the mapping says append_only:"
                    " the target still shows them as they were. Mend them by hand, or map the table with an identity"
                    " and copy again.",
                    "error",
                    alert=True,
                )
            )

    async def _apply(self, applier: Applier, reader: StreamReader) -> None:
        try:
            await applier.run()
        except (Fault, psycopg.Error):
            self._state.component = "apply"
            raise
        self._applier_is_done = True
        self._over.set()
        reader.kick()

    def _ends(self) -> bool:
        return self._is_drained or self._stop.is_requested()

    def _sample_passed(self) -> datetime | None:
        at = self._state.meter.passed_at
        return datetime.fromtimestamp(at, UTC) if at is not None else None

    async def _before(self, stored: Progress) -> float:
        """Look at the slot once more: nobody streamed from it during the copy, so anybody could move it (A7). Returns
        the status interval: a third of the server's patience, or what the configuration says if that is less (A10)."""
        configured = self._settings.stream.status_interval.total_seconds()
        name = self._settings.stream.slot
        source = await connect(self._source_dsn, purpose="setup", endpoint="source")
        try:
            found = await slot.look(source, name)
            assert stored.end_lsn is not None
            slot.check_continuity(name, found, end_lsn=stored.end_lsn, database=stored.source.database)
            cursor = await source.execute("SELECT setting::bigint FROM pg_settings WHERE name = 'wal_sender_timeout'")
            row = await cursor.fetchone()
        finally:
            await source.close()
        patience = int(str(row[0])) / 1000 if row is not None else 0.0
        return min(configured, patience / 3) if patience > 0 else configured

    async def _caught_up(self, ledger: AckLedger, reader: StreamReader, from_lsns: Mapping[Route, Lsn]) -> None:
        """Until the durable position has passed what was committed when streaming began, and every copied one."""
        source = await connect(self._source_dsn, purpose="mark", endpoint="source")
        try:
            cursor = await source.execute("SELECT pg_logical_emit_message(true, 'crossfade', '')::text")
            row = await cursor.fetchone()
        except psycopg.Error as error:
            raise server_fault(error, where="source, setting a mark") from None
        finally:
            await source.close()
        assert row is not None
        start = ledger.durable
        goal = max([Lsn.parse(str(row[0])), *from_lsns.values()])
        while not self._ends():
            if ledger.durable >= goal:
                self.works.set()
                self._state.enter(Phase.STREAMING)
                if self._until_caught_up:
                    self._is_drained = True
                    reader.kick()
                return
            if ledger.durable > start:
                self.works.set()
            reader.persist_soon()
            await self._stop.sleep(0.1)


def make_ids(plan: Plan) -> dict[str, IdState]:
    """Empty caches over the kept maps, one per keyspace."""
    made: dict[str, IdState] = {}
    for name, keyspace in plan.keyspaces.items():
        make = allocator(keyspace, clock=_milliseconds, randomness=os.urandom)
        stock = None if isinstance(make, Allocator) else make
        made[name] = IdState(keyspace, make, allocate_many=make.many, stock=stock)
    return made


def zones(plan: Plan) -> dict[str, Zone]:
    """Every zone the plan converts from, compiled."""
    names = {
        column.rule.zone for table in plan.tables for column in table.columns if isinstance(column.rule, LocalTime)
    }
    return {name: Zone.load(name) for name in names}


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000
