"""The JSON Schemas for editors: committed as they are generated, and of one mind with the readers of both files."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from crossfade.cli.schema import CONFIGURATION, MAPPING, configuration_schema, schema_text
from crossfade.draft.mappingschema import mapping_schema
from crossfade.draft.proposal import draft
from crossfade.draft.write import mapping_text
from crossfade.faults import Misconfigured
from crossfade.mapping import load, loadcolumns, loadids
from crossfade.mapping.load import parse_mapping
from crossfade.mapping.places import Report
from crossfade.mapping.tree import Block, Listing, Node, Scalar, read_tree
from crossfade.settings import Settings, load_settings
from tests.drafts.ddl import LEGACY, NEW, read_ddl
from tests.schemas import FILES, FOLDER
from tests.unit.mapping.test_load import WHOLE, WRONG
from tests.unit.test_documentation import _fragments, _whole

OF_MAPPING = Draft7Validator(mapping_schema())
OF_CONFIGURATION = Draft7Validator(configuration_schema())
ROOT = Path(__file__).parents[3]


def instance(text: str) -> Any:
    """The file as an editor sees it, or None where it is no YAML at all."""
    report = Report("mapping.yaml", text)
    root = read_tree(text, report)
    return None if root is None or report.problems else _plain(root)


def _plain(node: Node) -> Any:
    match node:
        case Scalar(value=value):
            return value
        case Listing(items=items):
            return [_plain(each) for each in items]
        case Block(entries=entries):
            return {entry.key: _plain(entry.value) for entry in entries}


@pytest.mark.parametrize("which", [MAPPING, CONFIGURATION])
def test_what_is_committed_is_what_is_generated(which: str) -> None:
    committed = (FOLDER / FILES[which]).read_text()
    assert committed == schema_text(which), "run `make schema`"
    Draft7Validator.check_schema(json.loads(committed))


VALID = [
    WHOLE,
    (ROOT / "config" / "mapping.yaml").read_text(),
    *(_whole(fragment) for fragment in _fragments()),
    mapping_text(draft(read_ddl(LEGACY), read_ddl(NEW))).replace('"?"', "UTC"),
]


@pytest.mark.parametrize("number", range(len(VALID)))
def test_what_the_reader_takes_is_valid(number: int) -> None:
    parse_mapping(VALID[number])
    assert [error.message for error in OF_MAPPING.iter_errors(instance(VALID[number]))] == []


# What no JSON Schema can say: it sees the file once, without its text, and knows no list of time zones.
BEYOND = (
    "this is not YAML",
    "anchors are not",
    "aliases are not",
    "tags are not",
    "is already given in line",
    "already given",
    "a NUL character",
    "two columns or more of one table",
    "is half a character",
    "the mapping is empty",
    "already has ids.",
    "there is no ids.",
    "there is no time zone",
    "NULL stays NULL in a value map",
    "the character U+",
    "a key must be a plain name",
    "nested too deeply",
    "it must be one expression",
    "that it does not close",
)


@pytest.mark.parametrize(("text", "message"), WRONG, ids=range(len(WRONG)))
def test_what_the_reader_refuses_is_marked_where_a_schema_can(text: str, message: str) -> None:
    seen = instance(text)
    if seen is None:
        return
    if any(words in message for words in BEYOND):
        return
    assert not OF_MAPPING.is_valid(seen), f"teach crossfade/draft/mappingschema.py, or list it in BEYOND: {message}"


def test_most_wrong_files_are_marked() -> None:
    marked = [text for text, _ in WRONG if (seen := instance(text)) is not None and not OF_MAPPING.is_valid(seen)]
    assert len(marked) >= 60


def test_a_blank_is_marked() -> None:
    text = mapping_text(draft(read_ddl(LEGACY), read_ddl(NEW)))
    assert not OF_MAPPING.is_valid(instance(text))
    with pytest.raises(Misconfigured):
        parse_mapping(text)


def test_the_schema_has_the_keys_of_the_grammar_and_no_other() -> None:
    schema: Any = mapping_schema()
    tables = schema["properties"]["tables"]["additionalProperties"]["properties"]
    column = schema["properties"]["tables"]["additionalProperties"]["properties"]["columns"]["additionalProperties"]
    assert set(schema["properties"]) == set(load._TOP)
    assert set(schema["properties"]["ids"]["additionalProperties"]["properties"]) == set(loadids.ID_KEYS)
    assert set(schema["properties"]["policies"]["properties"]) == set(load._POLICY_KEYS)
    assert set(tables) == set(load._TABLE_KEYS)
    block = next(each for each in column["oneOf"] if each["type"] == "object")
    assert set(block["properties"]) == set(loadcolumns.COLUMN_KEYS)


def test_every_key_says_what_it_is_for() -> None:
    def keys(schema: Any) -> list[tuple[str, Any]]:
        found = []
        if isinstance(schema, dict):
            properties = schema.get("properties", {}) if "if" not in schema or "description" in schema else {}
            found += list(properties.items())
            for name, each in schema.items():
                if name not in {"if", "then", "allOf"}:
                    found += keys(each)
        elif isinstance(schema, list):
            for each in schema:
                found += keys(each)
        return found

    assert [name for name, each in keys(mapping_schema()) if name != "const" and "description" not in each] == []


# -- the configuration


GOOD = [
    (ROOT / "config" / "crossfade.toml").read_text(),
    'name = "a"\n[source]\ndsn = "x"\n[target]\ndsn = "y"\n[stream]\nbatch_bytes = 4096\nstatus_interval = "500ms"\n',
    'name = "a"\n[source]\ndsn = "x"\n[target]\ndsn = "y"\n[http]\nlisten = ""\n[copy]\nworkers = 64\n',
    'name = "a"\n[source]\ndsn = "x"\n[target]\ndsn = "y"\n[http]\nlisten = "[::1]:80"\n[log]\nlevel = "debug"\n',
]
BAD = [
    "nmae = 'a'",
    "name = 'a b'",
    "[stream]\nslot = 'A'",
    "[stream]\nbatch = 1",
    "[stream]\nbatch_bytes = '4 MB'",
    "[stream]\nstatus_interval = '10'",
    "[stream]\nstatus_interval = 10",
    "[stream]\napply = 'slow'",
    "[copy]\nworkers = 0",
    "[copy]\nworkers = 65",
    "[copy]\nlock_yield = 3",
    "[http]\nlisten = 'here'",
    "[log]\nlevel = 'loud'",
    "[stop]\ndeadline = 'soon'",
    "stop = 5",
    "[source]\nurl = 'x'",
]


@pytest.mark.parametrize("number", range(len(GOOD)))
def test_what_the_settings_take_is_valid(number: int, tmp_path: Path) -> None:
    path = tmp_path / "crossfade.toml"
    path.write_text(GOOD[number])
    load_settings(path, environment={}, run_secrets=tmp_path / "none")
    assert [error.message for error in OF_CONFIGURATION.iter_errors(tomllib.loads(GOOD[number]))] == []


@pytest.mark.parametrize("text", BAD)
def test_what_the_settings_refuse_is_marked(text: str, tmp_path: Path) -> None:
    path = tmp_path / "crossfade.toml"
    sections = "".join(f"{section}.dsn = 'x'\n" for section in ("source", "target") if f"[{section}]" not in text)
    path.write_text(("name = 'n'\n" if not text.startswith("name") else "") + sections + text)
    with pytest.raises(Misconfigured):
        load_settings(path, environment={}, run_secrets=tmp_path / "none")
    assert not OF_CONFIGURATION.is_valid(tomllib.loads(path.read_text()))


def test_the_schema_has_every_setting() -> None:
    schema = configuration_schema()
    named = {re.sub(r".*/", "", each["$ref"]): key for key, each in schema["properties"].items() if "$ref" in each}
    for name, field in Settings.model_fields.items():
        assert (field.alias or name) in schema["properties"]
    assert {"Stream", "Copy", "Log"} <= set(named)


def test_the_shipped_files_name_their_schema() -> None:
    for name, which in (("mapping.yaml", MAPPING), ("crossfade.toml", CONFIGURATION)):
        head = (ROOT / "config" / name).read_text().splitlines()[0]
        assert head.endswith(f"../docs/schema/{FILES[which]}")
