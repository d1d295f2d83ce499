"""The documentation says what the code does: links resolve, metrics and settings are told, cases have their tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from pydantic import BaseModel

from crossfade.cli import exits
from crossfade.cli.commands import app
from crossfade.faults import Fault, Policy
from crossfade.mapping import load, loadcolumns, loadids
from crossfade.mapping.load import load_mapping, parse_mapping
from crossfade.settings import Settings, load_settings
from crossfade.telemetry.document import StatusDocument
from crossfade.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[2]
DOCS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")])
OPERATIONS = ROOT / "docs" / "operations.md"
MAPPING = ROOT / "docs" / "mapping.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CASES = re.compile(r"def test_((?:[A-K]\d+_(?:to_)?)+)")
_ROW = re.compile(r"^\| ([A-K]\d+) \| [^|]+ \| (`[^|]+`) \|$", re.MULTILINE)


def _without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def _anchors(path: Path) -> set[str]:
    """As common renderers make them of headings: lower case, words joined by hyphens, punctuation gone."""
    headings = re.findall(r"^#+ (.+)$", _without_code(path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _links() -> Iterator[tuple[Path, str]]:
    for path in DOCS:
        for link in _LINK.findall(_without_code(path.read_text())):
            if "://" not in link:
                yield path, link


@pytest.mark.parametrize(("path", "link"), [pytest.param(*one, id=f"{one[0].name}-{one[1]}") for one in _links()])
def test_links_resolve(path: Path, link: str) -> None:
    name, _, anchor = link.partition("#")
    to = (path.parent / name) if name else path
    assert to.exists(), f"{path.relative_to(ROOT)} links to {link}"
    if anchor:
        assert anchor in _anchors(to), f"{path.relative_to(ROOT)} links to {link}"


def _metric_names() -> set[str]:
    """As they are scraped: counters end in _total, infos in _info."""
    suffixes = {"counter": "_total", "info": "_info"}
    return {
        family.name + suffixes.get(family.type, "")
        for family in Metrics("documentation").registry.collect()
        if family.name.startswith("crossfade_")
    }


def test_every_metric_is_documented_and_no_other() -> None:
    documented = set(re.findall(r"^\| `(crossfade_\w+)` \|", OPERATIONS.read_text(), re.MULTILINE))
    assert documented == _metric_names()


def _setting_names() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            yield from (f"{field.alias or name}.{key}" for key in model.model_fields)
        else:
            yield name


def test_every_setting_is_documented_and_no_other() -> None:
    told: set[str] = set()
    for title in ("Settings", "Alerts without Prometheus"):
        section = OPERATIONS.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
        for first in re.findall(r"^\| (`[a-z_.]+`(?:, `[a-z_.]+`)*) \|", section, re.MULTILINE):
            told.update(re.findall(r"`([a-z_.]+)`", first))
    assert told == set(_setting_names())


def test_every_field_of_the_status_is_documented() -> None:
    section = OPERATIONS.read_text().partition("## The status document")[2].partition("\n## ")[0]
    first_column = " ".join(re.findall(r"^\|([^|]+)\|", section, re.MULTILINE))
    documented = {name.removesuffix("[]") for name in re.findall(r"`([a-z_]+(?:\[\])?)`", first_column)}
    assert documented == set(StatusDocument.__annotations__)


def test_every_http_path_is_documented() -> None:
    served = set(re.findall(r'add_get\("([^"]+)"', (ROOT / "src/crossfade/telemetry/http.py").read_text()))
    assert served
    section = OPERATIONS.read_text().partition("## HTTP")[2].partition("\n## ")[0]
    assert {path for path in served if f"`{path}`" not in section} == set()


@pytest.mark.parametrize("document", [ROOT / "README.md", OPERATIONS], ids=lambda path: path.name)
def test_every_exit_code_is_documented(document: Path) -> None:
    section = document.read_text().partition("## Exit codes")[2].partition("\n## ")[0]
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)}
    faults = {exits.code_of(type("_", (Fault,), {"policy": policy})("")) for policy in Policy}
    assert faults | {exits.DONE, exits.USAGE} <= documented


def test_only_commands_that_exist_are_shown() -> None:
    shown = {
        command
        for path in DOCS
        for block in re.findall(r"^```console\n(.*?)^```$", path.read_text(), re.DOTALL | re.MULTILINE)
        for command in re.findall(r"^\$ (?:\S*/)?crossfade ([a-z]+)", block, re.MULTILINE)
    }
    commands = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    commands |= {group.name or "" for group in app.registered_groups}
    assert {"check", "run", "status", "wait", "teardown"} <= shown <= commands


# -- what it says while it runs


def _calls(folder: str) -> Iterator[ast.Call]:
    for path in sorted((ROOT / "src/crossfade" / folder).rglob("*.py")):
        yield from (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def test_every_field_of_the_log_is_documented() -> None:
    said = {"info", "warning", "error", "debug", "say", "_rarely"}
    fields = {
        keyword.arg
        for folder in ("runtime", "telemetry")
        for call in _calls(folder)
        if _called(call) in said and (_called(call) == "_rarely" or "log" in ast.unparse(call.func))
        for keyword in call.keywords
        if keyword.arg not in (None, "exc_info")
    }
    section = OPERATIONS.read_text().partition("## Logs")[2].partition("\n## ")[0]
    documented = set(re.findall(r"`([a-z_]+)`", " ".join(re.findall(r"^\|([^|]+)\|", section, re.MULTILINE))))
    assert {"phase", "sqlstate", "repeated"} <= fields | {"repeated"}
    assert fields <= documented


def test_every_remark_has_its_name_in_the_documentation() -> None:
    named = {
        str(given.value)
        for call in _calls(".")
        if _called(call) == "Note"
        for given in [*call.args[:1], *(keyword.value for keyword in call.keywords if keyword.arg == "name")]
        if isinstance(given, ast.Constant)
    }
    assert len(named) > 15
    told = OPERATIONS.read_text().partition("## What the messages mean")[2].partition("\n## ")[0]
    assert {name for name in named if f"`{name}`" not in told} == set()


# -- the mapping


def test_the_mapping_of_the_readme_can_be_read() -> None:
    blocks = re.findall(r"^```yaml\n(version: 1.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1
    assert parse_mapping(blocks[0]).tables


_IDS = "ids: {user: {from: public.users.id, strategy: uuid7}, product: {from: public.products.id, strategy: uuid5}}\n"


def _whole(fragment: str) -> str:
    """A mapping around one example: a block of columns, a section of the file, or its skeleton."""
    if fragment.startswith("columns:"):
        indented = "".join(f"    {line}\n" for line in fragment.splitlines())
        return f"version: 1\n{_IDS}tables:\n  app.example:\n    from: public.example\n{indented}"
    text = fragment.replace("schemas: {} ", "schemas: {public: app} ")
    text = text if "version:" in text else f"version: 1\n{text}"
    return text if "schemas:" in text or "tables:" in text else f"{text}schemas: {{public: app}}\n"


def _fragments() -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```$", MAPPING.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(len(_fragments())))
def test_every_example_of_a_mapping_can_be_read(number: int) -> None:
    assert parse_mapping(_whole(_fragments()[number])).file


def test_every_word_of_the_mapping_is_documented() -> None:
    words = {*load._TOP, *loadids.ID_KEYS, *load._POLICY_KEYS, *load._TABLE_KEYS, *loadcolumns.COLUMN_KEYS}
    text = MAPPING.read_text()
    assert {word for word in words if re.search(rf"\b{word}\b", text) is None} == set()


def test_every_finding_named_in_the_mapping_s_documentation_exists() -> None:
    source = "".join(path.read_text() for path in (ROOT / "src/crossfade/mapping").glob("*.py"))
    named = {
        name
        for cell in re.findall(r"^\| ((?:`[a-z_]+`(?:, )?)+) \|", MAPPING.read_text(), re.MULTILINE)
        for name in re.findall(r"`([a-z]+_[a-z_]+)`", cell)
    }
    policies = {"missing_row", "source_column_added", "orphan_id", "on_error"}
    assert len(named) > 20
    assert {name for name in named - policies if f'"{name}"' not in source} == set()


def test_every_finding_named_in_the_documentation_of_check_exists() -> None:
    source = "".join(path.read_text() for path in (ROOT / "src/crossfade").rglob("*.py"))
    text = (ROOT / "docs" / "check.md").read_text()
    named = set(re.findall(r"\(?`([a-z]+(?:_[a-z]+)+)`", "\n".join(re.findall(r"^\|.*$", text, re.MULTILINE))))
    keys = {"schema_version", "exit_code", "source_free", "target_free", "max_slot_wal_keep_size", "wal_level"}
    assert len(named) > 25
    assert {name for name in named - keys if f'"{name}"' not in source} == set()


def test_the_shipped_configuration_can_be_read() -> None:
    settings = load_settings(ROOT / "config" / "crossfade.toml", environment={}, run_secrets=ROOT / "nowhere")
    assert load_mapping(settings.mapping).tables


# -- cases


def _expanded(head: str) -> Iterator[str]:
    """A1_A5_ is two cases, F2_to_F18_ all from one to the other."""
    parts = head.strip("_").split("_")
    for at, part in enumerate(parts):
        if part != "to":
            yield part
            continue
        first, last = parts[at - 1], parts[at + 1]
        yield from (f"{first[0]}{number}" for number in range(int(first[1:]) + 1, int(last[1:])))


@cache
def _cases_of(path: Path) -> frozenset[str]:
    return frozenset(case for head in _CASES.findall(path.read_text()) for case in _expanded(head))


def test_every_case_named_has_its_test_where_the_table_says() -> None:
    rows = _ROW.findall(ARCHITECTURE.read_text())
    assert len(rows) > 80
    wrong = []
    for case, files in rows:
        for name in re.findall(r"`([^`]+)`", files):
            path = ROOT / "tests" / name
            if not path.is_file() or case not in _cases_of(path):
                wrong.append(f"{case}: no test in tests/{name}")
    assert wrong == [], "correct the table at the end of docs/architecture.md"
