"""Another mapping than the one a workflow began with: judged against both databases, then accepted or refused.

Refuses to decide what a change means (`mapping/changes` does) and to touch rows. The invariant: a mapping is accepted
only when the stored text still gives the stored hash, and nothing between the two texts is anything but free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from crossfade.events import Listener, Note
from crossfade.faults import Misconfigured
from crossfade.findings import Finding, Kind, Severity
from crossfade.mapping.changes import Changes, between
from crossfade.mapping.compile import Compiled, compile_plan
from crossfade.mapping.effects import Effect
from crossfade.mapping.expressions import Answers, Asked, questions
from crossfade.mapping.load import parse_mapping
from crossfade.mapping.plan import Plan
from crossfade.mapping.spec import Spec
from crossfade.mapping.specchanges import between_specs
from crossfade.session import expressions
from crossfade.session.both import read_both
from crossfade.session.connect import Connection, connect, server_fault
from crossfade.settings import Settings
from crossfade.state import mappings, schema
from crossfade.target import progress
from crossfade.target.progress import Progress

_COPY_AGAIN = "`crossfade teardown`, empty the target tables, `crossfade run`."


@dataclass(frozen=True, slots=True)
class Compared:
    """What differs. `old_hash` is that of the old mapping with both databases as they are now. None: one of the two
    cannot be compiled against them; they were compared by what they say alone, and `refused` says why."""

    changes: Changes
    old_hash: str | None
    refused: str


async def compare(settings: Settings, old: Spec, new: Spec) -> Compared:
    """Compile both against the databases as they are now. Raises as `connect` does."""
    target_dsn = settings.target.dsn.get_secret_value()
    source, target = await read_both(settings.source.dsn.get_secret_value(), target_dsn, purpose="mapping")
    answers = await _ask(target_dsn, [*questions(old, source, target), *questions(new, source, target)])

    def compiled(spec: Spec) -> Compiled:
        # Which rights we have decides in what order rows are written, not what becomes of them.
        return compile_plan(spec, source, target, workflow=settings.name, replica_role=True, answers=answers)

    before, after = compiled(old), compiled(new)
    if before.plan is not None and after.plan is not None:
        return Compared(between(before.plan, after.plan), before.plan.mapping_hash, "")
    which, broken = ("old", before) if before.plan is None else ("new", after)
    errors = [finding for finding in broken.findings if finding.severity is Severity.ERROR]
    told = "; ".join(f"{finding.subject}: {finding.sentence}" for finding in errors[:3])
    return Compared(between_specs(old, new), None, f"the {which} mapping does not fit the databases: {told}")


@dataclass(frozen=True, slots=True)
class _Judged:
    """`lines` are what `mapping diff` prints, or why nothing could be compared."""

    lines: tuple[str, ...]
    changes: Changes | None


async def settle(
    settings: Settings, spec: Spec, plan: Plan, stored: Progress, target: Connection, *, listener: Listener
) -> None:
    """Accept this mapping for the workflow in progress, or raise Misconfigured with what differs."""
    workflow, text, file = settings.name, spec.text, spec.file
    known = await mappings.current(target, workflow)
    if stored.mapping_hash == plan.mapping_hash:
        why = "spelled in another way, or with other policies" if known is not None else "in progress"
        await mappings.record(target, workflow, text=text, file=file, mapping_hash=plan.mapping_hash, why=why)
        return
    judged = await _judge(settings, spec, stored, known)
    if judged.changes is None:
        raise _refused(settings, judged.lines)
    lines = [f"{change.subject}: {change.sentence}" for change in judged.changes.all]
    await mappings.accept(
        target,
        workflow,
        text=text,
        file=file,
        old_hash=stored.mapping_hash,
        new_hash=plan.mapping_hash,
        why="; ".join(lines),
    )
    listener(Note("mapping_changed", f"Going on with another mapping; all of it is free: {'; '.join(lines)}.", "info"))


async def foresee(settings: Settings, spec: Spec, plan: Plan) -> Finding | None:
    """What `settle` would say, for `check`; None where the workflow never began or this is the mapping in progress."""
    target = await connect(settings.target.dsn.get_secret_value(), purpose="check", endpoint="target")
    try:
        stored = await progress.load(target, settings.name) if await schema.exists(target) else None
        if stored is None or stored.mapping_hash == plan.mapping_hash:
            return None
        known = await mappings.current(target, settings.name)
    except psycopg.Error as error:
        raise server_fault(error, where="target schema crossfade") from None
    finally:
        await target.close()
    judged = await _judge(settings, spec, stored, known)
    if judged.changes is not None:
        told = "\n".join(("This is another mapping than the one in progress:", *judged.lines))
        return Finding("mapping_changed_free", Severity.INFO, Kind.CONFIGURATION, spec.file, told, "")
    fault = _refused(settings, judged.lines)
    return Finding(
        "mapping_changed", Severity.ERROR, Kind.CONFIGURATION, spec.file, f"{fault.what}{fault.means}", fault.do
    )


async def _judge(settings: Settings, spec: Spec, stored: Progress, known: str | None) -> _Judged:
    """`changes` only where all of it is free and the old text still gives the stored hash."""
    if known is None:
        return _Judged(("Its text was not kept by the version it began with, so nothing can be compared.",), None)
    compared = await compare(settings, parse_mapping(known, f"{spec.file}, in progress"), spec)
    lines = tuple(compared.changes.lines())
    if compared.changes.effect is not Effect.FREE:
        return _Judged(lines, None)
    if compared.old_hash != stored.mapping_hash:
        reason = compared.refused or "the databases' schemas are not those it began with, and make other rows"
        return _Judged((f"It cannot be judged: {reason}.",), None)
    return _Judged(lines, compared.changes)


def _refused(settings: Settings, lines: Sequence[str]) -> Misconfigured:
    told = "\n".join(lines)
    return Misconfigured(
        f"The mapping is not the one this workflow was started with.\n{told}\n",
        where=str(settings.mapping),
        means="Rows already copied follow the old one. Nothing was changed.",
        do=f"Put the old mapping back (crossfade.mappings on the target has its text), or to start over with the new "
        f"one: {_COPY_AGAIN}",
    )


async def _ask(dsn: str, asked: Sequence[Asked]) -> Answers:
    """What the target says of the SQL in both."""
    if not asked:
        return {}
    async with await connect(dsn, purpose="mapping", endpoint="target") as connection:
        try:
            return await expressions.ask(connection, asked)
        except psycopg.Error as error:
            raise server_fault(error, where="target") from None
