"""Several sources into one target: what keeps their rows apart, so that each row is known to be one source's.

Rows are found by their key, so the keys must differ: by numbers (each source's begin where its offset says) or by ids
that keyspaces make. Refuses to know rows. The invariant: two sources of a target hold no key in common, whatever their
rows are, or there is an error; what only rows can tell (another unique key) is warned of.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from crossfade.catalog import Key, TableName
from crossfade.mapping.collect import Collector
from crossfade.mapping.compoundnames import written
from crossfade.mapping.conversions import INTEGERS
from crossfade.mapping.pairs import Pair
from crossfade.mapping.plan import ColumnPlan, Const, Keyspace, OnTruncate, Remap, Strategy, TablePlan, Verbatim
from crossfade.mapping.rules import Within
from crossfade.mapping.shares import InMap, InNoMap, InRange, Share

# New ids that nobody else makes: they differ from all others, whatever those are.
_UNLIKE_ALL: Final = frozenset({Strategy.UUID7, Strategy.UUID4, Strategy.UUID5})


@dataclass(frozen=True, slots=True)
class _Side:
    """One source of the target."""

    pair: Pair
    plan: TablePlan

    @property
    def name(self) -> TableName:
        return self.plan.source

    def column(self, name: str) -> ColumnPlan | None:
        """What feeds a target column."""
        return next((column for column in self.plan.columns if column.target.name == name), None)


def tell_apart(
    pairs: Sequence[Pair], plans: Sequence[TablePlan], keyspaces: Mapping[str, Keyspace], collect: Collector
) -> tuple[list[TablePlan], dict[str, Keyspace]]:
    """The plans, in their order, and the keyspaces, with what divides the rows of every target that has several
    sources."""
    sides: dict[TableName, list[_Side]] = {}
    for pair, plan in zip(pairs, plans, strict=True):
        sides.setdefault(plan.target, []).append(_Side(pair, plan))
    made = {plan.route: plan for plan in plans}
    spaces = dict(keyspaces)
    for several in sides.values():
        if len(several) == 1:
            continue
        column, shares = _shares(several, spaces, collect)
        for side in several:
            share = shares.get(side.name)
            plan = _bounded(side.plan, share, spaces)
            beside = tuple(other.name for other in several if other is not side)
            made[plan.route] = dataclasses.replace(plan, beside=beside, share=share)
        keys = several[0].pair.target.keys if shares or several[0].plan.append_only else ()
        for key in keys:
            _check_unique(key, column, several, collect)
    return [made[plan.route] for plan in plans], spaces


def _shares(
    several: Sequence[_Side], keyspaces: Mapping[str, Keyspace], collect: Collector
) -> tuple[str, Mapping[TableName, Share]]:
    """By which column, and who has what of it; nothing where rows need not be told apart, and after an error."""
    first = several[0]
    if any(side.plan.append_only for side in several):
        _check_appended(several, collect)
        return "", {}
    if not all(side.plan.key for side in several):
        return "", {}  # why, `identity` has told
    common = [name for name in first.plan.key if all(name in side.plan.key for side in several)]
    reasons: list[str] = []
    for name in common:
        found = _by_numbers(name, several, keyspaces) or _by_maps(name, several, keyspaces)
        if found:
            return name, found
        reasons.append(f"{name} is {_described(name, several, keyspaces)}")
    why = "; ".join(reasons) or "the keys by which their rows are found have no column in common"
    owner = several[-1].name
    collect.error(
        "sources_not_disjoint",
        several[-1].pair.place,
        f"{first.plan.target} is made of {_listed(several)}, and nothing keeps the keys of their rows apart: {why}.",
        "Give new ids to the rows of one source or of each, of strategy uuid7, or of one sequence, or numbers with an "
        f"offset that those of the others never reach: ids: {{{owner.name}: {{from: {owner}."
        f"{written(several[-1].plan.identity[0])}, strategy: offset, by: 1000000000}}}}.",
    )
    return "", {}


def _check_appended(several: Sequence[_Side], collect: Collector) -> None:
    """Rows without a key cannot be told apart, so those of one source cannot be taken out alone."""
    side = several[0]
    if side.plan.policies.truncate is OnTruncate.STOP:
        return
    collect.error(
        "sources_not_separable",
        side.pair.place,
        f"{side.plan.target} is append_only and made of {_listed(several)}: which rows are whose, nobody can tell, so "
        "a TRUNCATE of one of them cannot be followed.",
        f"Say truncate: stop under tables: {side.plan.target}, if none of them is ever truncated.",
    )


def _by_numbers(
    name: str, several: Sequence[_Side], keyspaces: Mapping[str, Keyspace]
) -> dict[TableName, Share] | None:
    """Each has the numbers from its offset on, up to the next one's; the first all below, the last all above."""
    begins: dict[TableName, int] = {}
    for side in several:
        by = _begins(side.column(name), keyspaces)
        if by is None or by in begins.values():
            return None
        begins[side.name] = by
    ordered = sorted(begins, key=lambda source: begins[source])
    uppers = {source: begins[following] for source, following in pairwise(ordered)}
    lowers = {source: begins[source] for source in ordered[1:]}
    return {source: InRange(name, lowers.get(source), uppers.get(source)) for source in ordered}


