"""Commands that need no daemon, against real databases: status, wait, pause and resume, teardown.

What a daemon would have written is written by hand, as crossfade's own role.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner, Result

from crossfade.cli.commands import app
from crossfade.lsn import Lsn
from crossfade.state.leader import lock_key
from crossfade.state.schema import statements
from tests.servers.daemon import Workspace, free_port
from tests.servers.databases import Databases

pytestmark = pytest.mark.parametrize("replica_role", [False], ids=["origin"])


@contextmanager
def _as_crossfade(dsn: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


def _began(databases: Databases, workspace: Workspace, *, name: str = "shop", behind: int = 0) -> None:
    """Slot, publications and state of a workflow whose durable position is `behind` bytes before the source's end."""
    with _as_crossfade(databases.source_dsn) as source:
        if name == "shop":
            source.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (workspace.slot,))
        (flushed,) = source.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone() or ("",)
        end = str(Lsn(Lsn.parse(flushed) - behind))
        (system,) = source.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone() or ("",)
    with _as_crossfade(databases.target_dsn) as target:
        for statement in statements():
            if not statement.startswith("CREATE SCHEMA"):
                target.execute(statement)
        target.execute(
            "INSERT INTO crossfade.progress (workflow, end_lsn, epoch, system_identifier, timeline, source_database,"
            " slot, mapping_hash, sample_passed_at) VALUES (%s, %s, 1, %s, 1, %s, %s, 'x', now() - interval '1 hour')",
            (name, end, system, databases.source.dbname, workspace.slot if name == "shop" else "another"),
        )
        target.execute(
            "INSERT INTO crossfade.workflows (workflow, phase, daemon) VALUES (%s, 'streaming', 'host pid 1')", (name,)
        )
        target.execute(
            "INSERT INTO crossfade.copy_tables (workflow, target_schema, target_name, source_schema, source_name,"
            " state, copied_rows, copied_bytes, rows_estimated)"
            " VALUES (%s, 'app', 'accounts', 'public', 'users', 'done', 5, 50, 4),"
            " (%s, 'app', 'orders', 'public', 'orders', 'pending', 0, 0, 15)",
            (name, name),
        )


@contextmanager
def _led(databases: Databases) -> Iterator[None]:
    with _as_crossfade(databases.target_dsn) as leader:
        leader.execute("SELECT pg_advisory_lock(%s::bigint)", (lock_key("shop"),))
        yield


def _run(workspace: Workspace, *arguments: str) -> Result:
    """In this process: a new one spends its time importing. The daemon's tests start real ones."""
    return CliRunner().invoke(app, [*arguments, "--config", str(workspace.config)])


def _status(workspace: Workspace, *arguments: str, code: int = 0) -> dict[str, Any]:
    asked = _run(workspace, "status", "--json", *arguments)
    assert asked.exit_code == code, asked.stderr
    document: dict[str, Any] = json.loads(asked.stdout)
    return document


