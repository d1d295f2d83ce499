"""The effects of value maps and of conversions that the daemon carries out.

One small function for each kind, as `wire/rewrites` has one: that is what happens to the bytes, this is how the
source's server would say it. Refuses to know other rules. The invariant: the SQL gives what the rewrite gives, for
every value that the rewrite does not refuse.

PostgreSQL: functions-math (`round`), functions-datetime (`date_trunc`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Final

from psycopg import sql

from crossfade.catalog import Column
from crossfade.mapping.conversions import NUMERIC, TEXT, precision_and_scale
from crossfade.mapping.rules import Conversion, Convert, Otherwise, ValueMap, is_one_to_one
from crossfade.preflight.data.effect import Effect, of_source
from crossfade.preflight.data.fits import Ground, Misfit, misfits, range_of

_LARGEST_REAL: Final = "3.4028235e38"
# Beyond so many entries a person is better served by the mapping file.
_SHOWN: Final = 8


def value_map(source: Column, rule: ValueMap) -> Effect:
    """One value for another. Keys are spelled as the source prints them, which a cast to text does not always do."""
    text = sql.SQL("{}::text").format(of_source(source.name))
    spelled = [(_as_cast(key, source), value) for key, value in rule.values]
    arms = [sql.SQL("WHEN {} THEN {}").format(sql.Literal(key), sql.Literal(value)) for key, value in spelled]
    default = rule.default if rule.otherwise is Otherwise.CONST else None
    # NULL stays NULL: the default is for values that are not named, and CASE would give it to NULL as well.
    value = sql.SQL("CASE WHEN {0} IS NOT NULL THEN CASE {0} {1} ELSE {2} END END").format(
        text, sql.SQL(" ").join(arms), sql.Literal(default)
    )
    named = ", ".join(f"{key} becomes {_said(new)}" for key, new in rule.values[:_SHOWN])
    if len(rule.values) > _SHOWN:
        named += f", and {len(rule.values) - _SHOWN} more"
    others = {
        Otherwise.ERROR: "anything else is an error",
        Otherwise.NULL: "anything else becomes NULL",
        Otherwise.CONST: f"anything else becomes {_said(rule.default)}",
    }[rule.otherwise]
    found: tuple[Misfit, ...] = ()
    if rule.otherwise is Otherwise.ERROR:
        keys = sql.Literal([key for key, _ in spelled])
        found = (Misfit("that the value map does not name", sql.SQL("{} <> ALL ({}::text[])").format(text, keys)),)
    may_be_null = any(new is None for _, new in rule.values) or (
        rule.otherwise is not Otherwise.ERROR and default is None
    )
    return Effect(
        words=f"{source.name}, by a value map: {named}; {others}; NULL stays NULL",
        shown=value,
        value=value,
        is_faithful=True,
        merges="" if is_one_to_one(rule) else "the value map makes several values one",
        may_be_null=may_be_null or not source.not_null,
        misfits=found,
    )


def _as_cast(key: str, source: Column) -> str:
    """The key as a cast to text spells it: booleans in full, char(n) without its padding."""
    if source.base_type == "boolean":
        return {"t": "true", "f": "false"}.get(key, key)
    return key.rstrip(" ") if source.base_type in {"character", "bpchar"} else key


def _said(value: str | None) -> str:
    return "NULL" if value is None else value


def converted(source: Column, target: Column, rule: Convert, ground: Ground) -> Effect:
    """A conversion by the daemon, or (`cast: lossy`) by the target's type."""
    value, words, found = _CONVERSIONS[rule.conversion](of_source(source.name), source, target, rule, ground)
    loses = "different values can become one (cast: lossy)" if rule.is_lossy else ""
    words = f"{source.name}, {words}" + ("; what does not fit is lost (cast: lossy)" if rule.is_lossy else "")
    shown = value if value is not None else of_source(source.name)
    return Effect(words, shown, value, value is not None, loses, not source.not_null, found)


_Found = tuple[sql.Composable | None, str, tuple[Misfit, ...]]


def _truth(value: sql.Composable, source: Column, target: Column, rule: Convert, _: Ground) -> _Found:
    misfit = Misfit("other than 0 and 1", sql.SQL("{} NOT IN (0, 1)").format(value))
    return sql.SQL("({} <> 0)").format(value), "0 as false and 1 as true", () if rule.is_lossy else (misfit,)


