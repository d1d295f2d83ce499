"""The initial copy under everything that can happen to it: edge-cases.md, section G.

A copy is held where a test wants it by a lock on a *target* table: the table's COPY then waits, while its transaction
on the source is open and holds its ACCESS SHARE lock.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.integration.sides import assert_equal, blocked, both, is_stopped, locked, rows, synced
from tests.servers.daemon import Daemon, Workspace
from tests.servers.databases import ROLE, Databases

# `big` is copied first: the larger table goes first, and with one worker alone.
SCHEMA = """
    CREATE TABLE big (id int PRIMARY KEY, note text);
    CREATE TABLE small (id int PRIMARY KEY, note text);
    CREATE TABLE log (line text);
"""
ROWS = """
    INSERT INTO big SELECT g, repeat('b', 200) FROM generate_series(1, 2000) g;
    INSERT INTO small SELECT g, 'small' FROM generate_series(1, 50) g;
    INSERT INTO log SELECT 'line' FROM generate_series(1, 30);
    ANALYZE;
"""
MAPPING = "version: 1\nschemas: {public: public}\ntables:\n  public.log: {append_only: true}\n"
ONE_WORKER = "[copy]\nworkers = 1\n"
TABLES = ("big", "small", "log")


@pytest.fixture
def begun(databases: Databases, workspace: Workspace) -> Workspace:
    """Three tables (one without a key), published, one worker; nothing has run."""
    both(databases, SCHEMA, rows=ROWS)
    databases.publish("big", "small", append=["log"])
    return workspace.write(MAPPING, extra=ONE_WORKER)


@contextmanager
def held(workspace: Workspace, table: str) -> Iterator[Daemon]:
    """A daemon whose copy of `table` waits for the target; it goes on after the block."""
    with locked(workspace.databases.target, table):
        daemon = workspace.daemon()
        daemon.wait_for(blocked(workspace.databases.target, "crossfade copy"), f"the copy of {table} is held")
        yield daemon


def sessions(databases: Databases, purpose: str) -> list[int]:
    """Source sessions of the daemon by their purpose."""
    return [
        pid
        for (pid,) in databases.source.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s",
            [f"crossfade {purpose}"],
        )
    ]


def finished(daemon: Daemon) -> None:
    """The copy ends, the stream follows, both sides are equal, the daemon stops as told."""
    daemon.wait_for_phase("streaming")
    daemon.wait_until_caught_up()
    assert_equal(daemon.workspace.databases, *TABLES)
    assert daemon.terminate() == 0


def test_G1_the_snapshot_outlives_the_walsender_that_exported_it(begun: Workspace, databases: Databases) -> None:
    """The creating connection is lost during the copy: the holder keeps the snapshot, no table starts over."""
    with held(begun, "big") as daemon:
        (walsender,) = sessions(databases, "stream")
        databases.source.value("SELECT pg_terminate_backend(%s)", [walsender])
        databases.source.execute("INSERT INTO small VALUES (1000, 'after the snapshot')")
    finished(daemon)
    assert "snapshot was lost" not in daemon.text()


@pytest.mark.one_version
def test_G1_a_lost_snapshot_is_replaced_for_unfinished_tables_only(begun: Workspace, databases: Databases) -> None:
    """The holder is killed with one table done: that one is not read again, the rest is copied at a new snapshot."""
    with held(begun, "small") as daemon:
        databases.source.execute(f"REVOKE SELECT ON big FROM {ROLE}")
        (holder,) = sessions(databases, "snapshot")
        databases.source.value("SELECT pg_terminate_backend(%s)", [holder])
        daemon.wait_for_line("snapshot was lost")
        databases.source.execute("UPDATE big SET note = 'changed' WHERE id < 10; DELETE FROM small WHERE id < 10")
    daemon.wait_for_phase("streaming")
    positions = dict(databases.target.execute("SELECT source_name, from_lsn - '0/0' FROM crossfade.copy_tables"))
    assert positions["small"] > positions["big"]
    finished(daemon)


def test_G2_timeouts_of_our_role_do_not_end_a_copy(begun: Workspace, databases: Databases) -> None:
    """Every timeout a role can carry is shorter than the copy: none of them applies to us."""
    names = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"]
    names += ["idle_session_timeout", "transaction_timeout"]
    for side in (databases.source, databases.target):
        for name in names:
            if side.value("SELECT count(*) FROM pg_settings WHERE name = %s", [name]):
                side.execute(f"ALTER ROLE {side.role} SET {name} = '300ms'")
    with held(begun, "big") as daemon:
        since = databases.source.value("SELECT clock_timestamp()")
        daemon.wait_for(
            lambda: databases.source.value("SELECT clock_timestamp() > %s + interval '1 s'", [since]),
            "longer than every timeout",
        )
    finished(daemon)
    assert not [line for line in daemon.lines() if line.get("level") in {"warning", "error"}], daemon.text()


@pytest.mark.one_version
def test_G3_no_snapshot_is_held_once_the_copy_is_done(begun: Workspace, databases: Databases) -> None:
    """A snapshot held for longer than the copy would keep vacuum from working on the source."""
    daemon = begun.daemon()
    daemon.wait_for_phase("streaming")
    held_back = databases.source.execute(
        "SELECT application_name FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name LIKE 'crossfade%' AND state LIKE 'idle in transaction%'"
    )
    assert held_back == []
    assert sessions(databases, "snapshot") == []
    assert databases.source.value("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()") == 1
    assert daemon.terminate() == 0


STEPS = (
    "after_check",
    "after_slot_recorded",
    "after_slot_created",
    "after_slot_placed",
    "after_id_maps",
    "in_copy",
    "before_copy_table_commit",
    "after_copy_table_commit",
    "after_copy",
)


@pytest.mark.one_version  # many runs of the daemon; where it dies does not depend on the server's version
@pytest.mark.parametrize("step", STEPS)
def test_G4_killed_at_any_step_it_goes_on(databases: Databases, workspace: Workspace, step: str) -> None:
    """kill -9 between any two steps of setup and copy, the application writing on: the next start gets it right."""
    target = SCHEMA.replace("big (id int", "big (id uuid")
    databases.prepare(source=SCHEMA + ROWS, target=target)
    databases.publish("big", "small", append=["log"])
    workspace.write(
        "version: 1\nschemas: {public: public}\nids:\n  big: {from: public.big.id, to: uuid, strategy: uuid7}\n"
        "tables:\n  public.log: {append_only: true}\n  public.big: {columns: {id: {remap: big}}}\n",
        extra=ONE_WORKER,
    )
    synced(workspace, failpoints=f"crash:{step}", code=137)
    databases.source.execute(
        "UPDATE big SET note = 'late' WHERE id % 7 = 0; DELETE FROM small WHERE id < 10;"
        " INSERT INTO log VALUES ('late'); INSERT INTO big VALUES (9999, 'new')"
    )
    synced(workspace)
    assert_equal(databases, "small", "log")
    assert databases.target.execute(
        "SELECT m.old, t.note FROM big t JOIN crossfade.id_big m ON m.new = t.id ORDER BY m.old"
    ) == databases.source.execute("SELECT id, note FROM big ORDER BY id")
    slots = databases.source.execute("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")
    assert slots == [(workspace.slot,)]


@pytest.mark.one_version
def test_G4_killed_while_the_new_snapshot_is_made(begun: Workspace, databases: Databases) -> None:
    """Killed twice: in the copy, and again with the temporary slot of the second snapshot; no slot is left over."""
    synced(begun, failpoints="crash:in_copy", code=137)
    synced(begun, failpoints="crash:after_temporary_slot", code=137)
    synced(begun)
    assert_equal(databases, *TABLES)
    assert databases.source.value("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()") == 1


@pytest.mark.one_version
def test_G5_a_copied_table_is_never_read_again(begun: Workspace, databases: Databases) -> None:
    """Killed right after a table's COMMIT: its done-mark came with its rows, so that its SELECT is not even needed."""
    synced(begun, failpoints="crash:after_copy_table_commit", code=137)
    assert databases.target.execute("SELECT source_name FROM crossfade.copy_tables WHERE state = 'done'") == [("big",)]
    databases.source.execute("UPDATE big SET note = 'late' WHERE id < 10")
    daemon = begun.daemon("--until", "caught-up", env={"CROSSFADE_FAILPOINTS": "stop:after_check"})
    daemon.wait_for(lambda: is_stopped(daemon.pid), "past its checks")
    databases.source.execute(f"REVOKE SELECT ON big FROM {ROLE}")
    daemon.signal(signal.SIGCONT)
    assert daemon.wait() == 0
    assert_equal(databases, *TABLES)


