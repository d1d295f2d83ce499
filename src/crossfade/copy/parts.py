"""A table's parts: how it is cut, and which part of which table is to be copied next. Thinking only.

A part is a range of a table's pages (or, before version 14, of its key) or all of a leaf partition. Each is read by a
transaction of its own at the one snapshot, and written by another together with its done-mark. Refuses to know
connections. The invariant: the parts of one table hold each of its rows exactly once, whatever the estimates were
worth: the first range has no beginning and the last has no end (G8).

PostgreSQL: ddl-system-columns (ctid), functions-admin (pg_relation_size).
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from crossfade.catalog import ForeignKey, Route, TableName
from crossfade.copy import phases
from crossfade.copy.phases import State
from crossfade.mapping.compoundnames import parts_of
from crossfade.mapping.plan import TablePlan

# Each part is a line of crossfade.copy_parts and a few round trips; a table of 300 GB in parts of 32 MiB has as many.
_MOST_PARTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Extent:
    """A table without partitions, or one leaf, as it is now: `pages` of its main fork, `bytes` with TOAST.

    `relation` None is the table itself. `key` is an integer column with a unique index and no NULL, its values between
    `lowest` and `highest`; "" when there is none, or no need to know.
    """

    relation: TableName | None
    pages: int
    bytes: int
    key: str = ""
    lowest: int = 0
    highest: int = -1


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of `relation` (None: of the table itself, partitions included) whose `column` is in [lower, upper).

    `column` is "ctid" (the bounds are page numbers), a key column, or "" for all of it; None is no bound.
    """

    number: int
    relation: TableName | None = None
    column: str = ""
    lower: int | None = None
    upper: int | None = None


WHOLE: Final = (Part(0),)
FORWARD: Final = Part(-1, column="forward")
"""No range: what is there of a table is brought to the snapshot at hand, before anything else of it is copied."""


