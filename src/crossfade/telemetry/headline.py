"""How it stands, in one sentence: the first line of the page and of `crossfade status`.

One function of a finished document, beside `advice`, so that whoever is woken reads the same words everywhere. Refuses
to know what to do about it (`next_steps` says that). The invariants: the worst thing known is the one that is said, and
`ok` is said only where nothing in the document speaks against it.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from crossfade.telemetry.amounts import duration, size
from crossfade.telemetry.document import ErrorEntry, HeadlineEntry, StatusDocument

OK: Final = "ok"  # as it should be
WORKING: Final = "working"  # on its way, nothing to do but wait
WARNING: Final = "warning"  # somebody should look, in working hours
ERROR: Final = "error"  # somebody must act

UNSAID: Final = HeadlineEntry(level=WORKING, text="")  # while a document is put together

# Below this the target follows as it should; above the second somebody should know. The alert rules say it likewise.
_FOLLOWING_SECONDS: Final = 5.0
_LAG_WARNING_SECONDS: Final = 60.0

# What is known to pass by itself and has not by then, will not.
_PASSES_WITHIN: Final = 120.0
_OF_LAG: Final = frozenset({"lag_high", "lag_growing", "stalled", "migration_stalled"})
_SENTENCE_END: Final = re.compile(r"(?<=[.!?]) (?=[A-Z])")

_PAUSED: Final = {
    "operator": "Paused by an operator",
    "target_full": "Paused because the target's disk is full",
    "own_disk": "Paused because the disk of this host is full",
    "error_rate": "Paused because too many changes fail",
}


_BY_GUARDS: Final = _PAUSED.keys() - {"operator"}


def headline(document: StatusDocument) -> HeadlineEntry:
    """The sentence, and how bad it is."""
    level, text = _said(document)
    return HeadlineEntry(level=level, text=text)


def _said(document: StatusDocument) -> tuple[str, str]:
    slot, error = document["slot"], document["error"]
    lost = next((alert for alert in document["alerts"] if alert["name"] == "slot_lost"), None)
    if lost is not None:
        return ERROR, f"Changes are lost, and this copy cannot be continued: {_uncapitalised(lost['text'])}"
    if document["daemon"] is None:
        away = [alert for alert in document["alerts"] if alert["name"].endswith("_unreachable")]
        if away:
            sides = " and ".join(sorted(alert["name"].removesuffix("_unreachable") for alert in away))
            return ERROR, f"No daemon answers here, nor do all databases (not: {sides}); what is shown is incomplete."
        if not document["leader"]:
            return _without_daemon(document)
    elif not document["leader"] and error is None:
        return WORKING, "Not leading: a standby that takes over when the leader is gone, or a daemon that just starts."
    # A guard's pause is what became of the error, and says what it takes; nothing is tried meanwhile.
    if error is not None and not (error["is_transient"] and document["paused"] in _BY_GUARDS):
        return _failing(error, at=document["at"])
    if document["phase"] == "failed":
        return ERROR, "Failed, somebody must act; the daemon's log says why."
    urgent = [alert for alert in document["alerts"] if alert["level"] == ERROR]
    if document["paused"] is not None:
        kept = f"; the source keeps {size(slot['retained_bytes'])} of WAL meanwhile" if slot is not None else ""
        text = f"{_PAUSED.get(document['paused'], 'Paused')}: nothing is applied{kept}."
        others = [alert for alert in urgent if alert["name"] != "paused"]
        return (ERROR if urgent else WARNING), f"{text} But: {others[0]['text']}" if others else text
    level, text = _by_phase(document)
    for alert in (*urgent, *document["alerts"]):
        # Those of lag say all that the sentence would say, and more.
        said = "Streaming." if alert["name"] in _OF_LAG and document["phase"] == "streaming" else f"{text} But:"
        return (ERROR if urgent else WARNING), f"{said} {alert['text']}"
    return level, text


def _failing(error: ErrorEntry, *, at: str) -> tuple[str, str]:
    what = _first_sentence(error["text"])
    if not error["is_transient"]:
        return ERROR, f"Failed, somebody must act: {what}"
    lasts = max(0.0, (datetime.fromisoformat(at) - datetime.fromisoformat(error["since"])).total_seconds())
    retry = error["retry_in_seconds"]
    again = "" if retry is None else f" every {max(1.0, retry):.0f} s"
    since = f"{_clock(error['since'])} UTC ({duration(lasts)})"
    return (ERROR if lasts > _PASSES_WITHIN else WARNING), f"Not working since {since}, trying again{again}: {what}"


def _without_daemon(document: StatusDocument) -> tuple[str, str]:
    phase, slot = document["phase"], document["slot"]
    if phase is None:
        return WORKING, "Nothing was started yet."
    if phase == "complete":
        return OK, "Complete: nothing runs any more, and nothing has to."
    said = "it had failed" if phase == "failed" else f"its phase was {phase}"
    if document["paused"] is not None:
        said += ", paused"
    kept = ""
    if slot is not None and slot["exists"]:
        kept = f" The source keeps {size(slot['retained_bytes'])} of WAL for it."
    return ERROR, f"No daemon runs; {said}.{kept}"


def _by_phase(document: StatusDocument) -> tuple[str, str]:
    """A leader without an error."""
    copy, seconds = document["copy"], document["lag_seconds"]
    behind = f"{duration(seconds)} ({size(document['lag_bytes'])})"
    match document["phase"]:
        case "setup":
            return WORKING, "Setting up: connecting, checking, making the slot."
        case "copy":
            percent = "some" if copy["percent"] is None else f"{copy['percent']:.1f} %"
            tables = f"{copy['tables_done']} of {copy['tables_total']} tables"
            left = "" if copy["eta_seconds"] is None else f", about {duration(copy['eta_seconds'])} left"
            return WORKING, f"Copying: {percent} of all rows, {tables} done{left}."
        case "catchup":
            if seconds is None:
                return WORKING, "Catching up with what was changed meanwhile; how far it is behind is not known yet."
            return WORKING, f"Catching up with what was changed meanwhile: the target is {behind} behind."
        case "streaming":
            if seconds is None:
                return WORKING, "Streaming; how far the target is behind is not known yet."
            if seconds <= 0:
                return OK, "Streaming: the target has everything the source has committed."
            if seconds <= _FOLLOWING_SECONDS:
                return OK, f"Streaming: the target is {duration(seconds)} behind the source."
            level = WARNING if seconds > _LAG_WARNING_SECONDS else WORKING
            return level, f"Streaming: the target is {behind} behind the source."
        case "complete":
            return OK, "Complete."
        case phase:
            return WORKING, f"In phase {phase}."


def _clock(moment: str) -> str:
    """03:12:44 of an ISO time."""
    return moment[11:19]


def _first_sentence(text: str) -> str:
    """What happened, without what it means and what to do: those stand below it. No list of findings, either."""
    return _SENTENCE_END.split(text.partition("\n")[0], maxsplit=1)[0]


def _uncapitalised(text: str) -> str:
    return text[:1].lower() + text[1:]
