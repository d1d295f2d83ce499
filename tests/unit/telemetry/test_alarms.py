from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from crossfade.catalog import TableName
from crossfade.events import (
    Acknowledged,
    DiskMeasured,
    Event,
    LagMeasured,
    LeaderChanged,
    Operation,
    Paused,
    PauseReason,
    Phase,
    PhaseChanged,
    PipeLevel,
    Recovered,
)
from crossfade.lsn import Lsn
from crossfade.runtime.limits import thresholds
from crossfade.settings import Alerts
from crossfade.telemetry.alarms import Alarms
from tests.unit.telemetry.facts import USERS, applied, copied, failed, received, sampled

MIB = 1024**2


@dataclass
class Scene:
    """A leader that streams, seconds passing, and what stands at each moment."""

    now: float = 0.0
    alarms: Alarms = field(default_factory=lambda: Alarms(thresholds(Alerts()), started=0.0))

    def tell(self, *events: Event) -> None:
        for event in events:
            self.alarms.observe(event, self.now)

    def wait(self, seconds: float, *each_second: Event) -> None:
        for _ in range(int(seconds)):
            self.now += 1
            self.tell(*each_second)
            self.alarms.tick(self.now)

    def standing(self) -> dict[str, str]:
        self.alarms.tick(self.now)
        return {each.name: each.level for each in self.alarms.raised}


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    scene.tell(LeaderChanged(True), PhaseChanged(Phase.STREAMING), LagMeasured(0.0, 0))
    return scene


def moving(position: int = 1000) -> Event:
    return applied(position, changes={(USERS, Operation.INSERT): 500})


def test_a_stream_that_keeps_up_raises_nothing_for_a_day(scene: Scene) -> None:
    for hour in range(25):
        for minute in range(60):
            scene.tell(received(1), applied(hour * 60 + minute, changes={(USERS, Operation.INSERT): 6000}))
            scene.now += 59
            scene.wait(1, LagMeasured(0.2, 100), PipeLevel(1, 10, 100), sampled())
    assert scene.standing() == {}


def test_an_idle_stream_is_not_a_stalled_one(scene: Scene) -> None:
    scene.wait(2400, LagMeasured(0.0, 0), received(1))
    assert scene.standing() == {}


def test_the_lag_is_told_after_five_minutes_and_worse_past_the_second_threshold(scene: Scene) -> None:
    scene.wait(299, LagMeasured(61.0, 10), moving(1), received(1))
    assert "lag_high" not in scene.standing()
    scene.wait(2, LagMeasured(61.0, 10), received(1))
    assert scene.standing()["lag_high"] == "warning"
    scene.wait(301, LagMeasured(901.0, 10), received(1))
    assert scene.standing()["lag_high"] == "error"
    scene.wait(1, LagMeasured(1.0, 10), received(1))
    assert "lag_high" not in scene.standing()


def test_a_lag_at_its_threshold_or_on_its_way_out_is_none(scene: Scene) -> None:
    scene.wait(600, LagMeasured(60.0, 10), received(1))
    assert "lag_high" not in scene.standing()
    for second in range(900):
        scene.wait(1, LagMeasured(5000.0 - 2 * second, 10), received(1))
    assert "lag_high" not in scene.standing()


def test_a_break_begins_the_time_anew(scene: Scene) -> None:
    for _ in range(3):
        scene.wait(290, LagMeasured(100.0, 10), received(1))
        scene.wait(1, LagMeasured(1.0, 10), received(1))
    assert "lag_high" not in scene.standing()


def test_a_growing_lag(scene: Scene) -> None:
    for second in range(700):
        scene.wait(1, LagMeasured(0.5 * second, 10), received(1))
    assert scene.standing()["lag_growing"] == "warning"
    scene.wait(600, LagMeasured(350.0, 10), received(1))
    assert "lag_growing" not in scene.standing()


def test_stalled_is_progress_missing_while_the_log_moves(scene: Scene) -> None:
    scene.tell(moving(1000))
    scene.wait(599, LagMeasured(20.0, 17 * MIB), received(1))
    assert "stalled" not in scene.standing()
    scene.wait(2, LagMeasured(20.0, 17 * MIB), received(1))
    assert scene.standing()["stalled"] == "error"
    scene.tell(Acknowledged(Lsn(2000)))
    assert "stalled" not in scene.standing()


