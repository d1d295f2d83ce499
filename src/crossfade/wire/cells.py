"""Single values in binary form, as the exact path takes them apart: ids, widened integers, local times.

Refuses to know columns, rows and the maps. The invariant: bytes that are not a whole value of the type are a
`ProtocolViolation`, and what comes out is what the receive function of the target's type takes.

PostgreSQL: the send and receive functions of each type (int2send, uuid_send, timestamp_send).
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Final

from crossfade.faults import ProtocolViolation, RowRefused
from crossfade.mapping.plan import Ambiguous, Nonexistent
from crossfade.wire.leaf import uuid_bytes, uuid_text
from crossfade.wire.zones import Zone

_INT2, _INT4, _INT8, _UUID = 21, 23, 20, 2950
_SIZES: Final = {_INT2: 2, _INT4: 4, _INT8: 8}
_INT64: Final = Struct("!q")

Rewrite = Callable[[bytes], bytes]


def id_reader(type_oid: int) -> Rewrite:
    """From an old id's bytes to the text by which its keyspace knows it, which is what the server prints."""
    if type_oid in _SIZES:
        size = _SIZES[type_oid]
        return lambda cell: b"%d" % _integer(cell, size)
    if type_oid == _UUID:
        return _uuid
    return _as_it_is


def id_writer(type_oid: int) -> Rewrite:
    """From a new id's text to the bytes of its column's type. Raises RowRefused for one that the type cannot hold."""
    if type_oid in _SIZES:
        size = _SIZES[type_oid]
        return lambda text: _packed(text, size)
    if type_oid == _UUID:
        return _uuid_bytes
    return _as_it_is


def widener(source_oid: int, target_oid: int) -> Rewrite | None:
    """From an integer's bytes to those of a wider type; None when they stay as they are."""
    source, target = _SIZES.get(source_oid), _SIZES.get(target_oid)
    if source is None or target is None or source == target:
        return None
    return lambda cell: _integer(cell, source).to_bytes(target, "big", signed=True)


def instant_of(cell: bytes, zone: Zone, ambiguous: Ambiguous, nonexistent: Nonexistent) -> tuple[bytes, str]:
    """A `timestamp` of local time as the `timestamptz` it was, and "" or a note ("gap", "overlap").

    Raises RowRefused as `Zone.to_utc` does.
    """
    utc, note = zone.to_utc(_integer(cell, 8), ambiguous=ambiguous, nonexistent=nonexistent)
    return _INT64.pack(utc), note


def _integer(cell: bytes, size: int) -> int:
    if len(cell) != size:
        raise ProtocolViolation(f"A value of {len(cell)} bytes where its type has {size}.", tag="b", offset=0)
    return int.from_bytes(cell, "big", signed=True)


def _uuid(cell: bytes) -> bytes:
    if len(cell) != 16:
        raise ProtocolViolation(f"A uuid of {len(cell)} bytes.", tag="b", offset=0)
    return uuid_text(cell, 0)


def _packed(text: bytes, size: int) -> bytes:
    try:
        return int(text).to_bytes(size, "big", signed=True)
    except (ValueError, OverflowError):
        raise _no_id() from None


def _uuid_bytes(text: bytes) -> bytes:
    made = uuid_bytes(text)
    if not made:
        raise _no_id()
    return made


def _as_it_is(cell: bytes) -> bytes:
    return cell


def _no_id() -> RowRefused:
    return RowRefused(
        "The map of its keyspace holds a new id that is no value of the column's type.",
        means="Nothing of that transaction was applied; the slot keeps it.",
        do="Mend the entry in the keyspace's table in schema crossfade of the target, or widen the column.",
    )
