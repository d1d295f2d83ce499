"""Tables copied in parts, under everything that can happen between two parts: edge-cases.md, section G.

The daemon is held by a `stop:` failpoint, as SIGSTOP would hold it, and sent on as often as it stops again.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress

import pytest

from crossfade.state.schema import VERSION
from tests.integration.sides import assert_equal, both, is_stopped, rows, synced
from tests.servers.daemon import Daemon, Workspace
from tests.servers.databases import ROLE, Databases

pytestmark = pytest.mark.one_version

# Without a key, so that nothing but the marks keeps rows from being there twice; statistics that know of no page.
LOG = "CREATE TABLE log (id int, line text);"
UNANALYZED = " ALTER TABLE log SET (autovacuum_enabled = off);"
LINES = " INSERT INTO log SELECT g, repeat('x', 100) FROM generate_series(1, 20000) g;"  # some 340 pages
APPEND = "version: 1\nschemas: {public: public}\ntables:\n  public.log: {append_only: true}\n"
PARTS = "[copy]\nworkers = 3\npart_bytes = 400000\n"  # 7 or 8 of `log`
ONE_WORKER = PARTS.replace("3", "1", 1)


@pytest.fixture
def log(databases: Databases, workspace: Workspace) -> Workspace:
    """One table without a key, never analysed, to be copied in several parts; nothing has run."""
    databases.prepare(source=LOG + UNANALYZED + LINES, target=LOG)
    databases.publish(append=["log"])
    return workspace.write(APPEND, extra=PARTS)


def parts(databases: Databases, where: str = "true") -> int:
    return int(databases.target.value(f"SELECT count(*) FROM crossfade.copy_parts WHERE {where}"))


def stopped(workspace: Workspace, place: str, *arguments: str) -> Daemon:
    """A daemon that came to `place` and was stopped there."""
    daemon = workspace.daemon(*arguments, env={"CROSSFADE_FAILPOINTS": f"stop:{place}"})
    daemon.wait_for(lambda: is_stopped(daemon.pid), f"stopped at {place}")
    return daemon


def sent_on(daemon: Daemon, until: Callable[[], object], what: str) -> None:
    """Wake it whenever it stops, until `until`."""

    def woken() -> object:
        with suppress(FileNotFoundError, ProcessLookupError):
            if is_stopped(daemon.pid):
                os.kill(daemon.pid, signal.SIGCONT)
        return until()

    daemon.wait_for(woken, what, may_exit=True)


def ended(daemon: Daemon) -> None:
    sent_on(daemon, lambda: not daemon.running, "the end of the run")
    assert daemon.exit_code == 0, daemon.situation()


@pytest.mark.parametrize("workers", [1, 3])
def test_G8_parts_cover_a_table_whose_statistics_know_nothing(
    log: Workspace, databases: Databases, workers: int
) -> None:
    """relpages is 0: the parts are cut by what is there, the last one is open, and together they are the table."""
    log.write(APPEND, extra=PARTS.replace("3", str(workers), 1))
    assert databases.source.value("SELECT relpages FROM pg_class WHERE relname = 'log'") == 0
    synced(log)
    assert_equal(databases, "log")
    assert parts(databases, "state = 'done' AND copied_rows > 0") >= 7
    ((state, copied),) = databases.target.execute("SELECT state, copied_rows FROM crossfade.copy_tables")
    assert (state, copied) == ("done", 20000)


def test_G8_a_last_part_with_an_end_is_caught(log: Workspace, databases: Databases) -> None:
    """The broken variant: the last range ends where the statistics say that the table does."""
    databases.source.execute("ANALYZE log;" + LINES)
    synced(log, failpoints="closed_last_part")
    assert len(rows(databases.target, "log")) < 40_000
    with pytest.raises(AssertionError, match="differs"):
        assert_equal(databases, "log")


@pytest.mark.parametrize(
    ("fill", "least"),
    [
        ("", 0),
        ("INSERT INTO log VALUES (1, 'alone')", 0),
        # Nothing fits into its page: a dozen pages of pointers and megabytes of values elsewhere.
        (
            (
                "ALTER TABLE log ALTER line SET STORAGE EXTERNAL; INSERT INTO log"
                " SELECT g, repeat(md5(g::text), 2000) FROM generate_series(1, 400) g"
            ),
            2,
        ),
        # Every other page is empty, and so is the end of the file.
        (LINES + "DELETE FROM log WHERE id > 9000 OR id % 200 < 100", 5),
    ],
    ids=["empty", "one_row", "toast", "holes"],
)
def test_G8_whatever_the_pages_hold(databases: Databases, workspace: Workspace, fill: str, least: int) -> None:
    databases.prepare(source=LOG + UNANALYZED + fill, target=LOG)
    databases.publish(append=["log"])
    synced(workspace.write(APPEND, extra=PARTS))
    assert_equal(databases, "log")
    assert parts(databases, "state = 'done'") >= least


@pytest.mark.parametrize(
    "meanwhile",
    [
        "INSERT INTO log SELECT g, 'later' FROM generate_series(20001, 40000) g",
        "DELETE FROM log WHERE id > 1000; VACUUM log",
        (
            "DELETE FROM log WHERE id % 3 = 0; VACUUM log;"
            " INSERT INTO log SELECT 3 * g, 'again' FROM generate_series(1, 6666) g"
        ),
    ],
    ids=["grown", "shrunk", "moved"],
)
def test_G8_G6_rows_of_after_the_snapshot_come_by_the_stream_alone(
    databases: Databases, workspace: Workspace, meanwhile: str
) -> None:
    """Between two parts the table grows, is emptied and vacuumed, or fills its holes: each row is there once."""
    both(databases, LOG.replace("id int", "id int PRIMARY KEY"), rows=LINES)
    databases.publish("log")
    workspace.write(extra=ONE_WORKER)
    daemon = stopped(workspace, "after_copy_part_commit", "--until", "caught-up")
    for statement in meanwhile.split(";"):
        databases.source.execute(statement)
    ended(daemon)
    synced(workspace)
    assert_equal(databases, "log")


@pytest.mark.parametrize("step", ["before_copy_part_commit", "after_copy_part_commit", "in_emptying"])
def test_G5_G16_killed_around_a_part_no_row_is_there_twice(log: Workspace, databases: Databases, step: str) -> None:
    """kill -9 before, after, and while what the killed one left is taken out again; the application writes on."""
    crash = "after_copy_part_commit" if step == "in_emptying" else step
    synced(log, failpoints=f"crash:{crash}", code=137)
    left = len(rows(databases.target, "log"))
    assert (left > 0) == (crash == "after_copy_part_commit")
    assert left < 20_000
    if step == "in_emptying":
        synced(log, failpoints="crash:in_emptying", code=137)
    databases.source.execute("INSERT INTO log VALUES (0, 'meanwhile')")
    daemon = synced(log)
    assert_equal(databases, "log")
    assert ("copied in part" in daemon.text()) == (left > 0)
    assert databases.target.value("SELECT sum(copied_rows) FROM crossfade.copy_tables") == 20_001


def test_G16_a_mark_apart_from_its_rows_is_caught(log: Workspace, databases: Databases) -> None:
    """The broken variant: rows committed, then the mark; killed between the two, the rows are there twice."""
    synced(log, failpoints="mark_apart,crash:rows_without_mark", code=137)
    assert len(rows(databases.target, "log")) > 0
    assert parts(databases, "state = 'done'") == 0
    synced(log)
    with pytest.raises(AssertionError, match="differs"):
        assert_equal(databases, "log")


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_part_whose_line_is_cut_is_copied_again_and_no_other(log: Workspace, databases: Databases, side: str) -> None:
    """One worker's connection dies in the middle of a part: the snapshot lives, finished parts are not read again."""
    databases.source.execute(LINES * 20)
    log.write(APPEND, extra="[copy]\nworkers = 1\npart_bytes = 25000000\n")
    daemon = stopped(log, "in_copy", "--until", "caught-up")
    sent_on(daemon, lambda: parts(databases, "state = 'done'") == 1 and is_stopped(daemon.pid), "the second part")
    before = databases.target.execute("SELECT part, finished_at FROM crossfade.copy_parts WHERE state = 'done'")
    cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'crossfade copy'"
    assert getattr(databases, side).value(cut + " AND datname = current_database()") == 1
    ended(daemon)
    assert "copied again" in daemon.text()
    assert "copied in part" not in daemon.text()
    assert databases.target.execute("SELECT part, finished_at FROM crossfade.copy_parts WHERE part = 0") == before
    assert databases.target.value("SELECT count(DISTINCT attempt) FROM crossfade.copy_parts") == 1
    assert_equal(databases, "log")


