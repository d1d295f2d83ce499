"""When the plans of prepared statements have aged: the table they were made for was much smaller.

A plan made while a table was a page reads all of it, and goes on doing so when there are millions of rows, until
somebody analyses it. So plans are made anew when more rows than fit a page have come since, and again at every so many
times as many, until no table can look like that. What grows otherwise (others write to it, rows came and went, one
transaction is long) nobody counts: therefore no plan is kept for longer than a second of work. Refuses to know the
statements. The invariant: `DISCARD` is on its way in every transaction begun since plans have aged, until one of them
has been committed.

PostgreSQL: sql-prepare ("Notes"), sql-discard: plans only, the statements stay prepared.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from crossfade.catalog import TableName
from crossfade.events import Operation
from crossfade.target.pipeline import Statement
from crossfade.target.tally import Tally

DISCARD: Final = Statement(b"DISCARD PLANS")

_OUTGROWN: Final = 256  # rows of thirty bytes fill a page
_TIMES: Final = 4  # a scan that has become so much dearer is worth another plan
_LARGE: Final = 65_536  # a plan for so many rows goes by the index
# Making all plans of a busy session anew takes a few milliseconds; a wrong one may cost that for each row.
_OLD: Final = 1.0


class PlanAges:
    """Of one connection. Rows that were there before it was opened are not counted: its plans knew them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._made_at = clock()
        self._have_aged = False
        self._grown: Counter[TableName] = Counter()
        self._planned: dict[TableName, int] = {}

    def have_aged(self) -> bool:
        """Whether the transaction that begins now takes `DISCARD` along."""
        self._have_aged = self._have_aged or self._clock() - self._made_at >= _OLD
        return self._have_aged

    def age_within(self) -> bool:
        """The same for the next round trip of an open transaction, which goes out now: once for each time."""
        now = self._clock()
        if now - self._made_at < _OLD:
            return False
        self._made_at = now
        return True

    def grew(self, tally: Tally) -> None:
        """That was committed, and what opened the transaction with it."""
        if self._have_aged:
            self._made_at = self._clock()
        self._have_aged = False
        for (route, operation), count in tally.changes.items():
            if operation is Operation.INSERT:
                self._grown[route.target] += count
                if self.outgrown(route.target):
                    self._have_aged = True

    def outgrown(self, target: TableName, coming: int = 0) -> bool:
        """Whether the plans for that table are to be made anew, `coming` rows of an open transaction counted. True once
        for each growth, so whoever asks must see to it."""
        rows, planned = self._grown[target] + coming, self._planned.get(target, 0)
        if planned >= _LARGE or rows < max(_OUTGROWN, _TIMES * planned):
            return False
        self._planned[target] = rows
        return True
