"""Alerts judged by the daemon itself, for `crossfade status`, the page and the hooks: no Prometheus is needed.

The rules are those of deploy/prometheus/alerts.yml, with the same names, times and thresholds, as far as one daemon can
judge itself; what the slot alone says is `advice`'s. Refuses to tell anybody. The invariants: an alert is raised only
when its condition held without a break for its time, its text names no row, and who stands by raises none about a
stream that is not his.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from crossfade.events import Event, PauseReason, Phase
from crossfade.telemetry.amounts import duration, size
from crossfade.telemetry.facts import Facts
from crossfade.telemetry.thresholds import Thresholds

WARNING: Final = "warning"
ERROR: Final = "error"
_STILL: Final = 300.0  # as long as nothing moved
_TRYING: Final = 120.0  # an attempt to get out of phase failed is given so long to show that it worked

Judge = Callable[[Facts, Thresholds, float], str | None]


@dataclass(frozen=True, slots=True)
class Alarm:
    """`judge` says what is wrong, or None; it is an alert after `hold` seconds. Two of one name are two levels."""

    name: str
    level: str
    hold: float
    judge: Judge


@dataclass(frozen=True, slots=True)
class Raised:
    """`since` is when the condition began to hold (monotonic seconds)."""

    name: str
    level: str
    text: str
    since: float


class Alarms:
    """Events and ticks in, what is raised out. `thresholds` may be exchanged at any time."""

    def __init__(self, thresholds: Thresholds, *, started: float) -> None:
        self.thresholds = thresholds
        self._facts = Facts(started)
        self._since: dict[Alarm, float] = {}
        self._raised: tuple[Raised, ...] = ()

    def observe(self, event: Event, now: float) -> None:
        self._facts.observe(event, now)

    def tick(self, now: float) -> None:
        """Judge; once a second."""
        self._facts.tick(now, least_rate=self.thresholds.performance_least_changes_per_second)
        held: dict[Alarm, float] = {}
        raised: dict[str, Raised] = {}
        for alarm in ALARMS:  # of one name the worse comes later
            text = alarm.judge(self._facts, self.thresholds, now)
            if text is None:
                continue
            since = held[alarm] = self._since.get(alarm, now)
            if now - since >= alarm.hold:
                raised[alarm.name] = Raised(alarm.name, alarm.level, text, since)
        self._since = held
        self._raised = tuple(raised.values())

    @property
    def raised(self) -> tuple[Raised, ...]:
        """What stands, as of the last tick."""
        return self._raised


def _not_working(facts: Facts, _: Thresholds, now: float) -> str | None:
    if facts.failing_since is None or facts.stands_by or facts.paused in _GUARDED or _is_failed(facts, now):
        return None
    return (
        f"Waiting after an error for {duration(now - facts.failing_since)}, and no attempt to go on worked. The slot"
        f" keeps WAL meanwhile. {facts.error}"
    )


def _is_failed(facts: Facts, now: float) -> bool:
    """In phase failed, or trying to get out of it."""
    return facts.phase is Phase.FAILED or (facts.failed_at is not None and now - facts.failed_at < _TRYING)


def _phase_failed(facts: Facts, _: Thresholds, now: float) -> str | None:
    if not _is_failed(facts, now) or facts.stands_by:
        return None
    return (
        "Phase failed: a person must act. Everything before what is refused is on the target, nothing after it."
        f" {facts.error}"
    )


def _error_rate(facts: Facts, limits: Thresholds, now: float) -> str | None:
    failed, applied = facts.tried.sums(now)
    if failed == 0 or failed / (failed + applied) <= limits.error_ratio:
        return None
    return (
        f"{failed / (failed + applied):.0%} of the batches of five minutes failed and were tried again; nothing is"
        " lost. Something on the target is in the way: look for deadlocks, timeouts, memory."
    )


def _lag_above(limit: Callable[[Thresholds], float]) -> Judge:
    def judge(facts: Facts, limits: Thresholds, now: float) -> str | None:
        lag = facts.lag
        if not facts.follows or lag is None or lag <= limit(limits):
            return None
        slope = facts.lags.slope(over=600, now=now)
        if slope is not None and -slope > limits.lag_shrinking_rate:
            return None
        return f"The target is {duration(lag)} behind the source, and that does not get less."

    return judge


def _lag_growing(facts: Facts, limits: Thresholds, now: float) -> str | None:
    slope = facts.lags.slope(over=900, now=now)
    if not facts.follows or facts.lag is None or slope is None:
        return None
    if facts.lag <= limits.lag_growing_seconds or slope <= limits.lag_growing_rate:
        return None
    return f"The lag is {duration(facts.lag)} and grows by {slope:.1f} s each second: the source is faster than we are."


def _stalled(facts: Facts, limits: Thresholds, now: float) -> str | None:
    behind = facts.lag_bytes
    if not facts.follows or facts.paused is not None or behind is None or behind <= limits.stalled_lag_bytes:
        return None
    if now - facts.moved_at < _STILL:
        return None
    return (
        f"Nothing became durable for {duration(now - facts.moved_at)} while the source is {size(behind)} ahead: a lock"
        " on the target, one huge transaction, or a dead line."
    )


def _migration_stalled(facts: Facts, limits: Thresholds, now: float) -> str | None:
    rate = facts.changes.sums(now)[0] / 120
    if not facts.follows or facts.paused is not None or facts.lag is None:
        return None
    if facts.lag <= limits.migration_stalled_lag_seconds or rate >= limits.migration_stalled_changes_per_second:
        return None
    return f"{rate:.0f} changes a second become durable, although the target is {duration(facts.lag)} behind."


def _heartbeat_missing(facts: Facts, limits: Thresholds, now: float) -> str | None:
    if not facts.follows or facts.paused is not None or facts.stands_by or facts.failing_since is not None:
        return None
    full = facts.queue is not None and facts.queue.bytes >= facts.queue.limit_bytes
    if full or now - facts.heard_at <= limits.heartbeat_missing_seconds:
        return None
    return f"The source has sent nothing on the stream for {duration(now - facts.heard_at)}, not even a keepalive."


def _slot_inactive(facts: Facts, _: Thresholds, __: float) -> str | None:
    slot = facts.slot
    if slot is None or not facts.follows or slot.slot_active or not slot.slot_exists:
        return None
    return "Nobody streams from our slot: WAL is kept on the source and nothing is read."


def _slot_will_be_lost(facts: Facts, limits: Thresholds, now: float) -> str | None:
    slope = facts.safe.slope(over=1800, now=now)
    slot = facts.slot
    if slot is None or slot.safe_wal_size is None or slope is None or slope >= 0:
        return None
    left = slot.safe_wal_size / -slope
    if left >= limits.slot_lost_within_seconds:
        return None
    return (
        f"As WAL grows on the source now, max_slot_wal_keep_size is reached in {duration(max(0.0, left))}; then WAL"
        " that is needed is removed, and everything must be copied again."
    )


def _paused_by_operator(facts: Facts, _: Thresholds, __: float) -> str | None:
    if facts.paused is not PauseReason.OPERATOR:
        return None
    return "Paused by an operator; the slot keeps WAL meanwhile. Go on with `crossfade resume`."


def _paused_by_guard(facts: Facts, _: Thresholds, __: float) -> str | None:
    return _GUARDED.get(facts.paused) if facts.paused is not None else None


_GUARDED: Final = {
    PauseReason.TARGET_FULL: "Paused by a guard: the target's disk is full. It goes on by itself once there is room.",
    PauseReason.OWN_DISK: "Paused by a guard: this host's disk is nearly full. It goes on by itself after that.",
    PauseReason.ERROR_RATE: "Paused by a guard: too many batches fail. It tries again by itself, more and more rarely.",
}


def _disk_space_low(facts: Facts, limits: Thresholds, _: float) -> str | None:
    low = [
        f"{_DISKS.get(disk.endpoint, disk.endpoint)} has {disk.free / disk.capacity:.0%} ({size(disk.free)}) free"
        for disk in facts.disks.values()
        if disk.free is not None and disk.capacity and disk.free / disk.capacity < limits.disk_free_ratio
    ]
    return f"{'; '.join(low)}. Make room." if low else None


_DISKS: Final = {
    "own": "The disk of the host crossfade runs on",
    "source": "The source's disk, by source.disk_capacity,",
    "target": "The target's disk, by target.disk_capacity,",
}


def _long_transaction(facts: Facts, limits: Thresholds, _: float) -> str | None:
    age = facts.slot.oldest_transaction if facts.slot is not None else None
    if age is None or age <= limits.long_transaction_seconds:
        return None
    return (
        f"A writing transaction has been open on the source for {duration(age)}: until it ends, the slot keeps all"
        " WAL since it began, and a slot cannot be made."
    )


def _conflicts_high(facts: Facts, limits: Thresholds, now: float) -> str | None:
    (conflicts,) = facts.conflicts.sums(now)
    if conflicts <= limits.conflicts_in_10_minutes:
        return None
    return f"{conflicts:.0f} conflicts in ten minutes: the target does not hold what the source's changes expect."


def _queue_full(facts: Facts, limits: Thresholds, _: float) -> str | None:
    queue = facts.queue
    if queue is None or facts.phase is not Phase.STREAMING or facts.paused is not None:
        return None
    if queue.bytes <= limits.queue_full_ratio * queue.limit_bytes:
        return None
    return "What was read and is not applied yet fills stream.pipe_bytes all the time: the target is the bottleneck."


def _performance_degradation(facts: Facts, limits: Thresholds, now: float) -> str | None:
    late, usual = facts.pace.late, facts.pace.usual(now)
    if late is None or usual is None or late <= limits.performance_factor * usual:
        return None
    return f"1,000 changes take {late:.2f} s to apply; over the last day it was {usual:.2f} s."


def _copy_stuck(facts: Facts, _: Thresholds, now: float) -> str | None:
    if facts.phase not in (Phase.SETUP, Phase.COPY) or facts.paused is not None or not facts.has_led:
        return None
    if now - facts.copied_at < _STILL:
        return None
    return f"No row was copied for {duration(now - facts.copied_at)}."


ALARMS: Final[tuple[Alarm, ...]] = (
    Alarm("not_working", ERROR, 120, _not_working),
    Alarm("high_error_rate", ERROR, 300, _error_rate),
    Alarm("high_error_rate", ERROR, 0, _phase_failed),
    Alarm("lag_growing", WARNING, 300, _lag_growing),
    Alarm("lag_high", WARNING, 300, _lag_above(lambda limits: limits.lag_warning_seconds)),
    Alarm("lag_high", ERROR, 300, _lag_above(lambda limits: limits.lag_critical_seconds)),
    Alarm("stalled", ERROR, 300, _stalled),
    Alarm("migration_stalled", WARNING, 300, _migration_stalled),
    Alarm("heartbeat_missing", WARNING, 60, _heartbeat_missing),
    Alarm("slot_inactive", WARNING, 120, _slot_inactive),
    Alarm("slot_inactive", ERROR, 600, _slot_inactive),
    Alarm("slot_will_be_lost", ERROR, 600, _slot_will_be_lost),
    Alarm("paused", WARNING, 3600, _paused_by_operator),
    Alarm("paused", ERROR, 0, _paused_by_guard),
    Alarm("disk_space_low", ERROR, 60, _disk_space_low),
    Alarm("long_transaction", WARNING, 60, _long_transaction),
    Alarm("conflicts_high", WARNING, 0, _conflicts_high),
    Alarm("queue_full", WARNING, 900, _queue_full),
    Alarm("performance_degradation", WARNING, 300, _performance_degradation),
    Alarm("copy_stuck", WARNING, 900, _copy_stuck),
)
