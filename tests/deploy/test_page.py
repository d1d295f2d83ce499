"""The status page in a real browser: on a real daemon that comes and goes, and on made-up states of one.

Pictures are left in .tools/screenshots. What the console says is part of every test: a page that runs into its own
policy, or asks for what is not there, fails.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from crossfade.catalog import TableName
from crossfade.events import (
    CopyState,
    DiskMeasured,
    Failed,
    LagMeasured,
    LeaderChanged,
    Note,
    Operation,
    Paused,
    PauseReason,
    Phase,
    PhaseChanged,
    Received,
)
from crossfade.lsn import Lsn
from crossfade.telemetry import amounts, http
from crossfade.telemetry.feed import Feed, Follower
from crossfade.telemetry.http import Address, serve
from crossfade.telemetry.metrics import Metrics
from crossfade.telemetry.status import StatusBook, WatchedTable
from tests.deploy.browser import Browser
from tests.servers.daemon import Workspace
from tests.servers.databases import Databases
from tests.unit.telemetry.facts import Clock, applied, sampled

_TABLES = "CREATE TABLE public.people (id bigint PRIMARY KEY, name text NOT NULL);"
_NOBODY_THERE = re.compile(r"net::ERR_(CONNECTION_REFUSED|INCOMPLETE_CHUNKED_ENCODING|CONNECTION_RESET|EMPTY_RESPONSE)")


def _unexpected(console: list[str]) -> list[str]:
    """What it wrote besides that nobody answered."""
    return [line for line in console if not _NOBODY_THERE.search(line)]


# -- on a real daemon


@pytest.mark.one_version
async def test_on_a_daemon_that_is_killed_stopped_and_fails(
    browser: Browser, workspace: Workspace, databases: Databases, screenshots: Path
) -> None:
    databases.prepare(
        _TABLES + "INSERT INTO public.people SELECT n, 'zebra-value' FROM generate_series(1, 500) n;", _TABLES
    )
    databases.publish("people")
    daemon = workspace.write().daemon()
    daemon.wait_for_phase("streaming")
    base = f"http://127.0.0.1:{workspace.port}"
    await browser.open(f"{base}/")
    await browser.until("#link", "Live")
    await browser.until("#headline", "Streaming: the target has everything")
    assert await browser.text("#level") == "ALL IS WELL"
    assert await browser.run("return document.title") == "All is well - shop - crossfade"
    with urllib.request.urlopen(f"{base}/api/v1/status", timeout=10) as answer:
        document = json.load(answer)
    assert document["slot"]["name"] == workspace.slot
    row = await browser.run(
        "return [...document.querySelectorAll('#rows tr > *')].map((cell) => cell.innerText.trim())"
    )
    assert row[:6] == ["public.people", "public.people", "done", "100 %", "500", row[5]]
    databases.source.execute("UPDATE public.people SET name = 'zebra-other' WHERE id <= 7")
    await browser.until_true("return document.querySelector('#rows tr').children[8].innerText === '7'")
    assert await browser.console() == []
    await browser.screenshot(screenshots / "daemon-light.png", width=1280, dark=False)

    points = "return document.querySelector('#plot-lag .line').getAttribute('d').split(/[ML]/).length"
    before = int(await browser.until_true(points))
    daemon.kill9()
    said = await browser.until("#headline", "Connection lost, retrying since")
    assert "What is below is from" in said
    assert await browser.text("#link") == "Connection lost"
    assert await browser.run("return document.body.classList.contains('stale')")
    assert "Connection lost" in str(await browser.run("return document.getElementById('announcer').textContent"))
    await browser.screenshot(screenshots / "daemon-lost.png", width=1280, dark=True)
    daemon.start()
    await browser.until("#link", "Live")
    await browser.until("#headline", "Streaming: the target has everything")
    assert not await browser.run("return document.body.classList.contains('stale')")
    assert int(await browser.until_true(points)) >= before  # what was seen of the first daemon is still there

    daemon.signal(signal.SIGSTOP)  # a line that says nothing, and is not closed either
    await browser.until("#headline", "Connection lost, retrying since")
    daemon.signal(signal.SIGCONT)
    await browser.until("#link", "Live")

    assert daemon.terminate() == 0
    await browser.until("#headline", "The daemon was stopped, retrying since")
    daemon.start()
    await browser.until("#link", "Live")

    databases.target.execute("ALTER TABLE public.people ADD CONSTRAINT short CHECK (length(name) < 30)")
    databases.source.execute("INSERT INTO public.people VALUES (777, 'zebra-value that is longer than it may be')")
    await browser.until("#headline", "Failed, somebody must act")
    await browser.until("#wrong", "SQLSTATE 23514")
    assert "short" in await browser.text("#wrong")
    assert "crossfade resume" in await browser.text("#todo")
    await browser.run("document.getElementById('log').open = true")
    await browser.until("#log-lines", "error")
    shown = str(await browser.run("return document.documentElement.outerHTML"))
    assert "zebra" not in shown
    await browser.screenshot(screenshots / "daemon-failed.png", width=1280, dark=False)
    databases.target.execute("ALTER TABLE public.people DROP CONSTRAINT short")
    assert workspace.run("resume").returncode == 0
    await browser.until("#headline", "Streaming: the target")
    assert await browser.run("return document.getElementById('wrong').hidden")
    assert _unexpected(await browser.console()) == []


# -- on made-up states


class Made:
    """A surface of this process, and what feeds it."""

    def __init__(self, tables: int = 3) -> None:
        self.clock = Clock()
        self.tables = [
            WatchedTable(TableName("public", f"table_{n:04}"), TableName("app", f"table_{n:04}"), 1000)
            for n in range(tables)
        ]
        self.book = StatusBook("shop", self.tables, slot="crossfade", clock=self.clock, monotonic=self.clock)
        self.feed = Feed(self.book)
        for event in (LeaderChanged(True), PhaseChanged(Phase.STREAMING), LagMeasured(0.0, 0)):
            self.book.observe(event)
        self.book.observe(sampled(5 << 30, wal_keep_limit=10 << 30, safe_wal_size=5 << 30))

    def second(self, *events: Any) -> None:
        for event in events:
            self.book.observe(event)
        self.clock.advance(1)
        self.feed.tick()

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Address]:
        async with serve("127.0.0.1:0", self.book, Metrics("shop"), self.feed) as address:
            assert address is not None
            yield address


def _half_an_hour(made: Made) -> None:
    made.book.observe(PhaseChanged(Phase.COPY))
    for second in range(900):
        rows = min(1000, second * 2)
        state = "done" if rows == 1000 else "running"
        table = made.tables[0]
        made.second(CopyState(table.source, table.target, state, rows, rows * 80, 1000, Lsn(5)))
    made.book.observe(PhaseChanged(Phase.STREAMING))
    for second in range(900):
        lag = 0.4 if second % 300 else 9.0
        changes = {(made.tables[1].target, Operation.UPDATE): 200}
        made.second(
            LagMeasured(lag, 4096),
            Received(9000, 1, {}, 0, Lsn(90_000 + second)),
            applied(80_000 + second, changes=changes),
        )


@pytest.mark.parametrize(
    ("name", "width", "dark"), [("light", 1280, False), ("dark", 1280, True), ("narrow", 390, False)]
)
async def test_how_it_looks(browser: Browser, screenshots: Path, name: str, width: int, dark: bool) -> None:
    made = Made()
    _half_an_hour(made)
    made.second(
        Note("copy_yields", "The copy of public.table_0002 gave way three times.", "warning", alert=True),
        DiskMeasured("own", 30 << 30, 100 << 30),
        DiskMeasured("target", 20 << 30, 100 << 30),
    )
    async with made.served() as address:
        await browser.show(width=width, dark=dark)
        await browser.open(f"http://{address}/")
        await browser.until("#headline", "But: The copy of public.table_0002")
        assert await browser.text("#disks") == "20 %"
        assert await browser.text("#disks-more") == (
            "of the target: 20.0 GiB of 100.0 GiB; 30 % of this host: 30.0 GiB of 100.0 GiB"
        )
        await browser.screenshot(screenshots / f"page-{name}.png", width=width, dark=dark)
        # nothing is cut off or needs scrolling sideways, but for what scrolls on its own
        assert await browser.run("return document.documentElement.scrollWidth") <= width
        poor = await browser.run(_CONTRAST)
        assert poor == [], poor
        label = await browser.run("return document.querySelector('#plot-lag svg').getAttribute('aria-label')")
        assert label == "Lag, last 30 minutes. Lag: now 0.4 s, highest 9.0 s."
        assert await browser.console() == []


# Every visible text against what lies behind it: WCAG 2, 4.5 : 1, or 3 : 1 for large text.
_CONTRAST = """
const channel = (value) => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => 0.2126 * channel(r / 255) + 0.7152 * channel(g / 255) + 0.0722 * channel(b / 255);
const behind = (node) => {
  for (let here = node; here; here = here.parentElement) {
    const color = rgb(getComputedStyle(here).backgroundColor);
    if (color.length === 3 || color[3] === 1) return color;
  }
  return [255, 255, 255];
};
const poor = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || node.closest('.hidden, .skip, [hidden], noscript')) continue;
  if (!node.checkVisibility()) continue;
  const style = getComputedStyle(node);
  const front = rgb(node instanceof SVGElement ? style.fill : style.color);
  const [high, low] = [light(front), light(behind(node))].sort((a, b) => b - a);
  const ratio = (high + 0.05) / (low + 0.05);
  const size = parseFloat(style.fontSize);
  const least = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
  if (ratio < least) poor.push(`${ratio.toFixed(2)}: ${walker.currentNode.textContent.trim().slice(0, 40)}`);
}
return poor;
"""


async def test_by_keyboard_and_for_a_screen_reader(browser: Browser) -> None:
    made = Made(tables=20)
    made.second(Paused(PauseReason.OPERATOR))
    async with made.served() as address:
        await browser.open(f"http://{address}/")
        await browser.until("#headline", "Paused by an operator")
        focused = (
            "const e = document.activeElement;"
            " return [e.className || e.id || e.tagName, getComputedStyle(e).outlineStyle]"
        )
        reached = []
        for _ in range(12):
            await browser.key("\ue004")  # tab
            reached.append(await browser.run(focused))
        names = [name for name, _ in reached]
        assert names[0] == "skip"
        assert {"SUMMARY", "filter", "scroll", "A"} <= set(names)
        assert {outline for name, outline in reached if name != "BODY"} == {"solid"}, reached
        assert await browser.run("return document.querySelectorAll('header, main, footer, h1').length") == 4
        live = await browser.run(
            "return [...document.querySelectorAll('[aria-live], [role], output')]"
            ".filter((e) => !['region', 'img'].includes(e.getAttribute('role'))).map((e) => e.id)"
        )
        assert live == ["announcer"]
        bare = await browser.run("return [...document.querySelectorAll('th:not([scope])')].length")
        assert bare == 0
        unnamed = await browser.run(
            "return [...document.querySelectorAll('svg, meter, progress, input')]"
            ".filter((e) => !e.closest('[hidden]') && !e.getAttribute('aria-label')).map((e) => e.outerHTML)"
        )
        assert unnamed == []
        phase = await browser.run("return document.querySelector('[aria-current=step]').textContent")
        assert phase.startswith("streaming")
        told = "return document.getElementById('announcer').textContent"
        before = await browser.run(told)
        assert "Paused by an operator" in before
        for lag in (1.0, 2.0, 3.0):  # numbers are not announced
            made.second(LagMeasured(lag, 4096))
        await browser.until("#lag", "3.0 s")
        assert await browser.run(told) == before
        made.second(Paused(None))
        await browser.until("#headline", "Streaming")
        assert str(await browser.run(told)).startswith("Changed: streaming")
        assert await browser.console() == []


async def test_a_thousand_tables_can_be_filtered(browser: Browser) -> None:
    made = Made(tables=1500)
    table = made.tables[1234]
    made.second(CopyState(table.source, table.target, "running", 10, 10, 1000, Lsn(5)))
    async with made.served() as address:
        await browser.open(f"http://{address}/")
        await browser.until("#tables-more", "1,300 more match")
        first = "return document.querySelector('#rows tr').children[0].innerText"
        assert await browser.run(first) == "public.table_1234"  # under way: first
        await browser.run(
            "const f = document.getElementById('filter'); f.value = '0777'; f.dispatchEvent(new Event('input'))"
        )
        await browser.until("#tables-more", "1,499 do not match")
        assert await browser.run(first) == "public.table_0777"
        spent = await browser.run(
            "return import('/page/view.js').then(async (view) => {"
            " const status = await (await fetch('/api/v1/status')).json(); const began = performance.now();"
            " for (let n = 0; n < 10; n += 1) view.showDocument(status, Date.now() / 1000);"
            " return (performance.now() - began) / 10; })"
        )
        assert spent < 200  # ms, on whatever machine this is; a few on a good one
        assert await browser.console() == []


async def test_where_events_are_refused_it_asks(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_MOST_FOLLOWERS", 0)
    made = Made()
    made.second()
    async with made.served() as address:
        await browser.open(f"http://{address}/")
        await browser.until("#link", "Live, every few seconds")
        made.second(PhaseChanged(Phase.FAILED), Failed("apply", "It broke.", "", False, None))
        await browser.until("#headline", "It broke.")
        monkeypatch.setattr(http, "_MOST_FOLLOWERS", 5)
        await browser.until_true("return document.getElementById('link').dataset.state === 'live'")


async def test_a_line_that_is_cut_goes_on_where_it_was(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made()
    for _ in range(5):
        made.second()
    came_with: list[str] = []
    begin, go_on = made.feed.follow, Follower.next

    def follow(last_event_id: str = "") -> Follower:
        came_with.append(last_event_id)
        return begin(last_event_id)

    async def cut(follower: Follower) -> bytes | None:
        monkeypatch.setattr(Follower, "next", go_on)
        await go_on(follower)
        raise ConnectionResetError

    monkeypatch.setattr(made.feed, "follow", follow)
    async with made.served() as address:
        await browser.open(f"http://{address}/")
        await browser.until("#link", "Live")
        monkeypatch.setattr(Follower, "next", cut)
        made.second(LagMeasured(1.0, 1))  # wakes the one that waits, which is cut before it could tell
        made.second(LagMeasured(2.0, 2))
        async with asyncio.timeout(30):
            while len(came_with) < 2 or await browser.text("#lag") != "2.0 s":
                made.second(LagMeasured(2.0, 2))
                await asyncio.sleep(0.1)
        assert came_with[0] == ""
        session, _, number = came_with[1].partition("-")
        assert (len(session), int(number) >= 5) == (8, True)
        await browser.until_true("return document.getElementById('link').dataset.state === 'live'")


async def test_what_a_database_says_is_text(browser: Browser) -> None:
    made = Made()
    evil = '<img src=x onerror="document.title=1"> & `code`'
    table = TableName("public", '<b id="evil">x</b>')
    made.book.watch([WatchedTable(table, table, 1)])
    made.second(Failed("apply", evil, "XX000", False, 5.0), Note("odd", evil, "error", alert=True))
    async with made.served() as address:
        await browser.open(f"http://{address}/")
        await browser.until("#wrong", "<img src=x")
        await browser.until("#alerts", "<img src=x")
        await browser.until("#rows", '<b id="evil">x</b>')
        assert await browser.run("return document.querySelectorAll('img, #evil').length") == 0
        assert await browser.run("return document.querySelector('#wrong code').textContent") == "code"
        assert await browser.console() == []


async def test_the_policy_holds(browser: Browser) -> None:
    made = Made()
    made.second()
    async with made.served() as address:
        await browser.open(f"http://{address}/")
        await browser.until("#link", "Live")
        assert await browser.console() == []
        await browser.run("const s = document.createElement('script'); s.textContent = '1'; document.body.append(s)")
        assert any("Content Security Policy" in line for line in await browser.console())  # so it would be seen


# -- what the modules compute


async def test_words_are_those_of_the_terminal(browser: Browser) -> None:
    made = Made()
    async with made.served() as address:
        await browser.open(f"http://{address}/")
        sizes = [None, 0, 1, 1023, 1024, 1536, 1 << 20, (1 << 40) * 3 // 2, 1 << 50]
        seconds = [None, 0, 0.04, 4.26, 59.94, 60, 725, 3600, 12_000, 100_000, 10_000_000]
        numbers = [None, 0, 7, 1234, 1_234_567]
        said = await browser.run(
            "const [sizes, seconds, numbers] = arguments; return import('/page/words.js').then((words) =>"
            " [sizes.map(words.size), seconds.map(words.duration), numbers.map(words.count)])",
            sizes,
            seconds,
            numbers,
        )
        assert said[0] == [amounts.size(each) for each in sizes]
        assert said[1] == [amounts.duration(each) for each in seconds]
        assert said[2] == [amounts.count(each) for each in numbers]


async def test_plots_are_drawn_as_they_should_be(browser: Browser) -> None:
    made = Made()
    async with made.served() as address:
        await browser.open(f"http://{address}/")
        ticks = (
            "const [wanted] = arguments; return import('/page/plot.js').then((p) => wanted.map((w) => p.ticks(...w)))"
        )
        assert await browser.run(ticks, [[1, True], [9, True], [130, True], [4000, True], [10], [950]]) == [
            [0, 0.5, 1],
            [0, 5, 10],
            [0, 60, 120, 180],
            [0, 1800, 3600, 5400],
            [0, 5, 10],
            [0, 500, 1000],
        ]
        path = (
            "const [points] = arguments;"
            " return import('/page/plot.js').then((p) => p.path(points, 'v', (x) => x, (y) => y))"
        )
        given = [(0, 1), (1, 2), (2, None), (3, 4), (4, 5), (20, 6), (21, None), (22, 7)]
        drawn = await browser.run(path, [{"at": at, "v": value} for at, value in given])
        assert drawn == "M0.0 1.0L1.0 2.0M3.0 4.0L4.0 5.0M20.0 6.0h0M22.0 7.0h0"
        nearest = (
            "const [ats, at] = arguments;"
            " return import('/page/plot.js').then((p) => p.nearest(ats.map((at) => ({at})), at))"
        )
        assert await browser.run(nearest, [0, 10, 20], 14) == {"at": 10}
        assert await browser.run(nearest, [0, 10, 20], 99) == {"at": 20}
        assert await browser.run(nearest, [], 1) is None


async def test_a_line_of_the_log_is_told_in_words(browser: Browser) -> None:
    made = Made()
    async with made.served() as address:
        await browser.open(f"http://{address}/")
        line = json.dumps(
            {"timestamp": "2026-11-23T03:12:44.1Z", "level": "error", "event": "it broke", "n": 3, "x": None}
        )
        told = "const [line] = arguments; return import('/page/log.js').then((log) => log.told(line))"
        assert await browser.run(told, line) == ["error", "03:12:44  error  it broke  n=3"]
        assert await browser.run(told, "no JSON") == ["info", "no JSON"]
