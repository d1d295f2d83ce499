"""What the tables stand on, broken on purpose and mended with what `check` prints: types, collations, partitions,
time zones, space; and what logical replication does not carry."""

from __future__ import annotations

import psycopg
import pytest

from crossfade.findings import Kind, Severity
from tests.integration.checking import MAPPING, errors, examined, names, obey, one
from tests.servers.daemon import Workspace
from tests.servers.databases import Databases


def _pasted(remedy: str) -> list[str]:
    """The statements of a remedy that are not collected for a DBA."""
    return [line for line in remedy.splitlines() if line.endswith(";")]


def test_types_of_one_name_that_are_made_otherwise(databases: Databases, workspace: Workspace) -> None:
    databases.prepare(
        source="""
            CREATE TYPE pair AS (a int, b text);
            CREATE DOMAIN amount AS numeric(10, 2);
            CREATE TYPE mood AS ENUM ('happy', 'so-so', 'sad');
            CREATE TABLE t (id int PRIMARY KEY, p pair, d amount, m mood, ms mood[]);
        """,
        target="""
            CREATE TYPE pair AS (b text, a int);
            CREATE DOMAIN amount AS numeric(10, 2) CONSTRAINT positive CHECK (VALUE > 0);
            CREATE TYPE mood AS ENUM ('sad', 'happy');
            CREATE TABLE t (id int PRIMARY KEY, p pair, d amount, m mood, ms mood[]);
        """,
    )
    databases.publish("public.t")
    found = examined(workspace, MAPPING)
    assert errors(found) == {"composite_differs"}
    composite = one(found, "composite_differs")
    assert (composite.kind, composite.subject) == (Kind.CONFIGURATION, "target type public.pair")
    assert "(a integer, b text) on the source and (b text, a integer) on the target" in composite.sentence
    assert "CHECK ((VALUE > (0)::numeric))" in one(found, "domain_differs").sentence
    labels = [each for each in found.findings if each.name == "type_narrowed" and "'so-so'" in each.sentence]
    assert len(labels) == 2  # the column and the array
    (statement,) = _pasted(labels[0].remedy)
    databases.target.execute(statement)
    databases.target.execute(
        "ALTER DOMAIN amount DROP CONSTRAINT positive; ALTER TABLE t DROP p; DROP TYPE pair;"
        "CREATE TYPE pair AS (a int, b text); ALTER TABLE t ADD p pair"
    )
    assert names(examined(workspace, MAPPING)).isdisjoint({"composite_differs", "domain_differs", "type_narrowed"})


def test_F24_an_extension_of_another_version(databases: Databases, workspace: Workspace) -> None:
    versions = databases.source.execute(
        "SELECT version FROM pg_available_extension_versions WHERE name = 'citext'"
        " AND version IN ('1.4', '1.5', '1.6') ORDER BY 1"
    )
    if len(versions) < 2:
        pytest.skip("this server has no two versions of citext")
    table = "CREATE TABLE t (id int PRIMARY KEY, name citext)"
    databases.prepare(
        source=f"CREATE EXTENSION citext VERSION '1.6'; {table}",
        target=f"CREATE EXTENSION citext VERSION '1.4'; {table}",
    )
    databases.publish("public.t")
    found = examined(workspace, MAPPING)
    assert "citext 1.6 on the source and 1.4 on the target" in one(found, "extension_differs").sentence
    obey(databases, found)
    assert "extension_differs" not in names(examined(workspace, MAPPING))


def test_F23_different_texts_that_are_equal_to_a_unique_column(databases: Databases, workspace: Workspace) -> None:
    caseless = "CREATE COLLATION public.caseless (PROVIDER = icu, LOCALE = 'und-u-ks-level2', DETERMINISTIC = false)"
    try:
        databases.target.execute(caseless)
    except psycopg.errors.FeatureNotSupported:
        pytest.skip("this server was built without ICU, and has no nondeterministic collations")
    databases.prepare(
        source="CREATE TABLE t (id int PRIMARY KEY, name text UNIQUE)",
        target="CREATE TABLE t (id int PRIMARY KEY, name text COLLATE public.caseless UNIQUE)",
    )
    databases.publish("public.t")
    found = examined(workspace, MAPPING)
    finding = one(found, "collation_merges")
    assert (finding.severity, finding.subject) == (Severity.WARNING, "target public.t.name")
    (statement,) = _pasted(finding.remedy)
    databases.target.execute(statement)
    assert "collation_merges" not in names(examined(workspace, MAPPING))


