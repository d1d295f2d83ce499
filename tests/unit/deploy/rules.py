"""Alert rules and promtool tests as the tests here look at them: read by name, without Prometheus."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Final

import pytest
import yaml

ROOT: Final = Path(__file__).parents[3]
PROMETHEUS: Final = ROOT / "deploy" / "prometheus"
RULES: Final = PROMETHEUS / "alerts.yml"
RUNBOOKS: Final = ROOT / "docs" / "runbooks"
THRESHOLD: Final = "crossfade:threshold"

_STRING: Final = r'"[^"]*"'
_SELECTOR: Final = re.compile(r"\b([a-zA-Z_][\w:]*)\s*(?:\{([^}]*)\})?")
_MATCHER: Final = re.compile(rf"(\w+)\s*(=~|!~|!=|=)\s*({_STRING})")
_GROUPING: Final = re.compile(r"\b(?:by|on|group_left|ignoring|without)\s*\(([^)]*)\)")
_SAMPLE: Final = re.compile(r"ALERTS\{(.*)\}")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule that raises an alert."""

    name: str
    expr: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    hold: float = 0.0  # seconds it must hold before it fires

    @property
    def severity(self) -> str:
        return self.labels.get("severity", "")

    def __str__(self) -> str:
        return "-".join([self.name, *self.labels.values()])


@dataclass(frozen=True, slots=True)
class Selector:
    """A series as an expression names it."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a test says of an alert at one moment (seconds): the labels it fires with, or None."""

    test: str
    alert: str
    severity: str
    at: float
    labels: Mapping[str, str] | None


@cache
def _group() -> list[dict[str, object]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@cache
def alerts() -> list[Rule]:
    """Every rule that raises an alert; the same alert may have several."""
    return [
        Rule(
            str(rule["alert"]),
            str(rule["expr"]),
            _texts(rule.get("labels")),
            _texts(rule.get("annotations")),
            _seconds(str(rule.get("for", ""))),
        )
        for rule in _group()
        if "alert" in rule
    ]


def _texts(given: object) -> dict[str, str]:
    assert given is None or isinstance(given, dict)
    return {str(key): str(value) for key, value in (given or {}).items()}


def names() -> list[str]:
    """The alerts, each once, in the file's order."""
    return list(dict.fromkeys(rule.name for rule in alerts()))


def recorded() -> dict[str, str]:
    """What the file records itself, by name, with its expression; thresholds left out."""
    return {
        str(rule["record"]): str(rule["expr"]) for rule in _group() if "record" in rule and rule["record"] != THRESHOLD
    }


def thresholds() -> dict[str, float]:
    """The numbers at the top of the file, by name."""
    found: dict[str, float] = {}
    for rule in _group():
        if rule.get("record") == THRESHOLD:
            factors = re.fullmatch(r"vector\(([\d.]+(?: \* [\d.]+)*)\)", str(rule["expr"]))
            assert factors is not None, rule
            name = _texts(rule["labels"])["name"]
            assert name not in found, name
            found[name] = prod(float(factor) for factor in factors[1].split(" * "))
    return found


def selectors(expr: str) -> list[Selector]:
    """Every series the expression names."""
    without_groupings = _GROUPING.sub(" ", expr)
    found = []
    for name, matchers in _SELECTOR.findall(without_groupings):
        if ":" in name or name.startswith(("crossfade_", "process_", "python_")):
            found.append(
                Selector(name, tuple((key, how, text.strip('"')) for key, how, text in _MATCHER.findall(matchers)))
            )
    return found


def groupings(expr: str) -> set[str]:
    """Every label that is grouped by or matched on."""
    return {label.strip() for labels in _GROUPING.findall(expr) for label in labels.split(",") if label.strip()}


def promtool_tests() -> list[Path]:
    return sorted((PROMETHEUS / "tests").glob("*.test.yml"))


def tool(name: str) -> str:
    """Where promtool, amtool or prometheus is: $PROMTOOL and so on, or the path. Skips the test if nowhere."""
    found = os.environ.get(name.upper()) or shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} on PATH, and {name.upper()} is not set")
    return found


@cache
def expectations() -> tuple[Expectation, ...]:
    """What all promtool tests together expect."""
    return tuple(_expectations())


def _expectations() -> Iterator[Expectation]:
    for path in promtool_tests():
        for test in yaml.safe_load(path.read_text())["tests"]:
            for one in test["promql_expr_test"]:
                asked = _labels(one["expr"])
                assert asked["alertstate"] == "firing"
                samples = one["exp_samples"]
                for sample in samples or [None]:
                    yield Expectation(
                        test=f"{path.name}: {test['name']}",
                        alert=asked["alertname"],
                        severity=asked["severity"],
                        at=_seconds(one["eval_time"]),
                        labels=None if sample is None else _labels(sample["labels"]),
                    )


def _labels(series: str) -> dict[str, str]:
    match = _SAMPLE.fullmatch(series)
    assert match is not None, series
    return {key: text.strip('"') for key, _, text in _MATCHER.findall(match[1])}


def _seconds(duration: str) -> float:
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"(\d+)([hms])", duration))
