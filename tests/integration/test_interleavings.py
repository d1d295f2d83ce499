"""What may happen between two lines: sessions that outlive their daemon, slots half made, positions moved meanwhile.

Each case holds one side still with a lock or an open transaction, does the harm, and lets go.
"""

from __future__ import annotations

import pytest

from tests.integration.sides import ITEMS, assert_equal, both, locked
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
