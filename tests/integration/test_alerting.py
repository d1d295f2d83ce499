"""The shipped rules on a real Prometheus that scrapes a leader and a standby: they evaluate, fire and are over.

$PROMETHEUS or on the path (Debian: in the package `prometheus`); without it the test is skipped.
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.servers.daemon import Workspace, free_port
from tests.servers.databases import Databases
from tests.unit.deploy import rules

pytestmark = [pytest.mark.parametrize("replica_role", [True], ids=["replica"]), pytest.mark.one_version]

_ITEMS = "CREATE TABLE public.items (id bigint PRIMARY KEY, name text); INSERT INTO items VALUES (1, 'first');"


class Prometheus:
    """A running server, asked over HTTP."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}"

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self._base}{path}", timeout=10) as answer:
            return json.load(answer)["data"]

    def is_ready(self) -> bool:
        with suppress(urllib.error.URLError, ConnectionError):
            return urllib.request.urlopen(f"{self._base}/-/ready", timeout=5).status == 200
        return False

    def query(self, expr: str) -> list[dict[str, str]]:
        """The labels of every series the expression has now."""
        found = self._get(f"/api/v1/query?query={urllib.parse.quote(expr)}")["result"]
        return [one["metric"] for one in found]

    def firing(self) -> set[tuple[str, str]]:
        """Alert and `cause`, of what fires."""
        return {
            (one["labels"]["alertname"], one["labels"].get("cause", ""))
            for one in self._get("/api/v1/alerts")["alerts"]
            if one["state"] == "firing"
        }

    def unwell(self) -> list[str]:
        """Rules that could not be evaluated, or were not yet."""
        return [
            f"{rule['name']}: {rule.get('lastError', rule['health'])}"
            for group in self._get("/api/v1/rules")["groups"]
            for rule in group["rules"]
            if rule["health"] != "ok"
        ]


@contextmanager
def prometheus(folder: Path, targets: list[int]) -> Iterator[Prometheus]:
    folder.mkdir()
    scraped = [f"127.0.0.1:{port}" for port in targets]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules.RULES)],
        "scrape_configs": [{"job_name": "crossfade", "static_configs": [{"targets": scraped}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    port = free_port()
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                rules.tool("prometheus"),
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        asked = Prometheus(port)
        until(asked.is_ready, lambda: (folder / "log").read_text()[-2000:])
        yield asked
    finally:
        server.terminate()
        server.wait(30)


def until(said: Callable[[], object], instead: Callable[[], object], timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not said():
        assert time.monotonic() < deadline, instead()
        time.sleep(0.2)


def test_the_rules_work_on_what_is_scraped(workspace: Workspace, databases: Databases, tmp_path: Path) -> None:
    rules.tool("prometheus")
    databases.prepare(_ITEMS, "CREATE TABLE public.items (id bigint PRIMARY KEY, name text);")
    databases.publish("items")
    leader = workspace.write().daemon()
    leader.wait_for_phase("streaming")
    port = free_port()
    standby = workspace.daemon(env={"CROSSFADE_HTTP__LISTEN": f"127.0.0.1:{port}"})
    standby.wait_for_line("waiting as a standby")
    with prometheus(tmp_path / "prometheus", [workspace.port, port]) as server:
        until(lambda: len(server.query("crossfade_up == 1")) == 2, lambda: server.query("up"))
        until(lambda: not server.unwell(), server.unwell)
        # What the rules single out is there, once, and the standby's is not.
        assert len(server.query("crossfade_replication_lag_seconds and on (job, instance) crossfade_leader == 1")) == 1
        assert len(server.query("crossfade_slot_active and on (job, instance) crossfade_leader == 1")) == 1
        assert len(server.query(rules.THRESHOLD)) == len(rules.thresholds())
        assert server.firing() == set()

        databases.target.execute("ALTER TABLE items ADD CONSTRAINT refused CHECK (id < 10) NOT VALID")
        databases.source.execute("INSERT INTO items VALUES (10, 'refused')")
        refused = ("CrossfadeHighErrorRate", "phase_failed")
        until(lambda: refused in server.firing(), server.firing)
        assert server.unwell() == []
        (told,) = server.query('ALERTS{alertname="CrossfadeHighErrorRate",alertstate="firing"}')
        assert (told["workflow"], told["severity"]) == ("shop", "critical")

        databases.target.execute("ALTER TABLE items DROP CONSTRAINT refused")
        assert workspace.run("resume").returncode == 0
        until(lambda: databases.target.value("SELECT count(*) FROM items") == 2, leader.text)
        leading = 'crossfade_phase{phase="failed"} == 1 and on (instance) crossfade_leader == 1'
        until(lambda: not server.query(leading), lambda: server.query(leading))
        assert server.unwell() == []
