"""`crossfade healthcheck`: is the daemon on this host alive? For containers, every few seconds.

The standard library alone: no driver, no settings model, no framework. Reads only `http.listen` of the configuration
(or $CROSSFADE_HTTP__LISTEN) and asks `/livez` there. The invariant: exit 0 only when the daemon itself said it lives.
"""

from __future__ import annotations

import argparse
import http.client
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from crossfade.cli import exits

_DEFAULT_LISTEN: Final = "127.0.0.1:9810"
_SECONDS: Final = 3.0
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  # compared with, not bound


def main(arguments: Sequence[str]) -> int:
    """The quick way in, past the framework."""
    parser = argparse.ArgumentParser(prog="crossfade healthcheck")
    parser.add_argument(
        "--config", "-c", type=Path, default=Path(os.environ.get("CROSSFADE_CONFIG") or "config/crossfade.toml")
    )
    given: Path = parser.parse_args(arguments).config
    return healthcheck(given)


def healthcheck(config: Path) -> int:
    """0 when `/livez` answers 200, else 1 with the reason on stderr."""
    listen = _listen(config)
    if listen == "":
        exits.tell("crossfade: no HTTP is served (http.listen is empty), so nobody can be asked.")
        return exits.RUNTIME
    host, port = split(listen)
    try:
        code, text = get(host, port, "/livez", seconds=_SECONDS)
    except (OSError, http.client.HTTPException) as error:
        exits.tell(
            f"crossfade: no daemon answers at {listen} ({getattr(error, 'strerror', None) or type(error).__name__})."
        )
        return exits.RUNTIME
    if code != 200:
        exits.tell(f"crossfade: the daemon answers {code}: {text.decode('utf-8', 'replace').strip()}")
        return exits.RUNTIME
    return exits.DONE


def get(host: str, port: int, path: str, *, seconds: float) -> tuple[int, bytes]:
    """One GET, past any proxy of the environment. Raises OSError or HTTPException."""
    connection = http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        connection.request("GET", path, headers={"Host": "localhost"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def split(listen: str) -> tuple[str, int]:
    """Where to connect for an address to listen on: every address means this host. Raises OSError for no address."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    if not port.isdigit():
        raise OSError(f"not an address: {listen}")
    return _ANY.get(host, host), int(port)


def _listen(config: Path) -> str:
    """`http.listen`; the default when the file cannot be read, since the daemon's own start tells about that."""
    given = os.environ.get("CROSSFADE_HTTP__LISTEN")
    if given is not None:
        return given
    try:
        with config.open("rb") as file:
            section = tomllib.load(file).get("http", {})
    except (OSError, ValueError):
        return _DEFAULT_LISTEN
    listen = section.get("listen", _DEFAULT_LISTEN) if isinstance(section, dict) else _DEFAULT_LISTEN
    return listen if isinstance(listen, str) else _DEFAULT_LISTEN
