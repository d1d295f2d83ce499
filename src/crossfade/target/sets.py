"""The set level and the final state: a folded batch, written with one statement for all rows of a kind in a table.

The set level deletes, updates and inserts; every row count is compared with what was sent. Final state, for values and
keys that move between rows, takes every touched row out and puts it back as it is to be. Both raise `Unfit` for
whatever they cannot do or did not find as expected, and the caller goes down a level (decision 0011). Refuses to know
transactions of the source and when to commit. The invariant: after a call that returned, the target transaction holds
exactly the batch; after one that raised, the caller rolls back to before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from crossfade.catalog import Route, TableName
from crossfade.events import Operation
from crossfade.faults import ProtocolViolation, RowRefused, Transient, Unreachable
from crossfade.mapping.plan import Plan, TablePlan
from crossfade.pgoutput.messages import Form, Relation
from crossfade.session.connect import result_fault
from crossfade.target import arrays, idmap, setforms
from crossfade.target.evaluate import Evaluator
from crossfade.target.pipeline import Pipeline, Statement, StatementFailed
from crossfade.target.planages import DISCARD, PlanAges
from crossfade.target.tally import Tally
from crossfade.wire import derive
from crossfade.wire.batch import Batch
from crossfade.wire.encode import Encoder, UnknownId
from crossfade.wire.fold import Folded, Rows, TableFold
from crossfade.wire.idstate import IdState, in_order
from crossfade.wire.remarks import Remarks
from crossfade.wire.zones import Zone

# Rows from which COPY is cheaper than arrays in the same round trip as everything else.
_COPY_FROM: Final = 200
# Bytes of COPY data made at a time: the target works on one while the next is made, and memory stays small.
_CHUNK_BYTES: Final = 256 * 1024

_SET_REPLICA: Final = Statement(b"SET LOCAL session_replication_role = replica")
_SET_ORIGIN: Final = Statement(b"SET LOCAL session_replication_role = origin")

# For the apply session. The statements are planned once, whatever the statistics say of tables just filled (H9, H13).
_SESSION: Final = (
    b"SELECT set_config('plan_cache_mode', 'force_generic_plan', false), set_config('enable_hashjoin', 'off', false),"
    b" set_config('enable_mergejoin', 'off', false)"
)
# For the session, since each change of it throws all plans away: making those of a small transaction anew took a third
# of the time it took the server.
_REPLICA: Final = b", set_config('session_replication_role', 'replica', false)"
# What is left is to look every row up by the key's index: a bitmap scan is the one way to read a table that cannot do
# without a condition. With the others on, a plan made for a tiny table reads all of it for each row that was sent, and
# goes on doing so when the table has grown. It costs 0.7 us of 7 for a row (PostgreSQL 15). Not for the other levels:
# rows without a key can only be found by a scan.
_BY_INDEX: Final = Statement(
    b"SELECT set_config('enable_seqscan', 'off', true), set_config('enable_indexscan', 'off', true),"
    b" set_config('enable_indexonlyscan', 'off', true)"
)


def session(*, replica_role: bool) -> bytes:
    """What sets a connection up for us, before the first transaction."""
    return _SESSION + _REPLICA if replica_role else _SESSION


class Unfit(Exception):
    """This level cannot apply the batch. `reason` is a word of the metric; `where` a table, for the log."""

    def __init__(self, reason: str, where: str = "") -> None:
        super().__init__(f"{reason} {where}".strip())
        self.reason = reason
        self.where = where


@dataclass(slots=True)
class TableChanges:
    """One table of the batch: what happens to its rows and how they are written."""

    fold: TableFold
    rows: Folded
    encoder: Encoder
    evaluator: Evaluator | None = None

    @property
    def plan(self) -> TablePlan:
        return self.fold.plan

    @property
    def is_filtered(self) -> bool:
        """Rows of the source may be missing on the target, as they should be."""
        return self.fold.plan.where is not None


@dataclass(slots=True)
class _Step:
    """A statement, the rows it must find, and its table."""

    statement: Statement
    rows: int
    plan: TablePlan | None


@dataclass(slots=True)
class _Copy:
    """Rows to be added by COPY."""

    table: TableChanges
    rows: Rows


@dataclass(slots=True)
class _Work:
    """What is to be done, in order, and what is told of it afterwards."""

    steps: list[_Step | _Copy] = field(default_factory=list)
    clock: Counter[tuple[Route, str]] = field(default_factory=Counter)
    ids_known: int = 0

    def noted(self, plan: TablePlan, remarks: Remarks) -> None:
        """Keep what was noticed of rows of that table."""
        for note, times in remarks.clock.items():
            self.clock[plan.route, note] += times
        remarks.clock.clear()
        self.ids_known += remarks.ids_known
        remarks.ids_known = 0


class SetLevel:
    """Applies folded batches on one connection's pipeline, in the transaction the caller keeps open."""

    def __init__(
        self,
        pipeline: Pipeline,
        ages: PlanAges,
        plan: Plan,
        *,
        ids: Mapping[str, IdState],
        zones: Mapping[str, Zone],
        form: Form,
        replica_role: bool,
    ) -> None:
        self._pipeline = pipeline
        self._ages = ages
        self._ids = ids
        self._zones = zones
        self._form = form
        self._is_binary = form is Form.BINARY
        self._replica_role = replica_role
        self._order = plan.parents_first()
        self.computes = any(table.expressions for table in plan.tables)
        self._related = {key.table for key in plan.target_foreign_keys} | {
            key.referenced for key in plan.target_foreign_keys
        }
        self._looks = 0  # batches to come that guess nothing
        self._guessed = False  # the last one did
        self._filtered: Counter[Route] = Counter()  # rows of the batch that conditions did not take
        self._looked_up = 0  # ids the caches did not know, since they were last told
        self._encoders: dict[tuple[int, TableName], tuple[Relation, Encoder, Evaluator | None]] = {}
        self._texts: dict[tuple[str, Route, tuple[int, ...]], bytes] = {}

    # ids -----------------------------------------------------------------------------------------------------------

    def tables(self, batch: Batch) -> list[TableChanges]:
        """The batch's tables with their outcome, parents first."""
        folds = [fold for fold in batch.tables if fold.inserts + fold.updates + fold.deletes]
        found = [TableChanges(fold, fold.rows(), *self._encoder(fold)) for fold in folds]
        return sorted(found, key=lambda table: self._order.get(table.plan.target, 0))

    async def derive(self, tables: Sequence[TableChanges]) -> None:
        """Have the target compute what rows need: those that a condition does not take go, the others get the results.

        To be called before `identify`. Raises Unfit.
        """
        self._filtered.clear()
        try:
            for table in tables:
                if table.evaluator is not None:
                    before = _images(table.rows)
                    await _derive(table, table.evaluator)
                    self._filtered[table.plan.route] += before - _images(table.rows)
        except (RowRefused, ProtocolViolation) as fault:
            raise Unfit("refused", fault.where) from None

    def look_first(self) -> bool:
        """Somebody else, or a row of before, had an entry for a row that was new. Whether that was a guess of ours:
        the batch may be tried again, and guesses cease for a while."""
        guessed, self._guessed = self._guessed, False
        self._looks = _LOOKS
        return guessed

    async def identify(
        self, tables: Sequence[TableChanges], orphans: dict[tuple[str, bytes], TablePlan], *, guesses: bool = False
    ) -> None:
        """Give every id that new rows name a place in its map: read what is there, make what is not.

        `orphans` takes references to rows that no map and nothing in the batch knows (I3), and loses those whose row
        came now. Raises Unfit where only the exact path knows what an id means.

        With `guesses`, a row that is new to its table is taken to be new to its keyspace, which saves looking for most
        of what will not be found; a map that knows it after all refuses the entry (Rebuild), and `look_first` makes
        the next batches ask.
        """
        if not self._ids:
            return
        guesses = guesses and not self._looks
        self._looks = max(0, self._looks - 1)
        owned, fresh, gone = self._none(), self._none(), self._none()
        referred: list[tuple[TablePlan, dict[str, list[bytes]]]] = []
        for table in tables:
            refers = self._none()
            encoder, rows = table.encoder, table.rows
            encoder.old_ids(rows.inserts, fresh, refers)
            for images in (*(each for _, each in rows.updates), *(after for _, _, after in rows.moves)):
                encoder.old_ids(images, owned, refers)
            for keys in (rows.deletes, *(before for _, before, _ in rows.moves)):
                encoder.old_ids(keys, gone, gone, keys_only=True)
            referred.append((table.plan, refers))
        self._guessed = False
        wanted: dict[str, set[bytes]] = {}
        for name, state in self._ids.items():
            state.make_room()
            named = set(owned[name]).union(*(refers[name] for _, refers in referred))
            if not guesses or state.stock is not None:
                named.update(fresh[name])
            elif fresh[name]:
                self._guessed = True
                if named:
                    named.difference_update(fresh[name])
            wanted[name] = named.union(gone[name])  # the keys of rows that go, of which none is new
        self._looked_up += await idmap.look_up(self._pipeline, self._ids, wanted)
        try:
            for name, state in self._ids.items():
                new = state.unknown(chain(fresh[name], owned[name]))
                for plan, refers in referred:
                    unknown = state.unknown(refers[name])
                    new += unknown
                    for old in set(unknown).difference(fresh[name], owned[name]) if unknown else ():
                        orphans.setdefault((name, old), plan)
                for old in chain(fresh[name], owned[name]) if orphans else ():
                    orphans.pop((name, old), None)
                if new:
                    state.allocate_many(in_order(new))
        except RowRefused:
            raise Unfit("refused") from None

    def _none(self) -> dict[str, list[bytes]]:
        return {name: [] for name in self._ids}

    # writing -------------------------------------------------------------------------------------------------------

    async def apply(
        self, tables: Sequence[TableChanges], tally: Tally, *, is_final: bool, first: Sequence[Statement]
    ) -> None:
        """Write the batch; `first` goes before it, in the same round trip. Raises Unfit, or a passing Fault."""
        work = _Work()
        try:
            self._plan(tables, work, is_final=is_final)
            # Each is asked, and only when nothing keeps the answer from going out.
            outgrown = [table for table in tables if self._has_outgrown(table, tally)]
            first = [*first, *([DISCARD] if outgrown else ()), _BY_INDEX]
            for each in _runs(work.steps):
                if isinstance(each, _Copy):
                    if first:
                        await self._pipeline.run(first)
                    await self._copy(each, work)
                else:
                    await self._run([*(_Step(statement, -1, None) for statement in first), *each])
                first = ()
            if first:
                await self._pipeline.run(first)
        except UnknownId:
            raise Unfit("unknown_id") from None
        except RowRefused as fault:
            raise Unfit("refused", fault.where) from None
        except StatementFailed as failed:
            raise _unfit(failed, "") from None
        for table in tables:
            fold, route = table.fold, table.plan.route
            tally.changes[route, Operation.INSERT] += fold.inserts
            tally.changes[route, Operation.UPDATE] += fold.updates
            tally.changes[route, Operation.DELETE] += fold.deletes
        tally.clock.update(work.clock)
        tally.ids_known += work.ids_known
        tally.filtered.update(self._filtered)
        self._filtered.clear()
        tally.ids_looked_up += self._looked_up
        self._looked_up = 0

    def _has_outgrown(self, table: TableChanges, tally: Tally) -> bool:
        """For a table of a single row, by its statistics, the planner knows no bitmap scan."""
        target = table.plan.target
        rows = tally.changes[table.plan.route, Operation.INSERT]
        if not self._replica_role and target in self._related:
            rows += len(table.rows.inserts.offsets)  # these come first
        return self._ages.outgrown(target, rows)

    def _plan(self, tables: Sequence[TableChanges], work: _Work, *, is_final: bool) -> None:
        """Deletes, updates, inserts; where foreign keys are enforced, inserts come first and deletes last."""
        enforced = [table for table in tables if not self._replica_role and table.plan.target in self._related]
        for table in enforced:
            self._expect(table, work)
            self._insert(table, work)
        for table in reversed(tables):
            if table not in enforced:
                self._delete(table, work)
        for table in tables:
            if is_final and not table.plan.applied_as_origin:
                self._put_back(table, work)
            elif table.rows.moves:
                raise Unfit("moves", str(table.plan.target))
            else:
                self._update(table, work)
        for table in tables:
            if table not in enforced:
                self._insert(table, work)
        for table in reversed(enforced):
            self._delete(table, work)

    def _expect(self, table: TableChanges, work: _Work) -> None:
        """Rows that are deleted behind the inserts are there before them. Where one is lost, the DELETE might find a
        new row of the same key, perhaps spelt otherwise (1.0 and 1.00), and its count would be right."""
        rows = table.rows.deletes
        if rows.offsets and table.rows.inserts.offsets:
            if table.is_filtered:
                raise Unfit("unique", str(table.plan.target))  # nobody can say which of them are there
            keys = setforms.key_places(table.plan)
            values = self._arrays(table, rows, keys, _Work())  # what is to be noted of them, the DELETE does
            self._step(table, work, "update", (), values, len(rows.offsets))

    def _delete(self, table: TableChanges, work: _Work) -> None:
        rows = table.rows.deletes
        if rows.offsets:
            keys = setforms.key_places(table.plan)
            found = -1 if table.is_filtered else len(rows.offsets)
            self._step(table, work, "delete", (), self._arrays(table, rows, keys, work), found)

    def _update(self, table: TableChanges, work: _Work) -> None:
        plan = table.plan
        keys = setforms.key_places(plan)
        for unsent, rows in table.rows.updates:
            assigned = setforms.assigned_places(plan, unsent)
            if self._is_replaced(plan, assigned, unsent):
                # Arrays of arrays cannot be sent, but rows can: out they go, and in by COPY.
                found = -1 if table.is_filtered else len(rows.offsets)
                self._step(table, work, "delete", (), self._arrays(table, rows, keys, work), found)
                work.steps.append(_Copy(table, rows))
                continue
            if table.is_filtered and not unsent:
                # Some of them may not have matched before.
                values = self._arrays(table, rows, range(len(plan.columns)), work)
                self._step(table, work, "upsert", (), values, len(rows.offsets) if assigned else -1)
                continue
            values = self._arrays(table, rows, [*assigned, *keys], work)
            self._step(table, work, "update", tuple(assigned), values, len(rows.offsets))

    def _is_replaced(self, plan: TablePlan, assigned: Sequence[int], unsent: frozenset[int]) -> bool:
        """Whether an update must, and can, be a DELETE and a COPY of the whole row: nothing but it holds its values,
        and nothing fires that would notice."""
        return (
            not all(setforms.goes_as_array(plan.columns[place].target, self._form) for place in assigned)
            and not unsent
            and self._replica_role
            and not plan.applied_as_origin
            and len(setforms.brought_places(plan)) == len(plan.writable)
        )

    def _insert(self, table: TableChanges, work: _Work) -> None:
        rows, plan = table.rows.inserts, table.plan
        count = len(rows.offsets)
        if not count:
            return
        fits = plan.columns and all(setforms.goes_as_array(column.target, self._form) for column in plan.columns)
        if count < _COPY_FROM and fits:
            values = self._arrays(table, rows, range(len(plan.columns)), work)
            self._step(table, work, "insert", (), values, count)
        else:
            with_role = self._role(plan)
            work.steps += [_Step(statement, -1, None) for statement in with_role[:1]]
            work.steps.append(_Copy(table, rows))
            work.steps += [_Step(statement, -1, None) for statement in with_role[1:]]

    def _put_back(self, table: TableChanges, work: _Work) -> None:
        """All rows in one statement, since any of them may hold what another is to get."""
        plan, groups = table.plan, [(unsent, rows, rows) for unsent, rows in table.rows.updates]
        groups += table.rows.moves
        if not groups:
            return
        keys, brought = setforms.key_places(plan), setforms.brought_places(plan)
        self._check_arrays(plan, brought)
        optional = sorted({place for unsent, _, _ in groups for place in unsent})
        columns: list[list[bytes]] = [[] for _ in range(len(keys) + len(brought) + len(optional))]
        for unsent, before, after in groups:
            count = len(after.offsets)
            sent = [place for place in brought if place not in unsent]
            values = dict(zip(sent, self._arrays(table, after, sent, work), strict=True))
            parts = self._arrays(table, before, keys, work)
            parts += [
                values.get(place) or arrays.nulls(count, plan.columns[place].target.type_oid, self._form)
                for place in brought
            ]
            parts += [arrays.flags(count, place not in unsent, self._form) for place in optional]
            for column, part in zip(columns, parts, strict=True):
                column.append(part)
        joined = [arrays.joined(column, self._form) for column in columns]
        self._step(table, work, "reinsert", tuple(optional), joined, sum(len(rows.offsets) for _, rows, _ in groups))

    def _arrays(self, table: TableChanges, rows: Rows, places: Sequence[int], work: _Work) -> list[bytes]:
        self._check_arrays(table.plan, places)
        remarks = Remarks()
        values = table.encoder.arrays(rows, places, remarks)
        work.noted(table.plan, remarks)
        return values

    def _check_arrays(self, plan: TablePlan, places: Sequence[int]) -> None:
        if not all(setforms.goes_as_array(plan.columns[place].target, self._form) for place in places):
            raise Unfit("array", str(plan.target))

    def _step(
        self, table: TableChanges, work: _Work, kind: str, places: tuple[int, ...], values: Sequence[bytes], rows: int
    ) -> None:
        statement = Statement(self._text(kind, table.plan, places), values, self._is_binary)
        with_role = self._role(table.plan)
        work.steps += [_Step(each, -1, None) for each in with_role[:1]]
        work.steps.append(_Step(statement, rows, table.plan))
        work.steps += [_Step(each, -1, None) for each in with_role[1:]]

    def _role(self, plan: TablePlan) -> tuple[Statement, ...]:
        """Before and after a statement on a table whose deferrable constraints replica role would not enforce."""
        return (_SET_ORIGIN, _SET_REPLICA) if self._replica_role and plan.applied_as_origin else ()

    async def _run(self, steps: Sequence[_Step]) -> None:
        try:
            counts = await self._pipeline.run([step.statement for step in steps])
        except StatementFailed as failed:
            plan = steps[failed.index].plan
            raise _unfit(failed, str(plan.target) if plan is not None else "target") from None
        for step, count in zip(steps, counts, strict=True):
            if step.rows >= 0 and count != step.rows:
                raise Unfit("row_count", str(step.plan.target) if step.plan is not None else "")

    async def _copy(self, copy: _Copy, work: _Work) -> None:
        table, remarks = copy.table, Remarks()
        where = str(table.plan.target)
        try:
            count = await self._pipeline.copy(
                setforms.copy_in(table.plan, self._form), _chunks(table.encoder, copy.rows, remarks)
            )
        except StatementFailed as failed:
            raise _unfit(failed, where) from None
        if count != len(copy.rows.offsets):
            raise Unfit("row_count", where)
        work.noted(table.plan, remarks)

    # what is made once ---------------------------------------------------------------------------------------------

    def _encoder(self, fold: TableFold) -> tuple[Encoder, Evaluator | None]:
        """What makes the table's rows, and what computes them where its plan holds SQL."""
        named = fold.relation.oid, fold.plan.target
        known = self._encoders.get(named)
        if known is None or known[0] is not fold.relation:
            relation, plan, evaluator = fold.relation, fold.plan, None
            if plan.expressions:
                evaluator = Evaluator(self._pipeline, relation, plan, self._form)
                relation, plan = derive.extended_relation(relation, plan), derive.extended_plan(plan)
            encoder = Encoder(relation, plan, self._form, self._ids, self._zones)
            known = self._encoders[named] = fold.relation, encoder, evaluator
        return known[1], known[2]

    def _text(self, kind: str, plan: TablePlan, places: tuple[int, ...]) -> bytes:
        key = (kind, plan.route, places)
        text = self._texts.get(key)
        if text is None:
            if len(self._texts) >= _MOST_TEXTS:
                self._texts.clear()
            text = self._texts[key] = _compose(kind, plan, places, self._form)
        return text


