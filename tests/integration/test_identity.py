"""How old rows are found again, and values too big to be sent again (edge-cases, section D)."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.integration.following import SAME, Followed, prepared, shared
from tests.servers.clusters import Pairs, Versions
from tests.servers.daemon import Workspace
from tests.servers.databases import make_roles

SCHEMA = """
CREATE TABLE d1 (id int PRIMARY KEY, n int, big text, big2 text, note text);
CREATE TABLE d1_index (id int, code text NOT NULL, n int, big text);
CREATE UNIQUE INDEX d1_code ON d1_index (code);
CREATE TABLE d2 (id int PRIMARY KEY, n int, big text);
CREATE TABLE d2_no_key (n int, big text);
CREATE TABLE d3 (a int, b text, c text, d int, PRIMARY KEY (b, a));
CREATE TABLE d4 (name text PRIMARY KEY, n int, note text);
CREATE TABLE d6 (id int PRIMARY KEY, n int, big text);
CREATE TABLE d6_always (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int, big text);
CREATE TABLE d9 (id int PRIMARY KEY, doc json, spot point, x text);
ALTER TABLE d1 ALTER big SET STORAGE EXTERNAL, ALTER big2 SET STORAGE EXTERNAL;
ALTER TABLE d1_index ALTER big SET STORAGE EXTERNAL;
ALTER TABLE d2 ALTER big SET STORAGE EXTERNAL;
ALTER TABLE d2_no_key ALTER big SET STORAGE EXTERNAL;
ALTER TABLE d4 ALTER name SET STORAGE EXTERNAL;
ALTER TABLE d6 ALTER big SET STORAGE EXTERNAL;
ALTER TABLE d6_always ALTER big SET STORAGE EXTERNAL;
"""
IDENTITIES = """
ALTER TABLE d1_index REPLICA IDENTITY USING INDEX d1_code;
ALTER TABLE d2 REPLICA IDENTITY FULL;
ALTER TABLE d2_no_key REPLICA IDENTITY FULL;
ALTER TABLE d9 REPLICA IDENTITY FULL;
"""
# 2,500 bytes that do not compress: stored out of line, and still an index entry.
NAME = "(SELECT string_agg(md5(n::text || {seed}), '') FROM generate_series(1, 78) n)"
ROWS = f"""
INSERT INTO d1 SELECT n, n, repeat('x', 10000), repeat('y', 10000), 'note' FROM generate_series(1, 4) n;
INSERT INTO d1_index SELECT n, 'code' || n, n, repeat('x', 10000) FROM generate_series(1, 3) n;
INSERT INTO d2 SELECT n, n, repeat('x', 10000) FROM generate_series(1, 3) n;
INSERT INTO d2_no_key SELECT n / 2, repeat('x', 10000) FROM generate_series(1, 5) n;
INSERT INTO d3 VALUES (1, 'one', NULL, 1), (2, 'two', 'c', NULL), (3, 'three', 'c', 3);
INSERT INTO d4 VALUES ({NAME.format(seed=1)}, 1, 'one'), ({NAME.format(seed=2)}, 2, 'two');
INSERT INTO d6 SELECT n, n, repeat('x', 10000) FROM generate_series(1, 3) n;
INSERT INTO d6_always (n, big) SELECT n, repeat('x', 10000) FROM generate_series(1, 3) n;
INSERT INTO d9 VALUES (1, '{{"a":  1}}', '(1,2)', 'x'), (2, NULL, NULL, NULL);
"""


@pytest.fixture(scope="module", params=[True, False], ids=["replica", "origin"])
def followed(
    request: pytest.FixtureRequest, postgres: Versions, _pairs: Pairs, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Followed]:
    with shared(
        _pairs.get(postgres, prepare=make_roles),
        tmp_path_factory.mktemp("identity"),
        replica_role=request.param,
        source=SCHEMA + IDENTITIES,
        target=SCHEMA,
        rows=ROWS,
    ) as followed:
        yield followed


def test_D1_an_unchanged_big_value_stays(followed: Followed) -> None:
    """UPDATE of another column: the big ones are not sent and stay as they are, under either kind of index identity."""
    followed.at_once(
        "UPDATE d1 SET n = n + 10 WHERE id < 4",
        "UPDATE d1 SET big = 'small now' WHERE id = 1",
        "UPDATE d1 SET big2 = NULL, note = NULL WHERE id = 2",
        "UPDATE d1 SET big = '', n = n WHERE id = 3",
        "UPDATE d1_index SET n = n + 10",
        "UPDATE d1_index SET code = 'other', n = 99 WHERE id = 2",
        "DELETE FROM d1_index WHERE id = 3",
    )
    followed.assert_equal("d1", "d1_index")
    assert followed.target("SELECT id, length(big), length(big2) FROM d1 ORDER BY id") == [
        (1, 9, 10000),
        (2, 10000, None),
        (3, 0, 10000),
        (4, 10000, 10000),
    ]


def test_D2_full_identity_sends_the_big_value_in_the_old_image(followed: Followed) -> None:
    """Under FULL the new image says unchanged and the old one has the value: even a missing row is put back whole."""
    followed.databases.target.execute("DELETE FROM d2 WHERE id = 1")
    followed.at_once(
        "UPDATE d2 SET n = 10",
        "UPDATE d2_no_key SET n = 7 WHERE ctid = (SELECT min(ctid) FROM d2_no_key WHERE n = 1)",
        "DELETE FROM d2_no_key WHERE ctid = (SELECT min(ctid) FROM d2_no_key WHERE n = 2)",
        "DELETE FROM d2 WHERE id = 3",
    )
    followed.assert_equal("d2", "d2_no_key")
    assert followed.metric("crossfade_conflicts_total", table="public.d2", kind="missing_row") == 1


def test_D3_only_identity_columns_of_an_old_key_mean_anything(followed: Followed) -> None:
    """The K tuple says NULL for every column outside the key: it must not be looked for, or written."""
    followed.at_once(
        "UPDATE d3 SET a = 10 WHERE a = 1",
        "UPDATE d3 SET b = 'zwei', c = NULL WHERE a = 2",
        "DELETE FROM d3 WHERE a = 3",
    )
    assert followed.target("TABLE d3 ORDER BY a") == [(2, "zwei", None, None), (10, "one", None, 1)]


def test_D4_D5_a_key_stored_out_of_line(followed: Followed) -> None:
    """The old key is always logged when it is stored out of line; equal to the new one, it is no change of the key."""
    followed.at_once(
        "UPDATE d4 SET n = 10 WHERE n = 1",
        f"UPDATE d4 SET name = {NAME.format(seed=3)} WHERE n = 2",
        "UPDATE d4 SET note = note || '!'",
    )
    followed.assert_equal("d4")
    followed.at_once("DELETE FROM d4 WHERE n = 10")
    followed.assert_equal("d4")


def test_D4_a_wide_key_is_told_beforehand(followed: Followed) -> None:
    """`check` warns of key columns that may be stored out of line, and names the remedy."""
    told = followed.workspace.run("check")
    assert "d4" in told.stdout, told.stdout
    assert "REPLICA IDENTITY FULL" in told.stdout


def test_D6_a_row_moves_to_another_key_and_keeps_its_big_value(followed: Followed) -> None:
    """UPDATE of the key while a big value is not sent: the row moves, it is not deleted and inserted."""
    followed.at_once(
        "UPDATE d6 SET id = id + 1000 WHERE id = 1",
        "UPDATE d6 SET id = id + 1000, n = 5 WHERE id = 2; UPDATE d6 SET n = 6 WHERE id = 1002",
    )
    followed.assert_equal("d6")
    assert followed.target("SELECT length(big) FROM d6 WHERE id = 1001") == [(10000,)]


def test_D6_H10_an_identity_that_update_refuses_to_touch_moves_too(followed: Followed) -> None:
    """GENERATED ALWAYS AS IDENTITY: UPDATE may not set it, so the row is taken out and put in again, all columns."""
    if not followed.databases.replica_role:
        pytest.skip("without replica role the move could cascade; test_policies has the refusal")
    followed.at_once(
        "UPDATE d6_always SET id = DEFAULT, n = 5 WHERE id = 1",
        "UPDATE d6_always SET n = 6 WHERE id = 2",
        "INSERT INTO d6_always (id, n) OVERRIDING SYSTEM VALUE VALUES (100, 7)",
    )
    followed.assert_equal("d6_always")


def test_D9_full_identity_of_a_table_with_a_key_uses_the_key(followed: Followed) -> None:
    """Under FULL every column is flagged as key; the key the catalog names finds the row, whatever else it holds."""
    followed.databases.target.execute("UPDATE d9 SET x = 'drifted' WHERE id = 1")
    followed.at_once(
        """UPDATE d9 SET doc = '{"b": 2}', x = 'new' WHERE id = 1""",
        "UPDATE d9 SET spot = '(3,4)' WHERE id = 2",
        "UPDATE d9 SET id = 20 WHERE id = 2",
    )
    followed.assert_equal("d9")


def test_D7_a_table_without_an_identity_is_never_published(workspace: Workspace) -> None:
    """Publishing it would make the application's own UPDATEs fail: `check` refuses, `run` changes nothing."""
    table = "CREATE TABLE keyless (a int, b text)"
    workspace.databases.prepare(f"{table}; INSERT INTO keyless VALUES (1, 'x')", table)
    refused = workspace.write(SAME).run("run", "--until", "caught-up")
    assert refused.returncode == 78, refused.stderr
    assert "keyless" in refused.stderr
    assert "REPLICA IDENTITY FULL" in refused.stderr
    assert "append_only" in refused.stderr
    assert workspace.databases.source.value("SELECT count(*) FROM pg_publication") == 0
    workspace.databases.source.execute("UPDATE keyless SET b = 'y'")


