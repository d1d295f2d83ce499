"""Several source tables as one target table: by copy and by stream, every kind of change from each of them, and what
happens where two of them meet.

One daemon for each kind of role; every case has rows of its own. The copy's tests and those of what stops a stream have
databases of their own.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

from tests.integration.following import Followed, assert_came, came, follow, prepared, shared
from tests.integration.sides import is_stopped, synced
from tests.servers.clusters import Pairs, Versions
from tests.servers.daemon import Workspace
from tests.servers.databases import make_roles

SOURCE = """
CREATE SCHEMA legacy;
CREATE TABLE customers (id int PRIMARY KEY, name text, long text);
CREATE TABLE legacy.clients (no int PRIMARY KEY, client text, long text, fax text);
CREATE TABLE orders (id int PRIMARY KEY, customer_id int REFERENCES customers ON DELETE CASCADE, note text);
CREATE TABLE legacy.orders (id int PRIMARY KEY, client_no int REFERENCES legacy.clients ON UPDATE CASCADE, note text);
CREATE TABLE lines (n smallint, order_id int, what text, PRIMARY KEY (order_id, n));
CREATE TABLE legacy.lines (n smallint, order_id int, what text, PRIMARY KEY (order_id, n));
CREATE TABLE docs (id uuid PRIMARY KEY, note text, n int);
CREATE TABLE legacy.docs (id int PRIMARY KEY, note text, n int);
CREATE TABLE firsts (id int PRIMARY KEY, v int);
CREATE TABLE seconds (id text PRIMARY KEY, v int);
CREATE TABLE log_a (line text);
CREATE TABLE log_b (line text, at int);
"""
# Without replica role, what rows refer to may come and go later in the transaction.
TARGET = """
CREATE TABLE people (id bigint PRIMARY KEY, name text, long text, origin text);
CREATE TABLE orders (id uuid PRIMARY KEY, person_id bigint REFERENCES people DEFERRABLE, note text);
CREATE TABLE lines (order_id uuid, n int, what text, PRIMARY KEY (n, order_id));
CREATE TABLE docs (id uuid PRIMARY KEY, note text, n int);
CREATE SEQUENCE numbers;
CREATE TABLE items (id bigint PRIMARY KEY, v int);
CREATE TABLE log (line text, at int);
"""
MAPPING = """\
version: 1
ids:
  client: {from: legacy.clients.no, strategy: offset, by: 1000000}
  order: {from: public.orders.id, to: uuid, strategy: uuid7}
  old_order: {from: legacy.orders.id, to: uuid, strategy: uuid7}
  old_doc: {from: legacy.docs.id, to: uuid, strategy: uuid4}
  first: {from: public.firsts.id, to: bigint, strategy: sequence, sequence: public.numbers}
  second: {from: public.seconds.id, to: bigint, strategy: sequence, sequence: public.numbers}
tables:
  public.people:
    from:
      - {table: public.customers, columns: {origin: {const: new}}}
      - {table: legacy.clients, columns: {id: no, name: client, origin: {const: old}}, drop: [fax]}
  public.orders:
    from:
      - {table: public.orders, columns: {person_id: customer_id}}
      - {table: legacy.orders, columns: {person_id: client_no}}
  public.lines:
    from:
      - {table: public.lines, columns: {order_id: {remap: order}}}
      - {table: legacy.lines, columns: {order_id: {remap: old_order}}}
  public.docs:
    from:
      - {table: public.docs, where: n > 0}
      - {table: legacy.docs, columns: {note: {up: upper(note)}}}
  public.items: {from: [public.firsts, public.seconds]}
  public.log: {from: [public.log_a, public.log_b], append_only: true, truncate: stop}
