"""Where stories are applied: real targets on a real server, and the daemon's own assembler, pipe and applier.

Two of each kind stand beside each other, one for the exact path and one for the fast one. Nothing is started for a
story: connections stay, tables are emptied. The invariant: what is compared was read after the applier had returned,
by a superuser who knows nothing of its codecs.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast
from unittest import mock

import psycopg

from crossfade.events import Applied, Event
from crossfade.faults import Fault
from crossfade.lsn import Lsn
from crossfade.mapping.compile import compile_plan
from crossfade.mapping.expressions import questions
from crossfade.mapping.load import parse_mapping
from crossfade.mapping.plan import Plan
from crossfade.pgoutput.assemble import Assembler, Piece
from crossfade.pipe import EndOfStream, Pipe
from crossfade.runtime.streaming import make_ids, zones
from crossfade.session import expressions
from crossfade.session.connect import TARGET, Connection, connect
from crossfade.session.introspect import read_catalog
from crossfade.state import schema
from crossfade.target import gather, idmap, progress, sets
from crossfade.target.apply import Applier
from crossfade.target.gather import Gatherer
from crossfade.target.progress import Position, SourceIdentity
from crossfade.target.replay import Replayer
from crossfade.target.sets import SetLevel
from crossfade.wire.form import Form, stream_form
from tests.histories.frames import START, Encoding, end_lsn
from tests.histories.stories import NULL, SEPARATOR, Shown, Story, reading
from tests.histories.tables import KEYSPACES, MAPPING, PARTS, PARTS_OF, SOURCE, TABLES, target_sql
from tests.servers.clusters import Pair
from tests.servers.databases import Databases, Row, fresh

_WORKFLOW = "agreement"
_EMPTY = "; ".join(
    [
        "SET session_replication_role = replica",
        *(
            f"DELETE FROM public.{name}"
            for name in {*(table.target for table in TABLES), *(part.name for part in PARTS)}
        ),
        *(f"DELETE FROM crossfade.id_{keyspace}" for keyspace in KEYSPACES),
        f"UPDATE crossfade.progress SET end_lsn = '{Lsn(START)}', epoch = 1",
    ]
)


@dataclass(frozen=True, slots=True)
class Way:
    """How a story is applied. `apply` is exact or fast; `batch_bytes` cuts batches, `piece_bytes` transactions, from
    `few` changes on a batch is folded, and from `copied` rows on they are added by COPY."""

    apply: str
    binary: bool
    batch_bytes: int
    piece_bytes: int
    repeats_relations: bool = False
    few: int = gather.FEW
    copied: int = sets._COPY_FROM

    def by(self, apply: str) -> Way:
        """The same by the other path."""
        return dataclasses.replace(self, apply=apply)


@dataclass(slots=True)
class Outcome:
    """How far it came, why no further, and by which levels; `acknowledged` are the positions called durable."""

    transactions: int = 0
    fault: Fault | None = None
    acknowledged: list[int] = field(default_factory=list)
    levels: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    conflicts: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)


class Disagreement(AssertionError):
    """The target does not show what the source held."""


def with_parts(tables: Sequence[str]) -> list[str]:
    return [*tables, *(part.name for name in tables for part in PARTS_OF[name])]


class Side:
    """One target database with the applier's connection and a superuser's."""

    def __init__(
        self, databases: Databases, plan: Plan, connection: Connection, admin: psycopg.Connection[Row]
    ) -> None:
        self.databases = databases
        self.plan = plan
        self._connection = connection
        self._admin = admin

    def run(self, text: str) -> list[Row]:
        cursor = self._admin.execute(cast(Any, text))
        return cursor.fetchall() if cursor.description else []

    def shown(self, tables: Sequence[str]) -> dict[str, Counter[str]]:
        found: dict[str, Counter[str]] = {name: Counter() for name in with_parts(tables)}
        for name, row in self.run(reading(tables)):
            found[str(name)][str(row)] += 1
        return found

    def position(self) -> int:
        ((position,),) = self.run("SELECT (end_lsn - '0/0')::bigint FROM crossfade.progress")
        return int(position)

    async def apply(self, story: Story, way: Way, *, replica_role: bool) -> Outcome:
        """Apply the story from an empty target; raises Disagreement where the target shows anything else.

        After each stretch and after a fault that ended it, rows, position and acknowledgements must be those of one
        and the same transaction's end.
        """
        with mock.patch.object(gather, "FEW", way.few), mock.patch.object(sets, "_COPY_FROM", way.copied):
            return await self._apply(story, way, replica_role=replica_role)

    async def _apply(self, story: Story, way: Way, *, replica_role: bool) -> Outcome:
        self.run(_EMPTY)
        if self._connection.closed:
            raise RuntimeError("the connection is gone")
        await self._connection.execute("DEALLOCATE ALL")
        oids = {table.source.name: table.source_oid for table in self.plan.tables}
        encoding = Encoding(oids, binary=way.binary, repeats=way.repeats_relations)
        assembler = Assembler(Lsn(START), piece_bytes=way.piece_bytes)
        pipe = Pipe(1 << 40)
        outcome = Outcome()

        def listen(event: Event) -> None:
            if isinstance(event, Applied):
                outcome.levels[event.by_level] += 1
                outcome.reasons[f"{event.by_level} {event.reason}".strip()] += 1
                for (_, kind), times in event.conflicts.items():
                    outcome.conflicts[kind] += times
                for (route, operation), times in event.changes.items():
                    outcome.changes[f"{route.source.name} to {route.target.name} {operation.name}"] += times

        applier, gatherer = self._applier(way, pipe, outcome, listen, replica_role=replica_role)
        empty: Shown = {name: Counter() for name in with_parts(story.tables)}
        after: list[Shown] = [empty]
        for stretch in story.stretches:
            for transaction in stretch.transactions:
                after.append(transaction.shown)
                for piece in _pieces(assembler, encoding.frames(transaction)):
                    pipe.put(piece)
            pipe.put(EndOfStream())
            outcome.fault = await _run(applier, gatherer)
            done = self._where(after)
            outcome.transactions = done
            self._check(outcome, story, after, done)
            if outcome.fault is not None:
                return outcome
            if stretch.meddling is not None:
                self.run(stretch.meddling.sql)
                after[-1] = stretch.meddling.shown
        return outcome

    def _where(self, after: Sequence[Shown]) -> int:
        position = self.position()
        for number in range(len(after)):
            if end_lsn(number) == position:
                return number
        raise Disagreement(f"the position {Lsn(position)} is no transaction's end")

    def _check(self, outcome: Outcome, story: Story, after: Sequence[Shown], done: int) -> None:
        if outcome.fault is None and done != len(after) - 1:
            raise Disagreement(f"it stands at the end of transaction {done} of {len(after) - 1} and says it is done")
        positions = [START, *outcome.acknowledged]
        if positions != sorted(positions) or positions[-1] != end_lsn(done):
            raise Disagreement(f"acknowledged {outcome.acknowledged}, and stands at {end_lsn(done)}")
        shown = self.shown(story.tables)
        wrong: list[str] = []
        for name in shown:
            missing, surplus = after[done][name] - shown[name], shown[name] - after[done][name]
            wrong += [f"{name}: missing {times} x {_readable(row)}" for row, times in missing.items()]
            wrong += [f"{name}: surplus {times} x {_readable(row)}" for row, times in surplus.items()]
        for keyspace in KEYSPACES:
            ((entries, news),) = self.run(f"SELECT count(*), count(DISTINCT new) FROM crossfade.id_{keyspace}")
            if entries != news:
                wrong.append(f"keyspace {keyspace}: {entries} entries, {news} ids")
        if wrong:
            fault = f"stopped by {type(outcome.fault).__name__}: {outcome.fault}" if outcome.fault else "no fault"
            raise Disagreement("\n".join([f"after transaction {done} ({fault}; {dict(outcome.levels)}):", *wrong]))

    def _applier(
        self, way: Way, pipe: Pipe, outcome: Outcome, listen: Any, *, replica_role: bool
    ) -> tuple[Applier, Gatherer]:
        form = Form.BINARY if way.binary else Form.TEXT
        ids, clocks = make_ids(self.plan), zones(self.plan)
        connection, plan = self._connection, self.plan
        replayer = Replayer(connection, plan, ids=ids, zones=clocks, from_lsn={}, replica_role=replica_role, form=form)
        gatherer = Gatherer(pipe, plan, form=form, from_lsn={}, batch_bytes=way.batch_bytes, folds=way.apply == "fast")
        applier = Applier(
            connection,
            replayer,
            SetLevel(
                replayer.pipeline, replayer.ages, plan, ids=ids, zones=clocks, form=form, replica_role=replica_role
            ),
            Position(_WORKFLOW, end_lsn=Lsn(START), epoch=1),
            gatherer,
            pipe,
            ids=ids,
            replica_role=replica_role,
            at_once=way.apply == "fast",
            durable=lambda position: outcome.acknowledged.append(int(position)),
            idle_persisted=lambda position: None,
            listener=listen,
            source_now=lambda: 0.0,
            sample_passed=lambda position: None,
            is_paused=lambda: False,
        )
        return applier, gatherer


async def _run(applier: Applier, gatherer: Gatherer) -> Fault | None:
    """Until the end of the stream; what stopped it, if anything did."""
    gathering = asyncio.create_task(gatherer.run())
    try:
        await applier.run()
        await gathering
    except Fault as fault:
        return fault
    finally:
        gathering.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await gathering
    return None


def _readable(row: str) -> str:
    return repr(row.split(SEPARATOR)).replace(repr(NULL), "NULL")


def _pieces(assembler: Assembler, frames: list[bytes]) -> Iterator[Piece]:
    """As the reader of the stream does it."""
    at = 0
    while at < len(frames):
        at, piece = assembler.rows(frames, at)
        if piece is None and at < len(frames):
            _, piece = assembler.feed(frames[at])
            at += 1
        if piece is not None:
            yield piece


class Stand:
    """The two sides of one kind of role, and the loop their connections live in."""

    def __init__(self, runner: asyncio.Runner, exact: Side, fast: Side, *, replica_role: bool) -> None:
        self._runner = runner
        self.exact = exact
        self.fast = fast
        self.replica_role = replica_role

    def apply(self, side: Side, story: Story, way: Way) -> Outcome:
        return self._runner.run(side.apply(story, way, replica_role=self.replica_role))


@contextlib.contextmanager
def stand(servers: Pair, *, replica_role: bool) -> Iterator[Stand]:
    """Two targets and their connections; everything is gone afterwards."""
    with contextlib.ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        first = stack.enter_context(fresh(servers, replica_role=replica_role))
        second = stack.enter_context(fresh(servers, replica_role=replica_role))
        first.prepare(SOURCE, target_sql(replica_role=replica_role))
        second.prepare("", target_sql(replica_role=replica_role))
        plan = runner.run(_plan(first, replica_role=replica_role))
        sides: list[Side] = []
        for databases in (first, second):
            connection = runner.run(_begun(databases, plan))
            stack.callback(lambda open_one: runner.run(open_one.close()), connection)
            admin = stack.enter_context(databases.target.connect(timezone="UTC"))
            sides.append(Side(databases, plan, connection, admin))
        yield Stand(runner, sides[0], sides[1], replica_role=replica_role)


async def _plan(databases: Databases, *, replica_role: bool) -> Plan:
    catalogs = []
    for dsn, endpoint in ((databases.source_admin, "source"), (databases.target_admin, "target")):
        connection = await connect(dsn, purpose="catalog", endpoint=endpoint)
        catalogs.append(await read_catalog(connection))
        await connection.close()
    source, target = catalogs
    spec = parse_mapping(MAPPING)
    connection = await connect(databases.target_admin, purpose="expressions", endpoint="target")
    answers = await expressions.ask(connection, questions(spec, source, target))
    await connection.close()
    compiled = compile_plan(spec, source, target, workflow=_WORKFLOW, replica_role=replica_role, answers=answers)
    assert compiled.plan is not None, [finding for finding in compiled.findings if finding.severity.name == "ERROR"]
    version = source.version
    form = stream_form(compiled.plan, source_version=version, target_version=target.version, wanted="auto")
    assert form is (Form.BINARY if version >= 140_000 else Form.TEXT), (
        "a table that needs text would hide the binary form"
    )
    return compiled.plan


async def _begun(databases: Databases, plan: Plan) -> Connection:
    connection = await connect(databases.target_dsn, purpose="apply", endpoint="target", settings=TARGET)
    await schema.ensure(connection)
    await idmap.create_tables(connection, plan)
    identity = SourceIdentity("1", 1, "played")
    await progress.begin(connection, _WORKFLOW, source=identity, slot="none", mapping_hash=plan.mapping_hash)
    created = datetime.now(UTC)
    await progress.place(connection, _WORKFLOW, start=Lsn(START), published={}, created_at=created)
    await progress.raise_epoch(connection, _WORKFLOW)
    return connection
