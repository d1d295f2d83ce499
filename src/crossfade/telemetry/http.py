"""The read-only HTTP surface: probes, metrics, the status document and the live page.

One aiohttp application on the daemon's own loop. Refuses to change anything (commands go through the control table)
and to know databases. The invariants: no request blocks the loop (metrics are rendered in a thread), none can make us
write or wait long, and a web page in somebody's browser cannot read us through a name that resolves to loopback.

`/livez` the loop answers and the supervisor lives; `/readyz` the databases answer and the phase is not failed, also on
a standby; `/healthz` is `/livez`; `/metrics`; `/api/v1/status`; `/api/v1/events` is the same each second;
`/api/v1/log` what was logged last; `/` the page.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import orjson
from aiohttp import web
from prometheus_client.exposition import choose_encoder

from crossfade.faults import Misconfigured
from crossfade.telemetry.assets import INDEX, read_assets
from crossfade.telemetry.feed import GOODBYE, Feed
from crossfade.telemetry.logs import recent_lines
from crossfade.telemetry.metrics import Metrics
from crossfade.telemetry.status import StatusBook

_LARGEST_BODY: Final = 1024  # bytes; nothing we serve takes one
_HANDLER_SECONDS: Final = 5.0
_KEEPALIVE_SECONDS: Final = 30.0
_CLOSE_SECONDS: Final = 2.0
_MOST_FOLLOWERS: Final = 32  # who watches live at the same time; whoever comes later asks for the document instead
_SEND_SECONDS: Final = 10.0  # a browser that takes longer for one message is gone
_EVENTS: Final = "/api/v1/events"
_HEADERS: Final = {
    "Server": "crossfade",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
_ADDRESS: Final = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^:\[\]]+)):(?P<port>\d{1,5})")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. Port 0 lets the system choose."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Only this machine can connect, so a foreign Host header means a browser was tricked."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(listen: str) -> Address:
    """Read `127.0.0.1:9810` or `[::1]:9810`. Raises `Misconfigured`."""
    match = _ADDRESS.fullmatch(listen)
    if match is None or int(match["port"]) > 65535:
        raise Misconfigured(
            "This is no address to listen on: expected host:port.",
            where=f"http.listen = {listen!r}",
            do='Write for example "127.0.0.1:9810", or "" to serve no HTTP at all.',
        )
    return Address(match["six"] or match["host"], int(match["port"]))


@asynccontextmanager
async def serve(
    listen: str, book: StatusBook, metrics: Metrics, feed: Feed, *, is_alive: Callable[[], bool] = lambda: True
) -> AsyncIterator[Address | None]:
    """Serve on `listen` while the context is open; yields the address bound, None when `listen` is "".

    `feed` is run by somebody else, and closed here. `is_alive` tells whether the supervisor still works. Raises
    `Misconfigured` when the address cannot be bound.
    """
    if not listen:
        yield None
        return
    address = parse_address(listen)
    runner = web.AppRunner(
        build_app(address, book, metrics, feed, is_alive),
        access_log=None,
        handle_signals=False,
        keepalive_timeout=_KEEPALIVE_SECONDS,
        shutdown_timeout=_CLOSE_SECONDS,
        max_line_size=4096,
        max_field_size=4096,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, address.host, address.port, backlog=64)
        try:
            await site.start()
        except OSError as error:
            raise Misconfigured(
                f"Cannot listen there: {error.strerror or type(error).__name__}.",
                where=f"http.listen = {listen!r}",
                means="Nothing was changed.",
                do='Stop what uses the port (another crossfade?), or choose another address; "" serves no HTTP.',
            ) from None
        bound = runner.addresses[0]
        yield Address(str(bound[0]), int(bound[1]))
    finally:
        feed.close()  # who follows is told, and lets the runner end
        await runner.cleanup()


def build_app(
    address: Address, book: StatusBook, metrics: Metrics, feed: Feed, is_alive: Callable[[], bool] = lambda: True
) -> web.Application:
    """The application, unbound; `address` decides which Host headers are believed."""
    allowed = _own_names() if address.is_loopback else None
    assets = read_assets()
    followers = 0

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if allowed is not None and _host_of(request) not in allowed:
            raise web.HTTPMisdirectedRequest(text="this name is not served here\n")
        if request.path == _EVENTS:  # as long as it likes; each message has its own deadline
            return await handler(request)
        try:
            async with asyncio.timeout(_HANDLER_SECONDS):
                return await handler(request)
        except TimeoutError:
            raise web.HTTPServiceUnavailable(text="too slow\n") from None

    async def stamp(_request: web.Request, response: web.StreamResponse) -> None:
        for name, text in _HEADERS.items():
            response.headers.setdefault(name, text)
        response.headers["Server"] = _HEADERS["Server"]  # aiohttp has named itself already

    async def livez(request: web.Request) -> web.Response:
        return _probe(request, (("supervisor", "" if is_alive() else "the supervisor has ended"),))

    async def readyz(request: web.Request) -> web.Response:
        reasons = book.not_ready_because()
        checks = [("supervisor", "" if is_alive() else "the supervisor has ended")]
        checks += [(f"reason {number}", reason) for number, reason in enumerate(reasons, start=1)]
        if not reasons:
            checks += [("databases", ""), ("phase", "")]
        return _probe(request, tuple(checks))

    async def scrape(request: web.Request) -> web.Response:
        encoder, content_type = choose_encoder(request.headers.get("Accept", ""))
        # Rendering takes milliseconds, and the loop has a stream to read.
        body = await asyncio.to_thread(encoder, metrics.registry)
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def status(_request: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps(book.document()), content_type="application/json")

    async def log(_request: web.Request) -> web.Response:
        return web.Response(text=recent_lines())

    async def events(request: web.Request) -> web.StreamResponse:
        nonlocal followers
        # Another site's page in the same browser cannot read this, but it could take all the places.
        if request.headers.get("Sec-Fetch-Site", "") in ("cross-site", "same-site"):
            raise web.HTTPForbidden(text="not for another site\n")
        if followers >= _MOST_FOLLOWERS:
            raise web.HTTPServiceUnavailable(text="too many follow already\n", headers={"Retry-After": "30"})
        followers += 1
        try:
            return await _send_events(request, feed)
        finally:
            followers -= 1

    async def page(request: web.Request) -> web.Response:
        asset = assets.get(request.match_info.get("name", INDEX))
        if asset is None:
            raise web.HTTPNotFound
        if asset.is_known(request.headers.get("If-None-Match", "")):
            return web.Response(status=304, headers=asset.headers)
        return web.Response(body=asset.body, headers=asset.headers)

    app = web.Application(middlewares=[guard], client_max_size=_LARGEST_BODY)
    app.on_response_prepare.append(stamp)
    app.router.add_get("/livez", livez)
    app.router.add_get("/healthz", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", scrape)
    app.router.add_get("/api/v1/status", status)
    app.router.add_get("/api/v1/log", log)
    app.router.add_get("/api/v1/events", events, allow_head=False)
    app.router.add_get("/", page)
    app.router.add_get("/page/{name}", page)
    return app


async def _send_events(request: web.Request, feed: Feed) -> web.StreamResponse:
    """Server-sent events until the feed ends or the browser is gone."""
    response = web.StreamResponse(
        # A proxy in between must not gather what is meant for now.
        headers={"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
    )
    follower = feed.follow(request.headers.get("Last-Event-ID", ""))
    try:
        await response.prepare(request)
        goes_on = True
        while goes_on:
            chunk = await follower.next()
            goes_on = chunk is not None
            async with asyncio.timeout(_SEND_SECONDS):
                await response.write(GOODBYE if chunk is None else chunk)
    except (ConnectionError, TimeoutError):
        if request.transport is not None:
            request.transport.abort()  # what waits in its buffer shall not be waited for
    return response


def _probe(request: web.Request, checks: tuple[tuple[str, str], ...]) -> web.Response:
    """200 ok, or 503 with the reasons; `?verbose` lists every check as Kubernetes does."""
    failed = [f"{name}: {reason}" for name, reason in checks if reason]
    lines = [f"[{'-' if reason else '+'}]{name} {reason or 'ok'}" for name, reason in checks]
    if "verbose" in request.query:
        text = "\n".join([*lines, "not ok" if failed else "ok"])
    else:
        text = "\n".join(failed) if failed else "ok"
    return web.Response(text=f"{text}\n", status=503 if failed else 200)


def _own_names() -> frozenset[str]:
    name = socket.gethostname().lower()
    return frozenset({"localhost", "::1", name, name.partition(".")[0]})


def _host_of(request: web.Request) -> str:
    """The Host header without its port; every 127.0.0.0/8 address counts as localhost."""
    given = request.headers.get("Host", "").strip().lower()
    host = given[1 : given.index("]")] if given.startswith("[") and "]" in given else given.partition(":")[0]
    try:
        return "localhost" if ipaddress.ip_address(host).is_loopback else host
    except ValueError:
        return host.rstrip(".")
