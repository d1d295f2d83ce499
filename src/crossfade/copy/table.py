"""Copies one table at one snapshot: rows out, reshaped block by block, into the target, done-mark and all.

Refuses to choose tables, snapshots or when to try again. The invariant: the rows and the mark that says they are there
are one target transaction (G5, G16), so whatever happens, a table is copied entirely or not at all.

PostgreSQL: sql-copy, protocol-flow ("COPY Operations"), mvcc-caveats.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

import psycopg
from psycopg import generators, pq

from crossfade import failpoints, statements
from crossfade.events import CopyState, Listener
from crossfade.faults import Fault, Fenced, RowRefused
from crossfade.lsn import Lsn
from crossfade.mapping.plan import OnOrphan, TablePlan
from crossfade.session.connect import Connection, result_fault, server_fault
from crossfade.session.drain import Drain
from crossfade.source import snapshot
from crossfade.target import idmap
from crossfade.wire.codec import CopyCodec
from crossfade.wire.idstate import IdState
from crossfade.wire.remarks import Remarks

# A block is converted at once and its unknown ids asked for in one query.
_BLOCK_ROWS: Final = 5_000
_BLOCK_BYTES: Final = 512 * 1024
_TELL_EVERY: Final = 0.5

# What the snapshot shows (pg_class, pg_inherits) beside what is there now: to_regclass(), pg_relation_filenode() and
# pg_partition_tree() look past the snapshot.
_SEEN: Final = """
WITH RECURSIVE seen (oid, relkind, relfilenode) AS (
    SELECT c.oid, c.relkind, c.relfilenode FROM pg_class c WHERE c.oid = %(oid)s::bigint::oid
    UNION ALL
    SELECT c.oid, c.relkind, c.relfilenode
    FROM seen JOIN pg_inherits i ON i.inhparent = seen.oid JOIN pg_class c ON c.oid = i.inhrelid
    WHERE %(partitioned)s
)
SELECT coalesce(to_regclass(%(name)s)::oid = %(oid)s::bigint::oid, false),
       bool_and(relkind <> 'r' OR relfilenode IS NOT DISTINCT FROM pg_relation_filenode(oid::regclass)),
       count(*) FILTER (WHERE relkind = 'r'),
       CASE WHEN %(partitioned)s
            THEN (SELECT count(*) FROM pg_partition_tree(to_regclass(%(name)s)) t WHERE t.isleaf AND t.level > 0)
            ELSE 1 END
