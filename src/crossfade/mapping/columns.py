"""How each target column of one pair is fed, and that nothing on either side is left over.

Refuses to know keys, identities and other tables. The invariant: a column plan it returns has been judged; every
published source column is used or dropped on purpose (or ignored, as `source_column_added: ignore` says), every other
target column is generated, identity, defaulted or nullable, or there is an error.
"""

from __future__ import annotations

import re
import uuid
from typing import Final

from crossfade.catalog import Column, Table
from crossfade.mapping.collect import Collector, quoted, sql_name
from crossfade.mapping.conversions import INTEGERS, Fit, judge, time_zone_verdict
from crossfade.mapping.keyspaces import Keyspaces, check_remapped
from crossfade.mapping.pairs import Pair
from crossfade.mapping.places import Place, did_you_mean
from crossfade.mapping.plan import ColumnPlan, Const, LocalTime, OnColumnAdded, Remap, Rule, Verbatim
from crossfade.mapping.spec import ColumnSpec, Spec

_INTEGER_BITS: Final = {"smallint": 15, "integer": 31, "bigint": 63}
_BOOLEANS: Final = re.compile(r"t|tr|tru|true|y|ye|yes|on|1|f|fa|fal|fals|false|n|no|of|off|0", re.IGNORECASE)


def published_columns(table: Table) -> tuple[Column, ...]:
    """What the source sends, in attribute order: generated columns are not published (E19)."""
    return tuple(sorted((column for column in table.columns if not column.is_generated), key=lambda c: c.number))


def compile_columns(pair: Pair, spec: Spec, keyspaces: Keyspaces, collect: Collector) -> tuple[ColumnPlan, ...]:
    """Plans in the target's attribute order. Problems go to the collector and leave their column out."""
    given = dict(pair.spec.columns) if pair.spec is not None else {}
    dropped = dict(pair.spec.drop) if pair.spec is not None else {}
    if not published_columns(pair.source):
        collect.error(
            "no_columns",
            pair.place,
            f"{pair.source.name} publishes no column, so no row can be followed.",
            "Exclude it.",
        )
    _check_names(pair, given, dropped, collect)
    plans: list[ColumnPlan] = []
    reached: set[str] = set()  # source columns that feed something, or whose own error was told already
    for target in sorted(pair.target.columns, key=lambda column: column.number):
        entry = given.get(target.name)
        if entry is None and target.name in dropped:
            source = None
        else:
            source = pair.source.column((entry.source if entry is not None else None) or target.name)
        if source is not None and (entry is None or not isinstance(entry.rule, Const)):
            reached.add(source.name)
        if entry is None and (source is None or target.is_generated):
            if source is not None and not source.is_generated:
                _feeds_generated(pair, source, target, pair.place, collect)
            elif source is None:
                _check_unfed(pair, target, collect)
            continue
        plan = _plan(pair, target, source, entry, keyspaces, spec, collect)
        if plan is not None:
            plans.append(plan)
    _check_used(pair, spec, reached, dropped, collect)
    return tuple(plans)


def _check_names(pair: Pair, given: dict[str, ColumnSpec], dropped: dict[str, Place], collect: Collector) -> None:
    target_names = [column.name for column in pair.target.columns]
    source_names = [column.name for column in pair.source.columns]
    for name, entry in given.items():
        if name not in target_names:
            collect.error(
                "target_column_missing",
                entry.place,
                f"{pair.target.name} on the target has no column {name!r}.{did_you_mean(name, target_names)}",
                "Correct the name (the left side is the target's), or create the column.",
            )
        if isinstance(entry.rule, Const):
            continue
        source = entry.source or name
        if source not in source_names:
            collect.error(
                "source_column_missing",
                entry.place,
                f"{pair.source.name} on the source has no column {source!r}, which feeds {pair.target.name}.{name}."
                f"{did_you_mean(source, source_names)}",
                "Correct the name, or say what feeds the column: {from: …} or {const: …}.",
            )
        elif source in dropped:
            collect.error(
                "column_used_and_dropped",
                dropped[source],
                f"{pair.source.name}.{source} is dropped here and feeds {pair.target.name}.{name} in line "
                f"{entry.place.line}.",
                "Remove one of the two.",
            )
    for name, place in dropped.items():
        if name not in source_names:
            collect.error(
                "dropped_column_missing",
                place,
                f"{pair.source.name} on the source has no column {name!r} to drop.{did_you_mean(name, source_names)}",
                "Correct the name, or remove it from 'drop'.",
            )