class TestStatusWithoutADaemon:
    def test_before_anything_was_started(self, workspace: Workspace) -> None:
        document = _status(workspace.write())
        assert (document["phase"], document["daemon"], document["lag_seconds"]) == (None, None, None)
        assert document["slot"]["exists"] is False
        assert "crossfade run" in document["next_steps"][0]
        assert _run(workspace, "status").exit_code == 0

    def test_positions_tables_slot_and_lag(self, workspace: Workspace, databases: Databases) -> None:
        _began(databases, workspace.write(), behind=4096)
        document = _status(workspace)
        assert document["phase"] == "streaming"
        assert document["positions"]["durable"] == document["positions"]["applied"]
        assert document["slot"]["name"] == workspace.slot
        assert document["slot"]["active"] is False
        assert document["slot"]["wal_status"] == "reserved"
        assert document["lag_bytes"] >= 4096
        assert 3600 <= document["lag_seconds"] < 3700
        assert [table["state"] for table in document["tables"]] == ["pending", "done"]
        assert document["copy"]["percent"] == 25.0
        assert "crossfade run" in document["next_steps"][-1]
        page = _run(workspace, "status")
        assert page.exit_code == 0
        assert "public.users" in page.stdout

    def test_a_slot_that_was_dropped_is_told(self, workspace: Workspace, databases: Databases) -> None:
        _began(databases, workspace.write())
        databases.source.execute("SELECT pg_drop_replication_slot(%s)", [workspace.slot])
        document = _status(workspace)
        assert document["slot"]["exists"] is False
        assert [alert["name"] for alert in document["alerts"]] == ["slot_lost"]
        step, read_on = document["next_steps"]
        assert "docs/runbooks/CrossfadeSlotLost.md" in read_on
        assert "crossfade teardown" in step
        assert "retains" not in step

    def test_no_lag_once_the_position_passed_the_source_s_end(self, workspace: Workspace, databases: Databases) -> None:
        _began(databases, workspace.write(), behind=-(1 << 30))
        document = _status(workspace, "--fail-if-lag-above", "5s")
        assert (document["lag_seconds"], document["lag_bytes"]) == (0.0, 0)

    def test_too_much_lag_exits_3(self, workspace: Workspace, databases: Databases) -> None:
        _began(databases, workspace.write(), behind=4096)
        _status(workspace, "--fail-if-lag-above", "5s", code=3)

    def test_a_leader_elsewhere_is_told(self, workspace: Workspace, databases: Databases) -> None:
        _began(databases, workspace.write())
        with _led(databases):
            document = _status(workspace)
        assert document["leader"] is True
        assert "leads" in document["next_steps"][0]

    def test_an_unreachable_source_leaves_a_partial_document(self, workspace: Workspace, databases: Databases) -> None:
        _began(databases, workspace.write())
        workspace.write(source_dsn=f"host=127.0.0.1 port={free_port()} dbname=shop user=crossfade")
        document = _status(workspace, code=5)
        assert document["phase"] == "streaming"
        assert document["error"]["component"] == "source"
        assert document["slot"] is None
        assert document["lag_seconds"] is None
        assert len(document["tables"]) == 2

    def test_an_unreachable_target_leaves_the_slot(self, workspace: Workspace, databases: Databases) -> None:
        _began(databases, workspace.write())
        workspace.write(target_dsn=f"host=127.0.0.1 port={free_port()} dbname=shop user=crossfade")
        document = _status(workspace, code=5)
        assert document["error"]["component"] == "target"
        assert document["slot"]["exists"] is True
        assert document["phase"] is None


class TestWait:
    def test_what_is_committed_now_is_waited_for(self, workspace: Workspace, databases: Databases) -> None:
        _began(databases, workspace.write())
        late = _run(workspace, "wait", "--for", "caught-up", "--timeout", "500ms")
        assert late.exit_code == 3
        assert "asked for" in late.stderr
        heard: list[str] = []

        def daemon() -> None:
            """Persist when asked to, as a daemon does."""
            with _as_crossfade(databases.target_dsn) as target:
                target.execute("LISTEN crossfade_control")
                ready.set()
                heard.extend(notice.payload for notice in target.notifies(timeout=20, stop_after=1))
                end = databases.source.value("SELECT pg_current_wal_insert_lsn()::text")
                target.execute("UPDATE crossfade.progress SET end_lsn = %s", (end,))

        ready = threading.Event()
        thread = threading.Thread(target=daemon)
        thread.start()
        ready.wait(10)
        reached = _run(workspace, "wait", "--json", "--timeout", "20s")
        thread.join()
        answer = json.loads(reached.stdout)
        assert reached.exit_code == 0
        assert heard == ["persist"]
        assert (answer["reached"], answer["goal"], answer["schema_version"]) == (True, "caught-up", 1)

    def test_copied(self, workspace: Workspace, databases: Databases) -> None:
        workspace.write()
        assert "nothing was started" in _run(workspace, "wait", "--for", "copied", "--timeout", "100ms").stderr
        _began(databases, workspace)
        late = _run(workspace, "wait", "--for", "copied", "--timeout", "300ms")
        assert late.exit_code == 3
        assert "1 of 2 tables copied" in late.stderr
        databases.target.execute("UPDATE crossfade.copy_tables SET state = 'done'")
        assert _run(workspace, "wait", "--for", "copied", "--timeout", "5s").exit_code == 0

    def test_an_unreachable_source_exits_5(self, workspace: Workspace) -> None:
        workspace.write(source_dsn=f"host=127.0.0.1 port={free_port()} dbname=shop user=crossfade")
        ended = _run(workspace, "wait", "--timeout", "5s")
        assert ended.exit_code == 5
        assert "Cannot connect" in ended.stderr


