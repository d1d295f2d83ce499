"""`check`: which kind of finding decides the exit code, and what scripts get."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crossfade.cli.check import check, document, exit_code
from crossfade.cli.checked import look_document
from crossfade.cli.commands import app
from crossfade.findings import Finding, Kind, Severity
from crossfade.preflight.data.ask import Answer, Answers, Size
from crossfade.preflight.data.look import Looked
from tests.unit.mapping.builders import table
from tests.unit.preflight.data.asking import surveyed

(SURVEY,) = surveyed(
    [table("public.t", "id int", "a text", pk="id")], [table("public.t", "id int", "a varchar(3)!", pk="id")]
)


def finding(kind: Kind, severity: Severity = Severity.ERROR) -> Finding:
    return Finding("some_name", severity, kind, "source public.users", "It is so.", "Do this;")


CONFIGURATION, UNREACHABLE, READINESS = (finding(kind) for kind in Kind)


@pytest.mark.parametrize(
    ("findings", "code"),
    [
        ([], 0),
        ([READINESS], 3),
        ([UNREACHABLE], 5),
        ([CONFIGURATION], 78),
        ([READINESS, UNREACHABLE], 5),
        ([READINESS, UNREACHABLE, CONFIGURATION], 78),
        ([finding(Kind.CONFIGURATION, Severity.WARNING)], 0),
        ([finding(Kind.UNREACHABLE, Severity.INFO), READINESS], 3),
    ],
)
def test_the_kind_of_the_errors_decides(findings: list[Finding], code: int) -> None:
    assert exit_code(findings) == code


def test_the_document() -> None:
    assert json.loads(document([READINESS], ["-- on the source:", "GRANT 1;"])) == {
        "schema_version": 1,
        "ok": False,
        "exit_code": 3,
        "findings": [
            {
                "name": "some_name",
                "severity": "error",
                "kind": "readiness",
                "subject": "source public.users",
                "sentence": "It is so.",
                "remedy": "Do this;",
            }
        ],
        "sql": ["-- on the source:", "GRANT 1;"],
    }


def test_a_configuration_that_cannot_be_read_is_a_finding_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "crossfade.toml"
    config.write_text('name = "shop"\nnaem = 1\n')
    assert check(config, True) == 78
    said = json.loads(capsys.readouterr().out)
    assert said["findings"][0]["name"] == "configuration_refused"
    assert "naem" in said["findings"][0]["sentence"]
    assert check(config, False) == 78
    assert "naem" in capsys.readouterr().out


def test_brackets_and_long_lines_are_printed_as_they_are(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = tmp_path / "[bold]" / "missing.toml"
    assert check(config, False) == 78
    assert "[bold]" in capsys.readouterr().out


def test_what_was_asked_of_the_rows_is_a_key_of_its_own() -> None:
    survey, null, long = SURVEY, *SURVEY.questions
    answered = Answers(
        (Answer(survey, null, 3, ((("id", "7"),),), ""), Answer(survey, long, None, (), "the time for --data was up")),
        (Size(survey, survey.sized[0], 12, ""),),
        {(survey.source, survey.target): 40},
        1.23456,
    )
    said = json.loads(document([], [], look_document(Looked((survey,), answered, ()))))["data"]
    assert (said["seconds"], said["finished"]) == (1.235, False)
    (table,) = said["tables"]
    assert (table["source"], table["target"], table["rows"]) == ("public.t", "public.t", 40)
    assert [(each["name"], each["rows"], each["samples"]) for each in table["questions"]] == [
        ("data_null", 3, [{"id": "7"}]),
        ("data_does_not_fit", None, []),
    ]
    assert table["sizes"] == [{"column": "a", "largest_bytes": 12, "why": ""}]
    assert table["not_askable"] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--show-values"], "only with --data"),
        (["--data", "--explain", "app.t"], "not together with --data"),
        (["--data", "--data-timeout", "soon"], "expected a duration"),
    ],
)
def test_options_that_do_not_go_together(arguments: list[str], words: str) -> None:
    answer = CliRunner().invoke(app, ["check", *arguments])
    assert answer.exit_code == 2
    assert words in answer.output
