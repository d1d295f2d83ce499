"""Servers that cannot be reached, or are not configured for us; each mended the way `check` says."""

from __future__ import annotations

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from crossfade.demo.servers import Server
from crossfade.findings import Kind, Severity
from tests.conftest import MakeServer
from tests.integration.checking import TABLES, altered, errors, examined, names, obey, one, prepare
from tests.servers.daemon import Workspace, free_port
from tests.servers.databases import PASSWORD, Databases


def bare(server: Server) -> str:
    """A role and a table on a server of the test's own; returns our connection string."""
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE ROLE crossfade LOGIN REPLICATION PASSWORD '{PASSWORD}'".encode())
        admin.execute(TABLES + "GRANT SELECT ON ALL TABLES IN SCHEMA public TO crossfade")
        for name, what, tables in (
            ("crossfade", "insert, update, delete, truncate", "users, orders"),
            ("crossfade_append", "insert, truncate", "log"),
        ):
            admin.execute(
                f"CREATE PUBLICATION {name} FOR TABLE {tables}"
                f" WITH (publish = '{what}', publish_via_partition_root = true)".encode()
            )
    return server.dsn("postgres", "crossfade", PASSWORD)


def admin_runs(server: Server, statements: tuple[str, ...]) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        for statement in statements:
            admin.execute(statement.encode())


def test_B17_a_source_not_set_up_for_replication_at_all(
    databases: Databases, workspace: Workspace, make_server: MakeServer
) -> None:
    prepare(databases)
    server = make_server(
        "source",
        fsync=False,
        settings={
            "wal_level": "replica",
            "max_replication_slots": "1",
            "max_wal_senders": "1",
            "wal_sender_timeout": "500ms",
            "max_slot_wal_keep_size": "1GB",
        },
    )
    dsn = bare(server)
    found = examined(workspace, source_dsn=dsn)
    assert errors(found) == {"wal_level", "max_replication_slots", "max_wal_senders"}
    assert {"wal_sender_timeout", "slot_wal_limited"} <= names(found)
    assert "1.0 GiB" in one(found, "slot_wal_limited").sentence
    assert one(found, "wal_level").kind is Kind.READINESS
    admin_runs(server, found.source_sql)
    server.restart()
    after = examined(workspace, source_dsn=dsn)
    assert errors(after) == set()
    assert "wal_sender_timeout" not in names(after)


def test_B1_the_server_gave_the_slot_up(databases: Databases, workspace: Workspace, make_server: MakeServer) -> None:
    prepare(databases)
    server = make_server(
        "source",
        fsync=False,
        settings={"max_slot_wal_keep_size": "1MB", "max_wal_size": "32MB", "min_wal_size": "32MB"},
    )
    dsn = bare(server)
    admin_runs(server, (f"SELECT pg_create_logical_replication_slot('{workspace.slot}', 'pgoutput')",))
    for _ in range(5):
        admin_runs(server, ("INSERT INTO log VALUES (1, 'x')", "SELECT pg_switch_wal()"))
    admin_runs(server, ("CHECKPOINT",))
    found = examined(workspace, source_dsn=dsn, resuming=True)
    assert errors(found) == {"slot_lost"}
    assert "wal_removed" in one(found, "slot_lost").sentence


@pytest.mark.parametrize("down", ["source", "target"])
def test_one_side_down_hides_nothing_of_the_other(databases: Databases, workspace: Workspace, down: str) -> None:
    prepare(databases)
    nowhere = f"host=127.0.0.1 port={free_port()} dbname=shop user=crossfade password=hunter2"
    with altered(databases.source, "ALTER ROLE crossfade NOREPLICATION", "ALTER ROLE crossfade REPLICATION"):
        found = examined(workspace, **{f"{down}_dsn": nowhere})
    finding = one(found, "unreachable")
    assert (finding.kind, finding.subject) == (Kind.UNREACHABLE, down)
    assert "hunter2" not in str(found)
    assert ("role_without_replication" in names(found)) is (down == "target")
    assert "tables_not_examined" in names(found)


def test_both_sides_down(databases: Databases, workspace: Workspace) -> None:
    nowhere = f"host=127.0.0.1 port={free_port()} dbname=shop user=crossfade"
    found = examined(workspace, source_dsn=nowhere, target_dsn=nowhere)
    assert [finding.subject for finding in found.findings if finding.name == "unreachable"] == ["source", "target"]


