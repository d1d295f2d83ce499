from __future__ import annotations

import re
from pathlib import Path

import orjson

import crossfade
from crossfade.telemetry.alarms import ALARMS
from crossfade.telemetry.document import AlertEntry
from crossfade.telemetry.notices import (
    FIRING,
    RESOLVED,
    Changes,
    Notice,
    alertmanager,
    plain,
    prometheus_name,
    runbook,
    variables,
)

AT = "2026-11-22T22:01:20.000Z"
SINCE = "2026-11-22T22:00:00.000Z"


def alert(name: str, level: str = "warning", text: str = "It is so.") -> AlertEntry:
    return AlertEntry(name=name, level=level, text=text, since=SINCE)


def told(changes: Changes, *standing: AlertEntry) -> list[tuple[str, str, str]]:
    return [
        (notice.status, notice.alert["name"], notice.alert["level"]) for notice in changes.of(standing, at=AT, now=1.0)
    ]


def test_what_is_new_worse_and_over_is_told_once() -> None:
    changes = Changes()
    assert told(changes) == []
    assert told(changes, alert("paused"), alert("lag_high")) == [
        (FIRING, "paused", "warning"),
        (FIRING, "lag_high", "warning"),
    ]
    assert told(changes, alert("paused"), alert("lag_high", text="Another number.")) == []
    assert told(changes, alert("lag_high", "error")) == [(RESOLVED, "paused", "warning"), (FIRING, "lag_high", "error")]
    assert [each["name"] for each in changes.standing] == ["lag_high"]
    assert told(changes) == [(RESOLVED, "lag_high", "error")]
    assert told(changes) == []


def test_the_forms_say_the_same() -> None:
    notice = Notice(FIRING, alert("lag_high", "error"), AT, 0.0)
    said = plain(notice, workflow="shop", host="mover-1")
    assert orjson.dumps(said)
    assert said["schema_version"] == 1
    assert said["runbook"] == "docs/runbooks/CrossfadeLagHigh.md"
    assert variables(notice, workflow="shop") == {
        "CROSSFADE_WORKFLOW": said["workflow"],
        "CROSSFADE_ALERT": said["alert"],
        "CROSSFADE_ALERT_STATUS": said["status"],
        "CROSSFADE_ALERT_LEVEL": said["level"],
        "CROSSFADE_ALERT_TEXT": said["text"],
        "CROSSFADE_ALERT_SINCE": said["since"],
    }


def test_alertmanager_knows_it_again_by_its_labels() -> None:
    entries = [
        alertmanager(alert("lag_high", "error", text), workflow="shop", host="mover-1", ends_at=AT)
        for text in ("60 s behind.", "70 s behind.")
    ]
    assert entries[0]["labels"] == entries[1]["labels"]
    assert entries[0]["annotations"] != entries[1]["annotations"]
    assert (entries[0]["startsAt"], entries[0]["endsAt"]) == (SINCE, AT)


def test_every_alert_leads_to_a_page_that_exists() -> None:
    source = Path(crossfade.__file__).parent
    text = "".join(path.read_text() for path in source.rglob("*.py"))
    notes = {match[1] for match in re.finditer(r'Note\(\s*"(\w+)",(?:(?!Note\().)*?alert=True', text, re.DOTALL)}
    judged = {alarm.name for alarm in ALARMS} | {"slot_retention", "slot_lost", "wal_soft_limit", "wal_hard_limit"}
    assert {"apply_blocked", "slot_at_risk", "slot_waits", "copy_yields", "append_only_changed"} <= notes
    for name in notes | judged | {"source_unreachable", "target_unreachable"}:
        assert (source.parents[1] / runbook(name).partition("#")[0]).is_file(), name


def test_names_are_those_of_the_rules() -> None:
    assert prometheus_name("slot_will_be_lost") == "CrossfadeSlotWillBeLost"
