"""`crossfade status --watch`: what is remembered, drawn and told."""

from __future__ import annotations

import io
from collections import deque

import pytest
from rich.console import Console

from crossfade.cli.watch import Seen, line, page, sparkline
from crossfade.events import LagMeasured, LeaderChanged, Paused, PauseReason, Phase, PhaseChanged
from crossfade.telemetry.document import StatusDocument
from crossfade.telemetry.status import StatusBook
from tests.unit.telemetry.facts import TABLES, Clock, copied


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book(clock: Clock) -> StatusBook:
    book = StatusBook("shop", TABLES, slot="crossfade", clock=clock, monotonic=clock)
    book.observe(LeaderChanged(True))
    book.observe(PhaseChanged(Phase.COPY))
    book.observe(LagMeasured(1.5, 2048))
    return book


def _away(book: StatusBook) -> StatusDocument:
    document = book.document()
    document["daemon"] = None
    return document


def _drawn(seen: Seen, *, waits: float = 0.0, height: int = 50) -> str:
    out = io.StringIO()
    screen = Console(file=out, width=160, height=height, no_color=True, force_terminal=False)
    screen.print(page(seen, screen, waits=waits))
    return out.getvalue()


def test_the_daemon_going_and_coming_back_is_told(book: StatusBook, clock: Clock) -> None:
    seen = Seen()
    seen.take(book.document())
    assert "No daemon answers" not in _drawn(seen)
    clock.advance(1)
    seen.take(_away(book))
    clock.advance(1)
    seen.take(_away(book))
    drawn = _drawn(seen)
    assert "No daemon answers here since 08:00:01 UTC" in drawn
    assert drawn.count("the databases are asked instead") == 1
    clock.advance(1)
    seen.take(book.document())
    drawn = _drawn(seen)
    assert "since 08:00:01" not in drawn
    assert "08:00:03 UTC  the daemon answers again" in drawn


def test_what_changes_is_remembered(book: StatusBook) -> None:
    seen = Seen()
    seen.take(book.document())
    book.observe(PhaseChanged(Phase.CATCHUP))
    seen.take(book.document())
    book.observe(Paused(PauseReason.OPERATOR))
    seen.take(book.document())
    told = [each.partition("  ")[2] for each in seen.news]
    assert told == ["phase is catchup", "paused: operator"]


def test_an_answer_that_takes_long_is_said(book: StatusBook) -> None:
    seen = Seen()
    assert "No answer for 7 s" in _drawn(seen, waits=7.2)
    seen.take(book.document())
    assert "No answer" not in _drawn(seen, waits=0.0)


def test_numbers_are_those_of_the_document(book: StatusBook) -> None:
    book.observe(copied("running", 250))
    seen = Seen()
    seen.take(book.document())
    drawn = _drawn(seen)
    for words in ("Copying: 16.7 %", "1.5 s, 2.0 KiB", "250", "1,000", "public.users", "highest 1.5 s", "Ctrl-C"):
        assert words in drawn, words


def test_tables_that_are_copied_come_first_and_fit_the_screen() -> None:
    from crossfade.catalog import TableName
    from crossfade.telemetry.status import WatchedTable

    tables = [WatchedTable(TableName("public", f"t{n:02}"), TableName("app", f"t{n:02}"), 10) for n in range(40)]
    book = StatusBook("shop", tables)
    book.observe(copied("running", 5, source=tables[33].source, target=tables[33].target, estimated=10))
    seen = Seen()
    seen.take(book.document())
    drawn = _drawn(seen, height=30)
    assert len(drawn.splitlines()) <= 30
    assert drawn.index("public.t33") < drawn.index("public.t00")
    assert "more tables" in drawn


def test_lag_as_a_line() -> None:
    drawn = sparkline(deque([0.0, None, 2.0, 4.0]), plain=False).plain
    assert drawn == "▁ ▅█  highest 4.0 s in the last 4 looks"
    assert sparkline(deque([0.0, 0.01]), plain=False).plain.startswith("▁▁ ")  # nothing is high below a second
    assert sparkline(deque([1.0, 4.0]), plain=True).plain.isascii()
    assert sparkline(deque([None]), plain=False).plain == "not measured yet"


def test_a_narrow_terminal_has_room_for_the_bars(book: StatusBook) -> None:
    for _ in range(2):
        book.observe(copied("running", 500))
    seen = Seen()
    for _ in range(60):
        seen.take(book.document())
    out = io.StringIO()
    screen = Console(file=out, width=80, height=40, no_color=True, force_terminal=False)
    screen.print(page(seen, screen, waits=0.0))
    drawn = out.getvalue()
    assert max(map(len, drawn.splitlines())) <= 80
    (row,) = [line for line in drawn.splitlines() if "public.users" in line]
    assert "500" in row
    assert "1,000" in row
    assert row.count("━") + row.count("╸") > 4  # half of a bar one can read
    assert "inserted" not in drawn
    for route in (TABLES[0], TABLES[1]):
        book.observe(copied("done", 1000, source=route.source, target=route.target))
    seen.take(book.document())
    before = len(out.getvalue())
    screen.print(page(seen, screen, waits=0.0))
    drawn = out.getvalue()[before:]
    assert "inserted  updated  deleted" in drawn  # there is room when the bars are gone
    assert "━" not in drawn


def test_one_line_for_a_log(book: StatusBook) -> None:
    text = line(book.document())
    assert text.startswith("2027-01-15T08:00:00.000Z  shop  copy  lag=1.5 s (2.0 KiB)")
    assert "\n" not in text
    assert "no daemon" in line(_away(book))
