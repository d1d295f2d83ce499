"""Runs of uuid7 values, from the Python source and compiled."""

from __future__ import annotations

import uuid

import pytest

from tests.unit.wire.conftest import Hot


def test_each_holds_time_counter_and_its_own_randomness(hot: Hot) -> None:
    noise = bytes(range(200, 256)) + bytes(8)
    made = hot.uuids.uuid7_run(0x0123_4567_89AB, 0xFFD, 0x1000, noise, 8)
    found = [uuid.UUID(each.decode()) for each in made]
    assert [str(each).encode() for each in found] == made
    assert [each.version for each in found] == [7, 7, 7]
    assert {each.variant for each in found} == {uuid.RFC_4122}
    assert {each.int >> 80 for each in found} == {0x0123_4567_89AB}
    assert [each.int >> 64 & 0xFFF for each in found] == [0xFFD, 0xFFE, 0xFFF]
    drawn = [int.from_bytes(noise[at : at + 8], "big") & (1 << 62) - 1 for at in (8, 16, 24)]
    assert [each.int & (1 << 62) - 1 for each in found] == drawn
    assert made == sorted(made)


@pytest.mark.parametrize(
    ("first", "stop", "at"), [(0, 3, 0), (0, 2, 1), (-1, 1, 0), (4095, 4097, 0), (0, 1, -8)], ids=str
)
def test_nothing_is_read_behind_the_randomness(hot: Hot, first: int, stop: int, at: int) -> None:
    with pytest.raises(ValueError, match="randomness"):
        hot.uuids.uuid7_run(1, first, stop, bytes(16), at)
