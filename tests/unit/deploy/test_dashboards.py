"""The committed dashboards: made by `make dashboards`, valid for Grafana, and of metrics that exist."""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.dashboards import board, shared
from tests.dashboards.__main__ import BOARDS
from tests.dashboards.asked import FILES, FOLDER, Asked, Json, as_sent, every_query, load, panels
from tests.unit.deploy import promqlreading, rules
from tests.unit.deploy.test_alerts import SCRAPED, registry, values

EVERY_BOARD = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
EVERY_QUERY = pytest.mark.parametrize("asked", every_query(), ids=str)

# Of parts that are not built yet: named as they will be, and taken from here as soon as they are.
NOT_BUILT: dict[str, set[str]] = {
    "crossfade_verify_last_success_timestamp_seconds": {"workflow"},
    "crossfade_verify_rows_mismatched": {"workflow", "table", "kind"},
    "crossfade_changes_quarantined_total": {"workflow", "direction", "table", "reason"},
    "crossfade_schema_drift_columns": {"workflow", "table"},
    "crossfade_cutover_step": {"workflow", "step"},
    "crossfade_cutover_blockers": {"workflow", "check"},
    "crossfade_cutover_write_pause_seconds_bucket": {"workflow", "le"},
}
# What Prometheus itself makes of the rules; its labels are those of the alerts.
ALERTS = "ALERTS"


def test_there_are_two() -> None:
    assert {path.name for path in FILES} == set(BOARDS)


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_they_are_what_make_dashboards_makes(name: str) -> None:
    assert (FOLDER / name).read_text() == board.render(BOARDS[name]), "run `make dashboards`"


def test_what_every_migration_is_watched_for_is_there_by_name() -> None:
    watched = {"Migration Progress", "Error Rate", "Performance", "Resource Utilization", "Data Integrity"}
    overview, workflow = load(FOLDER / "overview.json"), load(FOLDER / "workflow.json")
    assert watched <= {panel["title"] for panel in panels(overview)}
    assert watched <= {panel["title"] for panel in workflow["panels"] if panel["type"] == "row"}


# -- what they are made of


def known_labels(metric: str) -> set[str]:
    """Those a series is scraped, or will be scraped, with."""
    if metric == ALERTS:
        return {"alertname", "alertstate", "workflow", *(label for rule in rules.alerts() for label in rule.labels)}
    for found in (registry(), NOT_BUILT):
        if metric in found:
            return found[metric] | SCRAPED
    raise AssertionError(f"no metric {metric}")


@EVERY_QUERY
def test_a_query_is_of_series_that_exist(asked: Asked) -> None:
    parsed = promqlreading.read(as_sent(asked.expr, span=3600, step=15, scrape=15))
    assert parsed.selectors
    labels = set(SCRAPED)
    for selector in parsed.selectors:
        known = known_labels(selector.metric)
        labels |= known
        for label, how, text in selector.matchers:
            assert label in known, f"{selector.metric} has no label {label}"
            if label in {"workflow", "direction", *SCRAPED} or selector.metric in {ALERTS, *NOT_BUILT}:
                continue
            for value in text.split("|") if "~" in how else [text]:
                assert value in values(selector.metric)[label], f"{selector.metric}: no {label}={value!r}"
    assert parsed.groupings <= labels


@EVERY_QUERY
def test_a_legend_names_labels_the_query_leaves(asked: Asked) -> None:
    target = _target(asked)
    named = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
    outer = promqlreading.left(as_sent(asked.expr, span=3600, step=15, scrape=15))
    assert outer is None or named <= outer, f"{asked.expr} leaves {outer}"


def _target(asked: Asked) -> Json:
    (panel,) = (each for each in panels(load(FOLDER / f"{asked.board}.json")) if each["title"] == asked.panel)
    (target,) = (each for each in panel["targets"] if each["refId"] == asked.ref)
    assert isinstance(target, dict)
    return target


def test_nothing_is_called_not_built_that_is() -> None:
    asked_for = {
        selector.metric
        for each in every_query()
        for selector in promqlreading.read(as_sent(each.expr, span=3600, step=15, scrape=15)).selectors
    }
    assert set(NOT_BUILT) <= asked_for
    assert not set(NOT_BUILT) & set(registry())


@EVERY_QUERY
def test_what_a_former_leader_shows_is_not_drawn(asked: Asked) -> None:
    """Gauges of positions, slot, copy and phase stay as they were when a daemon lost the lead."""
    stale = [
        selector.metric
        for selector in rules.selectors(asked.expr)
        if re.match(
            r"crossfade_(replication|slot_(active|retained|safe|wal)|queue|phase|paused|copy_(tables|progress)|\w+_lsn)",
            selector.metric,
        )
    ]
    assert not stale or "crossfade_leader{" in asked.expr


def test_the_lines_drawn_are_those_of_the_alerts() -> None:
    assert [step.value for step in shared.LAG_STEPS] == [
        None,
        rules.thresholds()["lag_warning_seconds"],
        rules.thresholds()["lag_critical_seconds"],
    ]


