# cython: language_level=3, annotation_typing=False, boundscheck=False, wraparound=False, initializedcheck=False
"""New entries of an id map as COPY data in binary: reading a uuid's text costs the server more than all else of a row.

Refuses to make ids and to know tables. The invariant: an entry holds the old and the new id that it was given, or the
call raises.

Compiled where there is a compiler, see `native`; `entries.pxd` holds the types for that.

PostgreSQL: sql-copy, "Binary Format".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

try:
    import cython
except ImportError:  # it is only there to compile
    from crossfade.wire import uncompiled as cython

if not cython.compiled:  # compiled code takes their twins from leaf.pxd
    from crossfade.wire.leaf import number, put, put_int32, put_integer, uuid_bytes

WIDTHS: Final[Mapping[str, int]] = {"smallint": 2, "integer": 4, "bigint": 8, "uuid": 16, "text": 0}
"""The bytes of an id of each type that a keyspace may have; 0: as many as its text."""

# Around the rows of any COPY in binary.
HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # no flags, no header extension
TRAILER: Final = b"\xff\xff"

_TWO_COLUMNS: Final = b"\0\2"


def copy_rows(olds: list[bytes], news: list[bytes], old_width: int, new_width: int) -> bytes:
    """Rows of two columns, to go between HEADER and TRAILER; ids are normalised text, widths are those of WIDTHS.

    Raises ValueError for what is no value of its type.
    """
    if len(olds) != len(news):
        raise ValueError("as many old ids as new ones make entries")
    out, two = bytearray(), _TWO_COLUMNS
    for row in range(len(olds)):
        put(out, two, 0, 2)
        _put_id(out, olds[row], old_width)
        _put_id(out, news[row], new_width)
    return bytes(out)


def _put_id(out: bytearray, text: bytes, width: int) -> None:
    if width == 0:
        put_int32(out, len(text))
        put(out, text, 0, len(text))
    elif width == 16:
        value = uuid_bytes(text)
        if not value:
            raise ValueError("an id that is no uuid")
        put_int32(out, 16)
        put(out, value, 0, 16)
    else:
        whole = number(text)
        most = 32_767 if width == 2 else 2_147_483_647
        if width < 8 and not -most - 1 <= whole <= most:
            raise ValueError("an id that is too large for its type")
        put_integer(out, whole, width)
