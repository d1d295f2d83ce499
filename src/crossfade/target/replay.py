"""The exact path: changes applied one by one, in source order, inside one target transaction.

It is the oracle of everything faster and what everything faster falls back to, so it is plain: a change becomes one
statement, statements go out in runs, and every row count is looked at. Refuses to know where transactions come from
and when they commit. The invariant: the target transaction holds exactly the changes it was given, in their order;
anything else raises, and the caller rolls back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg.pq import TransactionStatus

from crossfade import statements
from crossfade.catalog import Route
from crossfade.events import Operation
from crossfade.faults import Fault, Refused, RowRefused, Transient, Unreachable
from crossfade.lsn import Lsn
from crossfade.mapping.plan import OnMissing, OnOrphan, OnTruncate, Plan, TablePlan
from crossfade.mapping.shares import InRange
from crossfade.pgoutput.assemble import Piece
from crossfade.pgoutput.changes import Change, Truncation, changes_of
from crossfade.pgoutput.messages import UNCHANGED, Cell, Delete, Form, Insert, Relation, Update
from crossfade.session.connect import Connection, result_fault, server_fault
from crossfade.target import idmap
from crossfade.target.collision import collided
from crossfade.target.derived import Derived
from crossfade.target.pipeline import COMMIT, Parameters, Pipeline, Statement, StatementFailed
from crossfade.target.planages import DISCARD, PlanAges
from crossfade.target.tally import Tally
from crossfade.wire import derive
from crossfade.wire.codec import Key, RowCodec
from crossfade.wire.idstate import IdState
from crossfade.wire.remarks import Remarks
from crossfade.wire.zones import Zone

# Statements in one round trip: enough to hide the network, few enough to keep memory and a rerun small.
_RUN: Final = 500
_RUN_BYTES: Final = 4 * 1024 * 1024
# After the server refused a transaction sent with its COMMIT, whose changes had to be sent again, so many are not.
_UNGUARDED: Final = 100
_AT_ONCE: Final = 24  # with more of them a round trip is less than what the guards cost the server


@dataclass(slots=True)
class _Step:
    """One statement to run, and what to do should it not find its row: `row` is what to insert, `others` other keys.
    `may_miss`: a row that is not there is as it should be, since a condition takes only some."""

    codec: RowCodec
    final_lsn: Lsn
    operation: Operation
    text: bytes
    parameters: Parameters
    row: list[Cell] | None = None
    others: Sequence[Parameters] = ()
    may_miss: bool = False

    @property
    def place(self) -> str:
        """The table and the transaction, for whoever reads the error."""
        return f"{self.codec.plan.target}{_transaction(self.final_lsn)}"


class Replayer:
    """Applies pieces on one connection, in the transaction the caller keeps open.

    `from_lsn` holds, per table copied at a later snapshot, the position before which its changes are already in
    the copy. `replica_role` says that we may set session_replication_role. `form` is the stream's.
    """

    def __init__(
        self,
        connection: Connection,
        plan: Plan,
        *,
        ids: Mapping[str, IdState],
        zones: Mapping[str, Zone],
        from_lsn: Mapping[Route, Lsn],
        replica_role: bool,
        form: Form,
    ) -> None:
        self._connection = connection
        self._form = form
        self._plans = plan.by_source()
        self._ids = ids
        self._zones = zones
        self._from_lsn = from_lsn
        self._replica_role = replica_role
        self._defers = not replica_role or any(table.applied_as_origin for table in plan.tables)
        self.pipeline = Pipeline(connection)
        self.ages = PlanAges()
        self._texts = _Texts()
        self._derives = any(table.expressions for table in plan.tables)
        self._codecs: dict[int, tuple[Relation, tuple[RowCodec, ...]]] = {}
        self._derived = Derived(self.pipeline, form)
        self._in_replica_role = False
        self._has_savepoint = False
        self._opening: list[Statement] = []
        self._steps: list[_Step] = []
        self._size = 0
        self._unguarded = 0  # transactions to come that are not tried at once
        self.remarks = Remarks()
        self.tally = Tally()

    # the transaction -----------------------------------------------------------------------------------------------

    def opening(self) -> list[Statement]:
        """Forget what an earlier transaction was told, and return what opens the next one."""
        self.tally = Tally()
        self.remarks = Remarks()
        self._in_replica_role = self._replica_role
        self._has_savepoint = False
        return [_BEGIN, *([DISCARD] if self.ages.have_aged() else ()), *([_DEFER] if self._defers else ())]

    def begin(self) -> None:
        """A new target transaction, opened in the round trip of whatever comes first in it."""
        self._opening = self.opening()

    async def open(self) -> None:
        """Open it now, and send what waits."""
        await self._send(())

    async def write_ids(self) -> None:
        """Write the id maps' new entries; after every piece of a large transaction, so that they need no memory."""
        await self.open()
        self.tally.ids_created += await idmap.write(self.pipeline, self._ids)
        self._count_ids()

    async def finish(self, last: Statement) -> int:
        """Send what waits, the id maps' new entries and `last`, in one round trip if may be; its row count.

        Nothing may be committed before this returned: the row counts have been looked at then.
        """
        if not idmap.are_few(self._ids):
            await self.write_ids()
        entries = idmap.entries(self._ids)
        try:
            counts = await self._send([*(entry.statement for entry in entries), last])
        except RowRefused as fault:
            if entries and fault.where == "target":  # no row's place: it was an entry
                fault.where = "target, writing the id maps"
            raise
        self.tally.ids_created += idmap.written(self._ids, entries, counts[:-1])
        self._count_ids()
        return counts[-1]

    async def at_once(self, move: Statement) -> bool:
        """Send what waits, `move` and COMMIT in a single round trip, the server comparing the row counts; True when it
        committed. False when it refused, or what waits is not of that simple kind: then nothing has happened, and
        `finish` and a COMMIT of its own will tell.

        Raises what passes by itself: a deadlock, for one; or a lost connection, after which nobody knows the outcome.
        """
        if self._unguarded:
            self._unguarded -= 1
            return False
        batch = self._guarded(move)
        if batch is None:
            return False
        try:
            answers = await self.pipeline.results(batch)
        except StatementFailed as failed:
            at = failed.index - len(self._opening)
            where = self._steps[at].place if 0 <= at < len(self._steps) else "target"
            fault = result_fault(failed.result, where=where)
            if isinstance(fault, Transient | Unreachable):
                raise fault from None
            self._unguarded = _UNGUARDED
            await self._roll_back()
            return False
        if answers[-1].command_status != b"COMMIT":
            raise Transient("The server rolled back instead of committing.", where="target")
        for step in self._steps:
            self.tally.changes[step.codec.plan.route, step.operation] += 1
        self._opening, self._steps, self._size = [], [], 0
        self._count_ids()
        return True

    def _guarded(self, move: Statement) -> list[Statement] | None:
        """The whole transaction, each change under its guard; None where one cannot be, or more is to be written."""
        if (
            not self._opening
            or not 0 < len(self._steps) <= _AT_ONCE
            or any(state.has_writes for state in self._ids.values())
        ):
            return None
        batch = list(self._opening)
        is_binary = self._form is Form.BINARY
        for step in self._steps:
            text = self._texts.guarded(step.text)
            if text is None or step.others or step.may_miss or step.codec.plan.applied_as_origin:
                return None
            batch.append(Statement(text, step.parameters, is_binary))
        text = self._texts.guarded(move.text)
        assert text is not None
        return [*batch, Statement(text, move.parameters), COMMIT]

    def _count_ids(self) -> None:
        self.tally.ids_known += self.remarks.ids_known
        self.remarks.ids_known = 0

    def committed(self) -> None:
        """COMMIT returned: what was learnt about ids holds, and the tables have grown."""
        self.ages.grew(self.tally)
        for state in self._ids.values():
            state.commit()

    async def rollback(self) -> None:
        """Take everything back, in memory too."""
        self._opening, self._steps, self._size = [], [], 0
        for state in self._ids.values():
            state.rollback()
        await self._roll_back()

    async def _roll_back(self) -> None:
        if self._connection.info.transaction_status not in (TransactionStatus.IDLE, TransactionStatus.UNKNOWN):
            try:
                await self._connection.execute("ROLLBACK")
            except psycopg.Error as error:
                raise server_fault(error, where="target, rolling back") from None

    # changes -------------------------------------------------------------------------------------------------------

    async def apply(self, pieces: Sequence[Piece]) -> None:
        """Apply pieces in order, whole transactions or one piece of a large one.

        Ids are loaded once for all of them, and runs of statements do not end with a source transaction: many small
        ones share a round trip, the last of which waits for `open` or `finish`. Raises a Fault naming the table and the
        transaction; the caller rolls back.
        """
        where = ""
        try:
            for piece in pieces:
                if piece.fault is not None:
                    where = _transaction(piece.begin.final_lsn)
                    raise piece.fault
            await self._load_ids(pieces)
            if self._derives:
                await self.open()  # what a stable function sees is this transaction's
                await self._derive(pieces)
            for piece in pieces:
                where = _transaction(piece.begin.final_lsn)
                if piece.is_first:
                    for state in self._ids.values():
                        state.begin_transaction()
                for change in changes_of(piece, self._form):
                    if isinstance(change, Truncation):
                        await self.open()
                        if await self._truncate(change, piece.begin.final_lsn):
                            await self._load_ids(pieces)
                        continue
                    for step in self._steps_of(change, piece.begin.final_lsn):
                        self._steps.append(step)
                        self._size += sum(len(value) for value in step.parameters if value is not None)
                    if len(self._steps) >= _RUN or self._size >= _RUN_BYTES:
                        await self.open()
                if piece.commit is not None:
                    self.settle_orphans(piece.begin.final_lsn)
        except Fault as fault:
            if _IN not in fault.where:
                fault.where = f"{fault.where or 'target'}{where}"
            raise
        except psycopg.Error as error:
            raise server_fault(error, where=f"target{where}") from None

    def _codecs_of(self, relation: Relation) -> tuple[RowCodec, ...]:
        """One for each target of the source table, those that others refer to first."""
        known = self._codecs.get(relation.oid)
        if known is not None and known[0] is relation:
            return known[1]
        plans = self._plans.get(relation.table, ())
        if not plans:
            raise Refused(
                "The stream brought a change of a table that the mapping does not know.",
                where=str(relation.table),
                means="The publication held more than the mapping, or the table was renamed."
                " Nothing of that transaction was applied.",
                do="The slot cannot pass that change: make the publication as `crossfade check` prints it, then"
                " `crossfade teardown`, empty the target tables, `crossfade run`.",
            )
        if relation.oid != plans[0].source_oid:
            raise Refused(
                "The stream brought a change of another table than the one that was copied, under its name.",
                where=str(relation.table),
                means="It was dropped and made anew, or tables swapped their names. Nothing of that transaction was"
                " applied.",
                do="`crossfade teardown`, empty the target tables, `crossfade run`: it must be copied again.",
            )
        codecs = tuple(self._made(relation, plan) for plan in plans)
        self._codecs[relation.oid] = relation, codecs
        return codecs

    def _made(self, relation: Relation, plan: TablePlan) -> RowCodec:
        if plan.expressions:
            self._derived.describe(relation, plan)
            relation, plan = derive.extended_relation(relation, plan), derive.extended_plan(plan)
        return RowCodec(relation, plan, self._ids, self._zones, self._form)

    async def _derive(self, pieces: Sequence[Piece]) -> None:
        """Have the target compute what new rows need, all of a table's at once; `_step` takes it in the same order."""
        self._derived.forget()
        for piece in pieces:
            for change in changes_of(piece, self._form):
                if isinstance(change, Truncation) or isinstance(change.message, Delete):
                    continue
                for codec in self._open_codecs(change.relation, piece.begin.final_lsn):
                    self._derived.ask(codec.plan, change.message)
        await self._derived.answer()

    def _open_codecs(self, relation: Relation, final_lsn: Lsn) -> tuple[RowCodec, ...]:
        """Those whose target was not copied at a snapshot that already shows this transaction (G6)."""
        codecs = self._codecs_of(relation)
        if not self._from_lsn:
            return codecs
        return tuple(codec for codec in codecs if not self._is_copied(codec.plan.route, final_lsn))

    def _is_copied(self, route: Route, final_lsn: Lsn) -> bool:
        from_lsn = self._from_lsn.get(route)
        return from_lsn is not None and final_lsn < from_lsn

    async def _load_ids(self, pieces: Sequence[Piece]) -> None:
        if not self._ids:
            return
        wanted: dict[str, set[bytes]] = {name: set() for name in self._ids}
        for state in self._ids.values():
            state.make_room()
        for piece in pieces:
            for change in changes_of(piece, self._form):
                if isinstance(change, Truncation):
                    continue
                message = change.message
                for codec in self._open_codecs(change.relation, piece.begin.final_lsn):
                    if not isinstance(message, Delete):
                        codec.ids_in(message.new, wanted)
                    if not isinstance(message, Insert) and message.old is not None:
                        codec.ids_in(message.old, wanted)
        self.tally.ids_looked_up += await idmap.look_up(self.pipeline, self._ids, wanted)

    def _steps_of(self, change: Change, final_lsn: Lsn) -> list[_Step]:
        """One statement for each target of the source table, as far as it needs one."""
        codecs = self._open_codecs(change.relation, final_lsn)
        if len(codecs) > 1 and isinstance(change.message, Delete):
            codecs = codecs[::-1]
        elif len(codecs) > 1 and isinstance(change.message, Update):
            # Where a key is mapped, the others refer to it: they follow as a cascade of the source would (I5).
            codecs = tuple(sorted(codecs, key=lambda codec: codec.plan.owns is None))
        steps = (self._step(codec, change.message, final_lsn) for codec in codecs)
        return [step for step in steps if step is not None]

    def _step(self, codec: RowCodec, message: Insert | Update | Delete, final_lsn: Lsn) -> _Step | None:
        clock = self.remarks.clock
        step: _Step | None
        is_taken = True
        if codec.plan.route in self._derived.tables and not isinstance(message, Delete):
            message, is_taken = self._derived.take(codec.plan, message)
        if not is_taken:
            self.tally.filtered[codec.plan.route] += 1
            step = self._left_out(codec, message, final_lsn)
        elif isinstance(message, Insert):
            row = codec.row(message.new, None, self.remarks)
            step = _Step(codec, final_lsn, Operation.INSERT, self._texts.insert(codec.plan), _complete(row))
        elif isinstance(message, Update):
            step = self._update(codec, message, final_lsn)
        else:
            key = codec.key_of_old(message.old, None, self.remarks)
            self._unambiguous(codec, key)
            text = self._texts.delete(codec.plan)
            some = codec.plan.where is not None
            step = _Step(codec, final_lsn, Operation.DELETE, text, key.cells, others=key.others, may_miss=some)
            if not key.cells:
                if not some:
                    self.tally.conflicts[codec.plan.route, "missing_row"] += 1
                return None
        if clock:
            for note, times in clock.items():
                self.tally.clock[codec.plan.route, note] += times
            clock.clear()
        return step

    def _unambiguous(self, codec: RowCodec, key: Key) -> None:
        """An old key that may mean two rows is tried for both; where rows may be missing, that could take the wrong."""
        if key.others and codec.plan.where is not None:
            raise RowRefused(
                "A key refers to ids that changed places in the same transaction, in a table of which only some rows"
                " are taken: which row it means cannot be told.",
                where=str(codec.plan.target),
                means="Nothing of that transaction was applied; the slot keeps it.",
                do="The table must be copied again: `crossfade teardown`, empty the target tables, `crossfade run`.",
            )

    def _left_out(self, codec: RowCodec, message: Insert | Update | Delete, final_lsn: Lsn) -> _Step | None:
        """The condition does not take the new row: if there is an old one, it goes."""
        if not isinstance(message, Update):
            self.tally.changes[codec.plan.route, Operation.INSERT] += 1
            return None
        if message.old is None:
            key = codec.key_of_old(message.new, None, self.remarks)
        else:
            key = codec.key_of_old(message.old, message.new, self.remarks)
            self._unambiguous(codec, key)
            codec.owner_moved(message.old, message.new)
        if not key.cells:
            self.tally.changes[codec.plan.route, Operation.UPDATE] += 1
            return None
        text = self._texts.delete(codec.plan)
        return _Step(codec, final_lsn, Operation.UPDATE, text, key.cells, others=key.others, may_miss=True)

    def _update(self, codec: RowCodec, message: Update, final_lsn: Lsn) -> _Step:
        plan = codec.plan
        kept: frozenset[int] = frozenset()
        if message.old is not None:
            key = codec.key_of_old(message.old, message.new, self.remarks)
            self._unambiguous(codec, key)
            kept = codec.kept(message.old, message.new)
            codec.owner_moved(message.old, message.new)
        full = message.old if message.old_is_full else None
        row = codec.row(message.new, full, self.remarks, is_update=True)
        if message.old is None:
            key = codec.key_of_row(row)
        if not key.cells:
            # The map never saw the old key, so the row was never written: as for any missing row.
            return _Step(codec, final_lsn, Operation.UPDATE, statements.nothing(), (), row=row)
        # A key that stayed is not written: a GENERATED ALWAYS one must not be, the others need not. It must have stayed
        # by each meaning of the old one, since one text serves them all.
        moves = any(
            row[place] != cell and place not in kept
            for cells in (key.cells, *key.others)
            for place, cell in zip(codec.key_places, cells, strict=True)
        )
        assigned = [
            at
            for at, cell in enumerate(row)
            if cell is not UNCHANGED
            and at not in codec.is_const
            and at not in kept
            and (moves or at not in codec.is_key)
        ]
        values = _complete([row[at] for at in assigned])
        reinserts = plan.moves_by_reinsert and moves
        text = self._texts.update(codec, tuple(assigned), reinserts=reinserts)
        if reinserts and not self._replica_role:
            raise RowRefused(
                "The key of a row changed, and the target's key is GENERATED ALWAYS: only replica role may move it.",
                where=str(plan.target),
                means="Nothing of that transaction was applied; the slot keeps it.",
                do="Grant our role SET ON PARAMETER session_replication_role, or make the column GENERATED BY DEFAULT.",
            )
        others = [(*values, *cells) for cells in key.others]
        return _Step(codec, final_lsn, Operation.UPDATE, text, (*values, *key.cells), row=row, others=others)

    # statements ----------------------------------------------------------------------------------------------------

    async def _send(self, tail: Sequence[Statement]) -> list[int]:
        """One round trip for what waits and `tail`, whose row counts are returned.

        Should a row not be where it must be, back to before all of them, and one at a time.
        """
        steps, self._steps, self._size = self._steps, [], 0
        opening, self._opening = self._opening, []
        try:
            counts = await self._run(opening, steps, tail)
            if counts is None:
                if opening:
                    await self._connection.execute("ROLLBACK")
                    self._in_replica_role = self._replica_role
                    await self._pipe(opening, [])
                else:
                    await self._connection.execute("ROLLBACK TO SAVEPOINT run")
                for step in steps:
                    await self._run_one(step)
                counts = await self._pipe(tail, [])
        except psycopg.Error as error:
            raise server_fault(error, where="target") from None
        for step in steps:
            self.tally.changes[step.codec.plan.route, step.operation] += 1
        return counts

    async def _run(
        self, opening: Sequence[Statement], steps: Sequence[_Step], tail: Sequence[Statement]
    ) -> list[int] | None:
        """The round trip; None when a step did not find its one row."""
        batch = list(opening)
        if not opening and self.ages.age_within():
            batch.append(DISCARD)
        if steps and not opening:
            if self._has_savepoint:
                # Never more than one: a transaction of millions must not nest thousands.
                batch.append(Statement(b"RELEASE SAVEPOINT run"))
            self._has_savepoint = any(step.operation is not Operation.INSERT for step in steps)
            if self._has_savepoint:
                batch.append(Statement(b"SAVEPOINT run"))
        owners: list[_Step | None] = [None] * len(batch)
        for step in steps:
            if self._replica_role and step.codec.plan.applied_as_origin is self._in_replica_role:
                self._in_replica_role = not self._in_replica_role
                batch.append(Statement(_SET_REPLICA if self._in_replica_role else _SET_ORIGIN))
                owners.append(None)
            batch.append(Statement(step.text, step.parameters, self._form is Form.BINARY))
            owners.append(step)
        counts = await self._pipe([*batch, *tail], owners)
        for owner, count in zip(owners, counts, strict=False):
            if owner is not None and count != 1 and not (count == 0 and owner.may_miss and not owner.others):
                return None
        return counts[len(batch) :]

    async def _pipe(self, batch: Sequence[Statement], owners: Sequence[_Step | None]) -> list[int]:
        if not batch:
            return []
        try:
            return await self.pipeline.run(batch)
        except StatementFailed as failed:
            owner = owners[failed.index] if failed.index < len(owners) else None
            raise _refused(failed, owner) from None

    async def _run_one(self, step: _Step) -> None:
        plan = step.codec.plan
        count = await self._execute(step, step.text, step.parameters)
        for other in step.others:
            if count == 0:
                count = await self._execute(step, step.text, other)
        if count == 1:
            return
        if count > 1:
            raise RowRefused(
                f"One change touched {count} rows: the key the mapping found is not unique on the target.",
                where=step.place,
                means="Nothing of that transaction was applied; the slot keeps it.",
                do="Give the target table the unique key `crossfade check` names.",
            )
        if step.may_miss:
            return
        if step.operation is Operation.DELETE:
            self.tally.conflicts[plan.route, "missing_row"] += 1
            return
        is_complete = step.row is not None and not any(cell is UNCHANGED for cell in step.row)
        if plan.where is not None and is_complete:
            assert step.row is not None
            await self._execute(step, statements.insert(plan), _complete(step.row))
            return  # it matches from now on
        if plan.where is not None:
            raise RowRefused(
                "A row began to match the condition of its table without all its values: a long one did not change, and"
                " was not sent.",
                where=step.place,
                means="Nothing of that transaction was applied; the slot keeps it.",
                do=f"Give the source row its long values again in an UPDATE of the same transaction, or copy again with"
                f" REPLICA IDENTITY FULL on {plan.source}.",
            )
        if plan.policies.missing_row is OnMissing.STOP or not is_complete:
            reason = "and the mapping says stop" if is_complete else "and its image is not complete (unchanged TOAST)"
            raise RowRefused(
                f"An update found no row to change, {reason}.",
                where=step.place,
                means="The target lost a row it should have. Nothing of that transaction was applied.",
                do="Find out who deletes on the target; put the row back, then `crossfade resume`.",
            )
        assert step.row is not None
        await self._execute(step, statements.insert(plan), _complete(step.row))
        self.tally.conflicts[plan.route, "missing_row"] += 1

    async def _execute(self, step: _Step, text: bytes, parameters: Parameters) -> int:
        batch: list[Statement] = []
        if self._replica_role:
            self._in_replica_role = not step.codec.plan.applied_as_origin
            batch.append(Statement(_SET_REPLICA if self._in_replica_role else _SET_ORIGIN))
        batch.append(Statement(text, parameters, self._form is Form.BINARY))
        try:
            return (await self.pipeline.run(batch))[-1]
        except StatementFailed as failed:
            raise _refused(failed, step) from None

    async def _truncate(self, truncation: Truncation, final_lsn: Lsn) -> bool:
        """Returns whether id maps were written for it, after which what they do not hold must be asked again."""
        plans = [codec.plan for relation in truncation.relations for codec in self._open_codecs(relation, final_lsn)]
        for plan in plans:
            if plan.policies.truncate is OnTruncate.STOP:
                raise RowRefused(
                    "The source table was truncated, and the mapping says stop.",
                    where=str(plan.source),
                    means="Nothing of that transaction was applied; the slot keeps it.",
                    do="Set `truncate: apply` for this table to follow, and restart the daemon.",
                )
        partly = self._sharing(plans)
        if not plans:
            return False
        asks_maps = any(plan.route in partly and not isinstance(plan.share, InRange) for plan in plans)
        if asks_maps:
            await self.write_ids()  # they say whose rows are whose, those of this transaction too
        names = list(dict.fromkeys(plan.target for plan in plans))
        if self._replica_role and not self._in_replica_role:
            # A change of a table applied as origin came before: triggers on TRUNCATE must not fire for it.
            await self._connection.execute("SET LOCAL session_replication_role = replica")
            self._in_replica_role = True
        await self._connection.execute("SAVEPOINT truncation")
        try:
            if partly:
                await self._delete_all(plans, partly)
            else:
                await self._connection.execute(statements.truncate(names))
        except (psycopg.errors.FeatureNotSupported, psycopg.errors.ObjectInUse):
            # A foreign key from outside the set refers to one of them: refused even under replica role. Or a deferred
            # check of one of them is still to come, of a change that shares our transaction but not the source's.
            # Children come last in the list the source sends (it adds what CASCADE reached), so they are emptied first.
            await self._connection.execute("ROLLBACK TO SAVEPOINT truncation")
            await self._delete_all(plans, partly)
        await self._connection.execute("RELEASE SAVEPOINT truncation")  # thousands of them must not nest
        for plan in plans:
            self.tally.changes[plan.route, Operation.TRUNCATE] += 1
        return asks_maps

    def _sharing(self, plans: Sequence[TablePlan]) -> set[Route]:
        """Those of which the target keeps rows: of other sources, which are not truncated."""
        truncated = {plan.route for plan in plans}
        partly = {
            plan.route for plan in plans if any(Route(other, plan.target) not in truncated for other in plan.beside)
        }
        for plan in plans:
            if plan.route in partly and plan.share is None:
                raise RowRefused(
                    f"{plan.source} was truncated, and nobody can tell its rows in {plan.target} from those of"
                    f" {', '.join(map(str, plan.beside))}.",
                    where=str(plan.source),
                    means="Nothing of that transaction was applied; the slot keeps it.",
                    do="To go on, start over: `crossfade teardown`, empty the target tables, `crossfade run`.",
                )
        return partly

    async def _delete_all(self, plans: Sequence[TablePlan], partly: Collection[Route]) -> None:
        """Row by row, children first; of some tables only what is theirs."""
        for plan in reversed(plans):
            if plan.route not in partly:
                await self._connection.execute(statements.delete_all(plan.target))
                continue
            # Our session joins by loops, which suits a key's index; an id map is not searched by its new ids.
            await self._connection.execute("SET LOCAL enable_hashjoin = on")
            await self._connection.execute(statements.delete_share(plan))
            await self._connection.execute("SET LOCAL enable_hashjoin = off")

    async def settle(self) -> None:
        """Another level is about to write in our transaction: the role is the usual one, and no savepoint is left."""
        await self.open()
        texts = [b"RELEASE SAVEPOINT run"] if self._has_savepoint else []
        if self._in_replica_role is not self._replica_role:
            texts.append(_SET_REPLICA)
        self._has_savepoint = False
        self._in_replica_role = self._replica_role
        if texts:
            await self.pipeline.run([Statement(text) for text in texts])

    def settle_orphans(self, final_lsn: Lsn) -> None:
        """At the end of a source transaction: references whose parent never came (I3)."""
        for (keyspace, _), plan in self.remarks.orphans.items():
            owner = self._ids[keyspace].keyspace.owner
            if any(self._is_copied(each.route, final_lsn) for each in self._plans.get(owner, ())):
                # The parent's changes are passed over: it may have come, and gone before its table was copied.
                continue
            if plan.policies.orphan_id is OnOrphan.ERROR:
                raise RowRefused(
                    f"A reference to {owner} has no parent there, and the mapping says `orphan_id: error`.",
                    where=str(plan.source),
                    means="Nothing of that transaction was applied; the slot keeps it.",
                    do="Mend the reference on the source, or set `orphan_id: allocate` and restart the daemon.",
                )
            self.tally.conflicts[plan.route, "orphan_id"] += 1
        self.remarks.orphans.clear()


