"""The target's side of things: triggers, foreign keys, rights, locks, users, crashes, identity keys (edge-cases H)."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from tests.integration.following import follow, prepared, publish
from tests.integration.sides import ITEMS, assert_equal, blocked, both, crashable, locked, streaming, synced
from tests.servers.clusters import Versions
from tests.servers.daemon import Workspace
from tests.servers.databases import Databases, Side

REPLICA = pytest.mark.parametrize("replica_role", [True], ids=["replica"])
ORIGIN = pytest.mark.parametrize("replica_role", [False], ids=["origin"])

TRIGGERS = """
CREATE TABLE items (id int PRIMARY KEY, note text);
CREATE TABLE fired (name text);
CREATE FUNCTION count_it() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO public.fired VALUES (TG_NAME); RETURN NEW; END $$;
CREATE TRIGGER ordinary AFTER INSERT OR UPDATE ON items FOR EACH ROW EXECUTE FUNCTION count_it();
CREATE TRIGGER always AFTER INSERT OR UPDATE ON items FOR EACH ROW EXECUTE FUNCTION count_it();
CREATE TRIGGER replica AFTER INSERT OR UPDATE ON items FOR EACH ROW EXECUTE FUNCTION count_it();
ALTER TABLE items ENABLE ALWAYS TRIGGER always, ENABLE REPLICA TRIGGER replica;
"""
ROWS = "INSERT INTO items SELECT n, 'a note' FROM generate_series(1, 3) n;"


def _document(workspace: Workspace) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{workspace.port}/api/v1/status", timeout=10) as response:
        document: dict[str, Any] = json.loads(response.read())
        return document


def _fired(side: Side) -> dict[str, int]:
    return {str(name): int(count) for name, count in side.execute("SELECT name, count(*) FROM fired GROUP BY 1")}


@REPLICA
def test_H1_triggers_under_replica_role(workspace: Workspace, databases: Databases) -> None:
    """Ordinary triggers stay silent, in the copy and in the stream; ALWAYS and REPLICA ones fire, as check warned."""
    followed = follow(workspace, source=ITEMS, target=TRIGGERS, rows=ROWS)
    followed.write("INSERT INTO items VALUES (4, 'x')", "UPDATE items SET note = 'y' WHERE id <= 2")
    assert _fired(databases.target) == {"always": 6, "replica": 6}
    found = json.loads(workspace.run("check", "--json").stdout)["findings"]
    warned = " ".join(each["sentence"] for each in found if each["name"] == "trigger_fires")
    assert "trigger always of public.items is ENABLE ALWAYS" in warned
    assert "trigger replica of public.items is ENABLE REPLICA" in warned
    assert "ordinary" not in warned


@ORIGIN
@pytest.mark.one_version  # what we decide, not what the server does
def test_H1_triggers_without_replica_role(workspace: Workspace, databases: Databases) -> None:
    """What would fire a second time is refused, by name and with its remedy; once switched off, it is silent."""
    prepared(workspace, source=ITEMS, target=TRIGGERS)
    databases.source.execute(ROWS)
    said = synced(workspace, code=78).text()
    for name in ("ordinary", "always"):
        assert f"The trigger {name} of public.items would fire" in said
        assert f'DISABLE TRIGGER \\"{name}\\"' in said or f"DISABLE TRIGGER {name}" in said
    assert "trigger replica" not in said
    assert databases.target.value("SELECT count(*) FROM items") == 0
    databases.target.execute("ALTER TABLE items DISABLE TRIGGER ordinary, DISABLE TRIGGER always")
    synced(workspace)
    databases.source.execute("UPDATE items SET note = 'y' WHERE id = 2")
    synced(workspace)
    assert_equal(databases, "items")
    assert _fired(databases.target) == {}


FAMILY = """
CREATE TABLE parents (id int PRIMARY KEY, note text);
CREATE TABLE children (id int PRIMARY KEY, parent_id int, note text);
"""
REFERENCE = "ALTER TABLE children ADD CONSTRAINT of_parent FOREIGN KEY (parent_id) REFERENCES parents"
ORPHAN = (
    "INSERT INTO parents VALUES (1, 'a'); INSERT INTO children VALUES (1, 1, 'a'), (2, 99, 'nobody''s');"
    f" {REFERENCE} NOT VALID;"
)


@REPLICA
def test_H2_replica_role_takes_orphans_as_the_source_has_them(workspace: Workspace, databases: Databases) -> None:
    """Foreign keys are not checked: a row the source holds against its own constraint arrives, in copy and stream."""
    followed = follow(workspace, source=FAMILY, target=f"{FAMILY}{REFERENCE};", rows=ORPHAN)
    # As a superuser's bulk load does; the stream sends what is committed, valid or not.
    followed.write("SET session_replication_role = replica; INSERT INTO children VALUES (3, 77, 'another')")
    followed.assert_equal("parents", "children")
    assert databases.target.value("SELECT count(*) FROM children c LEFT JOIN parents p ON p.id = parent_id"
                                  " WHERE p.id IS NULL") == 2  # fmt: skip


@ORIGIN
@pytest.mark.one_version  # what we decide, not what the server does
def test_H2_without_replica_role_an_orphan_stops_the_stream(workspace: Workspace, databases: Databases) -> None:
    """The target's own check holds: the constraint is named, nothing of that transaction applied, then it goes on."""
    followed = follow(
        workspace,
        source=f"{FAMILY}{REFERENCE};",
        target=f"{FAMILY}{REFERENCE};",
        rows="INSERT INTO parents VALUES (1, 'a'); INSERT INTO children VALUES (1, 1, 'a');",
    )
    databases.source.execute(
        "SET session_replication_role = replica; INSERT INTO parents VALUES (5, 'with it');"
        " INSERT INTO children VALUES (3, 77, 'another')"
    )
    said = followed.failure()
    assert "A foreign key was violated (constraint of_parent" in said
    assert "23503" in said
    assert databases.target.value("SELECT count(*) FROM parents") == 1
    databases.target.execute("INSERT INTO parents VALUES (77, 'mended'); ")
    followed.resume()
    followed.assert_equal("children")