"""
ROWS = """
INSERT INTO customers SELECT n, 'c' || n, 'l' FROM generate_series(1, 40) n;
INSERT INTO legacy.clients SELECT n, 'k' || n, 'l', 'fax' FROM generate_series(1, 40) n;
INSERT INTO orders SELECT n, n, 'o' || n FROM generate_series(1, 20) n;
INSERT INTO legacy.orders SELECT n, 41 - n, 'p' || n FROM generate_series(1, 20) n;
INSERT INTO lines SELECT 1, n, 'x' FROM generate_series(1, 20) n;
INSERT INTO legacy.lines SELECT 1, n, 'y' FROM generate_series(1, 20) n;
INSERT INTO docs SELECT md5(n::text)::uuid, 'd' || n, n % 3 FROM generate_series(1, 20) n;
INSERT INTO legacy.docs SELECT n, 'e' || n, n FROM generate_series(1, 20) n;
INSERT INTO firsts SELECT n, n FROM generate_series(1, 20) n;
INSERT INTO seconds SELECT 't' || n, n FROM generate_series(1, 20) n;
INSERT INTO log_a SELECT 'a' || n FROM generate_series(1, 5) n;
INSERT INTO log_b SELECT 'b' || n, n FROM generate_series(1, 5) n;
"""


@pytest.fixture(scope="module", params=[True, False], ids=["replica", "origin"])
def followed(
    request: pytest.FixtureRequest, postgres: Versions, _pairs: Pairs, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Followed]:
    servers = _pairs.get(postgres, prepare=make_roles)
    with shared(
        servers, tmp_path_factory.mktemp("merges"), MAPPING, replica_role=request.param, source=SOURCE, target=TARGET,
        rows=ROWS, append=['"public"."log_a"', '"public"."log_b"'], env={"CROSSFADE_FAILPOINTS": "fold_few"},
    ) as found:  # fmt: skip
        yield found


def old(keyspace: str, column: str) -> str:
    """The source's id of a new one, if it is of that keyspace."""
    return f"(SELECT old::text FROM crossfade.id_{keyspace} m WHERE m.new = {column})"


PERSON = f"coalesce('old ' || {old('client', '{}')}, 'new ' || {{}})"
ORDER = f"coalesce('old ' || {old('old_order', '{}')}, 'new ' || {old('order', '{}')})"
SAME = {
    "people": (
        f"SELECT {PERSON.format('id', 'id')}, name, long, origin FROM people",
        (
            "SELECT 'new ' || id, name, long, 'new' FROM customers"
            " UNION ALL SELECT 'old ' || no, client, long, 'old' FROM legacy.clients"
        ),
    ),
    "orders": (
        f"SELECT {ORDER.format('id', 'id')}, {PERSON.format('person_id', 'person_id')}, note FROM orders",
        (
            "SELECT 'new ' || id, 'new ' || customer_id, note FROM orders"
            " UNION ALL SELECT 'old ' || id, 'old ' || client_no, note FROM legacy.orders"
        ),
    ),
    "lines": (
        f"SELECT {ORDER.format('order_id', 'order_id')}, n, what FROM lines",
        "SELECT 'new ' || order_id, n, what FROM lines UNION ALL SELECT 'old ' || order_id, n, what FROM legacy.lines",
    ),
    "docs": (
        f"SELECT coalesce({old('old_doc', 'id')}, id::text), note, n FROM docs",
        "SELECT id::text, note, n FROM docs WHERE n > 0 UNION ALL SELECT id::text, upper(note), n FROM legacy.docs",
    ),
    "items": (
        f"SELECT coalesce('1 ' || {old('first', 'id')}, '2 ' || {old('second', 'id')}), v FROM items",
        "SELECT '1 ' || id, v FROM firsts UNION ALL SELECT '2 ' || id, v FROM seconds",
    ),
    "log": ("SELECT line, at FROM log", "SELECT line, NULL FROM log_a UNION ALL SELECT line, at FROM log_b"),
}


def assert_alike(followed: Followed) -> None:
    """Every target holds the rows of all its sources, and no other."""
    for name, (target, source) in SAME.items():
        assert sorted(map(str, followed.target(target))) == sorted(map(str, followed.source(source))), name