@pytest.mark.parametrize(
    ("identity", "finding"),
    [
        ("ALTER TABLE t ADD PRIMARY KEY (a) DEFERRABLE", "identity_deferrable"),
        ("CREATE UNIQUE INDEX t_b ON t (b)", "identity_missing"),
        ("ALTER TABLE t ALTER b SET NOT NULL; CREATE UNIQUE INDEX t_b ON t (b) WHERE b > 0", "identity_missing"),
    ],
    ids=["deferrable", "nullable", "partial"],
)
def test_D13_what_cannot_be_an_identity(workspace: Workspace, identity: str, finding: str) -> None:
    """A deferrable, nullable or partial key cannot identify rows: refused, and the application's UPDATE still works."""
    table = f"CREATE TABLE t (a int, b int); {identity}"
    prepared(workspace, source=table)
    workspace.databases.source.execute("DROP PUBLICATION crossfade; INSERT INTO t VALUES (1, 1)")
    refused = workspace.run("check")
    assert refused.returncode == 78, refused.stdout
    assert finding in refused.stdout
    assert "public.t" in refused.stdout
    assert "REPLICA IDENTITY" in refused.stdout
    workspace.databases.source.execute("UPDATE t SET b = 2")


def test_D7_the_application_s_updates_fail_once_it_is_published(workspace: Workspace) -> None:
    """Why D7 is refused: this is what PostgreSQL does."""
    prepared(workspace, source="CREATE TABLE keyless (a int)")
    workspace.databases.source.execute("INSERT INTO keyless VALUES (1)")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        workspace.databases.source.execute("UPDATE keyless SET a = 2")