DEFERRABLE = """
CREATE TABLE regions (id int PRIMARY KEY, name text);
CREATE TABLE staff (id int PRIMARY KEY, boss int REFERENCES staff DEFERRABLE, region int NOT NULL REFERENCES regions);
CREATE TABLE visits (id int PRIMARY KEY, who int NOT NULL REFERENCES staff DEFERRABLE, note text);
"""
# The child is by far the bigger one: the copy would begin with it, were it not for the foreign keys.
_MANY = """
INSERT INTO regions VALUES (1, 'north');
INSERT INTO staff SELECT n, NULL, 1 FROM generate_series(1, 50) n;
UPDATE staff SET boss = 51 - id;
INSERT INTO visits SELECT n, n % 50 + 1, repeat('x', 200) FROM generate_series(1, 5000) n;
ANALYZE;
"""


@ORIGIN
def test_H3_the_main_path_without_the_right_to_set_replica_role(workspace: Workspace, databases: Databases) -> None:
    """Parents are copied before children, deferrable foreign keys are deferred in the stream, so any order passes."""
    followed = follow(workspace, source=DEFERRABLE, rows=_MANY, extra="[copy]\nworkers = 4\n")
    finished = databases.target.execute("SELECT target_name FROM crossfade.copy_tables ORDER BY finished_at")
    assert finished == [("regions",), ("staff",), ("visits",)]
    followed.at_once(
        # Child first, its parent later; a boss who comes after his people; a cycle of two.
        "BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO visits VALUES (9001, 700, 'early');"
        " INSERT INTO staff VALUES (700, 701, 1); INSERT INTO staff VALUES (701, 700, 1); COMMIT",
        # The parent goes first, its children after it.
        "BEGIN; SET CONSTRAINTS ALL DEFERRED; UPDATE staff SET boss = NULL WHERE boss = 3;"
        " DELETE FROM staff WHERE id = 3; DELETE FROM visits WHERE who = 3; COMMIT",
        "INSERT INTO regions VALUES (2, 'south'); INSERT INTO staff VALUES (800, NULL, 2)",
        # In the target's one transaction for all of these, checks of earlier visits are still to come.
        "INSERT INTO visits VALUES (9002, 800, 'gone at once')",
        "TRUNCATE visits",
        "INSERT INTO visits VALUES (9003, 800, 'stays')",
    )
    followed.assert_equal("regions", "staff", "visits")


