"""The kept id maps in the target: loaded a batch at a time, written with the rows that use them.

The rules of who gets which id are `wire/idstate`'s; this only reads and writes `crossfade.id_<name>`. Refuses to
invent ids. The invariant: in the stream, entries are written in the same target transaction as the first row that
uses them (edge-cases 0.13); during the copy, by one allocator that commits before any worker may use them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import psycopg

from crossfade import statements
from crossfade.faults import Rebuild, Refused, RowRefused
from crossfade.mapping.plan import Keyspace, Plan
from crossfade.session.connect import Connection, result_fault, server_fault
from crossfade.target import setforms
from crossfade.target.pipeline import Pipeline, Statement, StatementFailed
from crossfade.wire.entries import HEADER, TRAILER, WIDTHS, copy_rows
from crossfade.wire.idstate import Created, IdState, Moved
from crossfade.wire.stock import Drawn, Entries

# What holds the same ids. A source that has more references than when its map was made may need wider integers; a new
# id that the map then cannot hold is refused when it comes.
_TEXTS: Final = frozenset({"text", "character varying"})
_FAMILIES: Final = (_TEXTS, frozenset({"smallint", "integer", "bigint"}))
# New ids from which COPY is cheaper than two arrays, and entries handed over at a time.
_COPY_FROM: Final = 200
_CHUNK: Final = 4096


async def check_tables(connection: Connection, plan: Plan) -> None:
    """Raise Refused for a map that is there and cannot hold its keyspace's ids: before anything is made."""
    for keyspace in plan.keyspaces.values():
        if types := await _types(connection, keyspace):
            _held(keyspace, types)


async def create_tables(connection: Connection, plan: Plan) -> Plan:
    """Make the maps that do not exist yet; existing ones are kept, whatever they hold. Returns the plan with the types
    that each map's columns have. Raises Refused as `check_tables` does."""
    found: dict[str, Keyspace] = {}
    for name, keyspace in plan.keyspaces.items():
        try:
            await connection.execute(statements.create_id_table(keyspace))
        except psycopg.Error as error:
            raise server_fault(error, where=f"target crossfade.id_{name}") from None
        found[name] = replace(keyspace, held=_held(keyspace, await _types(connection, keyspace)))
    return replace(plan, keyspaces=found)


async def _types(connection: Connection, keyspace: Keyspace) -> dict[str, str]:
    try:
        cursor = await connection.execute(statements.id_table_types(keyspace))
        return {str(name): str(kind) for name, kind in await cursor.fetchall()}
    except psycopg.Error as error:
        raise server_fault(error, where=f"target crossfade.id_{keyspace.name}") from None


def _held(keyspace: Keyspace, types: Mapping[str, str]) -> tuple[str, str]:
    """What the map's columns hold."""
    held: list[str] = []
    for name, wanted in (("old", keyspace.old_type), ("new", keyspace.new_type)):
        kind = types.get(name, "(none)")
        if kind != wanted and not any({kind, wanted} <= family for family in _FAMILIES):
            raise Refused(
                f"The id map's column {name} is of type {kind}, and the mapping needs {wanted}.",
                where=f"target crossfade.id_{keyspace.name}",
                means="Nothing is copied or applied from here on; a slot that is there keeps what comes.",
                do=f"When the target has rows with these ids: ALTER TABLE crossfade.id_{keyspace.name} ALTER {name}"
                f" TYPE {wanted} USING {name}::{wanted}; else drop the table.",
            )
        held.append("text" if kind in _TEXTS else kind)
    return held[0], held[1]


async def _load(connection: Connection, state: IdState, olds: Collection[bytes]) -> None:
    """`look_up` for the copy, whose waits may be cancelled: a pipeline would not be fit for use after that."""
    missing = state.missing(olds)
    if not missing:
        return
    cursor = psycopg.AsyncRawCursor(connection)
    await cursor.execute(setforms.look_up_ids(state.keyspace), [[old.decode() for old in sorted(missing)]])
    for old, new in await cursor.fetchall():
        state.learn(str(old).encode(), str(new).encode())
    state.learn_absent(missing)


