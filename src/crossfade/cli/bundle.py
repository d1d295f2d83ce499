"""`crossfade status --bundle FILE`: one archive for whoever is asked for help.

What a stranger needs to understand a case: status, metrics, log, versions, configuration, mapping, findings, and what
both databases know of us. Refuses to send it anywhere, and to write over anything. The invariants: no secret and no row
value is in it - each part is made of names, states and counts, and everything passes `Secrets.strike` on its way - and
a part that cannot be had is named with the reason, while the rest is written.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import os
import platform
import sys
import tarfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Final

import orjson

from crossfade import __version__, native
from crossfade.cli import exits
from crossfade.cli.check import document as check_document
from crossfade.cli.check import look_around
from crossfade.cli.config import document as settings_document
from crossfade.cli.config import masked_settings
from crossfade.cli.fetch import ask_daemon, ask_databases
from crossfade.cli.healthcheck import get, split
from crossfade.faults import Fault
from crossfade.mapping.written import read_text
from crossfade.session.secrets import Secrets
from crossfade.settings import Settings, Shown, explain_settings, load_settings
from crossfade.telemetry import inventory
from crossfade.telemetry.document import StatusDocument

_HTTP_SECONDS: Final = 10.0
_CHECK_SECONDS: Final = 120.0
_MODE: Final = 0o600
_LIBRARIES: Final = (
    "psycopg", "psycopg-binary", "psycopg-pool", "pydantic", "pydantic-settings", "prometheus-client", "orjson",
    "uvloop", "aiohttp", "typer", "rich", "structlog", "PyYAML", "tzdata",
)  # fmt: skip

_README: Final = """\
A support bundle of crossfade {version}, workflow {name}, made {at} UTC.

status.json         the status document, as `crossfade status --json`
metrics.txt         the daemon's metrics, as Prometheus scrapes them
readyz.txt          the daemon's probes
log.jsonl           what the daemon logged last, a thousand lines at the most (the rest is where its stderr went)
versions.json       crossfade, Python, libraries, operating system
configuration.json  every setting in force and where it came from, secrets struck out
mapping.yaml        the mapping as it is written
check.json          what `crossfade check` finds
source.json         slot, publications and our sessions on the source; settings of the server that matter here
target.json         our own tables and sessions on the target; settings of the server that matter here

It holds no password and no row of any table. It does hold names: hosts, roles, tables, columns, and what the mapping
says. Constants, conditions and value maps of the mapping are in it as they are written there: look at mapping.yaml
before you hand this on.
{missing}"""

Part = Callable[[], Awaitable[str]]


@dataclass(slots=True)
class Gathered:
    """The parts by file name, and why others are missing."""

    parts: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def bundle(config: Path, file: Path, *, json_output: bool) -> int:
    """Write it; 0 also when parts are missing, which is said. 2 when `file` exists, and nothing is asked then."""
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    except OSError as error:
        remedy = "Name a file that is not there yet." if isinstance(error, FileExistsError) else "Name another."
        exits.tell(f"crossfade: {file}: {error.strerror or type(error).__name__}. {remedy}")
        return exits.USAGE
    done = False
    try:
        with os.fdopen(handle, "wb") as out:
            settings = load_settings(config)
            gathered = asyncio.run(_gather(config, settings))
            _write(out, settings.name, gathered)
        done = True
    finally:
        if not done:
            file.unlink(missing_ok=True)
    if json_output:
        said = {"schema_version": 1, "file": str(file), "parts": sorted(gathered.parts), "missing": gathered.missing}
        exits.say(orjson.dumps(said, option=orjson.OPT_INDENT_2).decode())
        return exits.DONE
    exits.say(
        f"Written: {file} ({file.stat().st_size:,} bytes). No password and no row is in it; README.txt tells what is."
    )
    for name, reason in gathered.missing.items():
        exits.tell(f"crossfade: without {name}: {reason}")
    return exits.DONE


async def _gather(config: Path, settings: Settings) -> Gathered:
    shown = explain_settings(config)
    secrets = Secrets(
        [settings.source.dsn.get_secret_value(), settings.target.dsn.get_secret_value()],
        os.environ,
        others=[each.value for each in shown if each.is_secret and not each.key.endswith(".dsn")],
    )
    asked = await asyncio.to_thread(ask_daemon, settings)

    async def status() -> str:
        document: StatusDocument = (
            asked if asked is not None and asked["leader"] else await ask_databases(settings, asked)
        )
        return _json(document)

    async def check() -> str:
        async with asyncio.timeout(_CHECK_SECONDS):
            examined, findings = await look_around(settings)
        return check_document(findings, examined.sql).decode()

    def from_daemon(path: str) -> Part:
        async def read() -> str:
            if asked is None:
                raise Fault("no daemon of this workflow answers on this host")
            return await asyncio.to_thread(_ask, settings, path)

        return read

    async def configuration() -> str:
        return settings_document([_without_arguments(each) for each in masked_settings(shown)]).decode()

    async def mapping() -> str:
        return read_text(settings.mapping, called="mapping", largest_mib=16, do="")

    async def source() -> str:
        stream = settings.stream
        names = (stream.publication, stream.append_publication)
        return await inventory.read_source(settings.source.dsn.get_secret_value(), publications=names)

    async def target() -> str:
        return await inventory.read_target(settings.target.dsn.get_secret_value(), workflow=settings.name)

    parts: Mapping[str, Part] = {
        "status.json": status,
        "metrics.txt": from_daemon("/metrics"),
        "readyz.txt": from_daemon("/readyz?verbose"),
        "log.jsonl": from_daemon("/api/v1/log"),
        "versions.json": _versions,
        "configuration.json": configuration,
        "mapping.yaml": mapping,
        "check.json": check,
        "source.json": source,
        "target.json": target,
    }
    gathered = Gathered()
    for name, part in parts.items():
        try:
            gathered.parts[name] = secrets.strike(await part())
        except (Fault, OSError, http.client.HTTPException, TimeoutError) as error:
            gathered.missing[name] = secrets.strike(str(error) if isinstance(error, Fault) else type(error).__name__)
    return gathered


def _without_arguments(each: Shown) -> Shown:
    """A program's arguments may be anything, a token as well."""
    return replace(each, value="...") if each.key == "hooks.on_alert" and each.value not in ("", "[]") else each


def _ask(settings: Settings, path: str) -> str:
    host, port = split(settings.http.listen)
    _, body = get(host, port, path, seconds=_HTTP_SECONDS)
    return body.decode("utf-8", "replace")


async def _versions() -> str:
    libraries: dict[str, str | None] = {}
    for name in _LIBRARIES:
        try:
            libraries[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            libraries[name] = None
    return _json(
        {
            "crossfade": __version__,
            "compiled": native.is_compiled(),
            "python": sys.version,
            "system": platform.platform(),
            "libraries": libraries,
        }
    )


def _json(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def _write(out: io.BufferedWriter, workflow: str, gathered: Gathered) -> None:
    now = time.time()
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now))
    reasons = "".join(f"\nWithout {name}: {reason}\n" for name, reason in gathered.missing.items())
    readme = _README.format(version=__version__, name=workflow, at=at, missing=reasons)
    folder = f"crossfade-{workflow}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}"
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, text in {"README.txt": readme, **gathered.parts}.items():
            body = text.encode()
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mtime, entry.mode = len(body), int(now), 0o644
            archive.addfile(entry, io.BytesIO(body))
