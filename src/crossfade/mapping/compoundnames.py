"""The names of compound columns: several columns of a table that are one to the mapping (`mapping/compound`).

Refuses to know tables. The invariant: a name says which columns it is made of, in their order, and nobody else is
called that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

# Between the parts' names; it can be printed, and no column is called that.
_SEPARATOR: Final = "+\x1f"


def compound(parts: Sequence[str]) -> str:
    """The name of the column made of these."""
    return _SEPARATOR.join(parts)


def parts_of(name: str) -> tuple[str, ...]:
    """The columns it is made of; a column of the table is made of itself."""
    return tuple(name.split(_SEPARATOR))


def is_compound(name: str) -> bool:
    """Whether it is made of several."""
    return _SEPARATOR in name


def all_parts(names: Iterable[str]) -> frozenset[str]:
    """The columns of the table that these are made of."""
    return frozenset(part for name in names for part in parts_of(name))


def written(name: str) -> str:
    """As the mapping file has it: the name, or `[tenant, no]`."""
    parts = parts_of(name)
    return name if len(parts) == 1 else f"[{', '.join(parts)}]"


def readable(sentence: str) -> str:
    """A sentence in which such a name may stand, for people: `tenant+no`."""
    return sentence.replace(_SEPARATOR, "+")
