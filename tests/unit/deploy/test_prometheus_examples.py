"""The examples for Prometheus and Alertmanager: each alert finds its receiver, and the tools accept the files."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.deploy import rules

ALERTMANAGER = rules.PROMETHEUS / "alertmanager.example.yml"
PROMETHEUS = rules.PROMETHEUS / "prometheus.example.yml"
EXPECTED = {"critical": {"pager"}, "warning": {"tickets"}, "none": {"watchdog"}}


def loaded(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text())
    assert isinstance(content, dict)
    return content


def _matchers() -> Iterator[str]:
    config = loaded(ALERTMANAGER)
    for route in config["route"]["routes"]:
        yield from route["matchers"]
    for rule in config["inhibit_rules"]:
        yield from rule["source_matchers"] + rule["target_matchers"]


def test_every_matcher_matches_an_alert_that_exists() -> None:
    raised = [{"alertname": rule.name, **rule.labels} for rule in rules.alerts()]
    for matcher in _matchers():
        parts = re.fullmatch(r'(\w+)(=~|=)"([^"]+)"', matcher)
        assert parts is not None, matcher
        label, how, text = parts.groups()
        for pattern in text.split("|") if how == "=~" else [re.escape(text)]:
            assert any(re.fullmatch(pattern, labels.get(label, "")) for labels in raised), matcher


def test_every_receiver_is_used_and_every_one_used_exists() -> None:
    config = loaded(ALERTMANAGER)
    used = {config["route"]["receiver"], *(route["receiver"] for route in config["route"]["routes"])}
    assert used == {receiver["name"] for receiver in config["receivers"]}


def test_the_rules_are_loaded_and_our_port_is_scraped() -> None:
    config = loaded(PROMETHEUS)
    assert [(PROMETHEUS.parent / name) for name in config["rule_files"]] == [rules.RULES]
    (job,) = config["scrape_configs"]
    assert job["job_name"] == "crossfade"
    assert job["static_configs"] == [{"targets": ["127.0.0.1:9810"]}]


# -- the tools' word


def _run(tool: str, *arguments: object) -> str:
    ran = subprocess.run([rules.tool(tool), *map(str, arguments)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_promtool_accepts_the_scrape_example() -> None:
    assert "SUCCESS" in _run("promtool", "check", "config", PROMETHEUS)


def test_amtool_accepts_the_alertmanager_example() -> None:
    assert "SUCCESS" in _run("amtool", "check-config", ALERTMANAGER)


@pytest.mark.parametrize("rule", rules.alerts(), ids=str)
def test_amtool_routes_each_alert_to_whom_it_concerns(rule: rules.Rule) -> None:
    labels = [f"{key}={value}" for key, value in {"alertname": rule.name, **rule.labels}.items()]
    told = _run("amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}", *labels).strip()
    about_the_slot = {"source-dba"} if rule.name.startswith("CrossfadeSlot") and rule.severity == "critical" else set()
    assert set(told.split(",")) == EXPECTED[rule.severity] | about_the_slot
