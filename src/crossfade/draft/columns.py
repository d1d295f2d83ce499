"""Which column of a source table a target column is most likely made of.

Names speak first, types may object, and keys and foreign keys say what a name cannot: the two primary keys of a matched
pair belong together, and so do two references to tables that belong together. Refuses to know how tables were paired
and what is written of it. The invariant: a column is in one match at the most, and one name on both sides always is
(the mapping pairs those by itself, whatever we think of them).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from crossfade.catalog import Column, Table, TableName
from crossfade.draft.names import Words, likeness, shared_prefix, table_words, without, words
from crossfade.mapping.casts import cast
from crossfade.mapping.conversions import CHAR, INTEGERS, NUMERIC, TEXT, TIMESTAMP, TIMESTAMPTZ, VARCHAR, Fit

LIKELY: Final = 0.5  # from here on a match is written; below, it is only offered
POSSIBLE: Final = 0.35  # below this, nobody would call two names alike

_STRIPPED: Final = 0.98  # alike only without a prefix: a little less sure
_BOTH_KEYS: Final = 0.82  # what two primary keys of a pair amount to when their names say nothing
_SAME_REFERENCE: Final = 0.88  # the same of two references to tables that belong together
_OTHER_REFERENCE: Final = 0.4  # references to tables that do not
_OBJECTION: Final = 0.45  # of a type that cannot be converted
_ALONE: Final = 0.4  # the only two left of a rare type
_LEFT_OVER: Final = 0.36  # the only two left at all
_NOT_THE_SAME: Final = 0.97  # names that differ are never certain
_PLAIN_TYPES: Final = frozenset({*INTEGERS, TEXT, VARCHAR, "boolean", "numeric", "character", "double precision"})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A column or table that was second, with its confidence (0.0 to 1.0)."""

    name: str
    confidence: float


@dataclass(frozen=True, slots=True)
class ColumnMatch:
    """`why` is what spoke for it, for people: "same name", "by name", "both are the key", "by type alone"."""

    source: Column
    target: Column
    confidence: float
    why: str
    runner_up: Candidate | None

    @property
    def is_same_name(self) -> bool:
        """The mapping pairs these by itself."""
        return self.source.name == self.target.name


def match_columns(
    source: Table,
    target: Table,
    pairs: Mapping[TableName, TableName],
    *,
    sources: Collection[Column] | None = None,
    targets: Collection[Column] | None = None,
) -> list[ColumnMatch]:
    """All matches that are at least possible, in the target's attribute order.

    `pairs` are the tables that belong together, source to target, as far as known. `sources` and `targets` limit the
    columns that are looked at. Columns the source does not send and those the target computes are left out.
    """
    left = [column for column in (source.columns if sources is None else sources) if not column.is_generated]
    right = [column for column in (target.columns if targets is None else targets) if not column.is_generated]
    scored = _scores(source, target, left, right, pairs)
    taken: set[str] = set()
    fed: set[str] = set()
    found: list[ColumnMatch] = []
    by_target: dict[str, list[tuple[float, str]]] = {}
    for confidence, one, other, _ in scored:
        by_target.setdefault(other.name, []).append((confidence, one.name))
    for confidence, one, other, why in scored:
        if one.name in taken or other.name in fed:
            continue
        taken.add(one.name)
        fed.add(other.name)
        second = next(((score, name) for score, name in by_target[other.name] if name != one.name), None)
        runner_up = Candidate(second[1], second[0]) if second is not None else None
        found.append(ColumnMatch(one, other, confidence, why, runner_up))
    found += _alone(
        [column for column in left if column.name not in taken], [column for column in right if column.name not in fed]
    )
    return sorted(found, key=lambda match: match.target.number)


def _scores(
    source: Table, target: Table, left: Sequence[Column], right: Sequence[Column], pairs: Mapping[TableName, TableName]
) -> list[tuple[float, Column, Column, str]]:
    """Every possible match, best first; equal ones in the order of names, so that two runs agree."""
    source_names, target_names = _Names(source), _Names(target)
    found = []
    for one in left:
        for other in right:
            confidence, why = _score(source, one, source_names, target, other, target_names, pairs)
            if confidence >= POSSIBLE:
                found.append((confidence, one, other, why))
    return sorted(found, key=lambda each: (each[1].name != each[2].name, -each[0], each[1].name, each[2].name))


class _Names:
    """A table's column names as words: as they are, and without what they all begin with or the table's own name."""

    def __init__(self, table: Table) -> None:
        self._prefix = shared_prefix([column.name for column in table.columns])
        self._table = table_words(table.name.name, ())

    def forms(self, column: str) -> tuple[Words, ...]:
        full = words(column)
        stripped = without(full, self._prefix)
        own = without(full, self._table)
        if own == full and len(full) > 1 and len(self._table) >= 1:
            # `cust_name` and `ord_no` in `customers` and `purchase_orders`: the last or first word of the table's name.
            own = without(full, self._table[-1:])
            own = without(full, self._table[:1]) if own == full else own
        return tuple(dict.fromkeys((full, stripped, own)))


