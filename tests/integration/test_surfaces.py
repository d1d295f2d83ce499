"""What a running daemon tells, from outside: probes, metrics, status, wait, pause, resume, teardown, standby."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.servers.daemon import Daemon, Workspace
from tests.servers.databases import Databases

pytestmark = [pytest.mark.parametrize("replica_role", [True], ids=["replica"]), pytest.mark.one_version]

_SOURCE = """
CREATE TABLE public.users (id bigint PRIMARY KEY, name text NOT NULL);
INSERT INTO public.users SELECT n, 'somebody' FROM generate_series(1, 500) n;
CREATE TABLE public.orders (id bigint PRIMARY KEY, user_id bigint NOT NULL REFERENCES public.users);
INSERT INTO public.orders SELECT n, n FROM generate_series(1, 300) n;
ANALYZE;
"""
_TARGET = """
CREATE SCHEMA app;
CREATE TABLE app.accounts (id bigint PRIMARY KEY, name text NOT NULL);
CREATE TABLE app.orders (id bigint PRIMARY KEY, user_id bigint NOT NULL REFERENCES app.accounts);
"""
_MAPPING = "version: 1\nschemas: {public: app}\ntables:\n  app.accounts:\n    from: public.users\n"


@pytest.fixture
def daemon(workspace: Workspace, databases: Databases) -> Daemon:
    databases.prepare(_SOURCE, _TARGET)
    databases.publish("users", "orders")
    daemon = workspace.write(_MAPPING).daemon()
    daemon.wait_for_phase("streaming")
    return daemon


def _get(workspace: Workspace, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{workspace.port}{path}", timeout=10) as response:
        text: str = response.read().decode()
        return text


def _document(workspace: Workspace) -> dict[str, Any]:
    asked = workspace.run("status", "--json")
    assert asked.returncode == 0, asked.stderr
    document: dict[str, Any] = json.loads(asked.stdout)
    return document


def _samples(workspace: Workspace, name: str) -> dict[str, float]:
    """Series of one metric, by their labels as written."""
    found = {}
    for line in _get(workspace, "/metrics").splitlines():
        series, _, value = line.rpartition(" ")
        if series.partition("{")[0] == f"crossfade_{name}":
            found[series.partition("{")[2].rstrip("}")] = float(value)
    return found


def _until(workspace: Workspace, daemon: Daemon, what: str, **wanted: object) -> dict[str, Any]:
    """Until the document says so: some facts come with the next second's sample."""
    document: dict[str, Any] = {}

    def said() -> bool:
        document.update(json.loads(_get(workspace, "/api/v1/status")))
        return all(document[name] == value for name, value in wanted.items())

    daemon.wait_for(said, what)
    return document


def test_a_running_daemon_tells_how_it_is(daemon: Daemon, workspace: Workspace, databases: Databases) -> None:
    databases.source.execute("UPDATE public.users SET name = 'another' WHERE id <= 10")
    databases.source.execute("DELETE FROM public.orders WHERE id <= 5")
    waited = workspace.run("wait", "--for", "caught-up", "--timeout", "30s")
    assert waited.returncode == 0, waited.stderr
    assert workspace.run("wait", "--for", "copied", "--timeout", "5s").returncode == 0
    _until(workspace, daemon, "no lag", lag_seconds=0.0)
    document = _document(workspace)
    assert (document["phase"], document["leader"], document["error"], document["alerts"]) == (
        "streaming",
        True,
        None,
        [],
    )
    assert document["daemon"]["pid"] == daemon.pid
    assert document["slot"]["name"] == workspace.slot
    assert document["slot"]["active"] is True
    tables = {table["source"]: table for table in document["tables"]}
    assert {name: (table["target"], table["state"], table["rows_copied"]) for name, table in tables.items()} == {
        "public.users": ("app.accounts", "done", 500),
        "public.orders": ("app.orders", "done", 300),
    }
    assert tables["public.users"]["changes"]["update"] == 10
    assert tables["public.orders"]["changes"]["delete"] == 5
    assert document["copy"]["percent"] == 100.0
    assert workspace.run("status", "--fail-if-lag-above", "30s").returncode == 0
    assert workspace.run("healthcheck").returncode == 0
    assert _get(workspace, "/livez") == "ok\n"
    assert _get(workspace, "/readyz") == "ok\n"

    def applied(table: str, op: str) -> float:
        series = _samples(workspace, "changes_applied_total")
        return next(
            value for labels, value in series.items() if f'table="{table}"' in labels and f'op="{op}"' in labels
        )

    assert applied("public.users", "update") == 10
    assert applied("public.orders", "delete") == 5
    phases = {labels: value for labels, value in _samples(workspace, "phase").items() if value}
    assert len(phases) == 1
    assert 'phase="streaming"' in next(iter(phases))
    assert list(_samples(workspace, "replication_lag_seconds").values()) == [0.0]
    assert list(_samples(workspace, "slot_active").values()) == [1.0]
    assert sum(_samples(workspace, "copy_rows_total").values()) == 800
    assert sum(_samples(workspace, "errors_total").values()) == 0


