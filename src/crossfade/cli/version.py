"""`crossfade version`: what runs, and on what."""

from __future__ import annotations

import json
import platform

from crossfade import __version__
from crossfade.cli import exits


def version(json_output: bool) -> int:
    """Print it; always 0."""
    if json_output:
        exits.say(json.dumps({"schema_version": 1, "version": __version__, "python": platform.python_version()}))
    else:
        exits.say(f"crossfade {__version__} (Python {platform.python_version()})")
    return exits.DONE
