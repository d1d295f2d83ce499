"""Ids inside a value: elements of arrays, places in a document, ids whose keyspace another column names.

For each such column there is one `References`: it tells which old ids a cell holds, and builds the cell anew with new
ones, in the form the stream travels in. Refuses to know the maps: who asks brings a way to look a new id up, and
whatever that raises passes through. The invariant: what is no id leaves the cell as it came, byte for byte.

PostgreSQL: arrays ("Array Input and Output Syntax"), array_recv(); datatype-json; RFC 8259.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from struct import Struct
from typing import Final, Protocol

from crossfade.faults import ProtocolViolation, RowRefused
from crossfade.mapping.idrules import OtherOwner, RemapArray, RemapBy, RemapPaths
from crossfade.mapping.plan import ColumnPlan, Keyspace, TablePlan
from crossfade.pgoutput.messages import Form
from crossfade.wire import arraytext, documents
from crossfade.wire.cells import Rewrite, id_reader, id_writer
from crossfade.wire.constants import binary_constant
from crossfade.wire.ids import normalise

Old = tuple[str, bytes]
"""A keyspace, and an old id as it knows it."""

Lookup = Callable[[str, bytes], bytes]
"""The new id, as text, of such an old one."""

_INT32: Final = Struct("!i")
# Arrays by the type of their elements, as far as ids are made of these: int2, int4, int8, uuid, text, varchar.
ELEMENTS: Final[Mapping[int, int]] = {1005: 21, 1007: 23, 1016: 20, 2951: 2950, 1009: 25, 1015: 1043}
IDS: Final = frozenset(ELEMENTS.values())
_DOCUMENTS: Final = frozenset((114, 3802))  # json, jsonb
_JSONB: Final = 3802


class References(Protocol):
    """The ids inside one column's cells; `by` is the cell of the column that a polymorphic reference asks."""

    def ids(self, cell: bytes, by: bytes | None) -> list[Old]: ...

    def rebuilt(self, cell: bytes, by: bytes | None, lookup: Lookup) -> bytes | None: ...


def references(column: ColumnPlan, plan: TablePlan, keyspaces: Mapping[str, Keyspace], form: Form) -> References | None:
    """None for a column whose rule is none of these."""
    rule = column.rule
    match rule:
        case RemapArray(keyspace):
            return _TextArray(keyspace) if form is Form.TEXT else _BinaryArray(column, keyspace)
        case RemapPaths():
            return _Document(column, rule, keyspaces, form)
        case RemapBy():
            return _Pair(column, plan, rule, keyspaces, form)
        case _:
            return None


def asked_column(rule: object) -> str | None:
    """The source column a polymorphic reference asks for its keyspace."""
    return rule.by if isinstance(rule, RemapBy) else None


def text_only(column: ColumnPlan, plan: TablePlan) -> str:
    """Why such a column keeps its stream in text, to be put after "because"; '' when it does not."""
    source, target = column.source, column.target
    assert source is not None
    types = f"{source.type_name} and {target.type_name}"
    match column.rule:
        case RemapArray():
            return "" if {source.type_oid, target.type_oid} <= ELEMENTS.keys() else f"its arrays of ids are {types}"
        case RemapPaths():
            same = source.type_oid == target.type_oid and source.type_oid in _DOCUMENTS
            return "" if same else f"its documents are {types}"
        case RemapBy(by, of):
            if not {source.type_oid, target.type_oid} <= IDS:
                return f"its ids are {types}"
            asked = next(one for one in plan.source_columns if one.name == by)
            if any(binary_constant(name, asked) is None for name, _ in of):
                return f"the binary form of {by}, {asked.type_name}, is not known here"
    return ""


class _TextArray:
    """An array literal, as the server prints it."""

    def __init__(self, keyspace: str) -> None:
        self._keyspace = keyspace

    def ids(self, cell: bytes, by: bytes | None) -> list[Old]:
        return [(self._keyspace, old) for old in arraytext.elements(cell) if old is not None]

    def rebuilt(self, cell: bytes, by: bytes | None, lookup: Lookup) -> bytes | None:
        return arraytext.rebuilt(cell, lambda old: lookup(self._keyspace, old))


