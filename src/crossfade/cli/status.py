"""`crossfade status`: the status document, for people and for scripts.

Asks the daemon on this host over HTTP; where none answers (or only a standby), the two databases. Refuses to compute
anything itself. The invariant: the same document whoever was asked, and a partial one with its reason when a database
does not answer.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import sys
from pathlib import Path
from typing import Final, cast

import orjson
from rich.console import Console

from crossfade.cli import exits
from crossfade.cli.healthcheck import get, split
from crossfade.cli.view import render
from crossfade.settings import Settings, load_settings
from crossfade.telemetry.advice import next_steps
from crossfade.telemetry.document import SCHEMA_VERSION, StatusDocument
from crossfade.telemetry.headline import headline

_DAEMON_SECONDS: Final = 2.0
_PLAIN_WIDTH: Final = 140  # columns when nobody's terminal says otherwise


def status(config: Path, *, watch: bool, json_output: bool, fail_if_lag_above: float | None) -> int:
    """0; 3 when lag is above the limit (seconds) or not known; 5 when a database did not answer."""
    settings = load_settings(config)
    if watch:
        from crossfade.cli.watch import watch as call

        return call(settings, json_output)
    document = fetch(settings)
    if json_output:
        exits.say(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    else:
        console().print(render(document))
    return _code(document, fail_if_lag_above)


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


def _code(document: StatusDocument, fail_if_lag_above: float | None) -> int:
    error = document["error"]
    if document["daemon"] is None and error is not None and error["component"] in ("source", "target"):
        exits.tell(f"crossfade: {error['text']}")
        return exits.UNREACHABLE
    if fail_if_lag_above is not None:
        lag = document["lag_seconds"]
        if lag is None or lag > fail_if_lag_above:
            measured = "not known" if lag is None else f"{lag:.1f} s"
            exits.tell(f"crossfade: lag is {measured}, more than {fail_if_lag_above:g} s is too much.")
            return exits.NO
    return exits.DONE


def console() -> Console:
    """Colours and width as the terminal has them; NO_COLOR and TERM=dumb are honoured by rich itself."""
    if sys.stdout.isatty():
        return Console()
    return Console(width=int(os.environ.get("COLUMNS", _PLAIN_WIDTH)), no_color=True)
