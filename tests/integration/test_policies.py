"""The mapping's policies, and rows the target refuses: what stops, what it says, and that it goes on afterwards.

Most of it is the daemon's own doing and slow to wait for, so it runs on one version only.
"""

from __future__ import annotations

import pytest

from tests.integration.following import RESUME, SAME, follow, prepared
from tests.servers.daemon import Workspace

IDS = "ids:\n  user: {from: public.users.id, to: uuid, strategy: uuid7}\n"
USERS = "CREATE TABLE users (id int PRIMARY KEY, name text);"
NEW_USERS = "CREATE TABLE users (id uuid PRIMARY KEY, name text);"
LOOSE = "CREATE TABLE loose (id int PRIMARY KEY, user_id {kind}); "


@pytest.mark.one_version
def test_missing_row_stop_stops_where_insert_would_put_it_back(workspace: Workspace) -> None:
    """`missing_row: stop` for one table; the default puts the row back. A missing DELETE never stops."""
    followed = follow(
        workspace,
        SAME + "tables:\n  public.strict: {missing_row: stop}\n",
        source="CREATE TABLE strict (id int PRIMARY KEY, n int); CREATE TABLE lax (id int PRIMARY KEY, n int)",
        rows="INSERT INTO strict VALUES (1, 1), (2, 2); INSERT INTO lax VALUES (1, 1)",
    )
    followed.databases.target.execute("DELETE FROM lax; DELETE FROM strict")
    followed.write("UPDATE lax SET n = 2; DELETE FROM strict WHERE id = 2")
    assert followed.target("TABLE lax") == [(1, 2)]
    followed.databases.source.execute("UPDATE strict SET n = 10")
    error = followed.failure()
    assert "public.strict" in error
    assert "the mapping says stop" in error
    followed.databases.target.execute("INSERT INTO strict VALUES (1, 1)")
    followed.resume()
    followed.assert_equal("strict", "lax")
    followed.stop()


@pytest.mark.one_version
def test_orphan_id_error_in_the_copy_and_in_the_stream(workspace: Workspace) -> None:
    """I3: a reference without a parent stops the copy, and later the stream; mended, both go on."""
    prepared(
        workspace,
        f"{SAME}{IDS}policies: {{orphan_id: error}}\n",
        source=USERS
        + LOOSE.format(kind="int")
        + "ALTER TABLE loose ADD FOREIGN KEY (user_id) REFERENCES users NOT VALID",
        target=NEW_USERS + LOOSE.format(kind="uuid"),
    )
    source, target = workspace.databases.source, workspace.databases.target
    unchecked = "SET session_replication_role = replica;"
    source.execute(f"{unchecked} INSERT INTO users VALUES (1, 'one'); INSERT INTO loose VALUES (1, 1), (2, 4711)")
    daemon = workspace.daemon()
    daemon.wait_for_line("orphan_id: error")
    assert "4711" not in daemon.text()
    assert target.value("SELECT count(*) FROM loose") == 0, "the table is not copied"
    source.execute(f"{unchecked} DELETE FROM loose WHERE id = 2")
    workspace.databases.target.execute(RESUME)
    daemon.wait_for_phase("streaming")
    source.execute(f"{unchecked} INSERT INTO loose VALUES (3, 4712)")
    daemon.wait_for_phase("failed")
    source.execute("INSERT INTO users VALUES (4712, 'comes too late for that transaction')")
    error = target.value("SELECT error FROM crossfade.workflows")
    assert "public.users" in error
    assert target.value("SELECT count(*) FROM loose") == 1
    # The mapping's policy is no part of what rows become: it may be changed while we run.
    assert daemon.terminate() == 0
    workspace.write(SAME + IDS)
    daemon.start().wait_until_caught_up()
    assert target.value("SELECT count(*) FROM loose JOIN users ON user_id = users.id") == 2
    assert daemon.terminate() == 0


@pytest.mark.one_version
def test_truncate_stop(workspace: Workspace) -> None:
    """`truncate: stop` keeps the rows; set to apply, and restarted, the truncation is followed."""
    followed = follow(
        workspace,
        SAME + "policies: {truncate: stop}\n",
        source="CREATE TABLE t (id int PRIMARY KEY)",
        rows="INSERT INTO t VALUES (1), (2)",
    )
    followed.databases.source.execute("TRUNCATE t; INSERT INTO t VALUES (3)")
    error = followed.failure()
    assert "public.t" in error
    assert "truncate: apply" in error
    assert followed.target("SELECT count(*) FROM t") == [(2,)]
    followed.stop()
    workspace.write(SAME)
    followed.daemon.start().wait_until_caught_up()
    followed.assert_equal("t")
    followed.stop()


