"""Who answers for the status document: the daemon on this host over HTTP, or both databases where none leads here.

Refuses to compute anything itself. The invariant: the same document whoever was asked, and a partial one with its
reason when a database does not answer.
"""

from __future__ import annotations

import asyncio
import http.client
from typing import Final, cast

import orjson

from crossfade.cli.healthcheck import get, split
from crossfade.settings import Settings
from crossfade.telemetry.advice import next_steps
from crossfade.telemetry.document import SCHEMA_VERSION, StatusDocument
from crossfade.telemetry.headline import headline

_DAEMON_SECONDS: Final = 2.0


def fetch(settings: Settings) -> StatusDocument:
    """The document, from whoever knows most."""
    asked = ask_daemon(settings)
    if asked is not None and asked["leader"]:
        return asked
    return asyncio.run(ask_databases(settings, asked))


async def ask_databases(settings: Settings, asked: StatusDocument | None) -> StatusDocument:
    """The document by what both databases know; `asked` is what a daemon here said that does not lead."""
    from crossfade.telemetry import offline  # the driver; where the daemon answers, nobody waits for it to load

    document = await offline.read_status(
        settings.name,
        source_dsn=settings.source.dsn.get_secret_value(),
        target_dsn=settings.target.dsn.get_secret_value(),
        slot=settings.stream.slot,
    )
    if asked is not None:
        # A standby, or one that just starts: the databases know where things stand, it knows about itself.
        document["daemon"], document["leader"] = asked["daemon"], False
        document["error"] = document["error"] or asked["error"]
        document["next_steps"] = next_steps(document)
        document["headline"] = headline(document)
    return document


def ask_daemon(settings: Settings) -> StatusDocument | None:
    """What the daemon on this host says; None when none of this workflow answers."""
    if not settings.http.listen:
        return None
    try:
        host, port = split(settings.http.listen)
        code, body = get(host, port, "/api/v1/status", seconds=_DAEMON_SECONDS)
        document = orjson.loads(body) if code == 200 else None
    except (OSError, http.client.HTTPException, orjson.JSONDecodeError):
        return None
    if not isinstance(document, dict) or document.get("name") != settings.name:
        return None  # somebody else's daemon, or no daemon at all
    return cast(StatusDocument, document) if document.get("schema_version") == SCHEMA_VERSION else None
