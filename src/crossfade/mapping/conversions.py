"""Which source type may be handed to which target type as text, decided from the two columns alone.

Values travel as the source's text into the target type's input function. That is exact for most pairs, refuses a row
loudly for some (a length, an integer's range), and *silently rounds or cuts* for a few: those are never allowed.
Refuses to know rows and rules such as remap or timezone. The invariant: a pair this calls fine or a warning never
changes a value without an error. What is on no list is not convertible: unknown means stop (edge-cases 0.12).

PostgreSQL: datatype ("Data Types"), datatype-character (trailing spaces), datatype-datetime (precision).
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from crossfade.catalog import Column


class Fit(enum.Enum):
    """How a source column's values fit the target column."""

    EXACT = "exact"  # every value arrives as it is
    CHECKED = "checked"  # the target refuses, with an error, the rows that do not fit
    REFUSED = "refused"  # values would change silently, mean something else, or we do not know


@dataclass(frozen=True, slots=True)
class Verdict:
    """`sentence` says what may happen (CHECKED) or why not (REFUSED); `remedy` what to do. Both '' when EXACT.

    `rounds`: refused for nothing but that the target's type would round (`cast: lossy` allows it).
    """

    fit: Fit
    sentence: str = ""
    remedy: str = ""
    rounds: bool = False


_EXACT: Final = Verdict(Fit.EXACT)

SMALLINT: Final = "smallint"
INTEGER: Final = "integer"
BIGINT: Final = "bigint"
NUMERIC: Final = "numeric"
TEXT: Final = "text"
VARCHAR: Final = "character varying"
CHAR: Final = "character"
TIMESTAMP: Final = "timestamp without time zone"
TIMESTAMPTZ: Final = "timestamp with time zone"

INTEGERS: Final[Mapping[str, int]] = {SMALLINT: 1, INTEGER: 2, BIGINT: 3}  # name -> rank
_INTEGER_DIGITS: Final[Mapping[str, int]] = {SMALLINT: 5, INTEGER: 10, BIGINT: 19}
# What always fits an integer type: one digit less than its widest value has.
_SAFE_DIGITS: Final[Mapping[str, int]] = {SMALLINT: 4, INTEGER: 9, BIGINT: 18}

# A number here means an object, a transaction or a place in *that* server's log (F17).
_OIDS: Final = frozenset(
    {"oid", "regclass", "regproc", "regprocedure", "regoper", "regoperator", "regtype", "regconfig", "regdictionary"}
    | {"regnamespace", "regrole", "regcollation", "xid", "xid8", "cid", "tid", "pg_lsn", "pg_snapshot"}
    | {"txid_snapshot", "lo"}
)
# Types whose text says the same to a person or program that reads it from a text column. Not boolean (`t`, where a cast
# says `true`), not bytea (hex digits, F2), not money (locale).
_READABLE: Final = frozenset(
    {
        *INTEGERS,
        NUMERIC,
        "real",
        "double precision",
        "uuid",
        "date",
        TIMESTAMP,
        TIMESTAMPTZ,
        "time without time zone",
        "time with time zone",
        "interval",
        "json",
        "jsonb",
        "xml",
        "inet",
        "cidr",
        "macaddr",
        "macaddr8",
        "name",
    }
)
_LONGEST_TEXT: Final[Mapping[str, int]] = {SMALLINT: 6, INTEGER: 11, BIGINT: 20, "uuid": 36}
_PRECISE: Final = frozenset({TIMESTAMP, TIMESTAMPTZ, "time without time zone", "time with time zone"})
_MICROSECONDS: Final = 6
_STRINGS: Final = frozenset({TEXT, VARCHAR, "citext", "name"})
# Text that the target's input function reads or refuses; nothing is rounded or cut on the way.
_PARSED_STRICTLY: Final = frozenset({"uuid", "json", "jsonb", "xml", "boolean", SMALLINT, INTEGER, BIGINT})
_HEADER_BYTES: Final = 4  # a typmod of a character or numeric type counts the varlena header


def is_oid_valued(column: Column) -> bool:
    """Whether the values are meaningless on another server (F17), arrays of such included."""
    return _plain(column.base_type).removesuffix("[]") in _OIDS