@ORIGIN
@pytest.mark.one_version  # what we decide, not what the server does
def test_H3_tables_tied_by_foreign_keys_restart_together(workspace: Workspace, databases: Databases) -> None:
    """Killed between a parent and its child: two snapshots do not fit together, so it says so and touches nothing."""
    prepared(workspace, source=DEFERRABLE, extra="[copy]\nworkers = 1\n")
    databases.source.execute(_MANY)
    daemon = workspace.daemon(env={"CROSSFADE_FAILPOINTS": "crash:after_copy_table_commit"})
    assert daemon.wait() == 137
    said = synced(workspace, code=3).text()
    assert "tied by foreign keys the target enforces" in said
    assert "public.regions" in said
    assert "crossfade teardown" in said
    assert databases.target.value("SELECT count(*) FROM staff") == 0
    assert workspace.run("teardown", "--yes").returncode == 0
    databases.target.execute("TRUNCATE regions, staff, visits")
    publish_again(databases)
    synced(workspace)
    assert_equal(databases, "regions", "staff", "visits")


def publish_again(databases: Databases) -> None:
    """Teardown drops publications it may drop; a DBA's stay, and are used again."""
    if not databases.source.value("SELECT count(*) FROM pg_publication"):
        publish(databases)


@ORIGIN
@pytest.mark.one_version  # what we decide, not what the server does
def test_H3_what_cannot_be_ordered_is_refused(workspace: Workspace, databases: Databases) -> None:
    """Rings, references to the same table, consequences that would happen twice: each named, nothing begun."""
    ring = """
    CREATE TABLE a (id int PRIMARY KEY, b int);
    CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a);
    ALTER TABLE a ADD CONSTRAINT a_of_b FOREIGN KEY (b) REFERENCES b;
    CREATE TABLE tree (id int PRIMARY KEY, up int CONSTRAINT upwards REFERENCES tree);
    CREATE TABLE leaves (id int PRIMARY KEY, tree int CONSTRAINT falls REFERENCES tree ON DELETE CASCADE);
    """
    prepared(workspace, source=ring)
    said = synced(workspace, code=78).text()
    assert "form a ring" in said
    assert "upwards of public.tree refers to its own table and is not deferrable" in said
    assert "falls of public.leaves is ON DELETE CASCADE" in said
    assert databases.target.value("SELECT to_regclass('crossfade.progress') IS NULL")


@REPLICA
@pytest.mark.one_version  # two seconds of waiting for the server's deadlock check
def test_H4_a_deadlock_with_a_user_is_retried(workspace: Workspace, databases: Databases) -> None:
    """The server ends our transaction (40P01): everything is rolled back, tried again, nothing twice, nothing lost."""
    both(databases, f"{ITEMS} CREATE TABLE log (line text);", rows=ROWS)
    databases.publish("items", append=["log"])
    workspace.write("version: 1\nschemas: {public: public}\ntables:\n  public.log: {append_only: true}\n")
    # We look for a deadlock first; the user, who waits later, never does.
    role = sql.Identifier(databases.target.role)
    databases.target.execute(sql.SQL("ALTER ROLE {} SET deadlock_timeout = '2s'").format(role))
    daemon = streaming(workspace)
    with databases.target.connect(autocommit=False, deadlock_timeout="1h") as user:
        user.execute("UPDATE items SET note = 'the user''s' WHERE id = 2")
        databases.source.execute(
            "BEGIN; INSERT INTO log VALUES ('once'); UPDATE items SET note = 'ours' WHERE id = 1;"
            " UPDATE items SET note = 'ours' WHERE id = 2; COMMIT"
        )
        daemon.wait_for(blocked(databases.target, "crossfade apply"), "the apply waits for the user")
        user.execute("UPDATE items SET note = 'the user''s' WHERE id = 1")  # closes the circle; we are its victim
        user.rollback()
    daemon.wait_for_line("SQLSTATE 40P01")
    daemon.wait_until_caught_up()
    assert_equal(databases, "items", "log")
    assert databases.target.value("SELECT count(*) FROM log") == 1
    assert "phase is failed" not in daemon.text()