def test_a_pause_is_no_stall(scene: Scene) -> None:
    scene.tell(Paused(PauseReason.OPERATOR))
    scene.wait(1200, LagMeasured(40.0, 99 * MIB))
    assert scene.standing() == {}


def test_migration_stalled_below_its_rate_while_there_is_lag(scene: Scene) -> None:
    scene.wait(600, LagMeasured(31.0, 10), applied(1, changes={(USERS, Operation.INSERT): 101}), received(1))
    assert "migration_stalled" not in scene.standing()
    scene.wait(600, LagMeasured(31.0, 10), applied(1, changes={(USERS, Operation.INSERT): 98}), received(1))
    assert scene.standing()["migration_stalled"] == "warning"
    scene.wait(1, LagMeasured(29.0, 10), received(1))
    assert "migration_stalled" not in scene.standing()


def test_silence_of_the_source_is_told_apart_from_lag(scene: Scene) -> None:
    scene.tell(received(1))
    scene.wait(179, LagMeasured(0.0, 0))
    assert scene.standing() == {}
    scene.wait(3, LagMeasured(0.0, 0))
    assert scene.standing() == {"heartbeat_missing": "warning"}
    scene.tell(PipeLevel(1, 100, 100))  # while the pipe is full we do not listen
    assert scene.standing() == {}


def test_waiting_after_an_error_is_told_after_two_minutes_with_what_it_is(scene: Scene) -> None:
    scene.tell(failed("target", sqlstate=""))
    scene.wait(119)
    assert scene.standing() == {}
    scene.tell(failed("target", sqlstate=""))
    scene.wait(2)
    assert scene.standing() == {"not_working": "error"}
    assert "public.users: A unique key was violated." in scene.alarms.raised[0].text
    scene.tell(Recovered())
    assert scene.standing() == {}


def test_a_guard_s_pause_is_no_second_alert_of_its_error(scene: Scene) -> None:
    scene.tell(failed("apply", sqlstate="53100"), Paused(PauseReason.TARGET_FULL))
    scene.wait(600, received(1))
    assert scene.standing() == {"paused": "error"}


def test_phase_failed_is_told_at_once(scene: Scene) -> None:
    scene.tell(PhaseChanged(Phase.FAILED), failed())
    assert scene.standing() == {"high_error_rate": "error"}
    for _ in range(5):  # each attempt to go on leaves the phase for a moment, and nobody is told that it is over
        scene.tell(PhaseChanged(Phase.CATCHUP))
        scene.wait(1)
        assert scene.standing() == {"high_error_rate": "error"}
        scene.tell(PhaseChanged(Phase.FAILED), failed())
        scene.wait(60)
        assert scene.standing() == {"high_error_rate": "error"}
    scene.tell(PhaseChanged(Phase.CATCHUP))
    scene.wait(119)
    assert scene.standing() == {"high_error_rate": "error"}
    scene.tell(Recovered())
    scene.wait(301, received(1))
    assert scene.standing() == {}


def test_more_than_one_failed_batch_in_a_hundred(scene: Scene) -> None:
    scene.wait(700, moving(1), received(1))
    for _ in range(12):
        scene.tell(failed("apply", sqlstate="40P01"), Recovered())
        scene.wait(60, moving(1), received(1))
    assert scene.standing() == {"high_error_rate": "error"}
    scene.wait(301, moving(1), received(1))
    assert scene.standing() == {}


@pytest.mark.parametrize("sqlstate", ["", "08006", "28P01", "55006", "57P01"])
def test_a_server_that_is_away_is_no_failed_batch(scene: Scene, sqlstate: str) -> None:
    for _ in range(12):
        scene.tell(failed("stream", sqlstate=sqlstate), Recovered())
        scene.wait(60, received(1))
    assert scene.standing() == {}


def test_the_slot_inactive_and_soon_lost(scene: Scene) -> None:
    scene.wait(121, sampled(slot_active=False), received(1))
    assert scene.standing() == {"slot_inactive": "warning"}
    scene.wait(500, sampled(slot_active=False), received(1))
    assert scene.standing() == {"slot_inactive": "error"}
    for second in range(900):
        room = 900 * MIB - second * MIB // 2
        scene.wait(1, sampled(safe_wal_size=room, wal_keep_limit=900 * MIB), received(1))
    assert scene.standing() == {"slot_will_be_lost": "error"}
    scene.wait(1, sampled(safe_wal_size=None), received(1))
    assert scene.standing() == {}


