"""The whole preflight: look at both databases, compile the mapping, and say everything at once.

Used by `crossfade check`, and by `run` before its first side effect. Refuses to decide anything itself: `probe` asks,
`rules` judge, `mapping.compile` compiles. The invariant: nothing is changed on either side, whatever is found.
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

from crossfade.catalog import Catalog
from crossfade.faults import Fault, Policy
from crossfade.findings import Finding, Kind, Severity
from crossfade.mapping.compile import compile_plan
from crossfade.mapping.expressions import questions
from crossfade.mapping.plan import Plan
from crossfade.mapping.spec import Spec
from crossfade.preflight import observe, probe, rights, zones
from crossfade.preflight.facts import SourceFacts, TargetFacts
from crossfade.preflight.links import unreachable
from crossfade.preflight.listening import listening
from crossfade.preflight.remarks import Remark, Side, remark
from crossfade.preflight.rules import (
    Intent,
    about_servers,
    about_source_tables,
    about_surroundings,
    about_target_tables,
)
from crossfade.session import expressions, rowfilters
from crossfade.session.connect import Connection, connect, server_fault
from crossfade.session.introspect import read_catalog
from crossfade.settings import Settings

_ORDER: Final = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Examined:
    """Everything found, errors first. `plan` is None when the mapping could not be compiled.

    `replica_role` is what the plan was compiled for. `source_sql` and `target_sql` are what a DBA of each side would
    run, without repetitions; `sql` is both, each under a comment that says where it belongs. `to_create` are CREATE
    PUBLICATION statements which our own role may run, and `run` must, before it makes the slot. `source` and `target`
    are the catalogs the plan was made for (None when that side could not be read).
    """

    findings: tuple[Finding, ...]
    plan: Plan | None
    replica_role: bool
    source_sql: tuple[str, ...]
    target_sql: tuple[str, ...]
    to_create: tuple[str, ...] = ()
    source: Catalog | None = None
    target: Catalog | None = None

    @property
    def is_ready(self) -> bool:
        """Whether nothing stands in the way."""
        return all(finding.severity is not Severity.ERROR for finding in self.findings)

    @property
    def sql(self) -> tuple[str, ...]:
        """Ready to paste: comments say on which side each part is to be run."""
        return (
            *(("-- on the source:", *self.source_sql) if self.source_sql else ()),
            *(("-- on the target:", *self.target_sql) if self.target_sql else ()),
        )


@dataclass(frozen=True, slots=True)
class _Source:
    connection: Connection
    facts: SourceFacts
    catalog: Catalog


@dataclass(frozen=True, slots=True)
class _Target:
    connection: Connection
    facts: TargetFacts
    catalog: Catalog


async def examine(settings: Settings, spec: Spec | None, *, resuming: bool = False) -> Examined:
    """Look at everything and raise nothing for what is found, a database that does not answer included.

    `resuming`: the caller has seen our progress already, so a slot of ours and rows in the target are as they should
    be; the same follows by itself when the target's `crossfade.progress` has this workflow. Without `spec` (the
    mapping could not be read) only the servers are looked at.
    """
    intent = Intent(
        workflow=settings.name,
        slot=settings.stream.slot,
        publication=settings.stream.publication,
        append_publication=settings.stream.append_publication,
        workers=settings.copy_.workers,
        resuming=resuming,
        wire=settings.stream.wire,
        source_free=settings.capacity.source_free,
        target_free=settings.capacity.target_free,
    )
    source_dsn = settings.source.dsn.get_secret_value()
    target_dsn = settings.target.dsn.get_secret_value()
    async with AsyncExitStack() as stack:
        # The slot is read before the progress: a daemon that runs meanwhile persists first and acknowledges then, so
        # this order never shows a slot ahead of its progress (A7).
        source = await _attempt(Side.SOURCE, source_dsn, _open_source(stack, source_dsn, intent))
        target = await _attempt(Side.TARGET, target_dsn, _open_target(stack, target_dsn, intent))
        compiled: tuple[Finding, ...] = ()
        tables: list[Remark] = []
        plan = None
        replica_role = isinstance(target, _Target) and target.facts.replica_role
        if isinstance(source, _Source) and isinstance(target, _Target) and spec is not None:
            answers = await _attempt(
                Side.TARGET,
                target_dsn,
                expressions.ask(target.connection, questions(spec, source.catalog, target.catalog)),
            )
            if isinstance(answers, Remark):
                tables.append(answers)
            outcome = compile_plan(
                spec,
                source.catalog,
                target.catalog,
                workflow=settings.name,
                replica_role=replica_role,
                begun_with=target.facts.begun.tables if target.facts.begun is not None else (),
                answers={} if isinstance(answers, Remark) else answers,
            )
            plan = outcome.plan
            compiled = outcome.findings
            if plan is not None:
                tables += await _tables(intent, plan, source, target)
        if isinstance(source, _Source):
            source = await _attempt(Side.SOURCE, source_dsn, _still_blocked(source))
        servers = [each for each in (source, target) if isinstance(each, Remark)]
        servers += about_servers(
            intent,
            source.facts if isinstance(source, _Source) else None,
            target.facts if isinstance(target, _Target) else None,
        )
    servers += listening(settings.http.listen)
    if plan is None:
        tables.append(_NOT_EXAMINED)
    examined = _examined(servers, compiled, tables, plan, replica_role)
    return replace(
        examined,
        source=source.catalog if isinstance(source, _Source) else None,
        target=target.catalog if isinstance(target, _Target) else None,
    )


async def _open_source(stack: AsyncExitStack, dsn: str, intent: Intent) -> _Source:
    connection = await stack.enter_async_context(await connect(dsn, purpose="check", endpoint="source"))
    facts = await probe.source_facts(connection, dsn, publications=(intent.publication, intent.append_publication))
    return _Source(connection, facts, await read_catalog(connection))


async def _open_target(stack: AsyncExitStack, dsn: str, intent: Intent) -> _Target:
    connection = await stack.enter_async_context(await connect(dsn, purpose="check", endpoint="target"))
    facts = await probe.target_facts(connection, workflow=intent.workflow)
    return _Target(connection, facts, await read_catalog(connection))


async def _tables(intent: Intent, plan: Plan, source: _Source, target: _Target) -> list[Remark]:
    source_access = await _attempt(
        Side.SOURCE, "", probe.source_access(source.connection, [table.source_oid for table in plan.tables])
    )
    target_access = await _attempt(
        Side.TARGET,
        "",
        probe.target_access(
            target.connection,
            {target.catalog.tables[table.target].oid: rights.needed_on_target(table) for table in plan.tables},
        ),
    )
    filters = await _attempt(
        Side.SOURCE,
        "",
        rowfilters.read(source.connection, (intent.publication, intent.append_publication), plan.row_filters),
    )
    remarks = [each for each in (source_access, target_access, filters) if isinstance(each, Remark)]
    if not isinstance(source_access, Remark) and not isinstance(filters, Remark):
        remarks.extend(
            about_source_tables(intent, plan, source.facts, source.catalog, source_access, filters, target.facts)
        )
    if not isinstance(target_access, Remark):
        remarks.extend(about_target_tables(intent, plan, target.facts, target.catalog, target_access))
    asked = zones.instants(plan)
    oids = [target.catalog.tables[table.target].oid for table in plan.tables]
    around_source = await _attempt(Side.SOURCE, "", observe.source_natures(source.connection, plan, asked))
    around_target = await _attempt(Side.TARGET, "", observe.target_natures(target.connection, plan, oids, asked))
    remarks.extend(_no_obstacle(each) for each in (around_source, around_target) if isinstance(each, Remark))
    if not isinstance(around_source, Remark) and not isinstance(around_target, Remark):
        catalogs = (source.catalog, target.catalog)
        remarks.extend(
            about_surroundings(intent, plan, source.facts, target.facts, around_source, around_target, catalogs)
        )
    return remarks


def _no_obstacle(unexamined: Remark) -> Remark:
    """What surrounds the tables could not be looked at, on a server that hides a catalog perhaps: somebody should know,
    and a workflow that runs must not end for it. A lost connection is told as the others are."""
    if unexamined.finding.kind is Kind.UNREACHABLE:
        return unexamined
    return replace(unexamined, finding=replace(unexamined.finding, severity=Severity.WARNING))


async def _still_blocked(source: _Source) -> _Source:
    """Where our role may not see since when a transaction runs, only those count that ran all the time we looked."""
    running = {blocker.xid for blocker in await probe.blockers(source.connection)}
    blockers = tuple(blocker for blocker in source.facts.blockers if blocker.xid in running)
    return replace(source, facts=replace(source.facts, blockers=blockers))


async def _attempt(side: Side, dsn: str, work: Awaitable[_T]) -> _T | Remark:
    """Do it, or say in a remark why it could not be done; a bug still climbs."""
    try:
        return await work
    except Fault as fault:
        reason = fault
    except psycopg.Error as error:
        reason = server_fault(error, where=side.value)
        if reason.policy is not Policy.RETRY:
            reason = Fault(
                f"The server refused to answer one of our questions (SQLSTATE {error.sqlstate}).",
                where=side.value,
                do="Report this, with the server's version.",
            )
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.Error:
        given = {}
    role = str(given.get("user") or "")
    return unreachable(side, reason, database=str(given.get("dbname") or role), role=role)


_NOT_EXAMINED: Final = remark(
    Side.BOTH,
    Severity.INFO,
    "tables_not_examined",
    "mapping",
    "Privileges on tables, publications and what the target holds were not looked at: that takes both databases and a"
    " mapping without errors.",
    remedy="Mend the errors, then check again.",
)


def _examined(
    servers: list[Remark], compiled: tuple[Finding, ...], tables: list[Remark], plan: Plan | None, replica_role: bool
) -> Examined:
    """Errors first; among equals servers, mapping, tables: the order in which a person would mend them."""
    # The tables of a split say the same of their source.
    found = [*(each.finding for each in servers), *compiled, *(each.finding for each in tables)]
    findings = sorted(
        dict.fromkeys(found),
        key=lambda finding: _ORDER[finding.severity],
    )

    def statements(side: Side) -> tuple[str, ...]:
        return tuple(dict.fromkeys(sql for each in (*servers, *tables) if each.side is side for sql in each.sql))

    return Examined(
        findings=tuple(findings),
        plan=plan,
        replica_role=replica_role,
        source_sql=statements(Side.SOURCE),
        target_sql=statements(Side.TARGET),
        to_create=tuple(statement for each in tables for statement in each.ours),
    )
