"""Slots that are not ours, moved, lost or read by somebody else, and transactions a new slot would wait for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest

from crossfade.findings import Severity
from crossfade.session.connect import conninfo
from crossfade.state.leader import lock_key
from tests.integration.checking import altered, errors, examined, names, one, prepare
from tests.servers.daemon import Workspace
from tests.servers.databases import Databases
from tests.servers.psql import script


def begin(databases: Databases, workspace: Workspace, *, end_lsn: str | None = None, slot: str | None = None) -> None:
    """Leave in the target what a run of ours would have left."""
    databases.target.execute(script("state.sql", role=databases.target.role))
    identifier = databases.source.value("SELECT system_identifier::text FROM pg_control_system()")
    databases.target.execute(
        "INSERT INTO crossfade.progress (workflow, end_lsn, epoch, system_identifier, timeline, source_database, slot,"
        " mapping_hash) VALUES ('shop', %s, 1, %s, 1, %s, %s, 'x')",
        (end_lsn, identifier, databases.source.dbname, slot or workspace.slot),
    )


def create_slot(databases: Databases, name: str, plugin: str = "pgoutput") -> str:
    """Returns where it stands."""
    databases.source.execute("SELECT pg_create_logical_replication_slot(%s, %s)", (name, plugin))
    return str(
        databases.source.value(
            "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = %s", (name,)
        )
    )


@contextmanager
def reading(databases: Databases, slot: str) -> Iterator[None]:
    """Somebody streams from the slot meanwhile."""
    text = conninfo(databases.source_dsn, purpose="test", replication=True)
    query = f"START_REPLICATION SLOT {slot} LOGICAL 0/0 (proto_version '1', publication_names 'crossfade')"
    with closing(psycopg.connect(text, autocommit=True)) as reader:
        reader.cursor().execute(query.encode())
        yield


def test_A9_a_slot_of_our_name_that_is_not_ours(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    create_slot(databases, workspace.slot)
    found = examined(workspace)
    assert errors(found) == {"slot_exists"}
    assert not any("drop" in statement for statement in found.sql)
    assert errors(examined(workspace, resuming=True)) == set()
    drop = one(found, "slot_exists").remedy.split(": ")[-1]
    databases.source.execute(drop)
    assert errors(examined(workspace)) == set()


def test_a_workflow_that_has_begun(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    begin(databases, workspace, end_lsn=create_slot(databases, workspace.slot))
    databases.target.execute("INSERT INTO users VALUES (1, 'copied')")
    found = examined(workspace)
    assert errors(found) == set()
    assert "slot_exists" not in names(found)


def test_A7_the_slot_advanced_behind_our_back(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    begin(databases, workspace, end_lsn=create_slot(databases, workspace.slot))
    databases.source.execute("INSERT INTO users VALUES (1, 'x')")
    databases.source.execute("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", (workspace.slot,))
    assert errors(examined(workspace)) == {"slot_moved"}


def test_A9_the_slot_is_gone(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    begin(databases, workspace, end_lsn="0/1234")
    assert errors(examined(workspace)) == {"slot_missing"}


def test_A9_a_recorded_slot_without_a_position_may_still_be_made(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    begin(databases, workspace)
    assert errors(examined(workspace)) == set()


def test_the_configuration_names_another_slot_than_the_workflow_began_with(
    databases: Databases, workspace: Workspace
) -> None:
    prepare(databases)
    begin(databases, workspace, end_lsn="0/1234", slot="another")
    finding = one(examined(workspace), "slot_renamed")
    assert 'stream.slot = "another"' in finding.remedy


def test_B10_another_source_than_the_one_we_began_with(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    begin(databases, workspace, end_lsn=create_slot(databases, workspace.slot))
    databases.target.execute("UPDATE crossfade.progress SET system_identifier = '42'")
    assert errors(examined(workspace)) == {"another_source"}


def test_a_slot_of_another_plugin(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    position = create_slot(databases, workspace.slot, "test_decoding")
    begin(databases, workspace, end_lsn=position)
    assert errors(examined(workspace)) == {"slot_unfit"}


def test_B3_somebody_reads_our_slot(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    begin(databases, workspace, end_lsn=create_slot(databases, workspace.slot))
    with reading(databases, workspace.slot):
        found = examined(workspace)
    assert one(found, "slot_active").severity is Severity.WARNING
    assert errors(found) == set()


def test_E8_the_publication_is_gone_though_we_have_begun(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    begin(databases, workspace, end_lsn=create_slot(databases, workspace.slot))
    databases.source.execute("DROP PUBLICATION crossfade")
    assert errors(examined(workspace)) == {"publication_gone"}


def test_C12_a_prepared_transaction_that_would_hold_the_slot_up(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    databases.source.execute("BEGIN; INSERT INTO users VALUES (1, 'x'); PREPARE TRANSACTION 'order 66'")
    assert "transaction_blocks_slot" not in names(examined(workspace)), "it is a second old"


def test_B11_a_running_transaction_whose_age_we_may_not_see(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    with databases.source.connect(autocommit=False) as holder:
        holder.execute("INSERT INTO users VALUES (1, 'secret')")
        finding = one(examined(workspace), "transaction_running")
        assert finding.severity is Severity.INFO
        assert str(holder.info.backend_pid) in finding.subject
        assert "secret" not in str(finding)
        with altered(
            databases.source, "GRANT pg_read_all_stats TO crossfade", "REVOKE pg_read_all_stats FROM crossfade"
        ):
            assert "transaction_running" not in names(examined(workspace)), "it is seen to be young"
    assert "transaction_running" not in names(examined(workspace))


def test_B11_a_reader_blocks_no_slot(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    with databases.source.connect(autocommit=False) as holder:
        holder.execute("SELECT count(*) FROM users")
        assert "transaction_running" not in names(examined(workspace))


@pytest.mark.parametrize("leader", [True, False])
def test_B3_our_own_daemon_may_read_the_slot(databases: Databases, workspace: Workspace, leader: bool) -> None:
    prepare(databases)
    begin(databases, workspace, end_lsn=create_slot(databases, workspace.slot))
    with databases.target.connect() as daemon:
        if leader:
            daemon.execute("SELECT pg_advisory_lock(%s)", (lock_key("shop"),))
        with reading(databases, workspace.slot):
            assert ("slot_active" in names(examined(workspace))) is not leader
