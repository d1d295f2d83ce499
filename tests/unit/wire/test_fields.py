from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crossfade.faults import ProtocolViolation, RowRefused
from crossfade.mapping.plan import Ambiguous, Nonexistent
from crossfade.wire.fields import copy_escape, copy_unescape, timestamp_to_utc
from crossfade.wire.zones import Zone

ZONES = ("America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia", "Pacific/Kiritimati", "UTC")
EPOCH = datetime(2000, 1, 1)  # noqa: DTZ001 - local times are the subject


def rewritten(
    text: str,
    zone: str,
    ambiguous: Ambiguous = Ambiguous.LATER,
    nonexistent: Nonexistent = Nonexistent.SHIFT,
) -> tuple[str, str]:
    utc, note = timestamp_to_utc(text.encode(), Zone.load(zone), ambiguous, nonexistent)
    return utc.decode(), note


# What PostgreSQL 15 printed for `(timestamp '…' AT TIME ZONE '…')::text`.
@pytest.mark.parametrize(
    ("text", "zone", "utc", "note"),
    [
        ("2024-07-01 12:34:56.123456", "America/New_York", "2024-07-01 16:34:56.123456+00", ""),
        ("2018-11-04 01:30:00", "America/New_York", "2018-11-04 06:30:00+00", "overlap"),
        ("2018-03-11 02:30:00.5", "America/New_York", "2018-03-11 07:30:00.5+00", "gap"),
        ("0044-03-15 12:00:00 BC", "America/New_York", "0044-03-15 16:56:02+00 BC", ""),
        ("0001-01-01 00:00:00", "Asia/Kathmandu", "0001-12-31 18:18:44+00 BC", ""),
        ("0001-12-31 23:00:00 BC", "America/New_York", "0001-01-01 03:56:02+00", ""),
        ("9999-12-31 23:00:00", "America/New_York", "10000-01-01 04:00:00+00", ""),
        ("10000-01-01 00:00:00.000001", "Asia/Kathmandu", "9999-12-31 18:15:00.000001+00", ""),
        ("294276-12-31 23:59:59.999999", "UTC", "294276-12-31 23:59:59.999999+00", ""),
        ("4713-01-01 00:00:00 BC", "UTC", "4713-01-01 00:00:00+00 BC", ""),
        ("4714-11-24 00:00:00 BC", "UTC", "4714-11-24 00:00:00+00 BC", ""),
        ("2000-02-29 23:59:59", "America/New_York", "2000-03-01 04:59:59+00", ""),
        ("infinity", "Asia/Kathmandu", "infinity", ""),
        ("-infinity", "Asia/Kathmandu", "-infinity", ""),
    ],
)
def test_F6_F19_a_timestamp_is_printed_as_postgresql_prints_it(text: str, zone: str, utc: str, note: str) -> None:
    assert rewritten(text, zone) == (utc, note)
    assert rewritten(text, zone) == (utc, note)  # and again, out of memory


@pytest.mark.parametrize("zone", ZONES)
@given(
    moment=st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)).filter(lambda at: at.year > 1),  # noqa: DTZ001
    digits=st.text("0123456789", max_size=6),
)
def test_text_and_arithmetic_agree(zone: str, moment: datetime, digits: str) -> None:
    moment = moment.replace(microsecond=0)
    fraction = f".{digits}" if digits else ""
    us = (moment - EPOCH) // timedelta(microseconds=1)
    utc, note = Zone.load(zone).to_utc(us, ambiguous=Ambiguous.LATER, nonexistent=Nonexistent.SHIFT)
    expected = f"{EPOCH + timedelta(microseconds=utc)}{fraction.rstrip('0').rstrip('.')}+00"
    assert rewritten(f"{moment}{fraction}", zone) == (expected, note)


@pytest.mark.parametrize("zone", ["America/New_York", "Australia/Lord_Howe"])
def test_every_minute_around_a_transition_is_right_whatever_was_remembered(zone: str) -> None:
    compiled = Zone.load(zone)
    for start in compiled.transitions()[-4:]:
        for minute in range(-26 * 60, 26 * 60, 7):
            us = (start - 946_684_800 + compiled.offset_at(start) + minute * 60) * 1_000_000
            utc, note = compiled.to_utc(us, ambiguous=Ambiguous.EARLIER, nonexistent=Nonexistent.SHIFT)
            local, expected = (str(EPOCH + timedelta(microseconds=each)) for each in (us, utc))
            assert rewritten(local, zone, ambiguous=Ambiguous.EARLIER) == (f"{expected}+00", note)


