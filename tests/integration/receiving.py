"""A small HTTP server that remembers what it was sent, for tests of hooks. Knows nothing of crossfade."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(slots=True)
class Received:
    """What came, in order: path, headers, JSON body. The first `fails` requests of each path are answered with 503."""

    url: str
    fails: int = 0
    received: list[tuple[str, Mapping[str, str], Any]] = field(default_factory=list)


@contextmanager
def receiver() -> Iterator[Received]:
    """Serves on a free port of the loopback while the context is open."""
    seen: dict[str, int] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            web.received.append((self.path, dict(self.headers), body))
            seen[self.path] = seen.get(self.path, 0) + 1
            is_hook = "/hook" in self.path
            self.send_response(503 if is_hook and seen[self.path] <= web.fails else 200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the signature is the library's
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web = Received(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
