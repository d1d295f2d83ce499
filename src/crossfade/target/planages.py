"""When the plans of prepared statements have aged: the table they were made for was much smaller.

A plan made while a table was a page reads all of it, and goes on doing so when there are millions of rows, until
somebody analyses it. So plans are made anew when more rows than fit a page have come since, and again at every so many
times as many, until no table can look like that. Refuses to know the statements. The invariant: `DISCARD` is on its way
in every transaction begun since the growth was seen, until one of them has been committed.

PostgreSQL: sql-prepare ("Notes"), sql-discard.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from crossfade.catalog import TableName
from crossfade.events import Operation
from crossfade.target.pipeline import Statement
from crossfade.target.tally import Tally

DISCARD: Final = Statement(b"DISCARD PLANS")

_OUTGROWN: Final = 256
_TIMES: Final = 4
_LARGE: Final = 65_536


class PlanAges:
    """Of one connection. Rows that were there before it was opened are not counted: its plans knew them."""

    def __init__(self) -> None:
        self._grown: Counter[TableName] = Counter()
        self._planned: dict[TableName, int] = {}
        self.have_aged = False

    def grew(self, tally: Tally) -> None:
        """That was committed, and what opened the transaction with it."""
        self.have_aged = False
        for (route, operation), count in tally.changes.items():
            if operation is Operation.INSERT:
                self._grown[route.target] += count
                if self.outgrown(route.target):
                    self.have_aged = True

    def outgrown(self, target: TableName, coming: int = 0) -> bool:
        """Whether the plans for that table are to be made anew, `coming` rows of an open transaction counted: true once
        for each growth."""
        rows, planned = self._grown[target] + coming, self._planned.get(target, 0)
        if planned >= _LARGE or rows < max(_OUTGROWN, _TIMES * planned):
            return False
        self._planned[target] = rows
        return True
