"""The grammar of mapping.yaml: a tree with places in, a `Spec` out, or every problem at once.

What later versions will read (quarantine) is recognised and refused
by name, so that nobody mistakes "not yet" for a typing error. Refuses to know any database. The invariant: a `Spec`
is only made of a file without a single problem.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from crossfade.catalog import TableName
from crossfade.faults import Misconfigured
from crossfade.mapping.loadcolumns import ColumnReading
from crossfade.mapping.places import Place, Report, did_you_mean
from crossfade.mapping.plan import (
    OnColumnAdded,
    OnMissing,
    OnOrphan,
    OnTruncate,
    Policies,
)
from crossfade.mapping.reading import Choice
from crossfade.mapping.spec import ColumnSpec, ConditionSpec, Exclusion, Spec, TableSpec
from crossfade.mapping.tree import Block, Entry, Listing, Node, Scalar, describe, read_tree
from crossfade.mapping.written import read_text

_LARGEST_MIB: Final = 16
_OWN_SCHEMA: Final = "crossfade"

_TOP: Final = ("version", "schemas", "exclude", "ids", "policies", "tables")
_POLICY_KEYS: Final = ("on_error", "missing_row", "source_column_added", "orphan_id", "truncate")
_TABLE_KEYS: Final = ("from", "where", "only", "columns", "drop", "append_only", *_POLICY_KEYS)
_SOURCE_KEYS: Final = ("table", "where", "columns", "drop")


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
        spec = dataclasses.replace(_Reader(report, file).spec(root), text=text)
    elif root is not None and not (isinstance(root, Scalar) and root.value is None):
        report.add(root.place, "", f"expected keys such as 'tables:', found {describe(root)}.")
    elif not report.problems:
        report.add(Place(1, 1), "", "the mapping is empty. It needs at least 'version: 1' and 'schemas' or 'tables'.")
    report.raise_if_any()
    if spec is None:  # a root that is no block always leaves a problem behind
        raise Misconfigured("The mapping could not be read.", where=file)
    return spec


class _Reader(ColumnReading):
    """One pass over one file. Each method reads one construct, reports what is wrong and returns what it could."""

    def __init__(self, report: Report, file: str) -> None:
        super().__init__(report)
        self._file = file

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

    def _policy(self, entries: Mapping[str, Entry], path: str, key: str, choices: type[Choice]) -> Choice | None:
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
        return tables

    def _table(self, target: TableName, key: Entry, value: Node, path: str, policies: Policies) -> TableSpec | None:
        if isinstance(value, Scalar) and value.value is None:
            return TableSpec(target, None, {}, {}, False, False, None, policies, key.place, key.place)
        if not isinstance(value, Block):
            self._problem(value.place, path, f"expected keys such as from and columns, found {describe(value)}.")
            return None
        entries = self._entries(value, path, _TABLE_KEYS)
        given = entries.get("from")
        listed = given.value if given is not None and isinstance(given.value, Listing) else None
        source, source_place = (None, listed.place) if listed else self._source_table(given, key, path)
        columns = self._columns(entries.get("columns"), f"{path}.columns")
        only = self._flag(entries.get("only"), f"{path}.only")
        if only:
            self._check_only(entries, columns, path, is_listed=listed is not None)
        table = TableSpec(
            target=target,
            source=source,
            columns=columns,
            drop=self._drop(entries.get("drop"), f"{path}.drop"),
            append_only=self._flag(entries.get("append_only"), f"{path}.append_only"),
            only=only,
            where=self._where(entries.get("where"), f"{path}.where"),
            policies=self._policy_keys(entries, path, policies),
            place=key.place,
            source_place=source_place,
        )
        return table if listed is None else self._with_sources(table, listed, f"{path}.from")

    def _with_sources(self, table: TableSpec, listed: Listing, path: str) -> TableSpec:
        """Several sources: what is said beside them holds for each, what one says of itself comes on top."""
        if not listed.items:
            self._problem(listed.place, path, "expected one source table or more, found an empty list.")
        sources: dict[TableName, TableSpec] = {}
        for number, item in enumerate(listed.items):
            below = f"{path}[{number}]"
            made = self._one_source(table, item, below)
            if made is None or made.source is None:
                continue
            if made.source in sources:
                line = sources[made.source].place.line
                self._problem(item.place, below, f"this source is already given in line {line}.")
                continue
            if table.only and not made.columns:
                self._problem(item.place, below, "only the columns listed are taken, and none is: list them.")
            sources[made.source] = made
        return dataclasses.replace(table, sources=tuple(sources.values()))

    def _one_source(self, table: TableSpec, item: Node, path: str) -> TableSpec | None:
        if not isinstance(item, Block):
            text = self._text(item, path, "a source table such as public.users, or a block with 'table'")
            name = None if text is None else self._table_name(text, item.place, path)
            return dataclasses.replace(table, source=name, place=item.place, source_place=item.place)
        entries = self._entries(item, path, _SOURCE_KEYS)
        if "table" not in entries:
            self._problem(item.place, path, "'table' is missing: the source's name.")
        name, place = None, item.place
        if (entry := entries.get("table")) is not None:
            place = entry.value.place
            text = self._text(entry.value, f"{path}.table", "a source table such as public.users")
            name = None if text is None else self._table_name(text, place, f"{path}.table")
        where = self._where(entries.get("where"), f"{path}.where")
        if table.where is not None and "where" in entries:
            self._problem(
                entries["where"].place,
                f"{path}.where",
                "there is a condition beside 'from' as well: give it once, for the whole table or for each source.",
            )
        if table.only and "drop" in entries:
            self._problem(
                entries["drop"].place, f"{path}.drop", "with 'only', columns that are not listed are left out anyway."
            )
        own = self._columns(entries.get("columns"), f"{path}.columns")
        return dataclasses.replace(
            table,
            source=name,
            columns={**table.columns, **own},
            drop={**table.drop, **self._drop(entries.get("drop"), f"{path}.drop")},
            where=where or table.where,
            place=item.place,
            source_place=place,
        )

    def _where(self, entry: Entry | None, path: str) -> ConditionSpec | None:
        if entry is None:
            return None
        text = self._sql(entry.value, path, 'an SQL condition such as "deleted_at IS NULL"')
        return None if text is None else ConditionSpec(text, entry.value.place)

    def _check_only(
        self, entries: Mapping[str, Entry], columns: Mapping[str, ColumnSpec], path: str, *, is_listed: bool
    ) -> None:
        place = entries["only"].place
        if not columns and "columns" not in entries and not is_listed:
            self._problem(place, f"{path}.only", "only the columns listed are taken, and none is: list them.")
        if "drop" in entries:
            self._problem(
                entries["drop"].place, f"{path}.drop", "with 'only', columns that are not listed are left out anyway."
            )

    def _source_table(self, entry: Entry | None, key: Entry, path: str) -> tuple[TableName | None, Place]:
        if entry is None:
            return None, key.place
        text = self._text(entry.value, f"{path}.from", "a source table such as public.users, or a list of them")
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
