from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from struct import pack
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.faults import Misconfigured, RowRefused
from crossfade.mapping.plan import Ambiguous, Nonexistent
from crossfade.wire.zones import DAY, END, INFINITY, LOWEST, MICROSECONDS, NEGATIVE_INFINITY, REPEAT, Zone

EPOCH = datetime(2000, 1, 1)  # noqa: DTZ001 - local times are the subject
HOUR = 3_600


def local(text: str) -> int:
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)


def shown(us: int) -> str:
    return str(EPOCH + timedelta(microseconds=us))


def to_utc(
    zone: Zone, text: str, ambiguous: Ambiguous = Ambiguous.LATER, nonexistent: Nonexistent = Nonexistent.SHIFT
) -> tuple[str, str]:
    utc, note = zone.to_utc(local(text), ambiguous=ambiguous, nonexistent=nonexistent)
    return shown(utc), note


@pytest.mark.parametrize(
    ("name", "text", "utc", "note"),
    [
        ("America/New_York", "2018-07-01 12:00:00", "2018-07-01 16:00:00", ""),
        ("America/New_York", "2018-11-04 00:59:59", "2018-11-04 04:59:59", ""),
        ("America/New_York", "2018-11-04 01:00:00", "2018-11-04 06:00:00", "overlap"),
        ("America/New_York", "2018-11-04 01:59:59.999999", "2018-11-04 06:59:59.999999", "overlap"),
        ("America/New_York", "2018-11-04 02:00:00", "2018-11-04 07:00:00", ""),
        ("America/New_York", "2018-03-11 01:59:59.999999", "2018-03-11 06:59:59.999999", ""),
        ("America/New_York", "2018-03-11 02:00:00", "2018-03-11 07:00:00", "gap"),
        ("America/New_York", "2018-03-11 03:00:00", "2018-03-11 07:00:00", ""),
        ("America/New_York", "8018-07-01 12:00:00", "8018-07-01 16:00:00", ""),
        ("America/New_York", "1500-07-01 12:00:00", "1500-07-01 16:56:02", ""),  # local mean time
        ("Australia/Lord_Howe", "2024-04-07 01:45:00", "2024-04-06 15:15:00", "overlap"),
        ("Pacific/Apia", "2011-12-30 12:00:00", "2011-12-30 22:00:00", "gap"),
        ("Europe/Dublin", "2024-10-27 01:30:00", "2024-10-27 01:30:00", "overlap"),
        ("Asia/Kathmandu", "2024-01-01 00:00:00", "2023-12-31 18:15:00", ""),
        ("UTC", "2024-01-01 00:00:00", "2024-01-01 00:00:00", ""),
    ],
)
def test_F19_local_time_becomes_the_instant_postgresql_takes(name: str, text: str, utc: str, note: str) -> None:
    assert to_utc(Zone.load(name), text) == (utc, note)


def test_policies_choose_or_refuse() -> None:
    zone = Zone.load("America/New_York")
    assert to_utc(zone, "2018-11-04 01:30:00", ambiguous=Ambiguous.EARLIER) == ("2018-11-04 05:30:00", "overlap")
    with pytest.raises(RowRefused, match="twice") as caught:
        to_utc(zone, "2018-11-04 01:30:00", ambiguous=Ambiguous.ERROR)
    assert "2018" not in str(caught.value)
    with pytest.raises(RowRefused, match="never occurred"):
        to_utc(zone, "2018-03-11 02:30:00", nonexistent=Nonexistent.ERROR)
    for text in ("2018-11-04 00:59:59", "2018-11-04 02:00:00", "2018-03-11 01:59:59", "2018-03-11 03:00:00"):
        assert to_utc(zone, text, Ambiguous.ERROR, Nonexistent.ERROR)[1] == ""


