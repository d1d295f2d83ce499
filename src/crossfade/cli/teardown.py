"""`crossfade teardown`: remove what crossfade made - slot, publications, its own tables - and say what is left.

The source comes first: a slot nobody reads keeps WAL until the disk is full, while state nobody reads harms nobody.
Refuses to touch a target table, anything it does not own, and anything while a daemon leads. The invariant: it may be
run again after any interruption and finishes the rest.

PostgreSQL: view-pg-replication-slots, sql-droppublication, sql-dropschema.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from crossfade.cli import exits
from crossfade.faults import Fault, Locked, Refused
from crossfade.session.connect import TARGET, Connection, connect, server_fault
from crossfade.settings import Settings, load_settings
from crossfade.state.leader import try_lead
from crossfade.state.schema import exists

_SLOT_FREE_WITHIN: Final = 5.0  # a walsender whose client just left needs a moment
_TICK: Final = 0.2
_LOCK_TIMEOUT: Final = {"lock_timeout": "10s"}  # somebody reads our tables: do not queue before others for long


@dataclass(frozen=True, slots=True)
class _Known:
    """What the target's state says: the slot it recorded, and whether other workflows keep state here."""

    slot: str | None
    has_others: bool
    others_share_source: bool


def teardown(config: Path, *, yes: bool) -> int:
    """0 when nothing of ours is left that we may remove; 2 without a confirmation; 4 while a daemon leads."""
    settings = load_settings(config)
    if not yes and not _confirmed(settings.name):
        return exits.USAGE
    return asyncio.run(_teardown(settings))


def _confirmed(name: str) -> bool:
    if not sys.stdin.isatty():
        exits.tell("crossfade: teardown asks for a confirmation: give --yes, or run it on a terminal.")
        return False
    sys.stderr.write(
        "This removes slot, publications and the schema crossfade; the target tables stay, and are not followed any "
        f"more.\nType the workflow's name ({name}) to go on: "
    )
    sys.stderr.flush()
    if sys.stdin.readline().strip() == name:
        return True
    exits.tell("crossfade: that is another name; nothing was changed.")
    return False


async def _teardown(settings: Settings) -> int:
    target = await connect(
        settings.target.dsn.get_secret_value(),
        purpose="teardown",
        endpoint="target",
        settings={**TARGET, **_LOCK_TIMEOUT},
    )
    try:
        # Held until the end: no daemon may start in between.
        if not await try_lead(target, settings.name):
            raise Locked(
                "A daemon leads this workflow.",
                where=f"workflow {settings.name}",
                means="Nothing was changed.",
                do="Stop it first (and its standbys), then `crossfade teardown` again.",
            )
        source = await connect(
            settings.source.dsn.get_secret_value(), purpose="teardown", endpoint="source", settings=TARGET
        )
        try:
            return await _remove(settings, source, target)
        finally:
            await source.close()
    finally:
        await target.close()


async def _remove(settings: Settings, source: Connection, target: Connection) -> int:
    left: list[str] = []
    try:
        known = await _known(target, settings.name)
    except psycopg.Error as error:
        raise server_fault(error, where="target, reading the schema crossfade") from None
    try:
        for slot in sorted({settings.stream.slot} | ({known.slot} if known.slot else set())):
            await _drop_slot(source, slot, left)
        publications = (settings.stream.publication, settings.stream.append_publication)
        if known.others_share_source:
            left.append(f"Publications {', '.join(publications)} stay: other workflows follow the same source.")
        else:
            for publication in publications:
                await _drop_publication(source, publication, left)
    except psycopg.Error as error:
        raise server_fault(error, where="source, teardown") from None
    try:
        await _drop_state(target, settings.name, known, left)
    except psycopg.errors.DependentObjectsStillExist:
        raise Refused(
            "Something outside depends on tables of the schema crossfade (a view, a foreign key).",
            where="target",
            means="Slot and publications are gone; the schema is as it was.",
            do="Drop what depends on it, then `crossfade teardown` again.",
            sqlstate="2BP01",
        ) from None
    except psycopg.Error as error:
        raise server_fault(error, where="target, removing the schema crossfade") from None
    if left:
        exits.say("Left for a DBA or for you:")
        for line in left:
            exits.say(f"  {line}")
    exits.say("Done; the target tables were not touched.")
    return exits.DONE


async def _known(target: Connection, workflow: str) -> _Known:
    if not await exists(target):
        return _Known(None, False, False)
    cursor = await target.execute(
        "SELECT (SELECT slot FROM crossfade.progress WHERE workflow = %(name)s),"
        " EXISTS (SELECT FROM crossfade.progress WHERE workflow <> %(name)s),"
        " EXISTS (SELECT FROM crossfade.progress mine JOIN crossfade.progress other"
        " USING (system_identifier, source_database) WHERE mine.workflow = %(name)s AND other.workflow <> %(name)s)",
        {"name": workflow},
    )
    row = await cursor.fetchone()
    if row is None:
        return _Known(None, False, False)
    return _Known(None if row[0] is None else str(row[0]), bool(row[1]), bool(row[2]))


