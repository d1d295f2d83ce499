"""Array literals as the server prints them, element by element.

Refuses to know what the elements mean. The invariant: dimensions, braces and NULLs of a literal that is built anew are
those of the old one; what is no array literal is a `ProtocolViolation`.

PostgreSQL: arrays, "Array Input and Output Syntax".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from crossfade.faults import ProtocolViolation

_BOUNDS: Final = re.compile(rb"(?:\[-?\d+:-?\d+\])+=(?=\{)")
_TOKEN: Final = re.compile(rb'[{},]|"(?:[^"\\]|\\.)*"|[^{},"\\]+', re.DOTALL)
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
_PLAIN: Final = re.compile(rb"\{[0-9A-Za-z-]+(?:,[0-9A-Za-z-]+)*\}")
_BARE: Final = re.compile(rb"-?[0-9A-Za-z][0-9A-Za-z-]*")


def elements(literal: bytes) -> list[bytes | None]:
    """The elements of all dimensions, in their order; None is NULL."""
    plain = _plain(literal)
    if plain is not None:
        return [None if element == b"NULL" else element for element in plain]
    return [_value(token) for token in _tokens(literal) if token not in (b"{", b"}", b",")]


def rebuilt(literal: bytes, made: Callable[[bytes], bytes]) -> bytes:
    """The same literal with other elements; NULL stays NULL."""
    plain = _plain(literal)
    if plain is not None:
        return b"{" + b",".join([one if one == b"NULL" else _shown(made(one)) for one in plain]) + b"}"
    bounds = _BOUNDS.match(literal)
    out = [bounds[0]] if bounds is not None else []
    for token in _tokens(literal):
        value = None if token in (b"{", b"}", b",") else _value(token)
        out.append(token if value is None else _shown(made(value)))
    return b"".join(out)


def _plain(literal: bytes) -> list[bytes] | None:
    """The elements of what most arrays are: one dimension of numbers or uuids. None for everything else."""
    return literal[1:-1].split(b",") if _PLAIN.fullmatch(literal) is not None else None


def _tokens(literal: bytes) -> Iterator[bytes]:
    bounds = _BOUNDS.match(literal)
    at = bounds.end() if bounds is not None else 0
    if literal[at : at + 1] != b"{" or literal[-1:] != b"}":
        raise _violation()
    while at < len(literal):
        match = _TOKEN.match(literal, at)
        if match is None:
            raise _violation()
        yield match[0]
        at = match.end()


def _value(token: bytes) -> bytes | None:
    if token[:1] == b'"':
        return _ESCAPED.sub(rb"\1", token[1:-1])
    return None if token == b"NULL" else token


def _shown(value: bytes) -> bytes:
    if _BARE.fullmatch(value) is not None and value.upper() != b"NULL":
        return value
    return b'"' + value.replace(b"\\", rb"\\").replace(b'"', rb"\"") + b'"'


def _violation() -> ProtocolViolation:
    return ProtocolViolation("An array that is no array literal.", tag="(value)", offset=0)
