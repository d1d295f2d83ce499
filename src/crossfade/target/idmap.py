"""The kept id maps in the target: loaded a batch at a time, written with the rows that use them.

The rules of who gets which id are `wire/idstate`'s; this only reads and writes `crossfade.id_<name>`. Refuses to
invent ids. The invariant: in the stream, entries are written in the same target transaction as the first row that
uses them (edge-cases 0.13); during the copy, by one allocator that commits before any worker may use them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby

import psycopg

from crossfade import statements
from crossfade.faults import Rebuild
from crossfade.mapping.plan import Keyspace
from crossfade.session.connect import Connection, server_fault
from crossfade.wire.idstate import Created, IdState, Moved


async def create_tables(connection: Connection, keyspaces: Iterable[Keyspace]) -> None:
    """Make the maps that do not exist yet; existing ones are kept, whatever they hold."""
    for keyspace in keyspaces:
        try:
            await connection.execute(statements.create_id_table(keyspace))
        except psycopg.Error as error:
            raise server_fault(error, where=f"target crossfade.id_{keyspace.name}") from None


async def load(connection: Connection, state: IdState, olds: Collection[bytes]) -> None:
    """Teach `state` whatever the map already holds of `olds`; one query."""
    missing = state.missing(olds)
    if not missing:
        return
    cursor = await connection.execute(
        statements.look_up_ids(state.keyspace), ([old.decode() for old in sorted(missing)],)
    )
    for old, new in await cursor.fetchall():
        state.learn(str(old).encode(), str(new).encode())
    state.learn_absent(missing)


async def load_all(connection: Connection, states: Mapping[str, IdState], wanted: Mapping[str, set[bytes]]) -> None:
    """`load` for every keyspace that has something to ask."""
    for name, olds in wanted.items():
        if olds:
            await load(connection, states[name], olds)


async def write(connection: Connection, state: IdState) -> int:
    """Write what was allocated and moved, in order, inside the caller's transaction; returns how many are new.

    Another stream may share the map and have been quicker: then nothing may be kept, and everything is read again.
    """
    created = 0
    for kind, group in groupby(state.take_writes(), key=type):
        writes = list(group)
        if kind is Created:
            created += await _add(connection, state.keyspace, [write for write in writes if isinstance(write, Created)])
        else:
            for move in writes:
                assert isinstance(move, Moved)
                await connection.execute(statements.move_id(state.keyspace), (move.to.decode(), move.old.decode()))
    state.written()
    return created


async def _add(connection: Connection, keyspace: Keyspace, added: Sequence[Created]) -> int:
    cursor = await connection.execute(
        statements.add_ids(keyspace), ([entry.old.decode() for entry in added], [entry.new.decode() for entry in added])
    )
    if cursor.rowcount != len(added):
        raise Rebuild(
            "Another stream wrote some of the same ids first; they are read again.",
            where=f"target crossfade.id_{keyspace.name}",
        )
    return len(added)


async def allocate_ahead(connection: Connection, state: IdState, olds: Collection[bytes]) -> int:
    """During the copy: give every one of `olds` an entry and commit, before any row that uses it.

    Returns how many are new.

    On an autocommit connection that nothing else uses (the one allocator).
    """
    state.rollback()  # nothing is open here: this only cuts the cache to its limit
    await load(connection, state, olds)
    absent = [old for old in sorted(set(olds)) if state.resolve_new(old) is None]
    if not absent:
        return 0
    for old in absent:
        state.allocate(old)
    added = [write for write in state.take_writes() if isinstance(write, Created)]
    try:
        await connection.execute(
            statements.add_ids(state.keyspace),
            ([entry.old.decode() for entry in added], [entry.new.decode() for entry in added]),
        )
    finally:
        # Whoever was first wins: forget ours, read what is there. Cancelled (a copy that gives way) or failed, nobody
        # knows whether they were written, and no row may use an id that is only in our memory.
        state.rollback()
    # All of them once more: the cache may have let go of some meanwhile.
    await load(connection, state, olds)
    return len(absent)
