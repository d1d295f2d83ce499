"""Binary values taken apart and put together, against the text the server would print."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.faults import ProtocolViolation, RowRefused
from crossfade.mapping.plan import Ambiguous, Nonexistent
from crossfade.wire.cells import id_reader, id_writer, instant_of, widener
from crossfade.wire.fields import timestamp_to_utc
from crossfade.wire.zones import Zone

SIZES = {21: 2, 23: 4, 20: 8}
NEW_YORK = Zone.load("America/New_York")


@pytest.mark.parametrize("oid", sorted(SIZES))
@given(st.data())
def test_integers_are_read_and_written_as_the_server_prints_them(oid: int, data: st.DataObject) -> None:
    size = SIZES[oid]
    value = data.draw(st.integers(-(2 ** (8 * size - 1)), 2 ** (8 * size - 1) - 1))
    cell = value.to_bytes(size, "big", signed=True)
    assert id_reader(oid)(cell) == str(value).encode()
    assert id_writer(oid)(str(value).encode()) == cell


@given(st.uuids())
def test_uuids(value: uuid.UUID) -> None:
    assert id_reader(2950)(value.bytes) == str(value).encode()
    assert id_writer(2950)(str(value).encode()) == value.bytes


@given(st.binary())
def test_texts_are_what_they_are(value: bytes) -> None:
    assert id_reader(25)(value) == id_writer(1043)(value) == value


@pytest.mark.parametrize(("oid", "text"), [(23, b"2147483648"), (21, b"40000"), (20, b"x"), (2950, b"7")])
def test_an_id_that_its_column_cannot_hold_is_refused(oid: int, text: bytes) -> None:
    with pytest.raises(RowRefused) as refused:
        id_writer(oid)(text)
    assert text.decode() not in str(refused.value).split("crossfade")[0]


@pytest.mark.parametrize("oid", [*SIZES, 2950])
def test_a_value_of_another_length_is_no_value(oid: int) -> None:
    for cell in (b"", bytes(3), bytes(17)):
        with pytest.raises(ProtocolViolation):
            id_reader(oid)(cell)


@given(st.integers(-(2**15), 2**15 - 1))
def test_widening_keeps_the_value(value: int) -> None:
    wide = widener(21, 20)
    assert wide is not None
    assert wide(value.to_bytes(2, "big", signed=True)) == value.to_bytes(8, "big", signed=True)
    assert widener(20, 20) is None
    assert widener(25, 1043) is None


EPOCH = datetime(2000, 1, 1)  # noqa: DTZ001 - local times have no zone


@pytest.mark.parametrize(
    "text", ["2018-11-04 01:30:00", "2018-03-11 02:30:00", "2000-01-01 00:00:00.000001", "1883-11-18 12:00:00"]
)
@pytest.mark.parametrize("ambiguous", [Ambiguous.LATER, Ambiguous.EARLIER])
def test_F19_a_local_time_becomes_the_same_instant_in_either_form(text: str, ambiguous: Ambiguous) -> None:
    policies = ambiguous, Nonexistent.SHIFT
    micros = (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)
    made, note = instant_of(micros.to_bytes(8, "big", signed=True), NEW_YORK, *policies)
    printed, noted = timestamp_to_utc(text.encode(), NEW_YORK, *policies)
    assert note == noted
    instant = EPOCH + timedelta(microseconds=int.from_bytes(made, "big", signed=True))
    assert instant == datetime.fromisoformat(printed.decode()).replace(tzinfo=None)


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63)])
def test_F19_the_infinities_stay(value: int) -> None:
    cell = value.to_bytes(8, "big", signed=True)
    assert instant_of(cell, NEW_YORK, Ambiguous.ERROR, Nonexistent.ERROR) == (cell, "")
