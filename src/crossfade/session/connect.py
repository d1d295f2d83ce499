"""SQL connections to either database, with every setting that could change a value or kill us pinned.

One function opens them, for everybody: a role's or database's own defaults (DateStyle, timeouts, search_path,
synchronous_commit) can change how a value reads, or end a copy half way, so none is left to chance (edge-cases 0.8,
F8, F9, F18, G2, A13). Refuses to know what the connection is for. The invariant: whoever gets a connection from here
sees values in one canonical text form and an empty, safe search path.

PostgreSQL: runtime-config-client, libpq-connect ("options", "tcp_user_timeout").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from crossfade.faults import Fault, Misconfigured, Transient, Unreachable, from_sqlstate

Connection = psycopg.AsyncConnection[tuple[object, ...]]

# What makes text canonical, on both sides and on replication connections alike.
_VALUES: Final[Mapping[str, str]] = {
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "extra_float_digits": "3",
    "timezone": "UTC",
    "bytea_output": "hex",
    "xmloption": "content",
    "lc_monetary": "C",
    "search_path": "pg_catalog",
    "row_security": "off",
    "standard_conforming_strings": "on",
}
# What would end us half way. Zero means never.
_TIMEOUTS: Final[Mapping[str, str]] = {
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "jit": "off",
}
# Rule 5 of edge-cases: an acknowledged row must survive a crash of the target. Rule 8: a role may default to read-only.
# The keepalives are the server's side of it: a daemon that vanished must not hold the leader lock for hours.
TARGET: Final[Mapping[str, str]] = {
    "synchronous_commit": "on",
    "default_transaction_read_only": "off",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "25000",
}

# A dead peer is noticed in about 30 s, a peer that takes nothing we send in the same time (B4).
_KEEPALIVES: Final[Mapping[str, str]] = {
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "4",
    "tcp_user_timeout": "30000",
    "connect_timeout": "10",
}


def conninfo(dsn: str, *, purpose: str, settings: Mapping[str, str] | None = None, replication: bool = False) -> str:
    """The connection string with settings pinned and our `application_name`.

    What an operator wrote for keepalives, connect_timeout and `options` is kept (ours come after, and win for the
    settings that must hold). Raises `Misconfigured` for a DSN libpq cannot read; the DSN is never shown (secrets).
    """
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.Error:
        raise Misconfigured(
            "The connection string cannot be read by libpq.",
            where=f"dsn ({purpose})",
            means="Nothing was changed.",
            do="Write it as in the manual page libpq-connstring, for example: host=db dbname=shop user=crossfade.",
        ) from None
    pinned = {**_VALUES, **_TIMEOUTS, **(settings or {})}
    ours = " ".join(f"-c {name}={_escape(value)}" for name, value in pinned.items())
    options = f"{given.pop('options', '') or ''} {ours}".strip()
    given.pop("application_name", None)
    given.pop("client_encoding", None)
    merged: dict[str, str | int | None] = {**_KEEPALIVES, **given}
    if replication:
        merged["replication"] = "database"
    return make_conninfo(
        "", **merged, options=options, application_name=f"crossfade {purpose}"[:63], client_encoding="UTF8"
    )


def _escape(value: str) -> str:
    """Spaces and backslashes inside `options` take a backslash (libpq-connect, "options")."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


async def connect(
    dsn: str,
    *,
    purpose: str,
    endpoint: str,
    settings: Mapping[str, str] | None = None,
    replication: bool = False,
    autocommit: bool = True,
) -> Connection:
    """Open one connection.

    Raises `Unreachable` (cannot connect, refused), `Transient` (starting up, too many clients) or `Misconfigured` (no
    connection string at all).
    `purpose` ends up in application_name ("crossfade copy"); `endpoint` is "source" or "target", for messages.
    """
    text = conninfo(dsn, purpose=purpose, settings=settings, replication=replication)
    try:
        connection = await psycopg.AsyncConnection.connect(text, autocommit=autocommit)
    except psycopg.OperationalError as error:
        raise connect_fault(error, endpoint=endpoint, text=text) from None
    connection.prepare_threshold = None
    # Unknown to older servers (since 14 and 17), so these cannot be in `options`. A walsender is idle as well: while
    # the copy runs nobody talks to it (G1). And a session of ours that waits for somebody's lock must notice that we
    # died: else it keeps the leader lock for as long.
    await connection.execute(
        "SELECT pg_catalog.set_config(name,"
        " CASE name WHEN 'client_connection_check_interval' THEN '5s' ELSE '0' END, false) FROM pg_catalog.pg_settings"
        " WHERE name IN ('idle_session_timeout', 'transaction_timeout', 'client_connection_check_interval')"
    )
    return connection