@pytest.mark.one_version
def test_G6_changes_the_later_snapshot_shows_are_not_applied_again(begun: Workspace, databases: Databases) -> None:
    """Tables copied at two snapshots: between them inserts, updates, a key change and a TRUNCATE of both at once."""
    synced(begun, failpoints="crash:after_copy_table_commit", code=137)  # big is done, small and log are not
    databases.source.execute("""
        INSERT INTO log VALUES ('between');
        UPDATE big SET note = 'between' WHERE id < 100;
        UPDATE small SET id = id + 10000 WHERE id < 10;
    """)
    databases.source.execute("BEGIN; TRUNCATE big, small; INSERT INTO log VALUES ('after'); COMMIT")
    databases.source.execute("INSERT INTO big VALUES (1, 'again'); INSERT INTO small VALUES (1, 'again')")
    synced(begun)
    databases.source.execute("INSERT INTO log VALUES ('later'); UPDATE small SET note = 'later'")
    synced(begun)
    assert_equal(databases, *TABLES)


@pytest.mark.one_version
def test_G9_partitions_are_copied_once_and_inheritance_is_refused(databases: Databases, workspace: Workspace) -> None:
    """A root brings the rows of all its partitions, once; a table others inherit from is refused by name."""
    databases.prepare(
        source="""
            CREATE TABLE events (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
            CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
            CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2024-02-01') TO ('2024-03-01')
                PARTITION BY LIST (id);
            CREATE TABLE events_2_rest PARTITION OF events_2 DEFAULT;
            INSERT INTO events VALUES (1, '2024-01-05'), (2, '2024-02-05');
            CREATE TABLE people (id int PRIMARY KEY, name text);
            CREATE TABLE staff (boss int) INHERITS (people);
            ALTER TABLE staff ADD PRIMARY KEY (id);
            INSERT INTO people VALUES (1, 'parent');
            INSERT INTO staff VALUES (2, 'child', 1);
        """,
        target="""
            CREATE TABLE events (id int, day date, PRIMARY KEY (id, day));
            CREATE TABLE people (id int PRIMARY KEY, name text);
        """,
    )
    databases.publish("events")
    workspace.write("version: 1\nschemas: {public: public}\nexclude: [public.staff]\n")
    assert "inherit from public.people" in synced(workspace, code=78).text()
    workspace.write("version: 1\nschemas: {public: public}\nexclude: [public.staff, public.people]\n")
    synced(workspace)
    databases.source.execute(
        "INSERT INTO events VALUES (3, '2024-02-06'); UPDATE events SET day = '2024-01-07' WHERE id = 2"
    )
    synced(workspace)
    assert_equal(databases, "events")
    assert len(rows(databases.target, "events")) == 3


