"""The report cannot flatter: medians with their spread, ratios the right way round, the shape scripts rely on."""

from __future__ import annotations

import json
import statistics

import pytest

from tests.bench.cpu import Cpu
from tests.bench.results import Run, Workload, details, document, limits, percentile, put, summary, table

_WORKLOADS = (Workload("drain", "s"), Workload("copy", "s", against="psql"), Workload("idle", "%", against=""))


def _runs() -> list[Run]:
    return [
        *(Run("drain", "native", value, Cpu(1.0, None, value)) for value in (6.0, 9.0, 7.0)),
        *(Run("drain", "crossfade", value, Cpu(1.0, 2.0, value)) for value in (3.5, 2.5, 30.0)),
        Run("copy", "psql", 2.0),
        Run("copy", "pgcopydb", 8.0),
        Run("copy", "crossfade", 4.0, Cpu(1.0, 3.0, 2.0)),
        Run("idle", "crossfade", 0.3),
    ]


def test_the_document_has_the_shape_scripts_rely_on() -> None:
    report = json.loads(json.dumps(document({"cores": 2}, _WORKLOADS, _runs())))
    assert set(report) == {"machine", "workloads"}
    for workload in report["workloads"].values():
        assert set(workload) == {"unit", "contenders", "ratio"}
        for found in workload["contenders"].values():
            assert set(found) == {"median", "min", "max", "cpu_s"}
            assert set(found["cpu_s"]) == {"source", "daemon", "target"}


def test_the_ratio_is_their_median_over_ours() -> None:
    workloads = document({}, _WORKLOADS, _runs())["workloads"]
    assert workloads["drain"]["ratio"] == 2.0  # 7 s over 3.5 s: above 1 when we are quicker
    assert workloads["copy"]["ratio"] == 0.5  # against psql, not against pgcopydb
    assert workloads["idle"]["ratio"] is None


def test_the_spread_is_shown_and_an_outlier_does_not_move_the_median() -> None:
    found = document({}, _WORKLOADS, _runs())["workloads"]["drain"]["contenders"]["crossfade"]
    assert (found["median"], found["min"], found["max"]) == (3.5, 2.5, 30.0)
    assert found["cpu_s"] == {"source": 1.0, "daemon": 2.0, "target": 3.5}


def test_a_contender_without_a_daemon_has_none_and_not_zero() -> None:
    assert document({}, _WORKLOADS, _runs())["workloads"]["drain"]["contenders"]["native"]["cpu_s"]["daemon"] is None


def test_a_workload_that_was_not_run_is_left_out() -> None:
    assert set(document({}, _WORKLOADS, [Run("idle", "crossfade", 0.3)])["workloads"]) == {"idle"}


def test_the_median_of_an_even_number_lies_between() -> None:
    assert summary([Run("a", "b", 1.0), Run("a", "b", 2.0)])["median"] == statistics.median([1.0, 2.0])


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (0.991, 100.0), (1.0, 100.0)])
def test_percentiles_are_values_that_were_measured(share: float, expected: float) -> None:
    assert percentile([float(value) for value in reversed(range(1, 101))], share) == expected


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_the_table_has_a_line_for_each_contender_and_the_ratio_beside_the_peer() -> None:
    lines = table(document({}, _WORKLOADS, _runs())).splitlines()
    assert len(lines) == 2 + 2 + 3 + 1
    assert len({line.count("|") for line in lines}) == 1
    (native,) = (line for line in lines if line.startswith("| drain | native"))
    assert native.endswith("**2.00** |")
    (pgcopydb,) = (line for line in lines if line.startswith("| copy | pgcopydb"))
    assert pgcopydb.endswith("**2.00** |")


def test_limits_name_the_busiest_part() -> None:
    (line,) = (line for line in limits(document({}, _WORKLOADS, _runs())).splitlines() if line.startswith("| copy"))
    assert line == "| copy | 25 % | 75 % | 50 % | daemon |"


def test_every_run_can_be_looked_at() -> None:
    assert len(json.loads(json.dumps(details(_runs())))) == len(_runs())


def test_only_what_lies_between_the_marks_is_replaced() -> None:
    text = "before\n<!-- benchmark: begin (t) -->\nold \\1\n<!-- benchmark: end (t) -->\nafter\n"
    once = put(text, "t", "new \\1")
    assert once == text.replace("old", "new")
    assert put(once, "t", "new \\1") == once
    with pytest.raises(ValueError, match="no marks"):
        put(text, "u", "new")
