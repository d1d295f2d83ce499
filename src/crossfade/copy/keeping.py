"""Which tables that were copied in part can be gone on with, and why the others must begin again.

Refuses to touch anything. The invariant: every premise on which `forward` rests is looked at before it is relied on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

import psycopg

from crossfade import statements
from crossfade.catalog import Route
from crossfade.copy import phases
from crossfade.copy.parts import obstacle
from crossfade.copy.phases import State
from crossfade.faults import Refused
from crossfade.mapping.plan import Plan, TablePlan
from crossfade.session.connect import Connection, server_fault
from crossfade.source.touched import Touched
from crossfade.state import copies
from crossfade.state.copies import Unfinished

# Of all tables at once. A column that was dropped and made again holds no value that was written before.
_SHAPES: Final = """
SELECT concat_ws('; ', t.name::regclass::oid, (
    SELECT string_agg(concat_ws(' ', a.attnum, a.attname, a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
    FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.name::regclass AND a.attnum > 0 AND NOT a.attisdropped))
FROM unnest(%s::text[]) WITH ORDINALITY AS t (name, number) ORDER BY t.number
"""


async def bases(control: Connection, plan: Plan, files: Mapping[Route, str]) -> dict[Route, str]:
    """What finished parts of the tables in `files` rest on: those files, the mapping, and the columns of the target."""
    names = [statements.table(route.target).as_string(control) for route in files]
    try:
        shapes = await (await control.execute(_SHAPES, (names,))).fetchall()
    except psycopg.Error as error:
        raise server_fault(error, where="target, looking at the columns of its tables") from None
    return {
        route: hashlib.sha256(f"{plan.mapping_hash}\n{about}\n{shape}".encode()).hexdigest()
        for (route, about), (shape,) in zip(files.items(), shapes, strict=True)
    }


async def candidates(
    unfinished: Iterable[Unfinished],
    plans: Mapping[Route, TablePlan],
    bases: Mapping[Route, str],
    *,
    control: Connection,
    replica_role: bool,
) -> tuple[dict[Route, Touched], dict[Route, str]]:
    """Those of which only the touched rows are still to be found out, and the reasons of the others, for people.

    `bases` are what finished parts would rest on at the new snapshot; `control` is the target's.
    """
    found: dict[Route, Touched] = {}
    reasons: dict[Route, str] = {}
    for each in unfinished:
        plan = plans[each.route]
        why = obstacle(plan, replica_role=replica_role)
        if why is not None:
            reasons[each.route] = why
        elif each.shows is None:
            reasons[each.route] = "a program of before wrote it"
        elif each.basis != bases[each.route]:
            reasons[each.route] = "the source rewrote it, or its leaves, columns or the mapping are others"
        elif each.rows != await _counted(control, plan):
            # Somebody may have emptied it by hand, as one does before a copy begins again.
            reasons[each.route] = "the target does not hold the rows that were written"
        else:
            found[each.route] = Touched(plan, each.shows)
    return found, reasons


async def _counted(control: Connection, plan: TablePlan) -> int:
    try:
        cursor = await control.execute(statements.count(plan.target))
        row = await cursor.fetchone()
    except psycopg.Error as error:
        raise server_fault(error, where=f"target, counting {plan.target}") from None
    return int(str(row[0])) if row is not None else 0


async def load_states(connection: Connection, plan: Plan) -> dict[Route, State]:
    """What is stored of each table, `pending` where nothing is."""
    stored = await copies.states(connection, plan.workflow)
    return {table.route: State(stored.get(table.route, State.PENDING.value)) for table in plan.tables}


async def restart_connected(connection: Connection, plan: Plan, *, enforced: bool) -> None:
    """Refuse to go on where a snapshot was lost in the middle of tables tied by enforced foreign keys.

    Such tables must all be copied at one snapshot; those already done hold rows, which only an operator may remove.
    """
    states = await load_states(connection, plan)
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
