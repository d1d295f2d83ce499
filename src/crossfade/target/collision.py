"""A row that the target refuses because another one has its value: of the same source, or of another one.

Where several sources are made into one table, nothing on the source keeps two of them from holding what must be unique
on the target. Refuses to look for the other row: that it is one of another source is likely, not known. The invariant:
names only, never a value (promise 6).
"""

from __future__ import annotations

from typing import Final

from crossfade.faults import Fault
from crossfade.mapping.plan import TablePlan

TAKEN: Final = frozenset({"23505", "23P01"})
"""A unique key or an exclusion constraint refused a row."""


def collided(fault: Fault, plan: TablePlan) -> Fault:
    """The fault, with the sources that meet in the table, if it is a collision and there are several."""
    if plan.beside and fault.sqlstate in TAKEN:
        others = " or ".join(map(str, plan.beside))
        fault.what = (
            f"{fault.what} {plan.target} has several sources: a row of {plan.source} met one of {others}, or one"
        )
        fault.what += " of its own."
        fault.do = f"Mend one of the two rows on its source, or the target, then `crossfade resume`. {_FIND}"
    return fault


_FIND: Final = "`crossfade check --data` counts the rows that meet and names their keys."
