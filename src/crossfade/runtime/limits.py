"""The settings of guards and alerts as the plain numbers that those who decide take.

Refuses to know what they are for. The invariant: a number stands in the settings, once.
"""

from __future__ import annotations

from crossfade.settings import Alerts, Hooks, Settings
from crossfade.telemetry.guards import Limits
from crossfade.telemetry.hooks import Destinations
from crossfade.telemetry.thresholds import Thresholds


def limits(settings: Settings) -> Limits:
    """For the guards."""
    guards = settings.guards
    return Limits(
        own_disk_reserve=guards.own_disk_reserve,
        target_capacity=settings.target.disk_capacity,
        error_ratio=guards.error_ratio,
        probe_interval=guards.probe_interval.total_seconds(),
        wal_soft=guards.wal_soft_limit,
        wal_hard=guards.wal_hard_limit,
        gives_up_slot=guards.on_wal_hard_limit == "give_up_slot",
    )


def thresholds(alerts: Alerts) -> Thresholds:
    """For the alarms, by the names of deploy/prometheus/alerts.yml."""
    return Thresholds(
        lag_warning_seconds=alerts.lag_warning.total_seconds(),
        lag_critical_seconds=alerts.lag_critical.total_seconds(),
        lag_shrinking_rate=alerts.lag_shrinking_rate,
        lag_growing_rate=alerts.lag_growing_rate,
        lag_growing_seconds=alerts.lag_growing.total_seconds(),
        stalled_lag_bytes=alerts.stalled_lag,
        migration_stalled_changes_per_second=alerts.migration_stalled_rate,
        migration_stalled_lag_seconds=alerts.migration_stalled_lag.total_seconds(),
        heartbeat_missing_seconds=alerts.heartbeat_missing.total_seconds(),
        error_ratio=alerts.error_ratio,
        conflicts_in_10_minutes=alerts.conflicts,
        slot_retention_warning_ratio=alerts.slot_retention_warning,
        slot_retention_critical_ratio=alerts.slot_retention_critical,
        slot_retained_unlimited_bytes=alerts.slot_retained_unlimited,
        slot_lost_within_seconds=alerts.slot_lost_within.total_seconds(),
        long_transaction_seconds=alerts.long_transaction.total_seconds(),
        disk_free_ratio=alerts.disk_free_ratio,
        queue_full_ratio=alerts.queue_full_ratio,
        performance_factor=alerts.performance_factor,
        performance_least_changes_per_second=alerts.performance_least_rate,
    )


def destinations(hooks: Hooks) -> Destinations:
    """For the hooks, secrets taken out of their wrapping."""
    return Destinations(
        command=hooks.on_alert,
        webhook=hooks.webhook.get_secret_value() if hooks.webhook is not None else "",
        webhook_token=hooks.webhook_token.get_secret_value() if hooks.webhook_token is not None else "",
        alertmanager=hooks.alertmanager.get_secret_value() if hooks.alertmanager is not None else "",
        timeout=hooks.timeout.total_seconds(),
    )
