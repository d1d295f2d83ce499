from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.faults import ProtocolViolation
from crossfade.lsn import Lsn
from crossfade.walstream import HEADER, Keepalive, Positions, keepalive, standby_status

u64s = st.integers(0, 2**64 - 1)
i64s = st.integers(-(2**63), 2**63 - 1)


def u64(value: int) -> bytes:
    return value.to_bytes(8, "big")


def i64(value: int) -> bytes:
    return value.to_bytes(8, "big", signed=True)


@given(u64s, u64s, i64s, st.binary(max_size=50))
def test_xlogdata_is_no_keepalive_and_its_message_begins_behind_its_header(
    start: int, end: int, sent_at: int, payload: bytes
) -> None:
    frame = b"w" + u64(start) + u64(end) + i64(sent_at) + payload
    assert keepalive(frame) is None
    assert frame[HEADER:] == payload


@given(u64s, i64s, st.booleans())
def test_a_keepalive_is_read_field_by_field(end: int, sent_at: int, reply: bool) -> None:
    frame = b"k" + u64(end) + i64(sent_at) + bytes((reply,))
    assert keepalive(frame) == Keepalive(Lsn(end), sent_at, reply)


@pytest.mark.parametrize("frame", [b"w" + bytes(24), b"k" + bytes(17)])
def test_every_strict_prefix_is_refused(frame: bytes) -> None:
    keepalive(frame)
    for size in range(len(frame)):
        with pytest.raises(ProtocolViolation):
            keepalive(frame[:size])


@pytest.mark.parametrize(
    ("frame", "offset"),
    [(b"k" + bytes(18), 18), (b"k" + bytes(16) + b"\x02", 17), (b"r" + bytes(33), 0), (b"W" + bytes(30), 0)],
)
def test_what_is_neither_is_refused(frame: bytes, offset: int) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        keepalive(frame)
    assert caught.value.offset == offset


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(frame: bytes) -> None:
    try:
        read = keepalive(frame)
    except ProtocolViolation:
        return
    assert frame[:1] == (b"w" if read is None else b"k")


def test_a_status_is_laid_out_as_the_manual_says() -> None:
    now = datetime(2000, 1, 1, 0, 0, 1, 5, tzinfo=UTC)
    sent = standby_status(Positions(write=Lsn(0x30), flush=Lsn(0x10), apply=Lsn(0x20)), now, True)
    assert sent == b"r" + u64(0x30) + u64(0x10) + u64(0x20) + i64(1_000_005) + b"\x01"
    assert standby_status(Positions(Lsn(0), Lsn(0), Lsn(0)), now, False)[-1] == 0


def test_a_status_tells_the_instant_whatever_the_zone_and_before_2000() -> None:
    nowhere = Positions(Lsn(0), Lsn(0), Lsn(0))
    now = datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC)
    elsewhere = now.astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert standby_status(nowhere, now, False) == standby_status(nowhere, elsewhere, False)
    assert standby_status(nowhere, now, False)[25:33] == i64(-1_000_000)
    with pytest.raises(ValueError, match="aware"):
        standby_status(nowhere, now.replace(tzinfo=None), False)


@given(u64s, u64s, u64s)
def test_positions_of_a_wrong_order_cannot_be_built(write: int, flush: int, apply: int) -> None:
    if flush <= apply <= write:
        Positions(Lsn(write), Lsn(flush), Lsn(apply))
    else:
        with pytest.raises(ValueError, match="is ahead of"):
            Positions(Lsn(write), Lsn(flush), Lsn(apply))
