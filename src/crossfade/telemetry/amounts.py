"""Sizes and durations in words for people, the same in the terminal, on the page's first line and in the bundle.

Pure text. Refuses to know what is measured. The invariant: what is not known is a dash, never a 0.
"""

from __future__ import annotations

from typing import Final

UNKNOWN: Final = "-"
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR


def size(count: float | None) -> str:
    """Bytes for people: 1.5 MiB."""
    if count is None:
        return UNKNOWN
    amount, unit = float(count), 0
    while abs(amount) >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.0f} {_UNITS[unit]}" if unit == 0 else f"{amount:.1f} {_UNITS[unit]}"


def duration(seconds: float | None) -> str:
    """Seconds for people, two units at the most: 4.2 s, 12 min 5 s, 3 h 20 min, 2 d 4 h."""
    if seconds is None:
        return UNKNOWN
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def count(number: float | None) -> str:
    """A number of things, with separators."""
    return UNKNOWN if number is None else f"{number:,.0f}"
