"""`crossfade run`: read configuration and mapping, hand over to the supervisor."""

from __future__ import annotations

from pathlib import Path

from crossfade.mapping.load import load_mapping
from crossfade.settings import load_settings


def run(config: Path, *, until_caught_up: bool, no_wait: bool) -> int:
    """The daemon's exit code. Raises Misconfigured before anything is touched."""
    settings = load_settings(config)
    spec = load_mapping(settings.mapping)
    # The daemon brings driver, loop and HTTP with it: a wrong configuration is told before they are imported.
    from crossfade.runtime.supervisor import run_daemon

    return run_daemon(
        settings, spec, until_caught_up=until_caught_up, no_wait=no_wait, reread=lambda: load_settings(config)
    )
