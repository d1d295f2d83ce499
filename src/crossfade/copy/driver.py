"""The initial copy: parts of tables in parallel, all at one snapshot, until every one is done, whatever dies meanwhile.

Decisions are `phases`' and `parts`'; one part's way is `part`; this file opens connections, starts workers, watches who
queues behind our locks, and takes a new snapshot when the one in hand is of no use any more. Refuses to touch the main
slot. The invariant: a table that is done shows one snapshot, whose position is stored with it, so that the stream can
tell what the copy already shows (G6); a part that is done is not read again while that snapshot lives, and not
afterwards where it can be brought forward to the next (`forward`).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Final, TypeVar

import psycopg

from crossfade import failpoints
from crossfade.catalog import Route
from crossfade.copy import extents, ids, phases, queuers
from crossfade.copy.computed import ComputedCodec
from crossfade.copy.forward import Forward
from crossfade.copy.ids import Ids, PassingIds
from crossfade.copy.keeping import bases, candidates, load_states, restart_connected
from crossfade.copy.lines import Lines
from crossfade.copy.part import PartCopy, Stopped, TableRewritten, TableYielded
from crossfade.copy.parts import FORWARD, Board, Extent, Part, is_divisible, split
from crossfade.copy.passage import Passage, passage
from crossfade.copy.phases import State
from crossfade.copy.tally import Tally
from crossfade.events import Listener, Note, PartCopied
from crossfade.faults import Fault, Fenced, Locked, Transient, Unreachable
from crossfade.lsn import Lsn
from crossfade.mapping.plan import Plan, TablePlan
from crossfade.session.connect import TARGET, Connection, connect, server_fault
from crossfade.source import reread
from crossfade.source.snapshot import Snapshot, SnapshotGone, enter
from crossfade.source.touched import Touched
from crossfade.state import copies
from crossfade.state.copies import from_lsns, register
from crossfade.waiting import forget_cancellation
from crossfade.wire.copycodec import CopyCodec
from crossfade.wire.idstate import IdState
from crossfade.wire.zones import Zone

T = TypeVar("T")

_QUEUE_EVERY: Final = 0.5
_ALERT_AFTER: Final = 3
# A part that loses its line is tried again, the snapshot being there; this often in a row, then it is no accident.
_TRIES: Final = 5
# Trying again only when there is room again: whoever pauses for that must hear of it.
_DISK_FULL: Final = "53100"
# A smaller table is not worth a connection of its own: libpq reads it, and the connection serves the next one, too.
_WORTH_A_LINE: Final = 1024 * 1024


class CopyDriver:
    """Copies what `crossfade.copy_tables` says is pending. `position` is what the target has made durable of the
    stream, which stands still meanwhile; `ends` tells that we are to stop."""

    def __init__(
        self,
        plan: Plan,
        *,
        source_dsn: str,
        target_dsn: str,
        slot: str,
        publications: tuple[str, ...],
        position: Lsn,
        workers: int,
        part_bytes: int,
        lock_yield: bool,
        wire: str = "auto",
        replica_role: bool,
        make_ids: Callable[[], Mapping[str, IdState]],
        zones: Mapping[str, Zone],
        listener: Listener,
        ends: Callable[[], bool],
        is_paused: Callable[[], bool],
    ) -> None:
        self._plan = plan
        self._source_dsn = source_dsn
        self._target_dsn = target_dsn
        self._slot = slot
        self._publications = publications
        self._position = position
        self._workers = workers
        self._part_bytes = part_bytes
        self._lock_yield = lock_yield
        self._wire = wire
        self._replica_role = replica_role
        self._make_ids = make_ids
        self._ids = Ids(make_ids(), None)
        self._zones = zones
        self._listener = listener
        self._ends = ends
        self._is_paused = is_paused
        self._tables = {table.route: table for table in plan.tables}
        self._waits = phases.parents(plan.tables, plan.target_foreign_keys, enforced=not replica_role)
        self._board = Board((), {}, {})
        self._tally = Tally(plan.tables, listener)
        self._attempt = 0  # the number that marks carry
        self._busy: dict[int, Route] = {}  # source backend pid -> what it copies
        self._asked: set[Route] = set()
        self._yields: Counter[Route] = Counter()
        self._queuers: dict[Route, str] = {}  # who waited last
        self._changed = asyncio.Event()
        self._passing: dict[Route, str] = {}  # tables whose ids are made as they pass, and their keyspace
        self._kept: dict[Route, Touched] = {}  # tables whose finished parts are brought to this snapshot
        self._hopeless: dict[Route, str] = {}  # tables that were to be, and could not; why
        self._parts_there: dict[Route, dict[Part, tuple[int, int]]] = {}  # those parts, rows and bytes of each

    async def run(self, snapshot: Snapshot | None) -> bool:
        """Copy until nothing is pending; False when told to stop first.

        `snapshot` is that of the slot just created, or None after a restart; it is closed here.
        """
        control = await connect(self._target_dsn, purpose="copy control", endpoint="target", settings=TARGET)
        allocator: Connection | None = None
        try:
            if self._plan.keyspaces:
                allocator = await connect(self._target_dsn, purpose="id allocator", endpoint="target", settings=TARGET)
                self._ids = Ids(self._ids.states, allocator)
                await self._ids.dress()
            stored = await load_states(control, self._plan)
            self._board = Board(self._plan.tables, self._waits, stored)
            if self._board.is_done:
                return True
            while not self._ends():
                if snapshot is None:
                    if self._is_paused():
                        await asyncio.sleep(_QUEUE_EVERY)  # nothing is taken out or filled in meanwhile
                        continue
                    snapshot = await Snapshot.take(
                        self._source_dsn, self._slot, ends=self._ends, listener=self._listener
                    )
                    if snapshot is None:
                        return False
                done = await self._round(snapshot, control)
                await snapshot.close()
                snapshot = None
                await self._ids.dress()
                if done:
                    return True
            return False
        finally:
            if snapshot is not None:
                await snapshot.close()
            if allocator is not None:
                await allocator.close()
            await control.close()

    async def _round(self, snapshot: Snapshot, control: Connection) -> bool:
        """Everything that can be copied at this snapshot; True when all tables are done."""
        try:
            await self._prepare(snapshot, control)
            async with asyncio.TaskGroup() as group:
                for number in range(self._workers):
                    group.create_task(self._worker(snapshot, control), name=f"copy.{number}")
                group.create_task(self._watch(snapshot), name="copy.locks")
        except BaseExceptionGroup as group:
            gone, others = group.split(SnapshotGone)
            if others is not None or gone is None:
                raise
            forget_cancellation()
            self._listener(Note("snapshot_lost", _LOST, "warning"))
            return False
        except SnapshotGone:
            return False
        return self._board.is_done

    async def _prepare(self, snapshot: Snapshot, control: Connection) -> None:
        """A new snapshot shows other rows: finished parts of unfinished tables are brought to it, or go."""
        self._attempt, unfinished = await copies.begin_attempt(control, self._plan)
        stored = await load_states(control, self._plan)
        pending = [plan for plan in self._plan.tables if stored[plan.route] is State.PENDING]
        files = await self._at(snapshot, lambda source: extents.files(source, pending))
        rests_on = await bases(control, self._plan, files)
        reasons = await self._keep(unfinished, rests_on, snapshot, control)
        if self._ends():
            return
        emptied = await copies.start_over(
            control, self._plan, self._kept, attempt=self._attempt, replica_role=self._replica_role
        )
        for route in emptied:
            why = reasons.get(route, "")
            self._listener(Note("table_emptied", _EMPTIED.format(table=route.source, why=why), "info"))
        waits = {table: set(others) for table, others in self._waits.items()}
        self._passing = {
            table: name
            for table, name in ids.passing(self._plan, waits, await self._ids.empty(self._plan.keyspaces)).items()
            if stored[table] is State.PENDING and table not in self._kept
        }
        self._board = Board(self._plan.tables, waits, stored)
        divisible = [
            plan
            for plan in self._board.pending
            if plan.route not in self._kept
            and is_divisible(plan, self._plan.target_foreign_keys, enforced=not self._replica_role)
        ]

        async def measured(source: Connection) -> tuple[dict[Route, list[Extent]], bool]:
            found = await extents.measure(source, divisible, part_bytes=self._part_bytes)
            return found, source.info.server_version >= extents.PAGES_SINCE

        found, by_page = await self._at(snapshot, measured)
        for plan in self._board.pending:
            if plan.route in self._kept:
                await self._divide_as_before(plan, snapshot, control)
                continue
            parts = split(found.get(plan.route, ()), part_bytes=self._part_bytes, by_page=by_page)
            if len(parts) > 1:
                await copies.divide(
                    control,
                    self._plan.workflow,
                    plan.route,
                    map(_piece, parts),
                    attempt=self._attempt,
                    shows=snapshot.consistent_point,
                    basis=rests_on[plan.route],
                )
            self._board.divide(plan.route, parts)
            self._tally.begin(plan.route, snapshot.consistent_point, self._yields[plan.route], {})
        await self._ids.strip(self._passing.values())
        ahead = {name: each for name, each in self._plan.keyspaces.items() if name not in self._passing.values()}
        await ids.fill(self._ids, ahead, self._source_dsn, snapshot, self._ends)
        failpoints.reached("after_id_maps")

    async def _at(self, snapshot: Snapshot, ask: Callable[[Connection], Awaitable[T]]) -> T:
        """What the source says at the snapshot."""
        source = await connect(self._source_dsn, purpose="copy sizes", endpoint="source")
        try:
            await enter(source, snapshot.name)
            return await ask(source)
        except psycopg.Error as error:
            raise server_fault(error, where="source, measuring tables") from None
        finally:
            await source.close()

    async def _keep(
        self,
        unfinished: Sequence[copies.Unfinished],
        rests_on: Mapping[Route, str],
        snapshot: Snapshot,
        control: Connection,
    ) -> dict[Route, str]:
        """Find out which tables can be gone on with, and which of their rows were touched since; why the others
        cannot."""
        hopeful = [each for each in unfinished if each.route not in self._hopeless]
        found, reasons = await candidates(
            hopeful, self._tables, rests_on, control=control, replica_role=self._replica_role
        )
        if found:
            await reread.read(
                self._source_dsn,
                slot_name=self._slot,
                publications=self._publications,
                start=self._position,
                until=snapshot.consistent_point,
                tables=tuple(found.values()),
                ends=self._ends,
            )
        self._kept = {route: each for route, each in found.items() if each.why is None}
        return self._hopeless | reasons | {route: each.why for route, each in found.items() if each.why is not None}

    async def _divide_as_before(self, plan: TablePlan, snapshot: Snapshot, control: Connection) -> None:
        """A table that is gone on with: its parts are those that were written down."""
        written = await copies.pieces(control, self._plan.workflow, plan.route)
        parts = {_part(piece): counts for piece, counts in written.items()}
        there = {part: counts for part, counts in parts.items() if counts is not None}
        self._parts_there[plan.route] = there
        self._board.divide(plan.route, (FORWARD, *parts), done=there)
        self._tally.begin(plan.route, snapshot.consistent_point, self._yields[plan.route], there)
        changed = len(self._kept[plan.route].keys)
        self._listener(
            Note(
                "table_goes_on",
                _GOES_ON.format(table=plan.source, done=len(there), parts=len(parts), touched=changed),
                "info",
            )
        )

    # workers -------------------------------------------------------------------------------------------------------

    async def _worker(self, snapshot: Snapshot, control: Connection) -> None:
        lines = Lines(self._source_dsn, self._target_dsn)
        try:
            while not self._is_over():
                if self._is_paused():
                    # What is being copied is finished, since giving it up would cost more; nothing new begins.
                    await asyncio.sleep(_QUEUE_EVERY)
                    continue
                ready = self._board.ready()
                ready = [each for each in ready if each[0].route not in self._asked] or ready
                if not ready:
                    self._changed.clear()
                    await self._changed.wait()
                    continue
                plan, part = ready[0]
                if plan.route in self._asked:
                    # Its queuer goes first: give it a moment.
                    await asyncio.sleep(_QUEUE_EVERY)
                    self._asked.discard(plan.route)
                    continue
                self._board.started(plan.route, part)
                await self._copy(plan, part, snapshot, lines, control)
                self._changed.set()
        finally:
            await lines.close()

    def _is_over(self) -> bool:
        return self._ends() or self._board.is_idle

    async def _copy(self, plan: TablePlan, part: Part, snapshot: Snapshot, lines: Lines, control: Connection) -> None:
        """Attempts at one part until something is decided about it."""
        table = plan.route
        mark = copies.Mark(
            workflow=self._plan.workflow,
            route=table,
            part=part.number if self._board.parts_of(table) > 1 else None,
            attempt=self._attempt,
            from_lsn=snapshot.consistent_point,
        )
        for tried in range(1, _TRIES + 1):
            try:
                await self._once(plan, part, mark, snapshot, lines)
            except TableYielded:
                self._board.given_back(table, part)
                self._yielded(plan)
            except TableRewritten:
                self._board.rewritten(table, part)
                self._listener(Note("table_rewritten", _REWRITTEN.format(table=plan.source), "warning"))
            except Stopped:
                self._board.given_back(table, part)
            except SnapshotGone:
                raise
            except Transient as fault:
                # A line was cut, perhaps with a COMMIT on its way: whether the rows are there, the mark says.
                await snapshot.check()
                if not await self._is_written(control, mark, plan, part):
                    if tried == _TRIES or isinstance(fault, Fenced) or fault.sqlstate == _DISK_FULL:
                        raise
                    self._listener(Note("copy_part_again", _AGAIN.format(table=plan.source, why=fault.what), "warning"))
                    await asyncio.sleep(_QUEUE_EVERY * tried)
                    if self._ends():
                        self._board.given_back(table, part)
                        return
                    continue
                self._finished(plan, part)
            except Fault as fault:
                if part != FORWARD or isinstance(fault, Unreachable | Locked):
                    raise
                # Nothing was changed. To begin again is dear and always right.
                self._hopeless[table] = f"to bring it forward failed: {fault.what}"
                self._board.rewritten(table, part)
            else:
                self._finished(plan, part)
            return

    async def _is_written(self, control: Connection, mark: copies.Mark, plan: TablePlan, part: Part) -> bool:
        try:
            if part == FORWARD:
                return await copies.shows(control, mark)
            counts = await copies.written(control, mark)
        except psycopg.Error as error:
            raise server_fault(error, where="target, looking for a mark") from None
        if counts is None:
            return False
        self._tally.progressed(plan.route, part, *counts)
        return True

    async def _once(self, plan: TablePlan, part: Part, mark: copies.Mark, snapshot: Snapshot, lines: Lines) -> None:
        """One attempt at one part. The lines are given up with whatever goes wrong."""
        started = time.monotonic()
        copy: PartCopy | Forward
        try:
            source, target = await lines.open()
            pid = source.pgconn.backend_pid
            self._busy[pid] = plan.route
            asking = await lines.asking() if plan.expressions else None

            def made(*, past_libpq: bool) -> PartCopy:
                return self._part_copy(plan, part, mark, lines, (source, target, asking), past_libpq=past_libpq)

            if part == FORWARD:
                copy = self._forward(plan, mark, lambda: made(past_libpq=False))
            else:
                copy = made(past_libpq=lines.source_is_plain and plan.bytes_estimate >= _WORTH_A_LINE)
                self._tally.progressed(plan.route, part, 0, 0)
            try:
                await self._unless_wanted_out(copy, copy.run(source, target, snapshot.name), plan.route)
            finally:
                self._busy.pop(pid, None)
        except BaseException:
            self._tally.forget(plan.route, part)
            await lines.give_up()
            raise
        if part == FORWARD:
            self._tally.progressed(plan.route, part, copy.rows, copy.bytes)
        else:
            self._listener(PartCopied(time.monotonic() - started))
        self._remark(plan, copy)

    def _forward(self, plan: TablePlan, mark: copies.Mark, make: Callable[[], PartCopy]) -> Forward:
        return Forward(
            plan,
            self._kept[plan.route],
            tuple(self._parts_there[plan.route]),
            mark=mark,
            make=make,
            ids=self._make_ids(),
            zones=self._zones,
            wants_out=lambda: self._wants_out(plan.route),
        )

    def _part_copy(
        self,
        plan: TablePlan,
        part: Part,
        mark: copies.Mark,
        lines: Lines,
        connections: tuple[Connection, Connection, Connection | None],
        *,
        past_libpq: bool,
    ) -> PartCopy:
        source, target, asking = connections
        way = self._passage(plan, source, target)
        states, making = self._ids_of(plan)
        codec: CopyCodec | ComputedCodec
        if asking is not None:
            codec = ComputedCodec(plan, way.form, states, self._zones, asking)
        else:
            codec = CopyCodec(plan, way.form, states, self._zones)

        def progressed() -> None:
            if part != FORWARD:
                self._tally.progressed(plan.route, part, copy.rows, copy.bytes)

        copy = PartCopy(
            plan,
            part,
            passage=way,
            mark=mark,
            codec=codec,
            ids=self._ids,
            passing=making,
            replica_role=self._replica_role,
            past_libpq=past_libpq,
            is_plain=lines.target_is_plain,
            wants_out=lambda: self._wants_out(plan.route),
            progressed=progressed,
        )
        return copy

    def _ids_of(self, plan: TablePlan) -> tuple[Mapping[str, IdState], PassingIds | None]:
        """The states a part's rows are converted by, and what makes its own ids as they pass."""
        name = self._passing.get(plan.route)
        if name is None:
            return self._ids.states, None
        making = PassingIds(self._plan.keyspaces[name])
        return {**self._ids.states, name: making.state}, making

    def _passage(self, plan: TablePlan, source: Connection, target: Connection) -> Passage:
        return passage(
            plan,
            self._plan,
            source_version=source.info.server_version,
            target_version=target.info.server_version,
            wanted=self._wire,
        )

    async def _unless_wanted_out(
        self, copy: PartCopy | Forward, work: Coroutine[None, None, None], table: Route
    ) -> None:
        """Do `work`, which asks between blocks whether to let go. A target that takes nothing (somebody's lock, a slow
        disk) keeps it from asking, and our lock on the source must not outlast that: then it is cancelled."""
        task = asyncio.ensure_future(work)
        try:
            patience = 2
            while not task.done():
                await asyncio.wait({task}, timeout=_QUEUE_EVERY / 2)
                reason = self._wants_out(table)
                if reason is not None and not copy.has_read:
                    patience -= 1
                    if patience == 0 and not task.done():
                        raise reason
            task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # ours was raised instead; asyncio must not print this one

    def _wants_out(self, table: Route) -> type[Exception] | None:
        if self._ends():
            return Stopped
        return TableYielded if table in self._asked else None

    def _finished(self, plan: TablePlan, part: Part) -> None:
        if part == FORWARD:
            self._kept[plan.route].keys.clear()
        if self._board.finished(plan.route, part):
            self._tally.done(plan.route)
            if self._yields[plan.route] >= _ALERT_AFTER:
                self._listener(Note("copy_yields", f"{plan.source} is copied.", "info", alert=True, cleared=True))

    def _yielded(self, plan: TablePlan) -> None:
        """Parts that let go for the same queuer are one yield."""
        if self._board.states[plan.route] is State.RUNNING:
            return
        self._asked.add(plan.route)
        self._yields[plan.route] += 1
        self._tally.yielded(plan.route, self._yields[plan.route])
        if self._yields[plan.route] >= _ALERT_AFTER:
            self._listener(
                Note(
                    "copy_yields",
                    f"The copy of {plan.source} gave way {self._yields[plan.route]} times to sessions that want a lock"
                    f" on it, the last one {self._queuers.get(plan.route, 'unknown')}. Let their ALTER TABLE or"
                    " TRUNCATE run to its end, or set copy.lock_yield = false.",
                    "warning",
                    alert=True,
                )
            )

    def _remark(self, plan: TablePlan, copy: PartCopy | Forward) -> None:
        if copy.orphans:
            self._listener(
                Note(
                    "orphan_ids",
                    f"{copy.orphans} references of {plan.source} have no parent; they were given ids all the same.",
                    "warning",
                )
            )
        for what, times in copy.remarks.clock.items():
            self._listener(
                Note(
                    "clock_changes",
                    f"{times} local times of {plan.source} fell into a clock {what}; the mapping's policy was applied.",
                    "info",
                )
            )

    # watching ------------------------------------------------------------------------------------------------------

    async def _watch(self, snapshot: Snapshot) -> None:
        """Twice a second: who queues behind our locks, and does the snapshot still live?"""
        watcher = await connect(self._source_dsn, purpose="copy locks", endpoint="source")
        try:
            while not self._is_over():
                if self._lock_yield and self._busy:
                    for holder, session in await queuers.behind(watcher, self._busy):
                        self._ask(self._busy.get(holder), session)
                await snapshot.check()
                self._changed.set()
                await asyncio.sleep(_QUEUE_EVERY)
        except psycopg.Error as error:
            raise server_fault(error, where="source, watching locks") from None
        finally:
            self._changed.set()
            await watcher.close()

    def _ask(self, table: Route | None, session: str) -> None:
        """Every running part of the table is to let go."""
        if table is None or table in self._asked:
            return
        self._asked.add(table)
        self._queuers[table] = session
        self._listener(
            Note(
                "copy_yields_once",
                f"The copy of {self._tables[table].source} lets {session} go first, which waits for a lock behind it.",
                "info",
            )
        )


_REWRITTEN = (
    "{table} was truncated, rewritten or got other partitions since the snapshot; it is copied again from a new one."
)
_EMPTIED = "{table} had been copied in part; those rows are gone and it is copied again from a new snapshot: {why}."
_GOES_ON = (
    "{table} had been copied in part: {done} of its {parts} parts stay; rows touched since ({touched} keys) come anew."
)
_AGAIN = "A part of {table} is copied again: {why}"
_LOST = "The copy's snapshot was lost; finished tables stay, the others are copied again from a new one."


def _part(piece: copies.Piece) -> Part:
    return Part(piece.part, piece.relation, piece.range_of, piece.lower, piece.upper)


def _piece(part: Part) -> copies.Piece:
    return copies.Piece(part.number, part.relation, part.column, part.lower, part.upper)


__all__ = ["CopyDriver", "from_lsns", "register", "restart_connected"]
