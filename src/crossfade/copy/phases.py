"""The states of a table's copy, and which table may be copied next. Thinking only: the driver performs.

Words are PostgreSQL's where it has them (pg_subscription_rel): a table is `pending`, `running`, then `done`; a lock
that somebody waits for brings it back to `pending`, and a rewrite makes it `stale` until the copy is begun anew at
another snapshot. Only `pending` and `done` survive that, in `crossfade.copy_tables`, because a table's rows and its
done-mark are one target transaction (G5). Refuses to know connections. The invariant: a done table is never copied
again.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from crossfade.catalog import ForeignKey, Route, TableName
from crossfade.mapping.plan import TablePlan


class State(enum.Enum):
    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    STALE = "stale"  # cannot be read at this snapshot any more; pending again at the next one


@dataclass(frozen=True, slots=True)
class Started:
    pass


@dataclass(frozen=True, slots=True)
class Finished:
    pass


@dataclass(frozen=True, slots=True)
class Yielded:
    """Somebody queued behind our lock, so we let go."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The table's file is not the one the snapshot saw: it would look empty (G11)."""


Event = Started | Finished | Yielded | Rewritten

NEXT: Final[Mapping[tuple[State, type[Event]], State]] = {
    (State.PENDING, Started): State.RUNNING,
    (State.RUNNING, Finished): State.DONE,
    (State.RUNNING, Yielded): State.PENDING,
    (State.RUNNING, Rewritten): State.STALE,
}


def advance(state: State, event: Event) -> State:
    """The next state. Raises ValueError for an event that cannot happen there."""
    following = NEXT.get((state, type(event)))
    if following is None:
        raise ValueError(f"a {state.value} table cannot be {type(event).__name__}")
    return following


def parents(
    plans: Iterable[TablePlan], foreign_keys: Iterable[ForeignKey], *, enforced: bool
) -> dict[Route, set[Route]]:
    """For each table, those that must be copied before it: none when foreign keys are not enforced.

    The compiler has refused cycles where they are; a self-reference is checked at the end of its one COPY. Which of
    several sources of a table a reference means, nobody says: all of them come first.
    """
    listed = list(plans)
    waits: dict[Route, set[Route]] = {plan.route: set() for plan in listed}
    routes: dict[TableName, list[Route]] = {}
    for plan in listed:
        routes.setdefault(plan.target, []).append(plan.route)
    origin = {plan.target for plan in listed if plan.applied_as_origin}
    for key in foreign_keys:
        if (enforced or key.table in origin) and key.referenced != key.table:
            for child in routes.get(key.table, ()):
                waits[child].update(routes.get(key.referenced, ()))
    return waits


def connected(tables: Iterable[Route], waits: Mapping[Route, set[Route]]) -> set[Route]:
    """`tables` and all tied to one of them by enforced foreign keys, in either direction: the unit of restart."""
    neighbours: dict[Route, set[Route]] = {table: set() for table in waits}
    for table, others in waits.items():
        for other in others:
            neighbours[table].add(other)
            neighbours[other].add(table)
    reached: set[Route] = set()
    ahead = list(tables)
    while ahead:
        table = ahead.pop()
        if table not in reached:
            reached.add(table)
            ahead.extend(neighbours.get(table, ()))
    return reached


def runnable(
    plans: Iterable[TablePlan], states: Mapping[Route, State], waits: Mapping[Route, set[Route]]
) -> list[TablePlan]:
    """What may start or be joined now: what has begun first, so that locks and parts are done with soon, then the
    biggest, so that one big table does not run alone at the end."""
    ready = [
        plan
        for plan in plans
        if states[plan.route] in (State.PENDING, State.RUNNING)
        and all(states[parent] is State.DONE for parent in waits[plan.route])
    ]
    return sorted(
        ready,
        key=lambda plan: (states[plan.route] is not State.RUNNING, -plan.bytes_estimate, plan.target, plan.source),
    )
