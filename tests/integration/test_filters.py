"""Row filters: what the copy takes, and every way in which a row starts or stops to match while it is followed.

One daemon for each kind of role; every case has rows of its own. The condition is evaluated by the target alone, over
the source's names and types.
"""

from __future__ import annotations

import pytest

from tests.integration.following import Followed, assert_came, assert_same, came, follow, in_both_roles
from tests.servers.daemon import Workspace

SOURCE = """
CREATE TYPE mood AS ENUM ('fine', 'bad');
CREATE TABLE people (id int PRIMARY KEY, name varchar(40), deleted_at timestamp, n int);
CREATE TABLE notes (id int PRIMARY KEY, body text, tags text[], feels mood, n int);
ALTER TABLE notes REPLICA IDENTITY FULL;
ALTER TABLE notes ALTER body SET STORAGE EXTERNAL;
CREATE TABLE users (id int PRIMARY KEY, is_active bool NOT NULL);
CREATE TABLE orders (id int PRIMARY KEY, user_id int NOT NULL REFERENCES users ON UPDATE CASCADE, n int);
CREATE TABLE log (line text, level int);
CREATE TABLE loose (a int, b int);
ALTER TABLE loose REPLICA IDENTITY FULL;
"""
TARGET = """
CREATE TABLE people (id int PRIMARY KEY, name text, deleted_at timestamp, n int, kept text DEFAULT 'fresh', c text);
CREATE TABLE notes (id int PRIMARY KEY, body text, tags text[], feels text, n int);
CREATE TABLE users (id uuid PRIMARY KEY, is_active bool NOT NULL, old_id int);
CREATE TABLE everybody (id uuid PRIMARY KEY);
CREATE TABLE orders (id int PRIMARY KEY, user_id uuid, n int);
CREATE TABLE log (line text, level int);
CREATE TABLE loose (a int, b int);
"""
MAPPING = """\
version: 1
schemas: {public: public}
ids:
  user: {from: public.users.id, to: uuid, strategy: uuid7}
tables:
  public.people: {where: "deleted_at IS NULL AND n > 0", columns: {c: {const: new}}}
  public.notes: {where: "body LIKE '%keep%' OR feels = 'fine' OR 'x' = ANY (tags)"}
  public.users: {from: public.users, where: is_active, columns: {id: {remap: user}, old_id: {from: id, remap: false}}}
  public.everybody: {from: public.users, only: true, columns: {id: {remap: user}}}
  public.log: {append_only: true, where: "level >= 3"}
  public.loose: {where: a % 2 = 1}
"""
ROWS = """
INSERT INTO people SELECT n, 'p' || n, CASE WHEN n % 3 = 0 THEN now() END, n % 5 FROM generate_series(1, 300) n;
INSERT INTO notes SELECT n, CASE WHEN n % 4 = 0 THEN repeat('keep ', 800) ELSE 'go' END,
    CASE WHEN n % 7 = 0 THEN '{x,y}'::text[] END, CASE WHEN n % 5 = 0 THEN 'fine' ELSE 'bad' END::mood, n
    FROM generate_series(1, 60) n;
INSERT INTO users SELECT n, n % 2 = 0 FROM generate_series(1, 20) n;
INSERT INTO orders SELECT n, n % 20 + 1, n FROM generate_series(1, 40) n;
INSERT INTO log SELECT 'line ' || n, n % 5 FROM generate_series(1, 20) n;
INSERT INTO loose SELECT n % 6, n % 2 FROM generate_series(1, 30) n;
"""


followed = in_both_roles("filters", MAPPING, source=SOURCE, target=TARGET, rows=ROWS, append=['"public"."log"'])


def assert_alike(followed: Followed) -> None:
    queries = {
        "people": (
            "SELECT id, name, deleted_at, n, c FROM people ORDER BY 1",
            "SELECT id, name, deleted_at, n, 'new' FROM people WHERE deleted_at IS NULL AND n > 0 ORDER BY 1",
        ),
        "notes": (
            "TABLE notes ORDER BY 1",
            (
                "SELECT id, body, tags, feels::text, n FROM notes"
                " WHERE body LIKE '%keep%' OR feels = 'fine' OR 'x' = ANY (tags) ORDER BY 1"
            ),
        ),
        "users": ("SELECT old_id FROM users ORDER BY 1", "SELECT id FROM users WHERE is_active ORDER BY 1"),
        "everybody": ("SELECT count(*) FROM everybody", "SELECT count(*) FROM users"),
        "orders": (
            "SELECT o.id, old FROM orders o JOIN crossfade.id_user ON new = user_id ORDER BY 1",
            "SELECT id, user_id FROM orders ORDER BY 1",
        ),
        "log": ("TABLE log ORDER BY 1, 2", "SELECT * FROM log WHERE level >= 3 ORDER BY 1, 2"),
        "loose": ("TABLE loose ORDER BY 1, 2", "SELECT * FROM loose WHERE a % 2 = 1 ORDER BY 1, 2"),
    }
    assert_same(followed, queries)