@pytest.mark.parametrize("where", ["after_copy_part_commit", "in_copy"])
def test_terminated_between_parts_it_ends_well_and_begins_again(
    log: Workspace, databases: Databases, where: str
) -> None:
    """SIGTERM abandons the parts in flight and exits 0; the next start empties what was copied and copies anew."""
    daemon = stopped(log, where)
    os.kill(daemon.pid, signal.SIGTERM)
    ended(daemon)
    assert parts(databases, "state = 'pending'") > 0
    databases.source.execute("INSERT INTO log VALUES (0, 'meanwhile')")
    synced(log)
    assert_equal(databases, "log")


@pytest.mark.parametrize("rewrite", ["TRUNCATE log", "VACUUM FULL log"], ids=["truncate", "vacuum_full"])
def test_G11_rewritten_between_two_parts(log: Workspace, databases: Databases, rewrite: str) -> None:
    """The parts to come would find nothing: the table is emptied of those that are done and starts over."""
    log.write(APPEND, extra=ONE_WORKER)
    daemon = stopped(log, "after_copy_part_commit", "--until", "caught-up")
    databases.source.execute(rewrite)
    databases.source.execute("INSERT INTO log VALUES (0, 'after')")
    ended(daemon)
    assert "rewritten" in daemon.text()
    assert "copied in part" in daemon.text()
    synced(log)
    assert_equal(databases, "log")


