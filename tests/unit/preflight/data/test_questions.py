"""What is asked of a table, and what need not be, since the source's catalog answers it."""

from __future__ import annotations

import pytest

from crossfade.findings import Severity
from crossfade.preflight.data.asked import How
from crossfade.preflight.data.clauses import Clause, ClauseKind
from tests.unit.mapping.builders import key, name, reference, table
from tests.unit.preflight.data.asking import asked, surveyed, the

USERS = table("public.users", "id int", pk="id")
IDS = "ids: {user: {from: public.users.id, strategy: uuid7}}\n"


def test_nothing_is_asked_of_two_equal_tables() -> None:
    same = [
        USERS,
        table("public.t", "id int", "a text!", pk="id", keys=[key("a")], references=[reference("id", "public.users")]),
    ]
    (users, t) = surveyed(same, same)
    assert (users.questions, t.questions, t.blind) == ((), (), ())


def test_NULLs_where_the_source_allows_them() -> None:
    source = [table("public.t", "id int", "a text", "b text!", pk="id")]
    target = [table("public.t", "id int", "a text!", "b text!", pk="id")]
    found = surveyed(source, target)
    assert asked(found) == [("data_null", ("a",))]
    assert 'ALTER COLUMN "a" DROP NOT NULL;' in the(found, "data_null").remedy


@pytest.mark.parametrize(
    ("of_source", "of_target", "is_asked"),
    [
        ([], [key("a")], True),
        ([key("a")], [key("a")], False),
        ([key("a")], [key("a b")], False),
        ([key("a b")], [key("a")], True),
        ([key("a", deferrable=True)], [key("a", deferrable=True)], True),
        ([key("a", partial=True)], [key("a")], True),
        ([key("a")], [key("a", nulls_not_distinct=True)], True),
        ([key("a", nulls_not_distinct=True)], [key("a", nulls_not_distinct=True)], False),
        ([], [key("a", valid=False)], False),
    ],
)
def test_duplicates_where_no_key_of_the_source_says_that_there_are_none(
    of_source: list[object], of_target: list[object], is_asked: bool
) -> None:
    columns = ("id int", "a text", "b text")
    source = [table("public.t", *columns, pk="id", keys=of_source)]  # type: ignore[arg-type]
    target = [table("public.t", *columns, pk="id", keys=of_target)]  # type: ignore[arg-type]
    found = surveyed(source, target)
    assert [name for name, _ in asked(found)] == (["data_duplicate"] if is_asked else [])


def test_a_local_time_may_lose_what_makes_it_unique() -> None:
    source = [table("public.t", "id int", "at timestamp!", pk="id", keys=[key("at")])]
    target = [table("public.t", "id int", "at timestamptz!", pk="id", keys=[key("at")])]
    found = surveyed(source, target, "tables: {public.t: {columns: {at: {timezone: Europe/Berlin}}}}")
    question = the(found, "data_duplicate")
    assert question.how is How.GROUPS
    assert "the same moment when clocks change" in question.sentence
    assert [each.severity for survey in found for each in survey.questions if each.name == "data_clock_change"] == [
        Severity.INFO,
        Severity.INFO,
    ]


@pytest.mark.parametrize(
    ("references", "replica_role", "severity"),
    [
        ([reference("user_id", "public.users")], True, None),
        ([reference("user_id", "public.users", validated=False)], True, Severity.WARNING),
        ([reference("user_id", "public.users", validated=False)], False, Severity.ERROR),
        ([], True, Severity.WARNING),
    ],
)
def test_orphans_where_no_foreign_key_of_the_source_keeps_them_out(
    references: list[object], replica_role: bool, severity: Severity | None
) -> None:
    source = [USERS, table("public.t", "id int", "user_id int", pk="id", references=references)]  # type: ignore[arg-type]
    target = [
        USERS,
        table(
            "public.t",
            "id int",
            "user_id int",
            pk="id",
            references=[reference("user_id", "public.users", deferrable=True)],
        ),
    ]
    found = surveyed(source, target, replica_role=replica_role)
    assert [each.severity for survey in found for each in survey.questions] == ([] if severity is None else [severity])


