"""The rules of Grafana's dashboard-linter, carried over: each is a test here, on every committed dashboard.

https://github.com/grafana/dashboard-linter/blob/main/docs/index.md
"""

from __future__ import annotations

import re

import pytest

from tests.dashboards.asked import FILES, Json, as_sent, load, panels
from tests.unit.deploy import promqlreading

BOARDS = {path.stem: load(path) for path in FILES}
EVERY_BOARD = pytest.mark.parametrize("loaded", BOARDS.values(), ids=BOARDS)
EVERY_PANEL = pytest.mark.parametrize(
    "panel",
    [
        pytest.param(panel, id=f"{name}: {panel['title']}")
        for name, loaded in BOARDS.items()
        for panel in panels(loaded)
    ],
)
UNITS = {"none", "string", "short", "percentunit", "bytes", "binBps", "s", "cps", "dateTimeFromNow"}
# Alerts carry the labels of their rules: those that are reckoned over all instances have neither job nor instance.
NOT_SCRAPED = {"ALERTS"}


def exprs(panel: Json) -> list[str]:
    return [target["expr"] for target in panel["targets"]]


def sent(expr: str) -> promqlreading.Parsed:
    return promqlreading.read(as_sent(expr, span=3600, step=15, scrape=15))


def variable(loaded: Json, name: str) -> Json:
    (found,) = (one for one in loaded["templating"]["list"] if one["name"] == name)
    assert isinstance(found, dict)
    return found


@EVERY_BOARD
def test_template_datasource_rule(loaded: Json) -> None:
    (source,) = (one for one in loaded["templating"]["list"] if one["type"] == "datasource")
    assert (source["name"], source["label"], source["query"]) == ("datasource", "Data source", "prometheus")


@EVERY_BOARD
@pytest.mark.parametrize("name", ["job", "instance"])
def test_template_job_rule_and_template_instance_rule(loaded: Json, name: str) -> None:
    found = variable(loaded, name)
    assert found["type"] == "query"
    assert found["datasource"]["uid"] == "${datasource}"
    assert found["label"] == name.capitalize()
    assert found["multi"] is True
    assert found["allValue"] == ".+"


@EVERY_BOARD
def test_what_can_be_chosen(loaded: Json) -> None:
    names = [one["name"] for one in loaded["templating"]["list"]]
    assert names == ["datasource", "job", "instance", "workflow", "direction", "runbooks"]
    assert variable(loaded, "workflow")["multi"] is (loaded["uid"] == "crossfade-overview")


@EVERY_BOARD
def test_template_label_promql_rule(loaded: Json) -> None:
    for one in loaded["templating"]["list"]:
        if one["type"] == "query":
            asked = re.fullmatch(r"label_values\((.+), (\w+)\)", one["query"])
            assert asked is not None, one["query"]
            (selector,) = sent(asked[1]).selectors
            assert asked[2] in promqlreading.labels_of(selector.metric)


@EVERY_BOARD
def test_template_on_time_change_reload_rule(loaded: Json) -> None:
    for one in loaded["templating"]["list"]:
        if one["type"] == "query":
            assert one["refresh"] == 2, one["name"]


@EVERY_BOARD
def test_uneditable_dashboard_rule(loaded: Json) -> None:
    assert loaded["editable"] is False


@EVERY_PANEL
def test_panel_datasource_rule(panel: Json) -> None:
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


@EVERY_PANEL
def test_panel_title_description_rule(panel: Json) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")


@EVERY_PANEL
def test_panel_units_rule(panel: Json) -> None:
    fields = panel["fieldConfig"]
    assert fields["defaults"]["unit"] in UNITS
    for override in fields.get("overrides", ()):
        for one in override["properties"]:
            assert one["id"] != "unit" or one["value"] in UNITS


@EVERY_PANEL
def test_panel_no_targets_rule(panel: Json) -> None:
    assert exprs(panel)


@EVERY_PANEL
def test_target_promql_rule(panel: Json) -> None:
    for expr in exprs(panel):
        sent(expr)


@EVERY_PANEL
def test_target_rate_interval_rule(panel: Json) -> None:
    for expr in exprs(panel):
        for function, interval in re.findall(r"\b(i?rate|increase)\([^][]*\[([^]]+)\]", expr):
            assert interval == "$__rate_interval" or (function == "increase" and interval == "$__range"), expr


@EVERY_PANEL
def test_target_job_rule_and_target_instance_rule(panel: Json) -> None:
    for expr in exprs(panel):
        for selector in promqlreading.read(re.sub(r"\[\$\w+\]", "[1m]", expr)).selectors:
            if selector.metric not in NOT_SCRAPED:
                assert {("job", "=~", "$job"), ("instance", "=~", "$instance")} <= set(selector.matchers), expr


@EVERY_PANEL
def test_target_counter_agg_rule(panel: Json) -> None:
    for expr in exprs(panel):
        for selector in sent(expr).selectors:
            if selector.metric.endswith("_total"):
                assert selector.function in {"rate", "irate", "increase"}, expr


@EVERY_BOARD
def test_every_variable_is_used(loaded: Json) -> None:
    text = str(loaded["panels"])
    for one in loaded["templating"]["list"]:
        assert f"${one['name']}" in text or f"${{{one['name']}" in text, one["name"]


# -- that the tests themselves notice something


@pytest.mark.parametrize("wrong", ["sum(", "rate(a)", "a{b=}", "histogram_quantile(0.9)"])
def test_what_is_no_promql_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError):
        promqlreading.read(wrong)


def test_a_bare_counter_would_be_noticed() -> None:
    assert [one.function for one in promqlreading.read("a_total / rate(b_total[5m])").selectors] == ["", "rate"]
