"""What may happen between two lines: sessions that outlive their daemon, slots half made, positions moved meanwhile.

Each case holds one side still with a lock or an open transaction, does the harm, and lets go.
"""

from __future__ import annotations

import signal

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.integration.sides import ITEMS, assert_equal, blocked, both, is_stopped, locked, synced
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


@pytest.mark.one_version
def test_G16_two_copies_of_one_table_never_both_count(databases: Databases, workspace: Workspace) -> None:
    """A daemon that lost the lead without noticing is about to mark a table as copied when its successor is, too: one
    of them counts. The table has no key, so nothing else would notice rows that are there twice."""
    both(databases, KEYLESS, rows="INSERT INTO log SELECT 'line' FROM generate_series(1, 30)")
    databases.publish(append=["log"])
    workspace.write(APPENDED)
    workspace.daemon(env={"CROSSFADE_FAILPOINTS": "crash:after_slot_placed"}).wait()
    first = workspace.daemon(env={"CROSSFADE_FAILPOINTS": "stop:in_copy"})
    first.wait_for(lambda: is_stopped(first.pid), "the first has written rows, and no mark")
    databases.target.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'crossfade apply'"
    )
    second = workspace.daemon(env={"CROSSFADE_HTTP__LISTEN": ""})
    second.wait_for_phase("streaming")

    def overtaken() -> bool:
        """The first goes on, from wherever it stops again, until it knows that its time is over."""
        if is_stopped(first.pid):
            first.signal(signal.SIGCONT)
        return "standby" in first.text() or "Another session copied" in first.text()

    first.wait_for(overtaken, "the first gives up")
    assert databases.target.value("SELECT count(*) FROM log") == 30
    first.kill9()
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
def test_A9_a_slot_made_by_a_stranger_at_the_last_moment_is_never_ours(begun: Workspace, databases: Databases) -> None:
    """Somebody takes the slot's name between our check and its creation: exit 3, and again at the next start."""
    daemon = begun.daemon("--until", "caught-up", env={"CROSSFADE_FAILPOINTS": "stop:after_slot_recorded"})
    daemon.wait_for(lambda: is_stopped(daemon.pid), "the slot is recorded")
    databases.source.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [begun.slot])
    daemon.signal(signal.SIGCONT)
    assert daemon.wait() == 3
    synced(begun, code=3)
    assert databases.durable() is None


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


OWNED = """
    CREATE TABLE users (id int PRIMARY KEY, name text);
    CREATE TABLE orders (id int PRIMARY KEY, user_id int REFERENCES users);
"""
STRICT = """
version: 1
schemas: {public: public}
ids: {user: {from: public.users.id, to: uuid, strategy: uuid7}}
policies: {orphan_id: error}
tables:
  public.users: {columns: {id: {remap: user}}}
"""
DONE = "SELECT target_name FROM crossfade.copy_tables WHERE state = 'done'"
REFERENCES = "SELECT o.id, u.name FROM orders o JOIN users u ON u.id = o.user_id ORDER BY 1"


@pytest.fixture
def strict(databases: Databases, workspace: Workspace) -> Workspace:
    """A parent whose ids are remapped and its child, one worker; a reference without a parent is an error."""
    filled = "INSERT INTO users VALUES (1, 'ann'); INSERT INTO orders SELECT g, 1 FROM generate_series(1, 20) g;"
    databases.prepare(
        source=OWNED + filled,
        target=OWNED.replace("users (id int", "users (id uuid").replace("user_id int", "user_id uuid"),
    )
    databases.publish("users", "orders")
    return workspace.write(STRICT, extra="[copy]\nworkers = 1\n")


@pytest.mark.one_version
@pytest.mark.parametrize("big", ["users", "orders"])
def test_I3_parents_between_two_snapshots_make_no_orphans(strict: Workspace, databases: Databases, big: str) -> None:
    """Parent and child are copied at different snapshots. A parent that came and went between them, and one that came
    to stay, are no reason to stop at their children under `orphan_id: error`."""
    databases.source.execute(
        f"ALTER TABLE {big} ADD padding text; UPDATE {big} SET padding = repeat('x', 5000); ANALYZE"
    )
    strict.write(
        STRICT.replace("users: {", "users: {drop: [padding], ")
        if big == "users"
        else STRICT + "  public.orders: {drop: [padding]}\n",
        extra="[copy]\nworkers = 1\n",
    )
    small = "orders" if big == "users" else "users"
    if big == "orders":
        # Of an empty map the parents' rows make the ids, and children wait for them: here it holds an id already.
        synced(strict, failpoints="crash:after_slot_placed", code=137)
        databases.target.execute(
            "CREATE TABLE crossfade.id_user (old int PRIMARY KEY, new uuid NOT NULL UNIQUE);"
            f" ALTER TABLE crossfade.id_user OWNER TO {databases.target.role};"
            " INSERT INTO crossfade.id_user VALUES (-1, gen_random_uuid())"
        )
    with locked(databases.target, small):
        daemon = strict.daemon()
        daemon.wait_for(blocked(databases.target, "crossfade copy"), f"the copy of {small} is held")
        assert databases.target.execute(DONE) == [(big,)]
        databases.source.execute(
            "BEGIN; INSERT INTO users VALUES (7, 'gone'); INSERT INTO orders VALUES (107, 7); COMMIT"
        )
        databases.source.execute("BEGIN; DELETE FROM orders WHERE id = 107; DELETE FROM users WHERE id = 7; COMMIT")
        databases.source.execute(
            "BEGIN; INSERT INTO users VALUES (8, 'new'); INSERT INTO orders VALUES (108, 8); COMMIT"
        )
        databases.source.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'crossfade snapshot'"
        )
        daemon.wait_for_line("snapshot was lost")
    daemon.wait_for_phase("streaming")
    assert databases.target.execute(REFERENCES) == databases.source.execute(REFERENCES)
    assert "no parent" not in daemon.text()
    assert daemon.terminate() == 0


@pytest.mark.one_version
def test_E3_a_backlog_from_before_a_column_grew_is_read(databases: Databases, workspace: Workspace) -> None:
    """While no daemon runs a row is written, then its varchar is made longer: the row still comes in the old shape."""
    both(databases, "CREATE TABLE items (id int PRIMARY KEY, note varchar(20));")
    databases.target.execute("ALTER TABLE items ALTER note TYPE text")
    databases.publish("items")
    synced(workspace.write())
    databases.source.execute("INSERT INTO items VALUES (1, 'short')")
    databases.source.execute("ALTER TABLE items ALTER note TYPE varchar(50)")
    databases.source.execute("INSERT INTO items VALUES (2, repeat('long', 10))")
    synced(workspace)
    assert_equal(databases, "items")
