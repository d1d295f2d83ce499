"""What the source sends of a table's rows: which columns, and which values it may leave out.

Refuses to know the mapping. The invariant: a column that is not sent is never relied upon, and of one that may be left
out of an UPDATE nobody says that it always comes.

PostgreSQL: storage-toast, protocol-logicalrep-message-formats ("TupleData").
"""

from __future__ import annotations

from typing import Final

from crossfade.catalog import Column, Table
from crossfade.mapping.conversions import length_limit

# A row grows out-of-line parts from about 2,000 bytes on; four bytes a character is the widest UTF-8 gets.
_LONGEST_INLINE: Final = 500
_TOASTED: Final = frozenset({"x", "e", "m"})
_NARROW: Final = frozenset({"numeric", "inet", "cidr", "bit", "bit varying"})  # may be TOASTed, never are in practice


def published_columns(table: Table) -> tuple[Column, ...]:
    """What the source sends, in attribute order: generated columns are not published (E19)."""
    return tuple(sorted((column for column in table.columns if not column.is_generated), key=lambda c: c.number))


def may_be_toasted(column: Column) -> bool:
    """Whether a value may be stored out of line, and is then not sent by an UPDATE that leaves it alone."""
    if column.storage not in _TOASTED or column.base_type in _NARROW or column.type_kind in "erm":
        return False
    limit = length_limit(column)
    return limit is None or limit > _LONGEST_INLINE
