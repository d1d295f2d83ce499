"""The HTTP surface, asked by aiohttp's own client over loopback."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
import structlog

from crossfade.catalog import TableName
from crossfade.events import Connected, LeaderChanged, Phase, PhaseChanged, Recovered
from crossfade.faults import Misconfigured
from crossfade.telemetry import http, logs
from crossfade.telemetry.feed import Feed
from crossfade.telemetry.http import Address, parse_address, serve
from crossfade.telemetry.metrics import Metrics
from crossfade.telemetry.status import StatusBook, WatchedTable
from tests.unit.telemetry.facts import TABLES, failed


class Served:
    """A running surface and what feeds it."""

    def __init__(
        self, client: aiohttp.ClientSession, book: StatusBook, metrics: Metrics, feed: Feed, address: Address
    ) -> None:
        self.client = client
        self.book = book
        self.feed = feed
        self.metrics = metrics
        self.address = address
        self.is_alive = True

    async def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, aiohttp.ClientResponse]:
        async with self.client.request(method, f"http://{self.address}{path}", headers=headers) as response:
            return response.status, await response.text(), response


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Served]:
    book, metrics = StatusBook("shop", TABLES), Metrics("shop", TABLES)
    feed = Feed(book)
    feed.tick()
    async with aiohttp.ClientSession() as client:
        holder: list[Served] = []
        async with serve("127.0.0.1:0", book, metrics, feed, is_alive=lambda: holder[0].is_alive) as address:
            assert address is not None
            holder.append(Served(client, book, metrics, feed, address))
            yield holder[0]


def _answer(book: StatusBook) -> None:
    for endpoint in ("source", "target"):
        book.observe(Connected(endpoint, 180006, is_reconnect=False))


async def test_livez_needs_no_database(served: Served) -> None:
    assert (await served.ask("/livez"))[:2] == (200, "ok\n")
    assert (await served.ask("/healthz"))[:2] == (200, "ok\n")
    served.is_alive = False
    status, text, _ = await served.ask("/livez")
    assert (status, text) == (503, "supervisor: the supervisor has ended\n")


async def test_readyz_tells_why_not(served: Served) -> None:
    status, text, _ = await served.ask("/readyz")
    assert status == 503
    assert "the source database has not answered yet" in text
    _answer(served.book)
    assert (await served.ask("/readyz"))[0] == 200
    served.book.observe(failed())
    served.book.observe(PhaseChanged(Phase.FAILED))
    status, text, _ = await served.ask("/readyz")
    assert status == 503
    assert "phase is failed" in text
    served.book.observe(Recovered())
    served.book.observe(PhaseChanged(Phase.STREAMING))
    assert (await served.ask("/readyz"))[0] == 200


async def test_a_standby_is_ready(served: Served) -> None:
    _answer(served.book)
    served.book.observe(LeaderChanged(False))
    assert (await served.ask("/readyz"))[0] == 200


async def test_verbose_lists_every_check(served: Served) -> None:
    _answer(served.book)
    _, text, _ = await served.ask("/readyz?verbose")
    assert text.splitlines() == ["[+]supervisor ok", "[+]databases ok", "[+]phase ok", "ok"]
    _, text, _ = await served.ask("/livez?verbose")
    assert text.splitlines() == ["[+]supervisor ok", "ok"]


async def test_metrics_speak_prometheus_and_openmetrics(served: Served) -> None:
    status, text, response = await served.ask("/metrics")
    assert status == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    assert 'crossfade_phase{phase="setup",workflow="shop"} 1.0' in text
    _, text, response = await served.ask("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert response.headers["Content-Type"].startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


async def test_status_is_the_book_s_document(served: Served) -> None:
    async with served.client.get(f"http://{served.address}/api/v1/status") as response:
        document = await response.json()
    assert document["name"] == "shop"
    assert document["schema_version"] == 1
    assert document["daemon"]["pid"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_nothing_can_be_changed(served: Served, method: str) -> None:
    for path in (
        "/livez",
        "/readyz",
        "/metrics",
        "/api/v1/status",
        "/api/v1/events",
        "/api/v1/log",
        "/",
        "/page/app.js",
    ):
        assert (await served.ask(path, method))[0] == 405


async def test_unknown_paths_are_not_found(served: Served) -> None:
    for path in (
        "/page/",
        "/page/nothing.js",
        "/page/..%2Fhttp.py",
        "/page/%2E%2E/http.py",
        "/../etc/passwd",
        "/index.html",
    ):
        assert (await served.ask(path))[0] == 404, path


async def test_a_browser_tricked_by_dns_is_turned_away(served: Served) -> None:
    for host in ("evil.example", "evil.example:9810", "127.0.0.1.evil.example", "10.1.2.3", ""):
        assert (await served.ask("/api/v1/status", Host=host))[0] == 421, host
    for host in ("localhost", "LOCALHOST:9810", "127.0.0.1", "127.0.0.7:1", "[::1]:9810", socket.gethostname()):
        assert (await served.ask("/api/v1/status", Host=host))[0] == 200, host


async def test_bound_to_the_network_any_name_is_served() -> None:
    book, metrics = StatusBook("shop"), Metrics("shop")
    async with serve("0.0.0.0:0", book, metrics, Feed(book)) as address, aiohttp.ClientSession() as client:
        assert address is not None
        url = f"http://127.0.0.1:{address.port}/livez"
        async with client.get(url, headers={"Host": "crossfade.internal"}) as response:
            assert response.status == 200


async def test_headers_protect_and_tell_nothing(served: Served) -> None:
    for path, method in (("/livez", "GET"), ("/nowhere", "GET"), ("/livez", "POST")):
        _, _, response = await served.ask(path, method)
        assert response.headers["Server"] == "crossfade"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]


async def test_a_taken_port_is_a_clear_misconfiguration(served: Served) -> None:
    with pytest.raises(Misconfigured, match="Cannot listen there"):
        async with serve(str(served.address), served.book, served.metrics, served.feed):
            pass


async def test_an_empty_address_serves_nothing() -> None:
    book = StatusBook("shop")
    async with serve("", book, Metrics("shop"), Feed(book)) as address:
        assert address is None


def test_addresses() -> None:
    assert parse_address("127.0.0.1:9810") == Address("127.0.0.1", 9810)
    assert parse_address("[::1]:9810") == Address("::1", 9810)
    assert str(Address("::1", 9810)) == "[::1]:9810"
    assert Address("localhost", 1).is_loopback
    assert not Address("0.0.0.0", 1).is_loopback
    for wrong in ("9810", "host", "host:99999", "::1:9810", "host:port"):
        with pytest.raises(Misconfigured):
            parse_address(wrong)


# -- the live page


async def test_the_page_is_served_with_a_policy_that_lets_nothing_else_in(served: Served) -> None:
    status, text, response = await served.ask("/")
    assert status == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["X-Frame-Options"] == "DENY"
    assert '<script type="module" src="page/app.js">' in text


async def test_all_the_page_names_is_served_from_here(served: Served) -> None:
    folder = Path(http.__file__).parent / "page"
    sources = {path.name: path.read_text() for path in folder.iterdir()}
    html = sources["index.html"]
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son[a-z]+=|javascript:", html)
    named = set(re.findall(r'(?:src|href)="(?!#)([^"]+)"', html))
    named |= {f"page/{name}" for text in sources.values() for name in re.findall(r"from '\./([^']+)'", text)}
    assert {"page/app.js", "page/style.css", "page/plot.js"} <= named
    for path in sorted(named):
        status, _, _ = await served.ask(f"/{path}")
        assert status == 200, path
    for name, text in sources.items():  # nothing from elsewhere, nothing that makes markup of what a database said
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), (
            name
        )
    assert {f"page/{name}" for name in sources} - named == {"page/index.html"}  # nothing lies there unused


@pytest.mark.parametrize(
    ("path", "type_"),
    [("/page/app.js", "text/javascript"), ("/page/style.css", "text/css"), ("/page/icon.svg", "image/svg+xml")],
)
async def test_files_of_the_page_are_asked_for_again_and_sent_once(served: Served, path: str, type_: str) -> None:
    status, text, response = await served.ask(path)
    assert status == 200
    assert response.headers["Content-Type"].startswith(type_)
    assert response.headers["Cache-Control"] == "no-cache"
    tag = response.headers["ETag"]
    status, text, response = await served.ask(path, **{"If-None-Match": f'"other", W/{tag}'})
    assert (status, text) == (304, "")
    assert response.headers["ETag"] == tag
    assert (await served.ask(path, **{"If-None-Match": '"other"'}))[0] == 200


async def _line(response: aiohttp.ClientResponse, word: bytes) -> bytes:
    """Up to the next line that begins with this."""
    async with asyncio.timeout(10):
        while True:
            line = await response.content.readline()
            assert line, "it ended"
            if line.startswith(word):
                return line


async def test_events_come_until_the_daemon_stops(served: Served) -> None:
    async with served.client.get(f"http://{served.address}/api/v1/events") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Accel-Buffering"] == "no"
        assert await _line(response, b"retry: ") == b"retry: 1000\n"
        assert await _line(response, b"event: ") == b"event: history\n"
        identity = (await _line(response, b"id: ")).decode().removeprefix("id: ").strip()
        assert await _line(response, b"event: ") == b"event: status\n"
        served.feed.tick()
        assert await _line(response, b"event: ") == b"event: point\n"
        served.feed.close()
        assert await _line(response, b"event: goodbye") == b"event: goodbye\n"
        async with asyncio.timeout(10):
            assert (await response.content.read()).endswith(b"\n\n")  # and the line is closed
    headers = {"Last-Event-ID": identity}
    async with served.client.get(f"http://{served.address}/api/v1/events", headers=headers) as response:
        assert await _line(response, b"event: ") == b"event: point\n"


async def test_only_so_many_follow_at_a_time(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_MOST_FOLLOWERS", 2)
    url = f"http://{served.address}/api/v1/events"
    async with served.client.get(url) as first, served.client.get(url) as second:
        assert (first.status, second.status) == (200, 200)
        async with served.client.get(url) as third:
            assert third.status == 503
            assert third.headers["Retry-After"]
        first.close()
        status = 503
        async with asyncio.timeout(10):
            while status == 503:  # the next thing sent finds out that it is gone
                served.feed.tick()
                async with served.client.get(url) as third:
                    status = third.status
        assert status == 200


async def test_who_takes_nothing_is_let_go(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_SEND_SECONDS", 0.2)
    monkeypatch.setattr(http, "_MOST_FOLLOWERS", 1)
    many = [WatchedTable(TableName("public", f"t{n}"), TableName("app", f"t{n}")) for n in range(20_000)]
    served.book.watch(many)  # megabytes: more than any buffer on the way holds
    served.feed.tick()
    reader, writer = await asyncio.open_connection(served.address.host, served.address.port, limit=1024)
    writer.write(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    status = 503
    async with asyncio.timeout(30):
        while status == 503:
            async with served.client.get(f"http://{served.address}/api/v1/events") as other:
                status = other.status
    assert status == 200
    writer.close()


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
)
async def test_another_site_cannot_take_the_places(served: Served, site: str, status: int) -> None:
    url = f"http://{served.address}/api/v1/events"
    async with served.client.get(url, headers={"Sec-Fetch-Site": site}) as response:
        assert response.status == status


@pytest.fixture
def logged() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.configure("info", "console", stream=io.StringIO())
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.usefixtures("logged")
async def test_what_was_logged_last_can_be_read(served: Served) -> None:
    logs.logger("shop").warning("something odd", table="public.users")
    status, text, response = await served.ask("/api/v1/log")
    assert status == 200
    assert response.headers["Content-Type"].startswith("text/plain")
    last = json.loads(text.splitlines()[-1])
    assert (last["event"], last["level"], last["table"]) == ("something odd", "warning", "public.users")
