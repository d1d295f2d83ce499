"""The first line: how it stands, in one sentence."""

from __future__ import annotations

import pytest

from crossfade.events import (
    Failed,
    LagMeasured,
    LeaderChanged,
    Note,
    Paused,
    PauseReason,
    Phase,
    PhaseChanged,
    Recovered,
)
from crossfade.telemetry.amounts import count, duration
from crossfade.telemetry.document import StatusDocument
from crossfade.telemetry.headline import headline
from crossfade.telemetry.status import StatusBook
from tests.unit.telemetry.facts import APP_ORDERS, ORDERS, TABLES, Clock, applied, copied, failed, sampled


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book(clock: Clock) -> StatusBook:
    book = StatusBook("shop", TABLES, slot="crossfade", clock=clock, monotonic=clock)
    book.observe(LeaderChanged(True))
    book.observe(PhaseChanged(Phase.STREAMING))
    book.observe(LagMeasured(0.0, 0))
    book.observe(sampled())
    return book


def said(document: StatusDocument) -> tuple[str, str]:
    return document["headline"]["level"], document["headline"]["text"]


def test_all_is_well(book: StatusBook) -> None:
    assert said(book.document()) == ("ok", "Streaming: the target has everything the source has committed.")


@pytest.mark.parametrize(
    ("lag", "level", "words"),
    [
        (0.3, "ok", "the target is 0.3 s behind"),
        (12.0, "working", ": the target is 12.0 s (2.0 KiB) behind"),
        (3700.0, "warning", "1 h 1 min"),
        (None, "working", "not known yet"),
    ],
)
def test_lag_decides_how_bad_it_is(book: StatusBook, lag: float | None, level: str, words: str) -> None:
    book.observe(LagMeasured(lag, 2048))
    assert said(book.document())[0] == level
    assert words in said(book.document())[1]


def test_a_copy_says_how_far_and_how_long(book: StatusBook, clock: Clock) -> None:
    book.observe(PhaseChanged(Phase.COPY))
    book.observe(copied("running", 0))
    clock.advance(10)
    book.observe(copied("running", 250))
    book.observe(copied("done", 500, source=ORDERS, target=APP_ORDERS, estimated=500))
    level, text = said(book.document())
    assert level == "working"
    assert text.startswith("Copying: 50.0 % of all rows, 1 of 2 tables done, about ")


@pytest.mark.parametrize(
    ("phase", "words"), [(Phase.SETUP, "Setting up"), (Phase.CATCHUP, "Catching up"), (Phase.CUTOVER, "cutover")]
)
def test_the_other_phases_have_their_words(book: StatusBook, phase: Phase, words: str) -> None:
    book.observe(PhaseChanged(phase))
    level, text = said(book.document())
    assert level == "working"
    assert words in text


def test_an_error_comes_first(book: StatusBook) -> None:
    book.observe(Paused(PauseReason.OPERATOR))
    book.observe(PhaseChanged(Phase.FAILED))
    book.observe(failed())
    level, text = said(book.document())
    assert level == "error"
    assert text == "Failed, somebody must act: public.users: A unique key was violated."
    long = "source: 2 findings of `check` stand in the way. Mend v1.5 first. Then go on.\n  - one\n  - two"
    book.observe(Failed("setup", long, "", False, None))
    assert said(book.document())[1].endswith("act: source: 2 findings of `check` stand in the way.")
    book.observe(Recovered())
    book.observe(Paused(None))
    book.observe(PhaseChanged(Phase.STREAMING))
    assert said(book.document())[0] == "ok"


def test_an_error_that_passes_by_itself_is_a_warning_until_it_has_not(book: StatusBook, clock: Clock) -> None:
    book.observe(failed("source", sqlstate="57P01", retry_in=7.4))
    clock.advance(90)
    level, text = said(book.document())
    assert level == "warning"
    assert text.startswith(
        "Not working since 08:00:00 UTC (1 min 30 s), trying again every 7 s: public.users: A unique"
    )
    clock.advance(60)
    assert said(book.document())[0] == "error"


@pytest.mark.parametrize("reason", list(PauseReason))
def test_a_pause_says_why_and_what_it_costs(book: StatusBook, reason: PauseReason) -> None:
    book.observe(Paused(reason))
    level, text = said(book.document())
    assert level == "warning"
    assert text.startswith("Paused ")
    assert "the source keeps 3.9 KiB of WAL meanwhile" in text


