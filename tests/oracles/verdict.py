"""What the checkers found, gathered from their threads.

The invariant: a violation is never lost, not even when the thread that found it dies.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable


class Verdict:
    """Violations and counts, shared by every checker of a run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.violations: list[str] = []
        self.counts: Counter[str] = Counter()
        self.notes: list[str] = []

    def violated(self, oracle: str, what: str) -> None:
        with self._lock:
            self.counts[f"violations.{oracle}"] += 1
            if self.counts[f"violations.{oracle}"] <= 5:
                self.violations.append(f"[{time.strftime('%H:%M:%S')}] {oracle}: {what}")

    def note(self, what: str) -> None:
        with self._lock:
            self.notes.append(f"[{time.strftime('%H:%M:%S')}] {what}")

    def count(self, what: str, by: int = 1) -> None:
        with self._lock:
            self.counts[what] += by

    def caught_by(self) -> set[str]:
        """The names of the oracles that found something."""
        with self._lock:
            return {key.removeprefix("violations.") for key in self.counts if key.startswith("violations.")}

    def require_clean(self) -> None:
        assert not self.violations, "\n".join(self.violations)


class Loop(threading.Thread):
    """A thread that repeats one step until told to stop; a step that raises anything unexpected is a violation."""

    def __init__(self, name: str, verdict: Verdict, step: Callable[[], float]) -> None:
        super().__init__(name=name, daemon=True)
        self.verdict = verdict
        self._step = step
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                wait = self._step()
            except Exception as error:  # noqa: BLE001  # a checker that dies in silence would be a test that cannot fail
                self.verdict.violated("checker", f"{self.name} died: {type(error).__name__}: {error}")
                return
            if wait:
                self._stopping.wait(wait)

    def stop(self) -> None:
        self._stopping.set()
        if self.is_alive():
            self.join(60)
            if self.is_alive():
                self.verdict.violated("checker", f"{self.name} does not stop")
