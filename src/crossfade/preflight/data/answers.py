"""What `check --data` found, as findings: how many rows, which by their keys, what follows, what to do.

Refuses to know connections. The invariant: a question that was not answered is a finding of its own, never silence;
no value of a row is in a sentence but its key, unless the person asked for values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from psycopg import sql

from crossfade.findings import Finding, Kind, Severity
from crossfade.preflight.data.ask import TIME_IS_UP, Answer, Answers, Sample, Size
from crossfade.preflight.data.asked import How, Survey
from crossfade.preflight.remarks import listed, size

# A value is held several times over while it is decoded, converted and sent; from here on somebody should know.
LARGE_BYTES: Final = 16 * 1024**2
# Beyond this the text form of a bytea does not fit a message, and the slot cannot pass it (F1).
TOO_LARGE_AS_TEXT: Final = 500 * 1024**2


def findings(found: Answers, surveys: Sequence[Survey], *, in_text: bool) -> tuple[Finding, ...]:
    """All of it. `in_text`: the stream will come in text."""
    return (
        *(_answered(answer) for answer in found.answers if answer.rows),
        *_largest(found.sizes, in_text=in_text),
        *_unanswered(found),
        *_blind(surveys),
    )


def query_of(answer: Answer) -> str:
    """The statement that shows the rows, for a person to paste on the source."""
    survey, question = answer.survey, answer.question
    if question.how is How.GROUPS:
        query = sql.SQL("SELECT {0}, count(*) FROM {1} WHERE {2} GROUP BY {0} HAVING count(*) > 1").format(
            sql.SQL(", ").join(question.group), survey.rows, question.where
        )
    else:
        names = dict.fromkeys([*survey.key, *question.columns])
        query = sql.SQL("SELECT {} FROM {} WHERE {}").format(
            sql.SQL(", ").join(sql.SQL("s.{}").format(sql.Identifier(name)) for name in names),
            survey.rows,
            question.where,
        )
    return f"{query.as_string()};"


def _answered(answer: Answer) -> Finding:
    question, survey = answer.question, answer.survey
    number = answer.rows or 0
    sentence = f"{number:,} row{'' if number == 1 else 's'} of {survey.source} {_in_number(question.sentence, number)}"
    if answer.samples:
        sentence += f". For example: {'; '.join(map(_sample, answer.samples))}"
    return Finding(
        question.name,
        question.severity,
        Kind.READINESS,
        f"source {survey.source}",
        f"{sentence}.",
        f"{question.remedy}\n-- to see them, on the source:\n{query_of(answer)}",
    )


def _in_number(sentence: str, number: int) -> str:
    """The verb of a sentence written for several rows, for one."""
    if number != 1:
        return sentence
    verb, _, rest = sentence.partition(" ")
    return f"{ {'have': 'has', 'hold': 'holds', 'share': 'shares', 'refer': 'refers'}.get(verb, verb) } {rest}"


def _sample(sample: Sample) -> str:
    return ", ".join(f"{name} {text}" for name, text in sample)


def _largest(sizes: Iterable[Size], *, in_text: bool) -> Iterator[Finding]:
    for each in sizes:
        largest = each.largest or 0
        if largest < LARGE_BYTES:
            continue
        subject = f"source {each.survey.source}.{each.sized.column}"
        if each.sized.is_bytea and in_text and largest > TOO_LARGE_AS_TEXT:
            yield Finding(
                "data_too_large",
                Severity.ERROR,
                Kind.READINESS,
                subject,
                f"The largest value has {size(largest)}, and changes will come in text: a bytea of that size does not"
                " fit a message, so a change of that row would stop the stream for good (F1).",
                "See the finding stream_in_text for the column that keeps the stream in text; or do not map this one.",
            )
        else:
            yield Finding(
                "data_large",
                Severity.INFO,
                Kind.READINESS,
                subject,
                f"The largest value has {size(largest)}; crossfade needs several times that in memory while it passes.",
                f"Give the daemon at least {size(5 * largest + 150 * 1024**2)} of memory.",
            )


def _unanswered(found: Answers) -> Iterator[Finding]:
    left: dict[tuple[str, str], list[str]] = {}
    queries: dict[tuple[str, str], list[str]] = {}
    for answer in found.answers:
        if answer.rows is None:
            at = (str(answer.survey.source), answer.why)
            words = answer.question.name.removeprefix("data_").replace("_", " ")
            columns = ", ".join(answer.question.columns)
            left.setdefault(at, []).append(f"{words} ({columns})" if columns else words)
            queries.setdefault(at, []).append(query_of(answer))
    for each in found.sizes:
        if each.largest is None and each.why:
            left.setdefault((str(each.survey.source), each.why), []).append(f"largest value ({each.sized.column})")
    for (table, why), names in left.items():
        if why == TIME_IS_UP:
            remedy = "Give it more time (--data-timeout), at an hour when the source has little to do."
        else:
            remedy = "\n".join(
                ["Mend that and check again; or look yourself, on the source:", *queries.get((table, why), ())]
            )
        yield Finding(
            "data_not_finished",
            Severity.WARNING,
            Kind.READINESS,
            f"source {table}",
            f"Not looked at, because {why}: {listed(names, most=8)}.",
            remedy,
        )


def _blind(surveys: Iterable[Survey]) -> Iterator[Finding]:
    for survey in surveys:
        for each in survey.blind:
            yield Finding(
                "data_not_examined",
                Severity.INFO,
                Kind.READINESS,
                each.subject,
                f"The source cannot be asked {each.sentence}.",
                "Try it with a copy of the data, if it matters.",
            )
