"""How far the copy is: rows and bytes of each table, over its parts.

Refuses to know what decides about a part. The invariant: what a table is said to have copied is the sum of its finished
parts and of what the running ones have handed over; a part that was given up counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from crossfade.catalog import Route
from crossfade.copy.parts import Part
from crossfade.events import CopyState, Listener
from crossfade.lsn import NOWHERE, Lsn
from crossfade.mapping.plan import TablePlan


class Tally:
    """Told by the driver, tells the listener."""

    def __init__(self, plans: Iterable[TablePlan], listener: Listener) -> None:
        self._plans = {plan.route: plan for plan in plans}
        self._listener = listener
        self._counts: dict[Route, dict[Part, tuple[int, int]]] = {}
        self._from: dict[Route, Lsn] = {}
        self._yields: dict[Route, int] = {}

    def begin(self, table: Route, from_lsn: Lsn, yields: int, done: Mapping[Part, tuple[int, int]]) -> None:
        """Nothing of the table is copied yet but the parts that are `done`: rows and bytes of each."""
        self._counts[table] = dict(done)
        self._from[table] = from_lsn
        self._yields[table] = yields

    def progressed(self, table: Route, part: Part, rows: int, size: int) -> None:
        self._counts[table][part] = (rows, size)
        self._tell(table, "running")

    def forget(self, table: Route, part: Part) -> None:
        """The part was rolled back."""
        self._counts[table].pop(part, None)
        self._tell(table, "running" if self._counts[table] else "pending")

    def yielded(self, table: Route, yields: int) -> None:
        self._yields[table] = yields
        self._tell(table, "pending")

    def done(self, table: Route) -> None:
        self._tell(table, "done")

    def _tell(self, table: Route, state: str) -> None:
        plan = self._plans[table]
        counts = self._counts[table].values()
        self._listener(
            CopyState(
                source=plan.source,
                target=plan.target,
                state=state,
                rows=sum(rows for rows, _ in counts),
                bytes=sum(size for _, size in counts),
                rows_estimated=plan.row_estimate,
                from_lsn=self._from.get(table, NOWHERE),
                yields=self._yields.get(table, 0),
            )
        )