def connect_fault(error: psycopg.Error, *, endpoint: str, text: str) -> Fault:
    """Say why a connection was not made, by SQLSTATE or by libpq's own words when no server spoke.

    libpq's words hold host names and our own role, never rows; passwords are not among them.
    """
    given = conninfo_to_dict(text)
    place = (
        f"{endpoint} ({given.get('host') or given.get('hostaddr') or 'local socket'}:{given.get('port') or 5432}, "
        f"database {given.get('dbname') or given.get('user') or '?'}, role {given.get('user') or '?'})"
    )
    message = str(error)
    sqlstate = error.sqlstate or ""
    if not sqlstate:
        # libpq does not keep the SQLSTATE of a failed start-up packet before version 18; its English words do.
        for words, code in _WORDS:
            if words in message:
                sqlstate = code
                break
    if sqlstate in {"57P03", "53300", "57P01", "57P02"}:
        return Transient(
            f"The server does not take connections just now (SQLSTATE {sqlstate}).", where=place, sqlstate=sqlstate
        )
    if sqlstate[:2] == "28":
        return Unreachable(
            f"The server refused our credentials (SQLSTATE {sqlstate}).",
            where=place,
            do="Check the password, pg_hba.conf and, on the source, that the role has REPLICATION.",
            sqlstate=sqlstate,
        )
    if sqlstate:
        return from_sqlstate(sqlstate, where=place)
    first = message.strip().splitlines()[-1] if message.strip() else "no reason given"
    return Unreachable(
        f"Cannot connect: {first if first.endswith(('.', '?')) else f'{first}.'}",
        where=place,
        do="Check that the server runs and that the network lets us through.",
    )


_WORDS: Final = (
    ("password authentication failed", "28P01"),
    ("no pg_hba.conf entry", "28000"),
    ("no password supplied", "28P01"),
    ("must be superuser or replication role", "28000"),
    ("permission denied to start WAL sender", "28000"),
    ("does not exist", "3D000"),
    ("starting up", "57P03"),
    ("shutting down", "57P03"),
    ("in recovery mode", "57P03"),
    ("not yet accepting connections", "57P03"),
    ("too many clients", "53300"),
    ("remaining connection slots", "53300"),
    ("too many connections", "53300"),
)


def server_fault(error: psycopg.Error, *, where: str) -> Fault:
    """Sort an error of a running connection; only names and the SQLSTATE survive, never the server's text."""
    diag = error.diag
    sqlstate = error.sqlstate or ""
    if not sqlstate and not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return Fault(f"The client library refused the call ({type(error).__name__}).", where=where)
    return from_sqlstate(
        sqlstate,
        where=where,
        constraint=diag.constraint_name or "",
        column=diag.column_name or "",
        relation=f"{diag.schema_name}.{diag.table_name}" if diag.table_name else "",
    )


def result_fault(result: pq.abc.PGresult, *, where: str) -> Fault:
    """The same for a raw result of the client library."""

    def field(which: pq.DiagnosticField) -> str:
        return (result.error_field(which) or b"").decode("utf-8", "replace")

    table = field(pq.DiagnosticField.TABLE_NAME)
    return from_sqlstate(
        field(pq.DiagnosticField.SQLSTATE),
        where=where,
        constraint=field(pq.DiagnosticField.CONSTRAINT_NAME),
        column=field(pq.DiagnosticField.COLUMN_NAME),
        relation=f"{field(pq.DiagnosticField.SCHEMA_NAME)}.{table}" if table else "",
    )


def message_fault(said: Mapping[str, str], *, where: str) -> Fault:
    """The same for the fields of an ErrorResponse by their letter, as `copydata.fields` gives them."""
    return from_sqlstate(
        said.get("C", ""),
        where=where,
        constraint=said.get("n", ""),
        column=said.get("c", ""),
        relation=f"{said.get('s', '')}.{said['t']}" if "t" in said else "",
    )