def test_an_operator_s_pause_after_an_hour_and_a_guard_s_at_once(scene: Scene) -> None:
    scene.tell(Paused(PauseReason.OPERATOR))
    scene.wait(3599)
    assert scene.standing() == {}
    scene.wait(3)
    assert scene.standing() == {"paused": "warning"}
    scene.tell(Paused(PauseReason.TARGET_FULL))
    assert scene.standing() == {"paused": "error"}
    scene.tell(Paused(None))
    assert scene.standing() == {}


def test_a_disk_below_its_share_is_named(scene: Scene) -> None:
    scene.tell(DiskMeasured("target", 20, 100), DiskMeasured("own", 19, 100))
    scene.wait(61, received(1))
    assert scene.standing() == {"disk_space_low": "error"}
    assert "host" in scene.alarms.raised[0].text
    assert "target" not in scene.alarms.raised[0].text
    scene.tell(DiskMeasured("own", None, None))
    assert scene.standing() == {}


def test_a_long_transaction_on_the_source(scene: Scene) -> None:
    scene.wait(120, sampled(oldest_transaction=3600.0), received(1))
    assert scene.standing() == {}
    scene.wait(62, sampled(oldest_transaction=3601.0), received(1))
    assert scene.standing() == {"long_transaction": "warning"}


def test_conflicts_queue_and_copy(scene: Scene) -> None:
    scene.tell(applied(1, conflicts={(USERS, "missing_row"): 10}))
    assert scene.standing() == {}
    scene.tell(applied(2, conflicts={(TableName("app", "x"), "orphan_id"): 1}))
    assert scene.standing() == {"conflicts_high": "warning"}
    scene.wait(902, PipeLevel(1, 91, 100), received(1))
    assert scene.standing() == {"queue_full": "warning"}
    scene.tell(PipeLevel(1, 90, 100), PhaseChanged(Phase.COPY), copied("running", 1))
    assert scene.standing() == {}
    scene.wait(1199)
    assert scene.standing() == {}
    scene.wait(3)
    assert scene.standing() == {"copy_stuck": "warning"}
    scene.tell(copied("running", 2))
    assert scene.standing() == {}


def test_performance_is_compared_with_the_day_before_and_not_on_the_first(scene: Scene) -> None:
    def minutes(count: int, seconds: float) -> None:
        for _ in range(count):
            for _ in range(6):
                scene.now += 10
                scene.tell(received(1), paced(seconds))
            scene.alarms.tick(scene.now)

    minutes(12 * 60, 0.1)
    minutes(20, 0.3)
    assert scene.standing() == {}  # there is no day to compare with
    minutes(12 * 60, 0.1)
    minutes(15, 0.14)
    assert scene.standing() == {}
    minutes(18, 0.2)
    assert scene.standing() == {"performance_degradation": "warning"}
    minutes(13, 0.1)
    assert scene.standing() == {}


def paced(seconds: float) -> Event:
    """A batch of a thousand changes that took so long."""
    return replace(applied(1, changes={(USERS, Operation.INSERT): 1000}), seconds=seconds)


def test_who_stands_by_raises_nothing_about_a_stream_that_is_not_his(scene: Scene) -> None:
    scene.tell(PhaseChanged(Phase.FAILED), failed(), sampled(slot_active=False), LagMeasured(9999.0, 99 * MIB))
    scene.tell(LeaderChanged(False, tries_again=True))
    assert scene.standing() == {"high_error_rate": "error"}  # nobody else is known to lead
    scene.tell(LeaderChanged(False))
    scene.wait(3600)
    assert scene.standing() == {}


def test_other_thresholds_count_from_the_next_second_on(scene: Scene) -> None:
    scene.wait(301, LagMeasured(20.0, 10), received(1))
    assert scene.standing() == {}
    scene.alarms.thresholds = thresholds(Alerts.model_validate({"lag_warning": "10s"}))
    scene.wait(301, LagMeasured(20.0, 10), received(1))
    assert scene.standing() == {"lag_high": "warning"}
