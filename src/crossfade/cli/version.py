"""`crossfade version`: what runs, and on what."""

from __future__ import annotations

import json
import platform

from crossfade import __version__, native
from crossfade.cli import exits


def version(json_output: bool) -> int:
    """Print it; always 0."""
    python, compiled = platform.python_version(), native.is_compiled()
    if json_output:
        exits.say(json.dumps({"schema_version": 1, "version": __version__, "python": python, "compiled": compiled}))
    else:
        exits.say(f"crossfade {__version__} (Python {python}{', hot path compiled' if compiled else ''})")
    return exits.DONE