CHANGES = {
    "insert": (
        "INSERT INTO customers VALUES (101, 'a', 'l'); INSERT INTO legacy.clients VALUES (101, 'b', 'l', 'f');"
        "INSERT INTO orders VALUES (101, 101, 'c'); INSERT INTO legacy.orders VALUES (101, 101, 'd');"
        "INSERT INTO lines VALUES (7, 101, 'e'); INSERT INTO legacy.lines VALUES (7, 101, 'f');"
        "INSERT INTO docs VALUES (md5('101')::uuid, 'g', 1), (md5('102')::uuid, 'g', 0);"
        "INSERT INTO legacy.docs VALUES (101, 'h', 0);"
        "INSERT INTO firsts VALUES (101, 1); INSERT INTO seconds VALUES ('101', 1);"
        "INSERT INTO log_a VALUES ('more'); INSERT INTO log_b VALUES ('more', 1)"
    ),
    "update of one": (
        "UPDATE customers SET name = 'x' WHERE id IN (1, 2); UPDATE lines SET what = 'z' WHERE order_id = 1;"
        "UPDATE docs SET note = 'x' WHERE n > 0; UPDATE firsts SET v = -v WHERE id < 4"
    ),
    "update of the other": (
        "UPDATE legacy.clients SET client = 'x' WHERE no IN (1, 3);"
        "UPDATE legacy.lines SET what = 'z' WHERE order_id = 1;"
        "UPDATE legacy.docs SET note = 'x' WHERE id < 3; UPDATE seconds SET v = -v WHERE id IN ('t1', 't2')"
    ),
    "update of both, in turn": (
        "UPDATE customers SET name = 'y' WHERE id = 4; UPDATE legacy.clients SET client = 'z' WHERE no = 4;"
        "UPDATE customers SET name = name || '!' WHERE id = 4; UPDATE legacy.clients SET client = 'zz' WHERE no = 4"
    ),
    "an update of nothing that is used": "UPDATE legacy.clients SET fax = 'other' WHERE no < 9",
    "a row that begins to match and one that ends": (
        "UPDATE docs SET n = 1 WHERE n = 0; UPDATE docs SET n = 0 WHERE id = md5('1')::uuid"
    ),
    "delete": (
        "DELETE FROM customers WHERE id IN (5, 30); DELETE FROM legacy.clients WHERE no = 5;"
        "DELETE FROM lines WHERE order_id = 6; DELETE FROM legacy.lines WHERE order_id = 7;"
        "DELETE FROM docs WHERE id = md5('4')::uuid; DELETE FROM legacy.docs WHERE id = 4;"
        "DELETE FROM firsts WHERE id = 4; DELETE FROM seconds WHERE id = 't5'"
    ),
    "gone and back": (
        "DELETE FROM firsts WHERE id = 6; INSERT INTO firsts VALUES (6, 66);"
        "DELETE FROM legacy.docs WHERE id = 6; INSERT INTO legacy.docs VALUES (6, 'again', 0)"
    ),
    "key change": (
        "UPDATE customers SET id = id + 500 WHERE id IN (31, 32);"
        "UPDATE legacy.clients SET no = no + 500 WHERE no = 33;"
        "UPDATE lines SET n = 9 WHERE order_id = 8; UPDATE legacy.lines SET n = 9 WHERE order_id = 8;"
        "UPDATE firsts SET id = id + 500 WHERE id = 7; UPDATE seconds SET id = 'moved' WHERE id = 't7'"
    ),
    "from one to the other": (
        "INSERT INTO legacy.clients SELECT id + 1000, name, long, 'f' FROM customers WHERE id = 34;"
        "DELETE FROM customers WHERE id = 34;"
        "INSERT INTO docs SELECT md5('m')::uuid, note, 5 FROM legacy.docs WHERE id = 8;"
        "DELETE FROM legacy.docs WHERE id = 8"
    ),
    "out of line": (
        "UPDATE customers SET long = repeat(md5(id::text), 200) WHERE id IN (10, 11);"
        "UPDATE legacy.clients SET long = repeat(md5(no::text), 200) WHERE no IN (10, 11);"
        "UPDATE customers SET name = 'kept' WHERE id IN (10, 11);"
        "UPDATE legacy.clients SET client = 'kept' WHERE no = 10"
    ),
    "truncate of one, by ids of its own": "TRUNCATE lines; INSERT INTO lines VALUES (1, 9, 'after')",
    "truncate of the other": "TRUNCATE legacy.lines; INSERT INTO lines VALUES (2, 9, 'after')",
    "truncate of one by what is left over": "TRUNCATE docs; INSERT INTO docs VALUES (md5('t')::uuid, 'after', 2)",
    "truncate of what came in the same transaction": (
        "INSERT INTO legacy.docs VALUES (201, 'gone', 1); INSERT INTO docs VALUES (md5('201')::uuid, 'stays', 1);"
        "INSERT INTO firsts VALUES (201, 1); INSERT INTO seconds VALUES ('201', 1);"
        "TRUNCATE legacy.docs, firsts; INSERT INTO legacy.docs VALUES (202, 'after', 1)"
    ),
    "truncate of both": (
        "TRUNCATE firsts, seconds; INSERT INTO seconds VALUES ('301', 1); INSERT INTO firsts VALUES (301, 1)"
    ),
    "truncate by numbers, and of all that refers to it": (
        "TRUNCATE customers CASCADE; INSERT INTO customers VALUES (1, 'again', 'l');"
        "INSERT INTO orders VALUES (1, 1, 'o')"
    ),
    "truncate of the numbers beyond": (
        "TRUNCATE legacy.clients CASCADE; INSERT INTO legacy.clients VALUES (1, 'k', 'l', 'f')"
    ),
}


