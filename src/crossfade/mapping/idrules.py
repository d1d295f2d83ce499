"""Rules for ids that stand inside a value, or whose keyspace another column names.

`Remap` (in `plan`) is for a column that holds one id of one keyspace. Here are arrays of ids, ids inside json and jsonb
by path, and polymorphic pairs. Refuses to know columns and types, as `rules` does. The invariant: a rule names every
keyspace that a value of its column may hold ids of, so that nobody looks for another.
"""

from __future__ import annotations

import enum
import json
import re
from dataclasses import dataclass
from typing import Final

WILDCARD: Final = -1
"""In a path, every element of an array."""

Step = str | int
"""A member of an object by its name, or an element of an array by its number, counted from 0."""


@dataclass(frozen=True, slots=True)
class RemapArray:
    """An array whose every element is an id."""

    keyspace: str


@dataclass(frozen=True, slots=True)
class IdPath:
    """Where a document holds ids of a keyspace. `path` as written, `steps` what it means."""

    keyspace: str
    path: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class RemapPaths:
    """Ids inside json or jsonb; everything else of the document stays as it is."""

    parts: tuple[IdPath, ...]


class OtherOwner(enum.Enum):
    """What becomes of an id whose type column names no keyspace."""

    KEEP = "keep"
    ERROR = "error"
    NULL = "null"


@dataclass(frozen=True, slots=True)
class RemapBy:
    """A polymorphic reference: the source column `by` says of which keyspace the id is.

    In a plan, the first of each pair is spelled as the source prints it (`spellings`).
    """

    by: str
    of: tuple[tuple[str, str], ...]
    otherwise: OtherOwner


InnerIds = RemapArray | RemapPaths | RemapBy


def keyspaces_in(rule: object) -> tuple[str, ...]:
    """The keyspaces such a rule takes ids of; none for every other rule."""
    match rule:
        case RemapArray(keyspace):
            return (keyspace,)
        case RemapPaths(parts):
            return tuple(dict.fromkeys(part.keyspace for part in parts))
        case RemapBy(_, of):
            return tuple(dict.fromkeys(keyspace for _, keyspace in of))
        case _:
            return ()


_STEP: Final = re.compile(r'\.([A-Za-z_][A-Za-z0-9_]*)|\.("(?:[^"\\]|\\.)*")|\[(\*|[0-9]{1,9})\]')


def parsed_path(text: str) -> tuple[Step, ...] | None:
    """`$.items[*].owner` in steps; None for what is no such path. Of SQL's paths these are the plain ones: members,
    elements by number, all elements."""
    if not text.startswith("$"):
        return None
    steps: list[Step] = []
    at = 1
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None:
            return None
        name, quoted, element = match.groups()
        try:
            steps.append(name or (json.loads(quoted) if quoted else WILDCARD if element == "*" else int(element)))
        except ValueError:
            return None
        at = match.end()
    return tuple(steps)