FROM seen
"""


class TableYielded(Exception):
    """Somebody waits for a lock behind ours."""


class TableRewritten(Exception):
    """The snapshot cannot show this table any more: it was truncated, rewritten, or lost or got partitions."""


class Stopped(Exception):
    """We were told to stop: what is in flight is abandoned."""


class TableCopy:
    """One table's way from `source` to `target`. `wants_out` is asked between blocks.

    Until `has_read` it may be cancelled at any time; afterwards it holds nothing on the source, and a cancelled COMMIT
    would leave nobody knowing whether the table is copied.
    """

    def __init__(
        self,
        plan: TablePlan,
        *,
        workflow: str,
        codec: CopyCodec,
        ids: Mapping[str, IdState],
        allocator: Connection | None,
        allocator_lock: asyncio.Lock,
        replica_role: bool,
        from_lsn: Lsn,
        listener: Listener,
        wants_out: Callable[[], type[Exception] | None],
    ) -> None:
        self._plan = plan
        self._workflow = workflow
        self._codec = codec
        self._ids = ids
        self._allocator = allocator
        self._allocator_lock = allocator_lock
        self._replica_role = replica_role
        self._from_lsn = from_lsn
        self._listener = listener
        self._wants_out = wants_out
        self._remarks = Remarks()
        self._orphans = 0
        self.has_read = False
        self.rows = 0
        self.bytes = 0

    async def run(self, source: Connection, target: Connection, snapshot_name: str) -> None:
        """Copy and commit. Raises TableYielded, TableRewritten, Stopped or a Fault with both transactions given up."""
        plan = self._plan
        where = f"copying {plan.source} to {plan.target}"
        try:
            await snapshot.enter(source, snapshot_name)
            await self._lock(source)
            await target.execute("BEGIN")
            if self._replica_role and not plan.applied_as_origin:
                await target.execute("SET LOCAL session_replication_role = replica")
            else:
                await target.execute("SET CONSTRAINTS ALL DEFERRED")
            await self._rows(source, target)
            self.has_read = True
            # Every row is read: nobody on the source need wait for the target's COMMIT.
            await source.execute("ROLLBACK")
            await self._mark(target)
            failpoints.reached("before_copy_table_commit")
            await target.execute("COMMIT")
            failpoints.reached("after_copy_table_commit")
        except psycopg.Error as error:
            raise server_fault(error, where=where) from None
        except Fault as fault:
            fault.where = f"{where}: {fault.where}" if fault.where else where
            raise
        self._tell("done")

    async def _lock(self, source: Connection) -> None:
        """ACCESS SHARE, then see whether the snapshot still shows what the table holds (G11, G12)."""
        plan = self._plan
        name = statements.table(plan.source)
        await source.execute("SET LOCAL lock_timeout = '2s'")
        try:
            await source.execute(statements.lock(plan.source, is_partitioned=plan.is_partitioned))
        except psycopg.errors.LockNotAvailable:
            raise TableYielded from None
        except psycopg.errors.UndefinedTable:
            raise TableRewritten from None
        await source.execute("SET LOCAL lock_timeout = 0")
        cursor = await source.execute(
            _SEEN,
            {"oid": plan.source_oid, "name": name.as_string(source), "partitioned": plan.is_partitioned},
        )
        row = await cursor.fetchone()
        if row is None or not row[0] or not row[1] or row[2] != row[3]:
            raise TableRewritten

    async def _rows(self, source: Connection, target: Connection) -> None:
        await _start_copy_out(source, self._plan)
        async with target.cursor().copy(statements.copy_in(self._plan)) as into:
            drain = Drain(source, where=f"source, reading {self._plan.source}")
            told = time.monotonic()
            block: list[bytes] = []
            size = 0
            while not drain.is_finished:
                drain.consume()
                for frame in drain.frames():
                    block.append(_line(frame))
                    size += len(frame)
                    del frame
                    if size >= _BLOCK_BYTES or len(block) >= _BLOCK_ROWS:
                        await self._send(into, block, size)
                        size = 0
                reason = self._wants_out()
                if reason is not None:
                    raise reason
                failpoints.reached("in_copy")
                if time.monotonic() - told >= _TELL_EVERY:
                    told = time.monotonic()
                    self._tell("running")
                if not drain.is_finished:
                    await drain.wait(0.5)
            await self._send(into, block, size)

    async def _send(self, into: psycopg.AsyncCopy, block: list[bytes], size: int) -> None:
        """Reshape a block and hand it to the target; empties the block."""
        rows = len(block)
        if not self._codec.is_verbatim:
            await self._know_ids(block)
            self._codec.convert(block, self._remarks)
        if size < 4 * _BLOCK_BYTES:
            await into.write(b"".join(block))
        else:  # a huge row is not copied once more
            for line in block:
                await into.write(line)
        block.clear()
        self.rows += rows
        self.bytes += size

    async def _know_ids(self, block: list[bytes]) -> None:
        """Every id of the block has an entry before the block is converted (edge-cases 0.13, I1, I3)."""
        wanted: dict[str, set[bytes]] = {name: set() for name in self._ids}
        self._codec.ids_in(block, wanted)
        async with self._allocator_lock:
            for name, olds in wanted.items():
                if not olds:
                    continue
                assert self._allocator is not None
                created = await idmap.allocate_ahead(self._allocator, self._ids[name], olds)
                if created and self._plan.policies.orphan_id is OnOrphan.ERROR and self._plan.owns != name:
                    raise RowRefused(
                        f"{created} references have no parent in {self._ids[name].keyspace.owner}, and the mapping says"
                        " `orphan_id: error`.",
                        where=str(self._plan.source),
                        means="The table is not copied.",
                        do="Mend the references on the source, or set `orphan_id: allocate` and restart the daemon.",
                    )
                self._orphans += created if self._plan.owns != name else 0

    async def _mark(self, target: Connection) -> None:
        """Compare-and-set: a session that outlived its daemon, or its lead, may be about to mark the same table."""
        cursor = await target.execute(
            "UPDATE crossfade.copy_tables SET state = 'done', from_lsn = %s::pg_lsn, copied_rows = %s,"
            " copied_bytes = %s, finished_at = now()"
            " WHERE workflow = %s AND target_schema = %s AND target_name = %s AND state = 'pending'",
            (str(self._from_lsn), self.rows, self.bytes, self._workflow, *self._plan.target),
        )
        if cursor.rowcount != 1:
            raise Fenced(
                "Another session copied this table first.",
                means="Our copy of it was rolled back; its rows are there once.",
                do="Nothing: what is left to copy is read again.",
            )

    @property
    def orphans(self) -> int:
        """References that had no parent and were given an id all the same (I3)."""
        return self._orphans

    @property
    def clock_notes(self) -> Mapping[str, int]:
        """Local times that fell into a gap or an overlap."""
        return self._remarks.clock

    def _tell(self, state: str) -> None:
        self._listener(
            CopyState(
                source=self._plan.source,
                target=self._plan.target,
                state=state,
                rows=self.rows,
                bytes=self.bytes,
                rows_estimated=self._plan.row_estimate,
                from_lsn=self._from_lsn,
            )
        )


def _line(frame: memoryview) -> bytes:
    """The bytes behind a frame: psycopg hands out a view of a whole bytes object, which need not be copied."""
    behind = frame.obj
    return behind if isinstance(behind, bytes) and len(behind) == len(frame) else bytes(frame)


async def _start_copy_out(connection: Connection, plan: TablePlan) -> None:
    """Put the connection into COPY mode; the rows are then read by a `Drain`, many per wake-up."""
    pgconn = connection.pgconn
    pgconn.send_query(statements.copy_out(plan).as_bytes(connection))
    results = await connection.wait(generators.execute(pgconn))
    if results[0].status != pq.ExecStatus.COPY_OUT:
        raise result_fault(results[0], where=str(plan.source))