def test_the_copy_brings_the_rows_of_all(followed: Followed) -> None:
    done = followed.target(
        "SELECT count(*), count(DISTINCT target_name) FROM crossfade.copy_tables WHERE state = 'done'"
    )
    assert done == [(12, 6)]
    assert_alike(followed)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_one_leaves_the_others_alone(followed: Followed, change: str) -> None:
    """In one transaction, and so in one batch."""
    followed.at_once(CHANGES[change])
    assert_alike(followed)


def test_rows_of_several_sources_are_applied_as_sets(followed: Followed) -> None:
    taken = followed.taken_by(
        "INSERT INTO customers SELECT n, 's', 's' FROM generate_series(3001, 3300) n;"
        "INSERT INTO legacy.clients SELECT n, 's', 's', 's' FROM generate_series(3001, 3300) n",
        "UPDATE customers SET name = 'set' WHERE id > 3000; UPDATE legacy.clients SET client = 'set' WHERE no > 3100;"
        "DELETE FROM legacy.clients WHERE no > 3250; DELETE FROM customers WHERE id > 3200",
    )
    assert_came(taken, came("set"))
    assert_alike(followed)


def test_what_was_applied_is_told_of_each_source(followed: Followed) -> None:
    names = {"table": "legacy.clients", "op": "insert"}
    before = followed.metric("crossfade_changes_applied_total", **names)
    ours = followed.metric("crossfade_changes_applied_total", table="public.customers", op="insert")
    followed.write("INSERT INTO legacy.clients SELECT n, 'm', 'm', 'm' FROM generate_series(5001, 5007) n")
    assert followed.metric("crossfade_changes_applied_total", **names) == before + 7
    assert followed.metric("crossfade_changes_applied_total", table="public.customers", op="insert") == ours


# What stops --------------------------------------------------------------------------------------------------------

TWO = """\
version: 1
ids: {b: {from: public.b.id, strategy: offset, by: 1000}}
tables:
  public.t: {from: [public.a, public.b]}
"""
TABLES = "CREATE TABLE a (id int PRIMARY KEY, v text, n int); CREATE TABLE b (id int PRIMARY KEY, v text, n int)"
TABLE = "CREATE TABLE t (id int PRIMARY KEY, v text CONSTRAINT one_v UNIQUE, n int)"


