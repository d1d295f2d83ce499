"""The shipped files the demonstration runs with, unchanged: config/ and deploy/sql/.

The scripts of deploy/sql are written for psql; this puts their variables in as psql does, because not every embedded
server comes with one. Refuses to know what the scripts say. The invariant: an unknown variable is an error, where psql
would leave it standing.

PostgreSQL: app-psql ("SQL Interpolation").
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

# In a source tree both are links to the folders of that name at its root; in an installed package they are copies.
CONFIG: Final = Path(__file__).parent / "config" / "crossfade.toml"
ROLES: Final = Path(__file__).parent / "roles"

_TOKENS: Final = re.compile(
    r"""(?P<skip>--[^\n]*|\$\$.*?\$\$|::)|(?P<string>'(?:[^']|'')*')|:(?P<quote>['"]?)(?P<name>[A-Za-z_]\w*)(?P=quote)""",
    re.DOTALL,
)


def render(text: str, variables: Mapping[str, str]) -> str:
    """The script with `:name`, `:'name'` and `:"name"` replaced, outside comments, strings and $$. Raises KeyError."""

    def put(match: re.Match[str]) -> str:
        if match["name"] is None:
            return match[0]
        value = variables[match["name"]]
        quote = match["quote"]
        return quote + value.replace(quote, quote * 2) + quote if quote else value

    return _TOKENS.sub(put, text)


def role_script(name: str, **variables: str) -> str:
    """One file of deploy/sql, ready to be sent as one simple query."""
    return render((ROLES / name).read_text(encoding="utf-8"), variables)
