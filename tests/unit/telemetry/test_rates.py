from __future__ import annotations

import pytest

from crossfade.telemetry.rates import SmoothedRate, Window


def test_the_window_averages_over_its_seconds_only() -> None:
    window = Window(seconds=10, width=2, started=0.0)
    for second in range(100):
        window.add((5, 1), now=second + 0.5)
    assert window.per_second(now=99.9) == (5.0, 1.0)
    assert window.per_second(now=200.0) == (0.0, 0.0)


def test_the_window_is_honest_right_after_a_start() -> None:
    window = Window(seconds=10, width=1, started=100.0)
    window.add((30,), now=101.0)
    assert window.per_second(now=103.0) == (10.0,)


def test_the_window_keeps_one_bucket_a_second() -> None:
    window = Window(seconds=10, width=1, started=0.0)
    for tick in range(100_000):
        window.add((1,), now=tick / 100)
    assert len(window._buckets) <= 11


def test_the_rate_is_unknown_until_a_second_was_seen() -> None:
    rate = SmoothedRate(memory=30.0)
    rate.add(1000, now=0.0)
    rate.add(1000, now=0.5)
    assert rate.per_second is None
    rate.add(1000, now=1.0)
    assert rate.per_second == 2000.0


def test_a_short_stall_does_not_jerk_the_rate() -> None:
    rate = SmoothedRate(memory=30.0)
    for second in range(60):
        rate.add(100, now=float(second))
    rate.add(0, now=61.0)
    assert rate.per_second == pytest.approx(100, rel=0.1)
    for second in range(62, 400):
        rate.add(50, now=float(second))
    assert rate.per_second == pytest.approx(50, rel=0.02)
