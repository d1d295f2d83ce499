"""Names as the mapping file spells them, so that any name survives the way there and back.

Refuses to know what is named. The invariant: what is returned reads back as the text it was made of.
"""

from __future__ import annotations

import re
from typing import Final

from crossfade.catalog import TableName

_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(?:\.[A-Za-z_][A-Za-z0-9_$]*)*")
_NOT_TEXT: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off"})


def scalar(text: str) -> str:
    """A string as YAML reads it back, in a block or in braces: plain where that is safe, else in double quotes."""
    if _PLAIN.fullmatch(text) is not None and text.lower() not in _NOT_TEXT:
        return text
    return f'"{"".join(_escaped(character) for character in text)}"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if character.isprintable() else f"\\U{ord(character):08X}"


def dotted(name: TableName) -> str:
    """`schema.name` as the mapping's grammar reads it: a part with a dot or a quote stands in double quotes."""
    return ".".join(part(each) for each in name)


def pattern(name: TableName) -> str:
    """An entry of `exclude` for exactly this table."""
    return scalar(re.sub(r"([*?\[])", r"[\1]", str(name)))


def part(name: str) -> str:
    """One part of a dotted name: one that holds a dot or a quote stands in double quotes."""
    if "." in name or '"' in name:
        doubled = name.replace('"', '""')
        return f'"{doubled}"'
    return name
