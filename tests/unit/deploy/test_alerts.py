"""The shipped alert rules: each is tested, explained and made of metrics that exist; promtool agrees where it is."""

from __future__ import annotations

import re
import subprocess
from dataclasses import asdict
from functools import cache

import pytest
from prometheus_client.metrics import MetricWrapperBase

from crossfade.catalog import TableName
from crossfade.runtime.limits import thresholds
from crossfade.settings import Alerts
from crossfade.telemetry import advice
from crossfade.telemetry.alarms import ALARMS
from crossfade.telemetry.metrics import DISKS, ENDPOINTS, Metrics
from crossfade.telemetry.notices import SEVERITIES, prometheus_name
from crossfade.telemetry.status import WatchedTable
from tests.unit.deploy import rules

OPERATIONS = rules.ROOT / "docs" / "operations.md"
EVERY_RULE = pytest.mark.parametrize("rule", rules.alerts(), ids=str)
# The one that fires all the time, and is made of nothing.
ALWAYS = "CrossfadeWatchdog"
# Of labels whose series are there only once something is known.
ABSENT = {*DISKS, *ENDPOINTS}
# Prometheus puts these on everything it scrapes.
SCRAPED = {"job", "instance"}


@cache
def registry() -> dict[str, set[str]]:
    """Every series name that can be scraped, with its labels."""
    metrics = Metrics("shop", [WatchedTable(TableName("public", "users"), TableName("app", "users"))])
    found: dict[str, set[str]] = {}
    for one in vars(metrics).values():
        if isinstance(one, MetricWrapperBase):
            family = next(iter(one.describe()))
            labels = set(one._labelnames)
            for suffix in {"counter": ["_total"], "info": ["_info"], "histogram": ["_sum", "_count", "_bucket"]}.get(
                family.type, [""]
            ):
                found[family.name + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
    for family in metrics.registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@cache
def values(metric: str) -> dict[str, set[str]]:
    """The label values a metric has from the start, by label."""
    found: dict[str, set[str]] = {}
    metrics = Metrics("shop", [WatchedTable(TableName("public", "users"), TableName("app", "users"))])
    for family in metrics.registry.collect():
        for sample in family.samples:
            if sample.name == metric:
                for label, value in sample.labels.items():
                    found.setdefault(label, set()).add(value)
    return found


# -- what each rule must have


@EVERY_RULE
def test_an_alert_says_what_it_is_and_where_to_read_on(rule: rules.Rule) -> None:
    assert rule.name.startswith("Crossfade")
    assert rule.severity in ({"none"} if rule.name == ALWAYS else {"critical", "warning"})
    assert set(rule.annotations) == {"summary", "description", "runbook_url"}
    assert rule.annotations["summary"].strip()
    assert rule.annotations["description"].rstrip().endswith(".")
    assert rule.annotations["runbook_url"] == f"docs/runbooks/{rule.name}.md"
    assert (rules.ROOT / rule.annotations["runbook_url"]).is_file()


@EVERY_RULE
def test_an_annotation_uses_only_labels_the_alert_has(rule: rules.Rule) -> None:
    used = {label for text in rule.annotations.values() for label in re.findall(r"\$labels\.(\w+)", text)}
    known = {label for one in rules.expectations() if one.alert == rule.name for label in one.labels or ()}
    assert used <= known


def test_two_rules_never_raise_the_same_alert() -> None:
    raised = [(rule.name, *sorted(rule.labels.items())) for rule in rules.alerts()]
    assert len(raised) == len(set(raised))


def test_those_every_migration_plan_asks_for_are_there_by_name() -> None:
    severities = {(rule.name, rule.severity) for rule in rules.alerts()}
    assert {
        ("CrossfadeMigrationStalled", "warning"),
        ("CrossfadeHighErrorRate", "critical"),
        ("CrossfadeDiskSpaceLow", "critical"),
        ("CrossfadePerformanceDegradation", "warning"),
    } <= severities


# -- what each rule is made of


@pytest.mark.parametrize(
    "expr",
    [
        *(pytest.param(rule.expr, id=str(rule)) for rule in rules.alerts() if rule.name != ALWAYS),
        *rules.recorded().values(),
    ],
)
def test_an_expression_is_made_of_series_that_exist(expr: str) -> None:
    named = rules.selectors(expr)
    assert named
    labels = set(SCRAPED)
    for selector in named:
        if selector.metric == rules.THRESHOLD:
            assert [matcher[:2] for matcher in selector.matchers] == [("name", "=")]
            assert selector.matchers[0][2] in rules.thresholds()
            continue
        if selector.metric in rules.recorded():
            labels |= {"workflow", "direction"}
            continue
        assert selector.metric in registry(), f"no metric {selector.metric}"
        labels |= registry()[selector.metric]
        for label, how, text in selector.matchers:
            assert label in registry()[selector.metric], f"{selector.metric} has no label {label}"
            for value in text.split("|") if "~" in how else [text]:
                assert value in values(selector.metric).get(label, ABSENT), f"{selector.metric}: no {label}={value!r}"
    assert rules.groupings(expr) <= labels


def test_an_expression_of_something_else_would_be_noticed() -> None:
    selector = rules.selectors('sum by (job) (rate(crossfade_errors_total{component="x", a!~"b|c"}[5m])) > scalar(y)')
    assert selector == [rules.Selector("crossfade_errors_total", (("component", "=", "x"), ("a", "!~", "b|c")))]
    assert rules.groupings("a and on (job, instance) b") == {"job", "instance"}


@EVERY_RULE
def test_what_a_former_leader_shows_raises_nothing(rule: rules.Rule) -> None:
    """Gauges of positions, slot, copy and phase stay as they were when a daemon lost the lead."""
    stale = [
        selector.metric
        for selector in rules.selectors(rule.expr)
        if re.match(r"crossfade_(replication|slot_(active|retained|safe)|queue|phase|paused)", selector.metric)
    ]
    assert not stale or re.search(r"crossfade(_leader|:speaks) == 1", rule.expr)


def test_every_threshold_is_used_and_no_number_hides_in_an_expression() -> None:
    used = {
        text
        for expr in [*(rule.expr for rule in rules.alerts()), *rules.recorded().values()]
        for selector in rules.selectors(expr)
        if selector.metric == rules.THRESHOLD
        for _, _, text in selector.matchers
    }
    assert used == set(rules.thresholds())
    for rule in rules.alerts():
        compared = {float(number) for number in re.findall(r"[<>=] (?:bool )?(\d[\d.]*)", rule.expr)}
        assert compared <= {0, 0.5, 1}, f"{rule}: name this number among the thresholds"


def test_the_thresholds_are_those_of_the_status() -> None:
    """The daemon judges itself by the same numbers; two are for what it cannot judge of itself."""
    shipped = rules.thresholds()
    ours = asdict(thresholds(Alerts()))
    assert {name: shipped[name] for name in ours} == pytest.approx(ours)
    assert shipped.keys() - ours.keys() == {"event_loop_lag_seconds", "restarts_in_30_minutes"}
    assert ours["slot_retention_warning_ratio"] == advice.RETENTION_WARNING
    assert ours["slot_retention_critical_ratio"] == advice.RETENTION_ERROR
    assert ours["slot_retained_unlimited_bytes"] == advice.UNLIMITED_WARNING_BYTES


def test_the_daemon_judges_by_the_same_times_and_severities() -> None:
    """Each alarm of the daemon is an alert of that name, severity and duration."""
    shipped = {(rule.name, rule.severity, rule.hold) for rule in rules.alerts()}
    ours = {(prometheus_name(alarm.name), SEVERITIES[alarm.level], alarm.hold) for alarm in ALARMS}
    assert ours <= shipped
    # What the daemon cannot say: that it is gone, alone, or one too many; and the slot, which the status judges.
    assert {name for name, _, _ in shipped} - {name for name, _, _ in ours} == {
        "CrossfadeDown", "CrossfadeNoLeader", "CrossfadeTwoLeaders", "CrossfadeCrashLoop", "CrossfadeEventLoopBlocked",
        "CrossfadeWatchdog", "CrossfadeSlotRetention", "CrossfadeSlotLost",
    }  # fmt: skip


# -- what is written about them


def _alerts_section() -> str:
    return OPERATIONS.read_text().partition("\n## Alerts\n")[2].partition("\n## ")[0]


def test_every_alert_is_documented_with_its_severity_and_no_other() -> None:
    documented = re.findall(r"^\| \[`(\w+)`\]\(runbooks/(\w+)\.md\) \| ([a-z, ]+) \|", _alerts_section(), re.MULTILINE)
    assert all(name == page for name, page, _ in documented)
    severities: dict[str, set[str]] = {}
    for rule in rules.alerts():
        severities.setdefault(rule.name, set()).add(rule.severity)
    assert {name: set(severity.split(", ")) for name, _, severity in documented} == severities


def test_every_threshold_is_documented_with_its_number_and_no_other() -> None:
    units = {"MiB": 1024**2, "GiB": 1024**3, "h": 3600, "%": 0.01}
    documented = {
        name: float(number) * units.get(unit, 1)
        for name, number, unit in re.findall(r"^\| `(\w+)` \| ([\d.]+) ?([^ |]*) \|", _alerts_section(), re.MULTILINE)
    }
    assert documented == pytest.approx(rules.thresholds())


# -- their tests, which tests/integration/test_alert_rules.py runs


@pytest.mark.parametrize("rule", [rule for rule in rules.alerts() if rule.name != ALWAYS], ids=str)
def test_every_rule_has_a_test_that_it_fires_that_it_does_not_yet_and_that_it_is_over(rule: rules.Rule) -> None:
    expected = [one for one in rules.expectations() if (one.alert, one.severity) == (rule.name, rule.severity)]
    fires = [one for one in expected if one.labels is not None and rule.labels.items() <= one.labels.items()]
    assert fires
    assert any(
        any(quiet.at < one.at for quiet in quiets) and any(quiet.at > one.at for quiet in quiets)
        for one in fires
        for quiets in [[other for other in expected if other.test == one.test and other.labels is None]]
    )


def test_no_test_is_of_an_alert_that_does_not_exist() -> None:
    assert {(one.alert, one.severity) for one in rules.expectations()} == {
        (rule.name, rule.severity) for rule in rules.alerts()
    }


def test_promtool_finds_nothing_to_complain_about() -> None:
    checked = subprocess.run(
        [rules.tool("promtool"), "check", "rules", "--lint=all", "--lint-fatal", rules.RULES],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
