"""What may happen between two lines: sessions that outlive their daemon, slots half made, positions moved meanwhile.

Each case holds one side still with a lock or an open transaction, does the harm, and lets go.
"""

from __future__ import annotations

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.integration.sides import ITEMS, assert_equal, blocked, both, locked, synced
from tests.servers.daemon import Workspace
from tests.servers.databases import Databases

KEYLESS = "CREATE TABLE log (line text);"
APPENDED = "version: 1\nschemas: {public: public}\ntables:\n  public.log: {append_only: true}\n"


@pytest.fixture
def begun(databases: Databases, workspace: Workspace) -> Workspace:
    """One table with a key, published; nothing has run."""
    both(databases, ITEMS, rows="INSERT INTO items VALUES (1, 'one')")
    databases.publish("items")
    return workspace.write()


def sessions(databases: Databases, purpose: str) -> int:
    """How many target sessions wait for a lock, by their purpose."""
    return int(
        databases.target.value(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = %s AND wait_event_type = 'Lock'",
            [f"crossfade {purpose}"],
        )
    )


@pytest.mark.one_version
def test_G16_two_copies_of_one_table_never_both_count(databases: Databases, workspace: Workspace) -> None:
    """A daemon that lost the lead without noticing is about to mark a table as copied when its successor is, too: one
    of them counts. The table has no key, so nothing else would notice rows that are there twice."""
    both(databases, KEYLESS, rows="INSERT INTO log SELECT 'line' FROM generate_series(1, 30)")
    databases.publish(append=["log"])
    workspace.write(APPENDED)
    workspace.daemon(env={"CROSSFADE_FAILPOINTS": "crash:after_slot_placed"}).wait()
    with locked(databases.target, "crossfade.copy_tables", "SHARE ROW EXCLUSIVE"):
        first = workspace.daemon()
        first.wait_for(lambda: sessions(databases, "copy") == 1, "the first is about to mark the table")
        databases.target.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'crossfade apply'"
        )
        second = workspace.daemon(env={"CROSSFADE_HTTP__LISTEN": ""})
        second.wait_for(lambda: sessions(databases, "copy") == 2, "the second is, too")
    second.wait_for_phase("streaming")
    assert_equal(databases, "log")
    assert second.terminate() == 0


@pytest.mark.one_version
def test_A7_a_slot_advanced_while_the_copy_runs(begun: Workspace, databases: Databases) -> None:
    """Nobody streams from the slot during the copy, so anybody may move it: exit 3 before anything is streamed."""
    with locked(databases.target, "items"):
        daemon = begun.daemon("--until", "caught-up")
        daemon.wait_for(blocked(databases.target, "crossfade copy"), "the copy is held")
        databases.source.execute("INSERT INTO items VALUES (2, 'lost')")
        databases.source.execute("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", [begun.slot])
    assert daemon.wait() == 3
    assert "behind our back" in daemon.text()
    assert "crossfade teardown" in daemon.text()


@pytest.mark.one_version
def test_B11_a_slot_half_made_by_a_session_of_before_is_not_taken_for_ours(
    begun: Workspace, databases: Databases
) -> None:
    """kill -9 while the slot waits for running transactions: the old walsender goes on making it for a while, and what
    it has made so far has no position to start from."""
    with databases.source.connect(autocommit=False) as open_transaction:
        open_transaction.execute("SELECT pg_current_xact_id()")
        first = begun.daemon()
        first.wait_for_line("cannot finish creating the slot")
        first.kill9()
        second = begun.daemon("--until", "caught-up")
        second.wait_for_line("cannot finish creating the slot")
        open_transaction.rollback()
    assert second.wait() == 0
    assert_equal(databases, "items")


@pytest.mark.one_version
def test_G4_a_temporary_slot_of_a_session_of_before_is_in_nobodys_way(begun: Workspace, databases: Databases) -> None:
    """The session that made the last snapshot still lives on a dead line, or another workflow makes one just now."""
    synced(begun, failpoints="crash:after_slot_placed", code=137)
    with psycopg.connect(make_conninfo(databases.source_admin, replication="database"), autocommit=True) as other:
        other.execute(f'CREATE_REPLICATION_SLOT "{begun.slot[:50]}_snapshot" TEMPORARY LOGICAL pgoutput')
        synced(begun)
    assert_equal(databases, "items")
