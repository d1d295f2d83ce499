"""Surveys in a few words, for tests that look at what would be asked and not at any server."""

from __future__ import annotations

from collections.abc import Sequence

from crossfade.catalog import Table
from crossfade.mapping.plan import Plan
from crossfade.preflight.data.asked import Question, Survey
from crossfade.preflight.data.clauses import Clause
from crossfade.preflight.data.questions import surveys
from tests.unit.mapping.builders import catalog, compiled

SCHEMAS = "version: 1\nschemas: {public: public}\n"


def planned(mapping: str, source: Sequence[Table], target: Sequence[Table]) -> Plan:
    made = compiled(SCHEMAS + mapping, list(source), list(target))
    assert made.plan is not None, made.findings
    return made.plan


def surveyed(
    source: Sequence[Table],
    target: Sequence[Table],
    mapping: str = "",
    *,
    clauses: Sequence[Clause] = (),
    replica_role: bool = True,
    version: int = 150018,
) -> tuple[Survey, ...]:
    plan = planned(mapping, source, target)
    return surveys(plan, catalog(*source, version=version), catalog(*target), clauses, replica_role=replica_role)


def asked(found: Sequence[Survey]) -> list[tuple[str, tuple[str, ...]]]:
    """(name, columns) of every question."""
    return [(question.name, question.columns) for survey in found for question in survey.questions]


def the(found: Sequence[Survey], name: str) -> Question:
    """The one question of that name."""
    (question,) = (question for survey in found for question in survey.questions if question.name == name)
    return question