@pytest.mark.one_version
def test_G10_row_level_security_never_hides_rows_silently(begun: Workspace, databases: Databases) -> None:
    """A policy would show our role fewer rows: refused before anything is made, and accepted once it may see all."""
    databases.source.execute(
        "ALTER TABLE small ENABLE ROW LEVEL SECURITY; CREATE POLICY a_few ON small FOR SELECT USING (id < 10)"
    )
    daemon = synced(begun, code=3)
    assert "public.small" in daemon.text()
    assert "BYPASSRLS" in daemon.text()
    assert _untouched(databases)
    databases.source.execute(f"ALTER ROLE {ROLE} BYPASSRLS")
    try:
        synced(begun)
    finally:
        databases.source.execute(f"ALTER ROLE {ROLE} NOBYPASSRLS")
    assert_equal(databases, *TABLES)


@pytest.mark.parametrize(
    "rewrite",
    ["TRUNCATE small; INSERT INTO small VALUES (7, 'after')", "VACUUM FULL small", "CLUSTER small USING small_pkey"],
    ids=["truncate", "vacuum_full", "cluster"],
)
def test_G11_a_table_rewritten_since_the_snapshot_is_not_taken_for_empty(
    begun: Workspace, databases: Databases, rewrite: str
) -> None:
    """A rewritten table looks empty to an older snapshot: it is noticed by its file and copied at a new one."""
    with held(begun, "big") as daemon:
        for statement in rewrite.split(";"):
            databases.source.execute(statement)
    daemon.wait_for_line("rewritten")
    finished(daemon)


@pytest.mark.one_version
@pytest.mark.parametrize("replica_role", [False], ids=["origin"])
def test_G11_children_of_a_rewritten_parent_wait_for_its_new_snapshot(
    databases: Databases, workspace: Workspace
) -> None:
    """Foreign keys are enforced, so children wait for parents, also for one that needs another snapshot."""
    schema = """
        CREATE TABLE big (id int PRIMARY KEY, note text);
        CREATE TABLE parents (id int PRIMARY KEY);
        CREATE TABLE children (id int PRIMARY KEY, parent_id int REFERENCES parents);
    """
    both(
        databases,
        schema,
        rows="""
            INSERT INTO big SELECT g, repeat('b', 200) FROM generate_series(1, 2000) g;
            INSERT INTO parents VALUES (1), (2);
            INSERT INTO children VALUES (1, 1), (2, 2);
            ANALYZE;
        """,
    )
    databases.publish("big", "parents", "children")
    workspace.write(extra=ONE_WORKER)
    with held(workspace, "big") as daemon:
        databases.source.execute("VACUUM FULL parents")
        databases.source.execute("INSERT INTO parents VALUES (3); INSERT INTO children VALUES (3, 3)")
    daemon.wait_for_phase("streaming")
    daemon.wait_until_caught_up()
    assert_equal(databases, "big", "parents", "children")
    assert daemon.terminate() == 0


