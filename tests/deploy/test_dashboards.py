"""The dashboards on a real Prometheus that scrapes a real daemon under load, with the shipped rules: every query of
every panel answers with data, as Grafana would ask it, unless it is of a part that is named as not built."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.dashboards import asked
from tests.deploy import prometheus
from tests.deploy.running import Stack, hastened, running
from tests.deploy.stack import RULES
from tests.servers.daemon import environment
from tests.unit.deploy import promqlreading
from tests.unit.deploy.test_dashboards import NOT_BUILT

SCRAPE = 1  # seconds
STEP = 2


def sent(expr: str, span: int = 300) -> str:
    return asked.as_sent(expr, span=span, step=STEP, scrape=SCRAPE)


def may_be_empty(expr: str) -> bool:
    """It is of a part that is not built, or not of Prometheus' own time."""
    return any(selector.metric in NOT_BUILT for selector in promqlreading.read(sent(expr)).selectors)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack to which has happened what the panels show: a copy, live writes, a lost session, conflicts, a restart."""
    prometheus.prometheus(), prometheus.alertmanager()  # skips where they cannot be had
    folder = tmp_path_factory.mktemp("stack")
    arguments = ("--rows", "60000", "--interval", str(SCRAPE), "--rules", str(hastened(RULES, folder)))
    with running(folder, *arguments) as stack:
        stack.until(lambda: stack.value('crossfade_phase{phase="streaming"} == 1'), "streaming", 120)
        with psycopg.connect(stack.new, autocommit=True) as session:
            session.execute("SET session_replication_role = replica")
            session.execute("DELETE FROM app.orders")  # the shop goes on changing them: missing rows
            session.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'crossfade apply'"
            )
        stack.until(lambda: (stack.value("sum(crossfade_conflicts_total)") or 0) > 20, "conflicts")
        stack.until(lambda: stack.value("sum(crossfade_reconnects_total) > 0"), "a session made again")
        stack.until(lambda: stack.value("sum(crossfade_clock_notes_total) > 0"), "local times in a gap or an overlap")
        with _restarted(stack):
            stack.until(
                lambda: stack.value("changes(process_start_time_seconds[2m]) > 0"), "the daemon that follows", 60
            )
            stack.until(lambda: stack.value('crossfade_phase{phase="streaming"} == 1'), "streaming again", 60)
            stack.until(lambda: (stack.value("sum(crossfade_conflicts_total)") or 0) > 20, "conflicts")
            # Rates want two scrapes in their window, and single large batches want to have happened.
            time.sleep(10 * SCRAPE)
            yield stack


class _restarted:  # noqa: N801  # used as a function
    """The daemon killed, and another started in its place by its operator."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def __enter__(self) -> None:
        subprocess.run(["/bin/kill", "-9", str(self._stack.pid)], check=True)
        self._stack.until(lambda: "crossfade has ended" in self._stack.text(), "its end")
        with (self._stack.log.parent / "second.log").open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "crossfade.cli.main", "run"],
                env=environment(self._stack.exports),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(60)


def has_values(found: list[dict[str, Any]]) -> bool:
    """Whether any series has a number."""
    points = (point for series in found for point in series.get("values", [series.get("value", (0, "NaN"))]))
    return any(not math.isnan(float(value)) for _, value in points)


@pytest.mark.parametrize("each", asked.every_query(), ids=str)
def test_a_panel_has_data(stack: Stack, each: asked.Asked) -> None:
    now = time.time()
    expr = sent(each.expr)
    if each.is_instant:
        found = stack.ask("query", query=expr, time=now)["result"]
    else:
        found = stack.ask("query_range", query=expr, start=now - 300, end=now, step=STEP)["result"]
    if may_be_empty(each.expr):
        return  # it was understood, which is all there is to ask yet
    assert has_values(found), expr


@pytest.mark.parametrize("path", asked.FILES, ids=lambda path: path.stem)
def test_a_choice_has_something_to_choose(stack: Stack, path: Any) -> None:
    for variable in asked.load(path)["templating"]["list"]:
        if variable["type"] == "query":
            selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
            assert stack.ask(f"label/{label}/values", **{"match[]": sent(selector)}), variable["name"]


@pytest.mark.parametrize("path", asked.FILES, ids=lambda path: path.stem)
def test_a_mark_marks_something(stack: Stack, path: Any) -> None:
    now = time.time()
    for mark in asked.load(path)["annotations"]["list"]:
        found = stack.ask("query_range", query=sent(mark["expr"]), start=now - 300, end=now, step=mark["step"])
        assert has_values(found["result"]), mark["name"]
        titles = set(re.findall(r"\{\{(\w+)\}\}", mark["titleFormat"]))
        series = {label for one in found["result"] for label in one["metric"]}
        assert titles <= series, mark["name"]


def test_the_rules_work_on_what_is_scraped(stack: Stack) -> None:
    unwell = [
        f"{rule['name']}: {rule.get('lastError', rule['health'])}"
        for group in stack.ask("rules")["groups"]
        for rule in group["rules"]
        if rule["health"] != "ok"
    ]
    assert unwell == []
