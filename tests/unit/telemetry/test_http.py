"""The HTTP surface, asked by aiohttp's own client over loopback."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from crossfade.events import Connected, LeaderChanged, Phase, PhaseChanged, Recovered
from crossfade.faults import Misconfigured
from crossfade.telemetry.http import Address, parse_address, serve
from crossfade.telemetry.metrics import Metrics
from crossfade.telemetry.status import StatusBook
from tests.unit.telemetry.facts import TABLES, failed


class Served:
    """A running surface and what feeds it."""

    def __init__(self, client: aiohttp.ClientSession, book: StatusBook, metrics: Metrics, address: Address) -> None:
        self.client = client
        self.book = book
        self.metrics = metrics
        self.address = address
        self.is_alive = True

    async def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, aiohttp.ClientResponse]:
        async with self.client.request(method, f"http://{self.address}{path}", headers=headers) as response:
            return response.status, await response.text(), response


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Served]:
    book, metrics = StatusBook("shop", TABLES), Metrics("shop", TABLES)
    async with aiohttp.ClientSession() as client:
        holder: list[Served] = []
        async with serve("127.0.0.1:0", book, metrics, is_alive=lambda: holder[0].is_alive) as address:
            assert address is not None
            holder.append(Served(client, book, metrics, address))
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
    for path in ("/livez", "/readyz", "/metrics", "/api/v1/status"):
        assert (await served.ask(path, method))[0] == 405


async def test_unknown_paths_are_not_found(served: Served) -> None:
    for path in ("/", "/api/v1/events", "/../etc/passwd"):
        assert (await served.ask(path))[0] == 404


async def test_a_browser_tricked_by_dns_is_turned_away(served: Served) -> None:
    for host in ("evil.example", "evil.example:9810", "127.0.0.1.evil.example", "10.1.2.3", ""):
        assert (await served.ask("/api/v1/status", Host=host))[0] == 421, host
    for host in ("localhost", "LOCALHOST:9810", "127.0.0.1", "127.0.0.7:1", "[::1]:9810", socket.gethostname()):
        assert (await served.ask("/api/v1/status", Host=host))[0] == 200, host


async def test_bound_to_the_network_any_name_is_served() -> None:
    book, metrics = StatusBook("shop"), Metrics("shop")
    async with serve("0.0.0.0:0", book, metrics) as address, aiohttp.ClientSession() as client:
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
        async with serve(str(served.address), served.book, served.metrics):
            pass


async def test_an_empty_address_serves_nothing() -> None:
    async with serve("", StatusBook("shop"), Metrics("shop")) as address:
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
