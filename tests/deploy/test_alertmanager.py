"""A real Alertmanager takes what the daemon tells it by itself, without Prometheus, and hears when it is over."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.deploy import prometheus as programs
from tests.integration.following import follow
from tests.servers.daemon import Workspace, free_port
from tests.servers.databases import Databases

pytestmark = pytest.mark.one_version

ITEMS = "CREATE TABLE items (id int PRIMARY KEY, note text);"
CONFIG = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"


@contextmanager
def alertmanager(folder: Path) -> Iterator[int]:
    """One that tells nobody; its port."""
    port = free_port()
    (folder / "alertmanager.yml").write_text(CONFIG)
    with (folder / "alertmanager.log").open("wb") as log:
        server = subprocess.Popen(
            [
                *programs.alertmanager(),
                f"--config.file={folder}/alertmanager.yml",
                f"--storage.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
                "--cluster.listen-address=",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 60
        while not is_ready(port):
            assert time.monotonic() < deadline, (folder / "alertmanager.log").read_text()[-2000:]
            time.sleep(0.2)
        yield port
    finally:
        server.terminate()
        server.wait(30)


def is_ready(port: int) -> bool:
    with suppress(urllib.error.URLError, ConnectionError):
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5).status == 200
    return False


def alerts(port: int) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v2/alerts", timeout=10) as answer:
        found: list[dict[str, Any]] = json.load(answer)
        return found


def test_an_alert_comes_and_goes(workspace: Workspace, databases: Databases, tmp_path: Path) -> None:
    with alertmanager(tmp_path) as port:
        followed = follow(
            workspace,
            source=ITEMS,
            extra=f'[guards]\nprobe_interval = "5s"\n[hooks]\nalertmanager = "http://127.0.0.1:{port}/"\n',
        )
        databases.target.execute(
            "CREATE FUNCTION public.trouble() RETURNS boolean LANGUAGE plpgsql AS"
            " $$BEGIN RAISE EXCEPTION 'full' USING ERRCODE = '53100'; END$$;"
            " ALTER TABLE items ADD CONSTRAINT trouble CHECK (public.trouble()) NOT VALID"
        )
        databases.source.execute("INSERT INTO items VALUES (1, 'no room')")
        followed.daemon.wait_for(lambda: alerts(port), "Alertmanager has an alert")
        (told,) = alerts(port)
        assert told["labels"] == {
            "alertname": "CrossfadePaused", "workflow": "shop", "severity": "critical", "origin": "daemon",
        }  # fmt: skip
        assert told["status"]["state"] == "active"
        assert told["annotations"]["runbook_url"] == "docs/runbooks/CrossfadePaused.md"
        databases.target.execute("ALTER TABLE items DROP CONSTRAINT trouble")
        followed.daemon.wait_for(lambda: not alerts(port), "it is over")
        followed.daemon.wait_until_caught_up()
        followed.stop()
