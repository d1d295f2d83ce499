"""What there is to see while the demonstration runs, as plain values, and how it reads as one line.

Refuses to know terminals: `screen` draws it. The invariant: a number that is not known is shown as such, never as 0.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from crossfade.telemetry.document import StatusDocument


@dataclass(frozen=True, slots=True)
class TableView:
    """One table's copy. `total` is an estimate, and may be less than `rows`."""

    target: str
    state: str
    rows: int
    total: int


@dataclass(frozen=True, slots=True)
class View:
    """One look at everything. None: not known just now (crossfade is down, for example)."""

    phase: str | None
    tables: tuple[TableView, ...]
    lag_seconds: float | None
    lag_bytes: int | None
    applied_per_second: float | None
    error: str | None
    written: int
    written_per_second: float
    seconds_left: float | None

    @property
    def tables_done(self) -> int:
        """How many tables are copied."""
        return sum(table.state == "done" for table in self.tables)

    @property
    def rows(self) -> int:
        """Rows copied so far."""
        return sum(table.rows for table in self.tables)

    @property
    def is_following(self) -> bool:
        """The stream is being read."""
        return self.phase in {"catchup", "streaming"}

    @property
    def is_copied(self) -> bool:
        """The initial copy is over, every table of it, and the stream is being followed."""
        return self.is_following and bool(self.tables) and self.tables_done == len(self.tables)


@dataclass(slots=True)
class Speedometer:
    """Events per second over the last two seconds. Time enters as an argument (seconds, any origin)."""

    span: float = 2.0
    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    def per_second(self, now: float, count: int) -> float:
        """The rate up to `now`, `count` being the running total; 0 before there are two looks."""
        self._seen.append((now, count))
        while len(self._seen) > 2 and now - self._seen[0][0] > self.span:
            self._seen.popleft()
        then, before = self._seen[0]
        return (count - before) / (now - then) if now > then else 0.0


def look(
    document: StatusDocument | None, *, written: int, written_per_second: float, seconds_left: float | None
) -> View:
    """One view out of the status document (None: crossfade does not answer) and the writers' own count."""
    if document is None:
        return View(None, (), None, None, None, None, written, written_per_second, seconds_left)
    error = document["error"]
    return View(
        phase=document["phase"],
        tables=tuple(
            TableView(table["target"], table["state"], table["rows_copied"], table["rows_estimated"])
            for table in document["tables"]
        ),
        lag_seconds=document["lag_seconds"],
        lag_bytes=document["lag_bytes"],
        applied_per_second=document["rates"]["changes_per_second"],
        error=None if error is None else error["text"],
        written=written,
        written_per_second=written_per_second,
        seconds_left=seconds_left,
    )


def sentence(view: View) -> str:
    """The view as one line of a log."""
    parts = [view.phase or "crossfade does not answer"]
    if view.phase is not None and not view.is_following:
        parts.append(f"{view.rows:,} rows copied, {view.tables_done} of {len(view.tables)} tables done")
    elif view.is_following:
        parts.append(f"lag {duration(view.lag_seconds)}, {size(view.lag_bytes)}")
        parts.append(f"{number(view.applied_per_second)} changes/s applied")
    parts.append(f"{view.written:,} transactions written ({view.written_per_second:,.0f}/s)")
    if view.seconds_left is not None:
        parts.append(f"{max(view.seconds_left, 0):.0f} s left")
    if view.error:
        parts.append(view.error)
    return " · ".join(parts)


def duration(seconds: float | None) -> str:
    """A lag, for people."""
    if seconds is None:
        return "unknown"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def size(count: int | None) -> str:
    """Bytes, for people."""
    if count is None:
        return "? bytes"
    for unit, step in (("MiB", 1024**2), ("kiB", 1024)):
        if count >= step:
            return f"{count / step:.1f} {unit}"
    return f"{count} bytes"


def number(value: float | None) -> str:
    """A rate, for people."""
    return "?" if value is None else f"{value:,.0f}"
