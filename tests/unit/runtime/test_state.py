from __future__ import annotations

import time

import pytest

from crossfade.runtime.state import WorkflowState


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
