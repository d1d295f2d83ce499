"""What is stored of the copy: `crossfade.copy_tables`, and `crossfade.copy_parts` for tables copied in several parts.

Refuses to decide what is copied next (`copy/parts`). The invariant: a mark is written in the same target transaction as
the rows it speaks of, by compare-and-set, so that of two sessions that copied the same rows only one keeps them; what a
part left behind is taken out together with its mark; and all parts of one table that are there show one snapshot.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import psycopg

from crossfade import failpoints, statements
from crossfade.catalog import Route, TableName
from crossfade.events import CopyState
from crossfade.faults import Fenced
from crossfade.lsn import NOWHERE, Lsn
from crossfade.mapping.plan import Plan, TablePlan
from crossfade.session.connect import Connection

_KEY: Final = "source_schema, source_name, target_schema, target_name"
_ONE: Final = (
    " WHERE workflow = %s AND source_schema = %s AND source_name = %s AND target_schema = %s AND target_name = %s"
)


# Pending tables (t) but for some, whose names are four arrays.
_BEGUN_AGAIN: Final = (
    " AND t.state = 'pending' AND (t.source_schema, t.source_name, t.target_schema, t.target_name) NOT IN"
    " (SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[]))"
)


@dataclass(frozen=True, slots=True)
class Piece:
    """One line of `crossfade.copy_parts`."""

    part: int
    relation: TableName | None
    range_of: str
    lower: int | None
    upper: int | None


async def recorded(connection: Connection, workflow: str) -> tuple[CopyState, ...]:
    """One event per table of the workflow, `pending` or `done`, in the order of their source names."""
    cursor = await connection.execute(
        f"SELECT {_KEY}, state, copied_rows, copied_bytes, rows_estimated, from_lsn::text FROM crossfade.copy_tables"
        f" WHERE workflow = %s ORDER BY {_KEY}",
        (workflow,),
    )
    return tuple(
        CopyState(
            source=TableName(str(source_schema), str(source_name)),
            target=TableName(str(target_schema), str(target_name)),
            state=str(state),
            rows=int(str(rows)),
            bytes=int(str(copied)),
            rows_estimated=int(str(estimated)),
            from_lsn=Lsn.parse(str(from_lsn)) if from_lsn is not None else NOWHERE,
        )
        for (
            source_schema,
            source_name,
            target_schema,
            target_name,
            state,
            rows,
            copied,
            estimated,
            from_lsn,
        ) in await cursor.fetchall()
    )


async def register(connection: Connection, plan: Plan) -> None:
    """Write every table as pending, once; what is there stays."""
    async with connection.transaction():
        for table in plan.tables:
            await connection.execute(
                f"INSERT INTO crossfade.copy_tables (workflow, {_KEY}, state, rows_estimated)"
                " VALUES (%s, %s, %s, %s, %s, 'pending', %s) ON CONFLICT DO NOTHING",
                (plan.workflow, *_named(table.route), table.row_estimate),
            )


def _named(route: Route) -> tuple[str, str, str, str]:
    """The values of `_KEY`."""
    return (*route.source, *route.target)


def _route(row: Sequence[object]) -> Route:
    """That of a row which begins with `_KEY`."""
    source_schema, source_name, target_schema, target_name = map(str, row[:4])
    return Route(TableName(source_schema, source_name), TableName(target_schema, target_name))


async def states(connection: Connection, workflow: str) -> dict[Route, str]:
    """`pending` or `done` of each table."""
    cursor = await connection.execute(
        f"SELECT {_KEY}, state FROM crossfade.copy_tables WHERE workflow = %s", (workflow,)
    )
    return {_route(row): str(row[4]) for row in await cursor.fetchall()}


async def from_lsns(connection: Connection, plan: Plan) -> dict[Route, Lsn]:
    """Per table, the position before which the copy already shows its changes."""
    cursor = await connection.execute(
        f"SELECT {_KEY}, from_lsn::text FROM crossfade.copy_tables WHERE workflow = %s AND from_lsn IS NOT NULL",
        (plan.workflow,),
    )
    return {_route(row): Lsn.parse(str(row[4])) for row in await cursor.fetchall()}


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A pending table of which some parts are there, as the snapshot at `shows` saw them: `rows`. `basis` is what they
    rest on; None, as `shows` is, where an older program wrote them."""

    route: Route
    rows: int
    shows: Lsn | None
    basis: str | None


