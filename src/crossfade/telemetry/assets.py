"""The files of the live page, as they lie beside this module, each with the headers it is served with.

Read once when the application is built. Refuses to serve anything that is not listed here: there is no path to follow
out of the folder. The invariant: a browser that has a file asks whether it is still current, and no version of the page
ever meets files of another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Final

INDEX: Final = "index.html"
_TYPES: Final[Mapping[str, str]] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Everything comes from here and nothing else may run: no inline script or style, no frame, no form, no other host.
_POLICY: Final = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file. `headers` are complete, ETag included."""

    body: bytes
    headers: Mapping[str, str]

    def is_known(self, if_none_match: str) -> bool:
        """Whether the browser has it: the header's list names our tag."""
        tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
        return self.headers["ETag"] in tags or "*" in tags


def read_assets() -> Mapping[str, Asset]:
    """By file name."""
    assets = {}
    for file in resources.files("crossfade.telemetry").joinpath("page").iterdir():
        suffix = file.name[file.name.rfind(".") :]
        if suffix in _TYPES:
            body = file.read_bytes()
            assets[file.name] = Asset(
                body,
                {
                    "Content-Type": _TYPES[suffix],
                    "Content-Security-Policy": _POLICY,
                    "Cache-Control": "no-cache",
                    "ETag": f'"{hashlib.sha256(body).hexdigest()[:16]}"',
                },
            )
    return assets
