"""The Helm chart, linted and rendered by Helm itself, and held against Kubernetes' and the operator's schemas."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from crossfade import __version__
from tests.deploy import charts
from tests.deploy.prometheus import promtool
from tests.deploy.tools import Program
from tests.unit.deploy import rules

LEAST: dict[str, Any] = {
    "config": 'name = "shop"\n',
    "mapping": "version: 1\nschemas: {public: app}\n",
    "secret": {"name": "dsn"},
}
FULL: dict[str, Any] = LEAST | {
    "replicas": 2,
    "image": {"repository": "registry.example.com/crossfade", "tag": "sha256:" + "0" * 64, "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "listen": "[::]:9810",
    "env": [{"name": "CROSSFADE_LOG__LEVEL", "value": "debug"}],
    "extraVolumes": [{"name": "tls", "secret": {"secretName": "tls"}}],
    "extraVolumeMounts": [{"name": "tls", "mountPath": "/etc/crossfade-tls", "readOnly": True}],
    "podAnnotations": {"example.com/team": "migrations"},
    "podLabels": {"example.com/team": "migrations"},
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "priorityClassName": "high",
    "networkPolicy": {
        "enabled": True,
        "ingressFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        "egress": [{"ports": [{"port": 443, "protocol": "TCP"}]}],
    },
    "monitoring": {
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "rules": {
            "enabled": True,
            "labels": {"release": "prometheus"},
            "runbookBase": "https://wiki.example.com/crossfade/",
            "thresholds": {"lag_warning_seconds": 120, "stalled_lag_bytes": 33554432},
        },
        "dashboards": {"enabled": True, "annotations": {"folder": "crossfade"}},
    },
}


@pytest.fixture(scope="module")
def least() -> list[dict[str, Any]]:
    return charts.rendered(LEAST)


@pytest.fixture(scope="module")
def full() -> list[dict[str, Any]]:
    return charts.rendered(FULL)


@pytest.mark.parametrize("values", [LEAST, FULL], ids=["least", "full"])
def test_kubernetes_and_the_operator_take_every_object(values: dict[str, Any], tmp_path: Path) -> None:
    assert charts.complaints(charts.rendered(values), tmp_path / "objects") == []


def test_a_mistake_would_be_noticed(full: list[dict[str, Any]], tmp_path: Path) -> None:
    wrong = copy.deepcopy([charts.one(full, "Deployment"), charts.one(full, "PodMonitor")])
    wrong[0]["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    wrong[1]["spec"]["podMetricsEndpoints"][0]["interval"] = "often"
    told = charts.complaints(wrong, tmp_path / "objects")
    assert len(told) == 2
    assert "readinesProbe" in told[0]
    assert "PodMonitor" in told[1]


def test_with_the_least_there_is_nothing_that_needs_an_operator_or_a_plugin(least: list[dict[str, Any]]) -> None:
    assert sorted(each["kind"] for each in least) == ["ConfigMap", "Deployment", "ServiceAccount"]


def test_the_pod_is_restricted(full: list[dict[str, Any]]) -> None:
    """Pod Security Standards, "Restricted"; and no token, no service variables, nothing writable."""
    pod = charts.one(full, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert {next(iter(set(volume) - {"name"})) for volume in pod["volumes"]} <= {"configMap", "secret"}
    assert all(mount["readOnly"] for mount in container["volumeMounts"])
    (secrets,) = (volume["secret"] for volume in pod["volumes"] if volume["name"] == "secrets")
    assert secrets == {"secretName": "dsn", "defaultMode": 0o440}


def test_a_leader_and_a_standby_keep_apart_and_are_not_evicted_together(full: list[dict[str, Any]]) -> None:
    deployment = charts.one(full, "Deployment")
    assert deployment["spec"]["replicas"] == 2
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert "podAntiAffinity" in deployment["spec"]["template"]["spec"]["affinity"]
    selector = deployment["spec"]["selector"]["matchLabels"]
    assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    for kind in ("PodDisruptionBudget", "PodMonitor"):
        assert charts.one(full, kind)["spec"]["selector"]["matchLabels"] == selector
    assert charts.one(full, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == selector


def test_every_probe_and_the_scrape_go_to_the_port_that_is_listened_on(full: list[dict[str, Any]]) -> None:
    (container,) = charts.one(full, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["ports"] == [{"name": "http", "containerPort": 9810}]
    assert {container[f"{each}Probe"]["httpGet"]["port"] for each in ("startup", "liveness", "readiness")} == {"http"}
    assert {one["port"] for one in charts.one(full, "PodMonitor")["spec"]["podMetricsEndpoints"]} == {"http"}
    env = {one["name"]: one["value"] for one in container["env"]}
    assert env["CROSSFADE_HTTP__LISTEN"] == "[::]:9810"
    assert container["image"] == f"registry.example.com/crossfade@sha256:{'0' * 64}"


def test_the_files_arrive_as_they_were_given_and_a_change_is_a_new_pod(least: list[dict[str, Any]]) -> None:
    config = charts.one(least, "ConfigMap")["data"]
    assert (config["crossfade.toml"], config["mapping.yaml"]) == (f"{LEAST['config']}", LEAST["mapping"])
    (container,) = charts.one(least, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"crossfade:{__version__}"
    changed = charts.rendered(LEAST | {"mapping": "version: 1\nschemas: {public: other}\n"})
    assert _checksum(changed) != _checksum(least)


def _checksum(objects: list[dict[str, Any]]) -> str:
    metadata = charts.one(objects, "Deployment")["spec"]["template"]["metadata"]
    return str(metadata["annotations"]["checksum/config"])


def test_the_rules_are_those_that_are_shipped(tmp_path: Path) -> None:
    values = LEAST | {"monitoring": {"rules": {"enabled": True}}}
    spec = charts.one(charts.rendered(values), "PrometheusRule")["spec"]
    assert spec == yaml.safe_load(rules.RULES.read_text())


def test_a_threshold_and_the_runbooks_address_can_be_one_s_own(full: list[dict[str, Any]], tmp_path: Path) -> None:
    spec = charts.one(full, "PrometheusRule")["spec"]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump(spec))
    checked = Program(promtool()).run("check", "rules", "--lint=all", "--lint-fatal", path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    made = [rule for group in spec["groups"] for rule in group["rules"]]
    own = {
        rule["labels"]["name"]: rule["expr"] for rule in made if "record" in rule and "name" in rule.get("labels", {})
    }
    assert float(own["lag_warning_seconds"].removeprefix("vector(").rstrip(")")) == 120
    assert float(own["stalled_lag_bytes"].removeprefix("vector(").rstrip(")")) == 32 * 1024**2
    assert own["lag_critical_seconds"] == "vector(900)"
    runbooks = {rule["annotations"]["runbook_url"] for rule in made if "alert" in rule}
    assert all(one.startswith("https://wiki.example.com/crossfade/docs/runbooks/") for one in runbooks)


def test_every_dashboard_is_there_as_it_is_shipped(full: list[dict[str, Any]]) -> None:
    shipped = {path.name: json.loads(path.read_text()) for path in (rules.ROOT / "deploy" / "grafana").glob("*.json")}
    assert shipped
    maps = [each for each in full if each["metadata"]["labels"].get("grafana_dashboard") == "1"]
    assert {name: json.loads(text) for each in maps for name, text in each["data"].items()} == shipped
    assert len({each["metadata"]["name"] for each in maps}) == len(shipped)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "config"),
        (LEAST | {"config": ""}, "config"),
        (LEAST | {"replica": 2}, "replica"),
        (LEAST | {"secret": {}}, "name"),
        (LEAST | {"monitoring": {"rules": {"enabled": True, "thresholds": {"lag": 1}}}}, "no threshold lag"),
    ],
    ids=["nothing", "no config", "unknown value", "no secret", "unknown threshold"],
)
def test_helm_refuses_a_mistake(values: dict[str, Any], words: str) -> None:
    with pytest.raises(charts.Refused, match=words):
        charts.rendered(values)
