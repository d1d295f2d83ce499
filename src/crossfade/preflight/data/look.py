"""`check --data`: asks the source about its rows, with a plan that the rest of the preflight has made.

Refuses to decide anything: `questions` knows what to ask, `ask` asks, `answers` says what it means. The invariant:
both databases are only read, in sessions whose settings are pinned as those of the copy, and nobody waits behind a
lock of ours for longer than a moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import psycopg

from crossfade.catalog import Catalog
from crossfade.copy import queuers
from crossfade.findings import Finding
from crossfade.mapping.plan import Plan
from crossfade.preflight.data import answers
from crossfade.preflight.data.ask import Answers, Asker, clauses
from crossfade.preflight.data.asked import Survey
from crossfade.preflight.data.questions import surveys
from crossfade.session.connect import Connection, connect
from crossfade.settings import Settings
from crossfade.wire.form import obstacle

_READ_ONLY: Final = {"default_transaction_read_only": "on"}
# As often as the copy looks: an ALTER TABLE of the application waits that long for us, at most.
_LOOK_SECONDS: Final = 0.5


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
    target_dsn, source_dsn = settings.target.dsn.get_secret_value(), settings.source.dsn.get_secret_value()
    async with await connect(target_dsn, purpose="check", endpoint="target", settings=_READ_ONLY) as connection:
        demanded = await clauses(connection, [target.tables[table.target].oid for table in plan.tables])
    asked = surveys(plan, source, target, demanded, replica_role=replica_role)
    answered = await ask(source_dsn, asked, seconds=seconds, show_values=show_values)
    wire = settings.stream.wire
    found = obstacle(plan, source_version=source.version, target_version=target.version)
    is_text = wire == "text" or found is not None
    return Looked(asked, answered, answers.findings(answered, asked, in_text=is_text))


async def ask(dsn: str, asked: Sequence[Survey], *, seconds: float, show_values: bool) -> Answers:
    """Put the questions, while a second session looks who queues behind them."""
    async with (
        await connect(dsn, purpose="check", endpoint="source", settings=_READ_ONLY) as connection,
        await connect(dsn, purpose="check queuers", endpoint="source") as watcher,
    ):
        asker = Asker(connection, seconds=seconds, show_values=show_values)
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(_let_pass(watcher, asker), name="check.queuers")
            answered = await asker.ask(asked)
            watching.cancel()
    return answered


async def _let_pass(watcher: Connection, asker: Asker) -> None:
    """Cancel what runs as soon as somebody waits for its lock."""
    try:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if await queuers.behind(watcher, [asker.pid]):
                asker.give_way()
                await watcher.execute("SELECT pg_catalog.pg_cancel_backend(%s)", (asker.pid,))
    except psycopg.Error:
        asker.give_up()
