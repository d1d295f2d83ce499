"""What an answer becomes: a sentence with counts and keys, or a word that there was none."""

from __future__ import annotations

from crossfade.findings import Finding, Severity
from crossfade.preflight.data.answers import findings
from crossfade.preflight.data.ask import LOST, TIME_IS_UP, Answer, Answers, Sample, Size
from crossfade.preflight.data.asked import Survey
from tests.unit.mapping.builders import table
from tests.unit.preflight.data.asking import surveyed

(SURVEY,) = surveyed(
    [table("public.t", "id int", "a text", "b bytea", pk="id")],
    [table("public.t", "id int", "a varchar(3)!", "b bytea", pk="id")],
)
NULL, TOO_LONG = SURVEY.questions
MIB = 1024**2


def said(*answers: Answer, sizes: tuple[Size, ...] = (), in_text: bool = False) -> list[Finding]:
    return list(findings(Answers(answers, sizes, {}, 0.1), [SURVEY], in_text=in_text))


def answer(rows: int | None, *samples: Sample, why: str = "") -> Answer:
    return Answer(SURVEY, TOO_LONG, rows, samples, why)


def size(column: str, largest: int | None, why: str = "") -> Size:
    sized = next(each for each in SURVEY.sized if each.column == column)
    return Size(SURVEY, sized, largest, why)


def test_no_such_row_is_no_finding() -> None:
    assert said(answer(0)) == []


def test_rows_are_counted_and_some_named() -> None:
    (finding,) = said(answer(1234, (("id", "7"),), (("id", "9"),)))
    assert (finding.name, finding.severity, finding.subject) == ("data_does_not_fit", Severity.ERROR, "source public.t")
    assert finding.sentence.startswith("1,234 rows of public.t hold values longer than the 3 characters")
    assert finding.sentence.endswith("For example: id 7; id 9.")
    assert finding.remedy.splitlines()[-1].startswith('SELECT s."id", s."a" FROM "public"."t" AS s WHERE ')


def test_one_row_is_one_row() -> None:
    (finding,) = said(answer(1))
    assert finding.sentence.startswith("1 row of public.t holds values longer")


def test_what_was_not_answered_is_told_once_for_each_reason() -> None:
    null = Answer(SURVEY, NULL, None, (), TIME_IS_UP)
    first, second = said(
        null, answer(None, why=TIME_IS_UP), answer(None, why=LOST), sizes=(size("b", None, TIME_IS_UP),)
    )
    assert (first.name, first.severity) == ("data_not_finished", Severity.WARNING)
    assert "null (a), does not fit (a), largest value (b)" in first.sentence
    assert "--data-timeout" in first.remedy
    assert LOST in second.sentence
    assert "SELECT" in second.remedy


def test_F1_a_bytea_that_could_not_travel_as_text() -> None:
    assert said(sizes=(size("b", MIB), size("a", None))) == []
    assert [each.name for each in said(sizes=(size("b", 600 * MIB),))] == ["data_large"]
    assert [each.name for each in said(sizes=(size("a", 600 * MIB),), in_text=True)] == ["data_large"]
    (finding,) = said(sizes=(size("b", 600 * MIB),), in_text=True)
    assert (finding.name, finding.severity, finding.subject) == ("data_too_large", Severity.ERROR, "source public.t.b")
    assert "600 MiB" in finding.sentence


def test_the_survey_is_what_the_tests_think() -> None:
    assert isinstance(SURVEY, Survey)
    assert (NULL.name, TOO_LONG.name) == ("data_null", "data_does_not_fit")
