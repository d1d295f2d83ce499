"""How long to wait before trying again: growing, capped, and never in step with others (K5).

Randomness enters as an argument. Refuses to know why something failed. The invariant: `longest` is never exceeded,
and the first wait is short, because most faults that pass do so at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

SHORTEST: Final = 0.2
LONGEST: Final = 60.0


class Backoff:
    """Decorrelated jitter: each wait is drawn between the shortest and three times the one before. Seconds."""

    def __init__(
        self, uniform: Callable[[float, float], float], *, shortest: float = SHORTEST, longest: float = LONGEST
    ) -> None:
        self._uniform = uniform
        self._shortest = shortest
        self._longest = longest
        self._last = shortest

    def following(self) -> float:
        """The next wait."""
        self._last = min(self._longest, self._uniform(self._shortest, self._last * 3))
        return self._last

    def reset(self) -> None:
        """Something worked."""
        self._last = self._shortest
