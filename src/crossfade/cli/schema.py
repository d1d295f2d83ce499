"""`crossfade schema`: the JSON Schemas of both files, for editors and reviews, of the version that is installed.

Refuses to know where an editor looks for them. The invariant: what it prints is what docs/schema holds.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import orjson
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from crossfade.cli import exits
from crossfade.draft.mappingschema import mapping_schema
from crossfade.settings import DURATION_PATTERN, Settings

MAPPING: Final = "mapping"
CONFIGURATION: Final = "configuration"
MAPPING_FILE: Final = "mapping.schema.json"
CONFIGURATION_FILE: Final = "crossfade.schema.json"


def schema(which: str) -> int:
    """Print one of the two."""
    sys.stdout.write(schema_text(which))
    return exits.DONE


def schema_text(which: str) -> str:
    """The JSON text, keys in their order, ending in a newline."""
    found = mapping_schema() if which == MAPPING else configuration_schema()
    return orjson.dumps(found, option=orjson.OPT_INDENT_2).decode() + "\n"


class _Generator(GenerateJsonSchema):
    """Durations as they are written here, and no key required: environment and secret files may give it."""

    schema_dialect = "http://json-schema.org/draft-07/schema#"

    def timedelta_schema(self, _schema: core_schema.TimedeltaSchema) -> JsonSchemaValue:
        return {"type": "string", "pattern": f"^{DURATION_PATTERN}$", "examples": ["500ms", "30s", "10m", "6h"]}

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Defaults are in docs/operations.md; here they would be in Python's words (PT20S)."""
        return self.generate_inner(schema["schema"])


_BOUNDS: Final = {"ge": "minimum", "le": "maximum"}


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Without what pydantic adds for itself: titles made of names, bounds in its own words."""
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _BOUNDS:
            if schema.get("type") == "integer":
                found[_BOUNDS[key]] = value
        elif key == "properties":
            found[key] = {name: _plain(each) for name, each in value.items()}
        elif key == "description":
            found[key] = " ".join(value.split())
        elif key == "definitions":
            found[key] = {name: _plain(each) for name, each in value.items()}
        elif key != "title":
            found[key] = (
                [_plain(each) if isinstance(each, dict) else each for each in value] if key == "anyOf" else value
            )
    return found


def configuration_schema() -> dict[str, Any]:
    """The settings' models as a JSON Schema."""
    found = Settings.model_json_schema(by_alias=True, schema_generator=_Generator, ref_template="#/definitions/{model}")
    found.pop("$schema", None)
    found["definitions"] = found.pop("$defs", {})
    for each in (found, *found["definitions"].values()):
        each.pop("required", None)
    return {
        "$schema": _Generator.schema_dialect,
        **_plain(found),
        "title": "crossfade configuration",
        "description": "crossfade.toml: from where, to where, and how. See docs/operations.md.",
    }