CHANGES = {
    "inserts of both kinds": "INSERT INTO people SELECT n, 'new', NULL, n % 2 FROM generate_series(1001, 1040) n",
    "a row starts to match": "UPDATE people SET deleted_at = NULL WHERE id IN (3, 6);"
    "UPDATE people SET n = 9 WHERE id = 5",
    "a row stops to match": "UPDATE people SET deleted_at = now() WHERE id IN (1, 2);"
    "UPDATE people SET n = 0 WHERE id = 4",
    "a row stays out": "UPDATE people SET name = 'out' WHERE id IN (9, 10)",
    "a row stays in": "UPDATE people SET name = 'in' WHERE id IN (11, 13)",
    "back and forth": "UPDATE people SET n = 0 WHERE id = 14; UPDATE people SET n = 1, name = 'back' WHERE id = 14",
    "deletes of both kinds": "DELETE FROM people WHERE id BETWEEN 15 AND 30",
    "keys of both kinds": "UPDATE people SET id = id + 5000 WHERE id BETWEEN 31 AND 40",
    "a key and the condition": "UPDATE people SET id = 6000, n = 0 WHERE id = 41; UPDATE people SET id = 6001, n = 3,"
    " deleted_at = NULL WHERE id = 42",
    "gone and back": "DELETE FROM people WHERE id = 43; INSERT INTO people VALUES (43, 'again', NULL, 1)",
    "out of line, whole old rows": "UPDATE notes SET n = -n WHERE id < 20; UPDATE notes SET body = 'go' WHERE id = 20;"
    "UPDATE notes SET body = repeat('keep ', 800) WHERE id IN (21, 22); UPDATE notes SET feels = 'fine' WHERE id = 23",
    "ids of rows left out": "INSERT INTO users VALUES (101, false); INSERT INTO orders VALUES (101, 101, 1);"
    "UPDATE users SET is_active = true WHERE id = 101",
    "an id of a row left out moves": "UPDATE users SET id = 1007 WHERE id = 7",
    "an id of a row taken moves": "UPDATE users SET id = 1008 WHERE id = 8;"
    "UPDATE users SET is_active = false WHERE id = 10",
    "append only": "INSERT INTO log VALUES ('in', 3), ('out', 2), ('null', NULL)",
    "without a key": "UPDATE loose SET a = 3 WHERE a = 2; DELETE FROM loose WHERE a = 1 AND b = 1;"
    "UPDATE loose SET a = 4 WHERE a = 5; INSERT INTO loose VALUES (7, 7), (8, 8)",
}


def test_the_copy_takes_what_matches(followed: Followed) -> None:
    assert_alike(followed)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_arrives(followed: Followed, change: str) -> None:
    followed.at_once(CHANGES[change])
    assert_alike(followed)
    assert followed.metric("crossfade_conflicts_total", kind="missing_row") == 0


def test_a_filtered_table_is_applied_as_sets(followed: Followed) -> None:
    taken = followed.taken_by(
        "INSERT INTO people SELECT n, 's', NULL, n % 3 FROM generate_series(2001, 2600) n",
        "UPDATE people SET n = n - 1 WHERE id > 2000 AND id < 2300;"
        " UPDATE people SET n = 2 WHERE id BETWEEN 100 AND 300",
    )
    assert_came(taken, came("set"))
    followed.target("UPDATE people SET kept = 'kept', c = 'own'")
    taken = followed.taken_by(
        "UPDATE people SET n = 3, name = 'both' WHERE id > 2250",
        "UPDATE people SET deleted_at = now() WHERE id > 2500",
    )
    assert_came(taken, came("set"))
    assert (
        followed.target("SELECT count(*) FROM people WHERE id > 2300 AND name = 'both' AND kept = 'kept'")[0][0] > 100
    )
    followed.target("UPDATE people SET c = 'new'")
    assert_alike(followed)


def test_what_a_condition_leaves_out_is_counted(followed: Followed) -> None:
    def left_out(table: str) -> float:
        return followed.metric("crossfade_changes_filtered_total", table=f"public.{table}", reason="where")

    before = left_out("log"), left_out("loose")
    followed.at_once("INSERT INTO log VALUES ('counted', 1), ('taken', 4), ('counted', NULL)")
    followed.at_once("INSERT INTO loose VALUES (9, 9), (10, 10); DELETE FROM loose WHERE a = 9")
    assert (left_out("log"), left_out("loose")) == (before[0] + 2, before[1] + 1)
    assert left_out("orders") == 0
    assert_alike(followed)


@pytest.mark.one_version
def test_D1_a_row_that_starts_to_match_without_a_long_value_stops_the_stream(workspace: Workspace) -> None:
    followed = follow(
        workspace,
        'version: 1\nschemas: {public: public}\ntables: {public.t: {where: "n > 0"}}\n',
        source="CREATE TABLE t (id int PRIMARY KEY, n int, big text); ALTER TABLE t ALTER big SET STORAGE EXTERNAL",
        rows="INSERT INTO t VALUES (1, 0, repeat('x', 5000)), (2, 1, repeat('x', 5000))",
    )
    followed.write("UPDATE t SET n = 2 WHERE id = 2")
    followed.source("UPDATE t SET n = 1 WHERE id = 1")
    error = followed.failure()
    assert "began to match" in error
    assert "REPLICA IDENTITY FULL" in error
