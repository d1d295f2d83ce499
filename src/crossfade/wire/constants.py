"""A mapping's constant as the binary form of its target type, where that can be said without asking the server.

A constant is written as text for the target type's input function, which takes more spellings than anybody would list
('now', '1e3', ' yes '). Refuses to guess: what is not a plain spelling of a type known here has no binary form, and
keeps its stream in text (`form`). The invariant: the receive function makes of these bytes what the input function
makes of the text.

PostgreSQL: the send and receive functions of each type.
"""

from __future__ import annotations

import re
import uuid
from datetime import date
from struct import Struct
from typing import Final

from crossfade.catalog import Column

_BOOLEANS: Final = {"true": b"\1", "t": b"\1", "false": b"\0", "f": b"\0"}
_INTEGER: Final = re.compile(r"-?[0-9]{1,19}")
_REAL: Final = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NUMERIC: Final = re.compile(r"(-?)([0-9]{1,100})(?:\.([0-9]{1,100}))?")
_WIDTHS: Final = {"smallint": 2, "integer": 4, "bigint": 8}
_TEXTS: Final = frozenset({"text", "character varying", "json", "citext"})
_EPOCH: Final = date(2000, 1, 1).toordinal()
_NUMERIC_HEADER: Final = Struct("!hhHh")


def binary_constant(text: str, target: Column) -> bytes | None:
    """The bytes of `text` as a value of the target column's type; None when they cannot be told here."""
    kind = target.base_type
    if target.type_kind == "e":
        return text.encode()
    if target.type_kind != "b":
        return None
    if kind in _TEXTS:
        return text.encode()
    if kind == "jsonb":
        return b"\1" + text.encode()
    if kind == "boolean":
        return _BOOLEANS.get(text)
    if kind in _WIDTHS and _INTEGER.fullmatch(text):
        try:
            return int(text).to_bytes(_WIDTHS[kind], "big", signed=True)
        except OverflowError:
            return None
    if kind == "double precision" and _REAL.fullmatch(text):
        return Struct("!d").pack(float(text))
    if kind == "uuid" and _UUID.fullmatch(text):
        return uuid.UUID(text).bytes
    if kind == "date" and _DATE.fullmatch(text):
        try:
            return (date.fromisoformat(text).toordinal() - _EPOCH).to_bytes(4, "big", signed=True)
        except ValueError:
            return None
    if kind == "numeric" and target.typmod < 0:
        return _numeric(text)
    return None


def _numeric(text: str) -> bytes | None:
    """numeric_send(): digits to the base of 10,000, the first one's weight, the sign, and the digits shown."""
    match = _NUMERIC.fullmatch(text)
    if match is None:
        return None
    sign, whole, fraction = match.groups(default="")
    padded = whole.zfill(-(-len(whole) // 4) * 4) + fraction.ljust(-(-len(fraction) // 4) * 4, "0")
    digits = [int(padded[at : at + 4]) for at in range(0, len(padded), 4)]
    weight = -(-len(whole) // 4) - 1
    while digits and digits[0] == 0:
        del digits[0]
        weight -= 1
    while digits and digits[-1] == 0:
        digits.pop()
    if not digits:
        weight, sign = 0, ""
    header = _NUMERIC_HEADER.pack(len(digits), weight, 0x4000 if sign else 0, len(fraction))
    return header + b"".join(digit.to_bytes(2, "big") for digit in digits)
