"""What the roles of deploy/sql can do, and what they cannot; and that the scripts say what the daemon needs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from crossfade.demo.schemas import load_legacy
from crossfade.session.connect import connect
from crossfade.state import schema as state
from tests.servers.databases import ROLE, Databases, Side
from tests.servers.psql import SCRIPTS, script, state_script

TABLE = "CREATE SCHEMA app; CREATE TABLE app.t (id int PRIMARY KEY, note text); INSERT INTO app.t VALUES (1)"
refused = pytest.raises(psycopg.errors.InsufficientPrivilege)
both_roles = pytest.mark.parametrize("replica_role", [True, False], ids=["replica", "origin"])


def test_the_source_role_reads_and_replicates(databases: Databases) -> None:
    databases.prepare(TABLE)
    with psycopg.connect(databases.source_dsn, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM app.t").fetchone() == (1,)
        assert connection.execute("SELECT pg_logical_emit_message(true, 'x', '') IS NOT NULL").fetchone() == (True,)
    with psycopg.connect(databases.source_dsn + " replication=database", autocommit=True) as walsender:
        row = walsender.execute("CREATE_REPLICATION_SLOT roles TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT").fetchone()
        assert row is not None
        with psycopg.connect(databases.source_dsn) as copier:
            copier.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            copier.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(row[2])))
            assert copier.execute("SELECT count(*) FROM app.t").fetchone() == (1,)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO app.t VALUES (2)",
        "UPDATE app.t SET note = ''",
        "DELETE FROM app.t",
        "TRUNCATE app.t",
        "LOCK app.t IN SHARE MODE",
        "ALTER TABLE app.t REPLICA IDENTITY FULL",
        "CREATE TABLE app.mine (id int)",
        "CREATE SCHEMA mine",
        "CREATE PUBLICATION mine FOR TABLE app.t",
        "CREATE ROLE mine",
        "SELECT pg_reload_conf()",
    ],
)
def test_the_source_role_changes_nothing(databases: Databases, statement: str) -> None:
    databases.prepare(TABLE)
    with psycopg.connect(databases.source_dsn) as connection, refused:
        connection.execute(statement)  # type: ignore[arg-type]


@both_roles
def test_the_target_role_writes_rows_and_keeps_its_own_schema(databases: Databases) -> None:
    databases.prepare(target=TABLE)
    with psycopg.connect(databases.target_dsn, autocommit=True) as connection:
        connection.execute("INSERT INTO app.t VALUES (2); UPDATE app.t SET note = 'x'; DELETE FROM app.t WHERE id = 1")
        assert connection.execute("SELECT id, note FROM app.t").fetchall() == [(2, "x")]
        connection.execute("TRUNCATE app.t")
        connection.execute("CREATE TABLE crossfade.id_users (old int PRIMARY KEY, new uuid UNIQUE)")


@pytest.mark.parametrize("replica_role", [False])
@pytest.mark.parametrize(
    "statement",
    [
        "SET session_replication_role = replica",
        "DROP TABLE app.t",
        "ALTER TABLE app.t DISABLE TRIGGER ALL",
        "CREATE TABLE app.mine (id int)",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "SELECT pg_reload_conf()",
    ],
)
def test_the_target_role_changes_no_structure(databases: Databases, statement: str) -> None:
    databases.prepare(target=TABLE)
    with psycopg.connect(databases.target_dsn) as connection, refused:
        connection.execute(statement)  # type: ignore[arg-type]


def test_G4_replica_role_needs_no_superuser_since_15(databases: Databases) -> None:
    with psycopg.connect(databases.target_dsn) as connection:
        connection.execute("SET session_replication_role = replica")
        is_superuser = connection.info.parameter_status("is_superuser")
    assert is_superuser == ("off" if databases.target.server.binaries.version_major >= 15 else "on")


@both_roles
async def test_the_target_role_makes_the_state_tables_itself(databases: Databases) -> None:
    await _ensure(databases)
    assert _owners(databases.target) == {databases.target.role}


async def test_a_dba_may_make_the_state_tables_first(databases: Databases) -> None:
    databases.target.execute(script("state.sql", role=databases.target.role))
    made = _owners(databases.target)
    await _ensure(databases)
    assert made == _owners(databases.target) == {databases.target.role}


def test_state_sql_is_the_daemons_own_schema() -> None:
    assert (SCRIPTS / "state.sql").read_text() == state_script(), "run: make sql"


def test_the_scripts_may_be_run_again(databases: Databases) -> None:
    databases.prepare(TABLE, TABLE)
    databases.grant()
    for _ in range(2):
        databases.target.execute(script("state.sql", role=databases.target.role))


def test_the_example_publications_fit_the_demonstrations_schema(databases: Databases) -> None:
    load_legacy(databases.source_admin, rows=1000)
    databases.source.execute(script("publication.sql", publication="crossfade", append_publication="crossfade_append"))
    published = databases.source.execute(
        "SELECT pubname, pubupdate, pubviaroot, count(*) "
        "FROM pg_publication JOIN pg_publication_tables USING (pubname) GROUP BY 1, 2, 3 ORDER BY 1"
    )
    assert published == [("crossfade", True, True, 8), ("crossfade_append", False, True, 1)]


# -- the same scripts through psql itself

ODD = "cross\"fade o'hara"


@pytest.fixture
def odd_role(databases: Databases) -> Iterator[str]:
    """A name that must be quoted everywhere, and its removal."""
    yield ODD
    name = sql.Identifier(ODD)
    for side in (databases.source, databases.target):
        if side.value("SELECT count(*) FROM pg_roles WHERE rolname = %s", [ODD]):
            side.execute(sql.SQL("DROP OWNED BY {}").format(name))
            side.execute(sql.SQL("DROP ROLE {}").format(name))


@pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed")
def test_psql_runs_the_scripts_as_their_comments_say(databases: Databases, odd_role: str) -> None:
    databases.prepare(TABLE, TABLE)
    for side, name in (
        (databases.source, "source-role.sql"),
        (databases.target, "target-role.sql"),
        (databases.target, "state.sql"),
    ):
        if name == "state.sql":  # the fixture's role owns the schema; the script needs the role that does
            side.execute(sql.SQL("ALTER SCHEMA crossfade OWNER TO {}").format(sql.Identifier(odd_role)))
        _psql(side, name, role=odd_role, schema="app")
    if databases.target.server.binaries.version_major >= 15:
        _psql(databases.target, "target-replica-role.sql", role=odd_role)
    assert databases.source.value(
        "SELECT has_table_privilege(%s, 'app.t', 'SELECT') AND rolreplication FROM pg_roles WHERE rolname = %s",
        [odd_role, odd_role],
    )
    assert databases.target.value("SELECT has_table_privilege(%s, 'app.t', 'TRUNCATE')", [odd_role])
    assert _owners(databases.target) == {odd_role}


def _psql(side: Side, name: str, **variables: str) -> None:
    answer = subprocess.run(
        [
            "psql",
            "--no-psqlrc",
            "--quiet",
            f"--dbname={side.admin}",
            "--set=ON_ERROR_STOP=1",
            *(f"--set={key}={value}" for key, value in variables.items()),
            f"--file={SCRIPTS / name}",
        ],
        env={name: value for name, value in os.environ.items() if not name.startswith("PG")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.returncode, answer.stderr) == (0, "")


async def _ensure(databases: Databases) -> None:
    connection = await connect(databases.target_dsn, purpose="test", endpoint="target")
    async with connection:
        await state.ensure(connection)


def _owners(side: Side) -> set[str]:
    rows = side.execute(
        "SELECT pg_get_userbyid(relowner) FROM pg_class "
        "WHERE relnamespace = 'crossfade'::regnamespace AND relkind = 'r'"
    )
    assert len(rows) >= 5
    return {owner for (owner,) in rows}


def test_the_roles_password_is_asked_for(databases: Databases) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(databases.source.server.dsn(databases.source.dbname, ROLE, "wrong"))
