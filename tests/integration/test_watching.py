"""What people look at while it runs, on a real daemon: `status --watch`, the page's events, the support bundle."""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import struct
import subprocess
import sys
import tarfile
import termios
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.servers.daemon import Daemon, Workspace, environment
from tests.servers.databases import PASSWORD, Databases

pytestmark = [pytest.mark.one_version]

_TABLES = "CREATE TABLE public.people (id bigint PRIMARY KEY, name text NOT NULL);"
_ROWS = "INSERT INTO public.people SELECT n, 'zebra-value-' || n FROM generate_series(1, 50) n;"
ROW_VALUE = "zebra-value"
SECRETS = (
    "planted-in-environment",
    "planted-in-passfile",
    "planted-in-service",
    "planted-in-path",
    "planted-in-argument",
    "planted-in-token",
)
_HOOKS = """
[hooks]
webhook = "http://127.0.0.1:1/hooks/planted-in-path"
webhook_token = "planted-in-token"
on_alert = ["/bin/true", "--key", "planted-in-argument"]
timeout = "100ms"
"""


def _begun(workspace: Workspace, databases: Databases, **written: str) -> Daemon:
    databases.prepare(_TABLES + _ROWS, _TABLES)
    databases.publish("people")
    daemon = workspace.write(**written).daemon()
    daemon.wait_for_phase("streaming")
    return daemon


class Terminal:
    """`crossfade status --watch` on a terminal of its own."""

    def __init__(self, workspace: Workspace) -> None:
        self._ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "crossfade.cli.main", "status", "--watch", "--config", str(workspace.config)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment({"TERM": "xterm-256color", "LANG": "C.UTF-8"}),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0) and None,
        )
        os.close(theirs)
        self.shown = ""

    def wait_for(self, words: str, *, timeout: float = 30.0) -> str:
        """Until the terminal was sent these words after all that was waited for before; what came until then."""
        deadline = time.monotonic() + timeout
        while words not in self.shown:
            left = deadline - time.monotonic()
            assert left > 0, f"{words!r} was not shown, but:\n{self.shown[-3000:]}"
            if select.select([self._ours], [], [], left)[0]:
                try:
                    read = os.read(self._ours, 65536).decode(errors="replace")
                except OSError:  # the other end is closed
                    read = ""
                assert read or words in self.shown, f"it ended before {words!r}:\n{self.shown[-3000:]}"
                self.shown += re.sub(r"\x1b\[[0-9;]*m", "", read)
        before, _, self.shown = self.shown.partition(words)
        return before + words

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)


@pytest.fixture
def terminal(workspace: Workspace, databases: Databases) -> Iterator[tuple[Terminal, Daemon]]:
    daemon = _begun(workspace, databases)
    terminal = Terminal(workspace)
    yield terminal, daemon
    terminal.close()


def test_watching_on_a_terminal_through_a_restart_of_the_daemon(terminal: tuple[Terminal, Daemon]) -> None:
    screen, daemon = terminal
    screen.wait_for("\x1b[?1049h")  # a screen of its own: what was there before comes back at the end
    screen.wait_for("Streaming: the target")
    screen.wait_for("public.people")
    screen.wait_for("highest")
    daemon.kill9()
    screen.wait_for("No daemon answers here since")
    screen.wait_for("No daemon runs; its phase was streaming")
    daemon.start()
    screen.wait_for("the daemon answers again")
    screen.wait_for("Streaming: the target")
    screen.type(b"\x03")
    screen.wait_for("\x1b[?1049l")
    assert screen.process.wait(10) == 0


def test_watching_into_a_file_is_lines(workspace: Workspace, databases: Databases) -> None:
    daemon = _begun(workspace, databases)
    command = [sys.executable, "-m", "crossfade.cli.main", "status", "--watch", "--config", str(workspace.config)]
    watching = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), start_new_session=True
    )
    try:
        assert watching.stdout is not None
        first = watching.stdout.readline()
        assert "  shop  " in first
        assert "\x1b" not in first
        daemon.kill9()
        told = watching.stdout.readline()
        while "no daemon" not in told:
            assert "  shop  " in told  # it may have said once more how it was
            told = watching.stdout.readline()
        watching.send_signal(2)
        out, err = watching.communicate(timeout=10)
        assert (watching.returncode, err) == (0, ""), out
    finally:
        watching.kill()
        watching.wait()


def test_the_page_and_its_events(workspace: Workspace, databases: Databases) -> None:
    daemon = _begun(workspace, databases)
    base = f"http://127.0.0.1:{workspace.port}"
    with urllib.request.urlopen(f"{base}/", timeout=10) as answer:
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    with urllib.request.urlopen(f"{base}/api/v1/events", timeout=10) as events:
        points = 0
        document: dict[str, object] = {}
        event = ""
        while points < 3:
            line = events.readline().decode()
            event = line.removeprefix("event: ").strip() if line.startswith("event: ") else event
            if line.startswith("data: "):
                points += event == "point"
                document = json.loads(line.removeprefix("data: ")) if event == "status" else document
        assert document["name"] == "shop"
        assert daemon.terminate() == 0  # who follows does not keep it from stopping
        assert b"event: goodbye" in events.read()


def _texts(archive: Path) -> dict[str, str]:
    with tarfile.open(archive) as tar:
        found = {}
        for member in tar.getmembers():
            file = tar.extractfile(member)
            assert file is not None
            assert member.name.count("/") == 1
            found[member.name.partition("/")[2]] = file.read().decode()
        return found