def test_a_wrong_password_is_unreachable(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    wrong = make_conninfo(databases.source_dsn, password="hunter2")
    found = examined(workspace, source_dsn=wrong)
    assert errors(found) == {"unreachable"}
    assert "hunter2" not in str(found)


@pytest.mark.parametrize("replica_role", [False], ids=["origin"])
@pytest.mark.parametrize("side", ["source", "target"])
def test_no_right_to_connect(databases: Databases, workspace: Workspace, side: str) -> None:
    prepare(databases)
    broken = databases.source if side == "source" else databases.target
    broken.execute(f"REVOKE CONNECT ON DATABASE {broken.dbname} FROM PUBLIC, {broken.role}")
    found = examined(workspace)
    assert errors(found) == {"connect_missing"}
    obey(databases, found)
    assert errors(examined(workspace)) == set()


def test_source_and_target_are_one_database(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    found = examined(workspace, target_dsn=databases.source_dsn)
    assert one(found, "same_database").kind is Kind.CONFIGURATION


def test_F21_a_source_without_an_encoding(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    name = f"{databases.source.dbname}_ascii"
    databases.source.execute(
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    try:
        server = databases.source.server
        with psycopg.connect(server.dsn(name), autocommit=True) as admin:
            admin.execute(TABLES)
        found = examined(workspace, source_dsn=server.dsn(name, "crossfade", PASSWORD))
        assert "source_encoding" in errors(found)
    finally:
        databases.source.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_F22_a_target_with_fewer_characters(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    name = f"{databases.target.dbname}_latin"
    databases.target.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
    try:
        server = databases.target.server
        found = examined(workspace, target_dsn=server.dsn(name, databases.target.role, PASSWORD))
        assert one(found, "target_encoding").severity is Severity.WARNING
    finally:
        databases.target.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_H8_a_target_that_is_read_only_by_default(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    databases.target.execute(f"ALTER DATABASE {databases.target.dbname} SET default_transaction_read_only = on")
    found = examined(workspace)
    assert one(found, "target_read_only").severity is Severity.WARNING
    assert errors(found) == set()


def test_A13_a_target_that_forgets(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    finding = one(examined(workspace), "target_not_durable")  # the servers of these tests run with fsync off
    assert finding.severity is Severity.WARNING
    assert "ALTER SYSTEM SET fsync = on;" in finding.remedy


def test_G2_timeouts_that_would_kill_a_copy_are_told(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    with altered(
        databases.source,
        "ALTER ROLE crossfade SET statement_timeout = '2s'",
        "ALTER ROLE crossfade RESET statement_timeout",
    ):
        finding = one(examined(workspace), "timeouts_overridden")
    assert "statement_timeout=2s" in finding.sentence
    assert finding.severity is Severity.INFO


def test_B17_too_few_connections_for_our_role(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    with altered(
        databases.source, "ALTER ROLE crossfade CONNECTION LIMIT 3", "ALTER ROLE crossfade CONNECTION LIMIT -1"
    ):
        found = examined(workspace)
        assert errors(found) == {"connection_limit"}
        obey(databases, found)
        assert errors(examined(workspace)) == set()


def test_B17_too_few_connections_for_the_copy_asked_for(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    databases.source.execute(f"ALTER DATABASE {databases.source.dbname} CONNECTION LIMIT 20")
    assert errors(examined(workspace)) == set()
    found = examined(workspace, extra="[copy]\nworkers = 40\n")
    assert "connection_limit" in errors(found)


def test_F27_a_hostile_name_is_quoted_in_what_is_printed(databases: Databases, workspace: Workspace) -> None:
    """A hostile name is quoted in what is printed, and printed only."""
    evil = 'x" ; DROP TABLE users; --'
    quoted = evil.replace('"', '""')
    databases.prepare(
        source=f'{TABLES}CREATE TABLE "{quoted}" (id int PRIMARY KEY)',
        target=f'{TABLES}CREATE TABLE "{quoted}" (id int PRIMARY KEY)',
    )
    found = examined(workspace)
    assert errors(found) == {"publication_missing"}
    obey(databases, found)
    assert errors(examined(workspace)) == set()
    assert databases.source.value("SELECT count(*) FROM users") == 0
