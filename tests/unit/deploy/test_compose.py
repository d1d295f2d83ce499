"""deploy/compose.yaml agrees with the program and the files beside it; tests/deploy/test_compose.py asks Compose."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import psycopg.conninfo
import pytest
import yaml

from crossfade.demo.shop import shop_of
from crossfade.settings import load_settings
from tests.dashboards.asked import FOLDER as DASHBOARDS
from tests.unit.deploy import rules

DEPLOY = rules.ROOT / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
LOADED: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
SERVICES: dict[str, dict[str, Any]] = LOADED["services"]
EVERY_SERVICE = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
OURS = {"prepare", "load", "crossfade"}


def test_everything_is_there() -> None:
    assert set(SERVICES) == OURS | {"source", "target", "prometheus", "alertmanager", "grafana"}


@EVERY_SERVICE
def test_an_image_is_ours_or_pinned(service: dict[str, Any]) -> None:
    if "build" in service:
        assert service["image"].startswith("crossfade:")
        assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    else:
        assert re.search(r":v?\d+\.\d+(\.\d+)?(-\w+)?$", service["image"]), service["image"]


@EVERY_SERVICE
def test_a_service_is_hardened_and_says_whether_it_is_well(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("cap_drop") == ["ALL"] or service["image"].startswith("postgres:")  # starts as root, gives it up
    assert "healthcheck" in service
    assert service["healthcheck"].get("test") or service["restart"] == "no"


@EVERY_SERVICE
def test_what_is_published_is_published_to_this_host_alone(service: dict[str, Any]) -> None:
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


@EVERY_SERVICE
def test_what_is_mounted_exists_and_is_not_written_to(service: dict[str, Any]) -> None:
    for mount in service.get("volumes", ()):
        source, _, rest = mount.partition(":")
        if source.startswith("."):
            assert (DEPLOY / source).exists(), mount
            assert rest.endswith(":ro"), mount
        else:
            assert source in LOADED["volumes"]


def test_only_those_have_a_secret_that_need_it() -> None:
    assert {name: set(service.get("secrets", ())) for name, service in SERVICES.items() if service.get("secrets")} == {
        "source": {"admin_password"},
        "target": {"admin_password"},
        "prepare": {"source_admin_dsn", "target_admin_dsn", "application_dsn", "source__dsn", "target__dsn"},
        "load": {"application_dsn"},
        "crossfade": {"source__dsn", "target__dsn"},
        "grafana": {"grafana_admin_password"},
    }


def test_no_secret_is_in_the_clear() -> None:
    for name, service in SERVICES.items():
        said = json.dumps([service.get("environment"), service.get("command"), service.get("entrypoint")])
        said = re.sub(r'"\w+_FILE": "/run/secrets/\w+"', "", said)  # where one is, which is no secret
        assert not re.search(r"passw|secret|dsn|token", said, re.IGNORECASE), name


# -- the secrets


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """Those the script makes, in a copy of its folder."""
    script = shutil.copy(DEPLOY / "compose" / "make-secrets.sh", tmp_path)
    subprocess.run(["/bin/sh", script], check=True, capture_output=True)
    return tmp_path / "secrets"


def test_every_secret_is_made_and_no_other(secrets: Path) -> None:
    assert {path.name for path in secrets.iterdir()} == set(LOADED["secrets"])
    for name, secret in LOADED["secrets"].items():
        assert secret == {"file": f"./compose/secrets/{name}"}
    ignored = (rules.ROOT / ".gitignore").read_text().splitlines()
    assert "/deploy/compose/secrets/" in ignored


def test_nobody_else_on_this_host_can_read_them_and_the_containers_can(secrets: Path) -> None:
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o644}


def test_the_passwords_fit_each_other_and_stay(secrets: Path) -> None:
    shop = shop_of(secrets)
    admin = (secrets / "admin_password").read_text()
    for side, dsn in (("source", shop.source_admin), ("target", shop.target_admin)):
        parts = psycopg.conninfo.conninfo_to_dict(dsn)
        assert (parts["host"], parts["user"], parts["password"]) == (side, "postgres", admin)
    for side, dsn in (("source", shop.source), ("target", shop.target), ("source", shop.application)):
        assert psycopg.conninfo.conninfo_to_dict(dsn)["host"] == side
        assert psycopg.conninfo.conninfo_to_dict(dsn)["dbname"] == shop.dbname
    passwords = {shop.role(dsn)[1] for dsn in (shop.source, shop.target, shop.application, shop.source_admin)}
    assert len(passwords) == 4
    assert min(map(len, passwords)) >= 32
    before = {path.name: path.read_text() for path in secrets.iterdir()}
    subprocess.run(["/bin/sh", secrets.parent / "make-secrets.sh"], check=True, capture_output=True)
    assert {path.name: path.read_text() for path in secrets.iterdir()} == before


def test_crossfade_reads_them_as_settings(secrets: Path, tmp_path: Path) -> None:
    given = SERVICES["crossfade"]["environment"]
    settings = load_settings(rules.ROOT / "config" / "crossfade.toml", environment=given, run_secrets=secrets)
    assert "host=source" in settings.source.dsn.get_secret_value()
    assert "host=target" in settings.target.dsn.get_secret_value()
    assert settings.http.listen == "0.0.0.0:9810"


# -- who knows whom


def _yaml(path: Path) -> dict[str, Any]:
    loaded = yaml.safe_load(path.read_text())
    assert isinstance(loaded, dict)
    return loaded


def test_prometheus_scrapes_crossfade_with_the_rules_and_tells_alertmanager() -> None:
    config = _yaml(DEPLOY / "compose" / "prometheus.yml")
    (job,) = config["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["crossfade:9810"]}]
    assert config["alerting"]["alertmanagers"] == [{"static_configs": [{"targets": ["alertmanager:9093"]}]}]
    assert config["rule_files"] == ["alerts.yml"]
    assert "./prometheus/alerts.yml:/etc/prometheus/alerts.yml:ro" in SERVICES["prometheus"]["volumes"]


def test_grafana_finds_its_data_and_every_dashboard() -> None:
    (source,) = _yaml(DASHBOARDS / "provisioning" / "datasources" / "prometheus.yml")["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    assert (
        source["jsonData"]["timeInterval"] == _yaml(DEPLOY / "compose" / "prometheus.yml")["global"]["scrape_interval"]
    )
    (provider,) = _yaml(DASHBOARDS / "provisioning" / "dashboards" / "crossfade.yml")["providers"]
    where = provider["options"]["path"]
    for path in DASHBOARDS.glob("*.json"):
        assert f"./grafana/{path.name}:{where}/{path.name}:ro" in SERVICES["grafana"]["volumes"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (DASHBOARDS / Path(home).name).is_file()


# -- the tools' word


def test_promtool_and_amtool_accept_their_files(tmp_path: Path) -> None:
    shutil.copy(rules.RULES, tmp_path / "alerts.yml")
    prometheus = shutil.copy(DEPLOY / "compose" / "prometheus.yml", tmp_path)
    for tool, *arguments in (
        ("promtool", "check", "config", prometheus),
        ("amtool", "check-config", DEPLOY / "compose" / "alertmanager.yml"),
    ):
        ran = subprocess.run(
            [rules.tool(tool), *map(str, arguments)], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
