"""What one target transaction did, for the listeners; the levels of apply add to one, whichever of them did the work.

Refuses to know who listens. The invariant: names and counts only, never a value (promise 6).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from crossfade.catalog import Route
from crossfade.events import Operation


@dataclass(slots=True)
class Tally:
    """Changes written, changes that met another row than expected, and times at a clock change, each by table."""

    changes: Counter[tuple[Route, Operation]] = field(default_factory=Counter)
    conflicts: Counter[tuple[Route, str]] = field(default_factory=Counter)
    clock: Counter[tuple[Route, str]] = field(default_factory=Counter)
    filtered: Counter[Route] = field(default_factory=Counter)  # rows that a condition did not take
    ids_created: int = 0
    ids_known: int = 0
    ids_looked_up: int = 0
