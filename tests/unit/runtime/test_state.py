from __future__ import annotations

import time

import pytest

from crossfade.events import Event, LagMeasured, Paused, PauseReason
from crossfade.ledger import AckLedger
from crossfade.lsn import Lsn
from crossfade.runtime.state import WorkflowState
from tests.unit.telemetry.facts import sampled


def test_K1_setting_our_clock_does_not_move_the_source_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two looks the source's clock goes on by the one clock that nobody sets."""
    wall, steady = 5_000.0, 70.0
    monkeypatch.setattr(time, "time", lambda: wall)
    monkeypatch.setattr(time, "monotonic", lambda: steady)
    state = WorkflowState(lambda _: None)
    assert state.source_now() == 5_000.0
    state.source_clock(1_000.0)
    wall += 3 * 3600
    steady += 0.5
    assert state.source_now() == 1_000.5


def test_a_source_that_is_away_leaves_no_lag_behind_that_looks_like_none() -> None:
    state, events = told()
    state.sampled(sampled(5000))
    assert events[-1] != LagMeasured(None, None)
    state.unseen()
    assert events[-1] == LagMeasured(None, None)


# pauses

OPERATOR, FULL, OWN = PauseReason.OPERATOR, PauseReason.TARGET_FULL, PauseReason.OWN_DISK


def told() -> tuple[WorkflowState, list[Event]]:
    events: list[Event] = []
    return WorkflowState(events.append), events


def test_a_guard_does_not_end_what_an_operator_began() -> None:
    state, _ = told()
    state.pause(OPERATOR)
    state.guarded({FULL})
    state.guarded(frozenset())
    assert state.paused is OPERATOR
    state.guarded({OPERATOR})  # a guard has no such reason
    state.resume()
    assert not state.is_paused()


def test_an_operator_s_pause_is_told_first_and_ends_with_all_others() -> None:
    state, events = told()
    state.guarded({OWN})
    state.guarded({FULL, OWN})
    state.pause(OPERATOR)
    assert state.pauses == {OPERATOR, FULL, OWN}
    state.resume()
    assert events == [
        Paused(OWN),
        Paused(FULL, frozenset({OWN})),
        Paused(OPERATOR, frozenset({FULL, OWN})),
        Paused(None),
    ]


def test_the_same_again_is_told_once() -> None:
    state, events = told()
    for _ in range(3):
        state.guarded({FULL})
    assert events == [Paused(FULL)]


def test_K1_the_lag_goes_on_growing_between_two_attempts() -> None:
    state, events = told()
    ledger = AckLedger()
    ledger.resume(Lsn(5000))
    state.sampled(sampled(5000, now=100.0, confirmed_flush_lsn=Lsn(2000)), ledger)
    state.sampled(sampled(9000, now=107.0, confirmed_flush_lsn=Lsn(2000)))
    assert [event for event in events if isinstance(event, LagMeasured)] == [
        LagMeasured(0.0, 0),
        LagMeasured(7.0, 4000),
    ]
