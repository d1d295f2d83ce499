"""Lag by the source's clock (K1)."""

from __future__ import annotations

import random

from crossfade.lsn import NOWHERE, Lsn
from crossfade.telemetry.lag import Lag, LagMeter


def test_nothing_is_said_before_the_first_sample() -> None:
    assert LagMeter().measure(Lsn(100), Lsn(100), True) == Lag(None, None)


def test_zero_when_the_durable_position_has_passed_the_newest_sample() -> None:
    meter = LagMeter()
    meter.sample(1000.0, Lsn(500))
    assert meter.measure(Lsn(500), NOWHERE, False) == Lag(0.0, 0)
    assert meter.passed_at == 1000.0


def test_age_of_the_newest_sample_passed() -> None:
    meter = LagMeter()
    for second in range(10):
        meter.sample(1000.0 + second, Lsn(100 * (second + 1)))
    assert meter.measure(Lsn(450), NOWHERE, False) == Lag(6.0, 550)
    assert meter.passed_at == 1003.0


def test_heard_counts_only_while_drained() -> None:
    meter = LagMeter(990.0)
    meter.sample(1000.0, Lsn(500))
    assert meter.measure(Lsn(100), Lsn(500), False) == Lag(10.0, 400)
    assert meter.measure(Lsn(100), Lsn(500), True) == Lag(0.0, 0)


def test_an_idle_source_does_not_look_like_growing_lag() -> None:
    meter = LagMeter()
    for second in range(1000):
        meter.sample(second, Lsn(500))
        assert meter.measure(Lsn(500), Lsn(500), True) == Lag(0.0, 0)


def test_right_at_once_after_a_restart() -> None:
    meter = LagMeter(passed_at=400.0)
    meter.sample(1000.0, Lsn(900))
    assert meter.measure(Lsn(100), NOWHERE, False) == Lag(600.0, 800)


def test_unknown_in_seconds_but_not_in_bytes_when_nothing_was_ever_passed() -> None:
    meter = LagMeter()
    meter.sample(1000.0, Lsn(900))
    assert meter.measure(Lsn(100), NOWHERE, False) == Lag(None, 800)
    meter.restore(970.0)
    assert meter.measure(Lsn(100), NOWHERE, False) == Lag(30.0, 800)


def test_K1_a_source_clock_set_back_never_gives_negative_lag() -> None:
    meter = LagMeter()
    meter.sample(10_000.0, Lsn(100))
    meter.measure(Lsn(100), NOWHERE, False)
    meter.sample(6_400.0, Lsn(200))
    assert meter.measure(Lsn(100), NOWHERE, False) == Lag(0.0, 100)
    meter.sample(6_401.0, Lsn(200))
    assert meter.measure(Lsn(200), NOWHERE, False) == Lag(0.0, 0)


def test_a_source_that_writes_one_huge_transaction_grows_lag_second_by_second() -> None:
    meter = LagMeter()
    meter.sample(0.0, Lsn(100))
    meter.measure(Lsn(100), NOWHERE, False)
    lags = []
    for second in range(1, 5):
        meter.sample(float(second), Lsn(100 + 1000 * second))
        lags.append(meter.measure(Lsn(100), Lsn(100), False).seconds)
    assert lags == [1.0, 2.0, 3.0, 4.0]


def test_memory_is_bounded_and_a_long_lag_stays_exact_to_a_percent() -> None:
    meter = LagMeter(passed_at=0.0)
    day = 86_400
    for second in range(1, day + 1):
        meter.sample(float(second), Lsn(second * 10))
    assert len(meter._ahead) <= 8192
    for reached in sorted(random.Random(7).sample(range(1, day), 50)):
        lag = meter.measure(Lsn(reached * 10), NOWHERE, False).seconds
        true = day - reached
        assert lag is not None
        assert true <= lag <= true * 1.01 + 1


def test_memory_is_bounded_while_the_clock_runs_backwards() -> None:
    meter = LagMeter(passed_at=0.0, most_samples=64)
    for second in range(1000):
        meter.sample(float(-second), Lsn(100 + second))
        assert len(meter._ahead) <= 64
    assert meter._ahead[-1].flush_lsn == Lsn(1099)
