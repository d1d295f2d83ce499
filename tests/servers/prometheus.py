"""A real Prometheus that scrapes daemons and evaluates rules, for as long as a test needs it."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.servers.daemon import free_port


class Prometheus:
    """A running server, asked over HTTP."""

    def __init__(self, port: int) -> None:
        self.port = port
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

    def alerts(self) -> list[dict[str, Any]]:
        """What is pending or firing, as Prometheus tells it."""
        found: list[dict[str, Any]] = self._get("/api/v1/alerts")["alerts"]
        return found

    def firing(self) -> set[tuple[str, str]]:
        """Alert and `cause`, of what fires."""
        return {
            (one["labels"]["alertname"], one["labels"].get("cause", ""))
            for one in self.alerts()
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
def prometheus(
    program: str | Path, folder: Path, targets: Sequence[int], rules: Path, *, every: str = "1s"
) -> Iterator[Prometheus]:
    """Scrape these ports of 127.0.0.1 and evaluate `rules`, both `every` so often; gone when the block ends."""
    folder.mkdir()
    config = {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "rule_files": [str(rules)],
        "scrape_configs": [
            {"job_name": "crossfade", "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in targets]}]}
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    port = free_port()
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                str(program),
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
    """Wait until `said()` is true; what `instead()` tells is the failure's text."""
    deadline = time.monotonic() + timeout
    while not said():
        assert time.monotonic() < deadline, instead()
        time.sleep(0.2)