def _links() -> Iterator[tuple[str, str]]:
    for path in FILES:
        for panel in panels(load(path)):
            for link in panel.get("links", ()):
                yield panel["title"], link["url"]


def test_a_link_leads_to_a_runbook_that_exists() -> None:
    found = list(_links())
    assert len(found) > 20
    for panel, url in found:
        page = re.fullmatch(r"\$\{runbooks\}/(\w+)\.md", url)
        assert page is not None, f"{panel}: {url}"
        assert (rules.RUNBOOKS / f"{page[1]}.md").is_file(), f"{panel}: {url}"


def test_a_description_names_alerts_that_exist() -> None:
    for path in FILES:
        for panel in panels(load(path)):
            named = set(re.findall(r"\bCrossfade\w+", panel["description"]))
            assert named <= set(rules.names()), panel["title"]


def test_every_alert_is_linked_from_somewhere() -> None:
    linked = {Path(url).stem for _, url in _links()}
    assert set(rules.names()) - linked == set()


def test_a_drill_names_panels_that_exist() -> None:
    titles = {panel["title"] for panel in panels(load(FOLDER / "workflow.json"))}
    rows = re.findall(r"^\| dashboard \| (.+) \|$", (rules.RUNBOOKS / "drills.md").read_text(), re.MULTILINE)
    named = {title for row in rows for title in re.findall(r"\*([^*]+)\*", row)}
    assert named
    assert named <= titles


# -- how they are laid out


@EVERY_BOARD
def test_no_two_panels_share_an_id_a_title_or_a_place(path: Path) -> None:
    loaded = load(path)
    everything = [*loaded["panels"], *(one for row in loaded["panels"] for one in row.get("panels", ()))]
    ids = [panel["id"] for panel in everything]
    assert len(set(ids)) == len(ids)
    titles = [panel["title"] for panel in panels(loaded)]
    assert len(set(titles)) == len(titles)
    taken: set[tuple[int, int]] = set()
    for panel in everything:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


# -- Grafana's JSON schemas, where they are at hand: $GRAFANA_SCHEMA, or a folder grafana-schema beside this repository


def _schemas() -> Path:
    named = os.environ.get("GRAFANA_SCHEMA")
    beside = [Path(named)] if named else sorted(rules.ROOT.parent.glob("*/grafana-schema"))
    if not beside or not (beside[0] / "dashboard.jsonschema.json").is_file():
        pytest.skip("Grafana's JSON schemas are not here, and GRAFANA_SCHEMA names no folder of them")
    return beside[0]


@cache
def _schema(folder: Path, name: str, definition: str) -> Any:
    schema = json.loads((folder / f"{name}.jsonschema.json").read_text())
    # What may be anything is called an object there.
    for owner, anything in (("MatcherConfig", "options"), ("DynamicConfigValue", "value")):
        if owner in schema["definitions"]:
            schema["definitions"][owner]["properties"][anything] = {}
    return {"$schema": schema["$schema"], "definitions": schema["definitions"], "$ref": f"#/definitions/{definition}"}


def complaints(loaded: Json, folder: Path) -> list[str]:
    """What the schemas have against a dashboard: the whole, then options and fields of each panel, and each query."""
    found: list[str] = []

    def check(what: str, part: object, name: str, definition: str) -> None:
        validator = jsonschema.Draft7Validator(_schema(folder, name, definition))
        found.extend(f"{what}: {'.'.join(map(str, one.path))}: {one.message}" for one in validator.iter_errors(part))

    check("dashboard", loaded, "dashboard", "Dashboard")
    for panel in panels(loaded):
        kind = panel["type"].replace("-", "")
        check(f"{panel['title']}: options", panel["options"], kind, "Options")
        custom = panel["fieldConfig"]["defaults"].get("custom")
        if custom:
            check(f"{panel['title']}: fields", custom, kind, "FieldConfig")
        for target in panel["targets"]:
            check(f"{panel['title']}: query", target, "prometheus", "Dataquery")
    return found


@EVERY_BOARD
def test_the_schemas_have_nothing_against_it(path: Path) -> None:
    assert complaints(load(path), _schemas()) == []


@pytest.mark.parametrize(
    ("where", "key", "value"),
    [
        (("panels", 0), "tittle", "x"),
        (("panels", 0, "options"), "showHeadr", True),
        (("panels", 0, "targets", 0), "instantt", True),
        (("panels", 0, "gridPos"), "w", "wide"),
        ((), "editable", "no"),
    ],
)
def test_the_schemas_would_have_something_against_a_mistake(
    where: tuple[str | int, ...], key: str, value: object
) -> None:
    broken: Any = copy.deepcopy(load(FOLDER / "overview.json"))
    part = broken
    for step in where:
        part = part[step]
    part[key] = value
    assert complaints(broken, _schemas()) != []
