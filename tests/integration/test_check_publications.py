"""What is published, made wrong in every way a publication can be; the SQL that `check` prints makes it right."""

from __future__ import annotations

import psycopg
import pytest

from crossfade.findings import Severity
from tests.integration.checking import MAPPING, TABLES, WITH_LOG, altered, errors, examined, names, obey, one, prepare
from tests.servers.daemon import Workspace
from tests.servers.databases import Databases

WITH_X = f"{MAPPING}exclude: [public.x]\ntables:\n  public.log: {{append_only: true}}\n"
FOR_ALL_TABLES = (
    "DROP PUBLICATION crossfade; CREATE PUBLICATION crossfade FOR ALL TABLES WITH (publish_via_partition_root = true)"
)
PARTS = """
    CREATE TABLE root (id int, k int, v text, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
    CREATE TABLE leaf1 PARTITION OF root FOR VALUES IN (1);
    CREATE TABLE leaf2 PARTITION OF root FOR VALUES IN (2);
"""


def test_missing_and_we_may_not_make_it(databases: Databases, workspace: Workspace) -> None:
    prepare(databases, publish=False)
    found = examined(workspace)
    assert errors(found) == {"publication_missing"}
    assert len(found.source_sql) == 2  # one of every operation, one for append_only tables
    obey(databases, found)
    assert errors(examined(workspace)) == set()


def test_missing_and_we_may_make_it_ourselves(databases: Databases, workspace: Workspace) -> None:
    prepare(databases, publish=False)
    databases.source.execute(f"GRANT CREATE ON DATABASE {databases.source.dbname} TO crossfade")
    for table in ("users", "orders", "log"):
        databases.source.execute(f"ALTER TABLE {table} OWNER TO crossfade")
    found = examined(workspace)
    assert errors(found) == set()
    assert "publication_will_be_created" in names(found)
    assert found.source_sql == ()
    assert len(found.to_create) == 2
    with psycopg.connect(databases.source_dsn, autocommit=True) as ourselves:
        for statement in found.to_create:
            ourselves.execute(statement.encode())
    after = examined(workspace)
    assert errors(after) == set()
    assert "publication_will_be_created" not in names(after)


def test_owning_all_but_one_table_is_not_enough(databases: Databases, workspace: Workspace) -> None:
    prepare(databases, publish=False)
    databases.source.execute(f"GRANT CREATE ON DATABASE {databases.source.dbname} TO crossfade")
    databases.source.execute("ALTER TABLE users OWNER TO crossfade; ALTER TABLE log OWNER TO crossfade")
    found = examined(workspace)
    assert one(found, "publication_missing").subject == "source publication crossfade"
    obey(databases, found)
    assert errors(examined(workspace)) == set()


@pytest.mark.parametrize(
    ("broken", "words", "since"),
    [
        ("ALTER PUBLICATION crossfade DROP TABLE users", "lacks public.users", 13),
        ("CREATE TABLE x (id int PRIMARY KEY); ALTER PUBLICATION crossfade ADD TABLE x", "besides public.x", 13),
        ("ALTER PUBLICATION crossfade SET (publish = 'insert, update')", "instead of insert, update, delete", 13),
        ("ALTER PUBLICATION crossfade SET (publish_via_partition_root = false)", "publish_via_partition_root off", 13),
        ("ALTER PUBLICATION crossfade SET TABLE users (id), orders", "column list for public.users", 15),
        ("ALTER PUBLICATION crossfade SET TABLE users WHERE (id > 1), orders", "row filter on public.users", 15),
        ("CREATE SCHEMA s; ALTER PUBLICATION crossfade ADD TABLES IN SCHEMA s", "publishes whole schemas (s)", 15),
        (FOR_ALL_TABLES, "is FOR ALL TABLES", 13),
        ("ALTER PUBLICATION crossfade SET (publish_generated_columns = stored)", "publishes generated columns", 18),
        (
            "ALTER PUBLICATION crossfade_append SET (publish = 'insert')",
            "publishes insert instead of insert, trunc",
            13,
        ),
    ],
    ids=["lacks", "besides", "C17", "E12", "E10", "E11", "E9-schema", "E9-all", "E19", "append"],
)
def test_different_from_what_the_mapping_needs(
    databases: Databases, workspace: Workspace, broken: str, words: str, since: int
) -> None:
    if databases.source.server.binaries.version_major < since:
        pytest.skip(f"exists since version {since}")
    prepare(databases)
    databases.source.execute(broken)
    found = examined(workspace, WITH_X if "besides" in words else WITH_LOG)
    assert errors(found) == {"publication_differs"}
    assert words in one(found, "publication_differs").sentence
    obey(databases, found)
    after = examined(workspace, WITH_X if "besides" in words else WITH_LOG)
    assert errors(after) == set()
    assert after.source_sql == ()


