"""The messages of a COPY, cut into blocks at every place a socket could cut them."""

from __future__ import annotations

import random
import struct

import pytest

from crossfade.copy.frames import Walk
from crossfade.faults import ProtocolViolation


def message(tag: bytes, payload: bytes = b"") -> bytes:
    return tag + struct.pack(">I", len(payload) + 4) + payload


ROWS = [b"1\tAnn\n", b"", b"x" * 300, b"2\t\\N\n"]
NOTICE = message(b"N", b"SNOTICE\0C00000\0Msaid on the way\0\0")
END = message(b"c") + message(b"C", b"COPY 4\0") + message(b"Z", b"T")
STREAM = (
    message(b"H", b"\0\0\0")
    + message(b"d", ROWS[0])
    + message(b"d", ROWS[1])
    + NOTICE
    + message(b"d", ROWS[2])
    + message(b"S", b"TimeZone\0UTC\0")
    + message(b"d", ROWS[3])
    + END
)
DATA = b"".join(message(b"d", row) for row in ROWS)


def passed_on(stream: bytes, sizes: list[int]) -> tuple[bytes, Walk]:
    """What a relay hands on when the socket gives `sizes` bytes at a time, the way the outlet keeps its block."""
    walk, out, kept = Walk(), b"", b""
    while stream:
        size = sizes.pop() if sizes else len(stream)
        block = bytearray(kept + stream[:size])
        stream = stream[size:]
        spans, at = walk.spans(block, len(block))
        out += b"".join(block[start:stop] for start, stop in spans)
        kept = bytes(block[at:])
    assert kept == b""
    return out, walk


@pytest.mark.parametrize("seed", range(200))
def test_wherever_it_is_cut_the_same_messages_are_passed_on(seed: int) -> None:
    chance = random.Random(seed)
    sizes = [chance.choice([1, 2, 3, 5, 40, 400]) for _ in range(len(STREAM))]
    out, walk = passed_on(STREAM, sizes)
    assert out == DATA
    assert (walk.messages, walk.count, walk.is_over, walk.owed) == (4, 4, True, 0)


@pytest.mark.parametrize("cut", range(1, len(STREAM)))
def test_rows_come_whole_wherever_the_stream_is_cut(cut: int) -> None:
    walk = Walk()
    rows: list[bytes] = []
    at = walk.rows(bytearray(STREAM), cut, rows)
    assert walk.rows(bytearray(STREAM[at:]), len(STREAM) - at, rows) == len(STREAM) - at
    assert rows == ROWS
    assert (walk.messages, walk.count, walk.is_over) == (4, 4, True)


def test_an_error_is_kept_by_its_fields() -> None:
    walk = Walk()
    failed = message(b"E", b"SERROR\0C57014\0Mcanceling statement\0tusers\0spublic\0\0") + message(b"Z", b"E")
    _, at = walk.spans(bytearray(failed), len(failed))
    assert at == len(failed)
    assert walk.error["C"] == "57014"
    assert (walk.error["s"], walk.error["t"]) == ("public", "users")
    assert walk.is_over
    assert walk.count == -1


@pytest.mark.parametrize(
    "stream",
    [
        b"X\0\0\0\4",
        message(b"D", b"\0\0"),
        message(b"R", b"\0\0\0\0"),
        message(b"C", b"SELECT 1\0"),
        END + message(b"c"),
    ],
    ids=["unknown", "data row", "authentication", "another command", "after the end"],
)
def test_what_cannot_come_in_a_copy_is_a_violation(stream: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        Walk().spans(bytearray(stream), len(stream))
    with pytest.raises(ProtocolViolation):
        Walk().rows(bytearray(stream), len(stream), [])
