"""Which ids change their type between the two schemas, and which columns hold them.

An integer key that faces a uuid key becomes a keyspace; what refers to it by a foreign key of the source follows by
itself, and what refers to it only by a foreign key of the target, or by its name, is told to. Refuses to know how
tables and columns were matched. The invariant: a keyspace is proposed only for a column that is unique by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from crossfade.catalog import Catalog, Column, Table, TableName
from crossfade.draft.columns import ColumnMatch, is_id_pair
from crossfade.draft.names import likeness, table_words, words
from crossfade.mapping.conversions import INTEGERS, length_limit

ColumnOf = tuple[TableName, str]

_UUID_CHARACTERS: Final = 36
_BY_NAME: Final = 0.6  # `customer_no` and table `customers`: alike enough to be asked about
_SURE_BY_NAME: Final = 0.95  # `user_id` and table `tbl_users`, where a number must become a uuid
_LONGEST: Final = 60


@dataclass(frozen=True, slots=True)
class KeyspaceDraft:
    """`ids.<name>`, for the ids of `owner`.`column` of the source that become uuids in `target`."""

    name: str
    owner: TableName
    column: str
    target: TableName


@dataclass(frozen=True, slots=True)
class Holder:
    """A column that holds ids of a keyspace. `why` is '' when a foreign key of the source says so (nothing to write),
    else what speaks for it; `is_sure` that it is written and not only offered."""

    keyspace: str
    why: str
    is_sure: bool


def find_keyspaces(
    pairs: Sequence[tuple[Table, Table, Sequence[ColumnMatch]]], taken: Iterable[str] = ()
) -> list[KeyspaceDraft]:
    """One for each key of a matched pair that turns into a uuid. `taken` are names already given."""
    names = set(taken)
    found: list[KeyspaceDraft] = []
    for source, target, matches in pairs:
        for match in matches:
            if not _turns_into_uuid(match.source, match.target):
                continue
            if not (_is_unique(source, match.source.name) and _is_unique(target, match.target.name)):
                continue
            if any(draft.owner == source.name for draft in found):
                continue  # one keyspace of a table
            name = _free_name(target.name, names)
            names.add(name)
            found.append(KeyspaceDraft(name, source.name, match.source.name, target.name))
    return found


def may_hold_uuids(column: Column) -> bool:
    """Text with room for a uuid: its values may be uuids already, spelled out."""
    limit = length_limit(column)
    return column.base_type not in INTEGERS and (limit is None or limit >= _UUID_CHARACTERS)


def _turns_into_uuid(one: Column, other: Column) -> bool:
    return is_id_pair(one, other) and not may_hold_uuids(one)


def _is_unique(table: Table, column: str) -> bool:
    return any(
        key.is_unique and key.is_valid and not (key.is_partial or key.has_expressions or key.is_deferrable)
        for key in table.keys
        if key.columns == (column,)
    )


def _free_name(target: TableName, taken: set[str]) -> str:
    stem = re.sub(r"[^a-z0-9_]", "", "_".join(table_words(target.name, ())))[: _LONGEST - 3].strip("_") or "key"
    stem = stem if not stem[0].isdigit() else f"_{stem}"
    name, number = stem, 2
    while name in taken:
        name, number = f"{stem}_{number}", number + 1
    return name


class Holders:
    """Asks of any column of the source which keyspace's ids it holds."""

    def __init__(self, source: Catalog, owners: Mapping[str, ColumnOf], pairs: Mapping[TableName, TableName]) -> None:
        """`owners` are keyspaces by name; `pairs` the tables that belong together, source to target."""
        self._owners = owners
        self._by_target = {pairs[owner]: name for name, (owner, _) in owners.items() if owner in pairs}
        self._declared = _declared(source, owners)

    def of(self, source: Table, target: Table, match: ColumnMatch) -> Holder | None:
        """None for a column that holds no ids as far as anybody can tell."""
        here = (source.name, match.source.name)
        declared = self._declared.get(here)
        if declared is not None:
            is_owner = self._owners[declared] == here
            return Holder(declared, "its own ids" if is_owner else "", True)
        if not is_id_pair(match.source, match.target):
            return None
        for key in target.foreign_keys:
            if match.target.name in key.columns and key.referenced in self._by_target:
                return Holder(self._by_target[key.referenced], "a foreign key of the target says so", True)
        return self._by_name(match)

    def _by_name(self, match: ColumnMatch) -> Holder | None:
        told = tuple(word for word in words(match.source.name) if word != "id") or words(match.source.name)
        scored = [
            (max(likeness(told, table_words(owner.name, ())), likeness(told, words(name))), name)
            for name, (owner, _) in sorted(self._owners.items())
        ]
        best = max(scored, default=(0.0, ""))
        if best[0] < _BY_NAME:
            return None
        return Holder(best[1], f"ids by its name alone ({best[0]:.2f})", best[0] >= _SURE_BY_NAME)


def _declared(source: Catalog, owners: Mapping[str, ColumnOf]) -> dict[ColumnOf, str]:
    """Every column that the source's own foreign keys lead to a keyspace from, over any number of steps."""
    children: dict[ColumnOf, list[ColumnOf]] = {}
    for table in source.tables.values():
        for key in table.foreign_keys:
            for name, referenced in zip(key.columns, key.referenced_columns, strict=True):
                children.setdefault((key.referenced, referenced), []).append((key.table, name))
    found: dict[ColumnOf, str] = {}
    for keyspace, owner in owners.items():
        reached = [owner]
        for column in reached:  # grows while it is walked
            if found.setdefault(column, keyspace) == keyspace:
                reached.extend(child for child in children.get(column, ()) if child not in found)
    return found
