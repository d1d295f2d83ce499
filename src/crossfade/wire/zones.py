"""Compiles an IANA zone into a table, and turns local time into UTC with it, exactly as PostgreSQL does.

Python's zoneinfo ends at year 9999, hides its transitions and takes the *earlier* of two ambiguous times (F19), so the
TZif file is read here. Refuses to know text (`fields`) and columns. The invariant: for every timestamp that PostgreSQL
can hold the answer is the one of `timestamp AT TIME ZONE` with the same tz database, or the fault that a policy asks
for; nothing overflows, since Python's integers do not.

RFC 9636, "The Time Zone Information Format (TZif)"; PostgreSQL: datetime-invalid-input, "Handling of Invalid or
Ambiguous Timestamps"; its code is DetermineTimeZoneOffset() over pg_next_dst_boundary().
"""

from __future__ import annotations

import functools
import importlib.resources
import re
import zoneinfo
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple

from crossfade.faults import Misconfigured, RowRefused
from crossfade.mapping.plan import Ambiguous, Nonexistent

MICROSECONDS: Final = 1_000_000
DAY: Final = 86_400
REPEAT: Final = 146_097 * DAY
"""400 Gregorian years in seconds: weekdays, leap years and so a POSIX rule repeat after them."""

LOWEST: Final = -211_813_488_000_000_000
"""4714-11-24 00:00:00 BC, the first timestamp, in microseconds since 2000-01-01."""

END: Final = 9_223_371_331_200_000_000
"""294277-01-01 00:00:00, the first instant that is no timestamp any more."""

NEGATIVE_INFINITY: Final = -(2**63)
INFINITY: Final = 2**63 - 1

_POSTGRES_EPOCH: Final = 946_684_800  # 2000-01-01 in seconds since 1970-01-01
_HEADER: Final = Struct("!4sc15x6I")
_TYPE: Final = Struct("!iBB")
_NAME: Final = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*")
_RULE: Final = re.compile(
    r"(?:<[A-Za-z0-9+-]+>|[A-Za-z]{3,})(?P<standard>[+-]?[0-9:]+)"
    r"(?:(?:<[A-Za-z0-9+-]+>|[A-Za-z]{3,})(?P<daylight>[+-]?[0-9:]+)?,(?P<start>[^,]+),(?P<end>[^,]+))?"
)
_DATE: Final = re.compile(
    r"(?:M(?P<month>\d+)\.(?P<week>\d)\.(?P<weekday>\d)|(?P<julian>J?)(?P<day>\d+))(?:/(?P<time>.+))?"
)
_CLOCK: Final = re.compile(r"([+-]?)(\d{1,3})(?::(\d{2}))?(?::(\d{2}))?")
_MONTH_STARTS: Final = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365)


class _Segment(NamedTuple):
    """What holds between two transitions: seconds east of UTC, and whether it is called daylight saving time."""

    offset: int
    is_daylight: bool


@dataclass(frozen=True, slots=True)
class _Table:
    """`segments[i]` begins at `starts[i]` (unix seconds, ascending); `first` holds before `starts[0]`."""

    starts: tuple[int, ...]
    segments: tuple[_Segment, ...]
    first: _Segment
    repeats: bool