_PARTS = {
    "README.txt",
    "status.json",
    "metrics.txt",
    "readyz.txt",
    "log.jsonl",
    "versions.json",
    "configuration.json",
    "mapping.yaml",
    "check.json",
    "source.json",
    "target.json",
}


def test_a_support_bundle_holds_no_secret_and_no_row(
    workspace: Workspace, databases: Databases, tmp_path: Path
) -> None:
    passfile = tmp_path / "passfile"
    passfile.write_text("*:*:*:*:planted-in-passfile\n")
    passfile.chmod(0o600)
    service = tmp_path / "service.conf"
    service.write_text("[somewhere]\npassword=planted-in-service\n")
    env = {"PGPASSWORD": "planted-in-environment", "PGPASSFILE": str(passfile), "PGSERVICEFILE": str(service)}
    given = {name: quote(str(value), safe="") for name, value in conninfo_to_dict(databases.target_dsn).items()}
    place = f"{given.pop('user')}:{given.pop('password')}@{given.pop('host')}:{given.pop('port')}/{given.pop('dbname')}"
    rest = "&".join(f"{name}={value}" for name, value in given.items())
    daemon = _begun(workspace, databases, target_dsn=f"postgresql://{place}?{rest}", extra=_HOOKS)
    databases.target.execute("ALTER TABLE public.people ADD CONSTRAINT short CHECK (length(name) < 30)")
    databases.source.execute("INSERT INTO public.people VALUES (777, 'zebra-value that is longer than it may be')")
    daemon.wait_for_phase("failed")
    archive = tmp_path / "bundle.tar.gz"
    written = workspace.run("status", "--bundle", str(archive), env=env)
    assert written.returncode == 0, written.stderr
    assert archive.stat().st_mode & 0o077 == 0
    texts = _texts(archive)
    assert set(texts) == _PARTS, written.stderr
    secrets = (PASSWORD, quote(PASSWORD, safe=""), *SECRETS)
    for name, text in {**texts, "stdout": written.stdout, "stderr": written.stderr}.items():
        for unwanted in (*secrets, ROW_VALUE):
            assert unwanted not in text, name
    # and it holds what a helper asks for
    status = json.loads(texts["status.json"])
    assert status["error"]["sqlstate"] == "23514"
    assert "crossfade_phase{" in texts["metrics.txt"]
    assert any(json.loads(line)["level"] == "error" for line in texts["log.jsonl"].splitlines())
    assert {each["key"] for each in json.loads(texts["configuration.json"])["settings"]} >= {"source.dsn", "name"}
    assert "***" in texts["configuration.json"]
    assert "schemas: {public: public}" in texts["mapping.yaml"]
    assert isinstance(json.loads(texts["check.json"])["findings"], list)
    source, target = json.loads(texts["source.json"]), json.loads(texts["target.json"])
    assert [slot["slot_name"] for slot in source["slots"]] == [workspace.slot]
    assert [each["pubname"] for each in source["publications"]] == ["crossfade"]
    assert [each["tablename"] for each in source["published_tables"]] == ["people"]
    assert "SQLSTATE 23514" in target["workflows"][0]["error"]
    assert {"crossfade check", "crossfade bundle"} & {each["application_name"] for each in target["sessions"]}
    assert not [part for side in (source, target) for part in side.values() if "refused" in part]
    # nothing is written over
    again = workspace.run("status", "--bundle", str(archive), env=env)
    assert again.returncode == 2
    assert "not there yet" in again.stderr
    assert _texts(archive) == texts


def test_a_bundle_without_a_daemon_and_a_database_says_what_is_missing(
    workspace: Workspace, databases: Databases, tmp_path: Path
) -> None:
    databases.prepare(_TABLES, _TABLES)
    workspace.write(source_dsn="host=127.0.0.1 port=1 dbname=nowhere user=me password=planted-in-service")
    archive = tmp_path / "bundle.tar.gz"
    written = workspace.run("status", "--bundle", str(archive), "--json")
    assert written.returncode == 0, written.stderr
    said = json.loads(written.stdout)
    assert set(said["missing"]) == {"metrics.txt", "readyz.txt", "log.jsonl", "source.json"}
    texts = _texts(archive)
    assert "Without metrics.txt: no daemon" in texts["README.txt"]
    assert "planted-in-service" not in "".join(texts.values())
    refused = json.loads(texts["target.json"])["progress"]
    assert refused == {"refused": "42P01"}


def test_a_configuration_that_is_refused_leaves_no_file(workspace: Workspace, tmp_path: Path) -> None:
    workspace.write(extra="[nonsense]\nkey = 1")
    archive = tmp_path / "bundle.tar.gz"
    assert workspace.run("status", "--bundle", str(archive)).returncode == 78
    assert not archive.exists()


def test_listening_beyond_this_machine_is_warned_about(workspace: Workspace, databases: Databases) -> None:
    databases.prepare(_TABLES, _TABLES)
    databases.publish("people")
    workspace.write()
    env = {"CROSSFADE_HTTP__LISTEN": f"0.0.0.0:{workspace.port}"}
    checked = workspace.run("check", "--json", env=env)
    assert checked.returncode == 0, checked.stdout
    assert "http_exposed" in {finding["name"] for finding in json.loads(checked.stdout)["findings"]}
    daemon = workspace.daemon(env=env)
    daemon.wait_for_phase("streaming")
    assert [line["note"] for line in daemon.lines() if line.get("note") == "http_exposed"] == ["http_exposed"]
    request = urllib.request.Request(f"http://127.0.0.1:{workspace.port}/livez", headers={"Host": "crossfade.internal"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200
    assert daemon.terminate() == 0