@pytest.mark.one_version
@pytest.mark.parametrize("apply", ["fast", "exact"])
def test_two_rows_that_meet_stop_the_stream_and_name_both_sources(workspace: Workspace, apply: str) -> None:
    followed = follow(
        workspace, TWO, source=TABLES, target=TABLE, rows="INSERT INTO a VALUES (1, 'secret', 0)",
        extra=f'[stream]\napply = "{apply}"\n', env={"CROSSFADE_FAILPOINTS": "fold_few"},
    )  # fmt: skip
    followed.source("INSERT INTO b VALUES (1, 'mine', 0)")
    followed.source("INSERT INTO b VALUES (2, 'secret', 0)")
    told = followed.failure()
    assert "one_v" in told
    assert "public.t has several sources: a row of public.b met one of public.a" in told
    assert "check --data" in told
    assert "secret" not in followed.daemon.text()
    assert followed.target("SELECT id, v FROM t ORDER BY 1") == [(1, "secret"), (1001, "mine")], "the good one is there"
    followed.target("ALTER TABLE t DROP CONSTRAINT one_v")
    followed.resume()
    assert followed.target("SELECT id, v FROM t ORDER BY 1")[2:] == [(1002, "secret")]
    followed.stop()


@pytest.mark.one_version
@pytest.mark.parametrize(("table", "outside", "many"), [("a", 1000, 300), ("b", -1, 1)])
def test_a_number_of_another_source_stops_the_stream(workspace: Workspace, table: str, outside: int, many: int) -> None:
    """One by one, and in a batch that is large enough for sets."""
    followed = follow(workspace, TWO, source=TABLES, target=TABLE)
    followed.source(f"INSERT INTO {table} SELECT n, n, 0 FROM generate_series(1, {many}) n")
    followed.source(f"INSERT INTO {table} VALUES ({outside}, 'x', 0)")
    told = followed.failure()
    assert "belongs to another source of the same target table" in told
    assert followed.target("SELECT count(*) FROM t") == [(many,)]
    followed.daemon.terminate()


@pytest.mark.one_version
def test_values_that_pass_from_one_source_to_the_other_in_one_transaction(workspace: Workspace) -> None:
    """The new holder is written before the old one is gone: no order of single changes would do."""
    followed = follow(workspace, TWO, source=TABLES, target=TABLE, rows="INSERT INTO a VALUES (1, 'x', 0)")
    followed.write("BEGIN; INSERT INTO b SELECT id, v, 5 FROM a; DELETE FROM a; COMMIT")
    assert followed.target("TABLE t") == [(1001, "x", 5)]
    followed.stop()


@pytest.mark.one_version
@pytest.mark.parametrize("where", ["meet", "outside"])
def test_rows_that_cannot_be_there_stop_the_copy(workspace: Workspace, where: str) -> None:
    workspace = prepared(workspace, TWO, source=TABLES, target=TABLE)
    b = {"meet": "(3, 'secret', 0)", "outside": "(-3, 'secret', 0)"}[where]
    workspace.databases.source.execute(f"INSERT INTO a VALUES (1, 'secret', 0); INSERT INTO b VALUES {b}")
    if where == "outside":
        workspace.databases.source.execute("DELETE FROM a")
    daemon = workspace.daemon()
    daemon.wait_for_phase("failed", timeout=30)
    told = str(workspace.databases.target.value("SELECT error FROM crossfade.workflows"))
    wanted = {"meet": "t has several sources", "outside": "belongs to another source of the same target table"}
    assert wanted[where] in told
    assert "secret" not in daemon.text()
    # Mended on the source, it is copied; whichever of the two was there first, its change comes by the stream.
    workspace.databases.source.execute("UPDATE a SET v = 'other'; DELETE FROM b")
    workspace.databases.target.execute(
        "INSERT INTO crossfade.control (workflow, command, requested_by) VALUES ('shop', 'resume', 'a test')"
    )
    daemon.wait_until_caught_up()
    left = {"meet": [(1, "other")], "outside": []}[where]
    assert workspace.databases.target.execute("SELECT id, v FROM t") == left
    assert daemon.terminate() == 0


# Before anything is touched ----------------------------------------------------------------------------------------