@REPLICA
@pytest.mark.one_version  # it has to outlast the daemon's patience with silent connections
def test_H5_a_long_lock_on_the_target(workspace: Workspace, databases: Databases) -> None:
    """We wait, on the same session; the status names who holds us up; the source still hears from us; then it ends."""
    both(databases, rows=ROWS)
    databases.publish("items")
    role = sql.Identifier(databases.source.role)
    # Shorter than the lock: a silent stream would be cut off.
    databases.source.execute(sql.SQL("ALTER ROLE {} SET wal_sender_timeout = '3s'").format(role))
    daemon = streaming(workspace.write(extra='[stream]\nstatus_interval = "500ms"\n'))
    sessions = _sessions(databases)
    with locked(databases.target, "items") as holder:
        databases.source.execute("INSERT INTO items VALUES (100, 'held back')")

        def told() -> list[dict[str, Any]]:
            return [alert for alert in _document(workspace)["alerts"] if alert["name"] == "apply_blocked"]

        daemon.wait_for(told, "the alert", timeout=30)
        assert str(holder.info.backend_pid) in told()[0]["text"]
        assert "pg_stat_activity" in told()[0]["text"]
        since = time.monotonic()
        daemon.wait_for(lambda: time.monotonic() - since > 3.5, "longer than wal_sender_timeout")
        assert databases.source.value("SELECT now() - max(reply_time) < '2s' FROM pg_stat_replication")
        assert _sessions(databases) == sessions
        assert (
            databases.target.value(
                "SELECT count(*) FROM pg_locks WHERE pid = %s AND NOT granted", [holder.info.backend_pid]
            )
            == 0
        )
    daemon.wait_until_caught_up()
    daemon.wait_for(lambda: not told(), "the alert is gone")
    assert_equal(databases, "items")
    assert _sessions(databases) == sessions


def _sessions(databases: Databases) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """The applier's session and the stream's: the same ones, or others."""
    query = (
        "SELECT pid, backend_start FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name IN ('crossfade apply', 'crossfade stream') ORDER BY 1"
    )
    return databases.source.execute(query), databases.target.execute(query)


def _end_sessions(side: Side) -> int:
    """As an administrator does (57P01); how many of ours there were."""
    return len(
        side.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name LIKE 'crossfade%'"
        )
    )


@ORIGIN  # before 15 the role with more rights is a superuser, whom no connection limit holds
@pytest.mark.one_version  # the same SQLSTATEs everywhere
def test_H7_sessions_terminated_and_no_more_allowed(workspace: Workspace, databases: Databases) -> None:
    """57P01, then 53300 at every try: both known to pass. It is never `failed`, and goes on when there is room."""
    followed = follow(workspace, source=ITEMS, rows=ROWS)
    target = databases.target
    target.execute(f"ALTER DATABASE {target.dbname} CONNECTION LIMIT 0")
    assert _end_sessions(target) >= 2
    followed.daemon.wait_for_line("53300")
    databases.source.execute("INSERT INTO items VALUES (100, 'meanwhile')")
    document = _document(workspace)
    assert (document["phase"], document["error"]["is_transient"]) == ("streaming", True)
    assert document["error"]["retry_in_seconds"] is not None
    target.execute(f"ALTER DATABASE {target.dbname} CONNECTION LIMIT -1")
    followed.daemon.wait_until_caught_up()
    followed.assert_equal("items")
    assert "phase is failed" not in followed.daemon.text()
    followed.daemon.wait_for(lambda: _document(workspace)["error"] is None, "the error is over")


