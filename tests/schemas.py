"""Writes docs/schema from the grammar and the settings: `make schema`. tests/unit/cli/test_schema.py compares."""

from __future__ import annotations

from pathlib import Path

from crossfade.cli.schema import CONFIGURATION, CONFIGURATION_FILE, MAPPING, MAPPING_FILE, schema_text

FOLDER = Path(__file__).parents[1] / "docs" / "schema"
FILES = {MAPPING: MAPPING_FILE, CONFIGURATION: CONFIGURATION_FILE}

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for which, name in FILES.items():
        (FOLDER / name).write_text(schema_text(which))