@pytest.mark.one_version
def test_rows_that_meet_are_counted_before_anything_is_touched(workspace: Workspace) -> None:
    """By an e-mail address that one source has as a number, too; keys that leave their numbers are counted as well."""
    sources = "CREATE TABLE a (id int PRIMARY KEY, v text, n int); CREATE TABLE b (id int PRIMARY KEY, v int, n int)"
    workspace = prepared(workspace, TWO, source=sources, target=TABLE)
    workspace.databases.source.execute(
        "INSERT INTO a VALUES (1, '7', 0), (2, '8', 0), (3, NULL, 0), (1000, '9', 0);"
        "INSERT INTO b VALUES (1, 7, 0), (2, 9, 0), (3, NULL, 0), (-1, 10, 0)"
    )
    answer = workspace.run("check", "--data", "--json")
    said = json.loads(answer.stdout)
    counted = {
        (each["name"], table["source"], *each["columns"]): each["rows"]
        for table in said["data"]["tables"]
        for each in table["questions"]
        if each["rows"]
    }
    assert counted == {
        ("data_collision", "public.b", "v"): 2,
        ("data_does_not_fit", "public.a", "id"): 1,
        ("data_does_not_fit", "public.b", "id"): 1,
    }
    assert "sources_share_unique" in answer.stdout
    assert answer.returncode == 3


@pytest.mark.one_version
def test_a_source_that_joins_or_leaves_is_refused_while_a_copy_stands(workspace: Workspace) -> None:
    followed = follow(workspace, TWO, source=TABLES, target=TABLE)
    followed.stop()
    for left in ("a", "b"):
        workspace.write(TWO.replace("[public.a, public.b]", f"public.{left}"))
        answer = workspace.run("run", "--until", "caught-up")
        assert answer.returncode == 78
        assert f"public.{'b' if left == 'a' else 'a'} is in the running copy, and the mapping takes it no more" in (
            " ".join((answer.stdout + answer.stderr).split())
        )
    followed.source("CREATE TABLE c (id int PRIMARY KEY, v text, n int)")
    workspace.databases.grant()
    more = TWO.replace("}\ntables", ", c: {from: public.c.id, strategy: offset, by: 500}}\ntables")
    workspace.write(more.replace("public.b]", "public.b, public.c]"))
    answer = workspace.run("check")
    assert answer.returncode == 78
    assert "take it out of the list that public.t is made from" in " ".join((answer.stdout + answer.stderr).split())
    # The same with another order of the list says nothing new.
    workspace.write(TWO.replace("[public.a, public.b]", "[public.b, public.a]"))
    assert workspace.run("run", "--until", "caught-up").returncode == 0


# The copy, interrupted ---------------------------------------------------------------------------------------------

BIG = (
    "INSERT INTO a SELECT g, 'a' || g, g FROM generate_series(1, 12000) g;"
    "INSERT INTO b SELECT g, 'b' || g, g FROM generate_series(1, 6000) g; ANALYZE"
)
PARTS = "[copy]\nworkers = 1\npart_bytes = 200000\n"
BY_UUIDS = """\
version: 1
ids: {a: {from: public.a.id, strategy: uuid7}, b: {from: public.b.id, strategy: uuid7}}
tables: {public.t: {from: [public.a, public.b]}}
"""
BY_IDS = TWO.replace("strategy: offset, by: 1000", "to: bigint, strategy: offset, by: 1000000")