def test_G12_parts_let_a_queuer_through_and_keep_what_is_done(log: Workspace, databases: Databases) -> None:
    """An ALTER TABLE waits for no more than the parts in flight; those that were done stay."""
    log.write(APPEND, extra=ONE_WORKER)
    daemon = stopped(log, "after_copy_part_commit", "--until", "caught-up")
    with databases.source.connect(lock_timeout="6s") as migration:
        migration.execute("ALTER TABLE log ALTER line SET STORAGE EXTENDED")
    ended(daemon)
    assert "copied in part" not in daemon.text()
    assert databases.target.value("SELECT count(DISTINCT attempt) FROM crossfade.copy_parts") == 1
    assert_equal(databases, "log")


PARTITIONED = """
    CREATE TABLE events (id int, day date, note text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
    CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
    CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2024-02-01') TO ('2024-03-01') PARTITION BY LIST (id);
    CREATE TABLE events_2_rest PARTITION OF events_2 DEFAULT;
    CREATE TABLE events_3 (note text, gone int, day date NOT NULL, id int NOT NULL);
    ALTER TABLE events_3 DROP COLUMN gone;
    ALTER TABLE events ATTACH PARTITION events_3 FOR VALUES FROM ('2024-03-01') TO ('2024-04-01');
    INSERT INTO events SELECT g, '2024-01-01'::date + g % 90, repeat('n', 100) FROM generate_series(1, 15000) g;
"""


