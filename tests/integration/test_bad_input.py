"""Everything an operator can get wrong: a clear message, the exit code scripts rely on, and nothing changed.

The real command is started each time; what it said goes to stderr, and catalogs, slots, publications and rows of both
sides are compared before and after.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from typer.testing import CliRunner

from crossfade.cli.commands import app
from tests.integration.following import follow
from tests.integration.sides import ITEMS, assert_equal, both, streaming, synced
from tests.servers.daemon import Workspace, free_port
from tests.servers.databases import Databases, Side

# What a person types wrong is wrong on every server version.
pytestmark = pytest.mark.one_version

MAPPING = "version: 1\nschemas: {public: public}\n"
ROWS = "INSERT INTO items SELECT n, 'a note' FROM generate_series(1, 20) n;"

_CATALOGS = {
    "schemas": "SELECT nspname, nspowner, nspacl::text FROM pg_namespace WHERE nspname !~ '^pg_(toast|temp)'",
    "relations": "SELECT oid, relname, relnamespace, relkind, relfilenode, relowner, relacl::text, relreplident,"
    " relrowsecurity FROM pg_class WHERE oid >= 16384 AND relpersistence <> 't'",
    "columns": "SELECT attrelid, attnum, attname, atttypid, attnotnull, attisdropped FROM pg_attribute"
    " WHERE attrelid >= 16384",
    "constraints": "SELECT oid, conname, conrelid, pg_get_constraintdef(oid) FROM pg_constraint WHERE oid >= 16384",
    "triggers": "SELECT oid, tgname, tgrelid, tgenabled FROM pg_trigger",
    "functions": "SELECT oid, proname FROM pg_proc WHERE oid >= 16384",
    "publications": "SELECT * FROM pg_publication",
    "published": "SELECT * FROM pg_publication_tables",
    "slots": "SELECT slot_name, plugin, temporary, restart_lsn, confirmed_flush_lsn FROM pg_replication_slots"
    " WHERE database = current_database()",
    "settings": "SELECT setrole, setconfig FROM pg_db_role_setting",
    "roles": "SELECT rolname, rolsuper, rolreplication FROM pg_roles",
}


def picture(side: Side) -> dict[str, list[str]]:
    """All of one database that a command could change; the words for people in crossfade.workflows aside."""
    found = {
        name: sorted(str(row) for row in side.execute(query))  # text: some of these types have no order
        for name, query in _CATALOGS.items()
    }
    for schema, table in side.execute(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname !~ '^pg_' AND schemaname <> 'information_schema'"
    ):
        if (schema, table) != ("crossfade", "workflows"):
            found[f"{schema}.{table}"] = sorted(
                str(row) for (row,) in side.execute(f'SELECT t::text FROM "{schema}"."{table}" t')
            )
    return found


@contextmanager
def untouched(databases: Databases) -> Iterator[None]:
    """What happens inside changes nothing on either side."""
    before = picture(databases.source), picture(databases.target)
    yield
    assert picture(databases.source) == before[0]
    assert picture(databases.target) == before[1]


def told(workspace: Workspace, code: int) -> str:
    """What `crossfade run` says on stderr when it ends with this code; stdout is for data."""
    ended = workspace.run("run", "--until", "caught-up")
    assert ended.returncode == code, ended.stderr
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    return ended.stderr


def refused(workspace: Workspace, code: int, *words: str) -> str:
    """`crossfade run` ends with this code, says these words, and leaves both sides as they were."""
    with untouched(workspace.databases):
        said = told(workspace, code)
    for word in words:
        assert word in said, said
    return said


def checked(workspace: Workspace, code: int) -> dict[str, Any]:
    """What `crossfade check --json` finds. In this process: `test_check_command` starts real ones."""
    ended = CliRunner().invoke(app, ["check", "--json", "--config", str(workspace.config)])
    assert ended.exit_code == code, ended.stdout
    document: dict[str, Any] = json.loads(ended.stdout)
    assert (document["exit_code"], document["ok"]) == (code, code == 0)
    return document


@pytest.fixture
def ready(workspace: Workspace, databases: Databases) -> Workspace:
    """Nothing stands in the way, and nothing was begun."""
    both(databases, rows=ROWS)
    databases.publish("items")
    return workspace.write()


def test_the_ground_is_good(ready: Workspace, databases: Databases) -> None:
    """Without anything wrong it works, and the picture sees what a run changes: else the tests below prove nothing."""
    before = picture(databases.target)
    synced(ready)
    after = picture(databases.target)
    assert {name for name in after if after[name] != before.get(name)} >= {"relations", "public.items"}
    assert picture(databases.source)["slots"]
    assert_equal(databases, "items")


@dataclass(frozen=True, slots=True)
class Mistake:
    """In one of the two files: what is written (after what is right), and what must be said."""

    name: str
    said: tuple[str, ...]
    mapping: str = MAPPING
    extra: str = ""
    replace: tuple[str, str] = ("", "")


_MISTAKES = [
    Mistake("malformed-toml", ("crossfade.toml:",), extra="[copy\nworkers = 1\n"),
    Mistake("unknown-key-toml", ("crossfade.toml:", "workerz", "workers"), extra="[copy]\nworkerz = 1\n"),
    Mistake("wrong-type-toml", ("crossfade.toml:", "copy.workers"), extra='[copy]\nworkers = "many"\n'),
    Mistake("missing-key-toml", ("source.dsn",), replace=("dsn = ", "# dsn = ")),
    Mistake("no-such-mapping-file", ("nowhere.yaml",), replace=("mapping.yaml", "nowhere.yaml")),
    Mistake("bad-dsn", ("libpq",), replace=('dsn = "', 'dsn = "nonsense ')),
    Mistake("malformed-yaml", ("mapping.yaml:3:1", "not YAML"), mapping="version: 1\nschemas: {public: public\n"),
    Mistake("duplicate-key-yaml", ("mapping.yaml:3:1",), mapping=MAPPING + "version: 1\n"),
    Mistake(
        "unknown-key-yaml",
        ("mapping.yaml:5:5", "dropp", "Did you mean 'drop'?"),
        mapping=MAPPING + "tables:\n  public.items:\n    dropp: [note]\n",
    ),
    Mistake(
        "wrong-type-yaml",
        ("mapping.yaml:4:17",),
        mapping=MAPPING + "tables:\n  public.items: 7\n",
    ),
    Mistake(
        "missing-table",
        ("mapping.yaml:", "public.itemz"),
        mapping=MAPPING + "tables:\n  public.items: {from: public.itemz}\n",
    ),
    Mistake(
        "missing-column",
        ("mapping.yaml:", "nota"),
        mapping=MAPPING + "tables:\n  public.items: {columns: {note: nota}}\n",
    ),
    Mistake(
        "filter-of-no-column",
        ("mapping.yaml:", "idd"),
        mapping=MAPPING + 'tables:\n  public.items: {where: "idd > 3"}\n',
    ),
]


def test_mistakes_in_the_files_exit_78(ready: Workspace) -> None:
    """Place, line and remedy on stderr; exit 78, from `run` as from `check`."""
    with untouched(ready.databases):
        for mistake in _MISTAKES:
            ready.write(mistake.mapping, extra=mistake.extra)
            if mistake.replace[0]:
                ready.config.write_text(ready.config.read_text().replace(*mistake.replace))
            said = told(ready, 78)
            for words in mistake.said:
                assert words in said, (mistake.name, said)
            assert checked(ready, 78)["ok"] is False, mistake.name


def test_all_mistakes_are_told_at_once(ready: Workspace) -> None:
    ready.write(MAPPING + "tables:\n  public.items: {dropp: 1, onlly: true}\npolicys: {}\n")
    refused(ready, 78, "dropp", "onlly", "policys")


def test_no_configuration_file_exits_78(ready: Workspace) -> None:
    ready.config.unlink()
    refused(ready, 78, "crossfade.toml")


def test_a_port_somebody_else_has_exits_78(ready: Workspace) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", ready.port))
        other.listen()
        refused(ready, 78, str(ready.port))


@pytest.mark.parametrize("arguments", [("run", "--untill"), ("wait", "--timeout", "soon"), ("nonsense",)], ids=" ".join)
def test_usage_exits_2(ready: Workspace, arguments: tuple[str, ...]) -> None:
    assert ready.run(*arguments).returncode == 2


# unreachable ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ["source", "target"])
def test_a_database_out_of_reach_exits_5(ready: Workspace, databases: Databases, endpoint: str) -> None:
    """Before both have answered once, `run` says which one it is and ends: a wrong password shall not look healthy."""
    side: Side = getattr(databases, endpoint)
    with untouched(databases):
        for wrong in (
            {"port": free_port()},
            {"password": "hunter2"},
            {"dbname": "nothing"},
            {"host": "nowhere.invalid"},
        ):
            ready.write(**{f"{endpoint}_dsn": make_conninfo(side.dsn, **wrong)})
            said = told(ready, 5)
            assert f"{endpoint} (" in said, said
            found = checked(ready, 5)
            assert [each["subject"] for each in found["findings"] if each["name"] == "unreachable"] == [endpoint]
            assert "hunter2" not in said + json.dumps(found)


# the answer is no ----------------------------------------------------------------------------------------------------


def test_a_target_that_is_not_empty_exits_3(ready: Workspace, databases: Databases) -> None:
    """Rows of somebody else are never mixed with ours, nor removed; once they are gone, it begins."""
    databases.target.execute("INSERT INTO items VALUES (77, 'mine')")
    refused(ready, 3, "public.items", "empty")
    databases.target.execute("TRUNCATE items")
    synced(ready)
    assert_equal(databases, "items")


def test_a_slot_name_somebody_has_exits_3(ready: Workspace, databases: Databases) -> None:
    """A slot we do not know to be ours is never read from."""
    databases.source.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [ready.slot])
    refused(ready, 3, ready.slot, "stream.slot")


@pytest.mark.parametrize("replica_role", [False], ids=["origin"])  # with it, on 13 and 14, a superuser misses nothing
def test_missing_privileges_exit_3_with_the_grants(ready: Workspace, databases: Databases) -> None:
    databases.source.execute(f"REVOKE SELECT ON items FROM {databases.source.role}")
    databases.target.execute(f"REVOKE INSERT ON items FROM {databases.target.role}")
    refused(ready, 3, "public.items")
    sql = " ".join(checked(ready, 3)["sql"])
    assert "GRANT SELECT ON" in sql
    assert "GRANT INSERT ON" in sql
    databases.grant()
    synced(ready)


def test_publications_a_dba_must_make_exit_3(ready: Workspace, databases: Databases) -> None:
    databases.source.execute("DROP PUBLICATION crossfade")
    refused(ready, 3, "publication")
    databases.source.execute(next(sql for sql in checked(ready, 3)["sql"] if "CREATE PUBLICATION" in sql))
    synced(ready)


def test_a_slot_dropped_behind_our_back_exits_3(ready: Workspace, databases: Databases) -> None:
    synced(ready)
    databases.source.execute("SELECT pg_drop_replication_slot(%s)", [ready.slot])
    databases.source.execute("INSERT INTO items VALUES (100, 'lost to the stream')")
    refused(ready, 3, ready.slot, "crossfade teardown")


def test_a_slot_moved_behind_our_back_exits_3(ready: Workspace, databases: Databases) -> None:
    synced(ready)
    databases.source.execute("INSERT INTO items VALUES (100, 'lost to the stream')")
    databases.source.execute("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", [ready.slot])
    said = refused(ready, 3, ready.slot, "crossfade teardown")
    assert "lost to the stream" not in said
    assert databases.target.value("SELECT count(*) FROM items") == 20


def test_a_changed_mapping_exits_78(ready: Workspace, databases: Databases) -> None:
    """Rows already copied follow the old one. With it back, it goes on."""
    synced(ready)
    databases.source.execute("INSERT INTO items VALUES (100, 'later')")
    ready.write(MAPPING + "tables:\n  public.items: {drop: [note]}\n")
    refused(ready, 78, "mapping", "crossfade teardown")
    ready.write()
    synced(ready)
    assert_equal(databases, "items")


def test_a_changed_slot_name_exits_78(ready: Workspace, databases: Databases) -> None:
    synced(ready)
    databases.source.execute("INSERT INTO items VALUES (100, 'later')")
    name, ready.slot = ready.slot, f"{ready.slot}_b"
    ready.write()
    refused(ready, 78, name, ready.slot)
    ready.slot = name
    ready.write()
    synced(ready)
    assert_equal(databases, "items")


def test_what_nobody_foresaw_exits_1_and_tells_no_values(ready: Workspace, databases: Databases) -> None:
    """State no version of ours wrote: type and place for the report, not the text, and a restart may help."""
    synced(ready)
    databases.target.execute("UPDATE crossfade.workflows SET paused = 'tell-nobody'")
    said = refused(ready, 1, "an error nobody foresaw", "nothing is lost", "ValueError")
    assert "tell-nobody" not in said
    databases.target.execute("UPDATE crossfade.workflows SET paused = NULL")
    synced(ready)


# somebody else is there ----------------------------------------------------------------------------------------------


def test_a_leader_elsewhere_exits_4_with_no_wait(workspace: Workspace, databases: Databases) -> None:
    followed = follow(workspace, source=ITEMS, rows=ROWS)
    ended = workspace.run("run", "--no-wait", env={"CROSSFADE_HTTP__LISTEN": ""})
    assert ended.returncode == 4, ended.stderr
    assert "Another daemon leads" in ended.stderr
    followed.write("INSERT INTO items VALUES (100, 'unharmed')")
    followed.assert_equal("items")


def test_B3_a_foreign_client_on_the_slot_exits_4_with_no_wait(ready: Workspace, databases: Databases) -> None:
    """Past the time a session of our own could hold it, the holder is a stranger. Without --no-wait we outwait him."""
    synced(ready)
    databases.source.execute("INSERT INTO items VALUES (100, 'later')")
    # What our own former session would be ended after, which is how long we are patient.
    databases.source.execute(f"ALTER ROLE {databases.source.role} SET wal_sender_timeout = '1s'")
    stranger = psycopg.connect(databases.source.admin, autocommit=True, replication="database")
    with closing(stranger):  # not left as a context: a streaming connection can take no COMMIT
        stranger.pgconn.send_query(
            f"START_REPLICATION SLOT {ready.slot} LOGICAL 0/0"
            " (proto_version '1', publication_names 'crossfade')".encode()
        )
        ended = ready.run("run", "--no-wait", timeout=30)
        assert ended.returncode == 4, ended.stderr
        assert ready.slot in ended.stderr
        assert "pg_stat_replication" in ended.stderr
        assert databases.target.value("SELECT count(*) FROM items") == 20
        daemon = ready.daemon()
        daemon.wait_for_line("Another client streams from our slot")
    daemon.wait_until_caught_up()
    assert_equal(databases, "items")


# what scripts rely on ------------------------------------------------------------------------------------------------


def test_the_keys_of_status_and_check(ready: Workspace, databases: Databases) -> None:
    """Fields are added, never renamed or removed, within one schema_version."""
    keys = {
        "": "schema_version name at phase phase_since paused error lag_seconds lag_bytes positions slot tables copy"
        " rates quarantine verify alerts next_steps leader daemon",
        "positions": "received applied durable acknowledged",
        "slot": "name exists active restart_lsn confirmed_flush_lsn retained_bytes safe_wal_size wal_keep_limit"
        " wal_status invalidation_reason",
        "copy": "tables_total tables_done rows bytes rows_per_second percent eta_seconds",
        "rates": "transactions_per_second changes_per_second bytes_per_second",
    }

    keys_of_a_table = "source target state rows_estimated rows_copied bytes_copied from_lsn yields changes clock_notes"

    def assert_keys() -> None:
        document = json.loads(ready.run("status", "--json").stdout)
        assert document["schema_version"] == 1
        for path, names in keys.items():
            assert set(document[path] if path else document) >= set(names.split()), path
        (table,) = document["tables"]
        assert set(table) >= set(keys_of_a_table.split())

    found = checked(ready, 0)
    assert set(found) >= {"schema_version", "ok", "exit_code", "findings", "sql"}
    assert found["schema_version"] == 1
    for finding in found["findings"]:
        assert set(finding) >= {"name", "severity", "kind", "subject", "sentence", "remedy"}
    daemon = streaming(ready)
    assert_keys()
    assert daemon.terminate() == 0
    assert_keys()