def test_pause_holds_what_is_committed_and_resume_lets_it_go(
    daemon: Daemon, workspace: Workspace, databases: Databases
) -> None:
    paused = workspace.run("pause")
    assert (paused.returncode, "no daemon" in paused.stdout) == (0, False), paused
    document = _until(workspace, daemon, "paused", paused="operator")
    assert any("crossfade resume" in step for step in document["next_steps"])
    databases.source.execute("INSERT INTO public.users VALUES (9001, 'late')")
    assert workspace.run("wait", "--timeout", "1s").returncode == 3
    assert databases.target.value("SELECT count(*) FROM app.accounts WHERE id = 9001") == 0
    assert [labels for labels, on in _samples(workspace, "paused").items() if on]
    # A pause outlives the daemon that took it.
    daemon.kill9()
    daemon.start()
    _until_answering(workspace, daemon)
    _until(workspace, daemon, "still paused", paused="operator")
    assert workspace.run("resume").returncode == 0
    assert workspace.run("wait", "--timeout", "30s").returncode == 0
    assert databases.target.value("SELECT count(*) FROM app.accounts WHERE id = 9001") == 1


def test_after_a_restart_the_tables_are_known_at_once(daemon: Daemon, workspace: Workspace) -> None:
    assert daemon.terminate() == 0
    offline = _document(workspace)
    assert offline["daemon"] is None
    daemon.start()
    _until_answering(workspace, daemon)
    document = _until(workspace, daemon, "streaming again", phase="streaming")
    told = [(table["source"], table["state"], table["rows_copied"]) for table in document["tables"]]
    assert told == [("public.orders", "done", 300), ("public.users", "done", 500)]
    assert sum(_samples(workspace, "copy_rows_total").values()) == 0  # an earlier process's work
    assert [table["rows_copied"] for table in offline["tables"]] == [300, 500]
    said = [str(line["event"]) for line in daemon.lines()]
    assert said.count("connected to the source") == said.count("connected to the target") == 2  # each start once


def test_the_error_is_told_everywhere_and_goes_when_mended(
    daemon: Daemon, workspace: Workspace, databases: Databases
) -> None:
    databases.target.execute("ALTER TABLE app.accounts ADD CONSTRAINT short CHECK (length(name) < 20)")
    databases.source.execute("INSERT INTO public.users VALUES (9002, 'a name that is far too long for it')")
    document = _until(workspace, daemon, "failed", phase="failed")
    assert document["error"]["sqlstate"] == "23514"
    assert "short" in document["error"]["text"]
    assert "far too long" not in json.dumps(document)
    with pytest.raises(urllib.error.HTTPError) as refused:
        _get(workspace, "/readyz")
    assert refused.value.code == 503
    refused.value.close()
    assert _get(workspace, "/livez") == "ok\n"
    assert [labels for labels, count in _samples(workspace, "errors_total").items() if count and '"23"' in labels]
    databases.target.execute("ALTER TABLE app.accounts DROP CONSTRAINT short")
    assert workspace.run("resume").returncode == 0
    document = _until(workspace, daemon, "mended", phase="streaming", error=None)
    assert workspace.run("wait", "--timeout", "30s").returncode == 0
    assert "far too long" not in daemon.text()
    reconnects = _samples(workspace, "reconnects_total")
    assert len(set(reconnects.values())) == 1, reconnects  # an attempt connects to each side once
    said = [str(line["event"]) for line in daemon.lines()]
    assert said.count("connected again to the source") == said.count("connected again to the target") > 0


def test_teardown_waits_for_the_daemon_to_go(daemon: Daemon, workspace: Workspace, databases: Databases) -> None:
    assert workspace.run("teardown", "--yes").returncode == 4
    assert daemon.terminate() == 0
    ended = workspace.run("teardown", "--yes")
    assert ended.returncode == 0, ended.stderr
    assert databases.target.value("SELECT count(*) FROM app.accounts") == 500
    assert (
        databases.target.value("SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('crossfade')") == 0
    )
    assert databases.source.value("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()") == 0
    assert _document(workspace)["phase"] is None


def _until_answering(workspace: Workspace, daemon: Daemon) -> None:
    def answers() -> bool:
        try:
            return _get(workspace, "/livez") == "ok\n"
        except OSError:
            return False

    daemon.wait_for(answers, "an answer at /livez")


def test_the_log_is_json_a_person_can_read(daemon: Daemon, workspace: Workspace) -> None:
    assert daemon.terminate() == 0
    lines = list(daemon.lines())
    assert all("event" in line and "timestamp" in line for line in lines), daemon.text()
    said = [str(line["event"]) for line in lines]
    for words in (
        "connected to the source",
        "connected to the target",
        "leading",
        "phase is copy",
        "phase is streaming",
    ):
        assert words in said, said
    assert time.strptime(str(lines[0]["timestamp"])[:19], "%Y-%m-%dT%H:%M:%S")
