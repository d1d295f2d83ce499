"""What the roles of deploy/sql can do, and what they cannot."""

from __future__ import annotations

import psycopg
import pytest

from tests.servers.clusters import Pair
from tests.servers.databases import Databases
from tests.servers.psql import SCRIPTS, script, state_script


def test_the_source_role_reads_and_replicates_and_no_more(databases: Databases) -> None:
    databases.prepare("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    with psycopg.connect(databases.source_dsn, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM public.t").fetchone() == (1,)
        for refused in (
            "INSERT INTO public.t VALUES (2)",
            "DELETE FROM public.t",
            "TRUNCATE public.t",
            "CREATE SCHEMA x",
            "CREATE PUBLICATION p FOR TABLE public.t",
            "CREATE ROLE x",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(refused)
        assert connection.execute("SELECT pg_logical_emit_message(true, 'x', '') IS NOT NULL").fetchone() == (True,)
    with psycopg.connect(databases.source_dsn, replication="database", autocommit=True) as walsender:
        slot = "CREATE_REPLICATION_SLOT roles TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT"
        ((name, *_),) = walsender.execute(slot).fetchall()
        assert name == "roles"