@pytest.mark.one_version
def test_G12_who_queues_behind_our_lock_goes_first(begun: Workspace, databases: Databases) -> None:
    """An ALTER TABLE behind our lock is through within seconds though the target is stuck; after three an alert."""
    with held(begun, "big") as daemon:
        for turn in range(3):
            with databases.source.connect(lock_timeout="6s") as migration:
                asked = time.monotonic()
                migration.execute("ALTER TABLE big ALTER note SET STORAGE EXTENDED")
                assert time.monotonic() - asked < 4
                session = migration.info.backend_pid
            if turn < 2:
                daemon.wait_for(blocked(databases.target, "crossfade copy"), "the copy tries again")
        daemon.wait_for_line("gave way 3 times")
        assert f"session {session}" in daemon.text()
        assert "public.big" in daemon.text()
    finished(daemon)
    assert databases.target.value("SELECT count(*) FROM big") == 2000


@pytest.mark.one_version
def test_G14_a_target_that_holds_rows_is_left_alone(begun: Workspace, databases: Databases) -> None:
    """Rows that are not ours: refused, by name, with nothing made on either side; empty it, and the copy begins."""
    databases.target.execute("INSERT INTO small VALUES (1, 'precious')")
    daemon = synced(begun, code=3)
    assert "public.small" in daemon.text()
    assert "TRUNCATE" in daemon.text()
    assert _untouched(databases)
    assert rows(databases.target, "small") == ["(1,precious)"]
    databases.target.execute("TRUNCATE small")
    synced(begun)
    assert_equal(databases, *TABLES)


@pytest.mark.one_version
def test_G15_copy_and_stream_bring_the_same_columns(databases: Databases, workspace: Workspace) -> None:
    """Dropped, generated, reordered and left-out columns: a copied row and a streamed one look alike."""
    databases.prepare(
        source="""
            CREATE TABLE wide (gone int, id int PRIMARY KEY, a text, b int,
                               twice int GENERATED ALWAYS AS (b * 2) STORED, secret text);
            ALTER TABLE wide DROP COLUMN gone;
            INSERT INTO wide (id, a, b, secret) VALUES (1, 'copied', 7, 's');
        """,
        target="CREATE TABLE wide (b int, twice int GENERATED ALWAYS AS (b * 2) STORED, a text, id int PRIMARY KEY)",
    )
    databases.publish("wide")
    workspace.write("version: 1\nschemas: {public: public}\ntables:\n  public.wide: {drop: [secret, twice]}\n")
    synced(workspace)
    databases.source.execute("INSERT INTO wide (id, a, b, secret) VALUES (2, 'streamed', 8, 's')")
    synced(workspace)
    assert rows(databases.target, "wide") == ["(7,14,copied,1)", "(8,16,streamed,2)"]


@pytest.mark.one_version
@pytest.mark.parametrize("step", ["in_copy", "before_copy_table_commit"])
def test_G16_a_copy_tried_again_leaves_no_row_twice(databases: Databases, workspace: Workspace, step: str) -> None:
    """A table without any key, killed in the middle of its COPY: rows and done-mark come together, so once."""
    both(databases, "CREATE TABLE log (line text);", rows="INSERT INTO log SELECT 'same' FROM generate_series(1, 5000)")
    databases.publish(append=["log"])
    workspace.write(MAPPING)
    for _ in range(2):
        synced(workspace, failpoints=f"crash:{step}", code=137)
    databases.source.execute("INSERT INTO log VALUES ('same')")
    synced(workspace)
    assert len(rows(databases.target, "log")) == 5001


def _untouched(databases: Databases) -> bool:
    """Neither a slot on the source nor our tables on the target."""
    slots = databases.source.value("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()")
    try:
        begun = databases.target.value("SELECT count(*) FROM crossfade.progress")
    except psycopg.errors.UndefinedTable:
        begun = 0
    return slots == 0 and begun == 0
