"""The tree of a mapping file, taken apart piece by piece: what every construct of the grammar is read with.

Refuses to know the constructs themselves (`load`, `loadids`, `loadcolumns`). The invariant: whatever is not as expected
leaves one problem at its place, and the reader goes on with what is left, so that all problems come at once.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final, TypeVar

from crossfade.catalog import TableName
from crossfade.mapping.onesql import problem_of
from crossfade.mapping.places import Place, Report, did_you_mean
from crossfade.mapping.tree import Block, Entry, Listing, Node, Scalar, describe

_LONGEST_NAME: Final = 63  # bytes of a PostgreSQL identifier; the server would cut a longer one silently

# What `crossfade init` leaves for a person to fill in; it is no value of anything.
BLANK: Final = "?"

Choice = TypeVar("Choice", bound=enum.Enum)


class Reading:
    """One pass over one file. Each method reads one thing, reports what is wrong and returns what it could."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._places: dict[str, Place] = {}

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
                self._problem(entry.place, below, f"unknown key.{hint(entry.key, known)}")
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

    def _sql(self, value: Node, path: str, wanted: str) -> str | None:
        """A text that is one SQL expression, as far as that can be told without a server."""
        text = self._text(value, path, wanted)
        problem = "" if text is None else problem_of(text)
        if problem:
            self._problem(value.place, path, f"this {problem}.")
        return None if problem else text

    def _choice(self, value: Node, path: str, choices: type[Choice]) -> Choice | None:
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


def hint(key: str, known: Collection[str]) -> str:
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
