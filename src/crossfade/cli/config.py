"""`crossfade config show`: every setting as it is in force, and with `--origin` where it came from.

Refuses to know what settings mean. The invariant: no secret is shown; a connection string only without what libpq
itself shows as stars.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import orjson

from crossfade.cli import exits
from crossfade.session.dsn import masked
from crossfade.settings import Shown, explain_settings

SCHEMA_VERSION: Final = 1


def show(config: Path, *, origin: bool, json_output: bool) -> int:
    """One line for each setting; raises Misconfigured as every command does."""
    shown = masked_settings(explain_settings(config))
    if json_output:
        sys.stdout.write(document(shown).decode() + "\n")
        return exits.DONE
    width = max(len(each.key) for each in shown)
    values = max(len(each.value) for each in shown if not each.is_secret)
    for each in shown:
        line = f"{each.key:<{width}}  {each.value}"
        exits.say(f"{line:<{width + 2 + values}}  {each.origin}" if origin else line)
    return exits.DONE


def document(shown: list[Shown]) -> bytes:
    """The JSON form, for scripts; `schema_version` moves when a key changes its meaning."""
    return orjson.dumps(
        {
            "schema_version": SCHEMA_VERSION,
            "settings": [{"key": each.key, "value": each.value, "origin": each.origin} for each in shown],
        },
        option=orjson.OPT_INDENT_2,
    )


def masked_settings(shown: Iterable[Shown]) -> list[Shown]:
    """The same with stars in place of what is secret."""
    return [Shown(each.key, masked(each.value), each.origin, True) if each.is_secret else each for each in shown]
