"""What a rule of the mapping does with a value, as the source's server could tell.

Refuses to know which rule it was. The invariant: `value` is NULL exactly where the target's value is (where the value
fits), and two of them are equal exactly where the target's values would be; a rule that the source cannot evaluate
has none.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from crossfade.preflight.data.fits import Misfit


@dataclass(frozen=True, slots=True)
class Remarkable:
    """Values that arrive, but not as somebody may expect; `words` as those of a `Misfit`."""

    words: str
    where: sql.Composable


@dataclass(frozen=True, slots=True)
class Effect:
    """What a rule does. `shown` is SQL over the source's row `s` and the target's id maps, for a person.

    `value` as the module says (None: only the target knows); `is_faithful` tells that it is the target's value itself
    and not merely something that stands for it. `merges` says in which way two source values may become one ('' in
    none). `may_be_null`: whether the catalog allows it to be NULL.
    """

    words: str
    shown: sql.Composable
    value: sql.Composable | None
    is_faithful: bool
    merges: str
    may_be_null: bool
    misfits: tuple[Misfit, ...] = ()
    remarkable: tuple[Remarkable, ...] = ()


def of_source(column: str) -> sql.Composable:
    """A column of the source's row."""
    return sql.SQL("s.{}").format(sql.Identifier(column))
