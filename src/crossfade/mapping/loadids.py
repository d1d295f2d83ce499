"""The grammar of `ids`: which column's ids become new ones, and how.

Refuses to know any database. The invariant: a keyspace is only returned when nothing under its name is a problem.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from crossfade.catalog import TableName
from crossfade.mapping.compoundnames import compound, written
from crossfade.mapping.places import Report, did_you_mean
from crossfade.mapping.plan import Strategy
from crossfade.mapping.reading import Reading, split_name
from crossfade.mapping.spec import KeyspaceSpec
from crossfade.mapping.tree import Block, Entry, Listing, Node, Scalar, describe

_KEYSPACE_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,59}")  # crossfade.id_<name> must stay within 63 bytes
_LARGEST_BY: Final = 2**63 - 1
ID_KEYS: Final = ("from", "to", "strategy", "by", "sequence", "table")
_TAKEN: Final = (Strategy.SEQUENCE, Strategy.TABLE)  # ids made elsewhere
_NEW_TYPES: Final[Mapping[str, str]] = {
    "uuid": "uuid",
    "text": "text",
    "smallint": "smallint",
    "int2": "smallint",
    "integer": "integer",
    "int": "integer",
    "int4": "integer",
    "bigint": "bigint",
    "int8": "bigint",
}
_INTEGERS: Final = frozenset({"smallint", "integer", "bigint"})


class IdReading(Reading):
    """Reads the block `ids`; afterwards `_keyspace_names` are what `remap` may name."""

    def __init__(self, report: Report) -> None:
        super().__init__(report)
        self._keyspace_names: tuple[str, ...] = ()

    def _keyspaces(self, entry: Entry | None) -> dict[str, KeyspaceSpec]:
        keyspaces: dict[str, KeyspaceSpec] = {}
        rows = self._block(entry, "ids")
        self._keyspace_names = tuple(key.key for key, _, _ in rows)
        owners: dict[tuple[TableName, str], str] = {}
        for key, value, path in rows:
            if _KEYSPACE_NAME.fullmatch(key.key) is None:
                self._problem(key.place, path, "a keyspace's name is lower case letters, digits and _, at most 60.")
            keyspace = self._keyspace(key, value, path)
            if keyspace is None:
                continue
            owner = (keyspace.owner, keyspace.column)
            if owner in owners:
                self._problem(
                    key.place, path, f"{keyspace.owner}.{written(keyspace.column)} already has ids.{owners[owner]}."
                )
            owners.setdefault(owner, key.key)
            keyspaces[key.key] = keyspace
        return keyspaces

    def _keyspace(self, key: Entry, value: Node, path: str) -> KeyspaceSpec | None:
        if not isinstance(value, Block):
            self._problem(value.place, path, f"expected from, to and strategy, found {describe(value)}.")
            return None
        entries = self._entries(value, path, ID_KEYS)
        for needed in ("from", "strategy"):
            if needed not in entries:
                self._problem(key.place, path, f"'{needed}' is missing.")
        owner = self._owner(entries.get("from"), path)
        strategy = self._strategy(entries.get("strategy"), path)
        by = self._by(entries.get("by"), strategy, key, path)
        taken_from = self._taken_from(entries, strategy, key, path)
        to = self._new_type(entries.get("to"), strategy, path)
        if owner is None or strategy is None or by is None or to is None:
            return None
        if strategy in _TAKEN and taken_from is None:
            return None
        return KeyspaceSpec(key.key, owner[0], owner[1], to, strategy, by, taken_from, key.place)

    def _owner(self, entry: Entry | None, path: str) -> tuple[TableName, str] | None:
        if entry is None:
            return None
        if not isinstance(entry.value, Listing):
            return self._source_column(entry.value, f"{path}.from")
        found = [self._source_column(item, f"{path}.from") for item in entry.value.items]
        columns = [column for column in found if column is not None]
        if len(columns) < len(found):
            return None
        tables, names = {table for table, _ in columns}, [name for _, name in columns]
        if len(names) < 2 or len(tables) > 1 or len(set(names)) < len(names):
            self._problem(
                entry.value.place,
                f"{path}.from",
                "expected two columns or more of one table, such as [public.accounts.tenant, public.accounts.no].",
            )
            return None
        return tables.pop(), compound(names)

    def _source_column(self, value: Node, path: str) -> tuple[TableName, str] | None:
        text = self._text(value, path, "a source column such as public.users.id")
        if text is None:
            return None
        parts = split_name(text)
        if parts is None or len(parts) != 3:  # schema, table, column
            self._problem(value.place, path, "expected schema.table.column, such as public.users.id.")
            return None
        return TableName(parts[0], parts[1]), parts[2]

    def _strategy(self, entry: Entry | None, path: str) -> Strategy | None:
        if entry is None:
            return None
        return self._choice(entry.value, f"{path}.strategy", Strategy)

    def _by(self, entry: Entry | None, strategy: Strategy | None, key: Entry, path: str) -> int | None:
        if entry is None:
            if strategy is Strategy.OFFSET:
                self._problem(key.place, path, "the strategy offset needs 'by', the number added to each id.")
                return None
            return 0
        place = entry.value.place
        if strategy is not None and strategy is not Strategy.OFFSET:
            self._problem(place, f"{path}.by", f"'by' belongs to the strategy offset, not to {strategy.value}.")
            return None
        if not isinstance(entry.value, Scalar) or type(entry.value.value) is not int:
            self._problem(place, f"{path}.by", f"expected a whole number, found {describe(entry.value)}.")
            return None
        by = entry.value.value
        if by == 0 or abs(by) > _LARGEST_BY:
            self._problem(place, f"{path}.by", "expected a number other than 0 that fits a bigint.")
            return None
        return by

    def _taken_from(
        self, entries: Mapping[str, Entry], strategy: Strategy | None, key: Entry, path: str
    ) -> TableName | None:
        """The sequence or table, given exactly where the strategy needs one."""
        for other in (Strategy.SEQUENCE, Strategy.TABLE):
            if other is not strategy and strategy is not None and other.value in entries:
                place = entries[other.value].value.place
                what = f"'{other.value}' belongs to the strategy {other.value}, not to {strategy.value}."
                self._problem(place, f"{path}.{other.value}", what)
        if strategy not in _TAKEN:
            return None
        entry = entries.get(strategy.value)
        if entry is None:
            self._problem(key.place, path, f"the strategy {strategy.value} needs '{strategy.value}', its name.")
            return None
        text = self._text(entry.value, f"{path}.{strategy.value}", f"a {strategy.value} of the target such as app.name")
        return None if text is None else self._table_name(text, entry.value.place, f"{path}.{strategy.value}")

    def _new_type(self, entry: Entry | None, strategy: Strategy | None, path: str) -> str | None:
        if entry is None:
            return ""
        text = self._text(entry.value, f"{path}.to", "a type: uuid, text, smallint, integer or bigint")
        if text is None:
            return None
        place = entry.value.place
        new_type = _NEW_TYPES.get(text.lower())
        if new_type is None:
            self._problem(
                place,
                f"{path}.to",
                f"ids cannot become {text!r}: expected uuid, text, smallint, integer or "
                f"bigint.{did_you_mean(text, _NEW_TYPES)}",
            )
            return None
        makes_integers = strategy in {Strategy.OFFSET, Strategy.SEQUENCE}
        if strategy is not None and strategy is not Strategy.TABLE and (new_type in _INTEGERS) != makes_integers:
            self._problem(
                place,
                f"{path}.to",
                f"the strategy {strategy.value} makes {'integers' if makes_integers else 'uuids'}, not {text}.",
            )
            return None
        return new_type
