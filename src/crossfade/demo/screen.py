"""Draws the demonstration: a live table on a terminal, plain lines everywhere else.

Progress goes to standard error, the result to standard output. Refuses to know where numbers come from. The
invariant: what was said once stays readable above what moves.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Final, Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from crossfade.demo.compare import Comparison
from crossfade.demo.view import View, duration, number, sentence, size

_LINE_EVERY: Final = 2.0  # seconds between plain lines


class Screen:
    """Where the story is told. Use as a context manager; a terminal is left as it was found."""

    def __init__(self) -> None:
        self.progress = Console(stderr=True, highlight=False)
        self.result = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
        self._is_live = self.progress.is_terminal and not self.progress.is_dumb_terminal
        self._live: Live | None = None
        self._last_line = -_LINE_EVERY
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.still()

    def tell(self, text: str) -> None:
        """Say that something was done; stays on the screen."""
        line = Text.assemble((f"{time.monotonic() - self._began:5.1f} s  ", "dim"), text)
        self.progress.print(line, soft_wrap=True)

    def show(self, view: View) -> None:
        """Show how things stand: redraws on a terminal, a line now and then elsewhere."""
        if self._is_live:
            if self._live is None:
                self._live = Live(console=self.progress, refresh_per_second=8, transient=True)
                self._live.start()
            self._live.update(_panel(view))
        elif time.monotonic() - self._last_line >= _LINE_EVERY:
            self._last_line = time.monotonic()
            self.tell(sentence(view))

    def still(self) -> None:
        """Nothing moves any more."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        self._last_line = -_LINE_EVERY

    def print_result(self, found: Comparison, facts: tuple[str, ...]) -> None:
        """The verdict, with its reasons."""
        self.still()
        sys.stderr.flush()
        self.result.print(_result_table(found))
        shared = sum(each.shared for each in found.maps)
        broken = [key for key in found.foreign_keys if key.violations]
        entries = sum(each.entries for each in found.maps)
        lines = [
            *(f"{each.target} differs in: {', '.join(each.columns)}." for each in found.tables if each.columns),
            f"{len(found.maps)} id maps, {entries:,} entries: "
            + ("each old id has one new id, and the other way round." if not shared else f"{shared:,} NOT one-to-one."),
            f"{len(found.foreign_keys)} foreign keys of the new schema: "
            + ("all hold." if not broken else "VIOLATED: " + ", ".join(f"{key.table} {key.name}" for key in broken)),
            *facts,
        ]
        for line in lines:
            self.result.print(Text(line), soft_wrap=True)
        verdict = (
            Text(f"Both sides agree: {found.rows:,} rows, every one compared.", style="bold green")
            if found.agrees
            else Text("The two sides do NOT agree.", style="bold red")
        )
        self.result.print(verdict, soft_wrap=True)


def _panel(view: View) -> RenderableType:
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column()
    facts.add_row("phase", view.phase or "crossfade does not answer")
    facts.add_row("live writes", f"{view.written:,} transactions, {view.written_per_second:,.0f} a second")
    if view.is_following:
        facts.add_row("lag", f"{duration(view.lag_seconds)}, {size(view.lag_bytes)}")
        facts.add_row("applied", f"{number(view.applied_per_second)} changes a second")
    if view.seconds_left is not None:
        facts.add_row("left", f"{max(view.seconds_left, 0):.0f} s")
    if view.error:
        facts.add_row("error", Text(view.error, style="red"))
    if not view.tables or view.is_following:
        return facts
    copy = Table.grid(padding=(0, 2))
    copy.add_column()
    copy.add_column(width=30)
    copy.add_column(justify="right")
    copy.add_column(style="dim")
    for table in view.tables:
        total = max(table.total, table.rows, 1) if table.state != "done" else max(table.rows, 1)
        done = total if table.state == "done" else table.rows
        copy.add_row(table.target, ProgressBar(total=total, completed=done), f"{table.rows:,}", table.state)
    return Group(facts, Text(), copy)


def _result_table(found: Comparison) -> Table:
    table = Table(
        title="Row by row, by SQL that knows nothing of crossfade",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for name in ("legacy", "new"):
        table.add_column(name, no_wrap=True)
    for name in ("rows", "equal", "missing", "extra", "different"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in found.tables:
        numbers = (each.source_rows, each.equal, each.missing, each.extra, each.different)
        table.add_row(
            each.source.removeprefix("public."),
            each.target,
            *(f"{value:,}" for value in numbers),
            style="green" if each.agrees else "bold red",
        )
    return table
