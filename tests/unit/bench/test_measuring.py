"""What decides who is measured, when, and whether the result counts."""

from __future__ import annotations

import pytest

from crossfade.mapping.load import parse_mapping
from tests.bench import compare
from tests.bench.__main__ import WORKLOADS, Sizes, chosen
from tests.bench.backlogs import BACKLOGS, SIZES
from tests.bench.compare import Digest, Expectation, WrongResult, same
from tests.bench.drain import entries, rotated
from tests.bench.ground import NotMeasured
from tests.bench.latency import latencies_ms

_KNOWN = [workload.name for workload in WORKLOADS]


def test_each_latency_ends_with_the_first_poll_that_showed_the_stamp_or_a_later_one() -> None:
    written = {0: [(1, 10.0), (2, 10.010), (3, 10.020)], 1: [(1, 10.005)]}
    seen = {0: [(1, 10.002), (3, 10.025)], 1: [(1, 10.015)], -1: [(9, 0.1)]}
    assert latencies_ms(written, seen, skip_before=0.0) == pytest.approx([2.0, 15.0, 5.0, 10.0])


def test_the_warm_up_does_not_count() -> None:
    written, seen = {0: [(1, 10.0), (2, 11.0)]}, {0: [(1, 10.5), (2, 11.001)]}
    assert latencies_ms(written, seen, skip_before=0.5) == pytest.approx([1.0])


def test_a_stamp_that_never_arrived_is_no_latency_of_zero() -> None:
    with pytest.raises(NotMeasured, match="never seen"):
        latencies_ms({0: [(1, 10.0), (2, 10.1)]}, {0: [(1, 10.2)]}, skip_before=0.0)


def test_another_contender_begins_each_time() -> None:
    assert {rotated("abc", number)[0] for number in range(3)} == {"a", "b", "c"}
    assert rotated("abc", 4) == ["b", "c", "a"]


def test_the_native_run_counts_for_both_tables_and_only_when_asked() -> None:
    backlog = BACKLOGS["insert_backlog"]
    both = entries(backlog, _KNOWN, has_pglogical=False)
    assert [(entry.key, entry.workloads) for entry in both] == [
        ("native", ("insert_backlog", "insert_backlog_reshaped")),
        ("crossfade", ("insert_backlog",)),
        ("insert_backlog_reshaped", ("insert_backlog_reshaped",)),
    ]
    alone = entries(backlog, ["insert_backlog_reshaped"], has_pglogical=True)
    assert [entry.key for entry in alone] == ["native", "pglogical", "insert_backlog_reshaped"]
    assert all(entry.workloads == ("insert_backlog_reshaped",) for entry in alone)


def test_only_names_workloads_and_groups() -> None:
    assert chosen("", _KNOWN) == _KNOWN
    assert chosen("latency, insert_backlog", _KNOWN) == ["insert_backlog", "latency_p50", "latency_p99"]
    with pytest.raises(ValueError, match="no 'speed'"):
        chosen("insert_backlog,speed", _KNOWN)


def test_quick_is_a_tenth() -> None:
    assert {name: Sizes(quick=True).of(size) * 10 for name, size in SIZES.items()} == dict(SIZES)
    assert {name: Sizes(quick=False).of(size) for name, size in SIZES.items()} == dict(SIZES)


@pytest.mark.parametrize("name", BACKLOGS)
def test_every_mapping_can_be_read(name: str) -> None:
    backlog = BACKLOGS[name]
    assert backlog.reshaped is not None
    assert parse_mapping(backlog.plain.mapping).file
    assert parse_mapping(backlog.reshaped.mapping).tables


@pytest.mark.parametrize(
    ("theirs", "told"), [(Digest(9, "5"), "9 rows"), (Digest(10, "6"), "different values"), (Digest(0, "0"), "0 rows")]
)
def test_a_wrong_result_fails(monkeypatch: pytest.MonkeyPatch, theirs: Digest, told: str) -> None:
    monkeypatch.setattr(compare, "digests", lambda dsn, _: [Digest(10, "5") if dsn == "source" else theirs])
    with pytest.raises(WrongResult, match=told):
        Expectation("source").check("target", (same("public.events", "id"),), contender="crossfade")


def test_an_equal_result_tells_how_many_rows_were_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def digests(dsn: str, queries: list[str]) -> list[Digest]:
        asked.append(dsn)
        return [Digest(10, "5") for _ in queries]

    monkeypatch.setattr(compare, "digests", digests)
    expected, tables = Expectation("s"), (same("a", "x"), same("b", "x"))
    assert [expected.check(target, tables, contender="crossfade") for target in ("t", "u")] == [20, 20]
    assert asked == ["s", "t", "u"], "the source is asked once, each target itself"
