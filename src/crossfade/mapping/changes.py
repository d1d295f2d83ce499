"""What differs between two compiled mappings, and what that means for a workflow that runs with the first.

Refuses to know files and databases: `specchanges` compares mappings as they are written, where there is no catalog to
compile them against. The invariant: two plans that make other rows differ in at least one change that is not free.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from crossfade.catalog import TableName
from crossfade.mapping.compoundnames import written
from crossfade.mapping.effects import Effect, of_keyspaces, of_rules
from crossfade.mapping.meaning import table_meaning
from crossfade.mapping.plan import ColumnPlan, Plan, Policies, TablePlan


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `tables` are the target tables to be copied again, for a RESYNC."""

    effect: Effect
    subject: str
    sentence: str
    tables: tuple[TableName, ...] = ()


@dataclass(frozen=True, slots=True)
class Changes:
    """All differences, the worst first."""

    all: tuple[Change, ...]

    @property
    def effect(self) -> Effect:
        """The worst; FREE when there is none."""
        return max((change.effect for change in self.all), key=lambda effect: effect.rank, default=Effect.FREE)

    @property
    def tables(self) -> tuple[TableName, ...]:
        """Target tables to be copied again."""
        return tuple(sorted({name for change in self.all for name in change.tables}))

    def lines(self) -> Sequence[str]:
        """For people: one line for each change, then what follows from them."""
        told = [f"{change.effect.value:<10}  {change.subject}: {change.sentence}." for change in self.all]
        match self.effect:
            case Effect.FREE if not self.all:
                told.append("No difference in what becomes of any row.")
            case Effect.FREE:
                told.append("All of it is free: restart the daemon with the new mapping.")
            case Effect.RESYNC:
                told.append(f"To be copied again: {', '.join(map(str, self.tables))}.")
            case Effect.IMPOSSIBLE:
                told.append("Not within a running workflow.")
        return told


def ordered(changes: Iterable[Change]) -> Changes:
    """The worst first, then by subject; the same text is told once."""
    return Changes(
        tuple(sorted(dict.fromkeys(changes), key=lambda each: (-each.effect.rank, each.subject, each.sentence)))
    )


def between(old: Plan, new: Plan) -> Changes:
    """Compare two plans of one pair of databases."""
    return ordered((*_keyspaces(old, new), *_tables(old, new)))


# -- ids ------------------------------------------------------------------------------------------------------------


def _keyspaces(old: Plan, new: Plan) -> Iterator[Change]:
    for name, keyspace in new.keyspaces.items():
        before = old.keyspaces.get(name)
        if before is not None and before != dataclasses.replace(keyspace, lower=before.lower, upper=before.upper):
            effect, reason = of_keyspaces(before, keyspace)
            yield Change(effect, f"ids.{name}", reason)
    for name in old.keyspaces.keys() ^ new.keyspaces.keys():
        # Which rows that concerns, the columns say; a keyspace nobody uses concerns none.
        yield Change(Effect.FREE, f"ids.{name}", "declared" if name in new.keyspaces else "declared no more")


# -- tables ---------------------------------------------------------------------------------------------------------


def _tables(old: Plan, new: Plan) -> Iterator[Change]:
    before, after = _by_pair(old.tables), _by_pair(new.tables)
    for pair in sorted(before.keys() | after.keys()):
        source, target = pair
        if pair not in before:
            sentence = f"is made of {source} now, whose rows were never copied"
            yield Change(Effect.RESYNC, str(target), sentence, (target,))
        elif pair not in after:
            yield Change(
                Effect.IMPOSSIBLE,
                str(target),
                f"is made of {source} no more; a table that is followed cannot leave, and its rows would stay",
            )
        else:
            yield from _of_table(before[pair], after[pair])


def _by_pair(tables: Iterable[TablePlan]) -> Mapping[tuple[TableName, TableName], TablePlan]:
    return {(table.source, table.target): table for table in tables}


def _of_table(old: TablePlan, new: TablePlan) -> Iterator[Change]:
    if old.append_only != new.append_only:
        sentence = (
            "becomes append_only: UPDATEs and DELETEs are not published any more"
            if new.append_only
            else "is append_only no more: UPDATEs and DELETEs were never followed"
        )
        yield Change(Effect.RESYNC, str(new.target), sentence, (new.target,))
    yield from _columns(old, new)
    yield from policies(old.policies, new.policies, str(new.target))
    # Whatever else makes rows, of which nothing is known here: not free.
    rest = dataclasses.replace(old, columns=new.columns, append_only=new.append_only)
    if table_meaning(rest) != table_meaning(new):
        yield Change(Effect.RESYNC, str(new.target), "its rows are chosen or made in another way", (new.target,))


def _columns(old: TablePlan, new: TablePlan) -> Iterator[Change]:
    before = {column.target.name: column for column in old.columns}
    after = {column.target.name: column for column in new.columns}
    again = (new.target,)
    for name in sorted(before.keys() | after.keys()):
        subject = f"{new.target}.{name}"
        was, becomes = before.get(name), after.get(name)
        if was is None and becomes is not None:
            yield Change(Effect.RESYNC, subject, f"is fed {_fed(becomes)} now; rows already copied lack it", again)
        elif becomes is None:
            yield Change(Effect.RESYNC, subject, "is fed no more; rows already copied keep their values", again)
        elif was is not None:
            if _source(was) != _source(becomes):
                yield Change(Effect.RESYNC, subject, f"is fed {_fed(becomes)}, and was {_fed(was)}", again)
            elif was.rule != becomes.rule:
                effect = of_rules(was.rule, becomes.rule)
                sentence = f"{told(becomes.rule)}, and was {told(was.rule)}"
                yield Change(effect, subject, sentence, again if effect is Effect.RESYNC else ())


def _source(column: ColumnPlan) -> str | None:
    return column.source.name if column.source is not None else None


def _fed(column: ColumnPlan) -> str:
    return f"from {written(column.source.name)}" if column.source is not None else f"by {told(column.rule)}"


_WORDS = {
    "Sql": "SQL",
    "Expression": "SQL",
    "LocalTime": "a local time",
    "Verbatim": "as it is",
    "Within": "as it is",
    "Remap": "remapped",
    "Const": "a constant",
    "ValueMap": "a value map",
    "Convert": "a conversion",
    "RemapArray": "an array of ids",
    "RemapPaths": "ids by path",
    "RemapBy": "ids by another column",
}


def told(rule: object) -> str:
    """A rule in a few words."""
    words = _WORDS.get(type(rule).__name__, "another rule")
    for attribute in ("keyspace", "zone", "conversion", "text"):
        detail = getattr(rule, attribute, None)
        if detail is not None:
            words = f"{words} ({getattr(detail, 'value', detail)})"
    return words


def policies(old: Policies, new: Policies, subject: str) -> Iterator[Change]:
    """A policy decides about surprises to come: free."""
    for field in dataclasses.fields(Policies):
        was, becomes = getattr(old, field.name), getattr(new, field.name)
        if was != becomes:
            yield Change(Effect.FREE, subject, f"{field.name}: {becomes.value}, and was {was.value}")
