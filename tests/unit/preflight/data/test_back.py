"""What is said of the way back of each kind of rule; on values it is checked in integration/test_way_back."""

from __future__ import annotations

import pytest

from crossfade.preflight.data.back import Back, way_back
from tests.unit.mapping.builders import compiled, table


def back_of(rule: str, source: str, target: str) -> Back | None:
    made = compiled(
        "version: 1\nids: {user: {from: public.u.id, strategy: uuid7}}\n"
        f"tables:\n  app.t: {{from: public.t, only: true, columns: {{id: id, b: {rule}}}}}\n",
        [table("public.t", "id int", f"a {source}", "kind text", pk="id"), table("public.u", "id int", pk="id")],
        [table("app.t", "id int", f"b {target}", pk="id")],
    )
    assert made.plan is not None, made.findings
    (plan,) = made.plan.tables
    (fed,) = [column for column in plan.columns if column.target.name == "b"]
    return way_back(fed, made.plan.keyspaces)


@pytest.mark.parametrize(
    ("rule", "source", "target", "words", "shown"),
    [
        ("a", "int", "int", "as it is", 't."b"'),
        ("a", "int", "bigint", "as it is", '(t."b")::integer'),
        ("a", "<e>mood", "text", "as it is", '(t."b")::text'),
        ("{from: a, remap: user}", "int", "uuid", "ids.user", 'm.new = t."b"'),
        ("{from: a, remap: user}", "int", "text", "ids.user", 'm.new::text = t."b"::text'),
        (
            "{from: a, timezone: Europe/Berlin}",
            "timestamp",
            "timestamptz",
            "the time it was moved to",
            "'Europe/Berlin'",
        ),
        (
            "{from: a, timezone: Europe/Berlin, nonexistent: error}",
            "timestamp",
            "timestamptz",
            "local time of",
            "AT TIME",
        ),
        ("{from: a, values: {1: x, 2: y}}", "int", "text", "the other way round", "WHEN t.\"b\" = 'x' THEN '1'"),
        ("a", "int", "boolean", "false as 0", '(t."b"::integer)'),
        ("a", "boolean", "int", "0 as false", '(t."b" <> 0)'),
        ("a", "boolean", "text", "the word", '(t."b"::boolean)'),
        ("a", "timestamp", "date", "midnight", '(t."b"::timestamp)'),
        ("{up: lower(a), down: upper(b)}", "text", "text", "SQL of the mapping", "(upper(b))"),
    ],
)
def test_a_way_back(rule: str, source: str, target: str, words: str, shown: str) -> None:
    found = back_of(rule, source, target)
    assert found is not None
    assert found.column == "a"
    assert words in found.words
    assert found.value is not None
    assert shown in found.value.as_string()


@pytest.mark.parametrize(
    ("rule", "source", "target", "words"),
    [
        ("{from: a, values: {1: x, 2: x}}", "int", "text", "several values one"),
        ("{from: a, values: {1: x}, otherwise: null}", "int", "text", "several values one"),
        ("{from: a, cast: lossy}", "numeric", "int", "what did not fit is lost"),
        ("{up: lower(a)}", "text", "text", "there is no 'down'"),
    ],
)
def test_no_way_back(rule: str, source: str, target: str, words: str) -> None:
    found = back_of(rule, source, target)
    assert found is not None
    assert found.value is None
    assert words in found.words


def test_a_constant_goes_nowhere() -> None:
    assert back_of("{const: 1}", "int", "int") is None
