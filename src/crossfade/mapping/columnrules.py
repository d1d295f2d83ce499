"""The rule of one column that is fed by another: as written, by its foreign keys, or by the two types; and judged.

Refuses to know what is left over on either side (`columns`) and how rules are carried out (`wire`). The invariant: a
rule it returns has been compared with both columns, and whatever is wrong with it was told at its place.
"""

from __future__ import annotations

import dataclasses

from crossfade.catalog import Column
from crossfade.mapping.casts import cast
from crossfade.mapping.collect import Collector
from crossfade.mapping.compoundnames import is_compound, parts_of
from crossfade.mapping.conversions import INTEGERS, Fit, Verdict, time_zone_verdict
from crossfade.mapping.feeds import Feed
from crossfade.mapping.idrules import RemapArray, RemapBy, RemapPaths
from crossfade.mapping.innerids import compile_inner
from crossfade.mapping.keyspaces import Keyspaces, check_remapped
from crossfade.mapping.places import Place, did_you_mean
from crossfade.mapping.plan import LocalTime, Remap, Rule, Verbatim
from crossfade.mapping.rules import Lossy, ValueMap
from crossfade.mapping.spec import Written
from crossfade.mapping.spellings import printed, unfit


def compile_rule(feed: Feed, keyspaces: Keyspaces, collect: Collector) -> Rule | None:
    """The rule as written, or what foreign keys and types say of the column. None after an error."""
    written = _written(feed, keyspaces, collect)
    if is_compound(feed.source.name) and written is not None and not isinstance(written, Remap):
        collect.error(
            "compound_without_ids",
            feed.place,
            f"{feed.feeds} is made of several columns ({', '.join(parts_of(feed.source.name))}), and nothing says that "
            "they are an id together.",
            "Say of which keyspace under ids: {from: […], remap: …}. What is no id is made by 'up'.",
        )
        return None
    match written:
        case None:
            return None
        case Remap(keyspace) if feed.source.base_type.endswith("[]"):
            return compile_inner(feed, RemapArray(keyspace), keyspaces, collect)
        case Remap():
            _check_remap(feed, written, keyspaces, collect)
            return written
        case RemapPaths() | RemapBy():
            return compile_inner(feed, written, keyspaces, collect)
        case LocalTime():
            _tell(feed, time_zone_verdict(feed.source, feed.target), keyspaces, collect)
            return written
        case ValueMap():
            return _value_map(feed, written, collect)
        case _:
            is_lossy = isinstance(written, Lossy)
            verdict, rule = cast(feed.source, feed.target, is_lossy=is_lossy)
            _tell(feed, verdict, keyspaces, collect)
            if is_lossy and verdict.fit is Fit.EXACT and isinstance(rule, Verbatim):
                collect.warning(
                    "cast_needless",
                    feed.at("cast"),
                    f"{feed}: nothing is lost here, so 'cast: lossy' says nothing.",
                    "Remove it, lest it hide what a later change of types would lose.",
                )
            return rule


def _written(feed: Feed, keyspaces: Keyspaces, collect: Collector) -> Written | None:
    names = keyspaces.of(feed.pair.source.name, feed.source.name)
    written = feed.entry.rule if feed.entry is not None else None
    what = feed.fed_by
    if isinstance(written, Remap):
        if names and written.keyspace not in names:
            collect.error(
                "keyspace_conflict",
                feed.place,
                f"{what} holds ids of {_listed(names)} by its foreign key, not of ids.{written.keyspace}.",
                f"Write {{remap: {min(names)}}}, or nothing at all.",
            )
            return None
        return written
    if isinstance(written, Verbatim):  # remap: false
        return written
    if written is not None and names:
        collect.error(
            "keyspace_conflict",
            feed.place,
            f"{what} holds ids of {_listed(names)} and cannot be given another rule as well.",
            f"Write {{from: {feed.source.name}, remap: {min(names)}}}.",
        )
        return None
    if len(names) > 1:
        collect.error(
            "keyspace_ambiguous",
            feed.place,
            f"{what} refers to several keyspaces: {_listed(names)}.",
            f"Say which: {feed.target.name}: {{from: {feed.source.name}, remap: {min(names)}}}.",
        )
        return None
    if names:
        return Remap(next(iter(names)))
    return written if written is not None else Verbatim()