class _BinaryArray:
    """Dimensions, a flag, the element type; each dimension's length and lower bound; then the elements."""

    def __init__(self, column: ColumnPlan, keyspace: str) -> None:
        assert column.source is not None
        self._keyspace = keyspace
        self._source = ELEMENTS[column.source.type_oid]
        self._element = ELEMENTS[column.target.type_oid].to_bytes(4, "big")
        self._read = id_reader(self._source)
        self._write = id_writer(ELEMENTS[column.target.type_oid])

    def ids(self, cell: bytes, by: bytes | None) -> list[Old]:
        return [(self._keyspace, self._read(old)) for old in self._elements(cell) if old is not None]

    def rebuilt(self, cell: bytes, by: bytes | None, lookup: Lookup) -> bytes | None:
        out = [cell[:8], self._element, cell[12 : self._begin(cell)]]
        for old in self._elements(cell):
            if old is None:
                out.append(b"\xff\xff\xff\xff")
                continue
            new = self._write(lookup(self._keyspace, self._read(old)))
            out += (_INT32.pack(len(new)), new)
        return b"".join(out)

    def _begin(self, cell: bytes) -> int:
        """Where the first element is."""
        if len(cell) < 12 or int.from_bytes(cell[8:12], "big") != self._source:
            raise _violation("An array of another type than its column's.")
        begin = 12 + 8 * int.from_bytes(cell[:4], "big")
        if begin > len(cell):
            raise _violation("An array ends inside its dimensions.")
        return begin

    def _elements(self, cell: bytes) -> Iterator[bytes | None]:
        at = self._begin(cell)
        while at < len(cell):
            if at + 4 > len(cell):
                raise _violation("An array ends inside the length of an element.")
            (length,) = _INT32.unpack_from(cell, at)
            at += 4
            if length < -1 or length > len(cell) - at:
                raise _violation("An element claims more bytes than are left in the array.")
            yield None if length < 0 else cell[at : at + length]
            at += max(0, length)


class _Document:
    """json as text, and jsonb, whose binary form is a version and the same text."""

    def __init__(self, column: ColumnPlan, rule: RemapPaths, keyspaces: Mapping[str, Keyspace], form: Form) -> None:
        assert column.source is not None
        self._parts = [(part.steps, part.keyspace) for part in rule.parts]
        self._old_types = {part.keyspace: keyspaces[part.keyspace].old_type for part in rule.parts}
        self._makes_numbers = {
            part.keyspace: keyspaces[part.keyspace].new_type in {"smallint", "integer", "bigint"} for part in rule.parts
        }
        self._begins = 1 if form is Form.BINARY and column.source.type_oid == _JSONB else 0

    def ids(self, cell: bytes, by: bytes | None) -> list[Old]:
        return [(found.keyspace, self._old(found)) for found in self._found(cell)]

    def rebuilt(self, cell: bytes, by: bytes | None, lookup: Lookup) -> bytes | None:
        out: list[bytes] = []
        at = 0
        for found in self._found(cell):
            new = lookup(found.keyspace, self._old(found))
            out.append(cell[at : found.start])
            out.append(new if found.is_number and self._makes_numbers[found.keyspace] else documents.quoted(new))
            at = found.stop
        out.append(cell[at:])
        return b"".join(out)

    def _found(self, cell: bytes) -> list[documents.Found]:
        if self._begins and cell[:1] != b"\1":
            raise _violation("A jsonb of another version than 1.")
        return documents.find(cell, self._begins, self._parts)

    def _old(self, found: documents.Found) -> bytes:
        return normalise(found.value, self._old_types[found.keyspace])


class _Pair:
    """An id, and in another column the name of what it is an id of."""

    def __init__(
        self,
        column: ColumnPlan,
        plan: TablePlan,
        rule: RemapBy,
        keyspaces: Mapping[str, Keyspace],
        form: Form,
    ) -> None:
        source = column.source
        assert source is not None
        self._read: Rewrite | None = id_reader(source.type_oid) if form is Form.BINARY else None
        self._write: Rewrite | None = id_writer(column.target.type_oid) if form is Form.BINARY else None
        self._otherwise = rule.otherwise
        self._by = rule.by
        asked = next(one for one in plan.source_columns if one.name == rule.by)
        self._keyspaces: dict[bytes, str] = {}
        for name, keyspace in rule.of:
            cell = name.encode() if form is Form.TEXT else binary_constant(name, asked)
            assert cell is not None, "`stream_form` keeps what has no binary form in text"
            self._keyspaces[cell] = keyspace
        self._old_types = {name: keyspaces[name].old_type for _, name in rule.of}

    def ids(self, cell: bytes, by: bytes | None) -> list[Old]:
        keyspace = None if by is None else self._keyspaces.get(by)
        return [] if keyspace is None else [(keyspace, self._old(cell, keyspace))]

    def rebuilt(self, cell: bytes, by: bytes | None, lookup: Lookup) -> bytes | None:
        keyspace = None if by is None else self._keyspaces.get(by)
        if keyspace is not None:
            new = lookup(keyspace, self._old(cell, keyspace))
        elif self._otherwise is OtherOwner.KEEP:
            new = cell if self._read is None else self._read(cell)
        elif self._otherwise is OtherOwner.NULL:
            return None
        else:
            raise RowRefused(
                f"A value of {self._by} names no keyspace in `of`, and the mapping says `otherwise: error`.",
                means="Nothing of this transaction was applied; the slot keeps it.",
                do=f"Look which values there are on the source (SELECT {self._by}, count(*) … GROUP BY 1), and name"
                " their keyspaces or choose another `otherwise`.",
            )
        return new if self._write is None else self._write(new)

    def _old(self, cell: bytes, keyspace: str) -> bytes:
        return normalise(cell if self._read is None else self._read(cell), self._old_types[keyspace])


def _violation(what: str) -> ProtocolViolation:
    return ProtocolViolation(what, tag="(value)", offset=0)
