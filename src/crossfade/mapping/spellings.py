"""Values that somebody wrote into the mapping, compared with the column they are meant for.

A constant, the values of a value map: does the column's type read it? A value map's keys: how does the server print
that very value? Refuses to know rules and rows. The invariant: what is called unfit could never be stored, or never
come; what cannot be told here is left to the server, except for keys, which must be told exactly or not at all.
"""

from __future__ import annotations

import re
import struct
import uuid
from datetime import date
from decimal import Decimal, localcontext
from typing import Final

from crossfade.catalog import Column
from crossfade.mapping.conversions import CHAR, NUMERIC, TEXT, VARCHAR, length_limit, precision_and_scale

_INTEGER_BITS: Final = {"smallint": 15, "integer": 31, "bigint": 63}
_INTEGER: Final = re.compile(r"\s*[-+]?[0-9]{1,19}\s*")
_NUMBER: Final = re.compile(r"\s*[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,6})?\s*")
_SPECIAL: Final = re.compile(r"\s*(?:[-+]?inf(?:inity)?|nan)\s*", re.IGNORECASE)
_TRUE: Final = re.compile(r"t|tr|tru|true|y|ye|yes|on|1", re.IGNORECASE)
_FALSE: Final = re.compile(r"f|fa|fal|fals|false|n|no|of|off|0", re.IGNORECASE)
_LARGEST_EXPONENT: Final = 131_072  # digits numeric has before its point


def unfit(text: str, target: Column) -> str:
    """Why the column cannot hold the value, to be put after "it"; '' when it may."""
    if target.type_kind == "e" and target.labels and text not in target.labels:
        return f"is no label of {target.type_name}"
    if target.type_kind != "b":
        return ""
    limit = length_limit(target)
    if limit is not None and len(text.rstrip(" ")) > limit:
        return f"is longer than {target.type_name}"
    match target.base_type:
        case "smallint" | "integer" | "bigint" as name:
            reads = _INTEGER.fullmatch(text) is not None and -(1 << _INTEGER_BITS[name]) <= int(text) < (
                1 << _INTEGER_BITS[name]
            )
        case "numeric":
            reads = _SPECIAL.fullmatch(text) is not None or (
                _NUMBER.fullmatch(text) is not None and _is_numeric(text.strip(), target)
            )
        case "real" | "double precision" as name:
            reads = _SPECIAL.fullmatch(text) is not None or (
                _NUMBER.fullmatch(text) is not None and _is_float(text, is_double=name == "double precision")
            )
        case "boolean":
            reads = _truth(text) is not None
        case "uuid":
            reads = _uuid(text) is not None
        case _:
            reads = True
    return "" if reads else f"is no {target.type_name}"


def printed(text: str, source: Column) -> str | None:
    """How the source prints the value that `text` is meant to be; None for what is no value of the column's type.

    Raises `ValueError` for a type whose values cannot be told apart by their text.
    """
    if source.type_kind == "e":
        return text if text in source.labels else None
    if source.type_kind != "b":
        raise ValueError(source.type_name)
    match source.base_type:
        case "smallint" | "integer" | "bigint":
            return None if unfit(text, source) else str(int(text))
        case "boolean":
            truth = _truth(text)
            return None if truth is None else "t" if truth else "f"
        case "uuid":
            return _uuid(text)
        case "date":
            try:
                return str(date.fromisoformat(text))
            except ValueError:
                return None
        case kind if kind == NUMERIC:
            return _numeric(text, source)
        case kind if kind in {TEXT, VARCHAR}:
            limit = length_limit(source)
            return None if limit is not None and len(text) > limit else text
        case kind if kind == CHAR and (limit := length_limit(source)) is not None:
            return None if len(text.rstrip(" ")) > limit else text.rstrip(" ").ljust(limit)
        case _:
            raise ValueError(source.type_name)


def _truth(text: str) -> bool | None:
    if _TRUE.fullmatch(text.strip()) is not None:
        return True
    return False if _FALSE.fullmatch(text.strip()) is not None else None


def _uuid(text: str) -> str | None:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return None


def _numeric(text: str, source: Column) -> str | None:
    bounds = precision_and_scale(source)
    if bounds is None or bounds[1] < 0:
        raise ValueError(source.type_name)  # 1 and 1.00 are the same and print differently
    if _NUMBER.fullmatch(text) is None or unfit(text, source):
        return None
    with localcontext() as context:
        context.prec = 2_000  # more than numeric(p, s) can declare
        value = Decimal(text.strip())
        shown = value.quantize(Decimal(1).scaleb(-bounds[1]))
        return f"{abs(shown) if shown == 0 else shown:f}" if shown == value else None


def _is_numeric(text: str, target: Column) -> bool:
    """Not too large: numeric(p, s) has p - s digits before its point; decimals beyond s are rounded, as in all SQL."""
    value = Decimal(text)
    if value == 0:
        return True
    bounds = precision_and_scale(target)
    return value.adjusted() < (_LARGEST_EXPONENT if bounds is None else bounds[0] - bounds[1])


def _is_float(text: str, *, is_double: bool) -> bool:
    """Neither too large nor, unless it is 0, too small: the server refuses both."""
    value = float(text)
    try:
        stored = value if is_double else struct.unpack("!f", struct.pack("!f", value))[0]
    except OverflowError:
        return False
    return stored not in {float("inf"), float("-inf")} and (stored != 0 or Decimal(text.strip()) == 0)
