"""Counters of what an append_only table must not have: they are compared, and a reset is no amnesty."""

from __future__ import annotations

from crossfade.catalog import TableName
from crossfade.source.appended import AppendOnlyCounts, remember, remembered

LOG = TableName("public", "audit.log")


def test_a_change_since_the_copy_is_told_for_ever() -> None:
    counts = AppendOnlyCounts({LOG: 5})
    assert counts.grown({LOG: 5}) == {}
    assert counts.grown({LOG: 7}) == {LOG: 2}
    assert counts.grown({LOG: 7}) == {LOG: 2}


def test_after_a_reset_whatever_is_counted_is_new() -> None:
    counts = AppendOnlyCounts({LOG: 5})
    assert counts.grown({LOG: 1}) == {LOG: 1}
    assert counts.grown({LOG: 3}) == {LOG: 3}


def test_a_table_never_counted_starts_at_the_first_look() -> None:
    counts = AppendOnlyCounts({})
    assert counts.grown({LOG: 9}) == {}
    assert counts.grown({LOG: 10}) == {LOG: 1}


def test_they_are_stored_beside_the_publications() -> None:
    stored = remember({"publications": {}}, {LOG: 3})
    assert remembered(stored) == {LOG: 3}
    assert stored["publications"] == {}
    assert remembered({"publications": {}}) == {}
