"""What `check --explain` says of several sources of a table: each by itself, and whose rows are whose."""

from __future__ import annotations

import pytest

from crossfade.preflight.explain import explain
from tests.unit.mapping.builders import catalog, compiled, name, table

TARGETS = {"numbers": table("app.t", "id int8", pk="id"), "uuids": table("app.t", "id uuid", pk="id")}
A_INT, A_UUID = table("public.a", "id int", pk="id"), table("public.a", "id uuid", pk="id")
B = table("public.b", "id int", pk="id")


@pytest.mark.parametrize(
    ("ids", "target", "a", "told"),
    [
        (
            "{b: {from: public.b.id, strategy: offset, by: 100}}",
            "numbers",
            A_INT,
            ["Rows with id below 100 are its own", "Rows with id from 100 on are its own"],
        ),
        (
            "{b: {from: public.b.id, strategy: uuid7}}",
            "uuids",
            A_UUID,
            ["Rows whose id is no id of ids.b are its own", "Rows with an id of ids.b in id are its own"],
        ),
    ],
)
def test_whose_rows_are_whose(ids: str, target: str, a: object, told: list[str]) -> None:
    mapping = f"version: 1\nids: {ids}\ntables: {{app.t: {{from: [public.a, public.b]}}}}\n"
    sources = [a, B]
    plan = compiled(mapping, sources, [TARGETS[target]]).plan  # type: ignore[arg-type]
    assert plan is not None
    found = explain(plan, catalog(*sources), catalog(TARGETS[target]), name("app.t"))  # type: ignore[arg-type]
    for each, words in zip(found, told, strict=True):
        assert words in each.keys
        assert "TRUNCATE takes out its own rows" in each.rows


def test_a_log_of_several_sources_names_the_others() -> None:
    logs = [table(f"public.{each}", "line text") for each in "ab"]
    mapping = "version: 1\ntables: {app.t: {from: [public.a, public.b], append_only: true, truncate: stop}}\n"
    target = table("app.t", "line text")
    plan = compiled(mapping, logs, [target]).plan
    assert plan is not None
    first, _ = explain(plan, catalog(*logs), catalog(target), name("app.t"))
    assert first.keys == "Rows are never searched for. Beside them are those of public.b."