async def begin_attempt(connection: Connection, plan: Plan) -> tuple[int, list[Unfinished]]:
    """Before anything is read at another snapshot: nobody marks what was read before.

    Returns the number that marks must carry from now on, and the pending tables that hold finished parts: each of them
    is to be brought forward (`forwarded`) or begun again (`start_over`) before another part of it is marked.
    """
    async with connection.transaction():
        # A session that outlived its daemon may be about to mark: it is waited for, or waits and finds itself fenced.
        cursor = await connection.execute(
            f"SELECT {_KEY}, max(attempt) OVER (), shows_lsn::text, basis, copied_rows"
            " FROM (SELECT * FROM crossfade.copy_tables"
            f" WHERE workflow = %s AND state = 'pending' ORDER BY {_KEY} FOR UPDATE) p",
            (plan.workflow,),
        )
        found = await cursor.fetchall()
        attempt = int(str(found[0][4])) + 1 if found else 0
        cursor = await connection.execute(
            f"SELECT DISTINCT {_KEY} FROM crossfade.copy_parts WHERE workflow = %s AND state = 'done'",
            (plan.workflow,),
        )
        begun = {_route(row) for row in await cursor.fetchall()}
        for line in ("copy_tables", "copy_parts"):
            await connection.execute(
                f"UPDATE crossfade.{line} SET attempt = %s WHERE workflow = %s AND state = 'pending'",
                (attempt, plan.workflow),
            )
    unfinished = [
        Unfinished(
            _route(row),
            int(str(row[7])),
            Lsn.parse(str(row[5])) if row[5] is not None else None,
            str(row[6]) if row[6] is not None else None,
        )
        for row in found
        if _route(row) in begun
    ]
    return attempt, sorted(unfinished, key=lambda each: each.route)


async def start_over(
    connection: Connection, plan: Plan, kept: Collection[Route], *, attempt: int, replica_role: bool
) -> list[Route]:
    """Take out what there is of pending tables, but for those that are `kept`; returns the tables that held rows.

    Rows of two snapshots in one table would be a state the source never had; rows of other sources stay. Raises Fenced
    when another attempt began: what is there may be its.
    """
    async with connection.transaction():
        cursor = await connection.execute(
            f"SELECT {_KEY}, attempt FROM crossfade.copy_tables WHERE workflow = %s AND state = 'pending'"
            f" ORDER BY {_KEY} FOR UPDATE",
            (plan.workflow,),
        )
        found = await cursor.fetchall()
        if any(row[4] != attempt for row in found):
            raise _fenced()
        pending = {_route(row) for row in found}
        cursor = await connection.execute(
            f"SELECT DISTINCT {_KEY} FROM crossfade.copy_parts WHERE workflow = %s AND state = 'done'",
            (plan.workflow,),
        )
        partial = {_route(row) for row in await cursor.fetchall()} & pending - set(kept)
        emptied = sorted((table for table in plan.tables if table.route in partial), key=lambda table: table.route)
        if emptied and replica_role:
            await connection.execute("SET LOCAL session_replication_role = replica")
        for table in emptied:
            beside = [other.route for other in plan.tables if other.target == table.target]
            await _empty(connection, table, is_alone=pending.issuperset(beside))
        names = [list(each) for each in zip(*map(_named, kept), strict=True)] or [[], [], [], []]
        await connection.execute(
            f"DELETE FROM crossfade.copy_parts p USING crossfade.copy_tables t WHERE p.workflow = %s{_BEGUN_AGAIN}"
            " AND (t.workflow, t.source_schema, t.source_name, t.target_schema, t.target_name)"
            " = (p.workflow, p.source_schema, p.source_name, p.target_schema, p.target_name)",
            (plan.workflow, *names),
        )
        await connection.execute(
            "UPDATE crossfade.copy_tables t SET copied_rows = 0, copied_bytes = 0, shows_lsn = NULL, basis = NULL"
            f" WHERE t.workflow = %s{_BEGUN_AGAIN}",
            (plan.workflow, *names),
        )
        failpoints.reached("in_emptying")
    return [table.route for table in emptied]


