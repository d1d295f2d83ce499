"""How `crossfade check` shows what it learnt about rows (`--data`) and about one table (`--explain`).

Refuses to judge and to ask. The invariant: text and JSON say the same, and every count in the JSON says whether it
was finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson
from rich.console import Console
from rich.text import Text

from crossfade.preflight.data.back import Back
from crossfade.preflight.data.look import Looked
from crossfade.preflight.explain import Explained

EXPLANATION_VERSION: Final = 1


def look_document(looked: Looked) -> dict[str, object]:
    """The key `data` of the JSON document. `rows` and `largest_bytes` are null where `why` says what kept them."""
    return {
        "seconds": round(looked.answers.seconds, 3),
        "finished": all(each.rows is not None for each in looked.answers.answers)
        and not any(each.why for each in looked.answers.sizes),
        "tables": [
            {
                "source": str(survey.source),
                "target": str(survey.target),
                "rows": looked.answers.rows.get((survey.source, survey.target)),
                "questions": [
                    {
                        "name": each.question.name,
                        "severity": each.question.severity.value,
                        "columns": list(each.question.columns),
                        "sentence": each.question.sentence,
                        "rows": each.rows,
                        "samples": [dict(sample) for sample in each.samples],
                        "why": each.why,
                    }
                    for each in looked.answers.answers
                    if each.survey is survey
                ],
                "sizes": [
                    {"column": each.sized.column, "largest_bytes": each.largest, "why": each.why}
                    for each in looked.answers.sizes
                    if each.survey is survey
                ],
                "not_askable": [each.sentence for each in survey.blind],
            }
            for survey in looked.surveys
        ],
    }


def print_looked(console: Console, looked: Looked) -> None:
    """One line: how much was asked, so that silence about a table is known to be good news."""
    asked = looked.answers.answers
    answered = sum(each.rows is not None for each in asked)
    tables = len(looked.surveys)
    console.print(
        Text(
            f"\nRows: {answered} of {len(asked)} questions about {tables} table{'' if tables == 1 else 's'} answered"
            f" in {looked.answers.seconds:.1f} s.",
            style="bold",
        )
    )


def explanation_document(explained: Sequence[Explained]) -> bytes:
    """The JSON form of `--explain`; `sql` of a column is null where crossfade gives it no value."""
    return orjson.dumps(
        {
            "schema_version": EXPLANATION_VERSION,
            "target": str(explained[0].target),
            "sources": [
                {
                    "source": str(each.source),
                    "rows": each.rows,
                    "keys": each.keys,
                    "columns": [
                        {
                            "name": column.name,
                            "type": column.type,
                            "from": list(column.sources),
                            "words": column.words,
                            "sql": column.sql,
                            "notes": list(column.notes),
                            "back": None if column.back is None else _back(column.back),
                        }
                        for column in each.columns
                    ],
                    "left_behind": [{"column": name, "why": why} for name, why in each.left_behind],
                    "select": each.select,
                }
                for each in explained
            ],
        },
        option=orjson.OPT_INDENT_2,
    )


def _back(back: Back) -> dict[str, object]:
    """`sql` is over the target's row `t`; null where there is no way back, or none in SQL."""
    value = back.value.as_string() if back.value is not None else None
    return {"column": back.column, "words": back.words, "sql": value}


def print_explained(console: Console, explained: Sequence[Explained]) -> None:
    """For a person. Text objects, not markup: a name may hold brackets."""
    for each in explained:
        console.print(Text.assemble((str(each.target), "bold"), " is made of ", (str(each.source), "bold")))
        console.print(Text(f"  {each.rows}"))
        console.print(Text(f"  {each.keys}"))
        console.print(Text("\n  Columns"))
        for column in each.columns:
            console.print(Text.assemble("    ", (column.name, "bold"), f"  {column.type}"))
            console.print(Text(f"      {column.words}"))
            if column.sql is not None:
                console.print(Text(f"      {column.sql}", style="green"))
            for note in column.notes:
                console.print(Text(f"      {note}", style="yellow"))
            if column.back is not None:
                console.print(Text(f"      back to {column.back.column}: {column.back.words}"))
                if column.back.value is not None:
                    console.print(Text(f"      {column.back.value.as_string()}", style="green"))
        if each.left_behind:
            console.print(Text("\n  Left behind on the source"))
            for name, why in each.left_behind:
                console.print(Text.assemble("    ", (name, "bold"), f"  {why}"))
        console.print(Text("\n  All of it, over the source's row s and the id maps of the target"))
        for line in each.select.splitlines():
            console.print(Text(f"    {line}", style="green"))