def split(extents: Sequence[Extent], *, part_bytes: int, by_page: bool) -> tuple[Part, ...]:
    """Parts of about `part_bytes` each, TOAST included. `by_page`: the server finds a range of pages without reading
    the others (since 14). One part where nothing can, or need, be cut."""
    made: list[Part] = []
    for extent in extents:
        wanted = min(-(-extent.bytes // part_bytes), _MOST_PARTS)
        if by_page:
            column, edges = "ctid", _edges(0, extent.pages, wanted)
        elif extent.key:
            column, edges = extent.key, _edges(extent.lowest, extent.highest + 1, wanted)
        else:
            edges = []
        if not edges:
            made.append(Part(len(made), extent.relation))
            continue
        for lower, upper in zip([None, *edges], [*edges, None], strict=True):
            made.append(Part(len(made), extent.relation, column, lower, upper))
    if len(made) <= 1:
        return WHOLE
    return tuple(made)


def _edges(lowest: int, beyond: int, wanted: int) -> list[int]:
    """Where [lowest, beyond) is cut so that it falls into `wanted` pieces, fewer when it is not that long."""
    count = min(wanted, beyond - lowest)
    return [lowest + (beyond - lowest) * at // count for at in range(1, count)]


def is_divisible(plan: TablePlan, foreign_keys: Iterable[ForeignKey], *, enforced: bool) -> bool:
    """A row may refer to a row of another part, which the target would refuse when the first part commits. And of a
    table that shares its target with others, finished parts could not be taken out again without theirs, where rows
    cannot be told apart: it is copied whole, or not at all."""
    if plan.beside and plan.share is None:
        return False
    checked = enforced or plan.applied_as_origin
    return not (checked and any(key.table == key.referenced == plan.target for key in foreign_keys))


def obstacle(plan: TablePlan, *, replica_role: bool) -> str | None:
    """What in a table's nature keeps its finished parts from being brought to another snapshot; None for nothing."""
    if plan.append_only or not plan.key_is_unique:
        return "nothing tells its rows apart"
    if not replica_role or plan.applied_as_origin:
        return "the target enforces constraints while rows are taken out of it"
    if plan.beside:
        return "its target has other sources"
    if plan.expressions:
        return "the mapping computes something of its rows"
    if any(len(parts_of(column.name)) > 1 for column in plan.source_columns):
        return "several of its columns are one id"
    if any(column.type_name.endswith("]") for column in plan.source_columns if column.name in plan.identity):
        return "its key has an array in it"
    return None


class PartState(enum.Enum):
    """`pending` and `done` are stored, in crossfade.copy_parts; a done part is good for its snapshot, until it is
    brought forward to another."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"


class Board:
    """What is to be copied, what runs, what is done: the driver asks for the next part and tells what became of it.

    A table is `running` while any of its parts is, `stale` from the moment one of them cannot be read any more until
    the next snapshot, with which it begins from nothing. Where it has FORWARD among its parts, first, that goes first.
    """

    def __init__(
        self,
        plans: Sequence[TablePlan],
        waits: Mapping[Route, set[Route]],
        states: Mapping[Route, State],
    ) -> None:
        self._plans = tuple(plans)
        self._waits = waits
        self.states = {plan.route: states[plan.route] for plan in plans}
        self._parts: dict[Route, dict[Part, PartState]] = {}
        self._is_stale: set[Route] = set()

    def divide(self, table: Route, parts: Sequence[Part], *, done: Collection[Part] = ()) -> None:
        """How a pending table is cut, and which parts are there already; before the first one starts."""
        if table in self._parts or self.states[table] is not State.PENDING:
            raise ValueError(f"a table that is {self.states[table].value} cannot be divided")
        self._parts[table] = {part: PartState.DONE if part in done else PartState.PENDING for part in parts}

    @property
    def pending(self) -> list[TablePlan]:
        """Tables that are not done, whatever becomes of them at this snapshot."""
        return [plan for plan in self._plans if self.states[plan.route] is State.PENDING]

    @property
    def is_done(self) -> bool:
        return all(state is State.DONE for state in self.states.values())

    @property
    def is_idle(self) -> bool:
        """Nothing runs and nothing can start: what is still pending waits for a table that needs a new snapshot."""
        return not any(state is State.RUNNING for state in self.states.values()) and not self.ready()

    def ready(self) -> list[tuple[TablePlan, Part]]:
        """The next part of every table that may go on, tables that have begun first, then the biggest."""
        made = []
        for plan in phases.runnable(self._plans, self.states, self._waits):
            if plan.route in self._is_stale:
                continue
            parts = self._parts.get(plan.route, {})
            if parts.get(FORWARD) is PartState.RUNNING:
                continue
            waiting = next((part for part, state in parts.items() if state is PartState.PENDING), None)
            if waiting is not None:
                made.append((plan, waiting))
        return made

    def parts_of(self, table: Route) -> int:
        return len(self._parts.get(table, {}))

    def started(self, table: Route, part: Part) -> None:
        self._change(table, part, PartState.PENDING, PartState.RUNNING)
        if self.states[table] is State.PENDING:
            self.states[table] = phases.advance(State.PENDING, phases.Started())

    def finished(self, table: Route, part: Part) -> bool:
        """The part and its mark are durable; true when that was the table's last."""
        self._change(table, part, PartState.RUNNING, PartState.DONE)
        self._settle(table)
        return self.states[table] is State.DONE

    def given_back(self, table: Route, part: Part) -> None:
        """Nothing of the part was written: it is to be copied again, at the same snapshot."""
        self._change(table, part, PartState.RUNNING, PartState.PENDING)
        self._settle(table)

    def rewritten(self, table: Route, part: Part) -> None:
        """The snapshot does not show the table any more: no part of it may begin, and those that are done are void."""
        self._is_stale.add(table)
        self.given_back(table, part)

    def _change(self, table: Route, part: Part, before: PartState, after: PartState) -> None:
        states = self._parts[table]
        if states[part] is not before:
            raise ValueError(f"a part that is {states[part].value} cannot become {after.value}")
        states[part] = after

    def _settle(self, table: Route) -> None:
        """With its last running part the table comes to rest: done, stale, or to be gone on with."""
        states = self._parts[table].values()
        if PartState.RUNNING in states:
            return
        event: phases.Event = phases.Yielded()
        if all(state is PartState.DONE for state in states):
            event = phases.Finished()
        elif table in self._is_stale:
            event = phases.Rewritten()
        self.states[table] = phases.advance(self.states[table], event)
