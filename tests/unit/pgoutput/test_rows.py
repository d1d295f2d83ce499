"""Runs of row messages: what is taken, what is left, what is counted."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.pgoutput.rows import FRAME_OVERHEAD
from tests.hot import in_form
from tests.unit.pgoutput import encoder

ROWS = {
    b"I": lambda oid: encoder.insert(oid, [b"1"]),
    b"U": lambda oid: encoder.update(oid, [b"1"]),
    b"D": lambda oid: encoder.delete(oid, [b"1"]),
}
OTHERS = [
    encoder.frame(encoder.begin(1, 0, 1)),
    encoder.frame(encoder.commit(1, 2, 0)),
    encoder.frame(encoder.truncate([1], 0)),
    encoder.frame(encoder.relation(7, "public", "a", b"d", [])),
    encoder.frame(b"I\x00\x00\x00"),
    encoder.frame(b""),
    b"k" + bytes(17),
    b"k" + bytes(24) + encoder.insert(7, [b"1"]),
    b"",
]
TakeRows = Callable[[list[bytes], int, int, dict[bytes, int]], tuple[int, int]]


@pytest.fixture(params=["python", "compiled"], scope="module")
def take_rows(request: pytest.FixtureRequest) -> TakeRows:
    found: TakeRows = in_form(request.param, "pgoutput.rows").take_rows
    return found


row = st.tuples(st.sampled_from(sorted(ROWS)), st.sampled_from([7, 8, 2**32 - 1]))


@given(st.lists(row, max_size=20), st.sampled_from(OTHERS), st.lists(row, max_size=3), st.integers(0, 3))
def test_a_run_ends_where_another_frame_comes(
    take_rows: TakeRows, rows: list[tuple[bytes, int]], other: bytes, more: list[tuple[bytes, int]], first: int
) -> None:
    frames = [encoder.frame(ROWS[tag](oid)) for tag, oid in rows]
    after = [encoder.frame(ROWS[tag](oid)) for tag, oid in more]
    counts: dict[bytes, int] = {}
    stop, held = take_rows([*frames, other, *after], min(first, len(frames)), 1 << 20, counts)
    assert stop == len(frames)
    taken = rows[first:]
    assert held == sum(len(frame) + FRAME_OVERHEAD for frame in frames[first:])
    assert counts == {tag + encoder.u32(oid): taken.count((tag, oid)) for tag, oid in taken}


def test_a_run_ends_when_there_is_no_more_room_and_goes_on_from_there(take_rows: TakeRows) -> None:
    frames = [encoder.frame(encoder.insert(7, [b"x" * 100])) for _ in range(10)]
    size = len(frames[0]) + FRAME_OVERHEAD
    counts: dict[bytes, int] = {}
    assert take_rows(frames, 0, 3 * size - 1, counts) == (3, 3 * size)
    assert take_rows(frames, 3, 1 << 20, counts) == (10, 7 * size)
    assert list(counts.values()) == [10]


def test_what_a_frame_costs_beyond_its_bytes_is_accounted_for() -> None:
    """Measured with the interpreter's own figures: the header of a bytes object, and a place in a list."""
    frames = [bytes(160) for _ in range(1000)]
    beyond = frames.__sizeof__() / len(frames) + bytes(160).__sizeof__() - 160
    assert beyond <= FRAME_OVERHEAD <= 2 * beyond