def length_limit(column: Column) -> int | None:
    """n of varchar(n) and char(n), in characters; None without a limit."""
    if column.base_type not in {VARCHAR, CHAR, "bpchar"} or column.typmod < 0:
        return None
    return column.typmod - _HEADER_BYTES


def precision_and_scale(column: Column) -> tuple[int, int] | None:
    """(p, s) of numeric(p, s), None when unbounded. The scale may be negative since version 15."""
    if column.typmod < 0:
        return None
    bits = column.typmod - _HEADER_BYTES
    return (bits >> 16) & 0xFFFF, ((bits & 0x7FF) ^ 1024) - 1024


def judge(source: Column, target: Column) -> Verdict:
    """Whether `target` takes every text `source` sends, for a column that is neither remapped nor given a zone."""
    if is_oid_valued(source):
        return _refused(
            f"{source.type_name} means an object of the source server and nothing on another",
            "Drop the column in the mapping ('drop'), or store a name or number of your own instead.",
        )
    if source.base_type.endswith("[]") or target.base_type.endswith("[]"):
        return _arrays(source, target)
    if source.type_kind == "e" == target.type_kind:
        return _labels(source, target)  # one name says nothing about the labels
    if _is_same(source, target):
        return _EXACT
    if source.type_kind != "b" or target.type_kind != "b":
        return _user_types(source, target)
    for rule in _RULES:
        verdict = rule(source, target)
        if verdict is not None:
            return verdict
    return _not_yet(source, target)


def time_zone_verdict(source: Column, target: Column) -> Verdict:
    """The same for a column with a `timezone`: timestamp becomes timestamptz and nothing else."""
    if source.base_type != TIMESTAMP or source.type_kind != "b":
        return _refused(
            f"a timezone is for timestamp without time zone, this is {source.type_name}",
            "Remove 'timezone' from the column.",
        )
    if target.base_type != TIMESTAMPTZ or target.type_kind != "b":
        return _refused(
            f"a timezone makes timestamp with time zone, the target column is {target.type_name}",
            "Remove 'timezone', or make the target column timestamptz.",
        )
    return _precision(source, target) or _EXACT


def _refused(sentence: str, remedy: str) -> Verdict:
    return Verdict(Fit.REFUSED, sentence, remedy)


def _checked(
    sentence: str, remedy: str = "Widen the target column, or make sure that no row has such a value."
) -> Verdict:
    return Verdict(Fit.CHECKED, sentence, remedy)


def _not_yet(source: Column, target: Column) -> Verdict:
    return _refused(
        f"{source.type_name} to {target.type_name} is not yet convertible",
        f"Make the target column {source.type_name}, or a wider type of the same kind.",
    )


def _plain(type_name: str) -> str:
    """A type without its schema: `app."Mood"` -> `"Mood"`."""
    match = re.fullmatch(r'(?:(?:"(?:[^"]|"")*"|[^".]+)\.)?(.+)', type_name)
    return match[1] if match is not None else type_name


def _is_same(source: Column, target: Column) -> bool:
    """The same type with the same modifier; a type of the user's own may live in another schema."""
    if source.type_kind != target.type_kind:
        return False
    return _plain(source.type_name) == _plain(target.type_name)


def _arrays(source: Column, target: Column) -> Verdict:
    if not (source.base_type.endswith("[]") and target.base_type.endswith("[]")):
        return _not_yet(source, target)
    return judge(element(source), element(target))


def element(column: Column) -> Column:
    """An array's element, as a column of its own."""
    return dataclasses.replace(
        column,
        type_name=column.type_name.removesuffix("[]"),
        base_type=column.base_type.removesuffix("[]"),
        type_kind=column.element_type_kind or "b",
        element_type_kind="",
    )


def _user_types(source: Column, target: Column) -> Verdict:
    """Enums, domains, composites, ranges: at least one side is one, and they are not of the same name."""
    if source.type_kind == "e" and target.type_kind == "b" and _plain(target.base_type) in _STRINGS:
        return _length(source, target)
    if source.type_kind == "d" and target.type_kind == "b" and target.base_type == TEXT:
        return _checked(
            f"{source.type_name} arrives in its text form, whatever type it is made of (t for true, hex for bytea)",
            "Nothing to do for a domain over text or numbers.",
        )
    if target.type_kind == "e" and source.type_kind == "b" and _plain(source.base_type) in _STRINGS:
        return _checked(
            f"a text that is no label of {target.type_name} is refused", "Give the target's enum every value in use."
        )
    return _not_yet(source, target)