class Zone:
    """An IANA zone, compiled. Immutable; loaded once per name."""

    __slots__ = ("_first", "_offsets", "_repeats", "_starts", "name")

    def __init__(self, name: str, table: _Table) -> None:
        self.name: Final = name
        self._starts = table.starts
        self._offsets = tuple(segment.offset for segment in table.segments)
        self._first = table.first.offset
        self._repeats = table.repeats

    @classmethod
    def load(cls, name: str) -> Zone:
        """The zone from the system's tz database, else from the tzdata package (the order of Python's zoneinfo).

        Raises `Misconfigured` when there is no such zone, or it counts leap seconds, which PostgreSQL does not.
        """
        return _load(name)

    @classmethod
    def parse(cls, name: str, tzif: bytes) -> Zone:
        """The zone that a TZif file of version 2 or later describes. Raises `Misconfigured` when it is none."""
        return cls(name, _read(name, tzif))

    def transitions(self) -> tuple[int, ...]:
        """Where the offset or its name changes, in unix seconds; what repeats is given for one turn of 400 years."""
        return self._starts

    def offset_at(self, unix: int) -> int:
        """Seconds east of UTC at an instant (unix seconds) within or before the transitions given."""
        found = bisect_right(self._starts, unix)
        return self._offsets[found - 1] if found else self._first

    def to_utc(self, local_us: int, *, ambiguous: Ambiguous, nonexistent: Nonexistent) -> tuple[int, str]:
        """The instant of a local time, both in microseconds since 2000-01-01, and "" or a note ("gap", "overlap").

        The infinities (the extreme 64-bit integers) come back untouched. Raises `RowRefused` when a policy says error,
        or when either side of the conversion is outside the range of a timestamp.
        """
        if local_us in (NEGATIVE_INFINITY, INFINITY):
            return local_us, ""
        before, after, boundary = self.offsets_near(local_us)
        local = local_us // MICROSECONDS + _POSTGRES_EPOCH
        offset, note = after, ""
        is_before_by_old, is_before_by_new = local - before < boundary, local - after < boundary
        if is_before_by_old and is_before_by_new:
            offset = before
        elif is_before_by_old:  # it happened on both sides of the transition
            if ambiguous is Ambiguous.ERROR:
                raise self._refused("A local time occurred twice, when clocks were set back.", "ambiguous: later")
            offset, note = (before if ambiguous is Ambiguous.EARLIER else after), "overlap"
        elif is_before_by_new:  # it happened on neither
            if nonexistent is Nonexistent.ERROR:
                raise self._refused("A local time never occurred: clocks were set forward.", "nonexistent: shift")
            offset, note = before, "gap"
        utc_us = local_us - offset * MICROSECONDS
        if not (LOWEST <= local_us < END and LOWEST <= utc_us < END):
            raise self._refused("A local time is outside the range of timestamptz in UTC.", "")
        return utc_us, note

    def offsets_near(self, local_us: int) -> tuple[int, int, int]:
        """Offset before, offset after (seconds east), and unix second of the one transition that can matter.

        As PostgreSQL: the first transition more than a day before the local time read as if it were UTC; zones are at
        most a day away from UTC, and their transitions more than two days apart.
        """
        starts = self._starts
        at = local_us // MICROSECONDS + _POSTGRES_EPOCH - DAY
        turned = 0
        if self._repeats and at > starts[-1]:
            turned = -(-(at - starts[-1]) // REPEAT) * REPEAT
        found = bisect_right(starts, at - turned)
        before = self._offsets[found - 1] if found else self._first
        if found == len(starts):
            return before, before, 0
        return before, self._offsets[found], starts[found] + turned

    def segment(self, local_us: int) -> tuple[int, int, int]:
        """A stretch [start, stop) of local times, in microseconds, around `local_us`, and the offset that holds in it.

        Everything in it converts by subtracting the offset (microseconds), with nothing to remark and nothing out of
        range. Empty (0, 0, 0) where a transition makes the time a question, and for what is no timestamp or has none
        in UTC: such a time takes `to_utc`.
        """
        if not LOWEST <= local_us < END:
            return 0, 0, 0
        starts = self._starts
        local = local_us // MICROSECONDS + _POSTGRES_EPOCH
        at = local - DAY
        turned = 0
        if self._repeats and at > starts[-1]:
            turned = -(-(at - starts[-1]) // REPEAT) * REPEAT
        found = bisect_right(starts, at - turned)
        # From a day behind the transition before, until a day behind the next, the next one is the one that matters.
        start = starts[found - 1] + turned + DAY if found else None
        offset = self._offsets[found - 1] if found else self._first
        stop: int | None = None
        if found < len(starts):
            after, boundary = self._offsets[found], starts[found] + turned
            if offset == after or local < boundary + min(offset, after):
                stop = boundary + (DAY if offset == after else min(offset, after))
            elif local >= boundary + max(offset, after):
                start, stop, offset = boundary + max(offset, after), boundary + DAY, after
            else:
                return 0, 0, 0
        elif self._repeats:  # the one second a day behind the last listed transition: not worth a stretch
            return 0, 0, 0
        offset_us = offset * MICROSECONDS
        low, high = max(LOWEST, LOWEST + offset_us), min(END, END + offset_us)
        if start is not None:
            low = max(low, (start - _POSTGRES_EPOCH) * MICROSECONDS)
        if stop is not None:
            high = min(high, (stop - _POSTGRES_EPOCH) * MICROSECONDS)
        return (low, high, offset_us) if low <= local_us < high else (0, 0, 0)

    def steady_offset(self, local_us: int, span_us: int) -> int | None:
        """The offset in seconds that holds for every local time in [local_us, local_us + span_us), if it is one.

        None when a transition is near enough to make any of them a question. `span_us` is at most a day.
        """
        near = self.offsets_near(local_us)
        if near != self.offsets_near(local_us + span_us):
            return None
        before, after, boundary = near
        low = local_us // MICROSECONDS + _POSTGRES_EPOCH
        high = -(-(local_us + span_us) // MICROSECONDS) + _POSTGRES_EPOCH
        if before == after or high - min(before, after) <= boundary:
            return before
        return after if low - max(before, after) >= boundary else None

    def _refused(self, what: str, do: str) -> RowRefused:
        return RowRefused(
            what,
            where=f"time zone {self.name}",
            means="Nothing of this transaction was applied; the slot keeps it.",
            do=f"Mend the row on the source, or declare `{do}` for its column."
            if do
            else "Mend the row on the source.",
        )


@functools.lru_cache(maxsize=64)
def _load(name: str) -> Zone:
    if _NAME.fullmatch(name) is not None:  # anything else could name a file that is none of ours
        for folder in zoneinfo.TZPATH:
            path = Path(folder, name)
            if path.is_file():
                return Zone.parse(name, path.read_bytes())
        resource = importlib.resources.files("tzdata").joinpath("zoneinfo", *name.split("/"))
        if resource.is_file():
            return Zone.parse(name, resource.read_bytes())
    raise Misconfigured(
        "There is no such time zone in the tz database.",
        where=f"time zone {name!r}",
        do="Use an IANA name such as Europe/Paris, spelled as in the database's own list (pg_timezone_names).",
    )


def _read(name: str, tzif: bytes) -> _Table:
    """The table PostgreSQL makes of a file: its transitions, then those of the footer's rule."""
    try:
        starts, kinds, types, footer = _blocks(tzif)
        rule = _Rule.parse(footer) if footer else None
    except (ValueError, IndexError) as error:
        raise Misconfigured(
            f"The tz database's file cannot be used: {error}.",
            where=f"time zone {name}",
            do="Reinstall the system's tzdata.",
        ) from None
    if (
        rule is not None
    ):  # PostgreSQL drops what zic may have put at the end to say "nothing more", then applies the rule
        while len(starts) > 1 and kinds[-1] == kinds[-2]:
            starts, kinds = starts[:-1], kinds[:-1]
    segments = [types[kind] for kind in kinds]
    # Before the first transition PostgreSQL uses the lowest-numbered type that is standard time, else type 0.
    first = next((kind for kind in types if not kind.is_daylight), types[0])
    if rule is None or rule.start is None:
        return _Table(tuple(starts), tuple(segments), first, repeats=False)
    # One turn of 400 years behind the last listed transition (and behind 1770, from where PostgreSQL applies a rule to
    # a file without transitions) can stand for all later ones.
    year = _year_of(starts[-1]) if starts else 1770
    latest = starts[-1] if starts else None
    for start, segment in sorted(change for near in range(year, year + 403) for change in rule.changes(near)):
        if latest is None or start > latest:
            starts.append(start)
            segments.append(segment)
    return _Table(tuple(starts), tuple(segments), first, repeats=True)


def _blocks(tzif: bytes) -> tuple[list[int], bytes, list[_Segment], str]:
    """Transition times, the type of each, the types, and the footer, from the file's 64-bit part."""
    if len(tzif) < _HEADER.size:
        raise ValueError("it is too short")
    magic, version, *counts = _HEADER.unpack_from(tzif)
    if magic != b"TZif" or version < b"2":
        raise ValueError("it is no TZif file of version 2 or later")
    utc_marks, standard_marks, leaps, times, types, characters = counts
    at = _HEADER.size + times * 5 + types * 6 + characters + leaps * 8 + standard_marks + utc_marks
    if len(tzif) < at + _HEADER.size:
        raise ValueError("its 64-bit part is missing")
    magic, version, utc_marks, standard_marks, leaps, times, types, characters = _HEADER.unpack_from(tzif, at)
    if leaps:
        raise ValueError("it counts leap seconds, which PostgreSQL does not")
    at += _HEADER.size
    end = at + times * 9 + types * 6 + characters + standard_marks + utc_marks
    if magic != b"TZif" or not types or len(tzif) < end:
        raise ValueError("its 64-bit part is damaged")
    starts = list(Struct(f"!{times}q").unpack_from(tzif, at))
    kinds = tzif[at + times * 8 : at + times * 9]
    segments = [
        _Segment(offset, bool(is_daylight))
        for offset, is_daylight, _ in _TYPE.iter_unpack(tzif[at + times * 9 : at + times * 9 + types * 6])
    ]
    if starts != sorted(set(starts)) or any(kind >= types for kind in kinds):
        raise ValueError("its transitions are damaged")
    footer = tzif[end:]
    if len(footer) < 2 or footer[:1] != b"\n" or footer[-1:] != b"\n":
        raise ValueError("its footer is missing")
    return starts, kinds, segments, footer[1:-1].decode("ascii")


@dataclass(frozen=True, slots=True)
class _Change:
    """A day of the year and a time on it. `kind`: M (month, week, weekday), J (1-365, no leap day), D (0-365)."""

    kind: str
    month: int
    week: int
    day: int
    seconds: int

    @classmethod
    def parse(cls, text: str) -> _Change:
        match = _DATE.fullmatch(text)
        if match is None:
            raise ValueError("its footer has a date that POSIX does not know")
        seconds = _clock(match["time"]) if match["time"] else 7200
        if match["month"]:
            return cls("M", int(match["month"]), int(match["week"]), int(match["weekday"]), seconds)
        return cls(match["julian"] or "D", 0, 0, int(match["day"]), seconds)

    def seconds_into(self, year: int) -> int:
        """Seconds from the local beginning of `year`."""
        is_leap = _is_leap(year)
        if self.kind == "D":
            day = self.day
        elif self.kind == "J":
            day = self.day - 1 + (is_leap and self.day > 59)
        else:
            first = _MONTH_STARTS[self.month - 1] + (is_leap and self.month > 2)
            length = _MONTH_STARTS[self.month] - _MONTH_STARTS[self.month - 1] + (is_leap and self.month == 2)
            # 1970-01-01 was a Thursday (4, Sunday being 0).
            day = (self.day - (days_before_year(year) + first + 4)) % 7 + (self.week - 1) * 7
            while day >= length:  # week 5 means the last one
                day -= 7
            day += first
        return day * DAY + self.seconds


@dataclass(frozen=True, slots=True)
class _Rule:
    """A POSIX TZ string: what holds after the last listed transition. `start` and `end` of daylight time, or None."""

    standard: int
    daylight: int
    start: _Change | None
    end: _Change | None

    @classmethod
    def parse(cls, text: str) -> _Rule:
        match = _RULE.fullmatch(text)
        if match is None:
            raise ValueError("its footer is no POSIX TZ string")
        standard = -_clock(match["standard"])  # POSIX counts west
        if match["start"] is None:
            return cls(standard, standard, None, None)
        daylight = -_clock(match["daylight"]) if match["daylight"] else standard + 3600
        return cls(standard, daylight, _Change.parse(match["start"]), _Change.parse(match["end"]))

    def changes(self, year: int) -> tuple[tuple[int, _Segment], ...]:
        """The two transitions of a year in unix seconds, or none where daylight time fills the whole year."""
        if self.start is None or self.end is None:
            return ()
        begins = self.start.seconds_into(year) - self.standard
        ends = self.end.seconds_into(year) - self.daylight
        length = (365 + _is_leap(year)) * DAY
        if begins < ends and ends - begins >= length + self.standard - self.daylight:
            return ()
        base = days_before_year(year) * DAY
        return (
            (base + begins, _Segment(self.daylight, is_daylight=True)),
            (base + ends, _Segment(self.standard, is_daylight=False)),
        )


def _clock(text: str) -> int:
    match = _CLOCK.fullmatch(text)
    if match is None:
        raise ValueError("its footer has a time that POSIX does not know")
    seconds = int(match[2]) * 3600 + int(match[3] or 0) * 60 + int(match[4] or 0)
    return -seconds if match[1] == "-" else seconds


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def days_before_year(year: int) -> int:
    """Days from 1970-01-01 to January 1st of a proleptic Gregorian year; year 0 is 1 BC."""
    past = year - 1
    return past * 365 + past // 4 - past // 100 + past // 400 - 719_162


def _year_of(unix: int) -> int:
    year = 1970 + unix // 31_556_952  # the mean year; at most one off
    while days_before_year(year) * DAY > unix:
        year -= 1
    while days_before_year(year + 1) * DAY <= unix:
        year += 1
    return year
