"""Copies one part of a table at one snapshot: rows out, reshaped where they must be, into the target, mark and all.

Refuses to choose tables, parts, snapshots or when to try again. The invariant: the rows and the mark that says they are
there are one target transaction (G5, G16), so whatever happens, a part is copied entirely or not at all.

PostgreSQL: sql-copy, protocol-flow ("COPY Operations"), mvcc-caveats.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Final

import psycopg
from psycopg import generators, pq, sql

from crossfade import failpoints, statements
from crossfade.catalog import TableName
from crossfade.copy.computed import ComputedCodec
from crossfade.copy.ids import Ids, PassingIds
from crossfade.copy.parts import Part
from crossfade.copy.passage import Passage
from crossfade.copy.sockets import Inlet, Outlet
from crossfade.faults import Fault
from crossfade.mapping.plan import TablePlan
from crossfade.session.connect import Connection, result_fault, server_fault
from crossfade.session.drain import Drain
from crossfade.source import snapshot
from crossfade.state import copies
from crossfade.target.collision import collided
from crossfade.wire.copycodec import CopyCodec
from crossfade.wire.form import Form
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


class PartCopy:
    """One part's way from `source` to `target`. `wants_out` is asked between blocks, `progressed` told twice a second.

    Until `has_read` it may be cancelled at any time; afterwards it holds nothing on the source, and a cancelled COMMIT
    would leave nobody knowing whether the part is copied.
    """

    def __init__(
        self,
        plan: TablePlan,
        part: Part,
        *,
        passage: Passage,
        mark: copies.Mark,
        codec: CopyCodec | ComputedCodec,
        ids: Ids,
        passing: PassingIds | None,
        replica_role: bool,
        past_libpq: bool,
        is_plain: bool,
        wants_out: Callable[[], type[Exception] | None],
        progressed: Callable[[], None],
    ) -> None:
        self._plan = plan
        self._part = part
        self._passage = passage
        self._mark = mark
        self._codec = codec
        self._ids = ids
        self._passing = passing
        self._replica_role = replica_role
        self._past_libpq = past_libpq
        self._is_plain = is_plain  # the target's connection
        self._wants_out = wants_out
        self._progressed = progressed
        self._told = time.monotonic()
        self.remarks = Remarks()
        self.orphans = 0  # references that had no parent and were given an id all the same (I3)
        self._inlet: Inlet
        self._written = 0
        self._left_out = 0  # rows that the table's condition does not take
        self.has_read = False
        self.rows = 0
        self.bytes = 0

    async def run(self, source: Connection, target: Connection, snapshot_name: str) -> None:
        """Copy and commit. Raises TableYielded, TableRewritten, Stopped or a Fault with both transactions given up.

        With `past_libpq` the source connection is used up afterwards, else both are as they were.
        """
        plan = self._plan
        where = f"copying {plan.source} to {plan.target}"
        with faults_told(plan, where):
            await snapshot.enter(source, snapshot_name)
            await lock(source, plan)
            await target.execute("BEGIN")
            if self._replica_role and not plan.applied_as_origin:
                await target.execute("SET LOCAL session_replication_role = replica")
            else:
                await target.execute("SET CONSTRAINTS ALL DEFERRED")
            await self._rows(source, target)
            self.has_read = True
            # Every row is read: nobody on the source need wait for the target's COMMIT.
            if self._past_libpq:
                await source.close()
            else:
                await source.execute("ROLLBACK")
            if failpoints.is_on("mark_apart"):
                await target.execute("COMMIT")
                failpoints.reached("rows_without_mark")
            await copies.write(target, self._mark, rows=self.rows, size=self.bytes)
            unit = "table" if self._mark.part is None else "part"
            failpoints.reached(f"before_copy_{unit}_commit")
            await target.execute("COMMIT")
            failpoints.reached(f"after_copy_{unit}_commit")

    # rows ----------------------------------------------------------------------------------------------------------

    async def _rows(self, source: Connection, target: Connection) -> None:
        part = self._part
        upper = part.upper
        if upper is None and part.column == "ctid" and failpoints.is_on("closed_last_part"):
            upper = await _pages_estimated(source, self._plan)
        await self.fetch(source, target, part.relation, statements.in_range(part.column, part.lower, upper))

    async def fetch(
        self, source: Connection, target: Connection, relation: TableName | None, rows: sql.Composable | None
    ) -> None:
        """Rows of `relation` (None: of the table itself) for which `rows` holds, in the transactions that are open on
        both sides. Once."""
        is_binary = self._passage.form is Form.BINARY
        query = statements.copy_out(
            self._plan,
            columns=self._passage.columns,
            relation=relation,
            only_rows=statements.only(self._plan, rows),
            is_binary=is_binary,
        ).as_bytes(source)
        self._inlet = await self._open(target)
        try:
            read = await (self._past(source, query) if self._past_libpq else self._through(source, query))
            await self._shut()
        finally:
            self._inlet.close()
        if read != self._written + self._left_out:
            raise Fault(
                f"The source sent {read} rows and the target took {self._written}.",
                where=str(self._plan.target),
                means="The part was rolled back.",
                do="Look for a trigger or rule on the target table that keeps rows from being written.",
            )
        await self._write_ids(target)
        self.rows = self._written
        self._progressed()

    async def _open(self, target: Connection) -> Inlet:
        """A COPY into the table; there are several where entries of an id map go in between."""
        is_binary = self._passage.form is Form.BINARY
        inlet = Inlet(target, is_plain=self._is_plain, where=f"target, writing {self._plan.target}")
        await inlet.start(statements.copy_in(self._plan, is_binary=is_binary).as_bytes(target))
        if not self._passage.is_verbatim:
            await inlet.put(self._codec.header)
        return inlet

    async def _shut(self) -> None:
        if not self._passage.is_verbatim:
            await self._inlet.put(self._codec.trailer)
        self._written += await self._inlet.finish()
        self._inlet.close()

    async def _write_ids(self, target: Connection) -> None:
        """The entries gathered so far, in the transaction of the rows that use them."""
        if self._passing is None:
            return
        entries = Inlet(target, is_plain=False, where=f"target crossfade.id_{self._passing.name}")
        try:
            await entries.start(self._passing.copy_in)
            for data in self._passing.take():
                await entries.put(data)
            await entries.finish()
        finally:
            entries.close()

    async def _past(self, source: Connection, query: bytes) -> int:
        """Over the bare socket; returns the rows that the source says it sent."""
        outlet = Outlet(source, where=f"source, reading {self._plan.source}")
        try:
            await outlet.start(query)
            while not outlet.is_finished:
                if self._passage.is_verbatim and self._is_plain:
                    for run in await outlet.runs():
                        self.bytes += len(run)
                        await self._inlet.pass_on(run)
                    self.rows = outlet.messages
                else:
                    await self._send(await outlet.rows())
                await self._pause()
            return outlet.count
        finally:
            outlet.close()

    async def _through(self, source: Connection, query: bytes) -> int:
        """Through libpq, a message at a time."""
        where = f"source, reading {self._plan.source}"
        source.pgconn.send_query(query)
        results = await source.wait(generators.execute(source.pgconn))
        if results[0].status != pq.ExecStatus.COPY_OUT:
            raise result_fault(results[0], where=where)
        drain = Drain(source, where=where)
        try:
            while not drain.is_finished:
                await self._send(drain.take(_BLOCK_BYTES, _BLOCK_ROWS))
                await self._pause()
                if not drain.is_finished and not drain.holds_more:
                    await drain.wait(0.5)
        finally:
            drain.close()  # the connection is used on
        # In binary the last message is no row (sql-copy, "Binary Format").
        return self.rows - (self._passage.form is Form.BINARY)

    async def _pause(self) -> None:
        """Between blocks: let others run, tell how far we are, and ask whether to go on."""
        reason = self._wants_out()
        if reason is not None:
            raise reason
        failpoints.reached("in_copy")
        now = time.monotonic()
        if now - self._told >= _TELL_EVERY:
            self._told = now
            self._progressed()
        await asyncio.sleep(0)

    async def _send(self, rows: list[bytes]) -> None:
        """Reshape a block where needed and hand it to the target; empties the block."""
        if not rows:
            return
        self.rows += len(rows)
        self.bytes += sum(map(len, rows))
        if not self._passage.is_verbatim:
            block = self._codec.read(rows)
            if isinstance(self._codec, ComputedCodec):
                count = len(block.offsets)
                block = await self._codec.derived(block)
                self._left_out += count - len(block.offsets)
            wanted: dict[str, list[bytes]] = {name: [] for name in self._ids.states}
            self._codec.ids_in(block, wanted)
            if self._passing is not None:
                self._passing.make(wanted.pop(self._passing.name))
            self.orphans += await self._ids.know(wanted, self._plan)
            await self._inlet.put(self._codec.convert(block, self.remarks))
            if self._passing is not None and self._passing.is_full:
                await self._shut()
                await self._write_ids(self._inlet.connection)
                self._inlet = await self._open(self._inlet.connection)
        elif len(rows) > 1:
            data = b"".join(rows)
            rows.clear()
            await self._inlet.put(data)
        else:  # a huge row is not copied once more
            await self._inlet.put(rows.pop())


@contextlib.contextmanager
def faults_told(plan: TablePlan, where: str) -> Iterator[None]:
    """Whatever goes wrong inside becomes a Fault that says where, and whose rows met whose."""
    try:
        yield
    except psycopg.Error as error:
        raise collided(server_fault(error, where=where), plan) from None
    except Fault as fault:
        collided(fault, plan)
        fault.where = f"{where}: {fault.where}" if fault.where else where
        raise


async def lock(source: Connection, plan: TablePlan) -> None:
    """ACCESS SHARE, then see whether the snapshot still shows what the table holds (G11, G12)."""
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


async def _pages_estimated(source: Connection, plan: TablePlan) -> int:
    cursor = await source.execute("SELECT relpages FROM pg_class WHERE oid = %s::bigint::oid", (plan.source_oid,))
    row = await cursor.fetchone()
    return int(str(row[0])) if row else 0
