"""New ids that are made elsewhere: numbers drawn from a sequence of the target, entries of a table somebody filled.

Whoever applies rows fetches them, many at a time, before the first of them is needed (`target/idmap`); here they wait.
Refuses to know connections. The invariant: a number is given to one old id, and an old id that the table does not know,
or knows twice, is a `RowRefused` that does not name it (promise 6).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from crossfade.faults import RowRefused
from crossfade.mapping.compoundnames import written
from crossfade.mapping.plan import Keyspace

# A sequence is asked for no fewer at a time: what is left over is used next time, or lost with the daemon.
_FEWEST: Final = 32
_MOST_ENTRIES: Final = 200_000


class Drawn:
    """Numbers of a sequence, in its order."""

    def __init__(self, keyspace: Keyspace) -> None:
        self._keyspace = keyspace
        self._waiting: deque[bytes] = deque()

    def lacks(self, olds: set[bytes]) -> int:
        """How many numbers to draw, so that each of these may have one; 0 when there are enough."""
        lacking = len(olds) - len(self._waiting)
        return max(lacking, _FEWEST) if lacking > 0 else 0

    def take_in(self, numbers: Iterable[bytes]) -> None:
        """They were drawn."""
        self._waiting.extend(numbers)

    def many(self, olds: Sequence[bytes]) -> list[bytes]:
        """One for each. A rollback does not bring them back: the sequence has gaps, as always."""
        return [self(old) for old in olds]

    def __call__(self, old: bytes) -> bytes:
        if not self._waiting:
            raise ValueError(f"keyspace {self._keyspace.name}: more ids were asked for than were drawn")
        return self._waiting.popleft()


class Entries:
    """The table's entries for old ids that have come."""

    def __init__(self, keyspace: Keyspace) -> None:
        self._keyspace = keyspace
        self._known: dict[bytes, bytes | None] = {}

    def unread(self, olds: set[bytes]) -> set[bytes]:
        """Those that the table must be asked for. One it did not know is asked for again: it may have been added."""
        if len(self._known) > _MOST_ENTRIES:
            self._known.clear()
        return olds.difference(self._known)

    def take_in(self, entries: Iterable[tuple[bytes, bytes | None]]) -> None:
        """What the table holds for those that were asked for."""
        seen: dict[bytes, bytes | None] = {}
        for old, new in entries:
            seen[old] = new if seen.get(old, new) == new else None
        self._known.update(seen)

    def many(self, olds: Sequence[bytes]) -> list[bytes]:
        """The new id of each. Raises RowRefused."""
        return [self(old) for old in olds]

    def __call__(self, old: bytes) -> bytes:
        new = self._known.get(old)
        if new is None:
            # Asked for again at the next attempt, when somebody may have mended the table.
            is_known = self._known.pop(old, b"") is None
            keyspace = self._keyspace
            raise RowRefused(
                f"An id of {keyspace.owner} has {'no usable' if is_known else 'no'} entry in {keyspace.taken_from}.",
                where=f"keyspace {keyspace.name} of {keyspace.owner}.{written(keyspace.column)}",
                means="Nothing of this transaction was applied; the slot keeps it.",
                do=f"Compare the source's ids with those in {keyspace.taken_from} on the target, add what is missing"
                " (one entry each, its new id not NULL), then `crossfade resume`.",
            )
        return new


Stock = Drawn | Entries
