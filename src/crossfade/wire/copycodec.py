# cython: language_level=3, annotation_typing=False, boundscheck=False, wraparound=False, initializedcheck=False
"""Rows as COPY TO gives them, to what COPY FROM of the target takes, by the encoder of the stream.

A block of rows is put into the shape of stream tuples and given to the encoder, so that copy and stream cannot differ
in a rule. Refuses to know connections, and which tables need no conversion (`copy/passage`). The invariant: as many
rows come out as went in, in their order, or the call raises.

Compiled where there is a compiler, see `native`; `copycodec.pxd` holds the types for that. Every read is checked by
hand against the end of its row, because compiled code has no other guard.

PostgreSQL: sql-copy, "Text Format" and "Binary Format".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from crossfade.catalog import ReplicaIdentity
from crossfade.faults import ProtocolViolation
from crossfade.mapping.plan import TablePlan
from crossfade.pgoutput.messages import Form, Relation, RelationColumn
from crossfade.wire.encode import Encoder
from crossfade.wire.entries import HEADER
from crossfade.wire.fold import Rows
from crossfade.wire.idstate import IdState
from crossfade.wire.remarks import Remarks
from crossfade.wire.zones import Zone

try:
    import cython
except ImportError:  # it is only there to compile
    from crossfade.wire import uncompiled as cython

if not cython.compiled:  # compiled code takes their twins from leaf.pxd
    from crossfade.wire.leaf import field_end, put, put_unescaped

_SIGNATURE: Final = HEADER[:11]
_HEADER: Final = len(HEADER)  # the signature, int32 flags, int32 length of the extension


class CopyCodec:
    """One table's rows in one form. `header` and `trailer` go around what `convert` gives (empty in text).

    For each block: `read` it, have the ids that `ids_in` names loaded, then `convert`.
    """

    __slots__ = ("_columns", "_encoder", "_is_binary", "header", "plan", "trailer")

    def __init__(self, plan: TablePlan, form: Form, ids: Mapping[str, IdState], zones: Mapping[str, Zone]) -> None:
        copied = [column for column in plan.source_columns if column.name in plan.used]
        columns = tuple(RelationColumn(one.name, one.type_oid, one.typmod, is_key=False) for one in copied)
        relation = Relation(plan.source_oid, plan.source, ReplicaIdentity.FULL, columns)
        self.plan = plan
        self._encoder = Encoder(relation, plan, form, ids, zones)
        self._columns = len(columns)
        self._is_binary = form is Form.BINARY
        self.header = self._encoder.header
        self.trailer = self._encoder.trailer

    def read(self, block: list[bytes]) -> Rows:
        """The rows of a block of CopyData payloads, one each, in binary less the file's header and trailer.

        The columns are those the mapping uses, in the source's order. Empties the block on the way, so that a huge
        value is not held once more than it must. Raises ProtocolViolation.
        """
        out = bytearray()
        offsets: list[int] = []
        for number in range(len(block)):
            row = block[number]
            block[number] = b""
            if self._is_binary:
                self._take_binary(row, out, offsets)
            else:
                self._take_line(row, out, offsets)
        block.clear()
        tuples = bytes(out)
        return Rows([tuples] * len(offsets), offsets)

    def ids_in(self, rows: Rows, into: Mapping[str, list[bytes]]) -> None:
        """Append every old id of the rows to its keyspace's list, as `Encoder.old_ids` does."""
        self._encoder.old_ids(rows, into, into)

    def convert(self, rows: Rows, remarks: Remarks) -> bytes:
        """The rows as COPY data of the target. Raises RowRefused, and UnknownId for an id that was not loaded."""
        return self._encoder.copy_data(rows, 0, len(rows.offsets), remarks)

    def _take_line(self, row: bytes, out: bytearray, offsets: list[int]) -> None:
        """Append a line as a tuple."""
        data = row
        stop = len(row) - 1
        if stop < 0 or data[stop] != 10:
            raise self._violation("A line does not end.", stop)
        self._begin(out, offsets)
        at = 0
        for number in range(self._columns):
            if number:
                if at == stop:
                    raise self._violation("A line has fewer columns than were selected.", at)
                at += 1  # the tab
            end = field_end(data, at, stop)
            if end == at + 2 and data[at] == 92 and data[at + 1] == 78:
                out.append(110)
            else:
                out.append(116)
                if put_unescaped(out, data, at, end) == -2:
                    raise self._violation("A field ends inside an escape.", end)
            at = end
        if at != stop:
            raise self._violation("A line has more columns than were selected.", at)

    def _take_binary(self, row: bytes, out: bytearray, offsets: list[int]) -> None:
        """Append a row as a tuple, unless it is the header or the trailer alone."""
        data = row
        size = len(row)
        at = 0
        if row[:11] == _SIGNATURE:  # no row begins so: it would have 20,551 columns
            if size < _HEADER or row[11:_HEADER] != bytes(8):
                raise self._violation("The header is none that we know.", 11)
            at = _HEADER
            if at == size:
                return
        if at + 2 > size:
            raise self._violation("A row ends inside the number of columns.", at)
        count = data[at] << 8 | data[at + 1]
        at += 2
        if count == 0xFFFF and at == size:
            return
        if count != self._columns:
            raise self._violation("A row has another number of columns than were selected.", at)
        self._begin(out, offsets)
        for _ in range(count):
            if at + 4 > size:
                raise self._violation("A row ends inside the length of a column.", at)
            if data[at] == 255 and data[at + 1] == 255 and data[at + 2] == 255 and data[at + 3] == 255:
                out.append(110)
                at += 4
                continue
            length = data[at] << 24 | data[at + 1] << 16 | data[at + 2] << 8 | data[at + 3]
            if length < 0 or length > size - at - 4:
                raise self._violation("A column claims more bytes than are left in the row.", at)
            out.append(98)
            put(out, data, at, at + 4 + length)
            at += 4 + length
        if at != size:
            raise self._violation("A row goes on after its last column.", at)

    def _begin(self, out: bytearray, offsets: list[int]) -> None:
        """A tuple's marker (O: others follow behind it) and its number of columns."""
        out.append(79)
        offsets.append(len(out))
        out.append(self._columns >> 8)
        out.append(self._columns & 255)

    def _violation(self, what: str, at: int) -> ProtocolViolation:
        return ProtocolViolation(f"{self.plan.source}: {what}", tag="COPY", offset=at)