@pytest.mark.one_version
def test_source_column_added_stop_and_ignore(workspace: Workspace) -> None:
    """E1: a column nobody mapped stops the stream and is named; `ignore` passes it by, before and after a restart."""
    followed = follow(
        workspace,
        source="CREATE TABLE t (id int PRIMARY KEY, v text)",
        rows="INSERT INTO t VALUES (1, 'a')",
    )
    followed.write("INSERT INTO t VALUES (2, 'b')")
    followed.databases.source.execute("ALTER TABLE t ADD added int DEFAULT 7; UPDATE t SET v = 'c' WHERE id = 1")
    error = followed.failure()
    assert "added" in error
    assert "source_column_added: ignore" in error
    assert followed.target("SELECT v FROM t WHERE id = 1") == [("a",)]
    followed.stop()
    workspace.write(SAME + "policies: {source_column_added: ignore}\n")
    followed.daemon.start().wait_until_caught_up()
    followed.write(
        "INSERT INTO t VALUES (3, 'd', 9); ALTER TABLE t ADD another int; INSERT INTO t VALUES (4, 'e', 1, 2)"
    )
    followed.assert_equal("t", columns="id, v")
    followed.stop()


@pytest.mark.one_version
def test_F31_rows_that_do_not_fit_stop_the_stream_and_are_never_cut(workspace: Workspace) -> None:
    """varchar(n), a smaller integer, NOT NULL and CHECK on the target: refused with the column, none is cut to fit."""
    followed = follow(
        workspace,
        source="CREATE TABLE t (id int PRIMARY KEY, a text, b bigint, c text, d text)",
        target="CREATE TABLE t (id int PRIMARY KEY, a varchar(3), b int, c text NOT NULL, d text CHECK (d <> 'bad'))",
        rows="INSERT INTO t VALUES (1, 'abc', 1, 'c', 'd')",
    )
    for wrong, sqlstate, named, mend in (
        ("a = 'private four'", "22001", "too long", "ALTER a TYPE varchar(100)"),
        ("b = 3000000000", "22003", "out of the target column's range", "ALTER b TYPE bigint"),
        ("c = NULL", "23502", "column c", "ALTER c DROP NOT NULL"),
        ("d = 'bad'", "23514", "t_d_check", "DROP CONSTRAINT t_d_check"),
    ):
        before = followed.target("TABLE t")
        followed.databases.source.execute(f"UPDATE t SET {wrong}")
        error = followed.failure()
        assert "public.t" in error
        assert sqlstate in error
        assert named in error
        assert "private" not in followed.daemon.text()
        assert "3000000000" not in followed.daemon.text()
        assert followed.target("TABLE t") == before
        followed.databases.target.execute(f"ALTER TABLE t {mend}")
        followed.resume()
        followed.daemon.wait_for_phase("streaming")
        followed.assert_equal("t")
    followed.stop()


def test_F3_a_json_that_jsonb_refuses(workspace: Workspace) -> None:
    r"""`\u0000` is json and no jsonb: the copy stops without telling the value, and goes on when the row is mended."""
    prepared(
        workspace,
        source="CREATE TABLE t (id int PRIMARY KEY, doc json); "
        r"""INSERT INTO t VALUES (1, '{"secret": "\u0000"}'), (2, '{"b": 1, "a": 2, "b": 3}')""",
        target="CREATE TABLE t (id int PRIMARY KEY, doc jsonb)",
    )
    daemon = workspace.daemon()
    daemon.wait_for_line("22P05")
    assert "secret" not in daemon.text()
    workspace.databases.source.execute("UPDATE t SET doc = '[]' WHERE id = 1")
    workspace.databases.target.execute(RESUME)
    daemon.wait_for_phase("streaming")
    # F4: jsonb keeps the last of two equal keys; compared as jsonb, both sides agree.
    query = "SELECT id, doc::jsonb FROM t ORDER BY id"
    assert workspace.databases.target.execute(query) == workspace.databases.source.execute(query)
    assert daemon.terminate() == 0


@pytest.mark.parametrize("replica_role", [False], ids=["origin"])
def test_H10_without_replica_role_a_moved_generated_key_stops(workspace: Workspace) -> None:
    """UPDATE may not touch a GENERATED ALWAYS key and taking the row out could cascade: it stops and says so."""
    followed = follow(
        workspace,
        source="CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text)",
        rows="INSERT INTO t (v) VALUES ('a')",
    )
    followed.databases.source.execute("UPDATE t SET id = DEFAULT")
    error = followed.failure()
    assert "GENERATED ALWAYS" in error
    assert "session_replication_role" in error
    followed.databases.target.execute("ALTER TABLE t ALTER id SET GENERATED BY DEFAULT")
    followed.stop()
    followed.daemon.start().wait_until_caught_up()
    followed.assert_equal("t")
    followed.stop()


@pytest.mark.one_version
def test_F17_values_that_mean_nothing_elsewhere_are_refused(workspace: Workspace) -> None:
    """oid, regclass, xid, pg_lsn and arrays of them name objects of one server: `check` says so for each column."""
    table = "CREATE TABLE t (id int PRIMARY KEY, a oid, b regclass, c xid, d pg_lsn, e regtype[])"
    prepared(workspace, source=table)
    refused = workspace.run("check")
    assert refused.returncode == 78
    for column in ("t.a", "t.b", "t.c", "t.d", "t.e"):
        assert f"public.{column} " in refused.stdout
    workspace.write(SAME + "tables:\n  public.t: {drop: [a, b, c, d, e]}\n")
    assert workspace.run("run", "--until", "caught-up").returncode == 0
