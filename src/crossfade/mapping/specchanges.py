"""What differs between two mappings as they are written, where no database is at hand to compile them against.

More is called a resync here than has to be: without catalogs nobody knows which tables a schema or a pattern stands
for, nor what a column of the same name was. Refuses to know catalogs. The invariant: what is free here is free against
any catalogs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from crossfade.catalog import TableName
from crossfade.mapping.changes import Change, Changes, ordered, policies, told
from crossfade.mapping.effects import Effect, of_rules
from crossfade.mapping.places import Place
from crossfade.mapping.plan import Strategy, Verbatim
from crossfade.mapping.rules import Lossy, Sql
from crossfade.mapping.spec import ColumnSpec, ConditionSpec, KeyspaceSpec, Spec, TableSpec

_RANDOM = frozenset({Strategy.UUID4, Strategy.UUID7})
_COMPARED_BY_NAME = frozenset({"columns", "drop", "policies", "sources"})


def between_specs(old: Spec, new: Spec) -> Changes:
    """Compare two files by what they say alone."""
    return ordered((*_whole(old, new), *_keyspaces(old.keyspaces, new.keyspaces), *_tables(old, new)))


def _whole(old: Spec, new: Spec) -> Iterator[Change]:
    for schema in sorted(old.schemas.keys() | new.schemas.keys()):
        was, becomes = old.schemas.get(schema), new.schemas.get(schema)
        if was != becomes:
            sentence = f"its tables go to {becomes or 'no schema'}, and went to {was or 'none'}"
            yield Change(Effect.IMPOSSIBLE if becomes is None else Effect.RESYNC, f"schemas.{schema}", sentence)
    before = {exclusion.pattern for exclusion in old.exclude}
    after = {exclusion.pattern for exclusion in new.exclude}
    for pattern in sorted(after - before):
        yield Change(
            Effect.IMPOSSIBLE, f"exclude {pattern}", "a table that is followed cannot leave (free if there is none)"
        )
    for pattern in sorted(before - after):
        yield Change(
            Effect.RESYNC, f"exclude {pattern}", "the tables it left out were never copied (free if there is none)"
        )
    if old.policies != new.policies:
        yield from policies(old.policies, new.policies, "policies")


def _keyspaces(old: Mapping[str, KeyspaceSpec], new: Mapping[str, KeyspaceSpec]) -> Iterator[Change]:
    for name in sorted(old.keys() | new.keys()):
        was, becomes = old.get(name), new.get(name)
        subject = f"ids.{name}"
        if was is None or becomes is None:
            yield Change(Effect.RESYNC, subject, "whatever refers to it is made in another way")
        elif _plain(was) != _plain(becomes):
            is_free = (
                _plain(dataclasses.replace(was, strategy=becomes.strategy)) == _plain(becomes)
                and becomes.strategy in _RANDOM
                and was.strategy in {*_RANDOM, Strategy.UUID5}
            )
            sentence = "ids given stay; new ones are made in the new way" if is_free else "ids that were given stay"
            yield Change(Effect.FREE if is_free else Effect.IMPOSSIBLE, subject, sentence)


def _tables(old: Spec, new: Spec) -> Iterator[Change]:
    for name in sorted(old.tables.keys() | new.tables.keys()):
        was, becomes = old.tables.get(name), new.tables.get(name)
        if was is None or becomes is None:
            entry = becomes or was
            assert entry is not None
            if _is_silent(entry, new if becomes is not None else old):
                continue
            sentence = "has an entry of its own now" if was is None else "has no entry of its own any more"
            yield Change(Effect.RESYNC, str(name), sentence, (name,))
        else:
            yield from _of_table(name, was, becomes)


def _is_silent(table: TableSpec, spec: Spec) -> bool:
    """Whether an entry says nothing about rows: its table would be mapped like this without it."""
    return table.policies == spec.policies and not any(
        value for name, value in _plain(table).items() if name not in {"target", "policies"}
    )


def _of_table(name: TableName, old: TableSpec, new: TableSpec) -> Iterator[Change]:
    if old.sources or new.sources:
        yield from _of_sources(name, old, new)
        return
    yield from _of_source(name, str(name), old, new)


def _of_sources(name: TableName, old: TableSpec, new: TableSpec) -> Iterator[Change]:
    """Entry by entry where there is a list."""
    before = {each.source: each for each in old.each}
    after = {each.source: each for each in new.each}
    for source, entry in after.items():
        if source not in before:
            yield Change(
                Effect.RESYNC, str(name), f"is made of {source} as well, whose rows were never copied", (name,)
            )
        else:
            yield from _of_source(name, f"{name} (from {source})", before[source], entry)
    for source in before.keys() - after.keys():
        sentence = f"is made of {source or 'the table of its name'} no more; a table that is followed cannot leave"
        yield Change(Effect.IMPOSSIBLE, str(name), sentence)


def _of_source(name: TableName, called: str, old: TableSpec, new: TableSpec) -> Iterator[Change]:
    again = (name,)
    for field, (was, becomes) in _differing(old, new).items():
        yield Change(Effect.RESYNC, called, f"{field}: {_said(becomes)}, and was {_said(was)}", again)
    if set(old.drop) != set(new.drop):
        yield Change(Effect.FREE, called, "drop lists other columns")
    if old.policies != new.policies:
        yield from policies(old.policies, new.policies, called)
    for column in sorted(old.columns.keys() | new.columns.keys()):
        subject = f"{called}.{column}"
        one, other = old.columns.get(column), new.columns.get(column)
        if one is None or other is None:
            yield Change(Effect.RESYNC, subject, "is given a rule" if one is None else "is given no rule", again)
        elif _plain(one) != _plain(other):
            effect = _of_columns(one, other)
            sentence = f"{told(other.rule or Verbatim())}, and was {told(one.rule or Verbatim())}"
            yield Change(effect, subject, sentence, again if effect is Effect.RESYNC else ())


def _of_columns(old: ColumnSpec, new: ColumnSpec) -> Effect:
    rest = dataclasses.replace(old, rule=new.rule)
    if _plain(rest) != _plain(new):
        return Effect.RESYNC
    if isinstance(old.rule, Lossy) or isinstance(new.rule, Lossy) or old.rule is None or new.rule is None:
        return Effect.RESYNC  # what they come to, the types decide
    if isinstance(old.rule, Sql) or isinstance(new.rule, Sql):
        is_same = isinstance(old.rule, Sql) and isinstance(new.rule, Sql) and old.rule.up == new.rule.up
        return Effect.FREE if is_same else Effect.RESYNC
    return of_rules(old.rule, new.rule)


def _said(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return str(value)


def _plain(value: object) -> dict[str, object]:
    """A spec's fields without places: where something stands means nothing."""
    assert dataclasses.is_dataclass(value)
    found: dict[str, object] = {}
    for field in dataclasses.fields(value):
        one = getattr(value, field.name)
        if isinstance(one, Place) or field.name in {"drop", "places"}:
            continue
        if isinstance(one, ConditionSpec):
            one = one.up
        if isinstance(one, Mapping):
            one = {key: _plain(each) if dataclasses.is_dataclass(each) else each for key, each in one.items()}
        found[field.name] = one
    return found


def _differing(old: TableSpec, new: TableSpec) -> dict[str, tuple[object, object]]:
    before, after = _plain(old), _plain(new)
    return {
        name: (before[name], after[name])
        for name in before
        if name not in _COMPARED_BY_NAME and before[name] != after[name]
    }