@pytest.mark.one_version  # servers of its own
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_H7_the_target_shuts_down_or_crashes_under_load(tmp_path: Path, postgres: Versions, mode: Any) -> None:
    """57P01, 57P02, refused connections, 57P03: reconnects by itself, resumes from what is durable, exactly once."""
    with crashable(postgres, tmp_path) as workspace:
        databases = workspace.databases
        both(databases, f"{ITEMS} CREATE TABLE log (line int);")
        databases.publish("items", append=["log"])
        workspace.write("version: 1\nschemas: {public: public}\ntables:\n  public.log: {append_only: true}\n")
        daemon = streaming(workspace)
        over = threading.Event()
        writer = threading.Thread(target=_write, args=(databases.source, over))
        writer.start()
        try:
            daemon.wait_for(lambda: databases.target.value("SELECT count(*) FROM log") > 20, "the stream runs")
            databases.target.server.stop(mode)
            daemon.wait_for_line('"level":"warning"')
            databases.target.server.start()
            before = databases.target.value("SELECT count(*) FROM log")
            daemon.wait_for(lambda: databases.target.value("SELECT count(*) FROM log") > before, "it goes on")
        finally:
            over.set()
            writer.join()
        daemon.wait_until_caught_up()
        assert_equal(databases, "items", "log")
        assert "phase is failed" not in daemon.text()
        assert daemon.terminate() == 0


def _write(side: Side, over: threading.Event) -> None:
    with side.connect() as connection:
        number = 0
        while not over.is_set():
            number += 1
            connection.execute("INSERT INTO log VALUES (%s)", [number])
            connection.execute(
                "INSERT INTO items VALUES (%s, 'x') ON CONFLICT (id) DO UPDATE SET note = items.note || 'y'",
                [number % 7],
            )
            over.wait(0.005)


ALWAYS = """
CREATE TABLE items (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    note text,
    story text,
    extra text DEFAULT 'the target''s own',
    twice bigint GENERATED ALWAYS AS (id * 2) STORED
);
ALTER TABLE items ALTER story SET STORAGE EXTERNAL;
"""
PLAIN = """
CREATE TABLE items (id bigint PRIMARY KEY, note text, story text);
ALTER TABLE items ALTER story SET STORAGE EXTERNAL;
"""
_STORIES = "INSERT INTO items SELECT n, 'a note', repeat('long ', 2000) FROM generate_series(1, 5) n;"


@REPLICA
def test_H10_generated_always_keys(workspace: Workspace, databases: Databases) -> None:
    """Inserted with OVERRIDING, never assigned by UPDATE, moved by taking the row out and in: all its columns stay."""
    followed = follow(workspace, source=PLAIN, target=ALWAYS, rows=_STORIES)
    databases.target.execute("UPDATE items SET extra = 'by hand' WHERE id = 2")
    followed.at_once(
        "INSERT INTO items VALUES (70, 'new', 'short')",
        "UPDATE items SET note = 'changed' WHERE id = 1",
        # The story is not sent (unchanged TOAST), extra is not mapped, twice is computed.
        "UPDATE items SET id = 1002, note = 'moved' WHERE id = 2",
        "UPDATE items SET id = id + 2000 WHERE id IN (3, 4)",
        "DELETE FROM items WHERE id = 5",
    )
    followed.assert_equal("items", columns="id, note, story")
    assert followed.target("SELECT note, extra, twice, length(story) FROM items WHERE id = 1002") == [
        ("moved", "by hand", 2004, 10000)
    ]
    assert databases.target.value("SELECT count(*) FROM items WHERE extra = 'the target''s own'") == 4


@ORIGIN
def test_H10_a_generated_always_key_cannot_move_without_replica_role(
    workspace: Workspace, databases: Databases
) -> None:
    """A DELETE would cascade there: it stops with the way out, and goes on once that was taken."""
    followed = follow(workspace, source=PLAIN, target=ALWAYS, rows=_STORIES)
    followed.write("INSERT INTO items VALUES (70, 'new', 'short')", "UPDATE items SET note = 'changed' WHERE id = 1")
    databases.source.execute("UPDATE items SET id = 1002 WHERE id = 2")
    said = followed.failure()
    assert "public.items" in said
    assert "GENERATED BY DEFAULT" in said
    databases.target.execute("ALTER TABLE items ALTER id SET GENERATED BY DEFAULT")
    followed.resume()
    followed.assert_equal("items", columns="id, note, story")