async def hold(connection: Connection, mark: Mark, *, shows: Lsn) -> None:
    """Wait for whoever else brings the mark's table forward, perhaps a COMMIT of ours whose answer was lost, and keep
    others from it until our transaction ends. Raises Fenced when it does not show `shows` (any more)."""
    cursor = await connection.execute(
        "SELECT FROM crossfade.copy_tables"
        + _ONE
        + " AND attempt = %s AND state = 'pending' AND shows_lsn = %s::pg_lsn FOR UPDATE",
        (mark.workflow, *_named(mark.route), mark.attempt, str(shows)),
    )
    if cursor.rowcount != 1:
        raise _fenced()


async def forwarded(connection: Connection, mark: Mark, *, shows: Lsn, rows: int) -> None:
    """What is there of the mark's table is as its snapshot shows it, and not as the one at `shows`; with `rows` more
    rows than before. In the transaction that made it so. Raises Fenced when another attempt began."""
    cursor = await connection.execute(
        "UPDATE crossfade.copy_tables SET shows_lsn = %s::pg_lsn, copied_rows = copied_rows + %s"
        + _ONE
        + " AND attempt = %s AND state = 'pending' AND shows_lsn = %s::pg_lsn",
        (str(mark.from_lsn), rows, mark.workflow, *_named(mark.route), mark.attempt, str(shows)),
    )
    if cursor.rowcount != 1:
        raise _fenced()


async def shows(connection: Connection, mark: Mark) -> bool:
    """Whether what is there of the mark's table is as its snapshot shows it: asked when the answer to a COMMIT was
    lost."""
    cursor = await connection.execute(
        "SELECT FROM crossfade.copy_tables" + _ONE + " AND attempt = %s AND shows_lsn = %s::pg_lsn",
        (mark.workflow, *_named(mark.route), mark.attempt, str(mark.from_lsn)),
    )
    return await cursor.fetchone() is not None


async def pieces(connection: Connection, workflow: str, route: Route) -> dict[Piece, tuple[int, int] | None]:
    """How a table was cut: of each part that is there its rows and bytes, None for the others."""
    cursor = await connection.execute(
        "SELECT part, relation_schema, relation, range_of, range_lower, range_upper, state, copied_rows, copied_bytes"
        " FROM crossfade.copy_parts" + _ONE + " ORDER BY part",
        (workflow, *_named(route)),
    )
    found: dict[Piece, tuple[int, int] | None] = {}
    for part, schema, relation, range_of, lower, upper, state, rows, size in await cursor.fetchall():
        piece = Piece(
            int(str(part)),
            TableName(str(schema), str(relation)[len(str(schema)) + 1 :]) if relation is not None else None,
            str(range_of),
            int(str(lower)) if lower is not None else None,
            int(str(upper)) if upper is not None else None,
        )
        found[piece] = (int(str(rows)), int(str(size))) if state == "done" else None
    return found


async def _empty(connection: Connection, table: TablePlan, *, is_alone: bool) -> None:
    """Take out what was copied of a table. `is_alone`: its target holds rows of no source that is done."""
    if not is_alone:
        await connection.execute(statements.delete_share(table))
        return
    try:
        async with connection.transaction():
            await connection.execute(statements.truncate([table.target]))
    except (psycopg.errors.FeatureNotSupported, psycopg.errors.InsufficientPrivilege):
        # A foreign key of another table refers to it, or we lack the right: slower, and just as empty.
        await connection.execute(statements.delete_all(table.target))


