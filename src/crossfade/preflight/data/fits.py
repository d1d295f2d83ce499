"""Which values of a source column its target column would refuse, as a predicate the source can evaluate.

The twin of `mapping/conversions`: that one says from the two types that the target *may* refuse rows, this one says
how to find them. Refuses to know rules and tables. The invariant: a predicate is cheap, raises no error for any value
of the source's type, and is true of no value that the target would take; what cannot be said so is said to be blind.

PostgreSQL: datatype-character, datatype-numeric, functions-info (`pg_input_is_valid`, since version 16).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from crossfade.catalog import Column
from crossfade.mapping.conversions import BIGINT, INTEGER, NUMERIC, SMALLINT, TEXT, VARCHAR, element, length_limit
from crossfade.mapping.conversions import precision_and_scale as digits_of

_STRINGS: Final = frozenset({TEXT, VARCHAR, "citext", "name"})
_PADDED: Final = frozenset({"character", "bpchar"})
_BITS: Final[Mapping[str, int]] = {SMALLINT: 15, INTEGER: 31, BIGINT: 63}
_VALIDATING: Final = 160000  # the first server with pg_input_is_valid()
_NUMBER: Final = r"^\s*[-+]?[0-9]{1,30}\s*$"
_BOOLEAN: Final = r"^(t|tr|tru|true|y|ye|yes|on|1|f|fa|fal|fals|false|n|no|of|off|0)$"
_UUID: Final = r"^\{?([0-9a-fA-F]{4}-?){7}[0-9a-fA-F]{4}\}?$"


@dataclass(frozen=True, slots=True)
class Misfit:
    """Values the target refuses. `words` end the sentence "3 rows hold ..."; `widen` is a type that takes them all
    ('' when no other type would help)."""

    words: str
    where: sql.Composable
    widen: str = ""


@dataclass(frozen=True, slots=True)
class Ground:
    """What the predicates are made for: server_version_num of the source, which evaluates them."""

    source_version: int


def misfits(value: sql.Composable, source: Column, target: Column, ground: Ground) -> Iterator[Misfit]:
    """Of a column that is handed over as it is. `value` is the SQL of the source's value."""
    if source.base_type.endswith("[]") and target.base_type.endswith("[]"):
        each = sql.SQL("e.each")
        for found in misfits(each, element(source), element(target), ground):
            where = sql.SQL("EXISTS (SELECT FROM pg_catalog.unnest({}) AS e(each) WHERE {})").format(value, found.where)
            yield dataclasses.replace(found, words=f"elements that are {found.words}", where=where, widen="")
        return
    for rule in _RULES:
        yield from rule(value, source, target, ground)


def canonical(value: sql.Composable, source: Column, target: Column) -> tuple[sql.Composable, str]:
    """What compares on the source as the target's values will, and in which way two source values may become one ('':
    in none)."""
    if target.base_type.endswith("citext") and not source.base_type.endswith("citext"):
        return sql.SQL("pg_catalog.lower({}::text)").format(value), "citext does not tell upper from lower case"
    if target.base_type in _PADDED and source.base_type not in _PADDED:
        return (
            sql.SQL("pg_catalog.rtrim({}::text, ' ')").format(value),
            f"{target.type_name} does not compare spaces at the end",
        )
    if source.base_type in {TEXT, VARCHAR}:
        if target.base_type == "uuid":
            plain = sql.SQL("CASE WHEN {0} ~ {1} THEN {0}::uuid END").format(value, sql.Literal(_UUID))
            return plain, "one uuid can be written in several ways"
        if target.base_type in _BITS:
            plain = sql.SQL("CASE WHEN {0} ~ {1} THEN {0}::numeric END").format(value, sql.Literal(_NUMBER))
            return plain, "one number can be written in several ways"
    return value, ""


def range_of(type_name: str) -> tuple[int, int] | None:
    """The least and the greatest of an integer type."""
    bits = _BITS.get(type_name)
    return None if bits is None else (-(1 << bits), (1 << bits) - 1)


def _length(value: sql.Composable, source: Column, target: Column, _: Ground) -> Iterator[Misfit]:
    limit = length_limit(target)
    if limit is None or source.type_kind not in {"b", "e"}:
        return
    longest = length_limit(source)
    if longest is not None and longest <= limit:
        return
    # Spaces beyond the limit are cut without an error, as SQL has it; anything else is refused.
    where = sql.SQL("pg_catalog.rtrim(pg_catalog.substr({}::text, {}), ' ') <> ''").format(
        value, sql.Literal(limit + 1)
    )
    yield Misfit(f"longer than the {limit} characters of {target.type_name}", where, "text")


