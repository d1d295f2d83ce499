"""Rewrites of single values as PostgreSQL prints them: local timestamps to UTC, and COPY's text escapes.

Refuses to know columns and rows. The invariant: what is not exactly a value in the form the pinned session prints (ISO
dates) is refused, never guessed at; and what is rewritten is what the server would print for the result, byte for byte,
so that text may be compared.

PostgreSQL: datatype-datetime, "Date/Time Output"; sql-copy, "Text Format".
"""

from __future__ import annotations

import functools
import re
from typing import Final

from crossfade.faults import ProtocolViolation, RowRefused
from crossfade.mapping.plan import Ambiguous, Nonexistent
from crossfade.wire.zones import DAY, MICROSECONDS, Zone, days_before_year

_TIMESTAMP: Final = re.compile(
    rb"(\d{4,6}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01]) (?:[01]\d|2[0-3])):([0-5]\d)(:[0-5]\d)(\.\d{1,6})?( BC)?"
)
_HOUR: Final = 3_600 * MICROSECONDS
_DAYS_1970_TO_2000: Final = 10_957
_MONTH_LENGTHS: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_MINUTES: Final = tuple(b":%02d" % minute for minute in range(60))
_HOURS_KEPT: Final = 65_536  # seven years of hours; a few megabytes per column's zone

_NULL: Final = rb"\N"
_TO_ESCAPE: Final = re.compile(rb"[\b\t\n\v\f\r\\]")
_ESCAPED: Final = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|(.)|$)", re.DOTALL)
_LETTERS: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def timestamp_to_utc(text: bytes, zone: Zone, ambiguous: Ambiguous, nonexistent: Nonexistent) -> tuple[bytes, str]:
    """A `timestamp` of local time as the `timestamptz` it was, both as text, and "" or a note ("gap", "overlap").

    The infinities pass untouched. Raises `RowRefused` for what is no ISO timestamp, for a policy that says error, and
    for what timestamptz cannot hold; none of them names the value.
    """
    return _rewriter(zone, ambiguous, nonexistent)(text)


@functools.lru_cache(maxsize=256)
def _rewriter(zone: Zone, ambiguous: Ambiguous, nonexistent: Nonexistent) -> _LocalTimes:
    return _LocalTimes(zone, ambiguous, nonexistent)


