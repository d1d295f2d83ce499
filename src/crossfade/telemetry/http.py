"""The read-only HTTP surface: probes, metrics and the status document.

One aiohttp application on the daemon's own loop. Refuses to change anything (commands go through the control table)
and to know databases. The invariants: no request blocks the loop (metrics are rendered in a thread), none can make us
write or wait long, and a web page in somebody's browser cannot read us through a name that resolves to loopback.

`/livez` the loop answers and the supervisor lives; `/readyz` the databases answer and the phase is not failed, also on
a standby; `/healthz` is `/livez`; `/metrics`; `/api/v1/status`.
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
from crossfade.telemetry.metrics import Metrics
from crossfade.telemetry.status import StatusBook

_LARGEST_BODY: Final = 1024  # bytes; nothing we serve takes one
_HANDLER_SECONDS: Final = 5.0
_KEEPALIVE_SECONDS: Final = 30.0
_CLOSE_SECONDS: Final = 2.0
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
    listen: str, book: StatusBook, metrics: Metrics, *, is_alive: Callable[[], bool] = lambda: True
) -> AsyncIterator[Address | None]:
    """Serve on `listen` while the context is open; yields the address bound, None when `listen` is "".

    `is_alive` tells whether the supervisor still works. Raises `Misconfigured` when the address cannot be bound.
    """
    if not listen:
        yield None
        return
    address = parse_address(listen)
    runner = web.AppRunner(
        build_app(address, book, metrics, is_alive),
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
        await runner.cleanup()


def build_app(
    address: Address, book: StatusBook, metrics: Metrics, is_alive: Callable[[], bool] = lambda: True
) -> web.Application:
    """The application, unbound; `address` decides which Host headers are believed."""
    allowed = _own_names() if address.is_loopback else None

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if allowed is not None and _host_of(request) not in allowed:
            raise web.HTTPMisdirectedRequest(text="this name is not served here\n")
        try:
            async with asyncio.timeout(_HANDLER_SECONDS):
                return await handler(request)
        except TimeoutError:
            raise web.HTTPServiceUnavailable(text="too slow\n") from None

    async def stamp(_request: web.Request, response: web.StreamResponse) -> None:
        for name, text in _HEADERS.items():
            response.headers[name] = text

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

    app = web.Application(middlewares=[guard], client_max_size=_LARGEST_BODY)
    app.on_response_prepare.append(stamp)
    app.router.add_get("/livez", livez)
    app.router.add_get("/healthz", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", scrape)
    app.router.add_get("/api/v1/status", status)
    return app


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
