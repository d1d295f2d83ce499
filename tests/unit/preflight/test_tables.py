"""What is asked of target tables that several sources are made into."""

from __future__ import annotations

from crossfade.preflight.tables import written_columns
from tests.unit.mapping.builders import compiled, name, table

MAPPING = """version: 1
ids: {b: {from: public.b.id, strategy: offset, by: 100}}
tables: {app.t: {from: [public.a, public.b]}}
"""
SOURCES = [table("public.a", "id int", "n int", pk="id"), table("public.b", "id int", pk="id")]


def test_a_column_that_one_source_lacks_is_filled_by_its_default() -> None:
    plan = compiled(MAPPING, SOURCES, [table("app.t", "id int8", "n int =", pk="id")]).plan
    assert plan is not None
    assert written_columns(plan.tables) == {name("app.t"): frozenset({"id"})}
