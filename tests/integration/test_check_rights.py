"""Every privilege we need, taken away for real; and the GRANT that `check` prints, run by an admin, brings it back."""

from __future__ import annotations

import pytest

from crossfade.findings import Kind, Severity
from tests.integration.checking import TABLES, altered, errors, examined, names, obey, one, prepare
from tests.servers.daemon import Workspace
from tests.servers.databases import Databases


@pytest.fixture
def replica_role() -> bool:
    """The plain role on the target: before version 15 the other one is a superuser, who lacks nothing."""
    return False


def test_nothing_to_complain_about(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    found = examined(workspace)
    assert errors(found) == set()
    assert found.plan is not None
    assert found.source_sql == ()
    assert found.is_ready


def test_examining_changes_nothing(databases: Databases, workspace: Workspace) -> None:
    prepare(databases, publish=False)
    look = (
        "SELECT (SELECT count(*) FROM pg_replication_slots), (SELECT count(*) FROM pg_publication),"
        " (SELECT array_agg(relacl::text ORDER BY oid) FROM pg_class), (SELECT count(*) FROM pg_class),"
        " (SELECT array_agg(rolname || rolreplication::text ORDER BY oid) FROM pg_roles)"
    )
    before = [side.execute(look) for side in (databases.source, databases.target)]
    examined(workspace)
    assert [side.execute(look) for side in (databases.source, databases.target)] == before


@pytest.mark.parametrize(
    ("side", "broken", "name", "subject"),
    [
        ("source", "REVOKE SELECT ON users FROM crossfade", "select_missing", "source public.users"),
        (
            "source",
            "REVOKE USAGE ON SCHEMA public FROM crossfade, PUBLIC",
            "schema_usage_missing",
            "source schema public",
        ),
        ("target", "REVOKE USAGE ON SCHEMA public FROM {role}, PUBLIC", "schema_usage_missing", "target schema public"),
        ("target", "REVOKE INSERT ON users FROM {role}", "privileges_missing", "target public.users"),
        ("target", "REVOKE SELECT, DELETE ON users FROM {role}", "privileges_missing", "target public.users"),
        ("target", "REVOKE TRUNCATE ON orders FROM {role}", "privileges_missing", "target public.orders"),
        ("target", "REVOKE ALL ON orders FROM {role}", "privileges_missing", "target public.orders"),
        ("target", "DROP SCHEMA crossfade", "state_schema_missing", "target schema crossfade"),
        (
            "target",
            "ALTER SCHEMA crossfade OWNER TO CURRENT_USER",
            "state_schema_foreign",
            "target schema crossfade",
        ),
        (
            "target",
            "CREATE TABLE crossfade.progress (workflow text)",
            "state_tables_foreign",
            "target schema crossfade",
        ),
    ],
)
def test_a_missing_privilege_and_its_grant(
    databases: Databases, workspace: Workspace, side: str, broken: str, name: str, subject: str
) -> None:
    prepare(databases)
    broken_side = databases.source if side == "source" else databases.target
    broken_side.execute(broken.format(role=broken_side.role))
    found = examined(workspace)
    finding = one(found, name)
    assert errors(found) == {name}
    assert (finding.subject, finding.severity, finding.kind) == (subject, Severity.ERROR, Kind.READINESS)
    obey(databases, found)
    assert name not in names(examined(workspace))


def test_many_missing_privileges_at_once_all_mended_by_what_is_printed(
    databases: Databases, workspace: Workspace
) -> None:
    for side in (databases.source, databases.target):
        side.execute('CREATE SCHEMA "O\'dd ""name"""; SET search_path = "O\'dd ""name"""; ' + TABLES)
    mapping = "version: 1\nschemas: {'O''dd \"name\"': 'O''dd \"name\"'}\ntables:\n"
    mapping += '  \'"O\'\'dd ""name""".log\': {append_only: true}\n'
    found = examined(workspace, mapping)
    assert errors(found) == {
        "schema_usage_missing",
        "select_missing",
        "privileges_missing",
        "publication_missing",
    }
    obey(databases, found)
    after = examined(workspace, mapping)
    assert errors(after) == set()
    assert after.source_sql == ()


def test_a_sequence_behind_a_default_nobody_feeds(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    databases.target.execute("CREATE SEQUENCE numbers; ALTER TABLE users ADD no int DEFAULT nextval('numbers')")
    found = examined(workspace)
    assert one(found, "sequence_usage_missing").subject == "target public.users.no"
    obey(databases, found)
    assert errors(examined(workspace)) == set()


def test_a_sequence_behind_a_column_we_feed_is_nobodys_business(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    databases.target.execute("CREATE SEQUENCE numbers; ALTER TABLE users ALTER id SET DEFAULT nextval('numbers')")
    assert errors(examined(workspace)) == set()


@pytest.mark.parametrize("side", ["source", "target"])
def test_G10_row_security_would_hide_rows(databases: Databases, workspace: Workspace, side: str) -> None:
    prepare(databases)
    secured = databases.source if side == "source" else databases.target
    secured.execute("ALTER TABLE users ENABLE ROW LEVEL SECURITY")
    found = examined(workspace)
    assert one(found, "row_security").subject == f"{side} public.users"
    assert errors(found) == {"row_security"}
    with altered(secured, "SELECT 1", f"ALTER ROLE {secured.role} NOBYPASSRLS"):
        obey(databases, found)
        assert errors(examined(workspace)) == set()


def test_the_role_lacks_replication(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    with altered(databases.source, "ALTER ROLE crossfade NOREPLICATION", "ALTER ROLE crossfade REPLICATION"):
        found = examined(workspace)
        assert errors(found) == {"role_without_replication"}
        obey(databases, found)
        assert errors(examined(workspace)) == set()


def test_H3_no_right_to_be_a_replica_is_no_error(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    found = examined(workspace)
    assert not found.replica_role
    finding = one(found, "no_replica_role")
    assert finding.severity is Severity.INFO
    assert errors(found) == set()
    if databases.target.server.binaries.version_major >= 15:
        with altered(databases.target, "SELECT 1", "REVOKE SET ON PARAMETER session_replication_role FROM crossfade"):
            databases.target.execute(finding.remedy.splitlines()[-1])
            after = examined(workspace)
            assert "no_replica_role" not in names(after)
            assert after.replica_role
    else:
        assert "GRANT" not in finding.remedy


def test_H3_what_cannot_be_ordered_is_refused_by_the_mapping_only_then(
    databases: Databases, workspace: Workspace
) -> None:
    prepare(databases)
    databases.target.execute(
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
        "CREATE TRIGGER audit BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION f()"
    )
    found = examined(workspace)
    assert found.plan is None
    assert "tables_not_examined" in names(found)