async def look_up(pipeline: Pipeline, states: Mapping[str, IdState], wanted: Mapping[str, set[bytes]]) -> int:
    """Teach the states whatever the maps already hold of `wanted`: one round trip for all keyspaces. Returns how many
    were asked for, since the states did not know them."""
    asked: list[tuple[IdState, set[bytes]]] = []
    calls: list[Statement] = []
    for name, olds in wanted.items():
        missing = states[name].missing(olds) if olds else set()
        if missing:
            asked.append((states[name], missing))
            calls.append(Statement(setforms.look_up_ids(states[name].keyspace), [_array(sorted(missing))]))
    if asked:
        try:
            results = await pipeline.results(calls)
        except StatementFailed as failed:
            raise result_fault(failed.result, where="target, reading the id maps") from None
        for (state, missing), result in zip(asked, results, strict=True):
            for row in range(result.ntuples):
                old, new = result.get_value(row, 0), result.get_value(row, 1)
                assert old is not None
                assert new is not None
                state.learn(old, new)
            state.learn_absent(missing)
    for name, olds in wanted.items():
        if states[name].stock is not None and olds:
            await _fetch(pipeline, states[name], set(states[name].unknown(olds)))
    return sum(len(missing) for _, missing in asked)


async def _fetch(pipeline: Pipeline, state: IdState, absent: set[bytes]) -> None:
    """Fetch new ids that are made elsewhere for old ones that have none, before anybody asks for one."""
    asked = _question(state, absent)
    if asked is None:
        return
    try:
        (result,) = await pipeline.results([asked])
    except StatementFailed as failed:
        raise result_fault(failed.result, where=f"target, taking ids from {state.keyspace.taken_from}") from None
    _take_in(state, [[result.get_value(row, at) for at in range(result.nfields)] for row in range(result.ntuples)])


async def _fetch_ahead(connection: Connection, state: IdState, absent: set[bytes]) -> None:
    """The same during the copy."""
    asked = _question(state, absent)
    if asked is None:
        return
    texts = [None if value is None else value.decode() for value in asked.parameters]
    try:
        cursor = await psycopg.AsyncRawCursor(connection).execute(asked.text, texts)
        rows = await cursor.fetchall()
    except psycopg.Error as error:
        raise server_fault(error, where=f"target, taking ids from {state.keyspace.taken_from}") from None
    _take_in(state, [[None if value is None else str(value).encode() for value in row] for row in rows])


def _question(state: IdState, absent: set[bytes]) -> Statement | None:
    """What to ask the target for; None when all is there."""
    stock = state.stock
    if isinstance(stock, Drawn) and (count := stock.lacks(absent)):
        return Statement(statements.draw_ids(state.keyspace), [b"%d" % count])
    if isinstance(stock, Entries) and (unread := stock.unread(absent)):
        return Statement(statements.look_up_entries(state.keyspace), [_array(sorted(unread))])
    return None


def _take_in(state: IdState, rows: Sequence[Sequence[bytes | None]]) -> None:
    if isinstance(state.stock, Drawn):
        state.stock.take_in([row[0] for row in rows if row[0] is not None])
    elif isinstance(state.stock, Entries):
        state.stock.take_in([(row[0], row[1]) for row in rows if row[0] is not None])


def _array(texts: Iterable[bytes]) -> bytes:
    """The literal of a text[]; what is no number is quoted, since it might read NULL."""
    return b"{" + b",".join([text if text.isdigit() else _quoted(text) for text in texts]) + b"}"


def _quoted(text: bytes) -> bytes:
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


@dataclass(frozen=True, slots=True)
class Entry:
    """A statement that writes to a map, and how many rows it must; -1: as many as there are."""

    statement: Statement
    rows: int
    keyspace: Keyspace


def are_few(states: Mapping[str, IdState]) -> bool:
    """What is to be written is little enough to go along with other statements."""
    return all(state.unwritten < _COPY_FROM for state in states.values())


def entries(states: Mapping[str, IdState]) -> list[Entry]:
    """Take what is to be written, in order, as statements; their counts are for `written`."""
    made: list[Entry] = []
    for state in states.values():
        keyspace = state.keyspace
        for each in state.take_writes():
            if isinstance(each, Moved):
                text, values, rows = setforms.move_id(keyspace), [each.to, each.old], -1
            else:
                text, values, rows = setforms.add_ids(keyspace), [_array(each.olds), _array(each.news)], len(each.olds)
            made.append(Entry(Statement(text, values), rows, keyspace))
    return made


