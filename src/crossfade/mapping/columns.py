"""How each target column of one pair is fed, and that nothing on either side is left over.

Refuses to know keys, identities and other tables. The invariant: a column plan it returns has been judged; every
published source column is used or dropped on purpose (or ignored, as `source_column_added: ignore` says), every other
target column is generated, identity, defaulted or nullable, or there is an error.
"""

from __future__ import annotations

from crossfade.catalog import Column
from crossfade.mapping.collect import Collector, quoted, sql_name
from crossfade.mapping.columnrules import compile_rule
from crossfade.mapping.compoundnames import all_parts, is_compound, parts_of
from crossfade.mapping.expressions import Expressions
from crossfade.mapping.feeds import Feed
from crossfade.mapping.idrules import RemapBy
from crossfade.mapping.keyspaces import Keyspaces
from crossfade.mapping.pairs import Pair
from crossfade.mapping.places import Place, did_you_mean
from crossfade.mapping.plan import ColumnPlan, Const, OnColumnAdded
from crossfade.mapping.published import published_columns
from crossfade.mapping.rules import Sql
from crossfade.mapping.spec import ColumnSpec, Spec
from crossfade.mapping.spellings import unfit


def taken_columns(pair: Pair, expressions: Expressions) -> frozenset[str]:
    """Source columns that this pair takes, so that a table beside it, made of the same source, need not."""
    given = pair.spec.columns if pair.spec is not None else {}
    left = pair.spec.drop if pair.spec is not None else {}
    taken = {entry.source or name for name, entry in given.items() if not isinstance(entry.rule, Const | Sql)}
    taken |= expressions.inputs(pair)
    if pair.spec is None or not pair.spec.only:
        taken |= {column.name for column in pair.target.columns if column.name not in given and column.name not in left}
    return frozenset(column.name for column in pair.source.columns if column.name in all_parts(taken))


def compile_columns(
    pair: Pair,
    spec: Spec,
    keyspaces: Keyspaces,
    expressions: Expressions,
    collect: Collector,
    *,
    elsewhere: frozenset[str] = frozenset(),
) -> tuple[ColumnPlan, ...]:
    """Plans in the target's attribute order. Problems go to the collector and leave their column out.

    `elsewhere` are source columns that another target of the same source takes.
    """
    given = dict(pair.spec.columns) if pair.spec is not None else {}
    dropped = dict(pair.spec.drop) if pair.spec is not None else {}
    only = pair.spec is not None and pair.spec.only
    if not published_columns(pair.source):
        collect.error(
            "no_columns",
            pair.place,
            f"{pair.source.name} publishes no column, so no row can be followed.",
            "Exclude it.",
        )
    _check_names(pair, given, dropped, collect)
    plans: list[ColumnPlan] = []
    reached = set(expressions.inputs(pair))  # source columns used for something, or whose own error was told already
    # A namesake that the target computes is no matter for a column that feeds another one.
    used_here = {entry.source or name for name, entry in given.items() if not isinstance(entry.rule, Const | Sql)}
    for target in sorted(pair.target.columns, key=lambda column: column.number):
        entry = given.get(target.name)
        if entry is None and (target.name in dropped or only):
            source = None
        else:
            source = pair.source.column((entry.source if entry is not None else None) or target.name)
        if entry is not None and isinstance(entry.rule, Sql):
            plan = _computed(pair, target, entry, entry.rule, expressions, collect)
            if plan is not None:
                plans.append(plan)
            continue
        if source is not None and (entry is None or not isinstance(entry.rule, Const)):
            reached.update(parts_of(source.name))
        if entry is not None and isinstance(entry.rule, RemapBy):
            reached.add(entry.rule.by)
        if entry is None and (source is None or target.is_generated):
            if source is not None and not source.is_generated and source.name not in used_here | elsewhere:
                _feeds_generated(pair, source, target, pair.place, collect)
            elif source is None:
                _check_unfed(pair, target, collect)
            continue
        plan = _plan(pair, target, source, entry, keyspaces, spec, collect)
        if plan is not None:
            plans.append(plan)
    if not only:
        _check_used(pair, spec, reached | elsewhere, dropped, collect)
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
        if isinstance(entry.rule, Const | Sql):
            continue
        source = entry.source or name
        if is_compound(source) and source not in source_names:
            _cannot_join(pair, entry, parts_of(source), collect)
        elif source not in source_names:
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


def _cannot_join(pair: Pair, entry: ColumnSpec, parts: tuple[str, ...], collect: Collector) -> None:
    missing = [name for name in parts if pair.source.column(name) is None]
    columns = ", ".join(parts)
    collect.error(
        "source_column_missing" if missing else "compound_type",
        entry.place,
        f"{pair.source.name} on the source has no column {missing[0]!r}, which feeds {pair.target.name}.{entry.target} "
        f"together with others.{did_you_mean(missing[0], (column.name for column in pair.source.columns))}"
        if missing
        else f"{pair.target.name}.{entry.target}: {columns} of {pair.source.name} cannot be an id together: "
        "each must be smallint, integer, bigint, text, varchar or uuid, and not generated.",
        "Name the columns that are the id, in the order in which the keyspace names its own.",
    )


def _computed(
    pair: Pair, target: Column, entry: ColumnSpec, rule: Sql, expressions: Expressions, collect: Collector
) -> ColumnPlan | None:
    if target.is_generated:
        collect.error(
            "target_column_generated",
            entry.place,
            f"{pair.target.name}.{target.name} is generated by the target and cannot be given a value.",
            "Remove the entry.",
        )
        return None
    expression = expressions.up(pair, target, rule, entry.at("up"), collect)
    return None if expression is None else ColumnPlan(target, None, expression)


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


def _check_used(
    pair: Pair, spec: Spec, reached: frozenset[str] | set[str], dropped: dict[str, Place], collect: Collector
) -> None:
    policies = pair.spec.policies if pair.spec is not None else spec.policies
    # A column added later and ignored by the stream must not stop the next start either (E1).
    tell = collect.warning if policies.source_column_added is OnColumnAdded.IGNORE else collect.error
    for column in published_columns(pair.source):
        if column.name in reached or column.name in dropped or is_compound(column.name):
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
    rule = compile_rule(Feed(pair, source, target, entry), keyspaces, collect)
    if rule is None:
        return None
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


def _check_const(pair: Pair, target: Column, rule: Const, place: Place, collect: Collector) -> None:
    where = f"{pair.target.name}.{target.name}"
    if rule.text is None:
        if target.not_null:
            collect.error(
                "const_not_null", place, f"{where} is NOT NULL and cannot be the constant null.", "Give another value."
            )
        return
    why = unfit(rule.text, target)
    if why:
        collect.error(
            "const_type",
            place,
            f"The constant given for {where} {why}.",
            f"Write a value that PostgreSQL reads as {target.type_name}.",
        )
