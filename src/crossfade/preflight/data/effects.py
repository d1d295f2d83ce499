"""What each rule of the mapping does with a value: in words, in SQL for a person, and in SQL the source can evaluate.

One small function for each kind of rule, and nowhere else: `explain` prints the words, `questions` asks the source by
the rest. Refuses to know tables as a whole. The invariant: every rule has an effect; one that this file does not know
has one that says so, and is never mistaken for a plain copy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final

from psycopg import sql

from crossfade.catalog import Column
from crossfade.faults import Misconfigured
from crossfade.mapping.compoundnames import written
from crossfade.mapping.derived import Expression
from crossfade.mapping.idrules import RemapArray, RemapBy, RemapPaths
from crossfade.mapping.plan import (
    Ambiguous,
    ColumnPlan,
    Const,
    Keyspace,
    LocalTime,
    Nonexistent,
    Remap,
    Strategy,
    Verbatim,
)
from crossfade.mapping.rules import Convert, ValueMap, Within
from crossfade.preflight.data.computed import computed
from crossfade.preflight.data.converted import converted, value_map
from crossfade.preflight.data.effect import Effect, Orphans, Remarkable, new_id, not_owned, of_source
from crossfade.preflight.data.fits import Ground, Misfit, canonical, misfits, range_of
from crossfade.preflight.data.inner import inner_ids
from crossfade.wire.zones import Zone

# A day and a half inside what a timestamp can hold: AT TIME ZONE raises an error beyond.
_EARLIEST: Final = "4714-11-26 00:00:00 BC"
_LATEST: Final = "294276-12-30 00:00:00"


def effect(column: ColumnPlan, keyspaces: Mapping[str, Keyspace], ground: Ground) -> Effect:
    """The effect of a column's rule."""
    match column.rule, column.source:
        case Const(text), _:
            return _const(text)
        case Verbatim(), Column() as source:
            return _verbatim(source, column.target, ground)
        case Within(lower, upper), Column() as source:
            return _within(source, column.target, lower, upper, ground)
        case Remap(name), Column() as source if name in keyspaces:
            return _remapped(source, column.target, keyspaces[name])
        case ((LocalTime() as rule), Column() as source):
            return _local_time(source, rule)
        case ((RemapArray() | RemapPaths() | RemapBy()) as inner, Column() as source):
            return inner_ids(source, inner, keyspaces)
        case ((ValueMap() as rule), Column() as source):
            return value_map(source, rule)
        case ((Convert() as rule), Column() as source):
            return converted(source, column.target, rule, ground)
        case Expression() as rule, _:
            return computed(column.target, rule, ground)
        case _:
            return _unknown(column)


def _const(text: str | None) -> Effect:
    shown = sql.SQL("NULL") if text is None else sql.Literal(text)
    words = "always NULL" if text is None else "the same constant in every row; a later UPDATE leaves it alone"
    return Effect(words, shown, shown, True, "", text is None)


def _verbatim(source: Column, target: Column, ground: Ground) -> Effect:
    value = of_source(source.name)
    compared, merges = canonical(value, source, target)
    words = f"{source.name}, as it is"
    if source.type_name != target.type_name:
        words += f"; {target.type_name} reads what {source.type_name} prints"
    return Effect(
        words, value, compared, not merges, merges, not source.not_null, tuple(misfits(value, source, target, ground))
    )


def _within(source: Column, target: Column, lower: int | None, upper: int | None, ground: Ground) -> Effect:
    plain = _verbatim(source, target, ground)
    outside = tuple(_outside(of_source(source.name), lower, upper))
    return dataclasses.replace(plain, misfits=(*plain.misfits, *outside))


def _outside(value: sql.Composable, lower: int | None, upper: int | None) -> Iterator[Misfit]:
    """Numbers that belong to another source of the table."""
    if lower is not None:
        words = f"below {lower}, where the numbers of another source of the table are"
        yield Misfit(words, sql.SQL("{} < {}").format(value, sql.Literal(lower)))
    if upper is not None:
        words = f"from {upper} on, where the numbers of another source of the table are"
        yield Misfit(words, sql.SQL("{} >= {}").format(value, sql.Literal(upper)))


_NEW_IDS: Final[Mapping[Strategy, str]] = {
    Strategy.UUID7: "a random uuid that is ordered by time",
    Strategy.UUID4: "a random uuid",
    Strategy.UUID5: "a uuid made of the old id, always the same",
    Strategy.SEQUENCE: "the next number of {}",
    Strategy.TABLE: "the one that {} has for it",
}


def _remapped(source: Column, target: Column, keyspace: Keyspace) -> Effect:
    old = of_source(source.name)
    shown = new_id(old, keyspace.name)
    found: list[Misfit] = []
    if keyspace.strategy is Strategy.OFFSET:
        made = f"the old id {'plus' if keyspace.by >= 0 else 'minus'} {abs(keyspace.by)}"
        bounds = range_of(target.base_type)
        if bounds is not None and source.base_type in {"smallint", "integer", "bigint"}:
            where = sql.SQL("{}::numeric + {} NOT BETWEEN {} AND {}").format(
                old, *map(sql.Literal, (keyspace.by, *bounds))
            )
            found.append(
                Misfit(f"outside the range of {target.type_name} once {keyspace.by} is added", where, "bigint")
            )
            lower, upper = (None if at is None else at - keyspace.by for at in (keyspace.lower, keyspace.upper))
            found += _outside(old, lower, upper)
    else:
        made = _NEW_IDS[keyspace.strategy].format(keyspace.taken_from)
    words = (
        f"the new id of {written(source.name)} in ids.{keyspace.name} ({keyspace.owner}.{written(keyspace.column)}):"
        f" {made}; NULL stays NULL"
    )
    orphans = Orphans(keyspace.name, keyspace.owner, not_owned(old, keyspace), is_plain=True)
    return Effect(words, shown, old, False, "", not source.not_null, tuple(found), orphans=(orphans,))