def test_policies_are_kept_apart_although_hours_are_remembered() -> None:
    text = "2018-11-04 01:30:00"
    assert rewritten(text, "America/New_York", Ambiguous.LATER)[0] == "2018-11-04 06:30:00+00"
    assert rewritten(text, "America/New_York", Ambiguous.EARLIER)[0] == "2018-11-04 05:30:00+00"
    with pytest.raises(RowRefused):
        rewritten(text, "America/New_York", Ambiguous.ERROR)
    with pytest.raises(RowRefused):
        rewritten("2018-03-11 02:30:00", "America/New_York", nonexistent=Nonexistent.ERROR)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024-01-01",
        "2024-01-01T00:00:00",
        "2024-01-01 00:00",
        "2024-01-01 00:00:00+00",
        "2024-01-01 00:00:00 BC ",
        "2024-01-01 00:00:00 AD",
        "2024-01-01 24:00:00",
        "2024-01-01 00:60:00",
        "2024-01-01 23:59:60",
        "2024-01-01 00:00:00.",
        "2024-01-01 00:00:00.1234567",
        "2024-02-30 00:00:00",
        "2023-02-29 00:00:00",
        "0004-02-29 00:00:00 BC",
        "2024-13-01 00:00:00",
        "2024-00-01 00:00:00",
        "2024-01-00 00:00:00",
        "0000-01-01 00:00:00",
        "01/02/2024 00:00:00",
        "Mon Jan 01 00:00:00 2024",
        " infinity",
        "Infinity",
        "2024-01-01 00:00:00\n",
        "٢٠٢٤-01-01 00:00:00",
    ],
)
def test_what_is_no_iso_timestamp_is_refused_without_its_value(text: str) -> None:
    with pytest.raises(RowRefused) as caught:
        rewritten(text, "UTC")
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "zone"),
    [
        ("294276-12-31 23:00:00", "America/New_York"),
        ("4714-11-24 00:00:00 BC", "Asia/Kathmandu"),
        ("294277-01-01 00:00:00", "UTC"),
    ],
)
def test_F6_what_timestamptz_cannot_hold_is_refused(text: str, zone: str) -> None:
    with pytest.raises(RowRefused, match="outside the range"):
        rewritten(text, zone)


def test_what_is_remembered_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from crossfade.wire import fields

    monkeypatch.setattr(fields, "_HOURS_KEPT", 10)
    rewrite = fields._LocalTimes(Zone.load("UTC"), Ambiguous.LATER, Nonexistent.SHIFT)
    for hour in range(100):
        text = str(EPOCH + timedelta(hours=hour))
        assert rewrite(text.encode()) == (f"{text}+00".encode(), "")
        assert len(rewrite._hours) <= 10


special = st.lists(
    st.sampled_from([b"\\", b"\t", b"\n", b"\r", b"\b", b"\f", b"\v", b"N", b".", b"x", b"0", b"a"])
).map(b"".join)


@given(st.none() | st.binary() | special)
@example(b"")
@example(rb"\N")
@example(b"\\.")
@example(b"\\")
def test_F30_what_is_escaped_comes_back_and_fits_one_field(value: bytes | None) -> None:
    field = copy_escape(value)
    assert copy_unescape(field) == value
    assert re.search(rb"[\t\n\r]", field) is None
    assert field != rb"\."
    assert (field == rb"\N") == (value is None)


@given(special)
def test_F30_any_field_is_read_or_refused(field: bytes) -> None:
    try:
        value = copy_unescape(field)
    except ProtocolViolation:
        assert field.endswith(b"\\")
        return
    assert copy_unescape(copy_escape(value)) == value


def test_F30_an_empty_value_is_not_null() -> None:
    assert copy_escape(b"") == b""
    assert copy_escape(None) == rb"\N"
    assert copy_unescape(b"") == b""
    assert copy_unescape(rb"\N") is None
    assert copy_unescape(rb"\\N") == rb"\N"


def test_a_field_without_anything_to_escape_is_handed_through() -> None:
    value = "naïve €😀 'quoted', \"double\"".encode()
    assert copy_escape(value) is value
    assert copy_unescape(value) is value


def test_a_field_that_ends_inside_an_escape_was_cut() -> None:
    for field in (b"\\", b"abc\\", rb"\\" + b"\\"):
        with pytest.raises(ProtocolViolation, match="inside an escape"):
            copy_unescape(field)