def test_a_pause_beside_something_worse_is_an_error(book: StatusBook) -> None:
    book.observe(Paused(PauseReason.OPERATOR))
    book.observe(Note("slot_at_risk", "The slot is close to its limit.", "error", alert=True))
    level, text = said(book.document())
    assert level == "error"
    assert text.startswith("Paused by an operator")
    assert text.endswith("meanwhile. But: The slot is close to its limit.")
    book.observe(Note("slot_at_risk", "", "error", alert=True, cleared=True))
    book.observe(Note("paused", "Paused by a guard.", "error", alert=True))
    assert said(book.document())[0] == "error"
    assert "But:" not in said(book.document())[1]


def test_an_alert_about_lag_takes_the_place_of_the_lag(book: StatusBook) -> None:
    book.observe(LagMeasured(90.0, 2048))
    book.observe(Note("lag_high", "The target is 90 s behind the source.", "warning", alert=True))
    assert said(book.document()) == ("warning", "Streaming. The target is 90 s behind the source.")


def test_a_lost_slot_is_worse_than_all(book: StatusBook) -> None:
    book.observe(failed("source", sqlstate="57P01"))
    book.observe(applied(0x2000))
    book.observe(sampled(wal_status="lost", invalidation_reason="wal_removed"))
    level, text = said(book.document())
    assert level == "error"
    assert text.startswith("Changes are lost, and this copy cannot be continued: slot crossfade is lost (wal_removed)")


def test_an_alert_speaks_against_all_is_well(book: StatusBook) -> None:
    book.observe(Note("apply_blocked", "The apply waits for a lock.", "warning", alert=True))
    level, text = said(book.document())
    assert level == "warning"
    assert text.endswith("But: The apply waits for a lock.")
    book.observe(Note("slot_at_risk", "The slot is close to its limit.", "error", alert=True))
    level, text = said(book.document())
    assert level == "error"
    assert text.endswith("But: The slot is close to its limit.")


def test_a_standby_is_no_leader(book: StatusBook) -> None:
    book.observe(LeaderChanged(False))
    assert said(book.document())[0] == "working"
    assert "standby" in said(book.document())[1]


def _without_daemon(book: StatusBook) -> StatusDocument:
    document = book.document()
    document["daemon"], document["leader"] = None, False
    return document


def test_without_a_daemon_somebody_must_act(book: StatusBook) -> None:
    document = _without_daemon(book)
    assert headline(document)["level"] == "error"
    assert (
        headline(document)["text"] == "No daemon runs; its phase was streaming. The source keeps 3.9 KiB of WAL for it."
    )
    document["phase"], document["paused"] = "failed", "operator"
    assert "it had failed, paused." in headline(document)["text"]
    document["phase"] = "complete"
    assert headline(document)["level"] == "ok"
    document["phase"] = None
    assert headline(document) == {"level": "working", "text": "Nothing was started yet."}


def test_led_from_elsewhere_it_is_judged_like_ours(book: StatusBook) -> None:
    document = _without_daemon(book)
    document["leader"] = True
    assert headline(document)["level"] == "ok"


def test_databases_that_do_not_answer_are_named(book: StatusBook) -> None:
    document = _without_daemon(book)
    for side in ("target", "source"):
        document["alerts"].append({"name": f"{side}_unreachable", "level": "error", "text": "x", "since": "y"})
    assert headline(document)["level"] == "error"
    assert "the source and target does not" not in headline(document)["text"]
    assert "source and target" in headline(document)["text"]


def test_durations() -> None:
    told = [duration(n) for n in (None, 0, 4.26, 59.94, 60, 725, 3600, 12_000, 100_000)]
    assert told == ["-", "0.0 s", "4.3 s", "59.9 s", "1 min 0 s", "12 min 5 s", "1 h 0 min", "3 h 20 min", "1 d 3 h"]
    assert [count(n) for n in (None, 0, 1234.6)] == ["-", "0", "1,235"]


@pytest.mark.parametrize("reason", [reason for reason in PauseReason if reason is not PauseReason.OPERATOR])
def test_a_guard_s_pause_says_more_than_the_error_it_came_of(book: StatusBook, reason: PauseReason) -> None:
    book.observe(Paused(reason))
    book.observe(failed("apply", sqlstate="53100"))
    assert said(book.document())[1].startswith("Paused because")
    book.observe(Paused(PauseReason.OPERATOR))
    assert said(book.document())[1].startswith("Not working since")
    book.observe(Paused(reason))
    book.observe(failed("apply", sqlstate="23505"))  # a person must act, whatever else is paused
    assert said(book.document())[1].startswith("Failed, somebody must act")
