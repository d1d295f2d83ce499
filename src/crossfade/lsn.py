"""A position in a server's write-ahead log: the one number every room shares.

Refuses to know what a position is used for. The invariant: an `Lsn` is an unsigned 64-bit byte offset, so
comparing two of them compares their place in the log, and arithmetic on them counts bytes.

PostgreSQL: datatype-pg-lsn, "pg_lsn Type".
"""

from __future__ import annotations

import re
from typing import Final, Self

_TEXT: Final = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
_LARGEST: Final = 0xFFFF_FFFF_FFFF_FFFF


class Lsn(int):
    """A byte offset since the beginning of the write-ahead log, printed as the server prints it.

    `Lsn(0)` is PostgreSQL's InvalidXLogRecPtr and stands for "nothing yet". Raises `ValueError` outside 64 bits.
    """

    __slots__ = ()

    def __new__(cls, value: int = 0) -> Self:
        if not 0 <= value <= _LARGEST:
            raise ValueError("an LSN is an unsigned 64-bit number")
        return super().__new__(cls, value)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `16/B374D848`. Raises `ValueError` for anything the server would not print as pg_lsn."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError("not an LSN: expected two hexadecimal numbers with a slash, such as 16/B374D848")
        return cls(int(match[1], 16) << 32 | int(match[2], 16))

    def __str__(self) -> str:
        return f"{self >> 32:X}/{self & 0xFFFF_FFFF:X}"

    def __repr__(self) -> str:
        return f"Lsn({str(self)!r})"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


NOWHERE: Final = Lsn(0)
