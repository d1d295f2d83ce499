"""The initial copy: tables in parallel, each at a snapshot, until every one is done, whatever dies meanwhile.

Decisions are `phases`'; one table's way is `table`; this file opens connections, starts workers, watches who queues
behind our locks, and takes a new snapshot when the one in hand is of no use any more. Refuses to touch the main slot.
The invariant: a table is copied at a snapshot whose position is stored with it, so that the stream can tell what the
copy already shows (G6).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping

import psycopg

from crossfade import failpoints, statements
from crossfade.catalog import TableName
from crossfade.copy import phases
from crossfade.copy.phases import State
from crossfade.copy.table import Stopped, TableCopy, TableRewritten, TableYielded
from crossfade.events import CopyState, Listener, Note
from crossfade.faults import Refused
from crossfade.lsn import Lsn
from crossfade.mapping.plan import Plan, TablePlan
from crossfade.session.connect import TARGET, Connection, connect, server_fault
from crossfade.source.snapshot import Snapshot, SnapshotGone, enter
from crossfade.target import idmap
from crossfade.wire.codec import CopyCodec
from crossfade.wire.idstate import IdState
from crossfade.wire.zones import Zone

_QUEUE_EVERY = 0.5
_ALERT_AFTER = 3
_FILL = 20_000

_QUEUERS = """
SELECT l.relation::bigint, holder, l.pid, coalesce(a.usename, '?')
FROM pg_locks l
CROSS JOIN LATERAL unnest(pg_blocking_pids(l.pid)) AS holder
LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE NOT l.granted AND l.locktype = 'relation' AND holder = ANY (%s::int[])
"""


class CopyDriver:
    """Copies what `crossfade.copy_tables` says is pending. `ends` tells that we are to stop."""

    def __init__(
        self,
        plan: Plan,
        *,
        source_dsn: str,
        target_dsn: str,
        slot: str,
        workers: int,
        lock_yield: bool,
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
        self._workers = workers
        self._lock_yield = lock_yield
        self._replica_role = replica_role
        self._ids = make_ids()
        self._zones = zones
        self._listener = listener
        self._ends = ends
        self._is_paused = is_paused
        self._tables = {table.target: table for table in plan.tables}
        self._waits = phases.parents(plan.tables, plan.target_foreign_keys, enforced=not replica_role)
        self._states: dict[TableName, State] = {}
        self._busy: dict[int, TableName] = {}  # source backend pid -> target table
        self._asked: set[TableName] = set()
        self._yields: Counter[TableName] = Counter()
        self._queuers: dict[TableName, str] = {}  # who waited last
        self._changed = asyncio.Event()
        self._allocator: Connection | None = None
        self._allocator_lock = asyncio.Lock()
        self._filled = False

    async def run(self, snapshot: Snapshot | None) -> bool:
        """Copy until nothing is pending; False when told to stop first.

        `snapshot` is that of the slot just created, or None after a restart; it is closed here.
        """
        control = await connect(self._target_dsn, purpose="copy control", endpoint="target", settings=TARGET)
        try:
            self._states = await _load(control, self._plan)
            if all(state is State.DONE for state in self._states.values()):
                return True
            if self._plan.keyspaces:
                self._allocator = await connect(
                    self._target_dsn, purpose="id allocator", endpoint="target", settings=TARGET
                )
            while not self._ends():
                if snapshot is None:
                    snapshot = await Snapshot.take(
                        self._source_dsn, self._slot, ends=self._ends, listener=self._listener
                    )
                    if snapshot is None:
                        return False
                    self._renew(self._states)
                try:
                    done = await self._round(snapshot)
                except BaseExceptionGroup as group:
                    gone, others = group.split(SnapshotGone)
                    if others is not None or gone is None:
                        raise
                    done = False
                    self._listener(Note("snapshot_lost", _LOST, "warning"))
                    self._states = await _load(control, self._plan)
                except SnapshotGone:
                    done = False
                    self._states = await _load(control, self._plan)
                await snapshot.close()
                snapshot = None
                if done:
                    return True
            return False
        finally:
            if snapshot is not None:
                await snapshot.close()
            if self._allocator is not None:
                await self._allocator.close()
            await control.close()

    def _renew(self, states: dict[TableName, State]) -> None:
        """Another snapshot shows other rows: stale tables may be tried again, parents that came since need ids."""
        self._filled = False
        for name, state in states.items():
            states[name] = phases.advance(state, phases.SnapshotRenewed())

    async def _round(self, snapshot: Snapshot) -> bool:
        """Everything that can be copied at this snapshot; True when all tables are done."""
        await self._fill_maps(snapshot)
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._worker(snapshot), name=f"copy.{number}")
            group.create_task(self._watch(snapshot), name="copy.locks")
        return all(state is State.DONE for state in self._states.values())

    def _is_over(self) -> bool:
        """Nothing runs and nothing can start: what is still pending waits for a table that needs a new snapshot."""
        if self._ends():
            return True
        runs = any(state is State.RUNNING for state in self._states.values())
        return not runs and not phases.runnable(self._plan.tables, self._states, self._waits)

    # workers -------------------------------------------------------------------------------------------------------

    async def _worker(self, snapshot: Snapshot) -> None:
        while not self._is_over():
            if self._is_paused():
                # What is being copied is finished, since giving it up would cost more; nothing new begins.
                await asyncio.sleep(_QUEUE_EVERY)
                continue
            ready = phases.runnable(self._plan.tables, self._states, self._waits)
            ready = [plan for plan in ready if plan.target not in self._asked] or ready
            if not ready:
                self._changed.clear()
                await self._changed.wait()
                continue
            plan = ready[0]
            if plan.target in self._asked:
                # Its queuer goes first: give it a moment.
                await asyncio.sleep(_QUEUE_EVERY)
                self._asked.discard(plan.target)
                if self._states[plan.target] is not State.PENDING:
                    continue
            self._move(plan.target, phases.Started())
            self._move(plan.target, await self._copy(plan, snapshot))

    def _move(self, table: TableName, event: phases.Event) -> None:
        self._states[table] = phases.advance(self._states[table], event)
        self._changed.set()

    async def _copy(self, plan: TablePlan, snapshot: Snapshot) -> phases.Event:
        """One attempt at one table, on connections of its own: whatever happens, they are given up with it."""
        self._tell(plan, "running", snapshot.consistent_point)
        source = await connect(self._source_dsn, purpose="copy", endpoint="source")
        try:
            target = await connect(self._target_dsn, purpose="copy", endpoint="target", settings=TARGET)
            try:
                self._busy[source.pgconn.backend_pid] = plan.target
                table = TableCopy(
                    plan,
                    workflow=self._plan.workflow,
                    codec=CopyCodec(plan, self._ids, self._zones),
                    ids=self._ids,
                    allocator=self._allocator,
                    allocator_lock=self._allocator_lock,
                    replica_role=self._replica_role,
                    from_lsn=snapshot.consistent_point,
                    listener=self._listener,
                    wants_out=lambda: self._wants_out(plan.target),
                )
                try:
                    await self._unless_wanted_out(table, table.run(source, target, snapshot.name), plan.target)
                except TableYielded:
                    self._yielded(plan)
                    return phases.Yielded()
                except TableRewritten:
                    self._listener(Note("table_rewritten", _REWRITTEN.format(table=plan.source), "warning"))
                    self._tell(plan, "pending", snapshot.consistent_point)
                    return phases.Rewritten()
                except Stopped:
                    return phases.Yielded()
                self._remark(plan, table)
                return phases.Finished()
            finally:
                await target.close()
        finally:
            self._busy.pop(source.pgconn.backend_pid, None)
            await _give_up(source)

    async def _unless_wanted_out(self, copy: TableCopy, work: Coroutine[None, None, None], table: TableName) -> None:
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

    def _wants_out(self, table: TableName) -> type[Exception] | None:
        if self._ends():
            return Stopped
        return TableYielded if table in self._asked else None

    def _yielded(self, plan: TablePlan) -> None:
        self._asked.add(plan.target)
        self._yields[plan.target] += 1
        self._tell(plan, "pending", Lsn(0))
        if self._yields[plan.target] >= _ALERT_AFTER:
            self._listener(
                Note(
                    "copy_yields",
                    f"The copy of {plan.source} gave way {self._yields[plan.target]} times to sessions that want a lock"
                    f" on it, the last one {self._queuers.get(plan.target, 'unknown')}. Let their ALTER TABLE or"
                    " TRUNCATE run to its end, or set copy.lock_yield = false.",
                    "warning",
                    alert=True,
                )
            )

    def _remark(self, plan: TablePlan, table: TableCopy) -> None:
        if table.orphans:
            self._listener(
                Note(
                    "orphan_ids",
                    f"{table.orphans} references of {plan.source} have no parent; they were given ids all the same.",
                    "warning",
                )
            )
        for what, times in table.clock_notes.items():
            self._listener(
                Note(
                    "clock_changes",
                    f"{times} local times of {plan.source} fell into a clock {what}; the mapping's policy was applied.",
                    "info",
                )
            )
        if self._yields[plan.target] >= _ALERT_AFTER:
            self._listener(Note("copy_yields", f"{plan.source} is copied.", "info", alert=True, cleared=True))

    def _tell(self, plan: TablePlan, state: str, from_lsn: Lsn) -> None:
        self._listener(
            CopyState(
                plan.source,
                plan.target,
                state,
                rows=0,
                bytes=0,
                rows_estimated=plan.row_estimate,
                from_lsn=from_lsn,
                yields=self._yields[plan.target],
            )
        )

    # watching ------------------------------------------------------------------------------------------------------

    async def _watch(self, snapshot: Snapshot) -> None:
        """Twice a second: who queues behind our locks, and does the snapshot still live?"""
        watcher = await connect(self._source_dsn, purpose="copy locks", endpoint="source")
        try:
            while not self._is_over():
                if self._lock_yield and self._busy:
                    cursor = await watcher.execute(_QUEUERS, (list(self._busy),))
                    for _, holder, pid, user in await cursor.fetchall():
                        table = self._busy.get(int(str(holder)))
                        if table is not None and table not in self._asked:
                            self._asked.add(table)
                            self._queuers[table] = f"session {pid} ({user})"
                            self._listener(
                                Note(
                                    "copy_yields_once",
                                    f"The copy of {self._tables[table].source} lets {self._queuers[table]} go first,"
                                    " which waits for a lock behind it.",
                                    "info",
                                )
                            )
                await snapshot.check()
                self._changed.set()
                await asyncio.sleep(_QUEUE_EVERY)
        except psycopg.Error as error:
            raise server_fault(error, where="source, watching locks") from None
        finally:
            self._changed.set()
            await watcher.close()

    # ids -----------------------------------------------------------------------------------------------------------

    async def _fill_maps(self, snapshot: Snapshot) -> None:
        """Give every parent its id before any table is copied: the parent column first, then nobody has to wait."""
        if self._filled or self._allocator is None:
            return
        source = await connect(self._source_dsn, purpose="id maps", endpoint="source")
        try:
            await enter(source, snapshot.name)
            for name, keyspace in self._plan.keyspaces.items():
                async with source.cursor(name="ids") as cursor:
                    await cursor.execute(statements.owner_ids(keyspace))
                    while rows := await cursor.fetchmany(_FILL):
                        olds = {str(row[0]).encode() for row in rows if row[0] is not None}
                        await idmap.allocate_ahead(self._allocator, self._ids[name], olds)
                        if self._ends():
                            return
            failpoints.reached("after_id_maps")
        except psycopg.Error as error:
            raise server_fault(error, where="filling the id maps") from None
        finally:
            await _give_up(source)
        self._filled = True


_REWRITTEN = (
    "{table} was truncated, rewritten or got other partitions since the snapshot; it is copied again from a new one."
)
_LOST = "The copy's snapshot was lost; finished tables stay, the others are copied again from a new one."


async def _give_up(source: Connection) -> None:
    """Close a connection that may be in the middle of a COPY, and make the server notice at once, for its locks."""
    if not source.closed and source.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
        with contextlib.suppress(psycopg.Error):  # then it will notice at its next write
            await source.cancel_safe(timeout=5.0)
    await source.close()


async def _load(connection: Connection, plan: Plan) -> dict[TableName, State]:
    cursor = await connection.execute(
        "SELECT target_schema, target_name, state FROM crossfade.copy_tables WHERE workflow = %s", (plan.workflow,)
    )
    stored = {TableName(str(row[0]), str(row[1])): State(str(row[2])) for row in await cursor.fetchall()}
    return {table.target: stored.get(table.target, State.PENDING) for table in plan.tables}


async def register(connection: Connection, plan: Plan) -> None:
    """Write every table as pending, once; what is there stays."""
    async with connection.transaction():
        for table in plan.tables:
            await connection.execute(
                "INSERT INTO crossfade.copy_tables (workflow, target_schema, target_name, source_schema, source_name,"
                " state, rows_estimated) VALUES (%s, %s, %s, %s, %s, 'pending', %s) ON CONFLICT DO NOTHING",
                (plan.workflow, *table.target, *table.source, table.row_estimate),
            )


async def restart_connected(connection: Connection, plan: Plan, *, enforced: bool) -> None:
    """Refuse to go on where a snapshot was lost in the middle of tables tied by enforced foreign keys.

    Such tables must all be copied at one snapshot; those already done hold rows, which only an operator may remove.
    """
    states = await _load(connection, plan)
    waits = phases.parents(plan.tables, plan.target_foreign_keys, enforced=enforced)
    pending = [name for name, state in states.items() if state is not State.DONE]
    tied = sorted(name for name in phases.connected(pending, waits) if states[name] is State.DONE)
    if pending and tied:
        raise Refused(
            "The copy was interrupted in the middle of tables that are tied by foreign keys the target enforces.",
            where=", ".join(map(str, tied)),
            means="They must be copied from one snapshot; those named are copied, others are not.",
            do="`crossfade teardown`, empty the target tables, `crossfade run`; or grant our role SET ON PARAMETER"
            " session_replication_role, which lifts this.",
        )


async def from_lsns(connection: Connection, plan: Plan) -> dict[TableName, Lsn]:
    """Per source table, the position before which the copy already shows its changes."""
    cursor = await connection.execute(
        "SELECT source_schema, source_name, from_lsn::text FROM crossfade.copy_tables WHERE workflow = %s"
        " AND from_lsn IS NOT NULL",
        (plan.workflow,),
    )
    return {TableName(str(row[0]), str(row[1])): Lsn.parse(str(row[2])) for row in await cursor.fetchall()}


__all__ = ["CopyDriver", "from_lsns", "register", "restart_connected"]