@pytest.mark.parametrize("readable", [True, False])
def test_G9_leaves_are_parts_where_our_role_may_read_them(
    databases: Databases, workspace: Workspace, readable: bool
) -> None:
    """Leaves of any depth and column order, each cut by its own pages; else the root in one."""
    databases.prepare(
        source=PARTITIONED, target="CREATE TABLE events (note text, id int, day date, PRIMARY KEY (id, day))"
    )
    databases.publish("events")
    if not readable:
        databases.source.execute(f"REVOKE SELECT ON events_3 FROM {ROLE}")
    synced(workspace.write(extra=PARTS))
    source = sorted(databases.source.execute("SELECT id, day, note FROM events"))
    assert sorted(databases.target.execute("SELECT id, day, note FROM events")) == source
    leaves = databases.target.execute("SELECT relation, count(*) FROM crossfade.copy_parts GROUP BY 1 ORDER BY 1")
    assert [leaf for leaf, _ in leaves] == (
        ["public.events_1", "public.events_2_rest", "public.events_3"] if readable else []
    )
    assert all(count > 1 for _, count in leaves)


@pytest.mark.parametrize("replica_role", [False], ids=["origin"])
def test_parts_where_foreign_keys_are_enforced(databases: Databases, workspace: Workspace) -> None:
    """Parents in parts before children in parts; what refers to its own table is not divided at all."""
    schema = """
        CREATE TABLE parents (id int PRIMARY KEY, note text);
        CREATE TABLE children (id int PRIMARY KEY, parent_id int REFERENCES parents, note text);
        CREATE TABLE tree (id int PRIMARY KEY, up int REFERENCES tree DEFERRABLE, note text);
    """
    both(
        databases,
        schema,
        rows="""
            INSERT INTO parents SELECT g, repeat('p', 100) FROM generate_series(1, 8000) g;
            INSERT INTO children SELECT g, 8001 - g, repeat('c', 100) FROM generate_series(1, 8000) g;
            INSERT INTO tree SELECT g, 8001 - g, repeat('t', 100) FROM generate_series(1, 8000) g;
        """,
    )
    databases.publish("parents", "children", "tree")
    synced(workspace.write(extra=PARTS))
    assert_equal(databases, "parents", "children", "tree")
    cut = databases.target.execute("SELECT target_name, count(*) > 1 FROM crossfade.copy_parts GROUP BY 1 ORDER BY 1")
    assert cut == [("children", True), ("parents", True)]


REMAPPED = """version: 1
schemas: {public: public}
ids:
  owner: {from: public.owners.id, to: uuid, strategy: uuid7}
tables:
  public.owners: {columns: {id: {remap: owner}}}
  public.pets: {columns: {owner_id: {remap: owner}}}
"""


@pytest.mark.parametrize(
    "failpoints", ["crash:before_copy_part_commit", "crash:after_copy_part_commit", "stop:in_copy"]
)
def test_I1_ids_made_as_rows_pass_are_made_once(databases: Databases, workspace: Workspace, failpoints: str) -> None:
    """Killed before or after a part's COMMIT, or a part tried again: every key has one id, and the map its indexes."""
    schema = """
        CREATE TABLE owners (id int PRIMARY KEY, note text);
        CREATE TABLE pets (id int PRIMARY KEY, owner_id int REFERENCES owners);
    """
    databases.prepare(
        source=schema
        + """
            INSERT INTO owners SELECT g, repeat('o', 100) FROM generate_series(-2000, 18000) g;
            INSERT INTO pets SELECT g, g % 2000 FROM generate_series(1, 20000) g;
        """,
        target=schema.replace("owners (id int", "owners (id uuid").replace("owner_id int", "owner_id uuid"),
    )
    databases.publish("owners", "pets")
    workspace.write(REMAPPED, extra=PARTS)
    if failpoints.startswith("crash"):
        synced(workspace, failpoints=failpoints, code=137)
        made = databases.target.value("SELECT count(*) FROM crossfade.id_owner")
        assert made == databases.target.value("SELECT count(*) FROM owners")
        assert (made > 0) == ("after" in failpoints)
        databases.source.execute("INSERT INTO owners VALUES (30000, 'meanwhile'); DELETE FROM owners WHERE id > 17000")
        synced(workspace)
    else:
        daemon = stopped(workspace, "in_copy", "--until", "caught-up")
        cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'crossfade copy'"
        assert databases.target.value(cut + " AND datname = current_database()") > 0
        ended(daemon)
    there = databases.source.execute(
        "SELECT o.id, o.note, count(p.id) FROM owners o LEFT JOIN pets p ON p.owner_id = o.id GROUP BY 1 ORDER BY 1"
    )
    here = databases.target.execute(
        "SELECT m.old, o.note, count(p.id) FROM owners o JOIN crossfade.id_owner m"
        " ON m.new = o.id LEFT JOIN pets p ON p.owner_id = o.id GROUP BY 1, 2 ORDER BY 1"
    )
    assert here == there
    assert databases.target.value("SELECT count(*) FROM owners") == len(there)
    kinds = "SELECT contype::text FROM pg_constraint WHERE conrelid = 'crossfade.id_owner'::regclass"
    assert sorted(databases.target.execute(kinds + " AND contype IN ('p', 'u')")) == [("p",)]