def _integers(value: sql.Composable, source: Column, target: Column, _: Ground) -> Iterator[Misfit]:
    into = range_of(target.base_type)
    if into is None or source.base_type not in {*_BITS, NUMERIC}:
        return
    own = range_of(source.base_type)
    if own is not None and into[0] <= own[0]:
        return
    # NaN is greater than every number, so BETWEEN leaves it out as well.
    where = sql.SQL("{} NOT BETWEEN {} AND {}").format(value, sql.Literal(into[0]), sql.Literal(into[1]))
    yield Misfit(f"outside the range of {target.type_name}", where, BIGINT if own is not None else NUMERIC)


def _digits(value: sql.Composable, source: Column, target: Column, _: Ground) -> Iterator[Misfit]:
    bounds = digits_of(target) if target.base_type == NUMERIC else None
    if bounds is None or source.base_type not in {*_BITS, NUMERIC}:
        return
    of_source = digits_of(source) if source.base_type == NUMERIC else None
    if of_source is not None and of_source[0] - of_source[1] <= bounds[0] - bounds[1]:
        return
    if source.base_type in _BITS and bounds[0] - bounds[1] >= len(str(1 << _BITS[source.base_type])):
        return
    # numeric(p, s) takes NaN, and no infinity; abs() of an infinity is greater than any limit.
    where = sql.SQL("{0} <> 'NaN' AND pg_catalog.abs({0}::numeric) >= {1}::numeric").format(
        value, sql.Literal(f"1e{bounds[0] - bounds[1]}")
    )
    yield Misfit(f"of more than {bounds[0] - bounds[1]} digits before the point", where, NUMERIC)


def _labels(value: sql.Composable, source: Column, target: Column, _: Ground) -> Iterator[Misfit]:
    if target.type_kind != "e" or (source.type_kind == "e" and set(source.labels) <= set(target.labels)):
        return
    where = sql.SQL("{}::text <> ALL ({}::text[])").format(value, sql.Literal(list(target.labels)))
    yield Misfit(f"no label of {target.type_name}", where)


def _texts(value: sql.Composable, source: Column, target: Column, ground: Ground) -> Iterator[Misfit]:
    """A text that the target's type is to read."""
    if source.base_type not in {TEXT, VARCHAR} or target.base_type in _STRINGS | _PADDED or target.type_kind != "b":
        return
    words = f"no {target.type_name}"
    if target.base_type in _BITS:
        low, high = range_of(target.base_type) or (0, 0)
        # Not pg_input_is_valid(): a newer source also reads 0x1F and 1_000, which an older target refuses.
        where = sql.SQL(
            "CASE WHEN {0} ~ {1} THEN {0}::numeric NOT BETWEEN {2} AND {3} ELSE {0} IS NOT NULL END"
        ).format(value, sql.Literal(_NUMBER), sql.Literal(low), sql.Literal(high))
        yield Misfit(words, where)
    elif target.base_type == "uuid":
        yield Misfit(words, sql.SQL("{} !~ {}").format(value, sql.Literal(_UUID)))
    elif target.base_type == "boolean":
        yield Misfit(words, sql.SQL("pg_catalog.btrim({}) !~* {}").format(value, sql.Literal(_BOOLEAN)))
    elif target.base_type in {"json", "jsonb", "xml"} and ground.source_version >= _VALIDATING:
        where = sql.SQL("NOT pg_catalog.pg_input_is_valid({}, {})").format(value, sql.Literal(target.base_type))
        yield Misfit(words, where)


def _json(value: sql.Composable, source: Column, target: Column, ground: Ground) -> Iterator[Misfit]:
    if (source.base_type, target.base_type) != ("json", "jsonb"):
        return
    if ground.source_version >= _VALIDATING:
        where = sql.SQL("NOT pg_catalog.pg_input_is_valid({}::text, 'jsonb')").format(value)
    else:
        where = sql.SQL(r"{}::text ~ '(^|[^\\])(\\\\)*\\u0000'").format(value)
    yield Misfit("json that jsonb refuses (F3)", where, "json")


def _dates(value: sql.Composable, source: Column, target: Column, _: Ground) -> Iterator[Misfit]:
    if source.base_type == "date" and target.base_type == "timestamp without time zone":
        where = sql.SQL("{0} > '294276-12-31'::date AND pg_catalog.isfinite({0})").format(value)
        yield Misfit("after the year 294276", where, "date")


def _bit_strings(value: sql.Composable, source: Column, target: Column, _: Ground) -> Iterator[Misfit]:
    if target.base_type != "bit varying" or source.base_type not in {"bit", "bit varying"} or target.typmod < 0:
        return
    if not 0 <= source.typmod <= target.typmod:
        where = sql.SQL("pg_catalog.length({}) > {}").format(value, sql.Literal(target.typmod))
        yield Misfit(f"longer than {target.typmod} bits", where, "bit varying")


_RULES: Final[tuple[Callable[[sql.Composable, Column, Column, Ground], Iterator[Misfit]], ...]] = (
    _length,
    _integers,
    _digits,
    _labels,
    _texts,
    _json,
    _dates,
    _bit_strings,
)