_LOOKS: Final = 100  # batches that ask after a guess was wrong
_MOST_TEXTS: Final = 4096  # masks of unchanged TOAST over many tables must not pile up


def _compose(kind: str, plan: TablePlan, places: tuple[int, ...], form: Form) -> bytes:
    match kind:
        case "delete":
            return setforms.delete(plan, form)
        case "update":
            return setforms.update(plan, places, form)
        case "insert":
            return setforms.insert(plan, form)
        case "upsert":
            return setforms.upsert(plan, form)
        case _:
            return setforms.reinsert(plan, places, form)


def _images(rows: Folded) -> int:
    """How many new images of rows there are, which a condition may take or not."""
    updated = sum(len(images.offsets) for _, images in rows.updates)
    return len(rows.inserts.offsets) + updated + sum(len(after.offsets) for _, _, after in rows.moves)


async def _derive(table: TableChanges, evaluator: Evaluator) -> None:
    """An update of a row that is not taken becomes a delete of whatever may be there."""
    rows = table.rows
    inserts = await evaluator.derived(rows.inserts)
    gone = [rows.deletes]
    updates: list[tuple[frozenset[int], Rows]] = []
    for unsent, images in rows.updates:
        taken = await evaluator.matching(images)
        gone.append(derive.chosen(images, [not each for each in taken]))
        kept = derive.chosen(images, taken)
        if kept.offsets:
            updates.append((unsent, derive.extended(kept, await evaluator.computed(kept, unsent))))
    moves: list[tuple[frozenset[int], Rows, Rows]] = []
    for unsent, before, after in rows.moves:
        taken = await evaluator.matching(after)
        gone.append(derive.chosen(before, [not each for each in taken]))
        old, new = derive.chosen(before, taken), derive.chosen(after, taken)
        if new.offsets:
            moves.append((unsent, old, derive.extended(new, await evaluator.computed(new, unsent))))
    deletes = Rows([frame for each in gone for frame in each.frames], [at for each in gone for at in each.offsets])
    by = evaluator.results
    moves = [(unsent, derive.widened(before, by), after) for unsent, before, after in moves]
    table.rows = Folded(inserts, derive.widened(deletes, by), updates, moves)


