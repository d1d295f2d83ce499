"""One source table into several targets: what they must have in common, and which of them owns its new ids.

Refuses to know columns and types, which each target is judged by alone. The invariant: of the targets of one source
table at most one owns a keyspace, and all of them are published in the same way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from crossfade.catalog import TableName
from crossfade.mapping.collect import Collector
from crossfade.mapping.pairs import Pair
from crossfade.mapping.plan import Keyspace, Remap, TablePlan


def check_splits(pairs: Sequence[Pair], collect: Collector) -> None:
    """A source table is published once: for every operation, or for INSERT and TRUNCATE only."""
    first: dict[TableName, Pair] = {}
    for pair in pairs:
        other = first.setdefault(pair.source.name, pair)
        if _is_append_only(other) is _is_append_only(pair):
            continue
        appended, whole = (pair, other) if _is_append_only(pair) else (other, pair)
        collect.error(
            "split_append_only",
            appended.place,
            f"{appended.target.name} is append_only and {whole.target.name} is not, but both are made of "
            f"{pair.source.name}, which is published in one way only.",
            "Say append_only: true of both, or of neither.",
        )


def _is_append_only(pair: Pair) -> bool:
    return pair.spec is not None and pair.spec.append_only


def with_one_owner(plans: Sequence[TablePlan], keyspaces: Mapping[str, Keyspace]) -> list[TablePlan]:
    """The plans, `owns` left to the first target that holds the new ids themselves: what the others hold refers to them
    and follows when a key changes, as the source's own foreign keys would make it."""
    owner: dict[TableName, TablePlan] = {}
    for plan in plans:
        if plan.owns is None:
            continue
        first = owner.setdefault(plan.source, plan)
        if _holds(plan, keyspaces) and not _holds(first, keyspaces):
            owner[plan.source] = plan
    return [
        plan if plan.owns is None or owner[plan.source] is plan else dataclasses.replace(plan, owns=None)
        for plan in plans
    ]


def _holds(plan: TablePlan, keyspaces: Mapping[str, Keyspace]) -> bool:
    """The column that the keyspace is declared on comes with its new id."""
    if plan.owns is None or plan.owns not in keyspaces:
        return False
    declared = keyspaces[plan.owns].column
    return any(
        column.source is not None and column.source.name == declared and column.rule == Remap(plan.owns)
        for column in plan.columns
    )
