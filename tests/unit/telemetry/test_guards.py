from __future__ import annotations

from dataclasses import replace

import pytest

from crossfade.events import PauseReason
from crossfade.telemetry.guards import LEAST_FAILURES, LOOKS, WINDOW_SECONDS, Guards, Limits, Retention

GIB = 1024**3
LIMITS = Limits(
    own_disk_reserve=100, target_capacity=1000, error_ratio=0.5, probe_interval=10, wal_soft=2 * GIB, wal_hard=5 * GIB
)
FULL, OWN, ERRORS = PauseReason.TARGET_FULL, PauseReason.OWN_DISK, PauseReason.ERROR_RATE


@pytest.fixture
def guards() -> Guards:
    return Guards(LIMITS)


def test_nothing_seen_is_no_reason(guards: Guards) -> None:
    assert guards.reasons(0) == frozenset()
    assert not guards.wants_probe(1e9)
    assert guards.retention is Retention.FINE


# disks


@pytest.mark.parametrize(
    ("free", "pauses"),
    [(100, False), (99, True), (0, True), (None, False)],
    ids=["reserve", "below", "none", "unknown"],
)
def test_our_own_disk_pauses_below_its_reserve(guards: Guards, free: int | None, pauses: bool) -> None:
    guards.own_disk(free)
    assert guards.reasons(0) == (frozenset({OWN}) if pauses else frozenset())


def test_our_own_disk_goes_on_with_a_distance(guards: Guards) -> None:
    guards.own_disk(99)
    guards.own_disk(199)
    assert guards.reasons(0) == {OWN}
    guards.own_disk(200)
    assert guards.reasons(0) == frozenset()


def test_the_target_s_capacity_pauses_when_reached_and_goes_on_with_a_distance(guards: Guards) -> None:
    guards.target_used(999)
    assert guards.reasons(0) == frozenset()
    guards.target_used(1000)
    assert guards.reasons(0) == {FULL}
    guards.target_used(981)
    assert guards.reasons(0) == {FULL}
    guards.target_used(None)  # it could not be asked: nothing is known to have changed
    assert guards.reasons(0) == {FULL}
    guards.target_used(979)
    assert guards.reasons(0) == frozenset()


def test_a_capacity_that_is_said_no_more_pauses_no_more(guards: Guards) -> None:
    guards.target_used(2000)
    guards.limits = replace(LIMITS, target_capacity=None)
    guards.target_used(None)
    assert guards.reasons(0) == frozenset()


def test_a_full_target_is_probed_until_it_has_room(guards: Guards) -> None:
    guards.target_refused(now=100)
    assert guards.reasons(100) == {FULL}
    assert not guards.wants_probe(109)
    assert guards.wants_probe(110)
    guards.probed(has_room=False, now=110)
    assert guards.reasons(110) == {FULL}
    assert not guards.wants_probe(119)
    assert guards.wants_probe(120)
    guards.probed(has_room=True, now=120)
    assert guards.reasons(120) == frozenset()
    assert not guards.wants_probe(1e9)


def test_room_by_probe_is_not_enough_past_the_capacity(guards: Guards) -> None:
    guards.target_refused(now=0)
    guards.target_used(1000)
    guards.probed(has_room=True, now=10)
    assert guards.reasons(10) == {FULL}


def test_whoever_went_on_too_early_waits_longer_and_longer_and_then_as_at_first(guards: Guards) -> None:
    now, waits = 0.0, []
    for _ in range(9):
        guards.target_refused(now)
        began = now
        while not guards.wants_probe(now):
            now += 1
        waits.append(now - began)
        guards.probed(has_room=True, now=now)
        now += 5
    assert waits == [10, 20, 40, 80, 160, 320, 600, 600, 600]
    now += 301
    guards.target_refused(now)
    assert guards.wants_probe(now + 10)


def test_a_second_refusal_does_not_put_the_probe_off(guards: Guards) -> None:
    guards.target_refused(0)
    guards.target_refused(9)
    assert guards.wants_probe(10)


# error rate


def test_few_failures_are_no_rate(guards: Guards) -> None:
    for _ in range(LEAST_FAILURES - 1):
        guards.failed(0)
    assert guards.reasons(0) == frozenset()
    guards.failed(1)
    assert guards.reasons(1) == {ERRORS}