def test_the_state_of_an_older_program_is_upgraded_in_place(databases: Databases, workspace: Workspace) -> None:
    """Version 1 knew no parts: a copy that it left unfinished is gone on with, and its marks are believed."""
    schema = LOG + "CREATE TABLE small (id int PRIMARY KEY);"
    both(databases, schema, rows=LINES + "INSERT INTO small SELECT generate_series(1, 100); ANALYZE")
    databases.publish("small", append=["log"])
    synced(workspace.write(APPEND, extra="[copy]\nworkers = 1"), failpoints="crash:after_copy_table_commit", code=137)
    databases.target.execute("""
        DROP TABLE crossfade.copy_parts, crossfade.mappings;
        ALTER TABLE crossfade.copy_tables DROP COLUMN attempt;
        UPDATE crossfade.version SET version = 1;
    """)
    marks = "SELECT target_name, state FROM crossfade.copy_tables ORDER BY 1"
    assert databases.target.execute(marks) == [("log", "done"), ("small", "pending")]
    synced(workspace.write(APPEND, extra=PARTS))
    assert_equal(databases, "log", "small")
    assert parts(databases) == 0
    assert databases.target.value("SELECT version FROM crossfade.version") == VERSION


def test_an_unfinished_copy_of_a_program_that_knew_no_sources_is_gone_on_with(
    log: Workspace, databases: Databases
) -> None:
    """Version 3 had a target's name in the keys of the state alone: its marks say whose they are afterwards."""
    synced(log.write(APPEND, extra=ONE_WORKER), failpoints="crash:after_copy_part_commit", code=137)
    assert parts(databases, "state = 'done'") == 1
    databases.target.execute("""
        ALTER TABLE crossfade.copy_parts DROP CONSTRAINT copy_parts_pkey, DROP COLUMN source_schema, DROP source_name;
        ALTER TABLE crossfade.copy_parts ADD PRIMARY KEY (workflow, target_schema, target_name, part);
        ALTER TABLE crossfade.copy_tables DROP CONSTRAINT copy_tables_pkey;
        ALTER TABLE crossfade.copy_tables ADD PRIMARY KEY (workflow, target_schema, target_name);
        UPDATE crossfade.version SET version = 3;
    """)
    daemon = synced(log)
    assert "public.log had been copied in part" in daemon.text()
    assert_equal(databases, "log")
    assert databases.target.value("SELECT version FROM crossfade.version") == VERSION
    sources = databases.target.execute("SELECT DISTINCT source_schema, source_name FROM crossfade.copy_parts")
    assert sources == [("public", "log")]


def test_a_newer_state_is_left_alone(log: Workspace, databases: Databases) -> None:
    synced(log)
    databases.target.execute("UPDATE crossfade.version SET version = %s", [VERSION + 1])
    assert f"knows version {VERSION}" in synced(log, code=3).text()
    assert databases.target.value("SELECT version FROM crossfade.version") == VERSION + 1