@pytest.mark.parametrize(
    "name", ["America/New_York", "Europe/Dublin", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Tehran"]
)
@given(moment=st.datetimes(datetime(1900, 1, 1), datetime(9990, 1, 1)))  # noqa: DTZ001
def test_where_zoneinfo_knows_an_answer_it_is_ours(name: str, moment: datetime) -> None:
    zone, theirs = Zone.load(name), ZoneInfo(name)
    us = (moment - EPOCH) // timedelta(microseconds=1)
    later = zone.to_utc(us, ambiguous=Ambiguous.LATER, nonexistent=Nonexistent.SHIFT)
    earlier = zone.to_utc(us, ambiguous=Ambiguous.EARLIER, nonexistent=Nonexistent.SHIFT)
    fold0 = moment.replace(tzinfo=theirs).astimezone(UTC).replace(tzinfo=None)
    fold1 = moment.replace(tzinfo=theirs, fold=1).astimezone(UTC).replace(tzinfo=None)
    assert shown(earlier[0]) == str(fold0)  # in a gap, fold 0 is the offset before: what PostgreSQL takes
    if later[1] == "gap":
        assert fold1 < fold0
    else:
        assert shown(later[0]) == str(fold1)
        assert (later[1] == "overlap") == (fold0 != fold1)


@given(us=st.integers(LOWEST + 86_400 * MICROSECONDS, END - 1 - 86_400 * MICROSECONDS))
def test_the_rule_repeats_after_400_years_until_the_end_of_time(us: int) -> None:
    zone = Zone.load("America/New_York")
    modern = us % (REPEAT * MICROSECONDS) + REPEAT * MICROSECONDS  # some year from 2400 to 2800
    expected = zone.to_utc(modern, ambiguous=Ambiguous.LATER, nonexistent=Nonexistent.SHIFT)
    found = zone.to_utc(us, ambiguous=Ambiguous.LATER, nonexistent=Nonexistent.SHIFT)
    if us > modern:
        assert (found[0] - us, found[1]) == (expected[0] - modern, expected[1])
    assert abs(found[0] - us) < 24 * HOUR * MICROSECONDS


def test_infinities_pass_untouched() -> None:
    zone = Zone.load("Asia/Kathmandu")
    for us in (INFINITY, NEGATIVE_INFINITY):
        assert zone.to_utc(us, ambiguous=Ambiguous.ERROR, nonexistent=Nonexistent.ERROR) == (us, "")


@pytest.mark.parametrize(
    ("name", "us"),
    [
        ("Asia/Kathmandu", LOWEST),
        ("America/New_York", END - 1),
        ("UTC", LOWEST - 1),
        ("UTC", END),
        ("Asia/Kathmandu", END),
    ],
)
def test_F6_what_timestamptz_cannot_hold_is_refused(name: str, us: int) -> None:
    with pytest.raises(RowRefused, match="outside the range"):
        Zone.load(name).to_utc(us, ambiguous=Ambiguous.LATER, nonexistent=Nonexistent.SHIFT)


def test_F6_the_very_ends_are_kept() -> None:
    for us in (LOWEST, END - 1):
        assert Zone.load("UTC").to_utc(us, ambiguous=Ambiguous.LATER, nonexistent=Nonexistent.SHIFT) == (us, "")


@pytest.mark.parametrize("name", ["America/New_York", "Europe/Moscow", "Pacific/Apia", "Australia/Lord_Howe", "UTC"])
@given(hour=st.integers(-1_200_000, 1_200_000))
def test_an_hour_is_called_steady_only_when_it_is(name: str, hour: int) -> None:
    zone, start = Zone.load(name), hour * HOUR * MICROSECONDS
    offset = zone.steady_offset(start, HOUR * MICROSECONDS)
    for at in range(0, HOUR, 300) if offset is not None else ():
        us = start + at * MICROSECONDS
        assert zone.to_utc(us, ambiguous=Ambiguous.ERROR, nonexistent=Nonexistent.ERROR) == (
            us - offset * MICROSECONDS,
            "",
        )


@pytest.mark.parametrize("name", ["America/New_York", "Australia/Lord_Howe", "Europe/Dublin"])
def test_no_hour_with_a_transition_is_called_steady(name: str) -> None:
    zone = Zone.load(name)
    for start in zone.transitions()[-50:]:
        for offset in (zone.offset_at(start - 1), zone.offset_at(start)):
            hour = (start + offset - 946_684_800) // HOUR * HOUR
            utc, note = zone.to_utc(hour * MICROSECONDS, ambiguous=Ambiguous.LATER, nonexistent=Nonexistent.SHIFT)
            if note:
                assert zone.steady_offset(hour * MICROSECONDS, HOUR * MICROSECONDS) is None, utc


@pytest.mark.parametrize(
    "name", ["Mars/Olympus", "../../etc/passwd", "/etc/passwd", "", "Europe", "tzdata.zi", "Europe/Paris/x", "a\0b"]
)
def test_a_name_that_is_no_zone_is_refused_with_a_remedy(name: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        Zone.load(name)
    assert "IANA" in str(caught.value)


def tzif(times: list[int], kinds: list[int], types: list[tuple[int, bool]], footer: str, *, leaps: int = 0) -> bytes:
    """A TZif file of version 2 with an empty 32-bit part."""
    empty = b"TZif2" + bytes(15) + pack("!6I", 0, 0, 0, 0, 1, 1) + bytes(7)
    head = b"TZif2" + bytes(15) + pack("!6I", 0, 0, leaps, len(times), len(types), 1)
    body = b"".join(pack("!q", each) for each in times) + bytes(kinds)
    body += b"".join(pack("!iBB", offset, is_daylight, 0) for offset, is_daylight in types) + b"\0" + bytes(12 * leaps)
    return empty + head + body + b"\n" + footer.encode() + b"\n"


STANDARD, DAYLIGHT = (3_600, False), (7_200, True)


@pytest.mark.parametrize(
    ("footer", "summer"),
    [
        ("CET-1CEST,M3.5.0,M10.5.0/3", True),
        ("CET-1CEST-2,J60,J300", True),
        ("<+01>-1<+02>,59/-1:30,299/25:00:00", True),
        ("CET-1", False),
        ("", False),
    ],
)
def test_every_form_of_a_footer_is_read(footer: str, summer: bool) -> None:
    zone = Zone.parse("Made/Up", tzif([0], [0], [STANDARD], footer))
    assert to_utc(zone, "2100-07-01 12:00:00")[0] == ("2100-07-01 10:00:00" if summer else "2100-07-01 11:00:00")
    assert to_utc(zone, "2100-01-01 12:00:00")[0] == "2100-01-01 11:00:00"


def test_day_forms_count_leap_days_as_posix_says() -> None:
    never = Zone.parse("Made/Up", tzif([0], [0], [STANDARD], "CET-1CEST,J60/0,J300"))  # J60 is March 1st, always
    always = Zone.parse("Made/Up", tzif([0], [0], [STANDARD], "CET-1CEST,60/0,300"))  # day 60 is February 29th in 2024
    for zone, text, note in [
        (never, "2024-03-01 00:30:00", "gap"),
        (never, "2023-03-01 00:30:00", "gap"),
        (always, "2024-03-01 00:30:00", "gap"),
        (always, "2023-03-02 00:30:00", "gap"),
    ]:
        assert to_utc(zone, text)[1] == note


def test_before_the_first_transition_the_first_standard_type_holds_as_in_postgresql() -> None:
    zone = Zone.parse("Made/Up", tzif([0], [2], [DAYLIGHT, (1_234, False), STANDARD], "CET-1"))
    assert to_utc(zone, "1900-01-01 00:00:00")[0] == "1899-12-31 23:39:26"
    only_daylight = Zone.parse("Made/Up", tzif([], [], [DAYLIGHT], "<+02>-2"))
    assert to_utc(only_daylight, "1900-01-01 02:00:00")[0] == "1900-01-01 00:00:00"


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"TZif" + bytes(40),
        tzif([0], [0], [STANDARD], "CET-1", leaps=1),
        tzif([0, 0], [0, 0], [STANDARD], "CET-1"),
        tzif([0], [1], [STANDARD], "CET-1"),
        tzif([0], [0], [STANDARD], "what"),
        tzif([0], [0], [STANDARD], "CET-1CEST,X3.5.0,M10.5.0"),
        tzif([0], [0], [STANDARD], "CET-1")[:-1],
        tzif([0], [0], [STANDARD], "CET-1")[:90],
    ],
)
def test_a_damaged_file_is_refused(damaged: bytes) -> None:
    with pytest.raises(Misconfigured, match="cannot be used"):
        Zone.parse("Made/Up", damaged)


