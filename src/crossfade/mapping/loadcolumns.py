"""The grammar of `columns`: one rule for each target column, by the words that stand in its block.

Refuses to know any database. The invariant: a column is only returned when nothing in its block is a problem, and its
rule is one alone.
"""

from __future__ import annotations

import functools
import itertools
import zoneinfo
from collections.abc import Mapping
from typing import Final

from crossfade.mapping.compoundnames import compound
from crossfade.mapping.idrules import IdPath, OtherOwner, RemapBy, RemapPaths, parsed_path
from crossfade.mapping.loadids import IdReading
from crossfade.mapping.places import did_you_mean
from crossfade.mapping.plan import Ambiguous, Const, LocalTime, Nonexistent, Remap, Verbatim
from crossfade.mapping.reading import BLANK
from crossfade.mapping.rules import Lossy, Otherwise, Sql, ValueMap
from crossfade.mapping.spec import ColumnSpec, Written
from crossfade.mapping.tree import Block, Entry, Listing, Node, Scalar, describe

_RULES: Final = ("remap", "timezone", "const", "values", "cast", "up")
COLUMN_KEYS: Final = ("from", *_RULES, "down", "ambiguous", "nonexistent", "otherwise")


class ColumnReading(IdReading):
    """Reads a block `columns`; `ids` must have been read before."""

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
            source = self._several(value, path)
            return None if source is None else ColumnSpec(key.key, source, None, key.place)
        if isinstance(value, Scalar):
            source = self._text(value, path, "the name of a source column, or a block such as {const: 0}")
            return None if source is None else ColumnSpec(key.key, source, None, key.place)
        before, known = len(self._report.problems), len(self._places)
        entries = self._entries(value, path, COLUMN_KEYS)
        source = None
        if (entry := entries.get("from")) is not None:
            if isinstance(entry.value, Listing):
                source = self._several(entry.value, f"{path}.from")
                others = [name for name in _RULES if name in entries and name != "remap"]
                if others:
                    self._problem(
                        entries[others[0]].place,
                        path,
                        "several columns can only be an id together: write 'remap', or make the value by 'up'.",
                    )
            else:
                source = self._text(entry.value, f"{path}.from", "the name of a source column")
        rule = self._rule(entries, key, path)
        if len(self._report.problems) > before:
            return None
        if not entries:
            self._problem(value.place, path, "this block is empty: leave the column out, or say what feeds it.")
            return None
        written = itertools.islice(self._places.items(), known, None)
        places = {below.removeprefix(f"{path}."): place for below, place in written}
        return ColumnSpec(key.key, source, rule, key.place, places)

    def _several(self, value: Listing, path: str) -> str | None:
        """Columns that are an id together."""
        names = [self._text(item, path, "the name of a source column") for item in value.items]
        known = [name for name in names if name is not None]
        if len(known) < len(names):
            return None
        if len(known) < 2 or len(set(known)) < len(known):
            self._problem(value.place, path, "expected the names of two columns or more, such as [tenant, no].")
            return None
        return compound(known)

    def _rule(self, entries: Mapping[str, Entry], key: Entry, path: str) -> Written | None:
        given = [name for name in _RULES if name in entries]
        if len(given) > 1:
            self._problem(
                entries[given[1]].place, path, f"'{given[0]}' and '{given[1]}' exclude each other: choose one."
            )
            return None
        if "const" in entries and "from" in entries:
            self._problem(entries["from"].place, path, "a 'const' takes nothing from the source: remove 'from'.")
        if "up" in entries and "from" in entries:
            self._problem(entries["from"].place, path, "'up' names the columns it reads itself: remove 'from'.")
        if "down" in entries and "up" not in entries:
            self._problem(entries["down"].place, f"{path}.down", "this needs 'up' beside it.")
        if "timezone" not in entries:
            for name in ("ambiguous", "nonexistent"):
                if name in entries:
                    self._problem(entries[name].place, f"{path}.{name}", "this needs 'timezone' beside it.")
        if "values" not in entries and "otherwise" in entries:
            self._problem(entries["otherwise"].place, f"{path}.otherwise", "this needs 'values' beside it.")
        if "up" in entries:
            return self._expression(entries, path)
        if "values" in entries:
            return self._value_map(entries, path)
        if "cast" in entries:
            return self._cast(entries["cast"].value, f"{path}.cast")
        if "remap" in entries:
            return self._remap(entries["remap"].value, f"{path}.remap")
        if "timezone" in entries:
            return self._local_time(entries, path)
        if "const" in entries:
            return self._const(entries["const"].value, f"{path}.const")
        return None

    def _expression(self, entries: Mapping[str, Entry], path: str) -> Sql | None:
        up = self._sql(entries["up"].value, f"{path}.up", 'an SQL expression such as "lower(email)"')
        if "down" not in entries:
            return None if up is None else Sql(up)
        down = self._sql(entries["down"].value, f"{path}.down", "an SQL expression over the target's columns")
        return None if up is None or down is None else Sql(up, down)

    def _remap(self, value: Node, path: str) -> Remap | Verbatim | RemapPaths | RemapBy | None:
        if isinstance(value, Scalar) and value.value is False:
            return Verbatim()  # the old id is kept, whatever foreign keys say
        if isinstance(value, Listing) or (isinstance(value, Block) and _has(value, "ids", "path")):
            items = value.items if isinstance(value, Listing) else (value,)
            parts = [part for at, item in enumerate(items) for part in self._id_paths(item, path, at)]
            if isinstance(value, Listing) and not items:
                self._problem(value.place, path, "this list is empty: write {ids: user, path: '$.owner'}.")
            return RemapPaths(tuple(parts)) if parts else None
        if isinstance(value, Block):
            return self._pair(value, path)
        name = self._keyspace_name(value, path)
        return None if name is None else Remap(name)

    def _keyspace_name(self, value: Node, path: str) -> str | None:
        name = self._text(value, path, "the name of a keyspace under 'ids'")
        if name is None:
            return None
        if name not in self._keyspace_names:
            self._problem(value.place, path, f"there is no ids.{name}.{did_you_mean(name, self._keyspace_names)}")
            return None
        return name

    def _id_paths(self, value: Node, path: str, number: int) -> list[IdPath]:
        """`{ids: user, path: "$.owner"}`; the path may be a list of them."""
        if not isinstance(value, Block):
            self._problem(
                value.place, path, f"expected a block such as {{ids: user, path: '$.owner'}}, found {describe(value)}."
            )
            return []
        entries = self._entries(value, path, ("ids", "path"))
        name = self._keyspace_name(entries["ids"].value, f"{path}.ids") if "ids" in entries else None
        for needed in ("ids", "path"):
            if needed not in entries:
                self._problem(value.place, path, f"'{needed}' is missing: write {{ids: user, path: '$.owner'}}.")
        if "path" not in entries:
            return []
        written = entries["path"].value
        found: list[IdPath] = []
        for item in written.items if isinstance(written, Listing) else (written,):
            text = self._text(item, f"{path}.path", "a path such as $.owner")
            steps = parsed_path(text) if text is not None else None
            if text is not None and steps is None:
                self._problem(
                    item.place,
                    f"{path}.path",
                    f'{text!r} is no path that is supported: write $.name, $.list[*].id, $[0] or $."odd name".',
                )
            if name is not None and text is not None and steps is not None:
                found.append(IdPath(name, text, steps))
        return found

    def _pair(self, value: Block, path: str) -> RemapBy | None:
        """`{by: owner_type, of: {User: user, Team: team}, otherwise: keep}`."""
        entries = self._entries(value, path, ("by", "of", "otherwise"))
        if "by" not in entries or "of" not in entries:
            for needed in ("by", "of"):
                if needed not in entries:
                    what = "{by: owner_type, of: {User: user, Team: team}}, or {ids: user, path: '$.owner'} inside json"
                    self._problem(value.place, path, f"'{needed}' is missing: write {what}.")
            return None
        by = self._text(entries["by"].value, f"{path}.by", "the name of a source column")
        of: list[tuple[str, str]] = []
        for key, named, below in self._block(entries["of"], f"{path}.of", known="a block such as {User: user}"):
            keyspace = self._keyspace_name(named, below)
            if keyspace is not None:
                of.append((key.key, keyspace))
        if not of and isinstance(entries["of"].value, Block) and not entries["of"].value.entries:
            self._problem(entries["of"].value.place, f"{path}.of", "no keyspace is named: write {User: user}.")
        otherwise: OtherOwner | None = OtherOwner.ERROR
        if (entry := entries.get("otherwise")) is not None:
            is_null = isinstance(entry.value, Scalar) and entry.value.value is None
            otherwise = OtherOwner.NULL if is_null else self._choice(entry.value, f"{path}.otherwise", OtherOwner)
        return None if by is None or otherwise is None else RemapBy(by, tuple(of), otherwise)

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
        if zone == BLANK:
            self._problem(
                value.place,
                f"{path}.timezone",
                "this blank is for you to fill in: whose local time does the source column hold? Write an IANA time "
                "zone such as Europe/Berlin, or UTC.",
            )
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

    def _value_map(self, entries: Mapping[str, Entry], path: str) -> ValueMap | None:
        values: list[tuple[str, str | None]] = []
        rows = self._block(entries["values"], f"{path}.values", known="a block such as {1: free, 2: pro}")
        for key, value, below in rows:
            if not isinstance(value, Scalar):
                self._problem(value.place, below, f"expected one value, found {describe(value)}.")
                continue
            if key.key == "null" and not key.is_quoted:
                self._problem(key.place, below, "NULL stays NULL in a value map. (For the text 'null', quote it.)")
                continue
            values.append((key.key, const_text(value)))
        if not rows and not isinstance(entries["values"].value, Listing):
            place = entries["values"].value.place
            self._problem(place, f"{path}.values", "no value is mapped: write {1: free, 2: pro}.")
        otherwise, default = self._otherwise(entries.get("otherwise"), f"{path}.otherwise")
        return ValueMap(tuple(values), otherwise, default)

    def _otherwise(self, entry: Entry | None, path: str) -> tuple[Otherwise, str | None]:
        """What a value map does with other values; an error unless the mapping says something else."""
        if entry is None:
            return Otherwise.ERROR, None
        value = entry.value
        if isinstance(value, Block):
            const = self._entries(value, path, ("const",)).get("const")
            if const is not None and isinstance(const.value, Scalar):
                return Otherwise.CONST, const_text(const.value)
        elif isinstance(value, Scalar) and value.value is None:
            return Otherwise.NULL, None
        elif isinstance(value, Scalar) and value.value == "error":
            return Otherwise.ERROR, None
        self._problem(value.place, path, f"expected error, null or {{const: …}}, found {_shown(value)}.")
        return Otherwise.ERROR, None

    def _cast(self, value: Node, path: str) -> Lossy | None:
        if isinstance(value, Scalar) and value.value == "lossy":
            return Lossy()
        self._problem(value.place, path, f"expected lossy (what loses nothing needs no 'cast'), found {_shown(value)}.")
        return None


def _has(block: Block, *keys: str) -> bool:
    return any(entry.key in keys for entry in block.entries)


def _shown(value: Node) -> str:
    return repr(value.value) if isinstance(value, Scalar) and isinstance(value.value, str) else describe(value)


@functools.cache
def _zones() -> frozenset[str]:
    """Names of all time zones; asking walks a directory tree."""
    return frozenset(zoneinfo.available_timezones())


def const_text(value: Scalar) -> str | None:
    """A scalar as PostgreSQL's input functions read it: true and false, numbers as written (1e400 is none
    of a float's business), None for null."""
    match value.value:
        case None:
            return None
        case bool(truth):
            return "true" if truth else "false"
        case int(number):
            return str(number)
        case float(number) if value.text.lower().lstrip("+-") in (".inf", ".nan"):
            return {"inf": "Infinity", "-inf": "-Infinity"}.get(str(number), "NaN")
        case float():
            return value.text  # not str(number): 0.10 and twenty digits must reach a numeric as they were written
        case str(text):
            return text