class _Texts:
    """Statements already composed: composing one costs more than running it."""

    _MOST: Final = 4096  # masks of unchanged TOAST over many tables must not pile up

    def __init__(self) -> None:
        self._known: dict[tuple[str, Route, tuple[int, ...]], bytes] = {}
        self._guarded: dict[bytes, bytes | None] = {}

    def guarded(self, text: bytes) -> bytes | None:
        """See `statements.guarded`."""
        if text not in self._guarded:
            if len(self._guarded) >= self._MOST:
                self._guarded.clear()
            self._guarded[text] = statements.guarded(text)
        return self._guarded[text]

    def insert(self, plan: TablePlan) -> bytes:
        return self._get(("insert", plan.route, ()), lambda: statements.insert(plan))

    def delete(self, plan: TablePlan) -> bytes:
        return self._get(("delete", plan.route, ()), lambda: statements.delete(plan))

    def update(self, codec: RowCodec, assigned: tuple[int, ...], *, reinserts: bool) -> bytes:
        make = statements.reinsert if reinserts else statements.update
        return self._get(
            ("reinsert" if reinserts else "update", codec.plan.route, assigned),
            lambda: make(codec.plan, [codec.names[at] for at in assigned]),
        )

    def _get(self, key: tuple[str, Route, tuple[int, ...]], compose: Callable[[], bytes]) -> bytes:
        text = self._known.get(key)
        if text is None:
            if len(self._known) >= self._MOST:
                self._known.clear()
            text = self._known[key] = compose()
        return text