def test_the_tzdata_package_stands_in_where_the_system_has_no_database(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("zoneinfo.TZPATH", (str(tmp_path),))
    # A name that no other test loads: zones are kept once loaded.
    assert to_utc(Zone.load("America/Indiana/Knox"), "2024-01-01 00:00:00")[0] == "2024-01-01 06:00:00"


@given(
    st.sampled_from(
        ["America/New_York", "Europe/Dublin", "Asia/Kolkata", "Africa/Casablanca", "America/Caracas", "UTC"]
    ),
    st.integers(LOWEST - 10**15, END - 1)
    | st.integers(-60 * 365 * DAY * MICROSECONDS, 100 * 365 * DAY * MICROSECONDS)
    | st.sampled_from([LOWEST, LOWEST + 5 * 3600 * MICROSECONDS, END - 1, END, NEGATIVE_INFINITY, INFINITY]),
    st.integers(0, 1 << 64),
)
def test_a_segment_converts_all_that_is_in_it_as_one_by_one(name: str, local_us: int, part: int) -> None:
    zone = Zone.load(name)
    start, stop, offset_us = zone.segment(local_us)
    if start == stop:
        return
    assert start <= local_us < stop
    inside = {start, stop - 1, local_us, start + part % (stop - start)}
    for one in inside:
        assert zone.to_utc(one, ambiguous=Ambiguous.ERROR, nonexistent=Nonexistent.ERROR) == (one - offset_us, "")


@pytest.mark.parametrize("name", ["America/New_York", "Europe/Dublin", "Africa/Casablanca"])
def test_only_the_hours_of_a_change_are_in_no_segment(name: str) -> None:
    zone = Zone.load(name)
    base = 18 * 365 * DAY * MICROSECONDS
    hours = [base + hour * 3600 * MICROSECONDS for hour in range(3 * 365 * 24)]
    none = [hour for hour in hours if zone.segment(hour) == (0, 0, 0)]
    questions = [
        hour
        for hour in hours
        if zone.to_utc(hour, ambiguous=Ambiguous.LATER, nonexistent=Nonexistent.SHIFT)[1] in ("gap", "overlap")
    ]
    assert none == questions
    assert questions