def _unfit(failed: StatementFailed, where: str) -> Unfit:
    """What a refused statement means here: another level, unless it would pass by itself."""
    if failed.sqlstate in {"23505", "23P01"}:
        return Unfit("unique", where)
    fault = result_fault(failed.result, where=where)
    if isinstance(fault, Transient | Unreachable):
        raise fault
    return Unfit("refused", where)


def _runs(steps: Iterable[_Step | _Copy]) -> Iterator[list[_Step] | _Copy]:
    """Statements that follow each other share a round trip; a COPY cannot be part of one."""
    run: list[_Step] = []
    for step in steps:
        if isinstance(step, _Step):
            run.append(step)
            continue
        if run:
            yield run
            run = []
        yield step
    if run:
        yield run


def _chunks(encoder: Encoder, rows: Rows, remarks: Remarks) -> Iterator[bytes]:
    """COPY data, about _CHUNK_BYTES at a time; a single huge row is a chunk of its own."""
    count = len(rows.offsets)
    if encoder.header:
        yield encoder.header
    start, step = 0, 256
    while start < count:
        stop = min(count, start + step)
        data = encoder.copy_data(rows, start, stop, remarks)
        start, step = stop, max(1, min(65_536, _CHUNK_BYTES * (stop - start) // max(1, len(data))))
        yield data
    if encoder.trailer:
        yield encoder.trailer