def test_partitioned_targets_that_cannot_take_every_row(databases: Databases, workspace: Workspace) -> None:
    tables = "CREATE TABLE {0} (id int PRIMARY KEY) PARTITION BY {1} (id);"
    databases.prepare(
        source="".join(f"CREATE TABLE {name} (id int PRIMARY KEY);" for name in ("none", "bounded", "hashed")),
        target=tables.format("none", "RANGE")
        + tables.format("bounded", "RANGE")
        + tables.format("hashed", "HASH")
        + "CREATE TABLE bounded_1 PARTITION OF bounded FOR VALUES FROM (0) TO (10);"
        "CREATE TABLE hashed_1 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
        "CREATE TABLE hashed_2 PARTITION OF hashed FOR VALUES WITH (MODULUS 4, REMAINDER 3);",
    )
    databases.publish("public.none", "public.bounded", "public.hashed")
    found = examined(workspace, MAPPING)
    assert errors(found) == {"target_without_partitions"}
    assert {each.subject for each in found.findings if each.name == "target_without_partitions"} == {
        "target public.none",
        "target public.hashed",
    }
    bounded = one(found, "target_partitions_bounded")
    assert "FROM (0) TO (10)" in bounded.sentence
    for statement in _pasted(bounded.remedy):
        databases.target.execute(statement)
    obey(databases, found)
    databases.grant()
    databases.target.execute("INSERT INTO none SELECT generate_series(1, 100)")
    databases.target.execute("INSERT INTO hashed SELECT generate_series(1, 100)")
    databases.target.execute("TRUNCATE none, hashed")
    after = names(examined(workspace, MAPPING))
    assert after.isdisjoint({"target_without_partitions", "target_partitions_bounded"})


def test_what_is_not_replicated_comes_with_what_to_do(databases: Databases, workspace: Workspace) -> None:
    databases.prepare(
        source="""
            CREATE TABLE a (id int PRIMARY KEY);
            CREATE TABLE b (id int PRIMARY KEY);
            CREATE SEQUENCE "Ticket's";
            SELECT lo_create(0);
        """,
        target="""
            CREATE TABLE a ("id" int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY);
            CREATE SEQUENCE down INCREMENT -1;
            CREATE TABLE b (id int PRIMARY KEY DEFAULT nextval('down'), other serial);
        """,
    )
    databases.publish("public.a", "public.b")
    found = examined(workspace, MAPPING)
    assert errors(found) == set()
    sequences = one(found, "sequences_not_replicated")
    assert sequences.severity is Severity.INFO
    assert "public.b.other" not in sequences.sentence  # the target fills it by itself
    databases.target.execute("INSERT INTO a VALUES (7), (41); INSERT INTO b VALUES (-5)")
    for statement in _pasted(sequences.remedy):
        databases.target.execute(statement)
    assert databases.target.execute("INSERT INTO a DEFAULT VALUES RETURNING id") == [(42,)]
    assert databases.target.execute("INSERT INTO b DEFAULT VALUES RETURNING id") == [(-6,)]
    (statement,) = _pasted(one(found, "sequences_of_their_own").remedy)
    assert databases.source.execute(statement) == [(1, False)]
    assert "pg_dump" in one(found, "large_objects").remedy
    # Nothing of it is for now.
    assert not [each for each in (*found.source_sql, *found.target_sql) if "setval" in each]


def test_time_zones_are_compared_and_agree(databases: Databases, workspace: Workspace) -> None:
    """That they are compared at all, the unit tests show; here, that no agreement is mistaken for a difference."""
    databases.prepare(
        source="CREATE TABLE t (id int PRIMARY KEY, a timestamp, b timestamp, c timestamp)",
        target="CREATE TABLE t (id int PRIMARY KEY, a timestamptz, b timestamptz, c timestamptz)",
    )
    databases.publish("public.t")
    mapping = (
        f"{MAPPING}tables:\n  public.t:\n    columns:\n      a: {{timezone: America/New_York}}\n"
        "      b: {timezone: Europe/London}\n      c: {timezone: UTC}\n"
    )
    found = examined(workspace, mapping)
    assert found.plan is not None
    assert names(found).isdisjoint({"time_zone_differs", "time_zone_unknown"})


