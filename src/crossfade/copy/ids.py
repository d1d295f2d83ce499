"""New ids during the copy: made as the rows that own them pass, or ahead of everything, or at first sight.

As they pass (`PassingIds`): a map that is empty when a snapshot is taken cannot know any key of its owner's rows, and a
key comes once, so nothing need be looked up; the entries are written with the rows, in one transaction, and tables that
refer to the keyspace wait for its owner. Ahead (`fill`): where the map holds something, or tables wait for each other
in a circle, every parent gets its id before any table is copied. At first sight (`Ids.know`): whatever a block still
does not know is looked up, and made. Refuses to know rows. The invariant: no row is committed before the entries it
uses (edge-cases 0.13, I1, I3), and whoever looks something up in a map finds its indexes there.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

import psycopg

from crossfade import statements
from crossfade.catalog import Route
from crossfade.copy.lines import give_up
from crossfade.faults import RowRefused
from crossfade.mapping.plan import Keyspace, OnOrphan, Plan, TablePlan, keyspaces_of
from crossfade.session.connect import Connection, connect, server_fault
from crossfade.source.snapshot import Snapshot, enter
from crossfade.target import idmap, setforms
from crossfade.wire.entries import HEADER, TRAILER
from crossfade.wire.ids import allocator
from crossfade.wire.idstate import IdState, in_order

_FILL: Final = 20_000
_GATHERED: Final = 8 * 1024 * 1024  # bytes of entries; then the rows' COPY makes a pause for them


class Ids:
    """The kept maps, over one connection that commits entries before anybody may use them."""

    def __init__(self, states: Mapping[str, IdState], allocator: Connection | None) -> None:
        self.states = states
        self.allocator = allocator
        self._lock = asyncio.Lock()
        self._bare: set[str] = set()  # maps whose indexes are made when their owner's rows are there

    async def strip(self, names: Iterable[str]) -> None:
        """Take the indexes of empty maps away, since two made at the end cost half of two kept."""
        for name in names:
            assert self.allocator is not None
            constraints = await _constraints(self.allocator, name)
            try:
                for constraint in constraints.values():
                    await self.allocator.execute(statements.drop_constraint(statements.id_table(name), constraint))
            except psycopg.errors.InsufficientPrivilege:
                continue  # somebody else made the table: then they stay
            self._bare.add(name)

    async def dress(self) -> None:
        """Every map has its indexes again, also those that a killed daemon left without."""
        if self.allocator is None:
            return
        for name in self.states:
            constraints = await _constraints(self.allocator, name)
            for kind, statement in statements.id_constraints(name).items():
                if kind not in constraints:
                    await self.allocator.execute(statement)
        self._bare.clear()

    async def know(self, wanted: Mapping[str, Collection[bytes]], plan: TablePlan) -> int:
        """Give every id of a block an entry before the block is converted; returns how many references had no
        parent."""
        orphans = 0
        async with self._lock:
            for name, olds in wanted.items():
                if not olds:
                    continue
                assert self.allocator is not None
                if name in self._bare:
                    await self.dress()
                created = await idmap.allocate_ahead(self.allocator, self.states[name], olds)
                if plan.owns == name or not created:
                    continue
                if plan.policies.orphan_id is OnOrphan.ERROR:
                    raise RowRefused(
                        f"{created} references have no parent in {self.states[name].keyspace.owner}, and the mapping"
                        " says `orphan_id: error`.",
                        where=str(plan.source),
                        means="The table is not copied.",
                        do="Mend the references on the source, or set `orphan_id: allocate` and restart the daemon.",
                    )
                orphans += created
        return orphans

    async def empty(self, keyspaces: Mapping[str, Keyspace]) -> set[str]:
        """The keyspaces whose map holds nothing, and is nobody else's: none where several workflows share a target."""
        found: set[str] = set()
        if self.allocator is None or await _has_neighbours(self.allocator):
            return found
        for name in keyspaces:
            cursor = await self.allocator.execute(statements.is_empty(statements.id_table(name)))
            row = await cursor.fetchone()
            if row is not None and row[0]:
                found.add(name)
        return found