async def divide(
    connection: Connection, workflow: str, route: Route, parts: Iterable[Piece], *, attempt: int, shows: Lsn, basis: str
) -> None:
    """Write down the parts of a pending table of which nothing is there, and at which snapshot they will be read."""
    async with connection.transaction():
        cursor = await connection.execute(
            "UPDATE crossfade.copy_tables SET shows_lsn = %s::pg_lsn, basis = %s" + _ONE + " AND attempt = %s",
            (str(shows), basis, workflow, *_named(route), attempt),
        )
        if cursor.rowcount != 1:
            raise _fenced()
        await connection.cursor().executemany(
            f"INSERT INTO crossfade.copy_parts (workflow, {_KEY}, part, attempt, relation_schema, relation, range_of,"
            " range_lower, range_upper, state) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'pending')",
            [
                (
                    workflow,
                    *_named(route),
                    piece.part,
                    attempt,
                    piece.relation.schema if piece.relation is not None else None,
                    str(piece.relation) if piece.relation is not None else None,
                    piece.range_of,
                    piece.lower,
                    piece.upper,
                )
                for piece in parts
            ],
        )


@dataclass(frozen=True, slots=True)
class Mark:
    """What a finished part, or a table copied in one (`part` None), leaves behind in the transaction of its rows."""

    workflow: str
    route: Route
    part: int | None
    attempt: int
    from_lsn: Lsn


async def write(connection: Connection, mark: Mark, *, rows: int, size: int) -> None:
    """The rows of this transaction are there. Raises Fenced when they were before, or when another attempt began."""
    if mark.part is None:
        cursor = await connection.execute(
            "UPDATE crossfade.copy_tables SET state = 'done', from_lsn = %s::pg_lsn, copied_rows = %s,"
            " copied_bytes = %s, finished_at = clock_timestamp()" + _ONE + " AND attempt = %s AND state = 'pending'",
            (str(mark.from_lsn), rows, size, mark.workflow, *_named(mark.route), mark.attempt),
        )
        if cursor.rowcount != 1:
            raise _fenced()
        return
    # The table's line is locked first: parts that end together must see each other's marks, or none would be the last.
    await hold(connection, mark, shows=mark.from_lsn)
    cursor = await connection.execute(
        "UPDATE crossfade.copy_parts SET state = 'done', copied_rows = %s, copied_bytes = %s,"
        " finished_at = clock_timestamp()" + _ONE + " AND part = %s AND attempt = %s AND state = 'pending'",
        (rows, size, mark.workflow, *_named(mark.route), mark.part, mark.attempt),
    )
    if cursor.rowcount != 1:
        raise _fenced()
    await connection.execute(
        "UPDATE crossfade.copy_tables t SET copied_rows = copied_rows + %s, copied_bytes = copied_bytes + %s,"
        " from_lsn = CASE WHEN more THEN NULL ELSE %s::pg_lsn END,"
        " state = CASE WHEN more THEN 'pending' ELSE 'done' END,"
        " finished_at = CASE WHEN more THEN NULL ELSE clock_timestamp() END"
        " FROM (SELECT EXISTS (SELECT FROM crossfade.copy_parts" + _ONE + " AND state <> 'done') AS more) p"
        " WHERE t.workflow = %s AND t.source_schema = %s AND t.source_name = %s AND t.target_schema = %s"
        " AND t.target_name = %s",
        (rows, size, str(mark.from_lsn), mark.workflow, *_named(mark.route), mark.workflow, *_named(mark.route)),
    )


async def written(connection: Connection, mark: Mark) -> tuple[int, int] | None:
    """The rows and bytes that came with the mark, if it is there: asked when the answer to a COMMIT was lost."""
    where = _ONE + " AND attempt = %s AND state = 'done'"
    values: tuple[object, ...] = (mark.workflow, *_named(mark.route), mark.attempt)
    if mark.part is None:
        query = "SELECT copied_rows, copied_bytes FROM crossfade.copy_tables" + where
    else:
        query = "SELECT copied_rows, copied_bytes FROM crossfade.copy_parts" + where + " AND part = %s"
        values = (*values, mark.part)
    row = await (await connection.execute(query, values)).fetchone()
    return (int(str(row[0])), int(str(row[1]))) if row is not None else None


def _fenced() -> Fenced:
    return Fenced(
        "Another session copied this table, or this part of it, first.",
        means="Our copy of it was rolled back; its rows are there once.",
        do="Nothing: what is left to copy is read again.",
    )