def written(states: Mapping[str, IdState], made: Sequence[Entry], counts: Sequence[int]) -> int:
    """They have been run: returns how many entries are new.

    Another stream may share the map and have been quicker: then nothing may be kept, and everything is read again.
    """
    for entry, count in zip(made, counts, strict=True):
        if entry.rows not in (-1, count):
            raise _others_first(entry.keyspace)
    for state in states.values():
        state.written()
    return sum(max(0, entry.rows) for entry in made)


async def write(pipeline: Pipeline, states: Mapping[str, IdState]) -> int:
    """Write what was allocated and moved, inside the caller's transaction: many new ids by COPY. Returns how many.

    Raises Rebuild when another stream was first.
    """
    try:
        if are_few(states):
            made = entries(states)
            return written(states, made, await pipeline.run([entry.statement for entry in made]) if made else [])
        created = 0
        for state in states.values():
            for each in state.take_writes():
                if isinstance(each, Moved):
                    await pipeline.run([Statement(setforms.move_id(state.keyspace), [each.to, each.old])])
                    continue
                await _copy(pipeline, state.keyspace, each)
                created += len(each.olds)
            state.written()
    except StatementFailed as failed:
        raise result_fault(failed.result, where="target, writing the id maps") from None
    return created


async def _copy(pipeline: Pipeline, keyspace: Keyspace, run: Created) -> None:
    try:
        await pipeline.copy(setforms.copy_ids(keyspace), _chunks(keyspace, run))
    except StatementFailed as failed:
        if failed.sqlstate == "23505":
            raise _others_first(keyspace) from None
        raise


def _chunks(keyspace: Keyspace, run: Created) -> Iterator[bytes]:
    yield HEADER
    for start in range(0, len(run.olds), _CHUNK):
        yield copy_data(keyspace, run.olds[start : start + _CHUNK], run.news[start : start + _CHUNK])
    yield TRAILER


def copy_data(keyspace: Keyspace, olds: list[bytes], news: list[bytes]) -> bytes:
    """Entries for `setforms.copy_ids`, to go between HEADER and TRAILER. Raises RowRefused for an id that the map's
    columns cannot hold."""
    old, new = keyspace.held or (keyspace.old_type, keyspace.new_type)
    try:
        return copy_rows(olds, news, WIDTHS[old], WIDTHS[new])
    except ValueError:
        raise RowRefused(
            f"An old or a new id is no value of its column: the id map holds {old} and {new}.",
            where=f"target crossfade.id_{keyspace.name}",
            means="Nothing of this transaction was applied; the slot keeps it.",
            do="Where what makes the new ids, a sequence or a table, has gone past their type: widen the map's column"
            " and the target's (ALTER TABLE ... ALTER ... TYPE bigint), and `to` in the mapping.",
        ) from None


def _others_first(keyspace: Keyspace) -> Rebuild:
    return Rebuild(
        "Another stream wrote some of the same ids first; they are read again.",
        where=f"target crossfade.id_{keyspace.name}",
    )


def _texts(run: Created) -> tuple[list[str], list[str]]:
    return [old.decode() for old in run.olds], [new.decode() for new in run.news]


async def allocate_ahead(connection: Connection, state: IdState, olds: Collection[bytes]) -> int:
    """During the copy: give every one of `olds` an entry and commit, before any row that uses it.

    Returns how many are new.

    On an autocommit connection that nothing else uses (the one allocator).
    """
    state.rollback()  # nothing is open here: this only cuts the cache to its limit
    await _load(connection, state, olds)
    absent = [old for old in sorted(set(olds)) if state.resolve_new(old) is None]
    if not absent:
        return 0
    if state.stock is not None:
        await _fetch_ahead(connection, state, set(absent))
    state.allocate_many(absent)
    try:
        for run in state.take_writes():
            assert isinstance(run, Created)
            await psycopg.AsyncRawCursor(connection).execute(setforms.add_ids(state.keyspace), _texts(run))
    finally:
        # Whoever was first wins: forget ours, read what is there. Cancelled (a copy that gives way) or failed, nobody
        # knows whether they were written, and no row may use an id that is only in our memory.
        state.rollback()
    # All of them once more: the cache may have let go of some meanwhile.
    await _load(connection, state, olds)
    return len(absent)