def _labels(source: Column, target: Column) -> Verdict:
    """One enum to another: by their labels, whose order is no matter."""
    remedy = "Give the target's enum every label of the source's, or map them with 'values'"
    if not source.labels or not target.labels:
        if _is_same(source, target):
            return _EXACT
        sentence = f"the enums {source.type_name} and {target.type_name} may have different labels"
    else:
        missing = [label for label in source.labels if label not in target.labels]
        if not missing:
            return _EXACT
        sentence = (
            f"{target.type_name} has no label {', '.join(repr(label) for label in missing)}: such rows are refused"
        )
        remedy += ":" + "".join(f"\nALTER TYPE {target.type_name} ADD VALUE {_literal(label)};" for label in missing)
    return _checked(sentence, remedy if remedy.endswith(";") else f"{remedy}.")


def _literal(label: str) -> str:
    """A label as SQL for a person to paste."""
    escaped = label.replace("'", "''")
    return f"'{escaped}'"


def _length(source: Column, target: Column) -> Verdict:
    """Into text or varchar: fine when the limit cannot be met, else the target checks it."""
    limit = length_limit(target)
    if limit is None:
        return _EXACT
    longest = length_limit(source)
    if longest is None:
        longest = _LONGEST_TEXT.get(source.base_type)
    if longest is not None and longest <= limit:
        return _EXACT
    return _checked(
        f"values longer than {limit} characters are refused (and trailing spaces beyond it are cut, as in all of SQL)"
    )


def _into_text(source: Column, target: Column) -> Verdict | None:
    if _plain(target.base_type) not in {TEXT, VARCHAR, "citext"}:
        return None
    if source.base_type in {CHAR, "bpchar"}:
        length = _length(source, target)
        if length.fit is Fit.CHECKED:
            return length
        return _checked(
            f"{source.type_name} arrives padded with spaces, which {target.type_name} keeps and compares (F10)",
            "Make the target column char(n) as well, or expect the padding.",
        )
    if _plain(source.base_type) in _STRINGS | _READABLE:
        return _length(source, target)
    return None


def _into_char(source: Column, target: Column) -> Verdict | None:
    if target.base_type not in {CHAR, "bpchar"} or _plain(source.base_type) not in {CHAR, "bpchar", TEXT, VARCHAR}:
        return None
    verdict = _length(source, target)
    if verdict.fit is Fit.CHECKED or source.base_type in {CHAR, "bpchar"}:
        return verdict
    return _checked(
        f"{target.type_name} pads with spaces and does not compare them: texts differing only there become equal",
        "Make the target column varchar or text.",
    )


def _integers(source: Column, target: Column) -> Verdict | None:
    if source.base_type not in INTEGERS:
        return None
    if target.base_type in INTEGERS:
        if INTEGERS[source.base_type] <= INTEGERS[target.base_type]:
            return _EXACT
        return _checked(f"numbers outside the range of {target.type_name} are refused")
    if target.base_type == NUMERIC:
        bounds = precision_and_scale(target)
        if bounds is None:
            return _EXACT
        precision, scale = bounds
        if scale < 0:
            return _rounding(source, target)
        if precision - scale >= _INTEGER_DIGITS[source.base_type]:
            return _EXACT
        return _checked(f"numbers of more than {precision - scale} digits are refused")
    if target.base_type in {"real", "double precision"}:
        exact = {"real": {SMALLINT}, "double precision": {SMALLINT, INTEGER}}[target.base_type]
        return _EXACT if source.base_type in exact else _rounding(source, target)
    return None


