"""Which rows of a target table are those of one source, where several sources are made into one table.

One column of the key says it: each source has numbers of its own, or ids that a keyspace of its own has made. Refuses
to know how a mapping comes to it (`merges`) and how rows are found by it (`statements`). The invariant: the shares of
one table never hold the same value, so whatever is done to the rows of one source leaves those of the others alone.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InRange:
    """Rows whose `column` is in [lower, upper); None is no bound."""

    column: str
    lower: int | None
    upper: int | None


@dataclass(frozen=True, slots=True)
class InMap:
    """Rows whose `column` holds a new id of the keyspace."""

    column: str
    keyspace: str


@dataclass(frozen=True, slots=True)
class InNoMap:
    """Rows whose `column` holds a new id of none of these keyspaces: what is left to the one source whose values are
    not ours to make."""

    column: str
    keyspaces: tuple[str, ...]


Share = InRange | InMap | InNoMap
