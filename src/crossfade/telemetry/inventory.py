"""What the two databases know of us, for a support bundle: slot, publications, sessions, our own tables.

Names, positions, states and counts. Refuses to read any table of the application, the text of any session's query, and
what was set aside with its values. The invariants: nothing is changed, a question that a server refuses is answered
with its SQLSTATE alone, and the rest is still asked.

PostgreSQL: view-pg-replication-slots, monitoring-stats.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, LiteralString

import orjson
import psycopg

from crossfade.faults import Fault
from crossfade.session.connect import connect

_SECONDS: Final = 30.0

# Never `query`: it may hold values.
_SESSIONS: Final = (
    "SELECT pid, application_name, state, wait_event_type, wait_event, backend_start, xact_start, state_change,"
    " backend_xid::text, backend_xmin::text, pg_blocking_pids(pid) AS blocked_by"
    " FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'crossfade%'"
)
_SERVER: Final = (
    "SELECT name, setting, unit, source FROM pg_settings WHERE name IN ('server_version', 'server_encoding',"
    " 'wal_level', 'max_wal_senders', 'max_replication_slots', 'max_connections', 'max_slot_wal_keep_size',"
    " 'wal_sender_timeout', 'logical_decoding_work_mem', 'synchronous_commit', 'session_replication_role',"
    " 'default_transaction_read_only', 'TimeZone', 'idle_replication_slot_timeout') ORDER BY name"
)
_SOURCE: Final[Mapping[str, LiteralString]] = {
    "server": _SERVER,
    "slots": "SELECT * FROM pg_replication_slots WHERE database = current_database() ORDER BY slot_name",
    "slot_statistics": "SELECT s.* FROM pg_stat_replication_slots s JOIN pg_replication_slots USING (slot_name)"
    " WHERE database = current_database()",
    "walsenders": "SELECT * FROM pg_stat_replication WHERE application_name LIKE 'crossfade%'",
    "publications": "SELECT * FROM pg_publication WHERE pubname = ANY (%(publications)s) ORDER BY pubname",
    "published_tables": "SELECT * FROM pg_publication_tables WHERE pubname = ANY (%(publications)s) ORDER BY 1, 2, 3",
    "sessions": _SESSIONS,
}
_TARGET: Final[Mapping[str, LiteralString]] = {
    "server": _SERVER,
    "version": "SELECT * FROM crossfade.version",
    "progress": "SELECT * FROM crossfade.progress WHERE workflow = %(workflow)s",
    "workflows": "SELECT * FROM crossfade.workflows WHERE workflow = %(workflow)s",
    "copy_tables": "SELECT * FROM crossfade.copy_tables WHERE workflow = %(workflow)s ORDER BY 2, 3",
    "copy_parts": "SELECT target_schema, target_name, state, count(*) AS parts, sum(copied_rows) AS rows"
    " FROM crossfade.copy_parts WHERE workflow = %(workflow)s GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
    "mappings": "SELECT number, mapping_hash, file, since, why FROM crossfade.mappings"
    " WHERE workflow = %(workflow)s ORDER BY number",
    "control": "SELECT * FROM crossfade.control WHERE workflow = %(workflow)s ORDER BY id DESC LIMIT 200",
    "own_tables": "SELECT c.relname, c.reltuples::bigint AS rows, pg_total_relation_size(c.oid) AS bytes"
    " FROM pg_class c WHERE c.relnamespace = to_regnamespace('crossfade') AND c.relkind IN ('r', 'p') ORDER BY 1",
    "sessions": _SESSIONS,
}


async def read_source(dsn: str, *, publications: Sequence[str]) -> str:
    """JSON. Raises Fault when the source does not answer."""
    return await _read(dsn, "source", _SOURCE, {"publications": list(publications)})


async def read_target(dsn: str, *, workflow: str) -> str:
    """JSON. Raises Fault when the target does not answer."""
    return await _read(dsn, "target", _TARGET, {"workflow": workflow})


async def _read(dsn: str, endpoint: str, questions: Mapping[str, LiteralString], values: Mapping[str, object]) -> str:
    told: dict[str, object] = {}
    try:
        async with asyncio.timeout(_SECONDS):
            connection = await connect(
                dsn, purpose="bundle", endpoint=endpoint, settings={"default_transaction_read_only": "on"}
            )
            async with connection:
                for name, question in questions.items():
                    try:
                        cursor = await connection.execute(
                            f"SELECT coalesce(json_agg(to_json(asked)), '[]')::text FROM ({question}) asked",
                            values if "%(" in question else None,
                        )
                        row = await cursor.fetchone()
                        told[name] = orjson.loads(str(row[0])) if row is not None else []
                    except psycopg.OperationalError:
                        raise
                    except psycopg.Error as error:
                        told[name] = {"refused": error.sqlstate or type(error).__name__}
    except (psycopg.Error, TimeoutError) as error:
        raise Fault(f"It stopped answering ({type(error).__name__}).", where=endpoint) from None
    return orjson.dumps(told, option=orjson.OPT_INDENT_2).decode()
