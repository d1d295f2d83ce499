"""What our roles may do, and the exact statements that grant what they may not.

Nobody needs to be a superuser; what is missing is said table by table, so that a DBA grants no more than that.
Refuses to know why a privilege is needed beyond the sentence. The invariant: every missing privilege is in exactly
one remark, and its statement, run by the owner or a superuser, makes that remark go away.

PostgreSQL: ddl-priv ("Privileges"), ddl-rowsecurity, sql-grant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from crossfade.catalog import TableName
from crossfade.findings import Severity
from crossfade.mapping.plan import OnTruncate, TablePlan
from crossfade.preflight.facts import Role, SourceAccess, StateSchema, TargetAccess, TargetFacts
from crossfade.preflight.natures import IdSource
from crossfade.preflight.remarks import Remark, Side, listed, qualified, quoted, remark


def needed_on_target(plan: TablePlan) -> tuple[str, ...]:
    """Privileges on a target table, in the order GRANT lists them. DELETE also empties what a broken copy left."""
    return (
        "SELECT",
        "INSERT",
        *(() if plan.append_only else ("UPDATE",)),
        "DELETE",
        *(() if plan.policies.truncate is OnTruncate.STOP else ("TRUNCATE",)),
    )


def source(role: Role, access: Iterable[SourceAccess]) -> Iterator[Remark]:
    """Reading the tables for the copy. The stream needs no privilege on them: REPLICATION is enough."""
    tables = list(access)
    yield from _schemas(Side.SOURCE, role, (each.table for each in tables if not each.schema_usage))
    for each in tables:
        if not each.select:
            yield remark(
                Side.SOURCE,
                Severity.ERROR,
                "select_missing",
                f"source {each.table}",
                "Our role may not read the table, so it cannot be copied.",
                sql=[f"GRANT SELECT ON TABLE {qualified(each.table)} TO {quoted(role.name)};"],
            )
    yield from _hidden(Side.SOURCE, role, (each.table for each in tables if each.rows_hidden))


def target(role: Role, access: Iterable[TargetAccess], written: dict[TableName, frozenset[str]]) -> Iterator[Remark]:
    """Writing the tables; `written` holds the columns we give values to, by table."""
    tables = list(access)
    yield from _schemas(Side.TARGET, role, (each.table for each in tables if not each.schema_usage))
    for each in tables:
        if each.missing:
            yield remark(
                Side.TARGET,
                Severity.ERROR,
                "privileges_missing",
                f"target {each.table}",
                f"Our role lacks {', '.join(each.missing)} on the table.",
                sql=[f"GRANT {', '.join(each.missing)} ON TABLE {qualified(each.table)} TO {quoted(role.name)};"],
            )
        for default in each.sequences:
            if default.column not in written.get(each.table, frozenset()):
                yield remark(
                    Side.TARGET,
                    Severity.ERROR,
                    "sequence_usage_missing",
                    f"target {each.table}.{default.column}",
                    f"The column's default takes numbers from {default.sequence}, which our role may not use.",
                    sql=[f"GRANT USAGE ON SEQUENCE {qualified(default.sequence)} TO {quoted(role.name)};"],
                )
    yield from _hidden(Side.TARGET, role, (each.table for each in tables if each.rows_hidden))


def id_sources(role: Role, sources: Iterable[IdSource]) -> Iterator[Remark]:
    """Sequences and tables that new ids are taken from."""
    found = list(sources)
    yield from _schemas(Side.TARGET, role, (each.name for each in found if not each.schema_usage))
    for each in found:
        if not each.may_use:
            what, privilege = ("sequence", "USAGE") if each.is_sequence else ("table", "SELECT")
            yield remark(
                Side.TARGET,
                Severity.ERROR,
                "id_source_privilege_missing",
                f"target {each.name}",
                f"New ids are taken from this {what}, which our role may not use.",
                sql=[f"GRANT {privilege} ON {what.upper()} {qualified(each.name)} TO {quoted(role.name)};"],
            )


def state(facts: TargetFacts) -> Iterator[Remark]:
    """The schema `crossfade`, where position, id maps and commands live."""
    schema: StateSchema = facts.state
    role = quoted(facts.role.name)
    if not schema.exists:
        if not facts.role.may_create_in_database:
            yield remark(
                Side.TARGET,
                Severity.ERROR,
                "state_schema_missing",
                "target schema crossfade",
                "The schema crossfade, where the position is kept, does not exist, and our role may not create it.",
                remedy="As a superuser, or a role with CREATE on the database:",
                sql=[f"CREATE SCHEMA crossfade AUTHORIZATION {role};"],
            )
        return
    if not (schema.may_use and schema.may_create):
        yield remark(
            Side.TARGET,
            Severity.ERROR,
            "state_schema_foreign",
            "target schema crossfade",
            "The schema crossfade exists, but our role may not use it or create tables in it.",
            sql=[f"GRANT USAGE, CREATE ON SCHEMA crossfade TO {role};"],
        )
    if schema.unwritable:
        yield remark(
            Side.TARGET,
            Severity.ERROR,
            "state_tables_foreign",
            "target schema crossfade",
            f"Our role may not read and write {listed(schema.unwritable)} in schema crossfade.",
            sql=[
                "GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE "
                + ", ".join(qualified(TableName("crossfade", name)) for name in schema.unwritable)
                + f" TO {role};"
            ],
        )


def replica_role(facts: TargetFacts) -> Iterator[Remark]:
    """Not having it is no error: the mapping compiler then refuses what cannot be ordered (H3)."""
    if facts.replica_role:
        return
    grantable = facts.server.major >= 15
    yield remark(
        Side.TARGET,
        Severity.INFO,
        "no_replica_role",
        f"target role {facts.role.name}",
        "Our role may not set session_replication_role: user triggers fire and foreign keys are checked while we"
        " write, so tables are written in the order of their foreign keys (H3).",
        remedy="To write as a replica, which is quicker and takes any order:"
        if grantable
        else "Only a superuser may set it before version 15; nothing to do if the rest of this check is content.",
        sql=[f"GRANT SET ON PARAMETER session_replication_role TO {quoted(facts.role.name)};"] if grantable else (),
    )


def _schemas(side: Side, role: Role, tables: Iterable[TableName]) -> Iterator[Remark]:
    for schema in sorted({table.schema for table in tables}):
        yield remark(
            side,
            Severity.ERROR,
            "schema_usage_missing",
            f"{side.value} schema {schema}",
            "Our role may not look into the schema.",
            sql=[f"GRANT USAGE ON SCHEMA {quoted(schema)} TO {quoted(role.name)};"],
        )


def _hidden(side: Side, role: Role, tables: Iterable[TableName]) -> Iterator[Remark]:
    hidden = sorted(tables)
    if hidden:
        yield remark(
            side,
            Severity.ERROR,
            "row_security",
            f"{side.value} {listed(map(str, hidden))}",
            "Row-level security would hide rows from our role (G10, H11).",
            remedy="As a superuser (or make our role a member of the tables' owner, where RLS is not FORCEd):",
            sql=[f"ALTER ROLE {quoted(role.name)} BYPASSRLS;"],
        )
