"""`check --data`: asks the source about its rows, with a plan that the rest of the preflight has made.

Refuses to decide anything: `questions` knows what to ask, `ask` asks, `answers` says what it means. The invariant:
both databases are only read, in sessions whose settings are pinned as those of the copy.
"""

from __future__ import annotations

from dataclasses import dataclass

from crossfade.catalog import Catalog
from crossfade.findings import Finding
from crossfade.mapping.plan import Plan
from crossfade.preflight.data import answers
from crossfade.preflight.data.ask import Answers, Asker, clauses
from crossfade.preflight.data.questions import Survey, surveys
from crossfade.session.connect import connect
from crossfade.settings import Settings
from crossfade.wire.form import obstacle


@dataclass(frozen=True, slots=True)
class Looked:
    """What was asked, what was answered, and what it means."""

    surveys: tuple[Survey, ...]
    answers: Answers
    findings: tuple[Finding, ...]


async def look(
    settings: Settings,
    plan: Plan,
    source: Catalog,
    target: Catalog,
    *,
    replica_role: bool,
    seconds: float,
    show_values: bool,
) -> Looked:
    """Ask for at most `seconds`. Raises a `Fault` when a database cannot be reached; a source that is lost on the way
    leaves questions without an answer."""
    read_only = {"default_transaction_read_only": "on"}
    target_dsn, source_dsn = settings.target.dsn.get_secret_value(), settings.source.dsn.get_secret_value()
    async with await connect(target_dsn, purpose="check", endpoint="target", settings=read_only) as connection:
        demanded = await clauses(connection, [target.tables[table.target].oid for table in plan.tables])
    asked = surveys(plan, source, target, demanded, replica_role=replica_role)
    async with await connect(source_dsn, purpose="check", endpoint="source", settings=read_only) as connection:
        answered = await Asker(connection, seconds=seconds, show_values=show_values).ask(asked)
    wire = settings.stream.wire
    found = obstacle(plan, source_version=source.version, target_version=target.version)
    is_text = wire == "text" or found is not None
    return Looked(asked, answered, answers.findings(answered, asked, in_text=is_text))