def _numerics(source: Column, target: Column) -> Verdict | None:
    if source.base_type != NUMERIC:
        return None
    of_source = precision_and_scale(source)
    if target.base_type == NUMERIC:
        of_target = precision_and_scale(target)
        if of_target is None:
            return _EXACT
        if of_source is None or of_target[1] < of_source[1]:
            return _rounding(source, target)
        if of_target[0] - of_target[1] < of_source[0] - of_source[1]:
            return _checked(f"numbers of more than {of_target[0] - of_target[1]} digits before the point are refused")
        return _EXACT
    if target.base_type in INTEGERS and of_source is not None and of_source[1] <= 0:
        digits = of_source[0] - of_source[1]
        if digits <= _SAFE_DIGITS[target.base_type]:
            return _checked("NaN is refused")
        return _checked(f"numbers outside the range of {target.type_name}, and NaN, are refused")
    if target.base_type in {"real", "double precision"}:
        return _rounding(source, target)
    return None


def _rounding(source: Column, target: Column) -> Verdict:
    return Verdict(
        Fit.REFUSED,
        f"{source.type_name} to {target.type_name} would round values silently",
        f"Make the target column {source.type_name}, or a type that holds every value of it.",
        rounds=True,
    )


def _floats(source: Column, target: Column) -> Verdict | None:
    if (source.base_type, target.base_type) == ("real", "double precision"):
        return _EXACT  # the shortest text that reads back as the same real
    if (source.base_type, target.base_type) == ("double precision", "real"):
        return _rounding(source, target)
    return None


def _precision(source: Column, target: Column) -> Verdict | None:
    """Fractions of a second: fewer digits round silently."""
    before = source.typmod if source.typmod >= 0 else _MICROSECONDS
    after = target.typmod if target.typmod >= 0 else _MICROSECONDS
    return _rounding(source, target) if after < before else None


def _times(source: Column, target: Column) -> Verdict | None:
    pair = (source.base_type, target.base_type)
    if source.base_type in _PRECISE and source.base_type == target.base_type:
        return _precision(source, target) or _EXACT
    if pair == (TIMESTAMP, TIMESTAMPTZ):
        return _refused(
            "timestamp to timestamptz needs to know whose local time it is",
            "Give the column a time zone: {timezone: America/New_York} (or UTC).",
        )
    if pair == (TIMESTAMPTZ, TIMESTAMP):
        return _refused(
            "timestamptz to timestamp would lose the zone, and an hour each autumn",
            "Make the target column timestamptz.",
        )
    if pair == ("date", TIMESTAMP):
        return _checked("dates after the year 294276 are refused", "Nothing to do unless such dates are in use.")
    if target.base_type == "date" and source.base_type in {TIMESTAMP, TIMESTAMPTZ}:
        return _refused(
            f"{source.type_name} to date would cut the time of day silently",
            "Make the target column a timestamp of the same kind.",
        )
    if source.base_type == "interval" == target.base_type:
        return _EXACT if target.typmod < 0 else _rounding(source, target)
    return None


def _documents(source: Column, target: Column) -> Verdict | None:
    pair = (source.base_type, target.base_type)
    if pair == ("jsonb", "json"):
        return _EXACT
    if pair == ("json", "jsonb"):
        return _checked(
            "jsonb keeps neither the order nor the repetition of keys, and refuses \\u0000 (F3, F4)",
            "Nothing to do if the application does not depend on these.",
        )
    if pair == ("cidr", "inet"):
        return _EXACT
    return None


def _bits(source: Column, target: Column) -> Verdict | None:
    if not (target.base_type == "bit varying" and source.base_type in {"bit", "bit varying"}):
        return None
    if target.typmod < 0:
        return _EXACT
    if 0 <= source.typmod <= target.typmod:
        return _EXACT
    return _checked(f"strings of more than {target.typmod} bits are refused")


def _from_text(source: Column, target: Column) -> Verdict | None:
    if source.base_type in {CHAR, "bpchar"} and target.base_type == "boolean":  # boolean alone reads past the padding
        return _checked("a text that is no boolean is refused", "Make sure that every row's text can be read so.")
    if source.base_type in {TEXT, VARCHAR} and target.base_type in _PARSED_STRICTLY:
        return _checked(
            f"a text that is no {target.type_name} is refused", "Make sure that every row's text can be read so."
        )
    return None


_RULES: Final[tuple[Callable[[Column, Column], Verdict | None], ...]] = (
    _into_text,
    _into_char,
    _integers,
    _numerics,
    _floats,
    _times,
    _documents,
    _bits,
    _from_text,
)