def _number(value: sql.Composable, source: Column, target: Column, rule: Convert, _: Ground) -> _Found:
    return sql.SQL("{}::integer").format(value), "false as 0 and true as 1", ()


def _word(value: sql.Composable, source: Column, target: Column, rule: Convert, ground: Ground) -> _Found:
    word = sql.SQL("{}::text").format(value)
    text = dataclasses.replace(source, type_name=TEXT, base_type=TEXT, typmod=-1)
    return word, "as the word true or false", tuple(misfits(word, text, target, ground))


def _day(value: sql.Composable, source: Column, target: Column, rule: Convert, _: Ground) -> _Found:
    misfit = Misfit("with a time of day", sql.SQL("{0} <> pg_catalog.date_trunc('day', {0})").format(value))
    return sql.SQL("{}::date").format(value), "its date", () if rule.is_lossy else (misfit,)


def _rounded(value: sql.Composable, source: Column, target: Column, rule: Convert, _: Ground) -> _Found:
    rounded = sql.SQL("pg_catalog.round({}::numeric)").format(value)
    return rounded, "rounded to the nearest integer, halves away from zero", _beyond(rounded, target)


def _rounded_even(value: sql.Composable, source: Column, target: Column, rule: Convert, _: Ground) -> _Found:
    rounded = sql.SQL("pg_catalog.round({}::double precision)").format(value)
    return rounded, "rounded to the nearest integer, halves to the even one", _beyond(rounded, target)


def _beyond(value: sql.Composable, target: Column) -> tuple[Misfit, ...]:
    """NaN is greater than every number, to PostgreSQL."""
    bounds = range_of(target.base_type)
    if bounds is None:
        return ()
    where = sql.SQL("{} NOT BETWEEN {} AND {}").format(value, *map(sql.Literal, bounds))
    return (Misfit(f"NaN or outside the range of {target.type_name}", where),)


def _cut(value: sql.Composable, source: Column, target: Column, rule: Convert, _: Ground) -> _Found:
    cut = sql.SQL("pg_catalog.left({}::text, {})").format(value, sql.Literal(rule.limit))
    return cut, f"its first {rule.limit} characters", ()


def _unpadded(value: sql.Composable, source: Column, target: Column, rule: Convert, ground: Ground) -> _Found:
    if rule.limit:
        return _cut(value, source, target, rule, ground)
    return sql.SQL("pg_catalog.rtrim({}::text, ' ')").format(value), "without the spaces it is padded with", ()


def _by_target(value: sql.Composable, source: Column, target: Column, rule: Convert, ground: Ground) -> _Found:
    words = f"rounded by {target.type_name}"
    if target.base_type.endswith("[]") or source.type_kind != "b" or target.type_kind != "b":
        return None, words, ()
    bounds = precision_and_scale(target) if target.base_type == NUMERIC else None
    if bounds is not None:
        rounded = sql.SQL("pg_catalog.round({}::numeric, {})").format(value, sql.Literal(bounds[1]))
        anything = dataclasses.replace(source, type_name=NUMERIC, base_type=NUMERIC, typmod=-1)
        return rounded, words, tuple(misfits(rounded, anything, target, ground))
    found: tuple[Misfit, ...] = ()
    if target.base_type == "real":
        # Infinities and NaN have their place in a real; before version 14 they have none in numeric.
        where = sql.SQL(
            "CASE WHEN {0}::text IN ('Infinity', '-Infinity', 'NaN') THEN false"
            " ELSE pg_catalog.abs({0}::numeric) > {1}::numeric END"
        )
        found = (Misfit("too large for real", where.format(value, sql.Literal(_LARGEST_REAL))),)
    # The name is the server's own spelling of a built-in type.
    return sql.SQL("({})::{}").format(value, sql.SQL(target.type_name)), words, found


_CONVERSIONS: Final[Mapping[Conversion, Callable[[sql.Composable, Column, Column, Convert, Ground], _Found]]] = {
    Conversion.TRUTH: _truth,
    Conversion.NUMBER: _number,
    Conversion.WORD: _word,
    Conversion.DAY: _day,
    Conversion.ROUNDED: _rounded,
    Conversion.ROUNDED_EVEN: _rounded_even,
    Conversion.CUT: _cut,
    Conversion.UNPADDED: _unpadded,
    Conversion.BY_TARGET: _by_target,
}
