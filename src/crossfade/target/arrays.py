"""Array values put together out of array values: several groups of rows in one statement.

Works on the two forms the encoder writes and refuses to know what is in an element. The invariant: what comes out has
the elements of what went in, in order, in one dimension from 1.

PostgreSQL: arrays ("Array Input and Output Syntax"); array_recv() for the binary form: int32 dimensions, int32 has-null
flag, element OID, then length and lower bound of each dimension, then each element with an int32 length before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from crossfade.pgoutput.messages import Form

_HEADER: Final = 12
_ELEMENTS: Final = 20
_BOOL: Final = (16).to_bytes(4, "big")
_NULL: Final = b"\xff\xff\xff\xff"


def nulls(count: int, element_oid: int, form: Form) -> bytes:
    """So many NULLs."""
    if form is Form.TEXT:
        return b"{" + b",".join([b"NULL"] * count) + b"}"
    return _binary(element_oid.to_bytes(4, "big"), count, _NULL * count)


def flags(count: int, value: bool, form: Form) -> bytes:
    """The same boolean so many times."""
    if form is Form.TEXT:
        return b"{" + b",".join([b"t" if value else b"f"] * count) + b"}"
    return _binary(_BOOL, count, (b"\0\0\0\1\1" if value else b"\0\0\0\1\0") * count)


def joined(parts: Sequence[bytes], form: Form) -> bytes:
    """One array of all their elements; there is at least one part, and they are of one type."""
    if form is Form.TEXT:
        return b"{" + b",".join([part[1:-1] for part in parts if part != b"{}"]) + b"}"
    filled = [part for part in parts if len(part) > _HEADER]
    count = sum(int.from_bytes(part[_HEADER : _HEADER + 4], "big") for part in filled)
    return _binary(parts[0][8:_HEADER], count, b"".join([part[_ELEMENTS:] for part in filled]))


def _binary(element_oid: bytes, count: int, elements: bytes) -> bytes:
    if count == 0:
        return bytes(8) + element_oid
    # The flag may say that there are NULLs where there are none; the server looks for itself.
    return b"".join((b"\0\0\0\1\0\0\0\1", element_oid, count.to_bytes(4, "big"), b"\0\0\0\1", elements))