def test_a_rate_at_its_limit_does_not_pause_and_one_above_does(guards: Guards) -> None:
    for _ in range(6):
        guards.applied()
        guards.failed(0)
    assert guards.reasons(0) == frozenset()
    guards.failed(0)
    assert guards.reasons(0) == {ERRORS}


def test_batches_of_long_ago_do_not_count_either(guards: Guards) -> None:
    for _ in range(1000):
        guards.applied()
    guards.reasons(1)
    for _ in range(LEAST_FAILURES):
        guards.failed(WINDOW_SECONDS + 2)
    assert guards.reasons(WINDOW_SECONDS + 2) == {ERRORS}


def test_failures_of_long_ago_do_not_count(guards: Guards) -> None:
    for _ in range(LEAST_FAILURES - 1):
        guards.failed(0)
    guards.failed(WINDOW_SECONDS + 1)
    assert guards.reasons(WINDOW_SECONDS + 1) == frozenset()


def test_it_tries_again_by_itself_and_more_rarely_when_that_was_too_early(guards: Guards) -> None:
    for _ in range(LEAST_FAILURES):
        guards.failed(0)
    assert guards.reasons(9.9) == {ERRORS}
    assert guards.reasons(10) == frozenset()
    for _ in range(LEAST_FAILURES):
        guards.failed(12)
    assert guards.reasons(31.9) == {ERRORS}
    assert guards.reasons(32) == frozenset()


def test_failures_while_it_is_paused_do_not_put_the_try_off(guards: Guards) -> None:
    for second in range(10):
        guards.failed(second / 10)
    assert guards.reasons(10.4) == frozenset()


# operators and leaders


def test_resume_forgets_every_reason_until_it_shows_again(guards: Guards) -> None:
    guards.own_disk(0)
    guards.target_used(1000)
    guards.target_refused(0)
    for _ in range(LEAST_FAILURES):
        guards.failed(0)
    assert guards.reasons(0) == {FULL, OWN, ERRORS}
    guards.resumed()
    assert guards.reasons(0) == frozenset()
    guards.own_disk(0)
    assert guards.reasons(0) == {OWN}


def test_what_a_leader_before_paused_for_is_tried_soon(guards: Guards) -> None:
    guards.take_over(FULL, 50)
    assert guards.reasons(50) == {FULL}
    assert guards.wants_probe(50)
    guards.probed(has_room=True, now=50)
    guards.take_over(ERRORS, 50)
    assert guards.reasons(59) == {ERRORS}
    assert guards.reasons(60) == frozenset()
    guards.take_over(OWN, 60)  # of another host's disk
    guards.take_over(PauseReason.OPERATOR, 60)
    assert guards.reasons(60) == frozenset()


# WAL


def looked(guards: Guards, retained: int, times: int) -> Retention:
    for _ in range(times):
        guards.slot(retained)
    return guards.retention


def test_one_odd_look_is_none(guards: Guards) -> None:
    assert looked(guards, 9 * GIB, LOOKS - 1) is Retention.FINE
    assert looked(guards, GIB, 1) is Retention.FINE
    assert looked(guards, 9 * GIB, LOOKS - 1) is Retention.FINE
    assert looked(guards, 9 * GIB, 1) is Retention.HARD


def test_the_soft_limit_comes_before_the_hard_one(guards: Guards) -> None:
    assert looked(guards, 2 * GIB, LOOKS) is Retention.FINE
    assert looked(guards, 2 * GIB + 1, LOOKS) is Retention.SOFT
    assert looked(guards, 5 * GIB, LOOKS) is Retention.SOFT
    assert looked(guards, 5 * GIB + 1, LOOKS) is Retention.HARD
    assert looked(guards, GIB, 1) is Retention.FINE


@pytest.mark.parametrize("gives_up", [True, False])
def test_the_slot_is_given_up_only_where_that_is_asked_for(gives_up: bool) -> None:
    guards = Guards(replace(LIMITS, gives_up_slot=gives_up))
    looked(guards, 3 * GIB, 10 * LOOKS)
    assert not guards.gives_up_slot
    looked(guards, 6 * GIB, LOOKS - 1)
    assert not guards.gives_up_slot
    looked(guards, 6 * GIB, 1)
    assert guards.gives_up_slot is gives_up


def test_without_limits_no_amount_of_WAL_is_too_much() -> None:
    guards = Guards(Limits(gives_up_slot=True))
    assert looked(guards, 10**15, 100) is Retention.FINE
    assert not guards.gives_up_slot
