"""`check` as the tests of preflight use it: a prepared pair of databases, examined with least-privilege roles.

A test breaks one thing, sees its finding, lets an admin run the SQL that was printed, and sees the finding gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from crossfade.findings import Finding, Severity
from crossfade.mapping.load import load_mapping
from crossfade.preflight.examine import Examined, examine
from crossfade.settings import load_settings
from tests.servers.daemon import Workspace
from tests.servers.databases import Databases, Side

MAPPING = "version: 1\nschemas: {public: public}\n"
TABLES = """
    CREATE TABLE users (id int PRIMARY KEY, name text);
    CREATE TABLE orders (id int PRIMARY KEY, user_id int NOT NULL REFERENCES users, note text);
    CREATE TABLE log (at int, line text);
"""
WITH_LOG = f"{MAPPING}tables:\n  public.log: {{append_only: true}}\n"


def prepare(databases: Databases, *, publish: bool = True) -> None:
    """Both schemas, all grants, and both publications: nothing to complain about."""
    databases.prepare(source=TABLES, target=TABLES)
    if publish:
        databases.publish("public.users", "public.orders", append=["public.log"])


def examined(
    workspace: Workspace,
    mapping: str = WITH_LOG,
    *,
    resuming: bool = False,
    source_dsn: str = "",
    target_dsn: str = "",
    extra: str = "",
) -> Examined:
    """What `check` would say, with its own role on both sides."""
    workspace.write(mapping, source_dsn=source_dsn, target_dsn=target_dsn, extra=extra)
    settings = load_settings(workspace.config, environment={})
    return asyncio.run(examine(settings, load_mapping(settings.mapping), resuming=resuming))


def errors(found: Examined) -> set[str]:
    """The names of everything that stands in the way."""
    return {finding.name for finding in found.findings if finding.severity is Severity.ERROR}


def names(found: Examined) -> set[str]:
    return {finding.name for finding in found.findings}


def one(found: Examined, name: str) -> Finding:
    """The finding of that name; a test that gets none, or two, fails with what there was."""
    matching = [finding for finding in found.findings if finding.name == name]
    assert len(matching) == 1, "\n".join(f"{each.name}: {each.subject}: {each.sentence}" for each in found.findings)
    return matching[0]


def obey(databases: Databases, found: Examined) -> None:
    """Run the printed SQL as the admin of each side, statement by statement."""
    for statement in found.source_sql:
        databases.source.execute(statement)
    for statement in found.target_sql:
        # The test servers are careless on purpose, and a grant on a parameter would outlive the test.
        if "ALTER SYSTEM" not in statement and "ON PARAMETER" not in statement:
            databases.target.execute(statement)


@contextmanager
def altered(side: Side, broken: str, mended: str) -> Iterator[None]:
    """Something cluster-wide, broken for a while: roles outlive a test's databases."""
    side.execute(broken)
    try:
        yield
    finally:
        side.execute(mended)
