"""Ids inside json and jsonb, found by path: where they stand in the text, so that all around them stays as it is.

Refuses to know what becomes of them. The invariant: no part of a document is parsed but what lies on a path, and
nothing is ever printed anew; a value on a path that cannot be an id is refused and not shown (promise 6).

PostgreSQL: datatype-json; RFC 8259.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from crossfade.faults import ProtocolViolation, RowRefused
from crossfade.mapping.idrules import WILDCARD, Step

_SPACE: Final = re.compile(rb"[ \t\r\n]*")
_NEEDS_ESCAPE: Final = re.compile(rb'[\x00-\x1f"\\]')
_SPACES: Final = (b" ", b"\t", b"\r", b"\n")
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_SCALAR: Final = re.compile(rb"[^\s,\[\]{}\":]+")
_STRUCTURE: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_INTEGER: Final = re.compile(rb"-?[0-9]+")

Wanted = Sequence[tuple[Sequence[Step], str]]
"""What is left of each path, and its keyspace."""


class Found(NamedTuple):
    """An id: its bytes are [start, stop) of the document, quotes included; `value` is what they say."""

    start: int
    stop: int
    keyspace: str
    value: bytes
    is_number: bool


def find(document: bytes, start: int, wanted: Wanted) -> list[Found]:
    """The ids of a document that begins at `start`, in the order in which they stand there.

    Paths that lead nowhere find nothing, and null is no id. Raises RowRefused, and ProtocolViolation for what is no
    document.
    """
    found: list[Found] = []
    end = _value(document, _space(document, start), wanted, found)
    if _space(document, end) != len(document):
        raise _violation()
    return found


def quoted(value: bytes) -> bytes:
    """As a string of a document."""
    if _NEEDS_ESCAPE.search(value) is None:
        return b'"' + value + b'"'
    return json.dumps(value.decode(), ensure_ascii=False).encode()


def _value(document: bytes, at: int, wanted: Wanted, found: list[Found]) -> int:
    """Look at the value that begins at `at`; returns where it ends."""
    here = [keyspace for steps, keyspace in wanted if not steps]
    first = document[at : at + 1]
    if here:
        stop = _skipped(document, at)
        _take(document, at, stop, here[0], found)
        return stop
    if not wanted or (first != b"{" and first != b"["):
        return _skipped(document, at)
    return _object(document, at, wanted, found) if first == b"{" else _array(document, at, wanted, found)


def _object(document: bytes, at: int, wanted: Wanted, found: list[Found]) -> int:
    at = _space(document, at + 1)
    if document[at : at + 1] == b"}":
        return at + 1
    while True:
        name = _STRING.match(document, at)
        if name is None:
            raise _violation()
        at = _space(document, name.end())
        if document[at : at + 1] != b":":
            raise _violation()
        member = _name(name[0])
        below = [(steps[1:], keyspace) for steps, keyspace in wanted if steps[0] == member]
        at = _space(document, at + 1)
        at = _space(document, _value(document, at, below, found) if below else _skipped(document, at))
        if document[at : at + 1] == b"}":
            return at + 1
        if document[at : at + 1] != b",":
            raise _violation()
        at = _space(document, at + 1)


def _array(document: bytes, at: int, wanted: Wanted, found: list[Found]) -> int:
    at = _space(document, at + 1)
    if document[at : at + 1] == b"]":
        return at + 1
    number = 0
    while True:
        below = [(steps[1:], keyspace) for steps, keyspace in wanted if steps[0] in (WILDCARD, number)]
        at = _space(document, _value(document, at, below, found))
        number += 1
        if document[at : at + 1] == b"]":
            return at + 1
        if document[at : at + 1] != b",":
            raise _violation()
        at = _space(document, at + 1)


def _take(document: bytes, start: int, stop: int, keyspace: str, found: list[Found]) -> None:
    token = document[start:stop]
    if token == b"null":
        return
    if token[:1] == b'"':
        found.append(Found(start, stop, keyspace, _text(token).encode(), is_number=False))
    elif _INTEGER.fullmatch(token) is not None:
        found.append(Found(start, stop, keyspace, token, is_number=True))
    else:
        raise RowRefused(
            "A document has something else than an id where the mapping's path says that one is.",
            means="Nothing of this transaction was applied; the slot keeps it.",
            do="Correct the path in the mapping: it must lead to texts, whole numbers or null.",
        )


def _skipped(document: bytes, at: int) -> int:
    """Where the value that begins at `at` ends."""
    first = document[at : at + 1]
    if first == b'"':
        match = _STRING.match(document, at)
    elif first in (b"{", b"["):
        depth = 0
        for part in _STRUCTURE.finditer(document, at):
            if part[0] in (b"{", b"["):
                depth += 1
            elif part[0] in (b"}", b"]"):
                depth -= 1
                if depth == 0:
                    return part.end()
        raise _violation()
    else:
        match = _SCALAR.match(document, at)
    if match is None:
        raise _violation()
    return match.end()


@lru_cache(maxsize=4096)
def _name(token: bytes) -> str:
    """A member's name: there are few of them, in many documents."""
    return _text(token)


def _text(token: bytes) -> str:
    """What a string of the document says. Half a character, which json may hold, is none that an id or a path has."""
    try:
        said: str = json.loads(token, strict=False)
        said.encode()
    except ValueError:
        return "\ufffd"
    return said


def _space(document: bytes, at: int) -> int:
    if document[at : at + 1] not in _SPACES:
        return at
    match = _SPACE.match(document, at)
    assert match is not None, "no space is a match, too"
    return match.end()


def _violation() -> ProtocolViolation:
    return ProtocolViolation("A document that is no JSON.", tag="(value)", offset=0)
