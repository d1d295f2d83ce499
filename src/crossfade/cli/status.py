"""`crossfade status`: the status document, for people and for scripts.

Prints what `fetch` was told and turns it into an exit code. Refuses to compute anything itself. The invariant: 0 is
never said of a lag that is not known.
"""

from __future__ import annotations

from pathlib import Path

import orjson

from crossfade.cli import exits
from crossfade.cli.fetch import fetch
from crossfade.cli.view import console, render
from crossfade.settings import load_settings
from crossfade.telemetry.document import StatusDocument


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
