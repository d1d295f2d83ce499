"""What somebody should do next, as sentences with commands: the `next_steps` of the status document.

One function of a finished document, so the daemon, the offline status and the tests agree. Refuses to know where the
document came from. The invariant: every step names a command or a place to look at, and the most urgent is first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from crossfade.lsn import Lsn
from crossfade.telemetry.document import AlertEntry, PositionsEntry, SlotEntry, StatusDocument
from crossfade.telemetry.notices import runbook

# Past half of what the server allows the slot to retain, somebody should look, past four fifths at once. Where nothing
# limits it, the disk does, and this much deserves a look. The shipped alert rules use the same numbers.
RETENTION_WARNING: Final = 0.5
RETENTION_ERROR: Final = 0.8
UNLIMITED_WARNING_BYTES: Final = 10 * 1024**3


@dataclass(frozen=True, slots=True)
class SlotLimits:
    """From where on the slot's WAL is an alert: two shares of what is allowed, and bytes where nothing limits it."""

    warning_ratio: float = RETENTION_WARNING
    error_ratio: float = RETENTION_ERROR
    unlimited_bytes: float = UNLIMITED_WARNING_BYTES


_CAUGHT_UP_SECONDS: Final = 5.0

_PAUSED: Final = {
    "operator": "Paused by an operator; the slot retains WAL meanwhile. Go on with `crossfade resume`.",
    "target_full": "Paused because the target's disk is full: make room there. It goes on by itself, or at once with"
    " `crossfade resume`.",
    "own_disk": "Paused because this host's disk is nearly full: make room here. It goes on by itself.",
    "error_rate": "Paused because too many batches fail: look into the log and mend the cause. It tries again by"
    " itself, or at once with `crossfade resume`.",
}


def next_steps(document: StatusDocument) -> list[str]:
    """Sentences, most urgent first; empty when there is nothing to do but wait and nothing to wait for."""
    steps: list[str] = []
    slot = document["slot"]
    is_lost = slot is not None and slot["wal_status"] == "lost"
    is_gone = slot is not None and _is_gone(slot, document["positions"])
    if is_lost:
        steps.append(
            "The source has removed WAL that was still needed, so this copy cannot be continued: `crossfade teardown`, "
            "empty the target tables, raise max_slot_wal_keep_size, `crossfade run`."
        )
    elif is_gone:
        steps.append(
            "The slot does not exist any more, so changes are missing and this copy cannot be continued: "
            "`crossfade teardown`, empty the target tables, `crossfade run`."
        )
    error = document["error"]
    if error is not None and not is_lost and not is_gone:
        retry = error["retry_in_seconds"]
        if document["paused"] in ("target_full", "own_disk", "error_rate"):
            pass  # what that takes is said below
        elif error["is_transient"]:
            where = error["component"] if error["component"] in ("source", "target") else "servers"
            steps.append(f"The error is known to pass by itself and is retried; look at the {where} if it stays.")
        elif retry is not None:
            steps.append(
                "Mend what the error says, then `crossfade resume` to try again at once "
                f"(it is retried every {max(1.0, retry):.0f} s anyway)."
            )
        else:
            steps.append("Mend what the error says, then `crossfade run`.")
    if document["paused"] is not None:
        steps.append(_PAUSED.get(document["paused"], "Paused: go on with `crossfade resume`."))
    standing = {alert["name"] for alert in document["alerts"]}
    if slot is not None and "slot_retention" in standing:
        steps.append(_HELD_BY_OTHERS if _is_held_by_others(slot) else _HELD_BY_US)
    if "apply_blocked" in standing:
        steps.append(
            "Ask whose session it is that blocks the apply (pg_stat_activity on the target), and have it ended; the "
            "apply goes on by itself."
        )
    if document["alerts"]:
        steps.append(_read_on(document["alerts"]))
    if document["daemon"] is None:
        if document["leader"]:
            steps.append("A daemon leads, on another host or without HTTP; this is what it last wrote to the target.")
        elif document["phase"] == "complete":
            pass
        elif document["phase"] is None:
            steps.append("Nothing was started yet: `crossfade check`, then `crossfade run`.")
        elif is_lost or is_gone:
            pass  # starting it again would only say so again
        elif slot is None or slot["exists"]:
            steps.append("No daemon runs and the slot retains WAL: start it again with `crossfade run`.")
        else:
            steps.append("No daemon runs: start it again with `crossfade run`.")
    elif not document["leader"]:
        steps.append("This one is a standby; it takes over when the leader is gone.")
    elif error is None and document["paused"] is None and not steps:
        steps.extend(_by_phase(document))
    return steps