def _check_unfed(pair: Pair, target: Column, collect: Collector) -> None:
    """A target column nothing feeds must fill itself."""
    if target.is_generated or target.identity or target.has_default or not target.not_null:
        return
    hint = did_you_mean(target.name, (column.name for column in pair.source.columns))
    collect.error(
        "target_column_unfed",
        pair.place,
        f"{pair.target.name}.{target.name} is NOT NULL without a default, and nothing feeds it.{hint}",
        f"Say what feeds it (columns: {{{target.name}: …}}), or give it a default on the target.",
    )


def _check_used(pair: Pair, spec: Spec, reached: set[str], dropped: dict[str, Place], collect: Collector) -> None:
    policies = pair.spec.policies if pair.spec is not None else spec.policies
    # A column added later and ignored by the stream must not stop the next start either (E1).
    tell = collect.warning if policies.source_column_added is OnColumnAdded.IGNORE else collect.error
    for column in published_columns(pair.source):
        if column.name in reached or column.name in dropped:
            continue
        hint = did_you_mean(column.name, (other.name for other in pair.target.columns))
        tell(
            "source_column_unused",
            pair.place,
            f"{pair.source.name}.{column.name} is neither used nor dropped: {pair.target.name} has no column of that "
            f"name.{hint}",
            f"Use it under another name (columns: {{new_name: {column.name}}}) or leave it behind on purpose (drop: "
            f"[{column.name}]), under tables: {pair.target.name}.",
        )


def _feeds_generated(pair: Pair, source: Column, target: Column, place: Place, collect: Collector) -> None:
    collect.error(
        "target_column_generated",
        place,
        f"{pair.target.name}.{target.name} is generated by the target and cannot be fed from {source.name}.",
        f"Leave the source column behind on purpose (drop: [{source.name}]), or make the target column a plain one.",
    )


def _plan(
    pair: Pair,
    target: Column,
    source: Column | None,
    entry: ColumnSpec | None,
    keyspaces: Keyspaces,
    spec: Spec,
    collect: Collector,
) -> ColumnPlan | None:
    place = entry.place if entry is not None else pair.place
    if entry is not None and isinstance(entry.rule, Const):
        if target.is_generated:
            collect.error(
                "target_column_generated",
                place,
                f"{pair.target.name}.{target.name} is generated by the target and cannot be given a value.",
                "Remove the entry.",
            )
            return None
        _check_const(pair, target, entry.rule, place, collect)
        return ColumnPlan(target, None, entry.rule)
    if source is None:
        return None  # told by _check_names
    if target.is_generated:
        _feeds_generated(pair, source, target, place, collect)
        return None
    if source.is_generated:
        collect.error(
            "source_column_generated",
            place,
            f"{pair.source.name}.{source.name} is generated: logical replication does not send it, so it cannot feed "
            f"{pair.target.name}.{target.name}.",
            f"Make the target column generated as well, or leave it behind on purpose (drop: [{source.name}]).",
        )
        return None
    rule = _rule(pair, source, target, entry, keyspaces, place, collect)
    if rule is None:
        return None
    _judge(pair, source, target, rule, keyspaces, place, collect)
    if target.not_null and not source.not_null:
        collect.warning(
            "column_not_null",
            place,
            f"{pair.target.name}.{target.name} is NOT NULL, but {pair.source.name}.{source.name} may hold NULL: such a "
            "row stops the stream.",
            f"ALTER TABLE {sql_name(pair.target.name)} ALTER COLUMN {quoted(target.name)} DROP NOT NULL;\n"
            "-- or make sure that no row has it",
        )
    return ColumnPlan(target, source, rule)


