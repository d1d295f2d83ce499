"""The innermost steps of encoding a row, in plain Python: appending bytes, escaping them, ids between text and binary.

These few exist twice. Compiled code takes their twins from `leaf.pxd` instead, in C, because there an object per field
would cost more than all the rest; the same tests run against both. Refuses to know columns and forms. The invariant: a
caller has checked that `start <= stop` lie inside `data`.

PostgreSQL: sql-copy, "Text Format"; arrays, "Array Input and Output Syntax".
"""

from __future__ import annotations

import re
from binascii import hexlify, unhexlify
from struct import Struct
from typing import Final

from crossfade.faults import ProtocolViolation
from crossfade.wire.fields import copy_escape, copy_unescape

NO_TIME: Final = -(2**63)

_INT32: Final = Struct("!i")
_NUMBER: Final = re.compile(rb"-?[0-9]{1,19}")
_UUID_TEXT: Final = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def put(out: bytearray, data: bytes, start: int, stop: int) -> None:
    """Append data[start:stop]."""
    out += data[start:stop]


def put_escaped(out: bytearray, data: bytes, start: int, stop: int) -> None:
    """Append it as a field of COPY's text format."""
    out += copy_escape(data[start:stop])


def put_quoted(out: bytearray, data: bytes, start: int, stop: int) -> None:
    """Append it as an element of an array's text, always in quotes, so that no value can be NULL or a brace."""
    out += b'"'
    out += data[start:stop].replace(b"\\", rb"\\").replace(b'"', rb"\"")
    out += b'"'


def put_int32(out: bytearray, value: int) -> None:
    """Append four bytes, big-endian."""
    out += _INT32.pack(value)


def integer(data: bytes, start: int, size: int) -> int:
    """The signed big-endian integer of 2, 4 or 8 bytes at `start`."""
    return int.from_bytes(data[start : start + size], "big", signed=True)


def put_integer(out: bytearray, value: int, size: int) -> None:
    """Append its length and a signed big-endian integer of 2, 4 or 8 bytes. The caller knows that it fits."""
    out += _INT32.pack(size)
    out += value.to_bytes(size, "big", signed=True)


def decimal(value: int) -> bytes:
    """An integer as the server prints it."""
    return b"%d" % value


def number(text: bytes) -> int:
    """The reverse. Raises ValueError for what is no integer of eight bytes in digits."""
    if _NUMBER.fullmatch(text) is None or not -(2**63) <= (value := int(text)) < 2**63:
        raise ValueError("an id that is no integer")
    return value


def uuid_text(data: bytes | bytearray, start: int) -> bytes:
    """Sixteen bytes as the server prints a uuid."""
    digits = hexlify(data[start : start + 16])
    return b"-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def uuid_bytes(text: bytes) -> bytes:
    """The reverse; empty for what is no uuid as the server prints it."""
    if _UUID_TEXT.fullmatch(text) is None:
        return b""
    return unhexlify(text.replace(b"-", b""))


def local_time(data: bytes, start: int, stop: int) -> int:
    """The microseconds since 2000-01-01 of a timestamp as printed; `NO_TIME` for what `fields` must look at.

    That is, here, all of them: its memory of hours is quicker than arithmetic in Python.
    """
    return NO_TIME


def printed_utc(moment: int) -> bytes:
    """Such a moment as the server prints a timestamptz in UTC; empty for years but 1 to 9999. Never asked here."""
    raise NotImplementedError


def field_end(data: bytes, start: int, stop: int) -> int:
    """Where a field of COPY's text format that begins at `start` ends: before a tab, or at `stop`."""
    found = data.find(b"\t", start, stop)
    return stop if found < 0 else found


def put_unescaped(out: bytearray, data: bytes, start: int, stop: int) -> int:
    """Append length and bytes of a field of COPY's text format that is not NULL; -2 when it ends in an escape."""
    try:
        value = copy_unescape(data[start:stop])
    except ProtocolViolation:
        return -2
    assert value is not None, "the caller has looked for NULL"
    out += _INT32.pack(len(value))
    out += value
    return 0
