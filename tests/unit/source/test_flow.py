"""When a fast stream is left alone: only while that pays."""

from __future__ import annotations

from crossfade.source.flow import REST, Flow

MIB = 1024 * 1024


def played(*, per_read: int, every: float, seconds: float, after_rest: int) -> tuple[int, float]:
    """A stream that brings `per_read` bytes `every` so often, and `after_rest` at once when it was left alone: how
    often that was, and bytes a second."""
    flow, now, rests, size = Flow(), 100.0, 0, 0
    while now < 100.0 + seconds:
        flow.saw(per_read)
        size += per_read
        now += every
        while flow.rests(now, is_empty=True):
            rests += 1
            now += REST
            flow.saw(after_rest)
            size += after_rest
    return rests, size / (now - 100.0)


def test_a_slow_stream_is_never_left_alone() -> None:
    assert played(per_read=200, every=0.0005, seconds=2, after_rest=0)[0] == 0
    assert played(per_read=30_000, every=0.005, seconds=2, after_rest=0)[0] == 0


def test_a_fast_one_is_as_long_as_much_has_gathered() -> None:
    """The sender's buffer holds what came meanwhile, as on the same host: nothing is lost by waiting."""
    rests, rate = played(per_read=16_000, every=0.0005, seconds=2, after_rest=MIB)
    assert rests > 20
    assert rate > 30e6


def test_one_that_brings_a_small_window_after_a_rest_is_left_alone_once_a_second() -> None:
    """Another host: 64 KiB may be under way, a round trip is 0.4 ms. Resting whenever all is read would cost most of
    the throughput."""
    rests, rate = played(per_read=16_000, every=0.0005, seconds=3, after_rest=65_536)
    assert 1 <= rests <= 4
    assert rate > 30e6


def test_nothing_is_left_alone_that_was_not_read_empty_and_not_twice_in_a_row() -> None:
    flow = Flow()
    for at in range(10):
        flow.saw(MIB)
        assert not flow.rests(1.0 + at * 0.01, is_empty=False)
    flow.saw(MIB)
    assert flow.rests(1.1, is_empty=True)
    assert not flow.rests(1.1 + REST, is_empty=True), "it is read first"
