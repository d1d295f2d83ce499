"""The grammar of mapping.yaml: a tree with places in, a `Spec` out, or every problem at once.

What later versions will read (row filters, SQL expressions, value maps, splits, quarantine) is recognised and refused
by name, so that nobody mistakes "not yet" for a typing error. Refuses to know any database. The invariant: a `Spec`
is only made of a file without a single problem.
"""

from __future__ import annotations

import enum
import functools
import re
import zoneinfo
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from crossfade.catalog import TableName
from crossfade.faults import Misconfigured
from crossfade.mapping.places import Place, Report, did_you_mean
from crossfade.mapping.plan import (
    Ambiguous,
    Const,
    LocalTime,
    Nonexistent,
    OnColumnAdded,
    OnMissing,
    OnOrphan,
    OnTruncate,
    Policies,
    Remap,
    Rule,
    Strategy,
    Verbatim,
)
from crossfade.mapping.spec import ColumnSpec, Exclusion, KeyspaceSpec, Spec, TableSpec
from crossfade.mapping.tree import Block, Entry, Listing, Node, Scalar, describe, read_tree
from crossfade.mapping.written import read_text

_LARGEST_MIB: Final = 16
_LONGEST_NAME: Final = 63  # bytes of a PostgreSQL identifier; the server would cut a longer one silently
_KEYSPACE_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,59}")  # crossfade.id_<name> must stay within 63 bytes
_LARGEST_BY: Final = 2**63 - 1
_OWN_SCHEMA: Final = "crossfade"

_TOP: Final = ("version", "schemas", "exclude", "ids", "policies", "tables")
_ID_KEYS: Final = ("from", "to", "strategy", "by")
_POLICY_KEYS: Final = ("on_error", "missing_row", "source_column_added", "orphan_id", "truncate")
_TABLE_KEYS: Final = ("from", "columns", "drop", "append_only", *_POLICY_KEYS)
_COLUMN_KEYS: Final = ("from", "remap", "timezone", "ambiguous", "nonexistent", "const")

# Constructs of the grammar that this version does not carry out yet: key -> what it is called.
_LATER_TABLE: Final[Mapping[str, str]] = {
    "where": "row filters (where)",
    "only": "splitting a table (only)",
}
_LATER_COLUMN: Final[Mapping[str, str]] = {
    "values": "value maps (values)",
    "otherwise": "value maps (otherwise)",
    "up": "SQL expressions (up)",
    "down": "SQL expressions (down)",
    "cast": "casts (cast)",
}
_LATER_ID: Final[Mapping[str, str]] = {
    "sequence": "the id strategy 'sequence'",
    "table": "the id strategy 'table'",
}
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

_Choice = TypeVar("_Choice", bound=enum.Enum)


def load_mapping(path: Path) -> Spec:
    """Read a mapping file. Raises `Misconfigured` with all problems, or because the file cannot be read."""
    text = read_text(
        path,
        called="mapping",
        largest_mib=_LARGEST_MIB,
        do="Check `mapping` in the configuration (it is relative to that file) and the file's permissions.",
    )
    return parse_mapping(text, path.name)


def parse_mapping(text: str, file: str = "mapping.yaml") -> Spec:
    """The same for a text already read; `file` is what problems and findings call it."""
    report = Report(file, text)
    root = read_tree(text, report)
    spec: Spec | None = None
    if isinstance(root, Block):
        spec = _Reader(report, file).spec(root)
    elif root is not None and not (isinstance(root, Scalar) and root.value is None):
        report.add(root.place, "", f"expected keys such as 'tables:', found {describe(root)}.")
    elif not report.problems:
        report.add(Place(1, 1), "", "the mapping is empty. It needs at least 'version: 1' and 'schemas' or 'tables'.")
    report.raise_if_any()
    if spec is None:  # a root that is no block always leaves a problem behind
        raise Misconfigured("The mapping could not be read.", where=file)
    return spec


