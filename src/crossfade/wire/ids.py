"""Makes new ids: one allocator per keyspace, old id text in, new id text out.

Refuses to know where ids are kept (`idstate`, the id map) and what time it is: clock and randomness are handed in. The
invariant: an allocator never returns an id that the new type cannot hold, and uuid7 never goes backwards, whatever the
clock does, so that new rows are appended to their index and not scattered over it.

RFC 9562, "Universally Unique IDentifiers (UUIDs)", sections 5.7 and 6.2.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from crossfade.faults import RowRefused
from crossfade.mapping.plan import Keyspace, Strategy
from crossfade.wire.stock import Drawn, Entries, Stock
from crossfade.wire.uuids import uuid7_run

Clock = Callable[[], int]
"""Milliseconds since 1970-01-01 UTC; may jump either way."""

Randomness = Callable[[int], bytes]
"""That many unpredictable bytes (os.urandom)."""

_RANGES: Final[Mapping[str, tuple[int, int]]] = {
    "smallint": (-(2**15), 2**15 - 1),
    "integer": (-(2**31), 2**31 - 1),
    "bigint": (-(2**63), 2**63 - 1),
}
_INTEGER: Final = re.compile(rb"[+-]?[0-9]{1,19}")
_UUID: Final = re.compile(rb"\{?[0-9a-fA-F]{4}(?:-?[0-9a-fA-F]{4}){7}\}?")

# 12 bits of counter. A fresh millisecond starts in the lower half, so at least 2048 ids fit before it must run ahead.
_COUNTER_END: Final = 1 << 12
_COUNTER_START: Final = 1 << 11
_LARGEST_MS: Final = (1 << 48) - 1


class Uuid7:
    """Strictly increasing uuid7 values: 48 bits of milliseconds, 12 of counter, 62 of randomness.

    A clock that stands still or goes back only makes the counter run; a counter that is used up borrows the next
    millisecond (RFC 9562, 6.2, method 1).
    """

    __slots__ = ("_clock", "_counter", "_ms", "_randomness")

    def __init__(self, clock: Clock, randomness: Randomness) -> None:
        self._clock = clock
        self._randomness = randomness
        self._ms = -1
        self._counter = 0

    def many(self, count: int) -> list[bytes]:
        """The next `count`, as text, from one call for randomness."""
        made: list[bytes] = []
        noise = self._randomness(8 * count)
        while len(made) < count:
            now = min(max(self._clock(), 0), _LARGEST_MS)
            if now > self._ms or self._counter + 1 >= _COUNTER_END:
                self._ms = max(now, self._ms + 1)
                first = int.from_bytes(self._randomness(2), "big") % _COUNTER_START
            else:
                first = self._counter + 1
            stop = min(_COUNTER_END, first + count - len(made))
            self._counter = stop - 1
            made += uuid7_run(self._ms, first, stop, noise, 8 * len(made))
        return made

    def __call__(self) -> uuid.UUID:
        """The next one."""
        noise = int.from_bytes(self._randomness(10), "big")
        now = min(max(self._clock(), 0), _LARGEST_MS)
        if now > self._ms:
            self._ms, self._counter = now, (noise >> 64) % _COUNTER_START
        else:
            self._counter += 1
            if self._counter == _COUNTER_END:
                self._ms, self._counter = self._ms + 1, (noise >> 64) % _COUNTER_START
        return uuid.UUID(int=self._ms << 80 | 7 << 76 | self._counter << 64 | 2 << 62 | noise & (1 << 62) - 1)


class Allocator:
    """What makes the new ids of one keyspace, as text of its new type, out of old ones (normalised text)."""

    def __init__(self, one: Callable[[bytes], bytes], many: Callable[[Sequence[bytes]], list[bytes]]) -> None:
        self._one = one
        self.many = many

    def __call__(self, old: bytes) -> bytes:
        """One. Raises `RowRefused` when the new type cannot hold the result; so does `many`, for each of them."""
        return self._one(old)


def allocator(keyspace: Keyspace, *, clock: Clock, randomness: Randomness) -> Allocator | Stock:
    """The allocator of a keyspace's strategy.

    uuid7 and uuid4 answer differently each time, so the id map must remember them; uuid5 and offset answer always the
    same. A Stock answers from what was put into it.
    """
    if keyspace.strategy is Strategy.SEQUENCE:
        return Drawn(keyspace)
    if keyspace.strategy is Strategy.TABLE:
        return Entries(keyspace)
    if keyspace.strategy is Strategy.UUID7:
        following = Uuid7(clock, randomness)
        return Allocator(lambda old: str(following()).encode(), lambda olds: following.many(len(olds)))
    one = _one_by_one(keyspace, randomness)
    return Allocator(one, lambda olds: [one(old) for old in olds])


def _one_by_one(keyspace: Keyspace, randomness: Randomness) -> Callable[[bytes], bytes]:
    match keyspace.strategy:
        case Strategy.UUID5:
            prefix = f"{keyspace.owner}:"
            return lambda old: str(uuid.uuid5(uuid.NAMESPACE_URL, prefix + old.decode("utf-8"))).encode()
        case Strategy.OFFSET:
            return lambda old: _shifted(old, keyspace)
        case _:
            return lambda old: str(uuid.UUID(bytes=randomness(16), version=4)).encode()


def _shifted(old: bytes, keyspace: Keyspace) -> bytes:
    lowest, highest = _RANGES[keyspace.new_type]
    new = _integer(old) + keyspace.by
    if not lowest <= new <= highest:
        raise RowRefused(
            f"An id plus {keyspace.by} does not fit into {keyspace.new_type}.",
            where=f"keyspace {keyspace.name} of {keyspace.owner}.{keyspace.column}",
            means="Nothing of this transaction was applied; the slot keeps it.",
            do="Choose a smaller offset or a wider type, then start the copy again.",
        )
    if (keyspace.lower is not None and new < keyspace.lower) or (keyspace.upper is not None and new >= keyspace.upper):
        raise RowRefused(
            f"An id plus {keyspace.by} is a number that belongs to another source of the same target table.",
            where=f"keyspace {keyspace.name} of {keyspace.owner}.{keyspace.column}",
            means="Nothing of this transaction was applied; the slot keeps it.",
            do="Mend the id on the source; another offset is another mapping: `crossfade teardown`, empty the target"
            " tables, `crossfade run`.",
        )
    return str(new).encode()


def normalise(old: bytes, old_type: str) -> bytes:
    """The one spelling of an old id by which the map is keyed: as PostgreSQL prints it.

    uuid: lower case with hyphens; integers: no plus sign, no leading zeros. Every other type is taken as it is. The
    stream sends ids so already; ids that people or files hand in need it. Raises `RowRefused` for what is no value of
    `old_type`.
    """
    if old_type == "uuid":
        # All sixteen groupings PostgreSQL reads: hyphens after any group of four digits, braces or none.
        if _UUID.fullmatch(old) is None or old.startswith(b"{") != old.endswith(b"}"):
            raise _unreadable(old_type)
        return str(uuid.UUID(hex=old.strip(b"{}").replace(b"-", b"").decode("ascii"))).encode()
    if old_type in _RANGES:
        lowest, highest = _RANGES[old_type]
        value = _integer(old.strip(b" "))
        if not lowest <= value <= highest:
            raise _unreadable(old_type)
        return str(value).encode()
    return old


def _integer(text: bytes) -> int:
    if _INTEGER.fullmatch(text) is None:
        raise _unreadable("an integer type")
    return int(text)


def _unreadable(kind: str) -> RowRefused:
    return RowRefused(
        f"An id is no value of {kind}.",
        means="Nothing was written.",
        do="Check the type of the keyspace's column in the mapping.",
    )
