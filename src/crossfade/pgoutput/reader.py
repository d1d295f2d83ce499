"""Reads the fields of one message, and owns every bounds check there is.

Refuses to know what the fields mean: `decode` names them. The invariant: a read beyond the end, a length that cannot
be, or an unterminated string raises `ProtocolViolation` with the message's tag and the offset of the field, never
returns a zero; and what is returned is a copy, so that a small cell does not keep a big frame alive.

All numbers are in network byte order. PostgreSQL: protocol-message-types, "Message Data Types".
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from crossfade.faults import ProtocolViolation
from crossfade.lsn import Lsn
from crossfade.pgoutput.messages import UNCHANGED, Cell, Form, TextCell, Tuple

_INT16: Final = Struct("!h").unpack_from
_INT32: Final = Struct("!i").unpack_from
_UINT32: Final = Struct("!I").unpack_from
_INT64: Final = Struct("!q").unpack_from
_UINT64: Final = Struct("!Q").unpack_from

# Slicing bytes makes the copy we need in one step, slicing a view takes two; but a big frame is not copied twice.
_COPY_WHOLE: Final = 65536

_NULL, _UNCHANGED, _TEXT, _BINARY = b"nutb"


class Reader:
    """One message after its tag byte, read front to back. `offset` counts from the tag, which is offset 0."""

    __slots__ = ("_data", "_form", "_size", "_tag", "offset")

    def __init__(self, frame: bytes | memoryview, tag: str, form: Form = Form.TEXT) -> None:
        self._size = len(frame)
        self._data = bytes(frame) if self._size <= _COPY_WHOLE else frame
        self._tag = tag
        self._form = form
        self.offset = 1

    def violation(self, what: str, *, at: int | None = None) -> ProtocolViolation:
        """The fault to raise for the field at offset `at` (default: the next one)."""
        return ProtocolViolation(what, tag=self._tag, offset=self.offset if at is None else at)

    def finish(self) -> None:
        """A message with bytes left over is not a message."""
        if self.offset != self._size:
            raise self.violation(f"The message goes on for {self._size - self.offset} bytes after its last field.")

    def _take(self, size: int, what: str) -> int:
        """Step over `size` bytes and return where they begin."""
        at = self.offset
        if at + size > self._size:
            raise self.violation(f"The message ends inside {what}: {size} bytes expected, {self._size - at} left.")
        self.offset = at + size
        return at

    def byte(self, what: str) -> int:
        """Byte1 or Int8, unsigned."""
        return self._data[self._take(1, what)]

    def int16(self, what: str) -> int:
        """Int16, signed."""
        value: int = _INT16(self._data, self._take(2, what))[0]
        return value

    def int32(self, what: str) -> int:
        """Int32, signed."""
        value: int = _INT32(self._data, self._take(4, what))[0]
        return value

    def oid(self, what: str) -> int:
        """Int32 holding an OID or a transaction id: both are unsigned."""
        value: int = _UINT32(self._data, self._take(4, what))[0]
        return value

    def int64(self, what: str) -> int:
        """Int64, signed: times in microseconds since 2000-01-01 UTC lie before that date too."""
        value: int = _INT64(self._data, self._take(8, what))[0]
        return value

    def lsn(self, what: str) -> Lsn:
        """Int64 holding an XLogRecPtr: unsigned."""
        return Lsn(_UINT64(self._data, self._take(8, what))[0])

    def octets(self, size: int, what: str) -> bytes:
        """Exactly `size` bytes, copied."""
        if size < 0:
            raise self.violation(f"The length of {what} is negative.")
        at = self._take(size, what)
        return bytes(self._data[at : at + size])

    def string(self, what: str) -> str:
        """A zero-terminated name in UTF-8, the encoding every connection of ours asks for."""
        data = self._data
        if isinstance(data, memoryview):  # views cannot be searched; row messages, which can be huge, hold no names
            data = self._data = bytes(data)
        at = self.offset
        end = data.find(0, at)
        if end < 0:
            raise self.violation(f"The text of {what} has no terminating zero byte.")
        try:
            text = data[at:end].decode("utf-8")
        except UnicodeDecodeError:
            raise self.violation(f"The text of {what} is not valid UTF-8.") from None
        self.offset = end + 1
        return text

    def cells(self) -> Tuple:
        """TupleData: each cell `bytes` in the stream's form, None or UNCHANGED (promise 4).

        This is the loop that every row of the exact path passes through, hence the local names and the bounds checks
        written out. A binary cell is refused where the binary option was not asked for; where it was, the server sends
        text for the types that have no binary form, and such a cell is marked as what it is.

        PostgreSQL: protocol-logicalrep-message-formats, "TupleData".
        """
        count = self.int16("the number of columns")
        if count < 0:
            raise self.violation("The number of columns is negative.", at=self.offset - 2)
        data, size, at, int32 = self._data, self._size, self.offset, _INT32
        wanted, other = (_TEXT, _BINARY) if self._form is Form.TEXT else (_BINARY, _TEXT)
        cells: list[Cell] = []
        append = cells.append
        for number in range(count):
            if at >= size:
                raise self.violation(f"The message ends before column {number + 1} of {count}.", at=at)
            kind = data[at]
            if kind == wanted or kind == other == _TEXT:
                start = at + 5
                if start > size:
                    raise self.violation(f"The message ends inside the length of column {number + 1}.", at=at)
                length: int = int32(data, at + 1)[0]
                stop = start + length
                if length < 0 or stop > size:
                    raise self.violation(
                        f"Column {number + 1} claims {length} bytes, {size - start} are left in the message.", at=at
                    )
                value = bytes(data[start:stop])
                append(value if kind == wanted else TextCell(value))
                at = stop
            elif kind == _NULL:
                append(None)
                at += 1
            elif kind == _UNCHANGED:
                append(UNCHANGED)
                at += 1
            elif kind == _BINARY:
                raise self.violation(f"Column {number + 1} is in binary form, which was not asked for.", at=at)
            else:
                raise self.violation(f"Column {number + 1} is of the unknown kind 0x{kind:02x}.", at=at)
        self.offset = at
        return tuple(cells)
