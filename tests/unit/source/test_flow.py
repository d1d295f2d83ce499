"""When a fast stream is left alone: only one of this host, and only for a moment."""

from __future__ import annotations

import pytest

from crossfade.source.flow import Flow

MIB = 1024 * 1024


def rests(flow: Flow, *, size: int, every: float, is_empty: bool = True) -> list[bool]:
    """What is said each time that so many bytes were read."""
    said = []
    for at in range(100):
        flow.saw(size)
        said.append(flow.rests(100.0 + at * every, is_empty=is_empty))
    return said[20:]  # the first few milliseconds may be taken for anything


@pytest.mark.parametrize(("size", "every"), [(200, 0.0005), (30_000, 0.005), (MIB, 1.0)])
def test_a_slow_stream_is_never_left_alone(size: int, every: float) -> None:
    assert not any(rests(Flow(is_local=True), size=size, every=every))


def test_nor_one_that_comes_over_a_network_where_a_window_is_all_that_gathers_meanwhile() -> None:
    assert not any(rests(Flow(is_local=False), size=MIB, every=0.001))


def test_a_fast_one_of_this_host_is_whenever_it_was_read_empty() -> None:
    assert any(rests(Flow(is_local=True), size=MIB, every=0.001))
    assert not any(rests(Flow(is_local=True), size=MIB, every=0.001, is_empty=False))


def test_it_is_read_between_two_rests() -> None:
    flow = Flow(is_local=True)
    for at in range(1, 11):
        flow.saw(MIB)
        assert flow.rests(at * 0.01, is_empty=True) is (at % 2 == 1)
        assert flow.is_to_be_read is (at % 2 == 0)