def _read_on(alerts: Sequence[AlertEntry]) -> str:
    """One sentence with the pages that say what to look at, the worst alert's first."""
    ordered = sorted(alerts, key=lambda alert: alert["level"] != "error")
    pages = dict.fromkeys(runbook(alert["name"]) for alert in ordered)
    names = ", ".join(dict.fromkeys(alert["name"] for alert in ordered))
    return f"See to what the alerts say ({names}); what to look at, and what to do: {', '.join(pages)}."


_HELD_BY_US: Final = (
    "Let crossfade catch up (or raise max_slot_wal_keep_size and the space for WAL on the source) before the slot is "
    "lost or the disk is full."
)
_HELD_BY_OTHERS: Final = (
    "Crossfade has confirmed most of that WAL; what keeps it is most likely a long transaction on the source. Find it "
    "in pg_stat_activity there (backend_xid, xact_start) or pg_prepared_xacts, and have it ended."
)


def _is_held_by_others(slot: SlotEntry) -> bool:
    """Most of the WAL kept is before what we confirmed: it is kept for a transaction that is still open."""
    if slot["restart_lsn"] is None or slot["confirmed_flush_lsn"] is None:
        return False
    confirmed = Lsn.parse(slot["confirmed_flush_lsn"]) - Lsn.parse(slot["restart_lsn"])
    return confirmed > slot["retained_bytes"] / 2


def _is_gone(slot: SlotEntry, positions: PositionsEntry) -> bool:
    """Whether there was one: a workflow that has a position began at a slot."""
    return not slot["exists"] and positions["durable"] is not None


def slot_alerts(
    slot: SlotEntry | None, positions: PositionsEntry, *, since: str, limits: SlotLimits = SlotLimits()
) -> list[AlertEntry]:
    """What the slot's own state says; armed in every phase, also while paused."""
    if slot is None:
        return []
    if _is_gone(slot, positions):
        return [AlertEntry(name="slot_lost", level="error", text=f"Slot {slot['name']} does not exist.", since=since)]
    if slot["wal_status"] == "lost":
        reason = f" ({slot['invalidation_reason']})" if slot["invalidation_reason"] else ""
        return [AlertEntry(name="slot_lost", level="error", text=f"Slot {slot['name']} is lost{reason}.", since=since)]
    retained, limit = slot["retained_bytes"], slot["wal_keep_limit"]
    if limit:
        share = retained / limit
        level = "error" if share > limits.error_ratio else ("warning" if share > limits.warning_ratio else "")
        text = f"Slot {slot['name']} retains {share:.0%} of the WAL that max_slot_wal_keep_size allows."
    else:
        level = "warning" if retained > limits.unlimited_bytes else ""
        text = f"Slot {slot['name']} retains {retained / 1024**3:.1f} GiB of WAL on the source, and nothing limits it."
    return [AlertEntry(name="slot_retention", level=level, text=text, since=since)] if level else []


def _by_phase(document: StatusDocument) -> list[str]:
    """What a healthy leader's operator may do in this phase."""
    match document["phase"]:
        case "copy":
            return ["Wait for the copy: `crossfade wait --for copied --timeout 6h`."]
        case "catchup":
            return ["Wait until the changes made during the copy are in: `crossfade wait --for caught-up`."]
        case "streaming":
            lag = document["lag_seconds"]
            if lag is None or lag > _CAUGHT_UP_SECONDS:
                return ["Wait until lag is gone: `crossfade wait --for caught-up`."]
            if document["alerts"]:
                return []
            return ["Caught up. Leave it running; `crossfade status --fail-if-lag-above 5s` tells a script."]
        case _:
            return []
