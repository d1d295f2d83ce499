"""What a change of one rule or keyspace means for rows that are copied already.

A change is free when no value that either mapping lets through becomes another by the other one: where the old mapping
stopped, nothing was copied; where the new one stops, nothing wrong is written. Refuses to know tables. The invariant:
what is not known to be free is not free.
"""

from __future__ import annotations

import enum
from typing import Final

from crossfade.mapping.idrules import OtherOwner, RemapBy
from crossfade.mapping.meaning import rule_meaning
from crossfade.mapping.plan import Keyspace, Rule, Strategy, Verbatim
from crossfade.mapping.rules import Conversion, Convert, Otherwise, ValueMap


class Effect(enum.Enum):
    """What a change of the mapping takes while a workflow runs, the worst last."""

    FREE = "free"  # restart the daemon with it
    RESYNC = "resync"  # rows already copied would differ: the tables must be copied again
    IMPOSSIBLE = "impossible"  # not within this workflow

    @property
    def rank(self) -> int:
        """To compare: higher is worse."""
        return list(Effect).index(self)


_REFUSED = object()  # in place of a value: the row stops the stream


def of_rules(old: Rule, new: Rule) -> Effect:
    """Whether rows made by `old` are what `new` would have made of them."""
    if rule_meaning(old) == rule_meaning(new):
        return Effect.FREE
    if isinstance(old, ValueMap) and isinstance(new, ValueMap):
        return _of_value_maps(old, new)
    if isinstance(old, RemapBy) and isinstance(new, RemapBy):
        return _of_pairs(old, new)
    if isinstance(old, Convert) and isinstance(new, Convert):
        is_same = old.conversion is new.conversion and old.limit == new.limit
        return Effect.FREE if is_same else Effect.RESYNC
    for one, other in ((old, new), (new, old)):
        # Without the cut such a text is refused; with it, what was not refused is the same.
        if isinstance(one, Verbatim) and isinstance(other, Convert) and other.conversion is Conversion.CUT:
            return Effect.FREE
    return Effect.RESYNC


def _of_value_maps(old: ValueMap, new: ValueMap) -> Effect:
    """Every value either of them names, and one that neither does, must become the same or be refused by one."""
    before, after = dict(old.values), dict(new.values)
    for value in (*before, *after, None):
        was = before[value] if value in before else _otherwise(old)
        becomes = after[value] if value in after else _otherwise(new)
        if was is not _REFUSED and becomes is not _REFUSED and was != becomes:
            return Effect.RESYNC
    return Effect.FREE


def _of_pairs(old: RemapBy, new: RemapBy) -> Effect:
    """The same for the types that a polymorphic reference may have."""
    before, after = dict(old.of), dict(new.of)
    if old.by != new.by:
        return Effect.RESYNC
    for value in (*before, *after, None):
        was = before.get(value, old.otherwise) if value is not None else old.otherwise
        becomes = after.get(value, new.otherwise) if value is not None else new.otherwise
        if OtherOwner.ERROR not in (was, becomes) and was != becomes:
            return Effect.RESYNC
    return Effect.FREE


def _otherwise(rule: ValueMap) -> object:
    if rule.otherwise is Otherwise.ERROR:
        return _REFUSED
    return rule.default if rule.otherwise is Otherwise.CONST else None


# New ids that owe nothing to the old one: another way to make them leaves those that were given as they are.
_FRESH: Final = frozenset({Strategy.UUID4, Strategy.UUID7, Strategy.SEQUENCE})


def of_keyspaces(old: Keyspace, new: Keyspace) -> tuple[Effect, str]:
    """The same for a keyspace of one name, with the reason."""
    if old == new:
        return Effect.FREE, ""
    if (old.owner, old.column) != (new.owner, new.column):
        return (
            Effect.IMPOSSIBLE,
            f"its map holds ids of {old.owner}.{old.column}, not of {new.owner}.{new.column}; give it another name",
        )
    if old.new_type != new.new_type or old.old_type != new.old_type:
        return Effect.IMPOSSIBLE, f"its map holds {old.new_type} ids made of {old.old_type} ones"
    if new.strategy in _FRESH and old.strategy in {*_FRESH, Strategy.UUID5}:
        return Effect.FREE, f"ids given stay; new ones are {new.strategy.value}"
    return Effect.IMPOSSIBLE, "ids that were given stay as they are, and would not be those of the new strategy"
