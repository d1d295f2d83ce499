"""The runbooks: a page for each alert, in one form, with commands that exist and metrics that are scraped."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from crossfade.cli.commands import app
from crossfade.telemetry.metrics import Metrics
from tests.unit.deploy import rules

PAGES = sorted(path for path in rules.RUNBOOKS.glob("Crossfade*.md"))
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
SECTIONS = ["What it means", "What to look at", "What to do", "When to call somebody else"]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def commands() -> Iterator[tuple[str, str]]:
    for page in [*PAGES, rules.RUNBOOKS / "README.md"]:
        for block in blocks(page, "console"):
            for line in block.splitlines():
                if line.startswith("$ crossfade "):
                    yield page.stem, line.removeprefix("$ crossfade ").partition(";")[0]


def test_there_is_a_page_for_each_alert_and_no_other() -> None:
    assert {page.stem for page in PAGES} == set(rules.names())


def test_the_index_lists_each_with_its_severity() -> None:
    listed = re.findall(
        r"^\| \[(\w+)\]\((\w+)\.md\) \| ([a-z, ]+) \|", (rules.RUNBOOKS / "README.md").read_text(), re.MULTILINE
    )
    severities: dict[str, set[str]] = {}
    for rule in rules.alerts():
        severities.setdefault(rule.name, set()).add(rule.severity)
    assert {name: set(severity.split(", ")) for name, _, severity in listed} == severities
    assert all(name == page for name, page, _ in listed)


@EVERY_PAGE
def test_a_page_has_the_form_one_can_find_one_s_way_in(page: Path) -> None:
    text = page.read_text()
    assert text.startswith(f"# {page.stem}\n\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    severities = {rule.severity for rule in rules.alerts() if rule.name == page.stem}
    opening = text.partition("\n## ")[0].lower()
    assert all(severity in opening for severity in severities), "the first lines say how bad it is"
    assert blocks(page, "console") or blocks(page, "sql"), "nothing to look at"


@EVERY_PAGE
def test_a_page_names_the_labels_that_tell_rules_apart(page: Path) -> None:
    for rule in rules.alerts():
        if rule.name == page.stem and "cause" in rule.labels:
            assert f'cause="{rule.labels["cause"]}"' in page.read_text()


@pytest.mark.parametrize(("page", "line"), sorted(set(commands())))
def test_a_command_is_one_the_program_takes(page: str, line: str) -> None:
    name, *arguments = shlex.split(line)
    group = typer.main.get_command(app)
    assert isinstance(group, click.Group) or hasattr(group, "commands")
    command = group.commands[name]
    context = command.make_context(name, arguments, resilient_parsing=False)
    assert context.params


@EVERY_PAGE
def test_a_page_names_metrics_that_exist(page: Path) -> None:
    suffixes = {"counter": ["_total"], "histogram": ["", "_sum", "_count", "_bucket"], "info": ["_info"]}
    scraped = {
        family.name + suffix
        for family in Metrics("runbooks").registry.collect()
        for suffix in suffixes.get(family.type, [""])
    }
    named = {
        selector.metric
        for query in [*blocks(page, "promql"), *re.findall(r"`(crossfade_\w+)", page.read_text())]
        for selector in rules.selectors(query)
    }
    assert named <= scraped | set(rules.recorded())


@EVERY_PAGE
def test_sql_says_where_it_is_to_be_run(page: Path) -> None:
    for block in blocks(page, "sql"):
        assert re.match(r"-- (source|target)(, PostgreSQL \d+ and newer)?\n", block), block


def test_placeholders_are_few() -> None:
    """A command somebody has to complete at night is one somebody gets wrong."""
    found = {text for page in PAGES for block in blocks(page, "sql") for text in re.findall(r"<\w+>", block)}
    assert found == {"<pid>"}