def _refused(failed: StatementFailed, step: _Step | None) -> Fault:
    """What the target did not take; where several sources are made into one table, whose row met whose."""
    fault = result_fault(failed.result, where=step.place if step is not None else "target")
    return fault if step is None else collided(fault, step.codec.plan)


_IN: Final = ", in the transaction whose commit is at "


def _transaction(final_lsn: Lsn) -> str:
    return f"{_IN}{final_lsn}"


_BEGIN: Final = Statement(b"BEGIN")
_DEFER: Final = Statement(b"SET CONSTRAINTS ALL DEFERRED")
# Our session is in replica role, where it may; this is for tables that are applied as origin, and for after them.
_SET_REPLICA: Final = b"SET LOCAL session_replication_role = replica"
_SET_ORIGIN: Final = b"SET LOCAL session_replication_role = origin"


def _complete(row: Sequence[Cell]) -> Parameters:
    """A row without the third kind of value; an INSERT has all its values, unless a row filter of the publication made
    it of an UPDATE, which `mapping/pushed` allows only where none are left out (E11)."""
    values: list[bytes | None] = []
    for cell in row:
        if cell is UNCHANGED:
            raise RowRefused(
                "A new row arrived with a value that was not sent.",
                means="The server does this only where a publication has a row filter that `crossfade check` refuses."
                " Nothing of that transaction was applied; the slot keeps it.",
                do="Make the publication as `crossfade check` prints it, then `crossfade teardown`, empty the target"
                " tables, `crossfade run`.",
            )
        values.append(cell)
    return values


__all__ = ["Key", "Replayer", "Tally"]
