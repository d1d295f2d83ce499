"""Asks both servers what the rules want to know, and changes nothing.

Every question is a SELECT in a read-only session (the one exception, whether replica role may be set, is a SET LOCAL
that is rolled back). Refuses to judge. The invariant: system catalogs are read as any role; rows of user tables are
looked at only to see whether there are any, and never waited for behind a lock.

PostgreSQL: functions-info ("Access Privilege Inquiry Functions"), protocol-replication ("IDENTIFY_SYSTEM").
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, LiteralString, TypeVar, cast

import psycopg
from psycopg import sql
from psycopg.rows import args_row

from crossfade.catalog import TableName
from crossfade.faults import Fault
from crossfade.lsn import Lsn
from crossfade.preflight.facts import (
    Begun,
    Blocker,
    DefaultSequence,
    Link,
    Override,
    Publication,
    PublishedTable,
    Replication,
    Role,
    Slot,
    SourceAccess,
    SourceFacts,
    StateSchema,
    TargetAccess,
    TargetFacts,
)
from crossfade.session.connect import Connection, connect, server_fault
from crossfade.session.introspect import LOCK_PATIENCE, server_facts
from crossfade.state import copies
from crossfade.state.leader import is_led
from crossfade.target import progress

_Row = TypeVar("_Row")

# How many tables one "is there a row" statement asks about.
_CHUNK: Final = 50


async def source_facts(connection: Connection, dsn: str, *, publications: Collection[str]) -> SourceFacts:
    """Everything about the source that does not depend on the plan. Opens one replication connection for a moment."""
    server = await server_facts(connection)  # before the session is made read-only: it shows the server's own default
    await _make_read_only(connection)
    senders = (await _rows(connection, int, "SELECT count(*) FROM pg_catalog.pg_stat_replication"))[0]
    return SourceFacts(
        server=server,
        link=await _link(connection),
        role=(await _rows(connection, Role, _ROLE))[0],
        overrides=tuple(await _rows(connection, Override, _OVERRIDES)),
        slots=tuple(await _rows(connection, _slot, _SLOTS)),
        senders_used=senders,
        publications=await _publications(connection, publications),
        blockers=await blockers(connection),
        replication=await _replication(dsn),
    )


async def source_access(connection: Connection, oids: Collection[int]) -> Mapping[TableName, SourceAccess]:
    """Our rights on source tables, by name."""
    rows = await _rows(connection, _source_access, _SOURCE_ACCESS, {"oids": list(oids)})
    return {row.table: row for row in rows}


async def blockers(connection: Connection) -> tuple[Blocker, ...]:
    """Transactions of the whole cluster that have an xid now: running ones, and prepared ones."""
    return tuple(await _rows(connection, Blocker, _BLOCKERS))


async def target_facts(connection: Connection, *, workflow: str) -> TargetFacts:
    """Everything about the target that does not depend on the plan."""
    server = await server_facts(connection)
    await _make_read_only(connection)
    state = await _state(connection)
    return TargetFacts(
        server=server,
        link=await _link(connection),
        role=(await _rows(connection, Role, _ROLE))[0],
        overrides=tuple(await _rows(connection, Override, _OVERRIDES)),
        system_identifier=await _system_identifier(connection),
        replica_role=await _may_be_replica(connection),
        state=state,
        begun=await _begun(connection, workflow) if state.exists and not state.unwritable and state.may_use else None,
        is_led=await is_led(connection, workflow),
    )


async def target_access(
    connection: Connection, needed: Mapping[int, tuple[str, ...]]
) -> Mapping[TableName, TargetAccess]:
    """Our rights on target tables and whether they hold rows; `needed` is oid -> privileges (`SELECT`, ...)."""
    rows = await _rows(connection, _TargetRow, _TARGET_ACCESS, {"oids": list(needed)})
    sequences: dict[int, list[DefaultSequence]] = {}
    for each in await _rows(connection, _SequenceRow, _SEQUENCES, {"oids": list(needed)}):
        sequences.setdefault(each.table, []).append(DefaultSequence(each.column, TableName(each.schema, each.name)))
    looked = await _have_rows(
        connection, [row.name for row in rows if row.schema_usage and "SELECT" in row.held and not row.rows_hidden]
    )
    return {
        row.name: TargetAccess(
            table=row.name,
            schema_usage=row.schema_usage,
            missing=tuple(privilege for privilege in needed[row.oid] if privilege not in row.held),
            rows_hidden=row.rows_hidden,
            sequences=tuple(sequences.get(row.oid, ())),
            has_rows=looked.get(row.name),
            lock_held=row.name in looked and looked[row.name] is None,
        )
        for row in rows
    }


async def _make_read_only(connection: Connection) -> None:
    await connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")


async def _rows(
    connection: Connection,
    row: Callable[..., _Row],
    query: LiteralString,
    parameters: Mapping[str, object] | None = None,
) -> list[_Row]:
    cursor = connection.cursor(row_factory=args_row(row))
    await cursor.execute(query, parameters)
    return await cursor.fetchall()


async def _link(connection: Connection) -> Link:
    options = {option.keyword: option.val or b"" for option in connection.pgconn.info}
    info = connection.info
    pid, encrypted = (await _rows(connection, lambda pid, ssl: (int(pid), bool(ssl)), _BACKEND))[0]
    return Link(
        host="" if info.host.startswith(("/", "@")) else info.host,
        sslmode=options.get(b"sslmode", b"").decode(),
        is_local=_is_local(info.host, info.hostaddr),
        is_encrypted=encrypted,
        is_pooled=pid != info.backend_pid,
    )


def _is_local(host: str, address: str) -> bool:
    """Unix sockets and the loopback network: what nobody on the way can read."""
    if host.startswith(("/", "@")) or not (address or host):
        return True
    try:
        return ipaddress.ip_address(address or host).is_loopback
    except ValueError:
        return host == "localhost"


_BACKEND: Final = """
    SELECT pg_catalog.pg_backend_pid(),
           (SELECT s.ssl FROM pg_catalog.pg_stat_ssl s WHERE s.pid = pg_catalog.pg_backend_pid())
    """

# rds_replication stands in for the attribute where nobody may have it; the name exists on that service only.
_ROLE: Final = """
    SELECT r.rolname::text, r.rolsuper,
           r.rolsuper OR r.rolreplication
           OR EXISTS (SELECT FROM pg_catalog.pg_roles m
                      WHERE m.rolname = 'rds_replication' AND pg_catalog.pg_has_role(r.oid, m.oid, 'MEMBER')),
           pg_catalog.has_database_privilege(d.oid, 'CREATE'),
           r.rolconnlimit::int8,
           (SELECT count(*) FROM pg_catalog.pg_stat_activity a WHERE a.usesysid = r.oid),
           d.datconnlimit::int8,
           pg_catalog.pg_stat_get_db_numbackends(d.oid)::int8,
           (SELECT sum(s.numbackends) FROM pg_catalog.pg_stat_database s)::int8,
           (SELECT count(*) FROM pg_catalog.pg_stat_activity a
            WHERE a.usesysid = r.oid AND pg_catalog.starts_with(a.application_name, 'crossfade ')
              AND a.backend_type <> 'walsender' AND a.pid <> pg_catalog.pg_backend_pid()),
           (SELECT count(*) FROM pg_catalog.pg_stat_activity a
            WHERE a.usesysid = r.oid AND pg_catalog.starts_with(a.application_name, 'crossfade ')
              AND a.backend_type = 'walsender')
    FROM pg_catalog.pg_roles r, pg_catalog.pg_database d
    WHERE r.rolname = current_user AND d.datname = pg_catalog.current_database()
    """

# The most specific of role-in-database, role, database, everybody is the one that counts.
_OVERRIDES: Final = """
    SELECT DISTINCT ON (1) pg_catalog.split_part(c.entry, '=', 1),
           pg_catalog.substr(c.entry, pg_catalog.strpos(c.entry, '=') + 1)
    FROM pg_catalog.pg_db_role_setting s CROSS JOIN pg_catalog.unnest(s.setconfig) AS c(entry)
    WHERE s.setdatabase IN (0, (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database()))
      AND s.setrole IN (0, (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = session_user))
    ORDER BY 1, s.setrole <> 0 DESC, s.setdatabase <> 0 DESC
    """


def _slot(
    name: str,
    plugin: str,
    logical: bool,
    ours: bool,
    temporary: bool,
    pid: int | None,
    wal_status: str,
    retained: int | None,
    safe: int | None,
    flushed: str | None,
    invalidation: str,
) -> Slot:
    confirmed = Lsn.parse(flushed) if flushed else None
    return Slot(name, plugin, logical, ours, temporary, pid, wal_status, retained, safe, confirmed, invalidation)


# Columns newer than version 13 are asked for through jsonb. A standby has no flush position to measure against.
_SLOTS: Final = """
    SELECT s.slot_name::text, coalesce(s.plugin::text, ''), s.slot_type = 'logical',
           coalesce(s.database = pg_catalog.current_database(), false), s.temporary, s.active_pid::int8,
           coalesce(s.wal_status, ''),
           CASE WHEN NOT pg_catalog.pg_is_in_recovery()
                THEN pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_flush_lsn(), s.restart_lsn)::int8 END,
           s.safe_wal_size::int8, s.confirmed_flush_lsn::text,
           coalesce(pg_catalog.to_jsonb(s) ->> 'invalidation_reason', CASE WHEN s.wal_status = 'lost' THEN 'wal_removed'
                    WHEN (pg_catalog.to_jsonb(s) ->> 'conflicting')::boolean THEN 'conflict' END, '')
    FROM pg_catalog.pg_replication_slots s
    ORDER BY s.slot_name
    """


async def _publications(connection: Connection, names: Collection[str]) -> Mapping[str, Publication]:
    wanted = {"names": list(names)}
    tables: dict[str, list[PublishedTable]] = {}
    for publication, table in await _rows(connection, _published, _PUBLISHED, wanted):
        tables.setdefault(publication, []).append(table)
    schemas: dict[str, list[str]] = {}
    if connection.info.server_version >= 150000:
        for publication, schema in await _rows(
            connection, lambda name, schema: (str(name), str(schema)), _PUBLISHED_SCHEMAS, wanted
        ):
            schemas.setdefault(publication, []).append(schema)

    def assemble(
        name: str,
        ours: bool,
        all_tables: bool,
        operations: list[str],
        via_root: bool,
        generated: bool,
    ) -> Publication:
        return Publication(
            name=name,
            is_ours=ours,
            all_tables=all_tables,
            schemas=tuple(schemas.get(name, ())),
            operations=frozenset(operations),
            via_root=via_root,
            publishes_generated=generated,
            tables=tuple(tables.get(name, ())),
        )

    return {found.name: found for found in await _rows(connection, assemble, _PUBLICATIONS, wanted)}


_PUBLICATIONS: Final = """
    SELECT p.pubname::text, pg_catalog.pg_has_role(p.pubowner, 'USAGE'), p.puballtables,
           ARRAY(SELECT o.name
                 FROM (VALUES ('insert', p.pubinsert), ('update', p.pubupdate), ('delete', p.pubdelete),
                              ('truncate', p.pubtruncate)) AS o(name, published) WHERE o.published),
           p.pubviaroot, coalesce(pg_catalog.to_jsonb(p) ->> 'pubgencols', 'n') <> 'n'
    FROM pg_catalog.pg_publication p WHERE p.pubname = ANY (%(names)s::text[])
    """

# Row filters and column lists exist since version 15; through jsonb they are NULL before.
_PUBLISHED: Final = """
    SELECT p.pubname::text, n.nspname::text, c.relname::text, pg_catalog.to_jsonb(r) ->> 'prqual' IS NOT NULL,
           CASE WHEN pg_catalog.to_jsonb(r) ->> 'prattrs' IS NOT NULL THEN
               ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
                     WHERE a.attrelid = c.oid AND a.attnum::text IN (
                         SELECT pg_catalog.jsonb_array_elements_text(pg_catalog.to_jsonb(r) -> 'prattrs'))
                     ORDER BY a.attnum) END
    FROM pg_catalog.pg_publication p
    JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
    JOIN pg_catalog.pg_class c ON c.oid = r.prrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE p.pubname = ANY (%(names)s::text[])
    ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
    """

_PUBLISHED_SCHEMAS: Final = """
    SELECT p.pubname::text, n.nspname::text
    FROM pg_catalog.pg_publication p
    JOIN pg_catalog.pg_publication_namespace s ON s.pnpubid = p.oid
    JOIN pg_catalog.pg_namespace n ON n.oid = s.pnnspid
    WHERE p.pubname = ANY (%(names)s::text[])
    ORDER BY n.nspname COLLATE "C"
    """


def _published(
    publication: str, schema: str, name: str, filtered: bool, columns: list[str] | None
) -> tuple[str, PublishedTable]:
    table = PublishedTable(TableName(schema, name), filtered, None if columns is None else tuple(columns))
    return publication, table


# Anybody may see whose xid is locked by its own transaction, if not since when: pg_stat_activity hides that from
# roles without pg_read_all_stats. A subtransaction's xid is locked too; the oldest one names the transaction.
_BLOCKERS: Final = """
    (SELECT DISTINCT ON (l.pid) l.transactionid::text, l.pid::int8, NULL::text, a.usename::text, a.datname::text,
            extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::int8
     FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
     WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted
       AND l.pid <> pg_catalog.pg_backend_pid()
     ORDER BY l.pid, pg_catalog.age(l.transactionid) DESC)
    UNION ALL
    SELECT x.transaction::text, NULL, x.gid, x.owner::text, x.database::text,
           extract(epoch FROM pg_catalog.clock_timestamp() - x.prepared)::int8
    FROM pg_catalog.pg_prepared_xacts x
    """


async def _replication(dsn: str) -> Replication:
    try:
        connection = await connect(dsn, purpose="check", endpoint="source", replication=True)
    except Fault as fault:
        return Replication(None, None, fault)
    try:
        cursor = await connection.execute("IDENTIFY_SYSTEM")
        row = await cursor.fetchone()
    except psycopg.Error as error:
        return Replication(None, None, server_fault(error, where="source, replication connection"))
    finally:
        await connection.close()
    return Replication(str(row[0]), int(str(row[1])), None) if row else Replication(None, None, None)


def _source_access(schema: str, name: str, usage: bool, select: bool, owns: bool, hidden: bool) -> SourceAccess:
    return SourceAccess(TableName(schema, name), usage, select, owns, hidden)


# row_security_active() counts ownership, BYPASSRLS, superuser and FORCE as the server itself would (G10).
_SOURCE_ACCESS: Final = """
    SELECT n.nspname::text, c.relname::text, pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
           pg_catalog.has_table_privilege(c.oid, 'SELECT'), pg_catalog.pg_has_role(c.relowner, 'USAGE'),
           pg_catalog.row_security_active(c.oid)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = ANY (%(oids)s::oid[])
    ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
    """


async def _system_identifier(connection: Connection) -> str | None:
    allowed = await _rows(
        connection, bool, "SELECT pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')"
    )
    if not allowed[0]:
        return None
    return (await _rows(connection, str, "SELECT system_identifier::text FROM pg_catalog.pg_control_system()"))[0]


async def _may_be_replica(connection: Connection) -> bool:
    """Try it, in a transaction that is rolled back: managed services grant it in ways no function reports (H3)."""
    try:
        async with connection.transaction(force_rollback=True):
            await connection.execute("SET LOCAL session_replication_role = replica")
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


async def _state(connection: Connection) -> StateSchema:
    unwritable = await _rows(connection, str, _UNWRITABLE)
    for schema in await _rows(connection, lambda usage, create: (bool(usage), bool(create)), _STATE):
        return StateSchema(exists=True, may_use=schema[0], may_create=schema[1], unwritable=tuple(unwritable))
    return StateSchema(exists=False, may_use=False, may_create=False, unwritable=())


_STATE: Final = """
    SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE'), pg_catalog.has_schema_privilege(n.oid, 'CREATE')
    FROM pg_catalog.pg_namespace n WHERE n.nspname = 'crossfade'
    """
_UNWRITABLE: Final = """
    SELECT c.relname::text
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'crossfade' AND c.relkind IN ('r', 'p')
      AND NOT (pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_table_privilege(c.oid, 'INSERT')
               AND pg_catalog.has_table_privilege(c.oid, 'UPDATE') AND pg_catalog.has_table_privilege(c.oid, 'DELETE'))
    ORDER BY c.relname COLLATE "C"
    """


async def _begun(connection: Connection, workflow: str) -> Begun | None:
    try:
        row = await progress.load(connection, workflow)
        copied = await copies.recorded(connection, workflow)
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
        return None  # a schema of that name that is not (yet) ours; `state` looks after its version
    if row is None:
        return None
    return Begun(
        slot=row.slot,
        end_lsn=row.end_lsn,
        system_identifier=row.source.system_identifier,
        database=row.source.database,
        tables=frozenset(each.source for each in copied) if row.end_lsn is not None else frozenset(),
    )


class _TargetRow:
    def __init__(self, oid: int, schema: str, name: str, usage: bool, held: list[str], hidden: bool) -> None:
        self.oid = oid
        self.name = TableName(schema, name)
        self.schema_usage = usage
        self.held = frozenset(held)
        self.rows_hidden = hidden


_TARGET_ACCESS: Final = """
    SELECT c.oid::int8, n.nspname::text, c.relname::text, pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
           ARRAY(SELECT p.name
                 FROM (VALUES ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE'), ('TRUNCATE')) AS p(name)
                 WHERE pg_catalog.has_table_privilege(c.oid, p.name)),
           pg_catalog.row_security_active(c.oid)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = ANY (%(oids)s::oid[])
    ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
    """


class _SequenceRow:
    def __init__(self, table: int, column: str, schema: str, name: str) -> None:
        self.table = table
        self.column = column
        self.schema = schema
        self.name = name


# has_sequence_privilege() refuses anything but a sequence, and only CASE keeps it from being asked.
_SEQUENCES: Final = """
    SELECT f.adrelid::int8, a.attname::text, n.nspname::text, s.relname::text
    FROM pg_catalog.pg_attrdef f
    JOIN pg_catalog.pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.objid = f.oid
    JOIN pg_catalog.pg_class s ON s.oid = d.refobjid AND d.refclassid = 'pg_catalog.pg_class'::regclass
    JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace
    WHERE f.adrelid = ANY (%(oids)s::oid[])
      AND CASE WHEN s.relkind = 'S' THEN NOT pg_catalog.has_sequence_privilege(s.oid, 'USAGE') END
    ORDER BY f.adrelid, a.attnum
    """


async def _have_rows(connection: Connection, tables: Sequence[TableName]) -> Mapping[TableName, bool | None]:
    """Whether each table has a row; None where somebody's lock was in the way for longer than a second."""
    found: dict[TableName, bool | None] = {}
    for start in range(0, len(tables), _CHUNK):
        chunk = tables[start : start + _CHUNK]
        answers = await _look(connection, chunk)
        if answers is None:  # one of them is locked: which one?
            for table in chunk:
                alone = await _look(connection, [table])
                found[table] = None if alone is None else alone[0]
        else:
            found.update(zip(chunk, answers, strict=True))
    return found


async def _look(connection: Connection, tables: Sequence[TableName]) -> list[bool] | None:
    query = sql.SQL("SELECT ARRAY[{}]").format(
        sql.SQL(", ").join(
            sql.SQL("EXISTS (SELECT FROM {})").format(sql.Identifier(table.schema, table.name)) for table in tables
        )
    )
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (LOCK_PATIENCE,))
            cursor = await connection.execute(query)
            row = await cursor.fetchone()
    except psycopg.errors.LockNotAvailable:
        return None
    return [bool(each) for each in cast(list[object], row[0])] if row else None
