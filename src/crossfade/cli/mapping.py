"""`crossfade mapping diff`: what differs between two mappings, and what that means for a workflow that runs.

Refuses to judge. The invariant: it changes nothing, and its exit code is the one `run` would refuse with or not.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Final

import orjson

from crossfade.cli import exits
from crossfade.faults import Refused
from crossfade.mapping.changes import Changes
from crossfade.mapping.effects import Effect
from crossfade.mapping.load import load_mapping, parse_mapping
from crossfade.mapping.spec import Spec
from crossfade.mapping.specchanges import between_specs
from crossfade.session.connect import TARGET, connect
from crossfade.settings import Settings, load_settings
from crossfade.state import mappings
from crossfade.state.schema import exists

SCHEMA_VERSION: Final = 1


def diff(config: Path, old: Path | None, new: Path | None, *, offline: bool, json_output: bool) -> int:
    """Compare `old` with `new`; without `old` the mapping in progress, without `new` the configured one.

    0 when all of it is free, 3 when it is not.
    """
    settings = None if offline and old is not None and new is not None else load_settings(config)
    after = load_mapping(new if new is not None else _configured(settings))
    before = load_mapping(old) if old is not None else asyncio.run(_in_progress(_given(settings)))
    refused = ""
    if settings is None or offline:
        changes, compared = between_specs(before, after), "mappings"
    else:
        # The driver and the daemon's room come with it.
        from crossfade.runtime.remapping import compare

        found = asyncio.run(compare(settings, before, after))
        changes, refused = found.changes, found.refused
        compared = "mappings" if refused else "catalogs"
    if json_output:
        sys.stdout.write(document(changes, compared, refused).decode() + "\n")
    else:
        for line in changes.lines():
            exits.say(line)
        if compared == "mappings" and changes.all:
            because = f" ({refused})" if refused else ""
            exits.tell(f"Compared by what the mappings say alone{because}: against the databases, more may be free.")
    return exits.DONE if changes.effect is Effect.FREE else exits.NO


def document(changes: Changes, compared: str, refused: str) -> bytes:
    """The JSON form, for scripts; `schema_version` moves when a key changes its meaning."""
    return orjson.dumps(
        {
            "schema_version": SCHEMA_VERSION,
            "effect": changes.effect.value if changes.all else "none",
            "compared": compared,
            "not_compiled": refused or None,
            "tables": [str(name) for name in changes.tables],
            "changes": [
                {
                    "effect": change.effect.value,
                    "subject": change.subject,
                    "sentence": change.sentence,
                    "tables": [str(name) for name in change.tables],
                }
                for change in changes.all
            ],
        },
        option=orjson.OPT_INDENT_2,
    )


def _given(settings: Settings | None) -> Settings:
    assert settings is not None, "read unless both files were named"
    return settings


def _configured(settings: Settings | None) -> Path:
    return _given(settings).mapping


async def _in_progress(settings: Settings) -> Spec:
    """The mapping the workflow runs with, from the target."""
    target = await connect(
        settings.target.dsn.get_secret_value(), purpose="mapping", endpoint="target", settings=TARGET
    )
    try:
        text = await mappings.current(target, settings.name) if await exists(target) else None
    finally:
        await target.close()
    if text is None:
        raise Refused(
            "There is no mapping in progress: this workflow never began, or did so with a version that kept no text.",
            where=f"workflow {settings.name}",
            do="Name the old mapping: crossfade mapping diff OLD NEW.",
        )
    return parse_mapping(text, "in progress")