class TestPauseAndResume:
    def test_nothing_to_pause_before_a_start(self, workspace: Workspace) -> None:
        ended = _run(workspace.write(), "pause")
        assert ended.exit_code == 3
        assert "crossfade run" in ended.stderr

    def test_a_request_without_a_daemon_is_kept(self, workspace: Workspace, databases: Databases) -> None:
        _began(databases, workspace.write())
        ended = _run(workspace, "resume")
        assert ended.exit_code == 0
        assert "no daemon has taken it yet" in ended.stdout
        (row,) = databases.target.execute("SELECT workflow, command, requested_by, taken_at FROM crossfade.control")
        assert row[:2] == ("shop", "resume")
        assert "@" in row[2]
        assert row[3] is None

    def test_the_daemon_s_answer_is_shown(self, workspace: Workspace, databases: Databases) -> None:
        _began(databases, workspace.write())

        def daemon() -> None:
            with _as_crossfade(databases.target_dsn) as target:
                target.execute("LISTEN crossfade_control")
                ready.set()
                assert len(list(target.notifies(timeout=20, stop_after=1))) == 1
                target.execute("UPDATE crossfade.control SET taken_at = now(), outcome = 'paused'")

        ready = threading.Event()
        thread = threading.Thread(target=daemon)
        thread.start()
        ready.wait(10)
        ended = _run(workspace, "pause")
        thread.join()
        assert (ended.exit_code, ended.stdout) == (0, "pause: paused\n")


def _left(databases: Databases, workspace: Workspace) -> tuple[int, int, bool]:
    """Slots, publications, and whether our state is there."""
    slots = databases.source.value(
        "SELECT count(*) FROM pg_replication_slots WHERE database = current_database() AND slot_name = %s",
        (workspace.slot,),
    )
    publications = databases.source.value("SELECT count(*) FROM pg_publication")
    return slots, publications, databases.target.value("SELECT to_regclass('crossfade.progress') IS NOT NULL")


