"""One source table as several target tables: what the copy brings, and every kind of change arriving in each.

One daemon for each kind of role; every case has rows of its own. The foreign key between the parts is not deferrable:
where it is enforced, a new row must come to the part referred to first, and leave it last.
"""

from __future__ import annotations

import pytest

from tests.integration.following import Followed, assert_came, assert_same, came, follow, in_both_roles
from tests.servers.daemon import Workspace

SOURCE = """
CREATE TABLE users (id int PRIMARY KEY, name text, bio text, theme text, password text);
CREATE TABLE points (a int, b int, x int, y int, PRIMARY KEY (b, a));
CREATE TABLE log (line text, detail text);
CREATE TABLE emptied (id int PRIMARY KEY, n int, m int);
"""
TARGET = """
CREATE TABLE accounts (id uuid PRIMARY KEY, name text, source_id int);
CREATE TABLE profiles (bio text, account_id uuid PRIMARY KEY REFERENCES accounts);
CREATE TABLE themes (theme text, user_id int UNIQUE NOT NULL);
CREATE TABLE xs (a int, b int, x int, PRIMARY KEY (a, b));
CREATE TABLE ys (a int, b int, y int, kind text, PRIMARY KEY (a, b));
CREATE TABLE log (line text);
CREATE TABLE details (detail text);
CREATE TABLE emptied (id int PRIMARY KEY, n int);
CREATE TABLE emptied_m (id int PRIMARY KEY, m int);
"""
MAPPING = """\
version: 1
ids:
  user: {from: public.users.id, to: uuid, strategy: uuid7}
tables:
  public.profiles:                      # before the table it refers to: the order of the file is no matter
    from: public.users
    only: true
    columns: {account_id: {from: id, remap: user}, bio: bio}
  public.accounts:
    from: public.users
    columns: {id: {remap: user}, source_id: {from: id, remap: false}}
    drop: [password]
  public.themes: {from: public.users, only: true, columns: {theme: theme, user_id: {from: id, remap: false}}}
  public.xs: {from: public.points}
  public.ys: {from: public.points, only: true, columns: {a: a, b: b, y: y, kind: {const: y}}}
  public.log: {from: public.log, append_only: true}
  public.details: {from: public.log, append_only: true, only: true, columns: {detail: detail}}
  public.emptied: {from: public.emptied}
  public.emptied_m: {from: public.emptied, only: true, columns: {id: id, m: m}}
"""
ROWS = """
INSERT INTO users SELECT n, 'u' || n, repeat('b', n), 't' || n, 'secret' FROM generate_series(1, 40) n;
INSERT INTO points SELECT n, n + 1, n * 10, n * 20 FROM generate_series(1, 10) n;
INSERT INTO log SELECT 'line ' || n, 'detail ' || n FROM generate_series(1, 5) n;
INSERT INTO emptied SELECT n, n, n FROM generate_series(1, 5) n;
"""


followed = in_both_roles("splits", MAPPING, source=SOURCE, target=TARGET, rows=ROWS, append=['"public"."log"'])


def assert_alike(followed: Followed) -> None:
    """Every part shows the source; a new id is the same in both parts that hold it."""
    queries = {
        "TABLE users": (
            ("SELECT source_id, name, bio, theme FROM accounts a FULL JOIN profiles ON account_id = a.id FULL"
            " JOIN themes ON user_id = source_id ORDER BY 1"),
            "SELECT id, name, bio, theme FROM users ORDER BY 1",
        ),
        "TABLE points": (
            "SELECT a, b, x, y, kind FROM xs FULL JOIN ys USING (a, b) ORDER BY 1, 2",
            "SELECT a, b, x, y, 'y' FROM points ORDER BY 1, 2",
        ),
        "TABLE emptied": (
            "SELECT id, n, m FROM emptied FULL JOIN emptied_m USING (id) ORDER BY 1", "SELECT * FROM emptied ORDER BY 1"
        ),
        "log": ("TABLE log ORDER BY 1", "SELECT line FROM log ORDER BY 1"),
        "details": ("TABLE details ORDER BY 1", "SELECT detail FROM log ORDER BY 1"),
    }  # fmt: skip
    assert_same(followed, queries)


