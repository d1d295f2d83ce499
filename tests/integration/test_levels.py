"""Which level takes a batch, and that its rows are right: each case names the level it must have come to.

Everything is folded here, however few changes a batch has, in both forms of the stream and both kinds of role.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.integration.following import MODE, SAME, Followed, assert_came, came, follow, shared
from tests.servers.clusters import Pairs, Versions
from tests.servers.daemon import Workspace
from tests.servers.databases import make_roles

FOLD = {"CROSSFADE_FAILPOINTS": "fold_few"}
MAPPING = f"""{SAME}
ids:
  user: {{from: public.users.id, to: uuid, strategy: uuid7}}
tables:
  public.log: {{append_only: true}}
"""
SOURCE = """
CREATE TABLE people (id int PRIMARY KEY, email text UNIQUE, note text);
CREATE TABLE keys (id int PRIMARY KEY, v int);
CREATE TABLE moved (id int PRIMARY KEY, n int, big text, other text);
ALTER TABLE moved ALTER big SET STORAGE EXTERNAL, ALTER other SET STORAGE EXTERNAL;
CREATE TABLE changed (id int PRIMARY KEY, a text DEFAULT 'fresh', how text);
CREATE TABLE keyless (a int, b text);
ALTER TABLE keyless REPLICA IDENTITY FULL;
CREATE TABLE gone (id int PRIMARY KEY, n int, note text);
CREATE TABLE many (id bigint PRIMARY KEY, a text, b int, c numeric(10,2), d timestamptz, e int[]);
CREATE TABLE seats (id int PRIMARY KEY, place int UNIQUE DEFERRABLE INITIALLY IMMEDIATE);
CREATE TABLE parents (id int PRIMARY KEY, v int);
CREATE TABLE children (id int PRIMARY KEY, parent_id int NOT NULL REFERENCES parents, v int);
CREATE TABLE priced (id numeric PRIMARY KEY, parent_id int NOT NULL REFERENCES parents);
CREATE TABLE users (id bigint PRIMARY KEY, name text);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint NOT NULL REFERENCES users, n int);
CREATE TABLE log (line text);
CREATE TABLE narrow (id int PRIMARY KEY, v text, u text);
CREATE TABLE excluded (id int PRIMARY KEY, during int4range);
CREATE TABLE tru (id int PRIMARY KEY);
"""
TARGET = (
    SOURCE.replace("CREATE TABLE users (id bigint", "CREATE TABLE users (id uuid")
    .replace("user_id bigint", "user_id uuid")
    .replace("v text, u text", "v varchar(3), u text UNIQUE")
    .replace("during int4range", "during int4range, EXCLUDE USING gist (during WITH &&)")
)
ROWS = """
INSERT INTO people SELECT n, 'p' || n, 'old' FROM generate_series(1, 10) n;
INSERT INTO keys SELECT n, n FROM generate_series(100, 1, -1) n;
INSERT INTO moved SELECT n, n, repeat(md5(n::text), 300), repeat(md5('x' || n), 300) FROM generate_series(1, 6) n;
INSERT INTO changed SELECT n, 'old', 'old' FROM generate_series(1, 5) n;
INSERT INTO keyless VALUES (1, 'x'), (1, 'x'), (1, 'x');
INSERT INTO gone SELECT n, n, 'n' FROM generate_series(1, 4) n;
INSERT INTO seats VALUES (1, 10), (2, 20);
INSERT INTO parents VALUES (1, 0), (500, 0);
INSERT INTO children VALUES (1, 1, 0);
INSERT INTO priced VALUES (1.0, 500), (2.0, 500);
INSERT INTO users SELECT n, 'u' || n FROM generate_series(1, 5) n;
INSERT INTO orders SELECT n, n % 5 + 1, n FROM generate_series(1, 20) n;
INSERT INTO narrow VALUES (1, 'abc', 'a'), (2, 'abc', 'b');
INSERT INTO excluded VALUES (1, '[1,2)'), (2, '[2,3)');
INSERT INTO tru VALUES (1);
"""


@dataclass(frozen=True, slots=True)
class Way:
    replica_role: bool
    wire: str

    def __str__(self) -> str:
        return f"{'replica' if self.replica_role else 'origin'}-{self.wire}"


WAYS = [Way(replica_role, wire) for replica_role in (True, False) for wire in ("auto", "text")]


@pytest.fixture(scope="module", params=WAYS, ids=str)
def way(request: pytest.FixtureRequest) -> Way:
    param: Way = request.param
    return param


@pytest.fixture(scope="module")
def followed(
    way: Way, postgres: Versions, _pairs: Pairs, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Followed]:
    with shared(
        _pairs.get(postgres, prepare=make_roles),
        tmp_path_factory.mktemp("levels"),
        MAPPING,
        replica_role=way.replica_role,
        source=SOURCE,
        target=TARGET,
        rows=ROWS,
        append=['"public"."log"'],
        extra=f'[stream]\nwire = "{way.wire}"',
        env=FOLD,
    ) as followed:
        yield followed


def arrays(followed: Followed, way: Way) -> set[tuple[str, str]]:
    """What takes updates of rows with an array: in binary they are written anew, which only replica role may do."""
    can_be_binary = followed.databases.source.value("SELECT current_setting('server_version_num')::int >= 140000")
    is_binary = way.wire == "auto" and can_be_binary
    return came("exact", "array") if is_binary and not way.replica_role else came("set")


def test_C6_inserts_updates_and_deletes_are_sets(followed: Followed, way: Way) -> None:
    """A thousand new rows (COPY), some of them changed and deleted in the same batch, NULLs, arrays, odd texts."""
    taken = followed.taken_by(
        "BEGIN; INSERT INTO many SELECT n, CASE n % 3 WHEN 0 THEN NULL WHEN 1 THEN E'a\\tb\\\\\\nc\"{}' ELSE '' END, n,"
        " n / 7.0, timestamptz '2020-01-01' + n * interval '1 hour', ARRAY[n, NULL, n] FROM generate_series(1, 1000) n;"
        "UPDATE many SET b = -b WHERE id % 2 = 0 AND id <= 1000;"
        "DELETE FROM many WHERE id % 5 = 0 AND id <= 1000; COMMIT",
        "INSERT INTO log SELECT 'line ' || n FROM generate_series(1, 300) n",
    )
    assert_came(taken, came("set"))
    followed.assert_equal("many", "log")
    taken = followed.taken_by(
        "UPDATE many SET b = b + 1, a = coalesce(a, 'null'), c = c * 2 WHERE id < 500",
        "UPDATE many SET d = 'infinity' WHERE id = 1; DELETE FROM many WHERE id BETWEEN 991 AND 1000;"
        "INSERT INTO many VALUES (5000)",
    )
    assert_came(taken, arrays(followed, way))
    followed.assert_equal("many")


def test_F15_arrays_of_every_shape_are_updated(followed: Followed, way: Way) -> None:
    followed.write("INSERT INTO many (id, e) VALUES (7001, '{1}'), (7002, NULL), (7003, '{}')")
    taken = followed.taken_by(
        "UPDATE many SET e = ARRAY[[1, NULL], [2, 3]] WHERE id = 7001; UPDATE many SET e = '{}' WHERE id = 7002;"
        "UPDATE many SET e = '[3:4]={1,2}' WHERE id = 7003"
    )
    assert_came(taken, arrays(followed, way))
    followed.assert_equal("many")


def test_C1_unique_values_change_places(followed: Followed, way: Way) -> None:
    """Sets are refused (23505); final state takes the rows out and in, the exact path goes through the middle."""
    taken = followed.taken_by(
        "UPDATE people SET email = 'x' WHERE id = 1; UPDATE people SET email = 'p1' WHERE id = 2;"
        "UPDATE people SET email = 'p2' WHERE id = 1",
        "INSERT INTO people VALUES (50, 'p50', 'new')",
    )
    assert_came(taken, came("final" if way.replica_role else "exact", "unique"))
    followed.assert_equal("people")


def test_C2_a_unique_value_goes_to_another_row(followed: Followed, way: Way) -> None:
    """From a deleted row to a new one is a set (deletes come first, where no foreign key orders them)."""
    taken = followed.taken_by(
        "DELETE FROM people WHERE id = 9; INSERT INTO people VALUES (90, 'p9', 'heir')",
    )
    assert_came(taken, came("set"))
    followed.assert_equal("people")


@pytest.mark.parametrize("apart", [False, True], ids=["together", "apart"])
def test_C3_what_becomes_of_a_key_in_a_batch(followed: Followed, apart: bool) -> None:
    """A row deleted and made anew is reset to what the INSERT says; one born and gone leaves no trace."""
    base = 100 if apart else 10
    scripts = [
        f"DELETE FROM changed WHERE id = 1; INSERT INTO changed VALUES ({base}, DEFAULT, 'IDI'), (1, NULL, 'DI')",
        f"DELETE FROM changed WHERE id = {base}; UPDATE changed SET how = 'U' WHERE id = 2",
        f"INSERT INTO changed VALUES ({base}, DEFAULT, 'again'); DELETE FROM changed WHERE id = 2",
        f"INSERT INTO changed VALUES ({base + 1}); DELETE FROM changed WHERE id = {base + 1}",
        "INSERT INTO changed (id) VALUES (2)",
    ]
    taken = followed.taken_by(*(scripts if apart else ["".join(f"{script};" for script in scripts)]))
    assert_came(taken, came("set"))
    followed.assert_equal("changed")


def test_C4_D1_values_not_sent_stay_and_values_of_the_batch_are_carried(followed: Followed) -> None:
    taken = followed.taken_by(
        "INSERT INTO moved VALUES (20, 0, repeat('x', 10000), repeat('y', 10000)); UPDATE moved SET n = n + 1",
        "UPDATE moved SET big = 'short' WHERE id = 2; UPDATE moved SET n = n + 1",
        "UPDATE moved SET other = NULL WHERE id = 3",
    )
    assert_came(taken, came("set"))
    followed.assert_equal("moved")


def test_C5_D6_keys_shift_and_take_along_what_was_not_sent(followed: Followed, way: Way) -> None:
    level = "final" if way.replica_role else "exact"
    assert_came(followed.taken_by("UPDATE keys SET id = id + 1"), came(level, "moves"))
    followed.assert_equal("keys")
    taken = followed.taken_by(
        "UPDATE moved SET id = id + 100 WHERE id < 4; UPDATE moved SET other = 'new' WHERE id = 101",
        "UPDATE moved SET n = -1 WHERE id IN (4, 102); DELETE FROM moved WHERE id = 5",
    )
    assert_came(taken, came(level, "moves"))
    followed.assert_equal("moved")


def test_C7_identical_rows_are_for_the_exact_path(followed: Followed) -> None:
    taken = followed.taken_by("DELETE FROM keyless WHERE ctid = (SELECT min(ctid) FROM keyless)")
    assert_came(taken, came("exact", "no_key"))
    followed.assert_equal("keyless")
    assert_came(followed.taken_by("INSERT INTO keyless VALUES (2, 'y'), (2, 'y')"), came("set"))
    followed.assert_equal("keyless")


def test_C15_parents_and_children_come_and_go(followed: Followed) -> None:
    """Parents first, children deleted first: with the foreign key enforced as well."""
    taken = followed.taken_by(
        "INSERT INTO parents VALUES (2, 0), (3, 0); INSERT INTO children VALUES (2, 2, 0), (3, 3, 0)",
        "UPDATE children SET parent_id = 3 WHERE id = 1; DELETE FROM parents WHERE id = 1",
        "DELETE FROM children WHERE id = 2; DELETE FROM parents WHERE id = 2",
    )
    assert_came(taken, came("set"))
    followed.assert_equal("parents", "children")


def test_C18_a_missing_row_is_found_by_its_count(followed: Followed) -> None:
    conflicts = followed.metric("crossfade_conflicts_total", table="public.gone", kind="missing_row")
    followed.databases.target.execute("DELETE FROM gone WHERE id IN (1, 3)")
    assert_came(followed.taken_by("UPDATE gone SET n = n + 10 WHERE id < 3"), came("exact", "row_count"))
    assert_came(followed.taken_by("DELETE FROM gone WHERE id > 2"), came("exact", "row_count"))
    followed.assert_equal("gone")
    assert followed.metric("crossfade_conflicts_total", table="public.gone", kind="missing_row") == conflicts + 2


def test_C18_a_lost_row_is_not_taken_for_the_one_that_replaces_it(followed: Followed, way: Way) -> None:
    """Equal keys, spelt otherwise: where a foreign key is enforced, inserts come before deletes."""
    replaced = "DELETE FROM priced WHERE id = {0}.0; INSERT INTO priced VALUES ({0}.00, 500)"
    assert_came(followed.taken_by(replaced.format(2)), (came("set") if way.replica_role else came("exact", "unique")))
    followed.assert_equal("priced")
    followed.databases.target.execute("DELETE FROM priced WHERE id = 1")
    assert_came(followed.taken_by(replaced.format(1)), came("exact", "row_count"))
    followed.assert_equal("priced")


def test_C24_exclusion_constraints_and_deferrable_keys(followed: Followed, way: Way) -> None:
    taken = followed.taken_by(
        "UPDATE excluded SET during = '[9,10)' WHERE id = 1; UPDATE excluded SET during = '[1,2)' WHERE id = 2;"
        "UPDATE excluded SET during = '[2,3)' WHERE id = 1"
    )
    assert_came(taken, came("final" if way.replica_role else "exact", "unique"))
    followed.assert_equal("excluded")
    assert_came(followed.taken_by("UPDATE seats SET place = 30 - place"), came("set"))  # deferred, in origin role
    followed.assert_equal("seats")


def test_C16_a_truncate_is_exact(followed: Followed) -> None:
    taken = followed.taken_by("INSERT INTO tru VALUES (2)", "TRUNCATE tru", "INSERT INTO tru VALUES (3)")
    assert_came(taken, came("exact", "truncate"))
    followed.assert_equal("tru")


def test_I1_I5_ids_are_made_in_bulk_and_moved_exactly(followed: Followed) -> None:
    """New parents and children of one batch share their ids; a parent whose key changes keeps its id."""
    taken = followed.taken_by(
        "INSERT INTO users SELECT n, 'u' || n FROM generate_series(1000, 1499) n;"
        "INSERT INTO orders SELECT n, n, n FROM generate_series(1000, 1499) n",
        "UPDATE orders SET user_id = 3, n = -1 WHERE id = 1000; DELETE FROM users WHERE id = 1000",
    )
    assert_came(taken, came("set"))
    taken = followed.taken_by("DELETE FROM orders WHERE id = 1499", "UPDATE users SET id = 2000 WHERE id = 1499")
    assert_came(taken, came("exact", "id_moved"))
    query = "SELECT o.id, o.n, u.name FROM orders o JOIN users u ON u.id = o.user_id ORDER BY 1"
    assert followed.target(query) == followed.source(query)
    assert len(followed.target(query)) == 519
    ((entries, ids),) = followed.target("SELECT count(*), count(DISTINCT new) FROM crossfade.id_user WHERE old <= 2000")
    assert entries == ids
    assert entries in (504, 505), "one user came and went, perhaps within one batch"
    assert followed.target("SELECT name FROM users JOIN crossfade.id_user ON new = id WHERE old = 2000") == [("u1499",)]


@pytest.mark.parametrize("count", [30, 300], ids=["few", "many"])
def test_I1_I2_a_row_whose_id_somebody_else_made_takes_it(followed: Followed, count: int) -> None:
    """New rows are taken to be new to their map. Where one is not, the map says so, and the batch asks it."""
    first = 10_000 * count
    theirs = f"00000000-0000-4000-8000-{count:012d}"
    for at in (first, first + 1000):  # a guess is wrong, then the daemon asks first
        followed.target(f"INSERT INTO crossfade.id_user (old, new) VALUES ({at + 7}, '{theirs[:-4]}{at % 10000:04d}')")
        taken = followed.taken_by(f"INSERT INTO users SELECT n, 'mine' FROM generate_series({at}, {at + count - 1}) n")
        assert_came(taken, came("set"))
        assert followed.target(
            f"SELECT count(*), max(id::text) FILTER (WHERE old = {at + 7})"
            f" FROM users JOIN crossfade.id_user ON new = id WHERE old BETWEEN {at} AND {at + count - 1}"
        ) == [(count, f"{theirs[:-4]}{at % 10000:04d}")]
    followed.write("DELETE FROM users WHERE name = 'mine'")


def test_H12_F31_what_the_target_refuses_is_told_by_the_exact_path(followed: Followed, way: Way) -> None:
    """Nothing is cut to fit: the batch falls back, what is good becomes durable, and the one transaction is named."""
    before = followed.levels()
    followed.databases.source.execute("INSERT INTO tru VALUES (77)")
    followed.databases.source.execute("UPDATE narrow SET v = 'abcd' WHERE id = 1")
    error = followed.failure()
    assert "22001" in error
    assert "public.narrow" in error
    assert "abcd" not in error
    assert followed.target("SELECT v FROM narrow WHERE id = 1") == [("abc",)]
    followed.databases.target.execute("ALTER TABLE narrow ALTER v TYPE varchar(10)")
    followed.resume()
    followed.assert_equal("narrow", "tru")
    assert (followed.levels() - before).total() >= 1


def test_an_error_nobody_knows_stands_alone(followed: Followed) -> None:
    """What comes before it in the batch becomes durable; nothing of it and nothing behind it does."""
    followed.databases.target.execute(
        "CREATE FUNCTION judge(n int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN"
        " IF n = 13013 THEN RAISE EXCEPTION 'no' USING ERRCODE = 'CF001'; END IF; RETURN true; END $$;"
        "ALTER TABLE parents ADD CONSTRAINT judged CHECK (judge(v))"
    )
    with followed.standing_still():
        for script in ("(901, 1)", "(902, 2)", "(903, 3), (904, 13013)", "(905, 5)"):
            followed.databases.source.execute(f"INSERT INTO parents VALUES {script}")
    assert "CF001" in followed.failure()
    assert followed.target("SELECT id FROM parents WHERE id > 900 ORDER BY 1") == [(901,), (902,)]
    followed.databases.target.execute("ALTER TABLE parents DROP CONSTRAINT judged")
    followed.resume()
    followed.assert_equal("parents")


@pytest.mark.one_version
@pytest.mark.parametrize("wire", ["auto", "text"])
def test_C8_a_large_transaction_goes_in_pieces_by_the_same_levels(workspace: Workspace, wire: str) -> None:
    """Pieces of 4 KiB in one target transaction: sets, final state behind a savepoint, exact where it must be."""
    tables = "CREATE TABLE t (id int PRIMARY KEY, u int UNIQUE, note text); CREATE TABLE p (id int PRIMARY KEY, n int)"
    followed = follow(
        workspace,
        source=tables,
        rows="INSERT INTO t SELECT n, n, 'note' FROM generate_series(1, 400) n; INSERT INTO p SELECT 1, 1",
        extra=f'[stream]\nwire = "{wire}"\nbatch_bytes = 4096\npipe_bytes = 65536',
        env=FOLD,
    )
    assert_came(
        followed.taken_by("UPDATE t SET note = 'other'; INSERT INTO p SELECT n FROM generate_series(2, 500) n"),
        came("set_pieces"),
    )
    followed.assert_equal("t", "p")
    assert_came(
        followed.taken_by(
            "UPDATE t SET note = 'third'; UPDATE t SET u = -1 WHERE id = 7; UPDATE t SET u = 7 WHERE id = 8;"
            "UPDATE t SET u = 8 WHERE id = 7"
        ),
        came("final_pieces", "unique"),
    )
    followed.assert_equal("t")
    followed.databases.target.execute("DELETE FROM t WHERE id = 200")
    assert_came(followed.taken_by("UPDATE t SET note = 'fourth'"), came("exact_pieces", "row_count"))
    followed.assert_equal("t")
    followed.stop()


@pytest.mark.one_version
def test_told_to_be_exact_it_is(workspace: Workspace) -> None:
    followed = follow(workspace, source="CREATE TABLE t (id int PRIMARY KEY)", extra='[stream]\napply = "exact"')
    assert_came(followed.taken_by("INSERT INTO t SELECT generate_series(1, 500)"), came("exact", "configured"))
    followed.assert_equal("t")
    followed.stop()


@pytest.mark.one_version
def test_few_changes_are_applied_one_by_one_and_many_as_sets(workspace: Workspace) -> None:
    followed = follow(workspace, source="CREATE TABLE t (id int PRIMARY KEY)")
    few = came("set") if MODE == "sets" else came("exact", "small")  # the mode folds however few
    assert_came(followed.taken_by("INSERT INTO t VALUES (1), (2)"), few)
    assert_came(followed.taken_by("INSERT INTO t SELECT generate_series(3, 500)"), came("set"))
    followed.assert_equal("t")
    followed.stop()


@pytest.mark.one_version
def test_H9_batches_leave_the_catalog_as_it_was(workspace: Workspace) -> None:
    """A thousand tables, changed in every way, over and over: no table is made and none dropped."""
    tables = "".join(f"CREATE TABLE t{n} (id int PRIMARY KEY, v int);" for n in range(1000))
    followed = follow(workspace, source=tables, env=FOLD)
    catalog = (
        "SELECT pg_relation_size('pg_class'), pg_relation_size('pg_attribute'), pg_relation_size('pg_type'),"
        " (SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_sys_tables WHERE relname IN ('pg_attribute'))"
    )
    script = "DO $$ BEGIN FOR n IN 0..999 LOOP EXECUTE format('{}', n, n); END LOOP; END $$"
    followed.at_once(script.format("INSERT INTO t%s VALUES (1, %s)"))
    before = followed.target(catalog)
    taken = followed.taken_by(
        script.format("UPDATE t%s SET v = v + %s"),
        script.format("INSERT INTO t%s VALUES (2, %s)"),
        script.format("DELETE FROM t%s WHERE id = 1 AND v < 10 * %s"),
    )
    assert_came(taken, came("set"))
    assert followed.target(catalog) == before
    followed.assert_equal(*(f"t{n}" for n in range(0, 1000, 97)))
    followed.stop()