class TestTeardown:
    def test_removes_what_is_ours_and_may_be_run_again(self, workspace: Workspace, databases: Databases) -> None:
        databases.prepare("CREATE TABLE users (id int PRIMARY KEY)", "CREATE TABLE kept AS SELECT 1 AS id")
        databases.publish("users", append=["users"])
        databases.source.execute(f"ALTER PUBLICATION crossfade OWNER TO {databases.source.role}")
        _began(databases, workspace.write())
        databases.target.execute("CREATE TABLE crossfade.id_user (old bigint PRIMARY KEY)")
        databases.target.execute(f"ALTER TABLE crossfade.id_user OWNER TO {databases.target.role}")
        ended = _run(workspace, "teardown", "--yes")
        assert ended.exit_code == 0, ended.stderr
        assert f"slot {workspace.slot}: dropped." in ended.stdout
        assert "publication crossfade: dropped." in ended.stdout
        assert 'DROP PUBLICATION IF EXISTS "crossfade_append";' in ended.stdout  # a DBA's, so a DBA must
        assert _left(databases, workspace) == (0, 1, False)
        assert databases.target.value("SELECT to_regclass('crossfade.id_user') IS NULL")
        assert databases.target.value("SELECT count(*) FROM kept") == 1
        again = _run(workspace, "teardown", "--yes")
        assert again.exit_code == 0, again.stderr
        assert f"slot {workspace.slot}: not there." in again.stdout

    def test_drops_the_schema_when_the_role_could_make_it_again(
        self, workspace: Workspace, databases: Databases
    ) -> None:
        _began(databases, workspace.write())
        databases.target.execute(f"GRANT CREATE ON DATABASE {databases.target.dbname} TO {databases.target.role}")
        assert "schema crossfade: dropped." in _run(workspace, "teardown", "--yes").stdout
        assert databases.target.value("SELECT to_regnamespace('crossfade') IS NULL")

    def test_refuses_while_a_daemon_leads(self, workspace: Workspace, databases: Databases) -> None:
        _began(databases, workspace.write())
        with _led(databases):
            ended = _run(workspace, "teardown", "--yes")
        assert ended.exit_code == 4
        assert "A daemon leads" in ended.stderr
        assert _left(databases, workspace) == (1, 0, True)

    def test_refuses_while_somebody_streams_from_the_slot(self, workspace: Workspace, databases: Databases) -> None:
        _began(databases, workspace.write())
        # Closed, not left as a context: a streaming connection can take no COMMIT.
        with closing(psycopg.connect(databases.source_dsn, autocommit=True, replication="database")) as peer:
            peer.pgconn.send_query(
                f"START_REPLICATION SLOT {workspace.slot} LOGICAL 0/0"
                " (proto_version '1', publication_names 'crossfade')".encode()
            )
            _until_active(databases, workspace.slot)
            ended = _run(workspace, "teardown", "--yes")
        assert ended.exit_code == 4
        assert f"Slot {workspace.slot} is in use by pid" in ended.stderr
        assert _left(databases, workspace) == (1, 0, True)

    def test_leaves_a_slot_that_is_not_ours(self, workspace: Workspace, databases: Databases) -> None:
        databases.source.execute("SELECT pg_create_logical_replication_slot(%s, 'test_decoding')", (workspace.slot,))
        ended = _run(workspace.write(), "teardown", "--yes")
        assert ended.exit_code == 0, ended.stderr
        assert "not ours" in ended.stdout
        assert _left(databases, workspace)[0] == 1

    def test_other_workflows_keep_their_state(self, workspace: Workspace, databases: Databases) -> None:
        databases.prepare("CREATE TABLE users (id int PRIMARY KEY)")
        databases.publish("users")
        databases.source.execute(f"ALTER PUBLICATION crossfade OWNER TO {databases.source.role}")
        _began(databases, workspace.write())
        _began(databases, workspace, name="billing")
        ended = _run(workspace, "teardown", "--yes")
        assert ended.exit_code == 0, ended.stderr
        assert databases.target.execute("SELECT workflow FROM crossfade.progress") == [("billing",)]
        assert databases.target.execute("SELECT DISTINCT workflow FROM crossfade.copy_tables") == [("billing",)]
        assert _left(databases, workspace)[1] == 1  # the other one reads it

    def test_what_depends_on_our_tables_is_not_dropped_with_them(
        self, workspace: Workspace, databases: Databases
    ) -> None:
        _began(databases, workspace.write())
        databases.target.execute("CREATE VIEW public.where_we_are AS SELECT end_lsn FROM crossfade.progress")
        ended = _run(workspace, "teardown", "--yes")
        assert ended.exit_code == 3
        assert "depends" in ended.stderr
        assert _left(databases, workspace) == (0, 0, True)
        databases.target.execute("DROP VIEW public.where_we_are")
        assert _run(workspace, "teardown", "--yes").exit_code == 0


def _until_active(databases: Databases, slot: str) -> None:
    deadline = time.monotonic() + 10
    while not databases.source.value("SELECT active FROM pg_replication_slots WHERE slot_name = %s", (slot,)):
        assert time.monotonic() < deadline, "nobody took the slot"
        time.sleep(0.02)
