"""Rows of two sources that meet in one table: both are named, and nothing else."""

from __future__ import annotations

import pytest

from crossfade.faults import from_sqlstate
from crossfade.target.collision import collided
from tests.unit.mapping.builders import compiled, table

MAPPING = """version: 1
ids: {b: {from: public.b.id, strategy: offset, by: 100}}
tables: {app.t: {from: [public.a, public.b]}}
"""
SIDES = [table(f"public.{each}", "id int!", "v text", pk="id") for each in "ab"]


@pytest.mark.parametrize(
    ("sqlstate", "is_told"), [("23505", True), ("23P01", True), ("23502", False), ("40001", False)]
)
def test_who_met_whom_is_told(sqlstate: str, is_told: bool) -> None:
    plan = compiled(MAPPING, SIDES, [table("app.t", "id int!", "v text", pk="id")]).plan
    assert plan is not None
    (a,) = (each for each in plan.tables if each.source.name == "a")
    told = str(collided(from_sqlstate(sqlstate, where="app.t", constraint="t_v_key"), a))
    assert ("app.t has several sources: a row of public.a met one of public.b" in told) is is_told
    assert "t_v_key" in told


def test_a_table_of_one_source_says_what_it_said() -> None:
    plan = compiled(
        "version: 1\nschemas: {public: app}\n", SIDES[:1], [table("app.a", "id int!", "v text", pk="id")]
    ).plan
    assert plan is not None
    fault = from_sqlstate("23505", where="app.a")
    before = str(fault)
    assert str(collided(fault, plan.tables[0])) == before