class _Reader:
    """One pass over one file. Each method reads one construct, reports what is wrong and returns what it could."""

    def __init__(self, report: Report, file: str) -> None:
        self._report = report
        self._file = file
        self._places: dict[str, Place] = {}
        self._keyspace_names: tuple[str, ...] = ()

    # -- the file ------------------------------------------------------------------------------------------------

    def spec(self, root: Block) -> Spec:
        entries = self._entries(root, "", _TOP)
        self._version(entries.get("version"), root)
        schemas = self._schemas(entries.get("schemas"))
        exclude = self._exclude(entries.get("exclude"))
        keyspaces = self._keyspaces(entries.get("ids"))
        policies = self._policies(entries.get("policies"))
        tables = self._tables(entries.get("tables"), policies)
        if not schemas and not tables and not self._report.problems:
            self._problem(root.place, "", "nothing is mapped: give 'schemas' or 'tables'.")
        return Spec(self._file, schemas, exclude, keyspaces, policies, tables, self._places)

    def _version(self, entry: Entry | None, root: Block) -> None:
        if entry is None:
            self._problem(root.place, "version", "missing: write 'version: 1' first, so that later versions can tell.")
        elif not isinstance(entry.value, Scalar) or entry.value.value != 1 or isinstance(entry.value.value, bool):
            self._problem(
                entry.value.place,
                "version",
                f"this version of crossfade reads version 1, found {describe(entry.value)}.",
            )

    def _schemas(self, entry: Entry | None) -> dict[str, str]:
        schemas: dict[str, str] = {}
        for key, value, path in self._block(entry, "schemas"):
            target = self._text(value, path, "the name of a target schema")
            if target is None:
                continue
            self._identifier(key.key, key.place, path)
            self._identifier(target, value.place, path)
            if target == _OWN_SCHEMA:
                self._problem(value.place, path, "the schema 'crossfade' holds crossfade's own state: choose another.")
            schemas[key.key] = target
        return schemas

    def _exclude(self, entry: Entry | None) -> tuple[Exclusion, ...]:
        found = []
        for item, path in self._list(entry, "exclude"):
            pattern = self._text(item, path, "a pattern such as public.tmp_*")
            if pattern is None:
                continue
            if "." not in pattern:
                self._problem(item.place, path, f"a pattern names schema and table: write 'public.{pattern}'.")
                continue
            found.append(Exclusion(pattern, item.place))
        return tuple(found)

    # -- ids -----------------------------------------------------------------------------------------------------

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
                self._problem(key.place, path, f"{keyspace.owner}.{keyspace.column} already has ids.{owners[owner]}.")
            owners.setdefault(owner, key.key)
            keyspaces[key.key] = keyspace
        return keyspaces

    def _keyspace(self, key: Entry, value: Node, path: str) -> KeyspaceSpec | None:
        if not isinstance(value, Block):
            self._problem(value.place, path, f"expected from, to and strategy, found {describe(value)}.")
            return None
        entries = self._entries(value, path, _ID_KEYS, _LATER_ID)
        for needed in ("from", "strategy"):
            if needed not in entries:
                self._problem(key.place, path, f"'{needed}' is missing.")
        owner = self._owner(entries.get("from"), path)
        strategy = self._strategy(entries.get("strategy"), path)
        by = self._by(entries.get("by"), strategy, key, path)
        to = self._new_type(entries.get("to"), strategy, path)
        if owner is None or strategy is None or by is None or to is None:
            return None
        return KeyspaceSpec(key.key, owner[0], owner[1], to, strategy, by, key.place)

    def _owner(self, entry: Entry | None, path: str) -> tuple[TableName, str] | None:
        if entry is None:
            return None
        if isinstance(entry.value, Listing):
            self._later(entry.value.place, f"{path}.from", "ids made of several columns (a list in from)")
            return None
        text = self._text(entry.value, f"{path}.from", "a source column such as public.users.id")
        if text is None:
            return None
        parts = split_name(text)
        if parts is None or len(parts) != 3:  # schema, table, column
            self._problem(entry.value.place, f"{path}.from", "expected schema.table.column, such as public.users.id.")
            return None
        return TableName(parts[0], parts[1]), parts[2]

    def _strategy(self, entry: Entry | None, path: str) -> Strategy | None:
        if entry is None:
            return None
        if isinstance(entry.value, Scalar) and entry.value.text in _LATER_ID:
            self._later(entry.value.place, f"{path}.strategy", _LATER_ID[entry.value.text])
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
        if strategy is not None and (new_type in _INTEGERS) != (strategy is Strategy.OFFSET):
            self._problem(
                place,
                f"{path}.to",
                f"the strategy {strategy.value} makes "
                f"{'integers' if strategy is Strategy.OFFSET else 'uuids'}, not {text}.",
            )
            return None
        return new_type

    # -- policies ------------------------------------------------------------------------------------------------

    def _policies(self, entry: Entry | None) -> Policies:
        if entry is None or (isinstance(entry.value, Scalar) and entry.value.value is None):
            return Policies()
        if not isinstance(entry.value, Block):
            self._problem(entry.value.place, "policies", f"expected keys, found {describe(entry.value)}.")
            return Policies()
        return self._policy_keys(self._entries(entry.value, "policies", _POLICY_KEYS), "policies", Policies())

    def _policy_keys(self, entries: Mapping[str, Entry], path: str, default: Policies) -> Policies:
        if (entry := entries.get("on_error")) is not None:
            self._on_error(entry.value, f"{path}.on_error")
        return Policies(
            missing_row=self._policy(entries, path, "missing_row", OnMissing) or default.missing_row,
            source_column_added=self._policy(entries, path, "source_column_added", OnColumnAdded)
            or default.source_column_added,
            orphan_id=self._policy(entries, path, "orphan_id", OnOrphan) or default.orphan_id,
            truncate=self._policy(entries, path, "truncate", OnTruncate) or default.truncate,
        )

    def _policy(self, entries: Mapping[str, Entry], path: str, key: str, choices: type[_Choice]) -> _Choice | None:
        entry = entries.get(key)
        return None if entry is None else self._choice(entry.value, f"{path}.{key}", choices)

    def _on_error(self, value: Node, path: str) -> None:
        text = self._text(value, path, "stop")
        if text == "quarantine":
            self._later(value.place, path, "quarantine (on_error: quarantine)")
        elif text is not None and text != "stop":
            self._problem(value.place, path, f"expected stop, found {text!r}.{did_you_mean(text, ('stop',))}")

    # -- tables --------------------------------------------------------------------------------------------------

    def _tables(self, entry: Entry | None, policies: Policies) -> dict[TableName, TableSpec]:
        tables: dict[TableName, TableSpec] = {}
        taken: dict[TableName, TableName] = {}
        for key, value, path in self._block(entry, "tables"):
            target = self._table_name(key.key, key.place, path)
            if target is None:
                self._table(TableName("", ""), key, value, path, policies)  # its own problems are still worth telling
                continue
            if target.schema == _OWN_SCHEMA:
                self._problem(key.place, path, "the schema 'crossfade' holds crossfade's own state: choose another.")
            table = self._table(target, key, value, path, policies)
            if table is None:
                continue
            if target in tables:
                self._problem(key.place, path, f"this table is already given in line {tables[target].place.line}.")
                continue
            tables[target] = table
            if table.source is None:
                continue
            if table.source in taken:
                self._later(
                    table.source_place,
                    f"{path}.from",
                    f"two targets of one source table ({table.source} already feeds {taken[table.source]})",
                )
            taken.setdefault(table.source, target)
        return tables

    def _table(self, target: TableName, key: Entry, value: Node, path: str, policies: Policies) -> TableSpec | None:
        if isinstance(value, Scalar) and value.value is None:
            return TableSpec(target, None, {}, {}, False, policies, key.place, key.place)
        if not isinstance(value, Block):
            self._problem(value.place, path, f"expected keys such as from and columns, found {describe(value)}.")
            return None
        entries = self._entries(value, path, _TABLE_KEYS, _LATER_TABLE)
        source, source_place = self._source_table(entries.get("from"), key, path)
        return TableSpec(
            target=target,
            source=source,
            columns=self._columns(entries.get("columns"), f"{path}.columns"),
            drop=self._drop(entries.get("drop"), f"{path}.drop"),
            append_only=self._flag(entries.get("append_only"), f"{path}.append_only"),
            policies=self._policy_keys(entries, path, policies),
            place=key.place,
            source_place=source_place,
        )

    def _source_table(self, entry: Entry | None, key: Entry, path: str) -> tuple[TableName | None, Place]:
        if entry is None:
            return None, key.place
        if isinstance(entry.value, Listing):
            self._later(entry.value.place, f"{path}.from", "merging several source tables (a list in from)")
            return None, entry.value.place
        text = self._text(entry.value, f"{path}.from", "a source table such as public.users")
        if text is None:
            return None, entry.value.place
        return self._table_name(text, entry.value.place, f"{path}.from"), entry.value.place

    def _drop(self, entry: Entry | None, path: str) -> dict[str, Place]:
        drop: dict[str, Place] = {}
        for item, below in self._list(entry, path):
            name = self._text(item, below, "the name of a source column")
            if name is None:
                continue
            if name in drop:
                self._problem(item.place, below, f"{name!r} is already dropped in line {drop[name].line}.")
            drop.setdefault(name, item.place)
        return drop

    def _flag(self, entry: Entry | None, path: str) -> bool:
        if entry is None:
            return False
        if isinstance(entry.value, Scalar) and isinstance(entry.value.value, bool):
            return entry.value.value
        self._problem(entry.value.place, path, f"expected true or false, found {describe(entry.value)}.")
        return False

    # -- columns -------------------------------------------------------------------------------------------------

    def _columns(self, entry: Entry | None, path: str) -> dict[str, ColumnSpec]:
        columns: dict[str, ColumnSpec] = {}
        for key, value, below in self._block(entry, path, known="a block of columns"):
            self._identifier(key.key, key.place, below)
            column = self._column(key, value, below)
            if column is not None:
                columns[key.key] = column
        return columns

    def _column(self, key: Entry, value: Node, path: str) -> ColumnSpec | None:
        if isinstance(value, Listing):
            self._later(value.place, path, "a column made of several columns (a list)")
            return None
        if isinstance(value, Scalar):
            source = self._text(value, path, "the name of a source column, or a block such as {const: 0}")
            return None if source is None else ColumnSpec(key.key, source, None, key.place)
        before = len(self._report.problems)
        entries = self._entries(value, path, _COLUMN_KEYS, _LATER_COLUMN)
        source = None
        if (entry := entries.get("from")) is not None:
            if isinstance(entry.value, Listing):
                self._later(entry.value.place, f"{path}.from", "a column made of several columns (a list in from)")
            else:
                source = self._text(entry.value, f"{path}.from", "the name of a source column")
        rule = self._rule(entries, key, path)
        if len(self._report.problems) > before:
            return None
        if not entries:
            self._problem(value.place, path, "this block is empty: leave the column out, or say what feeds it.")
            return None
        return ColumnSpec(key.key, source, rule, key.place)

    def _rule(self, entries: Mapping[str, Entry], key: Entry, path: str) -> Rule | None:
        given = [name for name in ("remap", "timezone", "const") if name in entries]
        if len(given) > 1:
            self._problem(
                entries[given[1]].place, path, f"'{given[0]}' and '{given[1]}' exclude each other: choose one."
            )
            return None
        if "const" in entries and "from" in entries:
            self._problem(entries["from"].place, path, "a 'const' takes nothing from the source: remove 'from'.")
        if "timezone" not in entries:
            for name in ("ambiguous", "nonexistent"):
                if name in entries:
                    self._problem(entries[name].place, f"{path}.{name}", "this needs 'timezone' beside it.")
        if "remap" in entries:
            return self._remap(entries["remap"].value, f"{path}.remap")
        if "timezone" in entries:
            return self._local_time(entries, path)
        if "const" in entries:
            return self._const(entries["const"].value, f"{path}.const")
        return None

    def _remap(self, value: Node, path: str) -> Remap | Verbatim | None:
        if isinstance(value, Scalar) and value.value is False:
            return Verbatim()  # the old id is kept, whatever foreign keys say
        if isinstance(value, Block):
            self._later(value.place, path, "a remap made of several parts (a block under remap)")
            return None
        name = self._text(value, path, "the name of a keyspace under 'ids'")
        if name is None:
            return None
        if name not in self._keyspace_names:
            self._problem(value.place, path, f"there is no ids.{name}.{did_you_mean(name, self._keyspace_names)}")
            return None
        return Remap(name)

    def _local_time(self, entries: Mapping[str, Entry], path: str) -> LocalTime | None:
        value = entries["timezone"].value
        zone = self._text(value, f"{path}.timezone", "an IANA time zone such as Europe/Berlin")
        ambiguous = Ambiguous.LATER
        nonexistent = Nonexistent.SHIFT
        if (entry := entries.get("ambiguous")) is not None:
            ambiguous = self._choice(entry.value, f"{path}.ambiguous", Ambiguous) or ambiguous
        if (entry := entries.get("nonexistent")) is not None:
            nonexistent = self._choice(entry.value, f"{path}.nonexistent", Nonexistent) or nonexistent
        if zone is None:
            return None
        zones = _zones()
        if zone not in zones:
            self._problem(
                value.place, f"{path}.timezone", f"there is no time zone {zone!r}.{did_you_mean(zone, zones)}"
            )
            return None
        return LocalTime(zone, ambiguous, nonexistent)

    def _const(self, value: Node, path: str) -> Const | None:
        if not isinstance(value, Scalar):
            self._problem(value.place, path, f"expected one value, found {describe(value)}.")
            return None
        return Const(const_text(value))

    # -- small parts ---------------------------------------------------------------------------------------------

    def _problem(self, place: Place, path: str, text: str) -> None:
        self._report.add(place, path, text)

    def _later(self, place: Place, path: str, construct: str) -> None:
        self._problem(place, path, f"{construct}: not yet supported by this version.")

    def _entries(
        self, block: Block, path: str, known: Sequence[str], later: Mapping[str, str] | None = None
    ) -> dict[str, Entry]:
        """The known keys of a block; unknown ones are problems, those of later versions by their names."""
        entries: dict[str, Entry] = {}
        later = later or {}
        for entry in block.entries:
            below = f"{path}.{entry.key}" if path else entry.key
            self._places[below] = entry.place
            if entry.key in known:
                entries[entry.key] = entry
            elif entry.key in later:
                self._later(entry.place, below, later[entry.key])
            else:
                self._problem(entry.place, below, f"unknown key.{_hint(entry.key, known)}")
        return entries

    def _block(self, entry: Entry | None, path: str, known: str = "a block of keys") -> list[tuple[Entry, Node, str]]:
        """The entries of a block whose keys are names, with the path of each; nothing written is an empty block."""
        if entry is None or (isinstance(entry.value, Scalar) and entry.value.value is None):
            return []
        if not isinstance(entry.value, Block):
            self._problem(entry.value.place, path, f"expected {known}, found {describe(entry.value)}.")
            return []
        rows = []
        for row in entry.value.entries:
            below = f"{path}.{row.key}"
            self._places[below] = row.place
            rows.append((row, row.value, below))
        return rows

    def _list(self, entry: Entry | None, path: str) -> list[tuple[Node, str]]:
        if entry is None or (isinstance(entry.value, Scalar) and entry.value.value is None):
            return []
        if not isinstance(entry.value, Listing):
            self._problem(
                entry.value.place,
                path,
                f"expected a list, found {describe(entry.value)}: put it in brackets, [like, this].",
            )
            return []
        return [(item, f"{path}[{index}]") for index, item in enumerate(entry.value.items)]

    def _text(self, value: Node, path: str, wanted: str) -> str | None:
        if isinstance(value, Scalar) and isinstance(value.value, str):
            return value.value
        quote = ""
        if isinstance(value, Scalar) and value.value is not None:
            quote = f" If it is really called that, quote it: '{value.text}'."
        self._problem(value.place, path, f"expected {wanted}, found {describe(value)}.{quote}")
        return None

    def _choice(self, value: Node, path: str, choices: type[_Choice]) -> _Choice | None:
        words = [str(choice.value) for choice in choices]
        text = value.text if isinstance(value, Scalar) else ""
        for choice in choices:
            if choice.value == text:
                return choice
        listed = f"{', '.join(words[:-1])} or {words[-1]}"
        found = repr(text) if text else describe(value)
        self._problem(value.place, path, f"expected {listed}, found {found}.{did_you_mean(text, words)}")
        return None

    def _table_name(self, text: str, place: Place, path: str) -> TableName | None:
        parts = split_name(text)
        if parts is None or len(parts) != 2:  # schema and table
            self._problem(place, path, 'expected schema.table, such as public.users (a name with a dot in it: "a.b").')
            return None
        for part in parts:
            self._identifier(part, place, path)
        return TableName(parts[0], parts[1])

    def _identifier(self, name: str, place: Place, path: str) -> None:
        if not name:
            self._problem(place, path, "a name must not be empty.")
        elif len(name.encode("utf-8")) > _LONGEST_NAME:
            self._problem(place, path, "a name longer than 63 bytes cannot exist in PostgreSQL.")


