"""Values that the target computes from a source row: SQL expressions, and the condition by which rows are taken.

`wire/derive` puts what came of them into rows, `target/evaluate` asks the server. Refuses to know how the SQL is
evaluated. The invariant: an expression names every source column it reads, so that whoever has those cells can have its
value.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from crossfade.catalog import Column


@dataclass(frozen=True, slots=True)
class Input:
    """A source column that an expression reads; `shown` is how the target sees it: of its own type where that exists
    there, else its text."""

    source: Column
    shown: Column


@dataclass(frozen=True, slots=True)
class Expression:
    """SQL over the source's names and types, as it was written. `down` is the way back, over the target's names.

    `place` says where it stands in the mapping file, for errors. `is_portable`: the source would come to the same
    result, since nothing but built-in immutable functions of built-in types are used, and no collation.
    `cannot_fail`: no row makes it an error.
    """

    sql: str
    inputs: tuple[Input, ...]
    down: str | None = None
    place: str = field(default="", compare=False)
    is_portable: bool = field(default=False, compare=False)
    cannot_fail: bool = field(default=False, compare=False)

    @property
    def names(self) -> frozenset[str]:
        """The source columns it reads."""
        return frozenset(each.source.name for each in self.inputs)

    def gives_back(self, target: str) -> str | None:
        """The source column that `down` is the value of: the one that is read, or of several the one that has the
        target column's name. None where that cannot be told."""
        names = self.names
        if len(names) == 1:
            return next(iter(names))
        return target if target in names else None