def _score(
    source: Table,
    one: Column,
    source_names: _Names,
    target: Table,
    other: Column,
    target_names: _Names,
    pairs: Mapping[TableName, TableName],
) -> tuple[float, str]:
    if one.name == other.name:
        return 1.0, "same name"
    alike = 0.0
    for i, form in enumerate(source_names.forms(one.name)):
        for j, other_form in enumerate(target_names.forms(other.name)):
            alike = max(alike, likeness(form, other_form) * (_STRIPPED if i or j else 1.0))
    why = "by name"
    reference = _reference(source, one, target, other, pairs)
    if reference is True and alike < _SAME_REFERENCE:
        alike, why = max(_SAME_REFERENCE, alike), "both refer to the same"
    elif reference is False:
        alike *= _OTHER_REFERENCE
    elif _is_key(source, one) and _is_key(target, other) and alike < _BOTH_KEYS:
        alike, why = _BOTH_KEYS, "both are the key"
    elif _is_key(source, one) != _is_key(target, other) and _is_key(target, other):
        alike *= 0.9
    return round(min(alike, _NOT_THE_SAME) * fitness(source, one, target, other), 2), why


def fitness(source: Table, one: Column, target: Table, other: Column) -> float:
    """What the two types say: 1.0 nothing against it, `_OBJECTION` that it cannot be."""
    verdict, _ = cast(one, other, is_lossy=False)
    if verdict.fit is Fit.EXACT:
        return 1.0
    if verdict.fit is Fit.CHECKED:
        return 0.92
    if (one.base_type, other.base_type) == (TIMESTAMP, TIMESTAMPTZ):
        return 0.98
    if is_id_pair(one, other):
        return 0.97 if is_reference(source, one) or _is_key(source, one) else 0.85
    return _OBJECTION


def is_id_pair(one: Column, other: Column) -> bool:
    """A number or short text facing a uuid, or arrays of these: ids that change their type."""
    old, new = one.base_type, other.base_type
    if old.endswith("[]") and new.endswith("[]"):
        old, new = old.removesuffix("[]"), new.removesuffix("[]")
    return new == "uuid" and old in {*INTEGERS, TEXT, VARCHAR}


def is_reference(table: Table, column: Column) -> bool:
    """Whether the column is part of a foreign key."""
    return any(column.name in key.columns for key in table.foreign_keys)


def _is_key(table: Table, column: Column) -> bool:
    key = table.primary_key
    return key is not None and key.columns == (column.name,)


def _reference(
    source: Table, one: Column, target: Table, other: Column, pairs: Mapping[TableName, TableName]
) -> bool | None:
    """Whether both refer to tables that belong together; None when they do not both refer, or nothing is known."""
    parents = {key.referenced for key in source.foreign_keys if one.name in key.columns}
    others = {key.referenced for key in target.foreign_keys if other.name in key.columns}
    known = {pairs[name] for name in parents if name in pairs}
    if not known or not others:
        return None
    if not known & others:
        return False
    # A table that refers to one parent twice (buyer, seller) must be told apart by names.
    several = sum(key.referenced in parents for key in source.foreign_keys) > 1
    return None if several else True


def _alone(left: Sequence[Column], right: Sequence[Column]) -> list[ColumnMatch]:
    """The only two columns left, or left of a type that is not used for everything: worth a question, no more."""
    found = []
    for other in right:
        if other.base_type in _PLAIN_TYPES:
            continue
        same = [one for one in left if _kin(one, other)]
        rivals = [column for column in right if same and _kin(same[0], column)]
        if len(same) == 1 and len(rivals) == 1:
            found.append(ColumnMatch(same[0], other, _ALONE, "by type alone", None))
    left = [one for one in left if all(match.source != one for match in found)]
    right = [other for other in right if all(match.target != other for match in found)]
    if len(left) == len(right) == 1 and _family(left[0]) == _family(right[0]):
        found.append(ColumnMatch(left[0], right[0], _LEFT_OVER, "nothing else is left", None))
    return found


def _family(column: Column) -> str:
    """What sort of values a column holds, whatever their width."""
    if column.base_type in {*INTEGERS, NUMERIC, "real", "double precision"}:
        return NUMERIC
    return TEXT if column.base_type in {TEXT, VARCHAR, CHAR} else column.base_type


def _kin(one: Column, other: Column) -> bool:
    return one.base_type == other.base_type or (one.base_type, other.base_type) == (TIMESTAMP, TIMESTAMPTZ)