@pytest.mark.one_version
@pytest.mark.parametrize(
    ("mapping", "target"),
    [
        (BY_IDS, "CREATE TABLE t (id bigint PRIMARY KEY, v text, n int)"),
        (BY_UUIDS, "CREATE TABLE t (id uuid PRIMARY KEY, v text, n int)"),
    ],
    ids=["numbers", "maps"],
)
def test_G5_a_copy_begun_again_takes_out_the_rows_of_the_unfinished_source_alone(
    workspace: Workspace, mapping: str, target: str
) -> None:
    """The larger one is done, the other has parts: killed there, it goes on; the first is not read again."""
    workspace = prepared(workspace, mapping, source=TABLES, target=target, extra=PARTS)
    databases = workspace.databases
    databases.source.execute(BIG)
    daemon = workspace.daemon(env={"CROSSFADE_FAILPOINTS": "stop:after_copy_part_commit"})
    part = "SELECT count(*) FROM crossfade.copy_parts WHERE source_name = 'b' AND state = 'done'"

    def woken() -> bool:
        """Asked while it is stopped, as it is after each part, and only then sent on: no part passes unseen."""
        if not is_stopped(daemon.pid):
            return False
        if databases.target.value(part) == 1:
            return True
        daemon.signal(signal.SIGCONT)
        return False

    daemon.wait_for(woken, "a part of b")
    daemon.kill9()
    states = "SELECT source_name, state, finished_at FROM crossfade.copy_tables ORDER BY 1"
    (a, b) = databases.target.execute(states)
    assert (a[1], b[1]) == ("done", "pending")
    assert 12_000 < databases.target.value("SELECT count(*) FROM t") < 18_000
    # What happens meanwhile comes once: to a by the stream, to b by its new snapshot.
    databases.source.execute(
        "UPDATE a SET n = -n WHERE id < 50; DELETE FROM b WHERE id > 5900; DELETE FROM a WHERE id = 60"
    )
    daemon = synced(workspace)
    assert databases.target.execute(states)[0] == a
    assert databases.target.execute("SELECT v, n FROM t ORDER BY 1") == databases.source.execute(
        "SELECT v, n FROM a UNION ALL SELECT v, n FROM b ORDER BY 1"
    )
    assert "public.b had been copied in part" in daemon.text()
    assert "public.a had been copied in part" not in daemon.text()


@pytest.mark.one_version
def test_G6_a_source_copied_again_takes_only_its_own_changes_twice_over(workspace: Workspace) -> None:
    rows = "INSERT INTO a VALUES (1, 'a', 1), (2, 'a', 2); INSERT INTO b VALUES (1, 'b', 1), (2, 'b', 2)"
    table = "CREATE TABLE t (id bigint PRIMARY KEY, v text, n int)"
    followed = follow(workspace, BY_IDS, source=TABLES, target=table, rows=rows)
    assert followed.daemon.terminate() == 0
    for table in ("a", "b"):
        followed.source(f"INSERT INTO {table} VALUES (11, 'x', 11); UPDATE {table} SET n = 0 WHERE id = 1")
        followed.source(f"DELETE FROM {table} WHERE id = 2")
    followed.target("DELETE FROM t WHERE id > 1000")
    followed.target("UPDATE crossfade.copy_tables SET state = 'pending' WHERE source_name = 'b'")
    followed.daemon.start().wait_until_caught_up()
    wanted = followed.source("SELECT id, v, n FROM a UNION ALL SELECT id + 1000000, v, n FROM b ORDER BY 1")
    assert followed.target("SELECT * FROM t ORDER BY 1") == wanted
    assert followed.metric("crossfade_conflicts_total", kind="missing_row") == 0
    followed.stop()


@pytest.mark.one_version
def test_a_log_of_several_sources_is_copied_whole_and_follows_no_truncate(workspace: Workspace) -> None:
    """Without a key nobody can tell whose a row is."""
    mapping = "version: 1\ntables: {public.t: {from: [public.a, public.b], append_only: true, truncate: stop}}\n"
    source = "CREATE TABLE a (v text); CREATE TABLE b (v text)"
    workspace = prepared(workspace, mapping, source=source, target="CREATE TABLE t (v text)", append=_LOGS, extra=PARTS)
    databases = workspace.databases
    databases.source.execute("INSERT INTO a SELECT 'x' FROM generate_series(1, 20000); INSERT INTO b VALUES ('y')")
    daemon = workspace.daemon()
    daemon.wait_for_phase("streaming")
    assert databases.target.value("SELECT count(*) FROM crossfade.copy_parts") == 0
    assert databases.target.value("SELECT count(*) FROM t") == 20_001
    databases.source.execute("TRUNCATE b")
    daemon.wait_for_phase("failed", timeout=30)
    assert "The source table was truncated" in str(databases.target.value("SELECT error FROM crossfade.workflows"))
    assert databases.target.value("SELECT count(*) FROM t") == 20_001
    daemon.terminate()


_LOGS = ['"public"."a"', '"public"."b"']
