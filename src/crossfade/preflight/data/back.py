"""The way back of each rule: what a source column would be given, out of the target's row.

The other direction of `effects`, by the same kinds of rules. Refuses to know tables as a whole. The invariant: where
there is SQL, it gives back the value that the rule was applied to, as far as the words do not say otherwise; where a
rule loses something, there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg import sql

from crossfade.catalog import Column
from crossfade.mapping.derived import Expression
from crossfade.mapping.idrules import RemapArray, RemapBy, RemapPaths
from crossfade.mapping.plan import ColumnPlan, Keyspace, LocalTime, Nonexistent, Remap, Verbatim
from crossfade.mapping.rules import Conversion, Convert, ValueMap, Within


@dataclass(frozen=True, slots=True)
class Back:
    """`column` of the source; `value` is SQL over the target's row `t` and the id maps, None where there is no way."""

    column: str
    words: str
    value: sql.Composable | None


def way_back(fed: ColumnPlan, keyspaces: Mapping[str, Keyspace]) -> Back | None:
    """That of a column's rule; None for what the source never had."""
    match fed.rule, fed.source:
        case Expression() as rule, _:
            return _by_down(fed.target, rule)
        case ((Verbatim() | Within()), Column() as source):
            return Back(source.name, "as it is", _as_type(_of_target(fed.target), source, fed.target))
        case Remap(name), Column() as source if name in keyspaces:
            old = _old_id(_of_target(fed.target), keyspaces[name], fed.target)
            return Back(source.name, f"the old id in ids.{name}; one that was born on the target has none yet", old)
        case RemapArray(name), Column() as source if name in keyspaces:
            return _array(source, fed.target, keyspaces[name])
        case ((RemapPaths() | RemapBy()), Column() as source):
            return Back(source.name, "by the daemon, with the old ids in place of the new ones", None)
        case ((LocalTime() as rule), Column() as source):
            return _local(source, fed.target, rule)
        case ((ValueMap() as rule), Column() as source):
            return _unmapped(source, fed.target, rule)
        case ((Convert() as rule), Column() as source):
            return _unconverted(source, fed.target, rule)
    return None


def _of_target(column: Column) -> sql.Composable:
    return sql.SQL("t.{}").format(sql.Identifier(column.name))


def _as_type(value: sql.Composable, source: Column, target: Column) -> sql.Composable:
    """Of the source column's type, where the target knows that by itself; else what its type reads."""
    if source.type_name == target.type_name:
        return value
    is_built_in = source.type_kind == "b" and source.element_type_kind in ("", "b") and source.type_oid < 16384
    return sql.SQL("({})::{}").format(value, sql.SQL(source.type_name if is_built_in else "text"))


def _old_id(new: sql.Composable, keyspace: Keyspace, target: Column) -> sql.Composable:
    text = "" if target.base_type.removesuffix("[]") == keyspace.new_type else "::text"
    return sql.SQL("(SELECT m.old FROM {} m WHERE m.new{} = {}{})").format(
        sql.Identifier("crossfade", f"id_{keyspace.name}"), sql.SQL(text), new, sql.SQL(text)
    )


def _array(source: Column, target: Column, keyspace: Keyspace) -> Back:
    value = _of_target(target)
    old = _old_id(sql.SQL("e.id"), keyspace, target)
    array = sql.SQL(
        "CASE WHEN {0} IS NOT NULL THEN ARRAY(SELECT {1} FROM pg_catalog.unnest({0}) WITH ORDINALITY AS e(id, n)"
        " ORDER BY e.n) END"
    )
    return Back(
        source.name, f"the old ids in ids.{keyspace.name} (the SQL is for one dimension)", array.format(value, old)
    )


def _local(source: Column, target: Column, rule: LocalTime) -> Back:
    words = f"the local time of {rule.zone}"
    if rule.nonexistent is Nonexistent.SHIFT:
        words += "; one that never occurred comes back as the time it was moved to"
    local = sql.SQL("{} AT TIME ZONE {}").format(_of_target(target), sql.Literal(rule.zone))
    return Back(source.name, words, local)


def _unmapped(source: Column, target: Column, rule: ValueMap) -> Back:
    inverse = rule.inverse
    if inverse is None:
        return Back(source.name, "no way back: the value map makes several values one, or drops some", None)
    value = _of_target(target)
    # Literals take the column's type, so that 1.0 is 1.00.
    arms = [sql.SQL("WHEN {} = {} THEN {}").format(value, *map(sql.Literal, pair)) for pair in inverse.values]
    cased = sql.SQL("CASE {} END").format(sql.SQL(" ").join(arms))
    return Back(source.name, "by the value map, the other way round; anything else is an error", cased)


def _unconverted(source: Column, target: Column, rule: Convert) -> Back:
    value = _of_target(target)
    if rule.is_lossy:
        return Back(source.name, "no way back: what did not fit is lost (cast: lossy)", None)
    match rule.conversion:
        case Conversion.TRUTH:
            number = _as_type(sql.SQL("({}::integer)").format(value), source, target)
            return Back(source.name, "false as 0 and true as 1", number)
        case Conversion.NUMBER:
            return Back(source.name, "0 as false and 1 as true", sql.SQL("({} <> 0)").format(value))
        case Conversion.WORD:
            return Back(source.name, "the word as a boolean", sql.SQL("({}::boolean)").format(value))
        case Conversion.DAY:
            return Back(source.name, "the day's midnight", sql.SQL("({}::timestamp)").format(value))
        case _:
            return Back(source.name, "as it is", _as_type(value, source, target))


def _by_down(target: Column, rule: Expression) -> Back | None:
    column = rule.gives_back(target.name)
    if rule.down is None:
        return None if column is None else Back(column, "no way back: there is no 'down'", None)
    if column is None:
        return None
    # The compiler has found it to be one expression over the target's columns and nothing else.
    value = sql.SQL("(SELECT ({}) FROM (SELECT t.*) AS i)").format(sql.SQL(rule.down))
    return Back(column, "by SQL of the mapping (down)", value)