def test_space_is_judged_once_somebody_says_how_much_there_is(databases: Databases, workspace: Workspace) -> None:
    databases.prepare(
        source="CREATE TABLE t (id int PRIMARY KEY, a text);"
        "INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 2000) AS n",
        target="CREATE TABLE t (id int PRIMARY KEY, a text)",
    )
    databases.publish("public.t")
    small = examined(workspace, MAPPING, extra='[capacity]\nsource_free = "1 MiB"\ntarget_free = "1 MiB"')
    assert errors(small) == {"target_disk_small"}
    assert "rows 2." in one(small, "target_disk_small").sentence
    large = examined(workspace, MAPPING, extra='[capacity]\nsource_free = "9000 GiB"\ntarget_free = "9000 GiB"')
    assert errors(large) == set()
    assert "target_disk_small" not in names(large)
    if databases.source.server.binaries.version_major >= 14:
        assert one(small, "wal_headroom").severity is Severity.WARNING
        assert one(large, "wal_headroom").severity is Severity.INFO


def test_rights_on_what_new_ids_are_taken_from(databases: Databases, workspace: Workspace) -> None:
    databases.prepare(
        source="CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)",
        target="CREATE TABLE a (id bigserial PRIMARY KEY); CREATE TABLE b (id uuid PRIMARY KEY);",
    )
    databases.target.execute("CREATE SCHEMA legacy; CREATE TABLE legacy.b (old int PRIMARY KEY, new uuid)")
    databases.publish("public.a", "public.b")
    databases.target.execute(f"REVOKE ALL ON SEQUENCE a_id_seq FROM {databases.target.role}, PUBLIC")
    mapping = (
        f"{MAPPING}ids:\n  a: {{from: public.a.id, strategy: sequence, sequence: public.a_id_seq}}\n"
        "  b: {from: public.b.id, to: uuid, strategy: table, table: legacy.b}\n"
    )
    found = examined(workspace, mapping)
    assert errors(found) == {"id_source_privilege_missing", "schema_usage_missing"}
    assert "sequences_not_replicated" not in names(found)  # it moves with the ids that are taken from it
    obey(databases, found)
    assert errors(examined(workspace, mapping)) == set()


def test_types_that_make_two_values_equal(databases: Databases, workspace: Workspace) -> None:
    databases.prepare(
        source="CREATE TABLE t (id int PRIMARY KEY, a text UNIQUE, b text UNIQUE, c text UNIQUE, d text)",
        target="CREATE EXTENSION citext;"
        "CREATE TABLE t (id int PRIMARY KEY, a citext UNIQUE, b char(4) UNIQUE, c text UNIQUE, d citext)",
    )
    databases.publish("public.t")
    found = examined(workspace, MAPPING)
    told = [each for each in found.findings if each.name == "unique_may_merge"]
    assert [each.severity for each in told] == [Severity.WARNING, Severity.WARNING]
    assert "citext does not tell upper from lower case" in told[0].sentence
    assert "does not compare spaces at the end" in told[1].sentence


@pytest.mark.one_version
def test_a_catalog_that_is_hidden_is_told_and_stands_in_nobody_s_way(
    databases: Databases, workspace: Workspace
) -> None:
    databases.prepare(source="CREATE TABLE t (id int PRIMARY KEY)", target="CREATE TABLE t (id int PRIMARY KEY)")
    databases.publish("public.t")
    databases.source.execute("REVOKE SELECT ON pg_catalog.pg_largeobject_metadata FROM PUBLIC")
    found = examined(workspace, MAPPING)
    assert errors(found) == set()
    assert one(found, "not_examined").severity is Severity.WARNING
    databases.source.execute("GRANT SELECT ON pg_catalog.pg_largeobject_metadata TO PUBLIC")
    assert "not_examined" not in names(examined(workspace, MAPPING))
