"""What was noticed while rows were converted, for metrics and policies.

Refuses to decide what follows from it (`target/replay` applies the policies). The invariant: no row values, save the
old ids of orphans, which never leave the process (promise 6).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from crossfade.mapping.plan import TablePlan


@dataclass(slots=True)
class Remarks:
    """Noticed while converting: clock gaps and overlaps, ids that had no parent yet."""

    clock: Counter[str] = field(default_factory=Counter)
    orphans: dict[tuple[str, bytes], TablePlan] = field(default_factory=dict)
    ids_known: int = 0
