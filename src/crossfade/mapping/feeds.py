"""A source column and the target column it feeds, as the rooms that judge their rule pass them on.

Refuses to know rules. The invariant: whatever is told of a feed has a place in the mapping file, that of the table
where the column is not listed.
"""

from __future__ import annotations

from dataclasses import dataclass

from crossfade.catalog import Column
from crossfade.mapping.pairs import Pair
from crossfade.mapping.places import Place
from crossfade.mapping.spec import ColumnSpec


@dataclass(frozen=True, slots=True)
class Feed:
    """One source column and the target column it feeds; `entry` is what the mapping says of them, if it does."""

    pair: Pair
    source: Column
    target: Column
    entry: ColumnSpec | None

    @property
    def place(self) -> Place:
        return self.entry.place if self.entry is not None else self.pair.place

    def at(self, path: str) -> Place:
        """Where something of the entry was written."""
        return self.entry.at(path) if self.entry is not None else self.pair.place

    @property
    def fed_by(self) -> str:
        """The source column, for people."""
        return f"{self.pair.source.name}.{self.source.name}"

    @property
    def feeds(self) -> str:
        """The target column, for people."""
        return f"{self.pair.target.name}.{self.target.name}"

    def __str__(self) -> str:
        return f"{self.fed_by} to {self.feeds}"