def test_ids_without_a_parent() -> None:
    source = [USERS, table("public.t", "id int", "user_id int", pk="id")]
    target = [table("public.users", "id uuid", pk="id"), table("public.t", "id int", "user_id uuid", pk="id")]
    found = surveyed(source, target, IDS + "tables: {public.t: {columns: {user_id: {remap: user}}}}")
    question = the(found, "data_orphan")
    assert (question.severity, question.how) == (Severity.WARNING, How.ALONE)
    assert "orphan_id: allocate" in question.sentence


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (table("public.t", "a int!", "b int!", "c text", pk="a b"), ("a", "b")),
        (table("public.t", "a int", "c text"), ("ctid",)),
    ],
)
def test_rows_are_named_by_their_key_and_never_by_all_they_hold(source: object, expected: tuple[str, ...]) -> None:
    (found,) = surveyed([source], [source], "tables: {public.t: {append_only: true}}")  # type: ignore[list-item]
    assert found.key == expected


def _clause(kind: ClauseKind, *texts: str, columns: str, is_portable: bool = True) -> Clause:
    return Clause(name("public.t"), "t_check", kind, texts, "", tuple(columns.split()), is_portable)


@pytest.mark.parametrize(
    ("clause", "question"),
    [
        (_clause(ClauseKind.CHECK, "(a > 0)", columns="a"), "data_refused_by_check"),
        (_clause(ClauseKind.CHECK, "(a > 0)", columns="a", is_portable=False), None),
        (_clause(ClauseKind.CHECK, "(user_id IS NULL)", columns="user_id"), None),  # a new id: the target's affair
        (_clause(ClauseKind.CHECK, "(made > 0)", columns="made"), None),  # the target's own default
        (_clause(ClauseKind.CHECK, "(m <> 'x'::public.mood)", columns="m"), None),  # a type of its own
        (_clause(ClauseKind.UNIQUE, "lower(b)", columns="b"), "data_duplicate"),
        (_clause(ClauseKind.PARTITIONS, "(a < 10)", "(a >= 20)", columns="a"), "data_without_partition"),
    ],
)
def test_clauses_of_the_target(clause: Clause, question: str | None) -> None:
    source = [USERS, table("public.t", "id int", "a int", "b text", "user_id int", "m <e>public.mood", pk="id",
                           references=[reference("user_id", "public.users")])]  # fmt: skip
    target = [table("public.users", "id uuid", pk="id"),
              table("public.t", "id int", "a int", "b text", "user_id uuid", "m <e>public.mood", "made int =", pk="id",
                    references=[reference("user_id", "public.users")])]  # fmt: skip
    found = surveyed(source, target, IDS, clauses=[clause])
    assert [each for each, _ in asked(found)] == ([] if question is None else [question])
    assert len([each for survey in found for each in survey.blind]) == (question is None)


TWO = "ids: {b: {from: public.b.id, strategy: offset, by: 100}}\ntables: {public.t: {from: [public.a, public.b]}}\n"
SIDES = [table(f"public.{each}", "id int", "v text!", pk="id", keys=[key("v")]) for each in "ab"]


def test_rows_of_two_sources_that_meet_are_counted_once() -> None:
    """Each source keeps v unique; nothing keeps the two apart. The key does not meet: it is bounded."""
    target = [table("public.t", "id int8", "v text!", pk="id", keys=[key("v"), key("v id")])]
    found = surveyed(SIDES, target, TWO)
    assert [name for name, _ in asked(found)].count("data_collision") == 1
    question = the(found, "data_collision")
    assert (question.severity, question.columns) == (Severity.ERROR, ("v",))
    text = question.where.as_string(None)
    assert 'AND EXISTS (SELECT FROM (SELECT s."v" AS "v0" FROM "public"."a" AS s) AS o' in text
    outside = [each for survey in found for each in survey.questions if "another source" in each.sentence]
    assert sorted(each.where.as_string(None) for each in outside) == ['s."id" < 0', 's."id" >= 100']


def test_what_only_the_target_can_say_of_two_sources_is_told() -> None:
    for unique in (key("v", partial=True), key("", key_name="lowered", expressions=True)):
        found = surveyed(SIDES, [table("public.t", "id int8", "v text!", pk="id", keys=[unique])], TWO)
        assert not [name for name, _ in asked(found) if name == "data_collision"]
        assert any("meet in" in blind.sentence for survey in found for blind in survey.blind)