CHANGES = {
    "insert": "INSERT INTO users SELECT n, 'new', 'b', 't' FROM generate_series(101, 140) n;"
    "INSERT INTO points VALUES (101, 1, 1, 1); INSERT INTO log VALUES ('new', 'new')",
    "update of one part": "UPDATE users SET bio = 'other' WHERE id < 6; UPDATE points SET y = 7 WHERE a = 1",
    "update of all": "UPDATE users SET bio = 'x', name = 'x', theme = 'x' WHERE id BETWEEN 3 AND 9",
    "update of none": "UPDATE users SET password = 'changed' WHERE id = 10",
    "delete": "DELETE FROM users WHERE id BETWEEN 11 AND 15; DELETE FROM points WHERE a = 2",
    "key change": "UPDATE users SET id = id + 1000 WHERE id BETWEEN 16 AND 18; UPDATE points SET b = -b WHERE a = 3",
    "keys in a chain": "UPDATE points SET a = a + 1000 WHERE a = 5; UPDATE points SET a = 5, b = 6 WHERE a = 6",
    "gone and back": "DELETE FROM users WHERE id = 19; INSERT INTO users VALUES (19, 'again', 'b', 't')",
    "out of line": "UPDATE users SET bio = repeat(md5(id::text), 200) WHERE id IN (20, 21);"
    "UPDATE users SET name = 'kept' WHERE id IN (20, 21)",
    "truncate": "TRUNCATE emptied; INSERT INTO emptied VALUES (9, 9, 9)",
}


def test_the_copy_fills_every_part(followed: Followed) -> None:
    assert followed.target("SELECT count(*) FROM crossfade.copy_tables WHERE state = 'done'") == [(9,)]
    assert_alike(followed)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_arrives_in_every_part(followed: Followed, change: str) -> None:
    followed.at_once(CHANGES[change])
    assert_alike(followed)


def test_parts_are_applied_as_sets(followed: Followed) -> None:
    taken = followed.taken_by(
        "INSERT INTO users SELECT n, 's', 's', 's' FROM generate_series(2001, 2300) n",
        "UPDATE users SET bio = 'set', theme = 'set' WHERE id > 2000; DELETE FROM users WHERE id > 2250",
    )
    assert_came(taken, came("set"))
    assert_alike(followed)


@pytest.mark.one_version
def test_G6_a_part_copied_again_takes_only_its_own_changes_twice_over(workspace: Workspace) -> None:
    """One part is copied at a later snapshot than the other: the stream brings each only what its copy lacks."""
    followed = follow(
        workspace,
        "version: 1\ntables:\n  public.a: {from: public.t}\n"
        "  public.b: {from: public.t, only: true, columns: {id: id, n: n}}\n",
        source="CREATE TABLE t (id int PRIMARY KEY, n int)",
        target="CREATE TABLE a (id int PRIMARY KEY, n int); CREATE TABLE b (id int PRIMARY KEY, n int)",
        rows="INSERT INTO t SELECT n, n FROM generate_series(1, 10) n",
    )
    assert followed.daemon.terminate() == 0
    followed.source("INSERT INTO t VALUES (11, 11); UPDATE t SET n = 0 WHERE id = 1; DELETE FROM t WHERE id = 2")
    followed.target("DELETE FROM b; UPDATE crossfade.copy_tables SET state = 'pending' WHERE target_name = 'b'")
    followed.daemon.start().wait_until_caught_up()
    for part in ("a", "b"):
        assert followed.target(f"TABLE {part} ORDER BY 1") == followed.source("TABLE t ORDER BY 1")
    assert followed.metric("crossfade_conflicts_total", kind="missing_row") == 0
    followed.stop()
