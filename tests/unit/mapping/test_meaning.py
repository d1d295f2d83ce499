"""Which changes of a mapping may be made under a running copy: those that change no row."""

from __future__ import annotations

import pytest

from tests.unit.mapping.builders import compiled, table

MAPPING = """
version: 1
schemas: {public: app}
policies: {%s}
tables:
  app.t: {columns: {at: {timezone: %s}}, drop: [old]}
"""


def meaning(zone: str, policies: str = "") -> str:
    source = table("public.t", "id int", "at timestamp", "old int", pk="id")
    target = table("app.t", "id int", "at timestamptz", pk="id")
    plan = compiled(MAPPING % (policies, zone), [source], [target]).plan
    assert plan is not None
    return plan.mapping_hash


PLAIN = meaning("America/New_York")


@pytest.mark.parametrize("policy", ["ambiguous: error", "nonexistent: error", "ambiguous: later", "nonexistent: shift"])
def test_F19_an_error_policy_writes_the_rows_the_default_writes(policy: str) -> None:
    """Where it stopped the stream, the default is the way on, without copying again."""
    assert meaning(f"America/New_York, {policy}") == PLAIN


@pytest.mark.parametrize("zone", ["America/New_York, ambiguous: earlier", "Europe/Paris"])
def test_another_moment_is_another_meaning(zone: str) -> None:
    assert meaning(zone) != PLAIN


@pytest.mark.parametrize(
    "policy", ["missing_row: stop", "source_column_added: ignore", "orphan_id: error", "truncate: stop"]
)
def test_policies_are_no_part_of_what_a_row_becomes(policy: str) -> None:
    assert meaning("America/New_York", policy) == PLAIN
