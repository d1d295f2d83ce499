"""What one source transaction, or several in one batch, become on the target (edge-cases, section C).

Cases that end well share one daemon for each kind of role and have tables of their own; those that stop it do not.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import psycopg
import pytest

from tests.integration.following import SAME, Followed, follow, prepared, shared
from tests.servers.clusters import Pairs, Versions
from tests.servers.daemon import Workspace
from tests.servers.databases import make_roles

SCHEMA = """
CREATE TABLE c1_people (id int PRIMARY KEY, email text UNIQUE);
CREATE TABLE c1_seats (id int PRIMARY KEY, place int UNIQUE DEFERRABLE INITIALLY IMMEDIATE);
CREATE TABLE c1_other (id int PRIMARY KEY, note text);
CREATE TABLE c3 (id int PRIMARY KEY, a text DEFAULT 'fresh', b text, how text);
CREATE TABLE c4 (id int PRIMARY KEY, n int, big text);
ALTER TABLE c4 ALTER big SET STORAGE EXTERNAL;
CREATE TABLE c5 (id int PRIMARY KEY, v int, big text);
CREATE TABLE c6 (id int PRIMARY KEY, n int);
CREATE TABLE c7 (a int, b text);
ALTER TABLE c7 REPLICA IDENTITY FULL;
CREATE TABLE c14 (id int PRIMARY KEY, balance int NOT NULL);
CREATE TABLE c15_parents (id int PRIMARY KEY);
CREATE TABLE c15_children (id int PRIMARY KEY, parent_id int NOT NULL REFERENCES c15_parents);
CREATE TABLE c15_nodes (id int PRIMARY KEY, up int REFERENCES c15_nodes DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE c16_a (id serial PRIMARY KEY, v text);
CREATE TABLE c16_b (id int PRIMARY KEY, a_id int REFERENCES c16_a);
CREATE TABLE c18 (id int PRIMARY KEY, n int, note text);
"""
ROWS = """
INSERT INTO c1_people VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd');
INSERT INTO c1_seats VALUES (1, 10), (2, 20), (3, 30);
INSERT INTO c1_other VALUES (1, 'x');
INSERT INTO c3 SELECT n, 'old', 'old', 'old' FROM generate_series(1, 100) n;
INSERT INTO c5 SELECT n, n, CASE WHEN n % 100 = 0 THEN repeat(md5(n::text), 1000) END
    FROM generate_series(1000, 1, -1) n;
INSERT INTO c6 VALUES (1, 0), (2, 0);
INSERT INTO c7 VALUES (1, 'x'), (1, 'x'), (1, 'x'), (NULL, NULL), (NULL, NULL), (2, NULL);
INSERT INTO c14 SELECT n, 100 FROM generate_series(1, 10) n;
INSERT INTO c15_parents VALUES (1);
INSERT INTO c15_children VALUES (1, 1);
INSERT INTO c15_nodes VALUES (2, 1), (1, NULL);
INSERT INTO c16_a (v) VALUES ('one'), ('two');
INSERT INTO c16_b VALUES (1, 1);
INSERT INTO c18 VALUES (1, 1, 'one'), (2, 2, 'two'), (3, 3, 'three');
"""


@pytest.fixture(scope="module", params=[True, False], ids=["replica", "origin"])
def followed(
    request: pytest.FixtureRequest, postgres: Versions, _pairs: Pairs, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Followed]:
    with shared(
        _pairs.get(postgres, prepare=make_roles),
        tmp_path_factory.mktemp("transactions"),
        replica_role=request.param,
        source=SCHEMA,
        rows=ROWS,
    ) as followed:
        yield followed


def test_C1_C2_unique_values_change_hands(followed: Followed) -> None:
    """A unique value moves between rows, inside one transaction and across two of one batch: order makes it fit."""
    followed.at_once(
        "UPDATE c1_people SET email = 'x' WHERE id = 1; UPDATE c1_people SET email = 'a' WHERE id = 2;"
        "UPDATE c1_people SET email = 'b' WHERE id = 1",
        "DELETE FROM c1_people WHERE id = 3; INSERT INTO c1_people VALUES (30, 'c')",
        "DELETE FROM c1_people WHERE id = 4",
        "INSERT INTO c1_people VALUES (40, 'd')",
        "UPDATE c1_people SET email = NULL WHERE id = 40",
        "UPDATE c1_people SET email = 'd' WHERE id = 30",
        "UPDATE c1_people SET email = 'c' WHERE id = 40",
    )
    assert followed.target("TABLE c1_people ORDER BY id") == [(1, "b"), (2, "a"), (30, "d"), (40, "c")]


def test_C1_deferrable_unique_values_swap_in_one_statement(followed: Followed) -> None:
    """A unique constraint deferrable on both sides: one UPDATE swaps two values, applied in origin role, deferred."""
    followed.at_once(
        "INSERT INTO c1_other VALUES (2, 'y'); UPDATE c1_seats SET place = 30 - place WHERE id < 3;"
        "INSERT INTO c1_other VALUES (3, 'z')",
        "UPDATE c1_seats SET place = place + 10",
    )
    assert followed.target("TABLE c1_seats ORDER BY id") == [(1, 30), (2, 20), (3, 40)]
    followed.assert_equal("c1_seats", "c1_other")


def test_C1_a_duplicate_of_a_deferred_unique_value_is_refused(workspace: Workspace) -> None:
    """Replica role would let duplicates of a deferrable unique constraint commit: such a table is applied as origin."""
    followed = follow(
        workspace,
        source="CREATE TABLE seats (id int PRIMARY KEY, place int UNIQUE DEFERRABLE)",
        rows="INSERT INTO seats VALUES (1, 10)",
    )
    followed.databases.target.execute("INSERT INTO seats VALUES (99, 51413)")  # somebody writes where nobody should
    followed.databases.source.execute("INSERT INTO seats VALUES (2, 51413)")
    error = followed.failure()
    assert "seats_place_key" in error
    assert "23505" in error
    assert "51413" not in error, "no row value may be told"
    assert followed.target("SELECT id FROM seats ORDER BY id") == [(1,), (99,)]
    followed.databases.target.execute("DELETE FROM seats WHERE id = 99")
    followed.resume()
    followed.assert_equal("seats")
    followed.stop()


def test_C1_deferrable_on_the_source_only_is_refused(workspace: Workspace) -> None:
    """Deferrable on the source, immediate on the target: values that cross over would be refused, so `check` does."""
    prepared(
        workspace,
        source="CREATE TABLE seats (id int PRIMARY KEY, place int UNIQUE DEFERRABLE)",
        target="CREATE TABLE seats (id int PRIMARY KEY, place int UNIQUE)",
    )
    refused = workspace.run("check")
    assert refused.returncode == 78, refused.stdout
    assert "seats_place_key" in refused.stdout
    assert "DEFERRABLE" in refused.stdout


def test_C3_every_sequence_of_three_changes_of_one_key(followed: Followed) -> None:
    """Insert, update and delete of one key in every possible order, in one transaction and spread over three."""
    change = {
        "I": "INSERT INTO c3 (id, b, how) VALUES ({id}, NULL, '{how}');",
        "U": "UPDATE c3 SET how = '{how}' WHERE id = {id};",
        "D": "DELETE FROM c3 WHERE id = {id};",
    }
    scripts: list[str] = []
    key = 0
    for sequence in itertools.product("IUD", repeat=3):
        if any(pair in ("II", "UI", "DD", "DU") for pair in map("".join, itertools.pairwise(sequence))):
            continue  # no application does that to one key
        for apart in (False, True):
            key += 1
            number = key if sequence[0] != "I" else 1000 + key
            steps = [change[one].format(id=number, how=f"{''.join(sequence)}{at}") for at, one in enumerate(sequence)]
            scripts += steps if apart else ["".join(steps)]
    assert len(scripts) == 8 * 4
    followed.at_once(*scripts)
    followed.assert_equal("c3")


def test_C4_a_big_value_inserted_and_left_alone_by_a_later_update(followed: Followed) -> None:
    """INSERT of a megabyte, then UPDATEs of another column in the same batch, which do not send it again."""
    followed.at_once(
        "INSERT INTO c4 VALUES (1, 0, repeat('x', 1000000)); UPDATE c4 SET n = n + 1; UPDATE c4 SET n = n + 1",
        "UPDATE c4 SET n = n + 1",
        "UPDATE c4 SET id = 2; UPDATE c4 SET n = n + 1",
    )
    assert followed.target("SELECT id, n, left(big, 1), length(big) FROM c4") == [(2, 4, "x", 1000000)]
    followed.at_once(
        "DELETE FROM c4; INSERT INTO c4 VALUES (2, 100, NULL)",
        "UPDATE c4 SET n = n + 1",
    )
    assert followed.target("SELECT n, big FROM c4") == [(101, None)]
    followed.at_once("UPDATE c4 SET big = repeat('y', 1000000); UPDATE c4 SET n = n + 1")
    followed.assert_equal("c4")


def test_C5_keys_shift_in_a_chain(followed: Followed) -> None:
    """`UPDATE c5 SET id = id + 1` over a thousand rows in descending order: each key passes to the next row."""
    followed.at_once(
        "UPDATE c5 SET id = id + 1",
        "UPDATE c5 SET id = -id WHERE id <= 3; UPDATE c5 SET id = 5 + id WHERE id < 0",  # 2 and 3 change places
        "UPDATE c5 SET id = 0 WHERE v = 10; UPDATE c5 SET id = 11 WHERE v = 11; UPDATE c5 SET id = 2000 WHERE v = 10",
    )
    followed.assert_equal("c5")
    assert followed.target("SELECT id FROM c5 WHERE v IN (1, 2, 3, 10, 11) ORDER BY v") == [
        (3,),
        (2,),
        (4,),
        (2000,),
        (11,),
    ]


def test_C6_two_updates_of_one_key_in_a_batch(followed: Followed) -> None:
    """Many updates of one row, in one transaction and in many of one batch: the last one stands."""
    followed.at_once(*["UPDATE c6 SET n = n + 1; UPDATE c6 SET n = n + 1 WHERE id = 1"] * 20)
    assert followed.target("TABLE c6 ORDER BY id") == [(1, 40), (2, 20)]


def test_C7_identical_rows_are_changed_one_at_a_time(followed: Followed) -> None:
    """REPLICA IDENTITY FULL without a key: of three identical rows, one UPDATE and one DELETE touch one each."""
    followed.at_once(
        "DELETE FROM c7 WHERE ctid = (SELECT min(ctid) FROM c7 WHERE a = 1)",
        "UPDATE c7 SET b = 'y' WHERE ctid = (SELECT min(ctid) FROM c7 WHERE a = 1);"
        "INSERT INTO c7 VALUES (1, 'x'), (1, 'x');"
        "DELETE FROM c7 WHERE ctid = (SELECT min(ctid) FROM c7 WHERE b = 'x')",
        "DELETE FROM c7 WHERE ctid = (SELECT min(ctid) FROM c7 WHERE a IS NULL)",
        "UPDATE c7 SET b = 'z' WHERE a = 2",
    )
    followed.assert_equal("c7")
    assert followed.target("SELECT a, b, count(*) FROM c7 GROUP BY 1, 2 ORDER BY 1, 2") == [
        (1, "x", 2),
        (1, "y", 1),
        (2, "z", 1),
        (None, None, 1),
    ]


def test_C14_no_reader_sees_half_a_transfer(followed: Followed) -> None:
    """Transfers between accounts in transactions of two updates: each snapshot of the target has the same sum."""
    sums: set[int] = set()

    def look() -> bool:
        sums.add(followed.databases.target.value("SELECT sum(balance) FROM c14"))
        return followed.databases.caught_up(mark)

    with psycopg.connect(followed.databases.source_admin, autocommit=True) as source:
        for n in range(300):
            with source.transaction():
                source.execute("UPDATE c14 SET balance = balance - 7 WHERE id = %s", (n % 10 + 1,))
                source.execute("UPDATE c14 SET balance = balance + 7 WHERE id = %s", (n * 7 % 10 + 1,))
    mark = followed.databases.mark()
    followed.daemon.wait_for(look, "caught up")
    assert sums == {1000}
    followed.assert_equal("c14")


def test_C15_parents_and_children_of_one_transaction(followed: Followed) -> None:
    """Parent and child rows inserted and deleted in one transaction: the foreign key holds at every statement."""
    followed.at_once(
        "INSERT INTO c15_parents VALUES (2); INSERT INTO c15_children VALUES (2, 2), (3, 2)",
        "DELETE FROM c15_children WHERE parent_id = 1; DELETE FROM c15_parents WHERE id = 1",
        "INSERT INTO c15_nodes VALUES (4, 3), (3, 1); DELETE FROM c15_nodes WHERE id = 2",
        "UPDATE c15_children SET parent_id = 2; INSERT INTO c15_parents VALUES (3);"
        "UPDATE c15_children SET parent_id = 3",
        "DELETE FROM c15_parents WHERE id = 2",
    )
    followed.assert_equal("c15_parents", "c15_children", "c15_nodes")


def test_C16_truncate(followed: Followed) -> None:
    """TRUNCATE of several tables, CASCADE, RESTART IDENTITY, with inserts after it, and one that was rolled back."""
    followed.at_once(
        "BEGIN; SAVEPOINT s; TRUNCATE c16_a CASCADE; ROLLBACK TO s; INSERT INTO c16_a (v) VALUES ('three'); COMMIT",
    )
    assert followed.target("SELECT count(*) FROM c16_a") == [(3,)]
    followed.at_once(
        "INSERT INTO c16_b VALUES (2, 2); TRUNCATE c16_a RESTART IDENTITY CASCADE;"
        "INSERT INTO c16_a (v) VALUES ('new'); INSERT INTO c16_b VALUES (3, 1)",
        "UPDATE c16_a SET v = 'newer'",
    )
    assert followed.target("SELECT a.id, v, b.id FROM c16_a a JOIN c16_b b ON a_id = a.id") == [(1, "newer", 3)]
    followed.at_once("TRUNCATE c16_b, c16_a", "INSERT INTO c16_a VALUES (7, 'seven')")
    followed.assert_equal("c16_a", "c16_b")


def test_C16_truncate_of_a_table_that_something_unmapped_refers_to(workspace: Workspace) -> None:
    """TRUNCATE of the target would be refused because of a foreign key from outside: its rows are deleted instead.

    Neither fires the target's triggers, even after a change of a table that is applied in origin role.
    """
    tables = """
        CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY REFERENCES a);
        CREATE TABLE alone (id int PRIMARY KEY); CREATE TABLE deferred (id int PRIMARY KEY, u int UNIQUE DEFERRABLE);
    """
    followed = follow(
        workspace,
        source=tables,
        target=tables
        + """
        CREATE TABLE outside (a_id int REFERENCES a); CREATE TABLE fired (what text);
        CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO fired VALUES (tg_op); RETURN NULL; END $$;
        CREATE TRIGGER t1 AFTER TRUNCATE ON alone EXECUTE FUNCTION fire();
        CREATE TRIGGER t2 AFTER DELETE ON a EXECUTE FUNCTION fire();
        """,
        rows="INSERT INTO a SELECT generate_series(1, 100); INSERT INTO b VALUES (1); INSERT INTO alone VALUES (1)",
    )
    followed.write(
        "INSERT INTO deferred VALUES (1, 1); TRUNCATE alone; INSERT INTO deferred VALUES (2, 2); TRUNCATE a, b;"
        "INSERT INTO a VALUES (5)"
    )
    followed.assert_equal("a", "b", "alone", "deferred")
    assert followed.target("TABLE fired") == []
    followed.stop()


def test_C18_an_update_whose_row_is_gone_puts_a_complete_row_back(followed: Followed) -> None:
    """A row was deleted on the target behind our back: the UPDATE's whole image is inserted and counted."""
    followed.databases.target.execute("DELETE FROM c18 WHERE id IN (1, 3)")
    followed.at_once(
        "UPDATE c18 SET n = 10 WHERE id = 1; UPDATE c18 SET n = 20 WHERE id = 2",
        "DELETE FROM c18 WHERE id = 3",
        "UPDATE c18 SET id = 100 WHERE id = 1",
    )
    followed.assert_equal("c18")
    assert followed.metric("crossfade_conflicts_total", table="public.c18", kind="missing_row") == 2


def test_C18_an_update_whose_row_is_gone_and_whose_image_is_not_complete_stops(workspace: Workspace) -> None:
    """Its big value was not sent: a row without it would be broken, so it stops; the row put back, it goes on."""
    followed = follow(
        workspace,
        SAME,
        source="CREATE TABLE t (id int PRIMARY KEY, n int, big text); ALTER TABLE t ALTER big SET STORAGE EXTERNAL",
        rows="INSERT INTO t VALUES (1, 1, repeat('x', 10000)), (2, 2, 'small')",
    )
    followed.databases.target.execute("DELETE FROM t WHERE id = 1")
    followed.databases.source.execute("UPDATE t SET n = 20 WHERE id = 2")
    followed.databases.source.execute("UPDATE t SET n = 10 WHERE id = 1")
    followed.databases.source.execute("UPDATE t SET n = 30 WHERE id = 2")
    error = followed.failure()
    assert "public.t" in error
    assert "TOAST" in error
    assert followed.target("SELECT id, n FROM t") == [(2, 20)], "the transaction before it is durable, the next is not"
    followed.databases.target.execute("INSERT INTO t VALUES (1, 1, repeat('x', 10000))")
    followed.resume()
    followed.assert_equal("t")
    followed.stop()
