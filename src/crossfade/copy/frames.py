"""The protocol's messages of a COPY, walked in place: where whole rows end, without an object for any of them.

A block of what the socket gave is walked once, header by header; what it holds of CopyData is handed on as spans of
the same buffer. Refuses to know sockets and what rows mean. The invariant: every byte of the stream belongs to exactly
one message; a tag that cannot come in a COPY is a ProtocolViolation, never skipped.

PostgreSQL: protocol-message-formats (CopyData, CopyDone, CommandComplete, ErrorResponse), protocol-flow ("COPY
Operations", "Asynchronous Operations").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from crossfade.copydata import HEADER, fields, head, pass_over, split
from crossfade.faults import ProtocolViolation

# Sent at any time, and nothing of ours: NoticeResponse, ParameterStatus, NotificationResponse.
_ASIDE: Final = frozenset(b"NSA")
_STARTED: Final = ord("H")
_DONE: Final = ord("c")
_COMPLETE: Final = ord("C")
_ERROR: Final = ord("E")
_READY: Final = ord("Z")


@dataclass(slots=True)
class Walk:
    """One COPY TO STDOUT as it comes. `messages` counts CopyData, `count` is what the server says it sent."""

    messages: int = 0
    count: int = -1
    is_over: bool = False  # the server is ready for the next command
    error: Mapping[str, str] = field(default_factory=dict)  # the fields of an ErrorResponse
    owed: int = 0  # bytes of a CopyData message that have not come yet

    def spans(self, block: bytearray, stop: int) -> tuple[list[tuple[int, int]], int]:
        """What of `block[:stop]` is CopyData, as (start, stop), headers included; and where the next message begins
        that is not complete enough to be looked at: the caller keeps what is from there on.

        A CopyData message may reach past `stop`: its rest is `owed` at the beginning of the next block.
        """
        made: list[tuple[int, int]] = []
        begins = 0
        if self.owed:
            begins = at = min(self.owed, stop)
            self.owed -= at
            made.append((0, at))
        at = begins
        while True:
            at, passed = pass_over(block, at, stop)
            self.messages += passed
            if at + HEADER > stop:
                break
            tag, size = head(block, at)
            if at > begins:
                made.append((begins, at))
            begins = at
            if at + size > stop:
                break
            self._hear(tag, bytes(block[at + HEADER : at + size]))
            begins = at = at + size
        if at > stop:
            self.owed = at - stop
            at = stop
        if at > begins:
            made.append((begins, at))
        return made, at

    def rows(self, block: bytearray, stop: int, into: list[bytes]) -> int:
        """Every whole CopyData message's payload in `block[:stop]`, appended; returns where the first incomplete
        message begins."""
        at, before = 0, len(into)
        while True:
            at = split(block, at, stop, into)
            if at + HEADER > stop:
                break
            tag, size = head(block, at)
            if at + size > stop:
                break
            self._hear(tag, bytes(block[at + HEADER : at + size]))
            at += size
        self.messages += len(into) - before
        return at

    def _hear(self, tag: int, payload: bytes) -> None:
        if self.is_over:
            raise ProtocolViolation("a message after the end of the COPY", tag=chr(tag), offset=0)
        if tag == _COMPLETE:
            self.count = _count(payload)
        elif tag == _ERROR:
            self.error = fields(payload)
        elif tag == _READY:
            self.is_over = True
        elif tag not in _ASIDE and tag != _STARTED and tag != _DONE:
            raise ProtocolViolation("not a message of COPY TO STDOUT", tag=chr(tag), offset=0)


def _count(payload: bytes) -> int:
    """`COPY 1000`."""
    word, _, number = payload.rstrip(b"\0").partition(b" ")
    if word != b"COPY" or not number.isdigit():
        raise ProtocolViolation("CommandComplete: expected COPY and a number", tag="C", offset=0)
    return int(number)