class _LocalTimes:
    """One column's rewrite, with a bounded memory of hours in which the offset holds.

    Rows near each other in time are near each other in the stream: most share an hour. An hour is kept as the UTC hour
    its first minute falls into, the one after it, and how many minutes the first is past the former.
    """

    __slots__ = ("_ambiguous", "_hours", "_nonexistent", "_zone")

    def __init__(self, zone: Zone, ambiguous: Ambiguous, nonexistent: Nonexistent) -> None:
        self._zone = zone
        self._ambiguous = ambiguous
        self._nonexistent = nonexistent
        self._hours: dict[bytes, tuple[bytes, bytes, int]] = {}

    def __call__(self, text: bytes) -> tuple[bytes, str]:
        match = _TIMESTAMP.fullmatch(text)
        if match is None:
            if text in (b"infinity", b"-infinity"):
                return text, ""
            raise self._unreadable()
        hour, minute, seconds, fraction, era = match.groups()
        if fraction is None:
            fraction = b""
        elif fraction.endswith(b"0"):  # never printed so, but then what we print would not be the server's form
            fraction = fraction.rstrip(b"0").rstrip(b".")
        if era is None:
            known = self._hours.get(hour) or self._learn(hour)
            if known is not None:
                first, second, past = known
                minutes = int(minute) + past
                if minutes >= 60:
                    return second + _MINUTES[minutes - 60] + seconds + fraction + b"+00", ""
                return first + _MINUTES[minutes] + seconds + fraction + b"+00", ""
        whole = self._hour_us(hour, era) + (int(minute) * 60 + int(seconds[1:])) * MICROSECONDS
        # The fraction takes no part in the shift but in its range check: the last microsecond of all is still inside.
        utc, note = self._zone.to_utc(whole, ambiguous=self._ambiguous, nonexistent=self._nonexistent)
        moment, suffix = _printed(utc)
        return moment + fraction + b"+00" + suffix, note

    def _learn(self, hour: bytes) -> tuple[bytes, bytes, int] | None:
        """What to keep of an hour; None when its values need looking at one by one."""
        start = self._hour_us(hour, None)
        offset = self._zone.steady_offset(start, _HOUR)
        if offset is None or offset % 60:  # local mean time shifts the seconds too
            return None
        try:
            utc = self._zone.to_utc(start, ambiguous=self._ambiguous, nonexistent=self._nonexistent)[0]
            self._zone.to_utc(start + _HOUR - 1, ambiguous=self._ambiguous, nonexistent=self._nonexistent)
        except RowRefused:
            return None
        first = _printed(utc - utc % _HOUR)
        second = _printed(utc - utc % _HOUR + _HOUR)
        if first[1] or second[1]:
            return None
        kept = (first[0][:-6], second[0][:-6], utc % _HOUR // (60 * MICROSECONDS))
        if len(self._hours) >= _HOURS_KEPT:
            self._hours.clear()  # cheaper than keeping an order, and as good for rows that move through time
        self._hours[hour] = kept
        return kept

    def _hour_us(self, hour: bytes, era: bytes | None) -> int:
        """Microseconds since 2000-01-01 of `YYYY-MM-DD HH`."""
        year, month, rest = hour.split(b"-")
        day, of_day = rest.split(b" ")
        number = int(year)
        if number == 0:
            raise self._unreadable()
        days = _days(1 - number if era else number, int(month), int(day))
        if days is None:
            raise self._unreadable()
        return ((days - _DAYS_1970_TO_2000) * 24 + int(of_day)) * _HOUR

    def _unreadable(self) -> RowRefused:
        return RowRefused(
            "A value is no timestamp in PostgreSQL's ISO form.",
            where=f"time zone {self._zone.name}",
            means="Nothing of this transaction was applied; the slot keeps it.",
            do="Check that the mapping's `timezone` stands on a column of type timestamp without time zone.",
        )


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _days(year: int, month: int, day: int) -> int | None:
    """Days since 1970-01-01 of a proleptic Gregorian date (year 0 is 1 BC); None when there is no such day."""
    leap = _is_leap(year)
    if day > _MONTH_LENGTHS[month - 1] + (month == 2 and leap):
        return None
    return days_before_year(year) + sum(_MONTH_LENGTHS[: month - 1]) + (month > 2 and leap) + day - 1


def _printed(utc_us: int) -> tuple[bytes, bytes]:
    """`YYYY-MM-DD HH:MM:SS` of whole seconds, and " BC" or nothing: the zone comes between them."""
    days, of_day = divmod(utc_us // MICROSECONDS, DAY)
    days += _DAYS_1970_TO_2000
    year = 1970 + days * 400 // 146_097
    while days_before_year(year) > days:
        year -= 1
    while days_before_year(year + 1) <= days:
        year += 1
    day = days - days_before_year(year)
    month = 1
    while day >= (length := _MONTH_LENGTHS[month - 1] + (month == 2 and _is_leap(year))):
        day -= length
        month += 1
    hour, rest = divmod(of_day, 3_600)
    shown = year if year > 0 else 1 - year
    text = b"%04d-%02d-%02d %02d:%02d:%02d" % (shown, month, day + 1, hour, *divmod(rest, 60))
    return text, b"" if year > 0 else b" BC"


def copy_escape(value: bytes | None) -> bytes:
    r"""One field of COPY's text format: `\N` for None (NULL), which an empty value is not."""
    if value is None:
        return _NULL
    if _TO_ESCAPE.search(value) is None:
        return value
    return (
        value.replace(b"\\", rb"\\")  # first, or it would escape the escapes
        .replace(b"\t", rb"\t")
        .replace(b"\n", rb"\n")
        .replace(b"\r", rb"\r")
        .replace(b"\b", rb"\b")
        .replace(b"\f", rb"\f")
        .replace(b"\v", rb"\v")
    )


def copy_unescape(field: bytes) -> bytes | None:
    r"""The value of one field of COPY's text format, or None for `\N`.

    Knows every escape COPY reads (letters, octal, hexadecimal, any other byte for itself), not only those it writes.
    Raises `ProtocolViolation` when a backslash is the last byte: the field was cut.
    """
    if b"\\" not in field:
        return field
    if field == _NULL:
        return None
    return _ESCAPED.sub(_unescaped, field)


def _unescaped(match: re.Match[bytes]) -> bytes:
    octal, hexadecimal, other = match.groups()
    if other is not None:
        letter: bytes = _LETTERS.get(other, other)
        return letter
    if octal is not None:
        return bytes((int(octal, 8) & 0xFF,))
    if hexadecimal is not None:
        return bytes((int(hexadecimal, 16),))
    raise ProtocolViolation("A field of COPY data ends inside an escape.", tag="COPY", offset=match.start())
