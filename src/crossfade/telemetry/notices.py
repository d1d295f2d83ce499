"""What is told of alerts to those outside: who has to hear what, and in which words.

Refuses to send anything. The invariants: a notice holds names, sentences and times of ours, no row value and no secret;
and whoever was told that an alert stands is told when it is over.

Alertmanager: the API v2, POST /api/v2/alerts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from crossfade.telemetry.document import AlertEntry

SCHEMA_VERSION: Final = 1
FIRING: Final = "firing"
RESOLVED: Final = "resolved"
SEVERITIES: Final[Mapping[str, str]] = {"error": "critical", "warning": "warning"}

# Alertmanager takes an alert for over when it hears nothing for so long: we say it again before.
REPEAT_SECONDS: Final = 60.0
KEPT_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell. `since` and `at` are ISO 8601 in UTC; `told_at` is monotonic seconds, for its age."""

    status: str
    alert: AlertEntry
    at: str
    told_at: float


class Changes:
    """Remembers what was told, and finds what is new, worse or better, and over."""

    def __init__(self) -> None:
        self._told: dict[str, AlertEntry] = {}

    def of(self, standing: Iterable[AlertEntry], *, at: str, now: float) -> list[Notice]:
        """Notices for the difference to what was told last, resolved ones first."""
        found = {alert["name"]: alert for alert in standing}
        over = [Notice(RESOLVED, alert, at, now) for name, alert in self._told.items() if name not in found]
        news = [
            Notice(FIRING, alert, at, now)
            for name, alert in found.items()
            if name not in self._told or self._told[name]["level"] != alert["level"]
        ]
        self._told = found
        return over + news

    @property
    def standing(self) -> list[AlertEntry]:
        """What was told and is not over."""
        return list(self._told.values())


def plain(notice: Notice, *, workflow: str, host: str) -> dict[str, object]:
    """The generic form, of the webhook and of the command's standard input."""
    alert = notice.alert
    return {
        "schema_version": SCHEMA_VERSION,
        "status": notice.status,
        "workflow": workflow,
        "alert": alert["name"],
        "level": alert["level"],
        "text": alert["text"],
        "since": alert["since"],
        "at": notice.at,
        "host": host,
        "runbook": runbook(alert["name"]),
    }


def variables(notice: Notice, *, workflow: str) -> dict[str, str]:
    """The same for a command's environment."""
    return {
        "CROSSFADE_WORKFLOW": workflow,
        "CROSSFADE_ALERT": notice.alert["name"],
        "CROSSFADE_ALERT_STATUS": notice.status,
        "CROSSFADE_ALERT_LEVEL": notice.alert["level"],
        "CROSSFADE_ALERT_TEXT": notice.alert["text"],
        "CROSSFADE_ALERT_SINCE": notice.alert["since"],
    }


def alertmanager(alert: AlertEntry, *, workflow: str, host: str, ends_at: str) -> dict[str, object]:
    """One alert of the API's list. The labels are those of deploy/prometheus/alerts.yml, so that the same routes take
    it, and they stay the same from the first to the last word: the text, which changes, is none of them."""
    return {
        "labels": {
            "alertname": prometheus_name(alert["name"]),
            "workflow": workflow,
            "severity": SEVERITIES.get(alert["level"], "warning"),
            "origin": "daemon",
        },
        "annotations": {
            "summary": f"Crossfade {workflow}: {alert['name'].replace('_', ' ')}",
            "description": alert["text"],
            "runbook_url": runbook(alert["name"]),
            "host": host,
        },
        "startsAt": alert["since"],
        "endsAt": ends_at,
    }


# Alerts of the status alone, and the page that helps; those that are not here have none but the list of messages.
_HELPED_BY: Final[Mapping[str, str]] = {
    "slot_at_risk": "slot_will_be_lost",
    "slot_waits": "long_transaction",
    "wal_soft_limit": "slot_retention",
    "wal_hard_limit": "slot_retention",
    "apply_blocked": "stalled",
    "source_unreachable": "not_working",
    "target_unreachable": "not_working",
}
WITHOUT_PAGE: Final = frozenset({"append_only_changed", "copy_yields"})


def runbook(name: str) -> str:
    """Where to read on, in this repository."""
    if name in WITHOUT_PAGE:
        return "docs/operations.md#what-the-messages-mean"
    return f"docs/runbooks/{prometheus_name(_HELPED_BY.get(name, name))}.md"


def prometheus_name(name: str) -> str:
    """CrossfadeLagHigh of lag_high."""
    return "Crossfade" + "".join(word.capitalize() for word in name.split("_"))
