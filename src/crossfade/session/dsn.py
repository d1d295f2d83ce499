"""Connection strings as they may be shown and written down: without what is secret in them.

libpq itself says which of its parameters are secrets. Refuses to connect. The invariant: no text this returns holds the
value of a parameter that libpq shows as stars.

PostgreSQL: libpq-connect ("PQconndefaults", dispchar).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from crossfade.faults import Misconfigured

_MASK: Final = "***"
# Some are secrets although libpq shows them: what an application sends with its token.
_SECRETS: Final = frozenset({"password", "sslpassword", "oauth_client_secret"})


@dataclass(frozen=True, slots=True)
class Dsn:
    """A connection string taken apart. `text` has no secrets; `secrets` are the names of what was taken out."""

    text: str
    secrets: tuple[str, ...]
    database: str


def without_secrets(dsn: str, *, where: str) -> Dsn:
    """Raises Misconfigured, without the text, for what libpq cannot read; `where` says which string it was."""
    given = _parsed(dsn, where)
    secrets = tuple(sorted(name for name in given if name in secret_names()))
    kept = {name: value for name, value in given.items() if name not in secrets}
    return Dsn(make_conninfo("", **kept), secrets, str(given.get("dbname") or given.get("user") or ""))


def masked(dsn: str) -> str:
    """The string with stars in place of secrets, or stars alone when libpq cannot read it."""
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.Error:
        return _MASK
    secret = secret_names()
    return make_conninfo("", **{name: _MASK if name in secret else value for name, value in given.items()})


def _parsed(dsn: str, where: str) -> dict[str, str | int | None]:
    try:
        return dict(conninfo_to_dict(dsn))
    except psycopg.Error:
        raise Misconfigured(
            "The connection string cannot be read by libpq.",
            where=where,
            means="Nothing was written.",
            do="Write it as in the manual page libpq-connstring, for example: host=db dbname=shop user=crossfade.",
        ) from None


def secret_names() -> frozenset[str]:
    """The names of what is secret in a connection string."""
    stars = {option.keyword.decode() for option in pq.Conninfo.get_defaults() if option.dispchar == b"*"}
    return _SECRETS | stars