def _rule(
    pair: Pair,
    source: Column,
    target: Column,
    entry: ColumnSpec | None,
    keyspaces: Keyspaces,
    place: Place,
    collect: Collector,
) -> Rule | None:
    """The rule as written, or what foreign keys say of the column. None after an error."""
    names = keyspaces.of(pair.source.name, source.name)
    written = entry.rule if entry is not None else None
    what = f"{pair.source.name}.{source.name}"
    if isinstance(written, Remap):
        if names and written.keyspace not in names:
            collect.error(
                "keyspace_conflict",
                place,
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
            place,
            f"{what} holds ids of {_listed(names)} and cannot be given another rule as well.",
            f"Write {{from: {source.name}, remap: {min(names)}}}.",
        )
        return None
    if len(names) > 1:
        collect.error(
            "keyspace_ambiguous",
            place,
            f"{what} refers to several keyspaces: {_listed(names)}.",
            f"Say which: {target.name}: {{from: {source.name}, remap: {min(names)}}}.",
        )
        return None
    if names:
        return Remap(next(iter(names)))
    return written if written is not None else Verbatim()


def _listed(names: frozenset[str]) -> str:
    return " and ".join(f"ids.{name}" for name in sorted(names))


def _judge(
    pair: Pair, source: Column, target: Column, rule: Rule, keyspaces: Keyspaces, place: Place, collect: Collector
) -> None:
    where = f"{pair.source.name}.{source.name} to {pair.target.name}.{target.name}"
    if isinstance(rule, Remap):
        keyspace = keyspaces.by_name.get(rule.keyspace)
        if keyspace is None:
            return  # its own error was told
        is_declared = rule.keyspace in keyspaces.of(pair.source.name, source.name)
        problem = check_remapped(keyspace, source, target, is_declared=is_declared)
        if problem is not None:
            keep = f" To keep the old id: {target.name}: {{from: {source.name}, remap: false}}."
            collect.error("type_of_remapped", place, f"{where}: {problem[0]}.", problem[1] + keep)
        elif target.base_type in INTEGERS and INTEGERS[target.base_type] < INTEGERS.get(keyspace.old_type, 0):
            collect.warning(
                "type_narrowed",
                place,
                f"{where}: numbers outside the range of {target.type_name} are refused.",
                "Widen the target column, or make sure that no id comes near.",
            )
        return
    verdict = time_zone_verdict(source, target) if isinstance(rule, LocalTime) else judge(source, target)
    if verdict.fit is Fit.REFUSED:
        remedy = verdict.remedy
        if keyspaces.by_name and source.base_type in INTEGERS and target.base_type == "uuid":
            remedy = f"If it holds ids, say of which keyspace: {target.name}: {{from: {source.name}, remap: …}}."
        collect.error("type_not_convertible", place, f"{where}: {verdict.sentence}.", remedy)
    elif verdict.fit is Fit.CHECKED:
        collect.warning("type_narrowed", place, f"{where}: {verdict.sentence}.", verdict.remedy)


def _check_const(pair: Pair, target: Column, rule: Const, place: Place, collect: Collector) -> None:
    where = f"{pair.target.name}.{target.name}"
    if rule.text is None:
        if target.not_null:
            collect.error(
                "const_not_null", place, f"{where} is NOT NULL and cannot be the constant null.", "Give another value."
            )
        return
    if target.type_kind == "b" and not _reads_as(rule.text, target):
        collect.error(
            "const_type",
            place,
            f"The constant given for {where} is no {target.type_name}.",
            f"Write a value that PostgreSQL reads as {target.type_name}.",
        )


def _reads_as(text: str, target: Column) -> bool:
    """Whether the target's input function may read the constant; what we cannot tell here is left to the server."""
    match target.base_type:
        case "smallint" | "integer" | "bigint" as name:
            if re.fullmatch(r"\s*[-+]?[0-9]{1,19}\s*", text) is None:
                return False
            limit = 1 << _INTEGER_BITS[name]
            return -limit <= int(text) < limit
        case "numeric" | "real" | "double precision":
            number = r"\s*[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\s*"
            return re.fullmatch(rf"{number}|\s*[-+]?inf(?:inity)?\s*|\s*nan\s*", text, re.IGNORECASE) is not None
        case "boolean":
            return _BOOLEANS.fullmatch(text.strip()) is not None
        case "uuid":
            try:
                uuid.UUID(text)
            except ValueError:
                return False
            return True
        case _:
            return True