class PassingIds:
    """Entries for the keys that one part brings, gathered until its COPY has a pause for them."""

    def __init__(self, keyspace: Keyspace) -> None:
        self.name = keyspace.name
        self.copy_in = setforms.copy_ids(keyspace)
        made = allocator(keyspace, clock=_milliseconds, randomness=os.urandom)
        self._many = made.many
        self.state = IdState(keyspace, made)  # knows the block at hand, and is never asked for anything else
        self._gathered: list[bytes] = []
        self._size = 0

    @property
    def is_full(self) -> bool:
        return self._size >= _GATHERED

    def make(self, olds: Iterable[bytes]) -> None:
        """Ids for the keys of a block, known until the next one."""
        ordered = in_order(olds)  # so that the map's index grows at its end
        news = self._many(ordered)
        self.state.known.clear()
        self.state.known.update(zip(ordered, news, strict=True))
        data = idmap.copy_data(self.state.keyspace, ordered, news)
        self._gathered.append(data)
        self._size += len(data)

    def take(self) -> list[bytes]:
        """What was gathered, as COPY data for `copy_in`."""
        gathered, self._gathered, self._size = self._gathered, [], 0
        return [HEADER, *gathered, TRAILER]


def passing(plan: Plan, waits: Mapping[Route, set[Route]], empty: set[str]) -> dict[Route, str]:
    """Which tables may make their keyspace's ids as their rows pass; `waits` is extended by who must wait for them.

    An owner that refers to itself would meet keys before the rows that own them, and tables in a circle would wait for
    ever: their keyspaces are filled ahead.
    """
    chosen: dict[Route, str] = {}
    for table in plan.tables:
        if table.owns is None or table.owns not in empty or table.where is not None:
            continue  # a row that is not taken has an id all the same, and others may refer to it
        if plan.keyspaces[table.owns].taken_from is not None:
            continue  # made elsewhere: they must be fetched before they can be given
        column = plan.keyspaces[table.owns].column
        fed = [each.source for each in table.columns if table.owns in keyspaces_of(each.rule)]
        if len(fed) != 1 or fed[0] is None or fed[0].name != column:
            continue
        others = [each.route for each in plan.tables if each is not table and _refers(each, table.owns)]
        if any(_reaches(waits, table.route, other) for other in others):
            continue
        for other in others:
            waits[other].add(table.route)
        chosen[table.route] = table.owns
    return chosen


async def _has_neighbours(connection: Connection) -> bool:
    cursor = await connection.execute("SELECT count(*) > 1 FROM crossfade.progress")
    row = await cursor.fetchone()
    return row is None or bool(row[0])


async def _constraints(connection: Connection, name: str) -> dict[str, str]:
    """The names of a map's primary key ("p") and unique constraint ("u"), as far as they are there."""
    cursor = await connection.execute(
        "SELECT contype::text, conname FROM pg_catalog.pg_constraint WHERE contype IN ('p', 'u')"
        " AND conrelid = to_regclass(%s)",
        (statements.id_table(name).as_string(connection),),
    )
    return {str(row[0]): str(row[1]) for row in await cursor.fetchall()}


def _refers(table: TablePlan, keyspace: str) -> bool:
    return any(keyspace in keyspaces_of(column.rule) for column in table.columns)


def _reaches(waits: Mapping[Route, set[Route]], start: Route, goal: Route) -> bool:
    """`start` waits for `goal`, at once or through others."""
    seen: set[Route] = set()
    ahead = [start]
    while ahead:
        table = ahead.pop()
        if table == goal:
            return True
        if table not in seen:
            seen.add(table)
            ahead.extend(waits.get(table, ()))
    return False


async def fill(
    ids: Ids, keyspaces: Mapping[str, Keyspace], source_dsn: str, snapshot: Snapshot, ends: Callable[[], bool]
) -> None:
    """Give every parent its id before any table is copied: the parent column first, then nobody has to wait."""
    if ids.allocator is None or not keyspaces:
        return
    source = await connect(source_dsn, purpose="id maps", endpoint="source")
    try:
        await enter(source, snapshot.name)
        for name, keyspace in keyspaces.items():
            async with source.cursor(name="ids") as cursor:
                await cursor.execute(statements.owner_ids(keyspace))
                while rows := await cursor.fetchmany(_FILL):
                    olds = {str(row[0]).encode() for row in rows if row[0] is not None}
                    await idmap.allocate_ahead(ids.allocator, ids.states[name], olds)
                    if ends():
                        return
    except psycopg.Error as error:
        raise server_fault(error, where="filling the id maps") from None
    finally:
        await give_up(source)


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000