def _begins(column: ColumnPlan | None, keyspaces: Mapping[str, Keyspace]) -> int | None:
    if column is None or column.source is None or column.target.base_type not in INTEGERS:
        return None
    if isinstance(column.rule, Verbatim):
        return 0 if column.source.base_type in INTEGERS else None
    keyspace = keyspaces.get(column.rule.keyspace) if isinstance(column.rule, Remap) else None
    return keyspace.by if keyspace is not None and keyspace.strategy is Strategy.OFFSET else None


def _by_maps(name: str, several: Sequence[_Side], keyspaces: Mapping[str, Keyspace]) -> dict[TableName, Share] | None:
    """Each has the ids of its own keyspace; one may be left over whose ids are not ours to make."""
    found: dict[TableName, Share] = {}
    maps: dict[str, Keyspace] = {}
    others: list[TableName] = []
    for side in several:
        column = side.column(name)
        keyspace = keyspaces.get(column.rule.keyspace) if column and isinstance(column.rule, Remap) else None
        if keyspace is not None and keyspace.strategy in {*_UNLIKE_ALL, Strategy.SEQUENCE}:
            if keyspace.name in maps:
                return None
            maps[keyspace.name] = keyspace
            found[side.name] = InMap(name, keyspace.name)
        else:
            others.append(side.name)
    drawn = {keyspace.taken_from for keyspace in maps.values() if keyspace.strategy is Strategy.SEQUENCE}
    if not maps or len(others) > 1 or len(drawn) > 1 or (drawn and others):
        return None
    found.update({source: InNoMap(name, tuple(sorted(maps))) for source in others})
    return found


def _bounded(plan: TablePlan, share: Share | None, keyspaces: dict[str, Keyspace]) -> TablePlan:
    """Whatever is not the source's number is refused: by the column's rule, or when its keyspace makes the id."""
    if not isinstance(share, InRange):
        return plan
    columns: list[ColumnPlan] = []
    for column in plan.columns:
        rule = column.rule
        if column.target.name == share.column and isinstance(rule, Verbatim):
            column = dataclasses.replace(column, rule=Within(share.lower, share.upper))
        elif column.target.name == share.column and isinstance(rule, Remap):
            keyspace = keyspaces[rule.keyspace]
            lowers = [bound for bound in (keyspace.lower, share.lower) if bound is not None]
            uppers = [bound for bound in (keyspace.upper, share.upper) if bound is not None]
            keyspaces[rule.keyspace] = dataclasses.replace(
                keyspace, lower=max(lowers, default=None), upper=min(uppers, default=None)
            )
        columns.append(column)
    return dataclasses.replace(plan, columns=tuple(columns))


def _check_unique(key: Key, column: str, several: Sequence[_Side], collect: Collector) -> None:
    """Whatever else is unique there, nothing keeps unique between two sources."""
    if not ((key.is_unique and key.is_valid) or key.is_exclusion) or (column and column in key.columns):
        return
    feeding = [side for side in several if all(side.column(name) is not None for name in key.columns)]
    if len(feeding) < 2 or any(_differ_by_constant(name, feeding) for name in key.columns):
        return
    columns = f"({', '.join(key.columns)})" if key.columns else "An expression"
    collect.warning(
        "sources_share_unique",
        f"target {several[0].plan.target}",
        f"{columns} is unique on {several[0].plan.target} ({key.name}), and nothing keeps a row of "
        f"{_listed(feeding, 'or')} from having what a row of another has: such a row stops the stream.",
        "Ask `crossfade check --data` whether there are any now; mend them on the source.",
    )


def _differ_by_constant(name: str, feeding: Sequence[_Side]) -> bool:
    """Each source has a constant of its own there."""
    rules = [column.rule for side in feeding if (column := side.column(name)) is not None]
    texts = {rule.text for rule in rules if isinstance(rule, Const) and rule.text is not None}
    return len(texts) == len(feeding)


def _described(name: str, several: Sequence[_Side], keyspaces: Mapping[str, Keyspace]) -> str:
    return ", ".join(f"{_told(side.column(name), keyspaces)} for {side.name}" for side in several)


def _told(column: ColumnPlan | None, keyspaces: Mapping[str, Keyspace]) -> str:
    if column is None or column.source is None:
        return "not made of its columns"
    if isinstance(column.rule, Remap) and (keyspace := keyspaces.get(column.rule.keyspace)) is not None:
        by = f" by {keyspace.by}" if keyspace.strategy is Strategy.OFFSET else ""
        from_there = f" {keyspace.taken_from}" if keyspace.taken_from is not None else ""
        return f"an id of ids.{keyspace.name} ({keyspace.strategy.value}{by}{from_there})"
    return f"{column.source.name} as it is"


def _listed(several: Sequence[_Side], conjunction: str = "and") -> str:
    names = [str(side.name) for side in several]
    return f"{', '.join(names[:-1])} {conjunction} {names[-1]}"