def _listed(names: frozenset[str]) -> str:
    return " and ".join(f"ids.{name}" for name in sorted(names))


def _check_remap(feed: Feed, rule: Remap, keyspaces: Keyspaces, collect: Collector) -> None:
    keyspace = keyspaces.by_name.get(rule.keyspace)
    if keyspace is None:
        return  # its own error was told
    source, target = feed.source, feed.target
    is_declared = rule.keyspace in keyspaces.of(feed.pair.source.name, source.name)
    problem = check_remapped(keyspace, source, target, is_declared=is_declared)
    if problem is not None:
        keep = f" To keep the old id: {target.name}: {{from: {source.name}, remap: false}}."
        collect.error("type_of_remapped", feed.place, f"{feed}: {problem[0]}.", problem[1] + keep)
    elif target.base_type in INTEGERS and INTEGERS[target.base_type] < INTEGERS.get(keyspace.old_type, 0):
        collect.warning(
            "type_narrowed",
            feed.place,
            f"{feed}: numbers outside the range of {target.type_name} are refused.",
            "Widen the target column, or make sure that no id comes near.",
        )


def _tell(feed: Feed, verdict: Verdict, keyspaces: Keyspaces, collect: Collector) -> None:
    if verdict.fit is Fit.REFUSED:
        remedy = verdict.remedy
        if keyspaces.by_name and feed.source.base_type in INTEGERS and feed.target.base_type == "uuid":
            name = f"{feed.target.name}: {{from: {feed.source.name}, remap: …}}"
            remedy = f"If it holds ids, say of which keyspace: {name}."
        collect.error("type_not_convertible", feed.place, f"{feed}: {verdict.sentence}.", remedy)
    elif verdict.fit is Fit.CHECKED:
        collect.warning("type_narrowed", feed.place, f"{feed}: {verdict.sentence}.", verdict.remedy)


def _value_map(feed: Feed, rule: ValueMap, collect: Collector) -> ValueMap | None:
    """The map with its keys as the source prints them; each value compared with the target's type."""
    values: dict[str, str | None] = {}
    is_fine = True
    for written, value in rule.values:
        place = feed.at(f"values.{written}")
        try:
            key = printed(written, feed.source)
        except ValueError:
            collect.error(
                "value_map_type",
                feed.at("values"),
                f"{feed.fed_by} is {feed.source.type_name}: its values cannot be told apart by what is written here.",
                "Value maps are for integers, numeric(p, s), text, varchar, char(n), boolean, uuid, date and enums.",
            )
            return None
        if key is None:
            is_fine = False
            collect.error(
                "value_map_key",
                place,
                f"{feed.fed_by} never holds {written!r}: it {_no_key(written, feed.source)}.",
                "Correct or remove it.",
            )
        elif key in values:
            is_fine = False
            collect.error(
                "value_map_key", place, f"{feed.fed_by}: {written!r} is given twice, in other words.", "Remove one."
            )
        else:
            values[key] = value
        is_fine &= _check_value(feed, value, place, collect)
    if rule.otherwise.value != "error":
        is_fine &= _check_value(feed, rule.default, feed.at("otherwise"), collect)
    return dataclasses.replace(rule, values=tuple(values.items())) if is_fine else None


def _no_key(written: str, source: Column) -> str:
    if source.type_kind == "e":
        return f"is no label of {source.type_name}"
    return unfit(written, source) or f"is no value of {source.type_name}"


def _check_value(feed: Feed, value: str | None, place: Place, collect: Collector) -> bool:
    """Whether the target column may hold it."""
    if value is None:
        if feed.target.not_null:
            collect.error(
                "value_map_value", place, f"{feed.feeds} is NOT NULL and cannot become null.", "Give another value."
            )
        return not feed.target.not_null
    why = unfit(value, feed.target)
    if why:
        hint = did_you_mean(value, feed.target.labels)
        collect.error(
            "value_map_value",
            place,
            f"{feed.feeds} cannot be {value!r}: it {why}.{hint}",
            f"Write a value that PostgreSQL reads as {feed.target.type_name}.",
        )
    return not why