def test_E9_a_table_in_our_publication_twice_is_still_named_once(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    databases.source.execute("ALTER PUBLICATION crossfade_append ADD TABLE users")
    found = examined(workspace)
    assert "besides public.users" in one(found, "publication_differs").sentence


def test_partitioned_tables_are_published_by_their_root(databases: Databases, workspace: Workspace) -> None:
    databases.prepare(source=PARTS, target=PARTS)
    found = examined(workspace, MAPPING)
    assert [sql.partition(" WITH ")[0] for sql in found.source_sql] == [
        'CREATE PUBLICATION "crossfade" FOR TABLE "public"."root"'
    ]
    obey(databases, found)
    assert errors(examined(workspace, MAPPING)) == set()
    databases.source.execute("ALTER PUBLICATION crossfade ADD TABLE leaf1")
    assert "besides public.leaf1" in one(examined(workspace, MAPPING), "publication_differs").sentence


def test_E14_a_leaf_identified_by_other_columns_than_its_root(databases: Databases, workspace: Workspace) -> None:
    parts = (
        "CREATE TABLE root (id int NOT NULL, k int NOT NULL, o int NOT NULL) PARTITION BY LIST (k);"
        "CREATE TABLE leaf1 PARTITION OF root FOR VALUES IN (1);"
        "CREATE UNIQUE INDEX by_id ON root (id, k);"
    )
    databases.prepare(source=parts, target=parts)
    databases.source.execute(
        "ALTER TABLE root REPLICA IDENTITY USING INDEX by_id; CREATE UNIQUE INDEX other ON leaf1 (o);"
        "ALTER TABLE leaf1 REPLICA IDENTITY USING INDEX other"
    )
    databases.publish("public.root")
    found = examined(workspace, MAPPING)
    assert errors(found) == {"partition_identity"}
    assert one(found, "partition_identity").subject == "source public.leaf1"
    databases.source.execute("ALTER TABLE leaf1 REPLICA IDENTITY USING INDEX leaf1_id_k_idx")
    assert errors(examined(workspace, MAPPING)) == set()


def test_D16_a_foreign_table_as_a_partition(databases: Databases, workspace: Workspace) -> None:
    databases.prepare(
        source="CREATE TABLE root (id int, k int) PARTITION BY LIST (k);"
        "CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER away FOREIGN DATA WRAPPER nothing;"
        "CREATE FOREIGN TABLE leaf1 PARTITION OF root FOR VALUES IN (1) SERVER away",
        target="CREATE TABLE root (id int, k int)",
    )
    mapping = f"{MAPPING}tables:\n  public.root: {{append_only: true}}\n"
    assert one(examined(workspace, mapping), "partition_is_foreign").subject == "source public.leaf1"


@pytest.mark.parametrize("replica_role", [True, False], ids=["replica", "origin"])
def test_H1_a_trigger_that_only_a_partition_has(databases: Databases, workspace: Workspace, replica_role: bool) -> None:
    function = "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
    databases.prepare(
        source=PARTS,
        target=f"{PARTS}{function}CREATE TRIGGER t AFTER INSERT ON leaf1 FOR EACH ROW EXECUTE FUNCTION f()",
    )
    databases.publish("public.root")
    found = examined(workspace, MAPPING)
    if replica_role:
        assert "trigger_fires" not in names(found)
        databases.target.execute("ALTER TABLE leaf1 ENABLE ALWAYS TRIGGER t")
        assert one(examined(workspace, MAPPING), "trigger_fires").severity is Severity.WARNING
    else:
        assert errors(found) == {"trigger_fires"}
    for line in one(examined(workspace, MAPPING), "trigger_fires").remedy.splitlines():
        databases.target.execute(line)
    assert "trigger_fires" not in names(examined(workspace, MAPPING))


def test_G14_a_target_that_is_not_empty(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    databases.target.execute("INSERT INTO users VALUES (1, 'secret'); INSERT INTO orders VALUES (1, 1, 'secret')")
    found = examined(workspace)
    full = [finding for finding in found.findings if finding.name == "target_not_empty"]
    assert [finding.subject for finding in full] == ["target public.orders", "target public.users"]
    assert errors(found) == {"target_not_empty"}
    assert "teardown" in full[0].remedy
    assert not any("TRUNCATE" in statement for statement in found.sql), "destructive: never among the SQL to paste"
    assert not any("secret" in str(finding) for finding in found.findings)
    assert errors(examined(workspace, resuming=True)) == set()
    truncate = next(line for line in full[0].remedy.splitlines() if line.startswith("TRUNCATE"))
    databases.target.execute(truncate)
    assert errors(examined(workspace)) == set()


def test_H5_a_locked_target_table_does_not_hang_us(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    with databases.target.connect(autocommit=False) as holder:
        holder.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        found = examined(workspace)
    finding = one(found, "target_locked")
    assert (finding.subject, finding.severity) == ("target public.users", Severity.WARNING)
    assert "target_not_empty" not in names(found)


def test_a_mapping_with_errors_leaves_the_servers_examined(databases: Databases, workspace: Workspace) -> None:
    databases.prepare(source=TABLES, target="CREATE TABLE users (id int PRIMARY KEY)")
    with altered(databases.source, "ALTER ROLE crossfade NOREPLICATION", "ALTER ROLE crossfade REPLICATION"):
        found = examined(workspace)
    assert found.plan is None
    assert {"role_without_replication", "target_table_missing"} <= errors(found)
    assert "tables_not_examined" in names(found)
