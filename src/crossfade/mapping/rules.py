"""Rules that concern one value, beyond a plain copy: value maps and conversions that the daemon carries out.

`plan` lists them among all rules; `wire/rewrites` is what they do to bytes. Refuses to know columns and types: that
keys and values fit theirs, the compiler has seen to. The invariant: a rule says everything about what becomes of a
value, so that two equal rules make equal values.
"""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass

from crossfade.mapping.idrules import OtherOwner, RemapBy


class Otherwise(enum.Enum):
    """What becomes of a value that a value map does not name."""

    ERROR = "error"
    NULL = "null"
    CONST = "const"


@dataclass(frozen=True, slots=True)
class ValueMap:
    """One value for another, both as text; NULL stays NULL.

    In a plan, keys are spelled as the source prints them (`spellings`). `default` is the value of CONST.
    """

    values: tuple[tuple[str, str | None], ...]
    otherwise: Otherwise
    default: str | None = None

    @property
    def inverse(self) -> ValueMap | None:
        """The way back; None where two values become one, or one becomes NULL, and nobody could tell which it was."""
        back = tuple((new, old) for old, new in self.values if new is not None)
        if self.otherwise is not Otherwise.ERROR or len({new for new, _ in back}) < len(self.values):
            return None
        return ValueMap(back, Otherwise.ERROR)


class Conversion(enum.Enum):
    """What the daemon makes of a value where the target's input function would refuse its text, or misread it."""

    TRUTH = "truth"  # a number to a boolean: 0 and 1; lossy: whatever is not 0 is true
    NUMBER = "number"  # a boolean to 0 or 1
    WORD = "word"  # a boolean to true or false, as a cast to text makes it
    DAY = "day"  # a timestamp to its date; lossy: the time of day is cut off
    ROUNDED = "rounded"  # a number to the nearest integer, halves away from zero as numeric does
    ROUNDED_EVEN = "rounded_even"  # the same, halves to the even one as floating point does
    CUT = "cut"  # a text to its first characters
    UNPADDED = "unpadded"  # a char(n) without the spaces it is padded with
    BY_TARGET = "by_target"  # left to the target's type, which rounds


@dataclass(frozen=True, slots=True)
class Convert:
    """`is_lossy` says that the mapping allows values to lose something (`cast: lossy`); else such a row is refused.

    `limit` is the number of characters that CUT and UNPADDED leave, 0 for any.
    """

    conversion: Conversion
    is_lossy: bool = False
    limit: int = 0


@dataclass(frozen=True, slots=True)
class Within:
    """An integer, taken as it is where it lies in [lower, upper) (None: no bound). What lies outside is refused: where
    several sources are made into one table, those are the numbers of another (`shares`)."""

    lower: int | None
    upper: int | None


@dataclass(frozen=True, slots=True)
class Lossy:
    """`cast: lossy` as written; the compiler makes a Convert of it, by both types."""


@dataclass(frozen=True, slots=True)
class Sql:
    """`up` and `down` as written; the compiler makes an Expression of it, by what the target says of it."""

    up: str
    down: str | None = None


def is_one_to_one(rule: object) -> bool:
    """Whether two different values never become the same by it. (Local times do, and are told of apart.)"""
    match rule:
        case ValueMap():
            return rule.inverse is not None
        case Convert():
            return not rule.is_lossy
        case RemapBy(otherwise=otherwise):
            return otherwise is not OtherOwner.NULL
        case _:
            return True


def described(rule: object) -> list[object]:
    """A rule as JSON values, for hashes of what a mapping means."""
    assert dataclasses.is_dataclass(rule)
    return [type(rule).__name__, *(_plain(getattr(rule, field.name)) for field in dataclasses.fields(rule))]


def _plain(value: object) -> object:
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value):
        return described(value)
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
