"""Every secret that a connection of ours could use, gathered so that it can be struck out of a text for strangers.

Connection strings, libpq's environment, password files and service files are read. Refuses to judge whether a text is
fit to be shown otherwise. The invariant: no text that `Secrets.strike` returns holds one of them, also not as it would
be written in a URI or in quotes.

PostgreSQL: libpq-pgpass, libpq-pgservice, libpq-envars.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote, quote_plus

import psycopg
from psycopg.conninfo import conninfo_to_dict

from crossfade.session.dsn import secret_names

_MASK: Final = "***"
_LARGEST: Final = 1024 * 1024  # bytes of a file of passwords
# One letter struck out everywhere leaves no text; whoever has such a password has told it.
_SHORTEST: Final = 3
_ENVIRONMENT: Final = ("PGPASSWORD", "PGSSLPASSWORD", "PGOAUTHCLIENTSECRET")
# user:password@ of any URI, known or not
_USERINFO: Final = re.compile(r"(?<=://)([^\s:/@\"']*):([^\s/@\"']+)@")
_KEYWORD: Final = re.compile(r"\b((?:ssl)?password|oauth_client_secret)(\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s'\"\\]+)", re.I)


class Secrets:
    """What must not be told. `dsns` are connection strings as configured, `others` secrets that are none."""

    def __init__(
        self,
        dsns: Iterable[str],
        environment: Mapping[str, str],
        *,
        others: Iterable[str] = (),
        home: Path | None = None,
    ) -> None:
        home = Path.home() if home is None else home
        found = {*others, *(environment.get(name, "") for name in _ENVIRONMENT)}
        passfiles = {environment.get("PGPASSFILE") or str(home / ".pgpass")}
        services = {environment.get("PGSERVICEFILE") or str(home / ".pg_service.conf")}
        if environment.get("PGSYSCONFDIR"):
            services.add(str(Path(environment["PGSYSCONFDIR"]) / "pg_service.conf"))
        for dsn in dsns:
            try:
                given = conninfo_to_dict(dsn)
            except psycopg.Error:
                found.add(dsn)  # nobody can tell what in it is secret
                continue
            found.update(str(value) for name, value in given.items() if name in secret_names() and value)
            if given.get("passfile"):
                passfiles.add(str(given["passfile"]))
        for path in services:
            for name, value in _service_lines(path):
                if name in secret_names():
                    found.add(value)
                elif name == "passfile":
                    passfiles.add(value)
        for path in passfiles:
            found.update(_passwords(path))
        spelt = {way for secret in found if len(secret) >= _SHORTEST for way in _spellings(secret)}
        # The longest first: one may be part of another.
        self._known = re.compile("|".join(re.escape(each) for each in sorted(spelt, key=len, reverse=True)) or r"(?!)")

    def strike(self, text: str) -> str:
        """The text with stars in place of every secret, and of whatever looks like the password of a connection."""
        text = self._known.sub(_MASK, text)
        text = _USERINFO.sub(rf"\1:{_MASK}@", text)
        return _KEYWORD.sub(rf"\1\2{_MASK}", text)


def _spellings(secret: str) -> Iterator[str]:
    yield secret
    yield quote(secret, safe="")
    yield quote_plus(secret)
    yield secret.replace("\\", "\\\\").replace("'", "\\'")  # in quotes, in a connection string
    yield secret.replace("\\", "\\\\").replace('"', '\\"')  # in quotes, in JSON or TOML


def _text(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return file.read(_LARGEST).decode("utf-8", "replace")
    except OSError:
        return ""  # libpq cannot use what we cannot read


def _passwords(path: str) -> Iterator[str]:
    """The fifth field of each line; colons and backslashes in fields are escaped."""
    for line in _text(path).splitlines():
        fields = re.split(r"(?<!\\):", line, maxsplit=4)
        if len(fields) == 5 and not line.startswith("#"):
            yield fields[4]
            yield re.sub(r"\\(.)", r"\1", fields[4])


def _service_lines(path: str) -> Iterator[tuple[str, str]]:
    for line in _text(path).splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith("#"):
            yield name.strip(), value.strip()