def _local_time(source: Column, rule: LocalTime) -> Effect:
    local = of_source(source.name)
    zone = sql.Literal(rule.zone)
    instant = sql.SQL("{} AT TIME ZONE {}").format(local, zone)
    overlap = _guarded(local, _overlap(local, rule.zone))
    gap = _guarded(local, sql.SQL("({} AT TIME ZONE {}) <> {}").format(instant, zone, local))
    value: sql.Composable = sql.SQL("CASE WHEN {} THEN {} END").format(_convertible(local), instant)
    shown: sql.Composable = instant
    if rule.ambiguous is Ambiguous.EARLIER:
        shown = value = _earlier(local, rule.zone)
    refused: list[Misfit] = []
    noted: list[Remarkable] = []
    for where, words, is_refused in (
        (overlap, f"local times that occurred twice in {rule.zone}", rule.ambiguous is Ambiguous.ERROR),
        (gap, f"local times that never occurred in {rule.zone}", rule.nonexistent is Nonexistent.ERROR),
    ):
        if is_refused:
            refused.append(Misfit(words, where))
        else:
            noted.append(Remarkable(words, where))
    edge = sql.SQL("pg_catalog.isfinite({0}) AND NOT ({1})").format(local, _inside(local))
    refused.append(Misfit("at the very ends of time, where UTC may have no name for them", edge))
    words = (
        f"{source.name}, a local time of {rule.zone}, as the moment it means; a time that occurred twice is"
        f" {_AMBIGUOUS[rule.ambiguous]}, one that never occurred {_NONEXISTENT[rule.nonexistent]}"
    )
    merges = f"two local times of {rule.zone} can be the same moment when clocks change"
    return Effect(words, shown, value, True, merges, not source.not_null, tuple(refused), tuple(noted))


_AMBIGUOUS: Final[Mapping[Ambiguous, str]] = {
    Ambiguous.LATER: "the later of the two",
    Ambiguous.EARLIER: "the earlier of the two",
    Ambiguous.ERROR: "an error",
}
_NONEXISTENT: Final[Mapping[Nonexistent, str]] = {
    Nonexistent.SHIFT: "is moved past the gap",
    Nonexistent.ERROR: "is an error",
}


def _inside(local: sql.Composable) -> sql.Composable:
    return sql.SQL("{0} BETWEEN {1}::timestamp AND {2}::timestamp").format(
        local, sql.Literal(_EARLIEST), sql.Literal(_LATEST)
    )


def _convertible(local: sql.Composable) -> sql.Composable:
    """Infinities stay what they are, and are neither in a gap nor in an overlap."""
    return sql.SQL("{} OR NOT pg_catalog.isfinite({})").format(_inside(local), local)


def _guarded(local: sql.Composable, predicate: sql.Composable) -> sql.Composable:
    """CASE keeps its order, where AND promises none."""
    return sql.SQL("CASE WHEN {} THEN {} ELSE false END").format(_inside(local), predicate)


@lru_cache(maxsize=64)
def overlaps(zone: str) -> tuple[int, ...]:
    """By how many seconds clocks of a zone were ever set back. Empty when our tz database does not know it."""
    try:
        loaded = Zone.load(zone)
    except Misconfigured:
        return ()
    backs = (loaded.offset_at(start - 1) - loaded.offset_at(start) for start in loaded.transitions())
    return tuple(sorted({back for back in backs if back > 0}))


def _moments_before(local: sql.Composable, zone: str) -> Iterator[sql.Composable]:
    for back in overlaps(zone):
        yield sql.SQL("({} AT TIME ZONE {} - {}::interval)").format(
            local, sql.Literal(zone), sql.Literal(f"{back} seconds")
        )


def _overlap(local: sql.Composable, zone: str) -> sql.Composable:
    """PostgreSQL takes the later moment: the time occurred twice when an earlier moment reads the same."""
    reads = [
        sql.SQL("({} AT TIME ZONE {}) = {}").format(moment, sql.Literal(zone), local)
        for moment in _moments_before(local, zone)
    ]
    return sql.SQL(" OR ").join(reads) if reads else sql.SQL("false")


def _earlier(local: sql.Composable, zone: str) -> sql.Composable:
    arms = [
        sql.SQL("WHEN ({0} AT TIME ZONE {1}) = {2} THEN {0}").format(moment, sql.Literal(zone), local)
        for moment in _moments_before(local, zone)
    ]
    return sql.SQL("CASE WHEN NOT ({}) THEN NULL {} ELSE {} AT TIME ZONE {} END").format(
        _convertible(local), sql.SQL(" ").join(arms), local, sql.Literal(zone)
    )


def _unknown(column: ColumnPlan) -> Effect:
    """A rule that only the target can evaluate."""
    source = column.source
    shown = of_source(source.name) if source is not None else sql.SQL("NULL")
    return Effect(
        "made on the target, by a rule that the source cannot evaluate", shown, None, False, "the rule may do so", True
    )
