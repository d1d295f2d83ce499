"""Brings what is there of an unfinished table from one snapshot to the next, so that its finished parts need not be
read again.

A row that nobody touched in between is where it was and what it was: in the same part, and on the target if that part
is done. So the touched rows are taken out of the target, all of them, and those that lie in finished parts now are
taken in as the new snapshot shows them. What is there then is what would be there if the finished parts had been read
at the new snapshot, and the copy goes on as if they had. Refuses to find out which rows were touched
(`source/touched`) and whether rows may have moved (`keeping`). The invariant: taking out, taking in and the word that
it has happened are one target transaction; before it the parts show the one snapshot, after it the other.

PostgreSQL: ddl-system-columns ("ctid"), storage-hot, sql-vacuum: only what rewrites a table moves rows, to a new file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from crossfade import failpoints, statements
from crossfade.catalog import TableName
from crossfade.copy.part import PartCopy, faults_told, lock
from crossfade.copy.parts import Part
from crossfade.faults import RowRefused
from crossfade.mapping.plan import TablePlan
from crossfade.pgoutput.messages import Cell, Form
from crossfade.session.connect import Connection, result_fault
from crossfade.source import snapshot
from crossfade.source.touched import Key, Touched
from crossfade.state import copies
from crossfade.target import idmap
from crossfade.target.pipeline import Pipeline, Statement, StatementFailed
from crossfade.wire.codec import RowCodec
from crossfade.wire.idstate import IdState
from crossfade.wire.remarks import Remarks
from crossfade.wire.zones import Zone

_OUT: Final = 500  # statements in one round trip
_IN: Final = 5_000  # keys in one query


class Forward:
    """One table's way from the snapshot `touched` begins with to that of `mark`. To the driver it is like a `PartCopy`.

    `done` are the finished parts, `make` makes what copies a few rows of the table, and `ids` are empty caches over the
    kept maps.
    """

    def __init__(
        self,
        plan: TablePlan,
        touched: Touched,
        done: Sequence[Part],
        *,
        mark: copies.Mark,
        make: Callable[[], PartCopy],
        ids: Mapping[str, IdState],
        zones: Mapping[str, Zone],
        wants_out: Callable[[], type[Exception] | None],
    ) -> None:
        self._plan = plan
        self._touched = touched
        self._done = done
        self._mark = mark
        self._make = make
        self._ids = ids
        self._zones = zones
        self._wants_out = wants_out
        self.remarks = Remarks()
        self.orphans = 0
        self.has_read = False
        self.rows = 0  # more than before, or less
        self.bytes = 0

    async def run(self, source: Connection, target: Connection, snapshot_name: str) -> None:
        """Do it and commit. Raises what `PartCopy.run` raises, with both transactions given up."""
        plan = self._plan
        where = f"bringing {plan.target} to another snapshot of {plan.source}"
        with faults_told(plan, where):
            await snapshot.enter(source, snapshot_name)
            await lock(source, plan)
            await target.execute("BEGIN")
            await copies.hold(target, self._mark, shows=self._touched.since)
            await target.execute("SET LOCAL session_replication_role = replica")
            if not failpoints.is_on("forget_touched"):
                await self._take_out(target)
                await self._take_in(source, target)
            if failpoints.is_on("refuse_forward"):
                raise RowRefused("Refused by a failpoint.")
            self.has_read = True
            await source.execute("ROLLBACK")
            await copies.forwarded(target, self._mark, shows=self._touched.since, rows=self.rows)
            failpoints.reached("before_forward_commit")
            await target.execute("COMMIT")
            failpoints.reached("after_forward_commit")

    async def _take_out(self, target: Connection) -> None:
        """Every row that was touched, wherever it was: its key as it was then leads to it."""
        relation = self._touched.relation
        if relation is None:
            return
        codec = RowCodec(relation, self._plan, self._ids, self._zones, Form.TEXT)
        await target.execute("DEALLOCATE ALL")  # another table's, on the same line
        pipeline = Pipeline(target)
        text = statements.delete(self._plan)
        for some in self._some(_OUT):
            images = [self._image(key, len(relation.columns)) for key in some]
            wanted: dict[str, set[bytes]] = {name: set() for name in self._ids}
            for state in self._ids.values():
                state.make_room()
            for image in images:
                codec.ids_in(image, wanted)
            await idmap.look_up(pipeline, self._ids, wanted)
            keys = [codec.key_of_old(image, None, self.remarks) for image in images]
            try:
                # What was not there, because it came later or is of a part that is not copied, is not there.
                gone = await pipeline.run([Statement(text, key.cells) for key in keys if key.cells])
            except StatementFailed as failed:
                raise result_fault(failed.result, where=str(self._plan.target)) from None
            self.rows -= sum(gone)

    async def _take_in(self, source: Connection, target: Connection) -> None:
        """Those that are there at the new snapshot and lie in a finished part."""
        columns = {column.name: column for column in self._plan.source_columns}
        identity = [columns[name] for name in self._plan.identity]
        for relation, ranges in self._ranges().items():
            condition = statements.in_ranges(relation[1], ranges)
            for some in self._some(_IN):
                texts = [[value.decode() for value in key] for key in some]
                copy = self._make()
                await copy.fetch(
                    source, target, relation[0], statements.both(statements.among(identity, texts), condition)
                )
                self.rows += copy.rows
                self.bytes += copy.bytes
                self.orphans += copy.orphans
                self.remarks.clock.update(copy.remarks.clock)

    def _ranges(self) -> dict[tuple[TableName | None, str], list[tuple[int | None, int | None]]]:
        """The finished parts by what they are cut of and by, neighbours made one."""
        found: dict[tuple[TableName | None, str], list[tuple[int | None, int | None]]] = {}
        for part in sorted(self._done, key=lambda each: each.number):
            ranges = found.setdefault((part.relation, part.column), [])
            if ranges and part.lower is not None and ranges[-1][1] == part.lower:
                ranges[-1] = ranges[-1][0], part.upper
            else:
                ranges.append((part.lower, part.upper))
        return found

    def _image(self, key: Key, width: int) -> tuple[Cell, ...]:
        """An old row as a server would name it: the key, and nothing else."""
        cells: list[Cell] = [None] * width
        for place, value in zip(self._touched.places, key, strict=True):
            cells[place] = value
        return tuple(cells)

    def _some(self, count: int) -> Iterator[list[Key]]:
        """The keys, so many at a time; between two of them others may want us out."""
        keys = sorted(self._touched.keys)
        for start in range(0, len(keys), count):
            reason = self._wants_out()
            if reason is not None:
                raise reason
            yield keys[start : start + count]
