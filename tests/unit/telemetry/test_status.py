from __future__ import annotations

import random

import orjson
import pytest

from crossfade.catalog import Route, TableName
from crossfade.events import (
    Acknowledged,
    Connected,
    LagMeasured,
    LeaderChanged,
    Note,
    Operation,
    Paused,
    PauseReason,
    Phase,
    PhaseChanged,
    PipeLevel,
    Recovered,
)
from crossfade.lsn import NOWHERE, Lsn
from crossfade.runtime.limits import thresholds
from crossfade.settings import Alerts
from crossfade.telemetry.advice import next_steps
from crossfade.telemetry.document import StatusDocument
from crossfade.telemetry.status import StatusBook, WatchedTable
from tests.unit.telemetry.facts import (
    ACCOUNTS,
    APP_ORDERS,
    OF_USERS,
    ORDERS,
    TABLES,
    USERS,
    Clock,
    applied,
    copied,
    failed,
    received,
    sampled,
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book(clock: Clock) -> StatusBook:
    return StatusBook("shop", TABLES, slot="crossfade", clock=clock, monotonic=clock)


def test_a_new_book_knows_nothing_and_says_so(book: StatusBook) -> None:
    document = book.document()
    assert document["schema_version"] == 1
    assert document["name"] == "shop"
    assert document["phase"] == "setup"
    assert document["lag_seconds"] is None
    assert document["lag_bytes"] is None
    assert document["slot"] is None
    assert document["error"] is None
    assert document["verify"] is None
    assert document["positions"] == {"received": None, "applied": None, "durable": None, "acknowledged": None}
    assert [table["state"] for table in document["tables"]] == ["pending", "pending"]


def test_the_document_has_exactly_the_fields_of_its_type(book: StatusBook) -> None:
    assert set(book.document()) == set(StatusDocument.__annotations__)


def test_the_document_is_plain_json(book: StatusBook) -> None:
    for event in (failed(), sampled(), copied("running", 10), applied(100), Paused(PauseReason.TARGET_FULL)):
        book.observe(event)
    document = book.document()
    assert orjson.loads(orjson.dumps(document)) == document


def test_phase_and_since(book: StatusBook, clock: Clock) -> None:
    clock.advance(60)
    book.observe(PhaseChanged(Phase.COPY))
    clock.advance(60)
    book.observe(PhaseChanged(Phase.COPY))
    document = book.document()
    assert document["phase"] == "copy"
    assert document["phase_since"] == "2027-01-15T08:01:00.000Z"
    assert document["at"] == "2027-01-15T08:02:00.000Z"


def test_positions_never_claim_more_than_the_one_before(book: StatusBook) -> None:
    book.observe(received(0x2000))
    book.observe(applied(0x1000))
    book.observe(Acknowledged(Lsn(0x800)))
    assert book.document()["positions"] == {
        "received": "0/2000",
        "applied": "0/1000",
        "durable": "0/1000",
        "acknowledged": "0/800",
    }


def test_an_idle_acknowledgement_moves_everything_before_it(book: StatusBook) -> None:
    book.observe(Acknowledged(Lsn(0x16B3748)))
    assert set(book.document()["positions"].values()) == {"0/16B3748"}


def test_positions_stay_ordered_whatever_comes(book: StatusBook) -> None:
    dice = random.Random()
    for _ in range(500):
        position = dice.randrange(1, 10_000)
        book.observe(dice.choice((received(position), applied(position), Acknowledged(Lsn(position)))))
        values = [Lsn.parse(text) if text else Lsn(0) for text in book.document()["positions"].values()]  # type: ignore[arg-type]
        assert values == sorted(values, reverse=True)


def test_lag_is_as_measured_and_null_again_when_lost(book: StatusBook) -> None:
    book.observe(LagMeasured(1.23456, 4096))
    assert (book.document()["lag_seconds"], book.document()["lag_bytes"]) == (1.235, 4096)
    book.observe(LagMeasured(None, None))
    assert (book.document()["lag_seconds"], book.document()["lag_bytes"]) == (None, None)


def test_copy_progress_percent_and_eta(book: StatusBook, clock: Clock) -> None:
    book.observe(copied("running", 0))
    for rows in range(100, 600, 100):
        clock.advance(1)
        book.observe(copied("running", rows))
    copy = book.document()["copy"]
    assert copy["rows"] == 500
    assert copy["percent"] == pytest.approx(33.3)
    assert copy["eta_seconds"] == pytest.approx(10.0)
    book.observe(copied("done", 1000))
    book.observe(copied("done", 500, source=ORDERS, target=APP_ORDERS, estimated=500))
    copy = book.document()["copy"]
    assert (copy["percent"], copy["eta_seconds"], copy["tables_done"]) == (100.0, 0.0, 2)


def test_stale_statistics_never_promise_the_end(book: StatusBook) -> None:
    book.observe(copied("running", 5000, estimated=10))
    book.observe(copied("running", 900, source=ORDERS, target=APP_ORDERS, estimated=10))
    copy = book.document()["copy"]
    assert copy["percent"] == 99.9
    assert copy["eta_seconds"] is None


def test_tables_copied_by_an_earlier_process_are_no_rate(book: StatusBook, clock: Clock) -> None:
    book.observe(copied("done", 1_000_000))
    clock.advance(2)
    book.observe(copied("done", 1_000_000))
    assert book.document()["copy"]["rows_per_second"] in (None, 0.0)


def test_changes_are_told_of_each_target_of_a_table(book: StatusBook) -> None:
    part = TableName("app", "part")
    book.watch((WatchedTable(USERS, part, 7),))
    book.observe(
        applied(1, changes={(Route(USERS, part), Operation.INSERT): 2}, clock_notes={(Route(USERS, part), "gap"): 1})
    )
    book.observe(applied(2, changes={(OF_USERS, Operation.INSERT): 3, (Route(part, part), Operation.DELETE): 9}))
    users = [table for table in book.document()["tables"] if table["source"] == "public.users"]
    assert [(table["target"], table["changes"]["insert"], table["clock_notes"]) for table in users] == [
        ("app.accounts", 3, {}),
        ("app.part", 2, {"gap": 1}),
    ]


def test_several_sources_of_a_table_are_told_of_one_by_one(clock: Clock) -> None:
    book = StatusBook(
        "shop", [WatchedTable(USERS, ACCOUNTS), WatchedTable(ORDERS, ACCOUNTS)], clock=clock, monotonic=clock
    )
    book.observe(applied(1, changes={(Route(ORDERS, ACCOUNTS), Operation.INSERT): 4}))
    book.observe(copied("done", 7))
    told = [(each["source"], each["state"], each["changes"]["insert"]) for each in book.document()["tables"]]
    assert told == [("public.orders", "pending", 4), ("public.users", "done", 0)]


def test_rates_over_ten_seconds(book: StatusBook, clock: Clock) -> None:
    for _ in range(20):
        clock.advance(1)
        book.observe(received(1, size=1000))
        book.observe(applied(1, transactions=3, changes={(OF_USERS, Operation.UPDATE): 30}))
    assert book.document()["rates"] == {
        "transactions_per_second": 3.0,
        "changes_per_second": 30.0,
        "bytes_per_second": 1000.0,
    }


def test_an_error_keeps_its_beginning_and_ends_with_recovery(book: StatusBook, clock: Clock) -> None:
    book.observe(failed())
    clock.advance(30)
    book.observe(failed())
    error = book.document()["error"]
    assert error is not None
    assert error["since"] == "2027-01-15T08:00:00.000Z"
    assert error["sqlstate"] == "23505"
    assert any("crossfade resume" in step for step in _leading(book)["next_steps"])
    book.observe(Recovered())
    assert book.document()["error"] is None


def test_alerts_last_until_cleared(book: StatusBook, clock: Clock) -> None:
    book.observe(Note("lock_yielded", "Copy of public.users gave way three times.", "warning", alert=True))
    clock.advance(5)
    book.observe(Note("lock_yielded", "Copy of public.users gave way six times.", "warning", alert=True))
    book.observe(Note("only_a_line", "Hello.", "info"))
    (alert,) = book.document()["alerts"]
    assert (alert["text"][-10:], alert["since"]) == ("six times.", "2027-01-15T08:00:00.000Z")
    book.observe(Note("lock_yielded", "", "info", cleared=True))
    assert book.document()["alerts"] == []


def _leading(book: StatusBook) -> StatusDocument:
    book.observe(LeaderChanged(True))
    return book.document()


def test_next_steps_fit_the_moment(book: StatusBook) -> None:
    book.observe(PhaseChanged(Phase.COPY))
    assert "--for copied" in _leading(book)["next_steps"][0]
    book.observe(PhaseChanged(Phase.CATCHUP))
    assert "--for caught-up" in _leading(book)["next_steps"][0]
    book.observe(PhaseChanged(Phase.STREAMING))
    book.observe(LagMeasured(0.0, 0))
    assert "Caught up" in _leading(book)["next_steps"][0]
    book.observe(Paused(PauseReason.OPERATOR))
    assert "crossfade resume" in _leading(book)["next_steps"][0]
    book.observe(sampled(wal_status="lost"))
    assert "teardown" in _leading(book)["next_steps"][0]
    book.observe(LeaderChanged(False))
    assert "standby" in book.document()["next_steps"][-1]


def test_an_alert_names_the_page_that_helps(book: StatusBook) -> None:
    book.observe(LeaderChanged(True))
    book.observe(PhaseChanged(Phase.STREAMING))
    book.observe(LagMeasured(0.0, 0))
    book.observe(Note("copy_yields", "It gave way.", "warning", alert=True))
    book.observe(Note("apply_blocked", "It waits for a lock.", "error", alert=True))
    *_, step = book.document()["next_steps"]
    assert step == (
        "See to what the alerts say (apply_blocked, copy_yields); what to look at, and what to do:"
        " docs/runbooks/CrossfadeStalled.md, docs/operations.md#what-the-messages-mean."
    )


def test_a_copy_that_stands_still_has_no_end_in_sight(book: StatusBook, clock: Clock) -> None:
    book.observe(copied("running", 0, estimated=10**9))
    clock.advance(10)
    book.observe(copied("running", 100, estimated=10**9))
    assert book.document()["copy"]["rows_per_second"] == 10.0
    assert book.document()["copy"]["eta_seconds"] is None  # it would be three years


def test_nobody_is_told_to_wait_or_that_all_is_well_while_something_stands(book: StatusBook) -> None:
    book.observe(PhaseChanged(Phase.STREAMING))
    book.observe(LagMeasured(30.0, 5000))
    book.observe(Note("apply_blocked", "The apply waits for a lock held by session [7].", "warning", alert=True))
    steps = _leading(book)["next_steps"]
    assert "pg_stat_activity on the target" in steps[0]
    assert not any("crossfade wait" in step for step in steps)
    book.observe(Note("apply_blocked", "", "info", alert=True, cleared=True))
    book.observe(LagMeasured(0.0, 0))
    book.observe(Note("append_only_changed", "Rows were changed.", "warning", alert=True))
    assert not any("Leave it running" in step for step in _leading(book)["next_steps"])


@pytest.mark.parametrize(
    ("confirmed", "advice"), [(2000, "Let crossfade catch up"), (4800, "long transaction on the source")]
)
def test_who_keeps_the_wal_decides_what_to_do_about_it(book: StatusBook, confirmed: int, advice: str) -> None:
    book.observe(sampled(5000, confirmed_flush_lsn=Lsn(confirmed), wal_keep_limit=5000))
    assert [alert["name"] for alert in _leading(book)["alerts"]] == ["slot_retention"]
    assert advice in _leading(book)["next_steps"][0]


def test_a_full_disk_asks_for_one_thing(book: StatusBook) -> None:
    book.observe(failed(sqlstate="53100"))
    book.observe(Paused(PauseReason.TARGET_FULL))
    (step,) = _leading(book)["next_steps"]
    assert "make room there" in step


@pytest.mark.parametrize(("component", "where"), [("source", "at the source"), ("stream", "at the servers")])
def test_an_error_that_passes_says_where_to_look(book: StatusBook, component: str, where: str) -> None:
    book.observe(failed(component, sqlstate="08006"))
    assert where in _leading(book)["next_steps"][0]


def test_a_slot_that_was_dropped_is_not_said_to_retain_wal(book: StatusBook) -> None:
    gone = sampled(slot_exists=False, slot_active=False, restart_lsn=NOWHERE, retained_bytes=0, wal_status="")
    book.observe(gone)
    assert book.document()["alerts"] == []  # not made yet
    book.observe(applied(5000))
    assert book.alerts() == []  # made after we looked, and a short copy is done before we look again
    slot = book.document()["slot"]
    assert slot is not None
    assert slot["exists"]
    book.observe(gone)
    book.observe(PhaseChanged(Phase.FAILED))
    book.observe(failed("setup", sqlstate="", retry_in=None))
    document = _leading(book)
    assert [(alert["name"], alert["level"]) for alert in document["alerts"]] == [("slot_lost", "error")]
    for daemon in (document["daemon"], None):
        document["daemon"], document["leader"] = daemon, False
        steps = next_steps(document)
        assert "does not exist any more" in steps[0]
        assert "crossfade teardown" in steps[0]
        assert not any("retains" in step or "again" in step or "Mend" in step for step in steps), steps


def test_without_a_slot_yet_starting_again_is_the_advice(book: StatusBook) -> None:
    book.observe(sampled(slot_exists=False, slot_active=False, restart_lsn=NOWHERE, retained_bytes=0, wal_status=""))
    document = book.document()
    document["daemon"] = None
    assert document["next_steps"] != next_steps(document)
    assert next_steps(document) == ["No daemon runs: start it again with `crossfade run`."]


def test_slot_retention_is_told_before_the_slot_is_lost(book: StatusBook) -> None:
    book.observe(sampled(confirmed_flush_lsn=Lsn(1000), retained_bytes=600, wal_keep_limit=1000))
    document = _leading(book)
    assert any("max_slot_wal_keep_size" in step for step in document["next_steps"])
    (alert,) = document["alerts"]
    assert (alert["name"], alert["level"]) == ("slot_retention", "warning")
    assert "60%" in alert["text"]


@pytest.mark.parametrize(
    ("retained", "limit", "level"),
    [
        (500, 1000, None),
        (501, 1000, "warning"),
        (801, 1000, "error"),
        (10 << 30, None, None),
        (11 << 30, None, "warning"),
    ],
)
def test_the_slot_s_alarm_is_armed_also_while_paused(
    book: StatusBook, clock: Clock, retained: int, limit: int | None, level: str | None
) -> None:
    book.observe(Paused(PauseReason.OPERATOR))
    book.observe(sampled(retained_bytes=retained, wal_keep_limit=limit))
    first = book.document()["alerts"]
    clock.advance(60)
    alerts = book.document()["alerts"]
    assert alerts == first  # it keeps the time it began
    assert [alert["level"] for alert in alerts] == ([] if level is None else [level])


def test_a_lost_slot_is_an_alert_with_its_reason(book: StatusBook) -> None:
    book.observe(sampled(wal_status="lost", invalidation_reason="wal_removed"))
    (alert,) = book.document()["alerts"]
    assert alert["text"] == "Slot crossfade is lost (wal_removed)."


def test_tables_are_learnt_from_their_copy(clock: Clock) -> None:
    book = StatusBook("shop", clock=clock, monotonic=clock)
    book.observe(copied("done", 7))
    book.observe(applied(1, changes={(OF_USERS, Operation.INSERT): 2}))
    (table,) = book.document()["tables"]
    assert (table["source"], table["state"], table["rows_copied"], table["changes"]["insert"]) == (
        "public.users",
        "done",
        7,
        2,
    )


def test_names_that_swap_sides_are_told_apart(clock: Clock) -> None:
    book = StatusBook("shop", [WatchedTable(USERS, ORDERS), WatchedTable(ORDERS, USERS)], clock=clock, monotonic=clock)
    book.observe(applied(1, changes={(Route(USERS, ORDERS), Operation.INSERT): 4}))
    assert {table["source"]: table["changes"]["insert"] for table in book.document()["tables"]} == {
        "public.users": 4,
        "public.orders": 0,
    }


class TestReadiness:
    def test_not_before_both_databases_answered(self, book: StatusBook) -> None:
        assert len(book.not_ready_because()) == 2
        book.observe(Connected("source", 180006, is_reconnect=False))
        assert book.not_ready_because() == ("the target database has not answered yet",)
        book.observe(Connected("target", 180006, is_reconnect=False))
        assert book.not_ready_because() == ()

    def test_not_in_phase_failed_nor_with_a_database_down(self, book: StatusBook) -> None:
        for endpoint in ("source", "target"):
            book.observe(Connected(endpoint, 150018, is_reconnect=False))
        book.observe(failed("target", sqlstate="08006"))
        assert book.not_ready_because() == ("the target database is unreachable",)
        book.observe(Recovered())
        assert book.not_ready_because() == ()
        book.observe(failed())
        book.observe(PhaseChanged(Phase.FAILED))
        assert "phase is failed" in book.not_ready_because()[0]

    def test_a_standby_is_ready_with_the_database_it_waits_at(self, book: StatusBook) -> None:
        book.observe(Connected("target", 150018, is_reconnect=False))
        book.observe(LeaderChanged(False))
        assert book.not_ready_because() == ()


def test_the_pipe_is_no_part_of_the_document(book: StatusBook) -> None:
    before = book.document()
    book.observe(PipeLevel(1, 2, 3))
    assert book.document() == before


def test_an_alert_that_is_judged_keeps_its_beginning_though_the_clock_is_set() -> None:
    wall, steady = Clock(), Clock(50.0)
    book = StatusBook("shop", thresholds=thresholds(Alerts()), clock=wall, monotonic=steady)
    book.observe(LeaderChanged(True))
    book.observe(Paused(PauseReason.OWN_DISK))
    (first,) = book.alerts()
    for seconds in (1.0003, 1.0007, 3600):
        wall.advance(seconds)
        steady.advance(1)
        assert book.alerts() == [first]
    assert (first["name"], first["level"]) == ("paused", "error")
    assert book.document()["alerts"] == [first]


def test_who_stands_by_has_no_alerts_of_a_stream_and_no_error() -> None:
    book = StatusBook("shop", slot="crossfade", thresholds=thresholds(Alerts()))
    book.observe(LeaderChanged(True))
    book.observe(sampled(wal_status="lost"))
    book.observe(Note("apply_blocked", "Somebody holds a lock.", "warning", alert=True))
    book.observe(failed())
    book.observe(LeaderChanged(False, tries_again=True))
    assert book.document()["leader"]
    assert {alert["name"] for alert in book.alerts()} == {"slot_lost", "apply_blocked"}
    book.observe(LeaderChanged(False))
    document = book.document()
    assert (document["leader"], document["error"], document["slot"], document["alerts"]) == (False, None, None, [])
