"""When plans have aged: by what was committed, once for each growth, until a COMMIT has taken the word along (H13)."""

from __future__ import annotations

from crossfade.catalog import Route, TableName
from crossfade.events import Operation
from crossfade.target.planages import PlanAges
from crossfade.target.tally import Tally

TARGET = TableName("app", "t")
ROUTE = Route(TableName("public", "t"), TARGET)


def grown(count: int, operation: Operation = Operation.INSERT) -> Tally:
    tally = Tally()
    tally.changes[ROUTE, operation] = count
    return tally


def test_H13_plans_age_when_a_table_has_outgrown_a_page_and_at_every_four_times_that() -> None:
    ages, aged_at, rows = PlanAges(clock=lambda: 0.0), [], 0
    for _ in range(3000):
        ages.grew(grown(100))
        rows += 100
        if ages.have_aged():
            aged_at.append(rows)
    assert aged_at == [300, 1200, 4800, 19200, 76800], "and never again: no table looks small any more"


def test_H13_rows_of_the_open_transaction_count_once() -> None:
    ages = PlanAges(clock=lambda: 0.0)
    assert not ages.outgrown(TARGET, 255)
    assert ages.outgrown(TARGET, 256)
    assert not ages.outgrown(TARGET, 256)
    ages.grew(grown(256))
    assert not ages.have_aged()


def test_H13_a_transaction_that_was_taken_back_leaves_the_plans_aged() -> None:
    """Only `grew`, which follows a COMMIT, knows that what opened the transaction has reached the server."""
    ages = PlanAges(clock=lambda: 0.0)
    ages.grew(grown(1000))
    assert ages.have_aged()
    assert not ages.outgrown(TARGET), "who asks does not change that"
    assert ages.have_aged()
    ages.grew(grown(1))
    assert not ages.have_aged()


def test_H13_updates_are_no_growth() -> None:
    ages = PlanAges(clock=lambda: 0.0)
    ages.grew(grown(100_000, Operation.UPDATE))
    assert not ages.have_aged()


def test_H13_no_plan_is_kept_for_longer_than_a_second_whatever_was_counted() -> None:
    now = 100.0
    ages = PlanAges(clock=lambda: now)
    assert not ages.have_aged()
    now += 1.0
    assert ages.have_aged()
    assert ages.have_aged(), "the transaction may have been rolled back"
    ages.grew(grown(1))
    assert not ages.have_aged()


def test_H13_a_long_transaction_has_them_made_anew_each_second() -> None:
    now = 100.0
    ages = PlanAges(clock=lambda: now)
    assert not ages.age_within()
    now += 1.0
    assert ages.age_within()
    assert not ages.age_within()
    now += 1.0
    assert ages.age_within()