@functools.cache
def _zones() -> frozenset[str]:
    """Names of all time zones; asking walks a directory tree."""
    return frozenset(zoneinfo.available_timezones())


def _hint(key: str, known: Collection[str]) -> str:
    return did_you_mean(key, known) or f" Known here: {', '.join(known)}."


def split_name(text: str) -> tuple[str, ...] | None:
    """`public.users` in parts. Names are exact; one that holds a dot or a quote stands in double quotes, as in SQL.

    None when a quote is not closed or a part is empty.
    """
    parts = re.fullmatch(r'(?:"(?:[^"]|"")+"|[^".]+)(?:\.(?:"(?:[^"]|"")+"|[^".]+))*', text)
    if parts is None:
        return None
    found = re.findall(r'"(?:[^"]|"")+"|[^".]+', text)
    return tuple(part[1:-1].replace('""', '"') if part.startswith('"') else part for part in found)


def const_text(value: Scalar) -> str | None:
    """A scalar as PostgreSQL's input functions read it: true and false, numbers as written, None for null."""
    match value.value:
        case None:
            return None
        case bool(truth):
            return "true" if truth else "false"
        case int(number):
            return str(number)
        case float(number) if number != number or number in (float("inf"), float("-inf")):
            return {"inf": "Infinity", "-inf": "-Infinity"}.get(str(number), "NaN")
        case float():
            return value.text  # not str(number): 0.10 and twenty digits must reach a numeric as they were written
        case str(text):
            return text
