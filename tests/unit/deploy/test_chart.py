"""The Helm chart, read without Helm: its values, its schema and its templates know the same; and so does the program.

tests/deploy/test_helm.py renders it and asks Kubernetes' own schemas.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

import crossfade
from crossfade.settings import Settings, load_settings
from tests.unit.deploy import rules

CHART = rules.ROOT / "deploy" / "helm" / "crossfade"
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
TEMPLATES = {path.name: path.read_text() for path in sorted((CHART / "templates").iterdir())}
REQUIRED: dict[str, Any] = {"config": 'name = "shop"', "mapping": "version: 1", "secret": {"name": "dsn"}}
# Taken as they are: what stands below them is Kubernetes' business.
WHOLE = ("resources", "affinity", "nodeSelector", "podAnnotations", "podLabels")


def paths(values: dict[str, Any], above: str = "") -> Iterator[str]:
    for key, value in values.items():
        path = f"{above}{key}"
        if isinstance(value, dict) and value and path not in WHOLE and key not in {"labels", "thresholds"}:
            yield from paths(value, f"{path}.")
        else:
            yield path


def refused(values: dict[str, Any]) -> list[str]:
    return [error.message for error in jsonschema.Draft7Validator(SCHEMA).iter_errors(values)]


def test_the_defaults_fit_the_schema_once_what_is_yours_is_given() -> None:
    assert refused(VALUES | REQUIRED) == []
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("missing", sorted(REQUIRED))
def test_what_is_yours_must_be_given(missing: str) -> None:
    assert refused(VALUES | {key: value for key, value in REQUIRED.items() if key != missing})


@pytest.mark.parametrize(
    "wrong",
    [
        {"replica": 2},
        {"replicas": "2"},
        {"image": {"repository": "crossfade", "tga": "1"}},
        {"listen": "9810"},
        {"monitoring": {"rules": {"enabled": "yes"}}},
        {"monitoring": {"rules": {"thresholds": {"lag_warning_seconds": "1m"}}}},
        {"podDisruptionBudget": {"minAvailable": 1}},
    ],
    ids=str,
)
def test_a_mistake_is_refused(wrong: dict[str, Any]) -> None:
    assert refused(VALUES | REQUIRED | wrong)


def test_every_value_is_used_and_every_one_used_exists() -> None:
    known = set(paths(VALUES))
    text = "\n".join(TEMPLATES.values())
    used = {path.rstrip(".") for path in re.findall(r"\.Values\.([A-Za-z.]+)", text)}
    assert {path for path in known if path not in used} == set()
    assert {path for path in used if not any(each == path or each.startswith(f"{path}.") for each in known)} == set()


def test_the_chart_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == crossfade.__version__


def test_its_rules_are_those_that_are_shipped() -> None:
    assert (CHART / "files" / "alerts.yml").read_text() == rules.RULES.read_text()


def test_its_dashboards_are_those_that_are_shipped() -> None:
    packed = {path.name: path.read_text() for path in (CHART / "files" / "dashboards").glob("*.json")}
    assert packed
    assert packed == {path.name: path.read_text() for path in (rules.ROOT / "deploy" / "grafana").glob("*.json")}


def test_every_value_the_documentation_names_exists() -> None:
    section = (rules.ROOT / "docs/operations.md").read_text().partition("## On Kubernetes")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([a-z]\w*(?:\.\w+)*)`", " ".join(re.findall(r"^\|([^|]+)\|", section, re.MULTILINE))))
    assert len(named) > 8
    assert {name for name in named if not any(f"{path}.".startswith(f"{name}.") for path in paths(VALUES))} == set()


def test_probes_ask_what_is_served_and_none_that_kills_needs_a_database() -> None:
    served = set(re.findall(r'add_get\("([^"]+)"', (rules.ROOT / "src/crossfade/telemetry/http.py").read_text()))
    probes = dict(re.findall(r"(\w+)Probe:\s+httpGet:\s+path: (\S+)", TEMPLATES["deployment.yaml"]))
    assert probes == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
    assert set(probes.values()) <= served
    assert re.findall(r"path: (/\S+)", TEMPLATES["podmonitor.yaml"]) == ["/metrics"]


def test_its_variables_are_settings(tmp_path: Any) -> None:
    given = set(re.findall(r"- name: (CROSSFADE_\w+)", TEMPLATES["deployment.yaml"]))
    settings = {
        f"CROSSFADE_{section}__{key}".upper()
        for section, field in Settings.model_fields.items()
        for key in getattr(field.annotation, "model_fields", {})
    }
    assert given - settings == {"CROSSFADE_CONFIG", "CROSSFADE_SECRETS_DIR"}


def test_a_secret_as_kubernetes_mounts_it_is_read(tmp_path: Any) -> None:
    """Files are links into a directory whose name begins with dots, so that all change at once."""
    behind = tmp_path / "secrets" / "..2026_01_02_03_04_05.678901234"
    behind.mkdir(parents=True)
    (tmp_path / "secrets" / "..data").symlink_to(behind.name)
    for name in ("source__dsn", "target__dsn"):
        (behind / name).write_text(f"host={name}")
        (tmp_path / "secrets" / name).symlink_to(f"..data/{name}")
    (tmp_path / "crossfade.toml").write_text('name = "shop"\n')
    loaded = load_settings(
        tmp_path / "crossfade.toml",
        environment={"CROSSFADE_SECRETS_DIR": str(tmp_path / "secrets")},
        run_secrets=tmp_path / "none",
    )
    assert loaded.source.dsn.get_secret_value() == "host=source__dsn"


def test_kubernetes_waits_longer_than_the_drain(tmp_path: Any) -> None:
    (tmp_path / "crossfade.toml").write_text('name = "shop"\nsource.dsn = "host=a"\ntarget.dsn = "host=b"\n')
    defaults = load_settings(tmp_path / "crossfade.toml", environment={}, run_secrets=tmp_path / "none")
    assert VALUES["terminationGracePeriodSeconds"] > defaults.stop.deadline.total_seconds()
