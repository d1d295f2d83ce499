"""Value maps and conversions of single values, in the form the stream travels in: bytes in, bytes or NULL out.

Compiled once per column; the exact path and the encoder of the fast one call the same function, as the copy does.
Refuses to know rows and columns around it. The invariant: a value the rule has no answer for is a `RowRefused` that
does not name it (promise 6); NULL and what was not sent never get here; and text comes out as the target's input
function reads it, binary as its receive function does.

PostgreSQL: datatype-boolean, datatype-datetime, datatype-numeric, datatype-character.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal, localcontext
from typing import Final

from crossfade.faults import ProtocolViolation, RowRefused
from crossfade.mapping.plan import ColumnPlan
from crossfade.mapping.rules import Conversion, Convert, Otherwise, ValueMap, Within
from crossfade.pgoutput.messages import Form
from crossfade.wire.constants import binary_constant

Rewrite = Callable[[bytes], bytes | None]

_DAY_US: Final = 86_400_000_000
_EARLIEST, _LATEST = -(2**63), 2**63 - 1  # the infinities of a timestamp
_TIMESTAMP: Final = re.compile(rb"(\d{4,6}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d{1,6})?)( BC)?")
_NUMBER: Final = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?")
_LARGEST_EXPONENT: Final = 400  # beyond any integer; a numeric may be written with 131,072 digits
_CONVERSIONS_IN_BINARY: Final = frozenset(
    {Conversion.TRUTH, Conversion.NUMBER, Conversion.WORD, Conversion.DAY, Conversion.CUT, Conversion.UNPADDED}
)
_INTEGER_WIDTHS: Final = {21: 2, 23: 4, 20: 8}


def rewriter(column: ColumnPlan, form: Form) -> Rewrite | None:
    """What is done to the column's values; None where a rule leaves them as they come.

    In binary only for columns that `text_only` lets pass.
    """
    match column.rule:
        case ValueMap() as rule:
            return _mapped(column, rule, form)
        case Within() as rule:
            return _within_text(rule) if form is Form.TEXT else _within_binary(rule, _width(column))
        case Convert(conversion, is_lossy, limit):
            is_text = form is Form.TEXT
            match conversion:
                case Conversion.TRUTH:
                    return (_truth_text if is_text else _truth_binary)(is_lossy=is_lossy)
                case Conversion.NUMBER:
                    return _number_text if is_text else _number_binary(_width(column))
                case Conversion.WORD:
                    return _word
                case Conversion.DAY:
                    return (_day_text if is_text else _day_binary)(is_lossy=is_lossy)
                case Conversion.ROUNDED:
                    return lambda cell: _rounded(cell, ROUND_HALF_UP)
                case Conversion.ROUNDED_EVEN:
                    return lambda cell: _rounded(cell, ROUND_HALF_EVEN)
                case Conversion.CUT | Conversion.UNPADDED:
                    return _shortened(limit, strips=conversion is Conversion.UNPADDED)
                case Conversion.BY_TARGET:
                    return None
        case _:
            return None


def text_only(column: ColumnPlan) -> str:
    """Why a value map or a conversion keeps its stream in text, to be put after "because"; '' when it does not."""
    source, target = column.source, column.target
    assert source is not None
    if isinstance(column.rule, ValueMap):
        keys, values = column.rule.values, [value for _, value in column.rule.values] + [column.rule.default]
        if any(binary_constant(key, source) is None for key, _ in keys):
            return f"the binary form of its value map's keys, {source.type_name}, is not known here"
        if any(value is not None and binary_constant(value, target) is None for value in values):
            return f"the binary form of its value map's values, {target.type_name}, is not known here"
        return ""
    if isinstance(column.rule, Within):
        is_wide_enough = _INTEGER_WIDTHS[source.type_oid] <= _INTEGER_WIDTHS[target.type_oid]
        return "" if is_wide_enough else f"{source.type_name} becomes {target.type_name}"
    assert isinstance(column.rule, Convert)
    if column.rule.conversion not in _CONVERSIONS_IN_BINARY:
        return f"{source.type_name} becomes {target.type_name}"
    if column.rule.conversion is Conversion.TRUTH and source.type_oid not in _INTEGER_WIDTHS:
        return f"{source.type_name} becomes {target.type_name}"
    return ""


# value maps --------------------------------------------------------------------------------------------------------


def _mapped(column: ColumnPlan, rule: ValueMap, form: Form) -> Rewrite:
    source, target = column.source, column.target
    assert source is not None

    def in_form(text: str | None) -> bytes | None:
        if text is None:
            return None
        made = text.encode() if form is Form.TEXT else binary_constant(text, target)
        assert made is not None, "`stream_form` keeps what has no binary form in text"
        return made

    values: dict[bytes, bytes | None] = {}
    for key, value in rule.values:
        cell = key.encode() if form is Form.TEXT else binary_constant(key, source)
        assert cell is not None, "as above"
        values[cell] = in_form(value)
    if rule.otherwise is not Otherwise.ERROR:
        default = in_form(rule.default)
        return lambda cell: values.get(cell, default)

    def strictly(cell: bytes) -> bytes | None:
        try:
            return values[cell]
        except KeyError:
            raise RowRefused(
                f"A value of {source.name} is not in its value map, and the mapping says `otherwise: error`.",
                means=_APPLIED,
                do=f"Look which values there are on the source (SELECT {source.name}, count(*) … GROUP BY 1), add the"
                " missing ones to `values` or choose another `otherwise`, and restart the daemon.",
            ) from None

    return strictly


# the numbers of one of several sources -----------------------------------------------------------------------------


def _within_text(rule: Within) -> Rewrite:
    def checked(cell: bytes) -> bytes:
        _check_within(int(cell), rule)
        return cell

    return checked


def _within_binary(rule: Within, width: int) -> Rewrite:
    def checked(cell: bytes) -> bytes:
        number = int.from_bytes(cell, "big", signed=True)
        _check_within(number, rule)
        return cell if len(cell) == width else number.to_bytes(width, "big", signed=True)

    return checked


def _check_within(number: int, rule: Within) -> None:
    if (rule.lower is None or rule.lower <= number) and (rule.upper is None or number < rule.upper):
        return
    raise RowRefused(
        "A key is a number that belongs to another source of the same target table.",
        means=_APPLIED,
        do=f"Its numbers are {_bounds(rule)}. Mend the key on the source; to give the others a larger offset is another"
        " mapping: `crossfade teardown`, empty the target tables, `crossfade run`.",
    )


def _bounds(rule: Within) -> str:
    parts = [f"from {rule.lower} on"] if rule.lower is not None else []
    parts += [f"below {rule.upper}"] if rule.upper is not None else []
    return " and ".join(parts)


# conversions -------------------------------------------------------------------------------------------------------


def _truth_text(*, is_lossy: bool) -> Rewrite:
    def converted(cell: bytes) -> bytes:
        if cell == b"1":
            return b"t"
        if cell == b"0":
            return b"f"
        if is_lossy and cell != b"NaN":
            return b"t"
        raise _no_truth()

    return converted


def _truth_binary(*, is_lossy: bool) -> Rewrite:
    def converted(cell: bytes) -> bytes:
        number = int.from_bytes(cell, "big", signed=True)
        if number in {0, 1} or is_lossy:
            return b"\1" if number else b"\0"
        raise _no_truth()

    return converted


def _number_text(cell: bytes) -> bytes:
    return b"1" if _is_true(cell) else b"0"


def _number_binary(width: int) -> Rewrite:
    true, false = (1).to_bytes(width, "big"), bytes(width)
    return lambda cell: true if _is_true(cell) else false


def _word(cell: bytes) -> bytes:
    return b"true" if _is_true(cell) else b"false"


def _is_true(cell: bytes) -> bool:
    """A boolean in either form."""
    if cell in {b"t", b"\1"}:
        return True
    if cell in {b"f", b"\0"}:
        return False
    raise ProtocolViolation("A boolean that is neither true nor false.", tag="(value)", offset=0)


def _day_text(*, is_lossy: bool) -> Rewrite:
    def converted(cell: bytes) -> bytes:
        match = _TIMESTAMP.fullmatch(cell)
        if match is None:
            if cell in {b"infinity", b"-infinity"}:
                return cell
            raise ProtocolViolation("A timestamp that is not in ISO form.", tag="(value)", offset=0)
        day, time, era = match.groups()
        if not is_lossy and time.strip(b"0:."):
            raise _no_midnight()
        return day + (era or b"")

    return converted


def _day_binary(*, is_lossy: bool) -> Rewrite:
    def converted(cell: bytes) -> bytes:
        if len(cell) != 8:
            raise ProtocolViolation("A timestamp of another length than 8.", tag="(value)", offset=0)
        moment = int.from_bytes(cell, "big", signed=True)
        if moment in {_EARLIEST, _LATEST}:
            return cell[:1] + (b"\xff" if moment > 0 else b"\0") * 3
        day, time = divmod(moment, _DAY_US)
        if time and not is_lossy:
            raise _no_midnight()
        return day.to_bytes(4, "big", signed=True)

    return converted


def _rounded(cell: bytes, rounding: str) -> bytes:
    if _NUMBER.fullmatch(cell) is None:
        raise RowRefused("A value is no number that an integer could be near.", means=_APPLIED, do=_MEND)
    value = Decimal(cell.decode())
    if value.adjusted() > _LARGEST_EXPONENT:
        raise RowRefused("A number is larger than any integer type.", means=_APPLIED, do=_MEND)
    with localcontext() as context:
        context.prec = max(2 * _LARGEST_EXPONENT, len(cell) + 1)
        return b"%d" % int(value.to_integral_value(rounding=rounding))


def _shortened(limit: int, *, strips: bool) -> Rewrite:
    """The first characters, as a cast to varchar(n) leaves them; 0 for all of them."""

    def converted(cell: bytes) -> bytes:
        if strips:
            cell = cell.rstrip(b" ")
        if not limit or len(cell) <= limit:
            return cell
        return cell.decode()[:limit].encode()

    return converted


def _width(column: ColumnPlan) -> int:
    return _INTEGER_WIDTHS[column.target.type_oid]


_APPLIED: Final = "Nothing of this transaction was applied; the slot keeps it."
_MEND: Final = "Mend the row on the source, or give the column another type or rule."


def _no_truth() -> RowRefused:
    return RowRefused("A number that is to become a boolean is neither 0 nor 1.", means=_APPLIED, do=_MEND)


def _no_midnight() -> RowRefused:
    return RowRefused(
        "A timestamp that is to become a date has a time of day.",
        means=_APPLIED,
        do="Mend the row on the source, or let the time be cut off (`cast: lossy`) and restart the daemon.",
    )
