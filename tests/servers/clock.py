"""A wrong clock for one process: what it calls now is off by seconds that the test sets, and may set again any time.

With libfaketime (Debian: faketime) where it is installed, which shifts every call of the process; else with a module
that Python loads at its start, which shifts what crossfade calls itself, `time.time`. Neither touches the monotonic
clock, just as nobody who sets a clock does.
"""

from __future__ import annotations

import os
from pathlib import Path

_LIBRARIES = ("/usr/lib", "/usr/local/lib", "/lib")
_SHIM = """
import time

_time, _time_ns = time.time, time.time_ns


def _offset():
    with open({offset!r}, encoding="ascii") as file:
        return int(file.read())


time.time = lambda: _time() + _offset()
time.time_ns = lambda: _time_ns() + _offset() * 1_000_000_000
"""


class WrongClock:
    """`environment` is for the process whose clock it is; `set` moves it, also while that process runs."""

    def __init__(self, folder: Path, seconds: int) -> None:
        self._offset = folder / "clock-offset"
        self.set(seconds)
        library = _libfaketime()
        if library is not None:
            self.environment = {
                "LD_PRELOAD": str(library),
                "FAKETIME_TIMESTAMP_FILE": str(self._offset),
                "FAKETIME_NO_CACHE": "1",  # look into the file each time
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        else:
            shim = folder / "shim"
            shim.mkdir()
            (shim / "sitecustomize.py").write_text(_SHIM.format(offset=str(self._offset)), encoding="ascii")
            paths = [str(shim), str(Path(__file__).parents[2] / "src"), *os.environ.get("PYTHONPATH", "").split(":")]
            self.environment = {"PYTHONPATH": ":".join(filter(None, paths))}

    def set(self, seconds: int) -> None:
        """Now is `seconds` later than it is, or earlier where they are negative."""
        whole = self._offset.with_suffix(".new")
        whole.write_text(f"{seconds:+d}", encoding="ascii")
        whole.rename(self._offset)  # never half a number


def _libfaketime() -> Path | None:
    for folder in _LIBRARIES:
        for library in sorted(Path(folder).glob("**/faketime/libfaketime.so.1")):
            return library
    return None