async def _drop_slot(source: Connection, slot: str, left: list[str]) -> None:
    cursor = await source.execute(
        "SELECT plugin = 'pgoutput' AND database = current_database(), database FROM pg_replication_slots"
        " WHERE slot_name = %s",
        (slot,),
    )
    row = await cursor.fetchone()
    if row is None:
        exits.say(f"slot {slot}: not there.")
        return
    if not row[0]:
        left.append(f"Slot {slot} is not ours (database {row[1]}): it was left alone.")
        return
    clock = asyncio.get_running_loop()
    deadline = clock.time() + _SLOT_FREE_WITHIN
    while True:
        try:
            await source.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
            exits.say(f"slot {slot}: dropped.")
            return
        except psycopg.errors.UndefinedObject:
            exits.say(f"slot {slot}: not there.")
            return
        except psycopg.errors.ObjectInUse:
            if clock.time() >= deadline:
                raise await _slot_in_use(source, slot) from None
            await asyncio.sleep(_TICK)


async def _slot_in_use(source: Connection, slot: str) -> Fault:
    cursor = await source.execute("SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s", (slot,))
    row = await cursor.fetchone()
    who = f"pid {row[0]} on the source" if row is not None and row[0] is not None else "somebody"
    return Locked(
        f"Slot {slot} is in use by {who}.",
        where="source",
        means="Nothing was changed.",
        do="Stop that client (SELECT pg_terminate_backend(pid)), then `crossfade teardown` again.",
    )


async def _drop_publication(source: Connection, publication: str, left: list[str]) -> None:
    cursor = await source.execute(
        "SELECT pg_has_role(current_user, pubowner, 'USAGE') FROM pg_publication WHERE pubname = %s", (publication,)
    )
    row = await cursor.fetchone()
    drop = sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(publication))
    if row is None:
        exits.say(f"publication {publication}: not there.")
    elif row[0]:
        await source.execute(drop)
        exits.say(f"publication {publication}: dropped.")
    else:
        left.append(f"Publication {publication} belongs to another role; on the source: {drop.as_string(source)};")


async def _drop_state(target: Connection, workflow: str, known: _Known, left: list[str]) -> None:
    """Our tables, or in company only our rows; the schema itself where we could make it again."""
    cursor = await target.execute(
        "SELECT pg_has_role(current_user, nspowner, 'USAGE'),"
        " has_database_privilege(current_database(), 'CREATE') FROM pg_namespace WHERE nspname = 'crossfade'"
    )
    schema = await cursor.fetchone()
    if schema is None:
        exits.say("schema crossfade: not there.")
        return
    owns_schema, may_create = bool(schema[0]), bool(schema[1])
    cursor = await target.execute(
        "SELECT c.relname, pg_has_role(current_user, c.relowner, 'USAGE'),"
        " EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'workflow' AND a.attnum > 0)"
        " FROM pg_class c WHERE c.relnamespace = 'crossfade'::regnamespace AND c.relkind IN ('r', 'p')"
        " ORDER BY c.relname"
    )
    tables = [(str(name), bool(owned), bool(by_workflow)) for name, owned, by_workflow in await cursor.fetchall()]
    async with target.transaction():
        kept = [name for name, owned, _ in tables if known.has_others or not owned]
        for name, _, by_workflow in tables:
            if name in kept and by_workflow:
                await target.execute(
                    sql.SQL("DELETE FROM crossfade.{} WHERE workflow = %s").format(sql.Identifier(name)), (workflow,)
                )
        dropped = [name for name, _, _ in tables if name not in kept]
        if dropped:
            # One statement, so that they may refer to each other; not CASCADE, which could reach out of the schema.
            names = sql.SQL(", ").join(sql.Identifier("crossfade", name) for name in dropped)
            await target.execute(sql.SQL("DROP TABLE {}").format(names))
        is_empty = not kept
        if is_empty and owns_schema and may_create:
            await target.execute("DROP SCHEMA crossfade")
    if known.has_others:
        exits.say(f"schema crossfade: the rows of workflow {workflow} are gone; other workflows keep theirs.")
    elif kept:
        exits.say(f"schema crossfade: the rows of workflow {workflow} are gone.")
        left.append(
            "Tables of the schema crossfade belong to another role; on the target: DROP SCHEMA crossfade CASCADE;"
        )
    elif owns_schema and may_create:
        exits.say("schema crossfade: dropped.")
    else:
        exits.say("schema crossfade: emptied.")
        left.append(
            "The empty schema crossfade stays, because our role could not make it again for another run; "
            "when there is none, on the target: DROP SCHEMA crossfade;"
        )
