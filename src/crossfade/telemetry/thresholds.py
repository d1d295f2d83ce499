"""From where on something is an alert: the numbers of `[alerts]`, by the names that alerts.yml has for them.

Refuses to have values of its own: they are the settings', once. The invariant: a name here is a threshold there.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Seconds, bytes, ratios and rates per second, as the names say."""

    lag_warning_seconds: float
    lag_critical_seconds: float
    lag_shrinking_rate: float
    lag_growing_rate: float
    lag_growing_seconds: float
    stalled_lag_bytes: float
    migration_stalled_changes_per_second: float
    migration_stalled_lag_seconds: float
    heartbeat_missing_seconds: float
    error_ratio: float
    conflicts_in_10_minutes: float
    slot_retention_warning_ratio: float
    slot_retention_critical_ratio: float
    slot_retained_unlimited_bytes: float
    slot_lost_within_seconds: float
    long_transaction_seconds: float
    disk_free_ratio: float
    queue_full_ratio: float
    performance_factor: float
    performance_least_changes_per_second: float
