# cython: language_level=3, annotation_typing=False, boundscheck=False, wraparound=False, initializedcheck=False
"""Messages of the frontend/backend protocol, split where they lie: what a server sends while it streams or copies.

A block of what a socket gave is walked header by header. CopyData comes out as one bytes object a message, which is
all that is ever made for a row; any other message is left to the caller, whole. Refuses to know sockets and what the
payloads mean. The invariant: every byte belongs to exactly one message, and a message that has not come to its end is
left where it is.

Compiled where there is a compiler, see `native`; `copydata.pxd` holds the types for that.

PostgreSQL: protocol-message-formats (CopyData, ErrorResponse), protocol-error-fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import Final

from crossfade.faults import ProtocolViolation

HEADER: Final = 5
"""Bytes of a message's type and its length, which counts itself but not the type."""

_LENGTH: Final = 4
_HEADER: Final = Struct(">BI").unpack_from


def split(block: bytearray, at: int, stop: int, into: list[bytes]) -> int:
    """Append the payload of every CopyData message in `block[at:stop]`; returns where the first message begins that is
    none, or is not there to its end. The caller has put `at` at the beginning of a message, and `stop` within `block`.
    """
    data = block
    last = stop - 5
    while at <= last:
        if data[at] != 100:  # d
            break
        size = data[at + 1] << 24 | data[at + 2] << 16 | data[at + 3] << 8 | data[at + 4]
        if size < 4 or size > stop - at - 1:
            break
        into.append(bytes(data[at + 5 : at + 1 + size]))
        at += 1 + size
    return at


def pass_over(block: bytearray, at: int, stop: int) -> tuple[int, int]:
    """Pass over the CopyData messages from `at` on, for who hands them on as they are: where the first message begins
    that is none or whose header is not there, and how many were passed. The last may end past `stop`, which is how far
    the block is filled; `at` is the beginning of a message.
    """
    data = block
    count = 0
    last = stop - 5
    while at <= last:
        if data[at] != 100:  # d
            break
        size = data[at + 1] << 24 | data[at + 2] << 16 | data[at + 3] << 8 | data[at + 4]
        if size < 4:
            break
        at += 1 + size
        count += 1
    return at, count


def head(block: bytes | bytearray, at: int) -> tuple[int, int]:
    """The type of the message whose header is at `at`, and its length on the wire, all of it.

    Raises ProtocolViolation for a length that no message can have.
    """
    tag, size = _HEADER(block, at)
    if size < _LENGTH:
        raise ProtocolViolation("a message shorter than its own length", tag=chr(tag), offset=at)
    return tag, 1 + int(size)


def fields(payload: bytes) -> Mapping[str, str]:
    """The fields of an ErrorResponse or NoticeResponse by their letter (C: SQLSTATE, V: severity, t: table ...)."""
    return {part[:1].decode("latin-1"): part[1:].decode("utf-8", "replace") for part in payload.split(b"\0") if part}
