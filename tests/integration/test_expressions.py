"""SQL expressions: by copy and by stream, exact and in sets, with what they read coming late, NULL or not at all.

One daemon for each kind of role; every case has rows of its own. What `check` refuses is asked of a real target.
"""

from __future__ import annotations

import json

import pytest

from crossfade.preflight.examine import Examined
from tests.integration.checking import examined
from tests.integration.following import Followed, assert_came, assert_same, came, follow, in_both_roles, prepared
from tests.servers.daemon import Workspace

SOURCE = """
CREATE TYPE mood AS ENUM ('fine', 'bad');
CREATE TABLE people (id int PRIMARY KEY, email text, first varchar(20), last varchar(20), born date, bio text,
    feels mood, price numeric(10, 2), flags int[]);
ALTER TABLE people ALTER bio SET STORAGE EXTERNAL;
CREATE TABLE whole (id int PRIMARY KEY, a text, b text, n int);
ALTER TABLE whole REPLICA IDENTITY FULL;
ALTER TABLE whole ALTER a SET STORAGE EXTERNAL;
CREATE TABLE users (id int PRIMARY KEY, name varchar(40));
CREATE TABLE parts (id int PRIMARY KEY, n int, label text);
"""
TARGET = """
CREATE TABLE people (id bigint PRIMARY KEY, email text, full_name varchar(60), birth_year int, size bigint, mood text,
    cents bigint, first_flag int, wide char(4), kept text DEFAULT 'fresh');
CREATE TABLE whole (id int PRIMARY KEY, both_ text, n int);
CREATE TABLE users (id uuid PRIMARY KEY, label text);
CREATE TABLE big_parts (id int PRIMARY KEY, twice bigint, tag text UNIQUE);
CREATE TABLE small_parts (id int PRIMARY KEY, n int);
"""
MAPPING = """\
version: 1
schemas: {public: public}
ids:
  user: {from: public.users.id, to: uuid, strategy: uuid7}
tables:
  public.people:
    columns:
      email: {up: lower(email), down: email}
      full_name: {up: "concat_ws(' ', first, last)"}
      birth_year: {up: "extract(year FROM born)::int"}
      size: {up: "octet_length(bio)"}
      mood: {up: "upper(feels)"}
      cents: {up: "(price * 100)::bigint", down: "cents / 100.0"}
      first_flag: {up: "flags[1]"}
      wide: {up: "left(last, 4)"}
  public.whole:
    columns: {both_: {up: "coalesce(a, '') || '/' || coalesce(b, '')"}}
  public.users:
    columns: {id: {remap: user}, label: {up: "name || '#' || id"}}
  public.big_parts:
    from: public.parts
    where: n >= 10
    columns: {twice: {up: n * 2}, tag: {up: "'t' || id"}}
    drop: [label]
  public.small_parts: {from: public.parts, only: true, where: n < 10, columns: {id: id, n: n}}
"""
ROWS = """
INSERT INTO people SELECT n, 'P' || n || '@X', 'F' || n, CASE WHEN n % 3 > 0 THEN 'Last' || n END,
    date '2000-01-01' + n * 100, repeat('b', n * 100), CASE n % 2 WHEN 0 THEN 'fine' ELSE 'bad' END::mood, n * 1.5,
    CASE WHEN n % 2 = 0 THEN ARRAY[n, 1] END FROM generate_series(1, 60) n;
INSERT INTO whole SELECT n, repeat('a', n * 100), CASE WHEN n % 2 = 0 THEN 'b' END, n FROM generate_series(1, 40) n;
INSERT INTO users SELECT n, 'u' || n FROM generate_series(1, 20) n;
INSERT INTO parts SELECT n, n % 20, 'x' FROM generate_series(1, 200) n;
"""


followed = in_both_roles("sql", MAPPING, source=SOURCE, target=TARGET, rows=ROWS)


def assert_alike(followed: Followed) -> None:
    queries = {
        "people": (
            "SELECT id, email, full_name, birth_year, size, mood, cents, first_flag, wide FROM people ORDER BY 1",
            (
                "SELECT id, lower(email), concat_ws(' ', first, last), extract(year FROM born)::int, octet_length(bio),"
                " upper(feels::text), (price * 100)::bigint, flags[1], left(last, 4)::char(4) FROM people ORDER BY 1"
            ),
        ),
        "whole": (
            "TABLE whole ORDER BY 1",
            "SELECT id, coalesce(a, '') || '/' || coalesce(b, ''), n FROM whole ORDER BY 1",
        ),
        "users": (
            "SELECT label, old FROM users JOIN crossfade.id_user ON new = id ORDER BY 2",
            "SELECT name || '#' || id, id FROM users ORDER BY 2",
        ),
        "big_parts": (
            "TABLE big_parts ORDER BY 1", "SELECT id, n * 2, 't' || id FROM parts WHERE n >= 10 ORDER BY 1"
        ),
        "small_parts": ("TABLE small_parts ORDER BY 1", "SELECT id, n FROM parts WHERE n < 10 ORDER BY 1"),
    }  # fmt: skip
    assert_same(followed, queries)


CHANGES = {
    "insert": "INSERT INTO people SELECT n, 'N@' || n, 'f', NULL, NULL, NULL, NULL, NULL, NULL"
    " FROM generate_series(101, 140) n",
    "update of inputs": "UPDATE people SET email = 'NEW@' || id, price = 7, feels = 'fine' WHERE id < 10",
    "update of others": "UPDATE people SET born = born + 400 WHERE id BETWEEN 10 AND 20",
    "not sent": "UPDATE people SET first = 'other' WHERE id > 40 AND id < 61",
    "set and then not sent": "UPDATE people SET bio = repeat('z', 9000) WHERE id = 50;"
    "UPDATE people SET first = 'once more' WHERE id = 50",
    "not sent with a new key": "UPDATE people SET id = id + 1000 WHERE id BETWEEN 51 AND 55",
    "whole old rows": "UPDATE whole SET b = 'new' WHERE id > 30; UPDATE whole SET id = id + 100, n = 0 WHERE id = 40",
    "keys with new ids": "UPDATE users SET id = id + 100 WHERE id < 4; UPDATE users SET name = 'x' WHERE id = 5",
    "deletes": "DELETE FROM people WHERE id BETWEEN 21 AND 25; DELETE FROM whole WHERE id < 5;"
    "DELETE FROM users WHERE id = 6",
    "between the parts": "UPDATE parts SET n = n + 10 WHERE id < 20; UPDATE parts SET n = n - 10 WHERE id BETWEEN 15"
    " AND 40; DELETE FROM parts WHERE id BETWEEN 41 AND 60; UPDATE parts SET id = id + 1000 WHERE id BETWEEN 61 AND 80",
    "unique values change places": "UPDATE parts SET id = 5000 WHERE id = 91; UPDATE parts SET id = 91 WHERE id = 92;"
    "UPDATE parts SET id = 92 WHERE id = 5000",
    "truncate": "TRUNCATE parts; INSERT INTO parts SELECT n, n, 'y' FROM generate_series(1, 30) n",
}


def test_the_copy_computes(followed: Followed) -> None:
    assert_alike(followed)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_computed(followed: Followed, change: str) -> None:
    followed.at_once(CHANGES[change])
    assert_alike(followed)


def test_computed_columns_are_applied_as_sets(followed: Followed) -> None:
    taken = followed.taken_by(
        "INSERT INTO whole SELECT n, 'a', 'b', n FROM generate_series(2001, 2400) n",
        "UPDATE whole SET a = 'c' WHERE id > 2200; DELETE FROM whole WHERE id > 2350",
        "UPDATE people SET email = 'Sets' || id",
    )
    assert_came(taken, came("set"))
    assert_alike(followed)


def test_the_way_back_gives_what_was_there(followed: Followed) -> None:
    """`down` over the target's row is the source's value again, where the mapping says that there is a way back."""
    back = followed.target("SELECT id, (cents / 100.0)::numeric(10, 2) FROM people ORDER BY 1")
    assert back == followed.source("SELECT id, price FROM people ORDER BY 1")


@pytest.mark.one_version
def test_a_row_that_cannot_be_computed_stops_with_the_place(workspace: Workspace) -> None:
    """The good transactions of the batch are durable, and no value is told."""
    followed = follow(
        workspace,
        'version: 1\nschemas: {public: public}\ntables:\n  public.t:\n    columns: {b: {up: "4711 / a"}}\n',
        source="CREATE TABLE t (id int PRIMARY KEY, a int)",
        target="CREATE TABLE t (id int PRIMARY KEY, a int, b int)",
        rows="INSERT INTO t VALUES (1, 1)",
        env={"CROSSFADE_FAILPOINTS": "fold_few"},
    )
    followed.source("INSERT INTO t VALUES (2, 2)")
    followed.source("INSERT INTO t VALUES (3, 0)")
    error = followed.failure()
    assert "mapping.yaml:5:19" in error
    assert "22012" in error
    assert "4711" not in followed.daemon.text()
    assert followed.target("SELECT * FROM t ORDER BY 1") == [(1, 1, 4711), (2, 2, 2355)]


REFUSED = {
    "random()::int + a": "random() is volatile",
    "nextval('public.s')::int + a": "is volatile",
    "public.wild(a)": "wild(integer) is volatile",
    "a <=>> a": "operator does not exist",
    "a OPERATOR(public.<!>) a": "wild2(integer,integer) is volatile",
    "count(*)": "aggregate functions are not allowed",
    "max(a)": "aggregate functions are not allowed",
    "generate_series(1, a)": "set-returning functions are not allowed",
    "row_number() OVER ()": "window functions are not allowed",
    "nowhere + 1": 'column "nowhere" does not exist',
    "a || 'x'": "is of type integer but expression is of type text",
    'length("the source row"::text)': "the row as a whole",
    "1": "reads no column",
    "wild(a)": "function wild(integer) does not exist",
    "length(long) + a": "REPLICA IDENTITY FULL",
    "a +": "syntax error",
}


@pytest.mark.one_version
def test_check_refuses_what_is_no_expression_of_a_row(workspace: Workspace) -> None:
    """Each with its place; the temporary table they were tried on is gone."""
    names = [f"c{number}" for number in range(len(REFUSED))]
    columns = "".join(f"      {name}: {{up: {json.dumps(text)}}}\n" for name, text in zip(names, REFUSED, strict=True))
    found = examined_over(
        workspace,
        f"version: 1\nschemas: {{public: public}}\ntables:\n  public.t:\n    columns:\n{columns}"
        "    where: a + random() > 1\n    drop: [long]\n",
        source="CREATE TABLE t (id int PRIMARY KEY, a int, long text)",
        target=f"CREATE TABLE t (id int PRIMARY KEY, a int, {', '.join(f'{name} int' for name in names)});"
        "CREATE SEQUENCE s; CREATE FUNCTION wild(int) RETURNS int VOLATILE LANGUAGE sql AS 'SELECT $1';"
        "CREATE FUNCTION wild2(int, int) RETURNS int VOLATILE LANGUAGE sql AS 'SELECT $1';"
        "CREATE OPERATOR public.<!> (LEFTARG = int, RIGHTARG = int, FUNCTION = wild2)",
    )
    told = {each.subject.rsplit(":", 1)[0]: f"{each.sentence} {each.remedy}" for each in found.findings}
    for number, (text, words) in enumerate(REFUSED.items()):
        assert words in told.get(f"mapping.yaml:{6 + number}", ""), text
    assert "random() is volatile" in told[f"mapping.yaml:{6 + len(REFUSED)}"]
    assert workspace.databases.target.value("SELECT count(*) FROM pg_class WHERE relname = 'the source row'") == 0


@pytest.mark.one_version
def test_a_condition_that_the_source_agrees_on_is_sent_there(workspace: Workspace) -> None:
    """Built-in, immutable and without a collation; anything else is for the target alone. `check` warns of rows that
    may begin to match without their long values."""
    conditions = {
        "a > 0 AND b IS NOT NULL AND c = 7::numeric": True,
        "a::text = '1'": False,
        "b = 'x'": False,
        "d < now()": False,
        "public.tame(a)": False,
    }
    tables = "".join(
        f"  public.t{number}: {{from: public.t, where: {json.dumps(text)}}}\n" for number, text in enumerate(conditions)
    )
    columns = "(id int PRIMARY KEY, a int, b varchar(10), c numeric, d timestamptz, long text)"
    found = examined_over(
        workspace,
        f"version: 1\ntables:\n{tables}",
        source=f"CREATE TABLE t {columns}",
        target="CREATE FUNCTION tame(int) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT true';"
        + ";".join(f"CREATE TABLE t{number} {columns}" for number in range(len(conditions))),
    )
    assert found.plan is not None, found.findings
    assert [table.where is not None and table.where.is_portable for table in found.plan.tables] == list(
        conditions.values()
    )
    assert "filter_incomplete_row" in {each.name for each in found.findings}


def examined_over(workspace: Workspace, mapping: str, *, source: str, target: str) -> Examined:
    prepared(workspace, mapping, source=source, target=target)
    return examined(workspace, mapping)


@pytest.mark.one_version
def test_C8_a_row_that_cannot_be_computed_in_a_large_transaction(workspace: Workspace) -> None:
    """Applied in pieces, one of which fails: nothing of it stays, and the place is told."""
    followed = follow(
        workspace,
        'version: 1\nschemas: {public: public}\ntables:\n  public.t:\n    columns: {b: {up: "100 / a"}}\n',
        source="CREATE TABLE t (id int PRIMARY KEY, a int)",
        target="CREATE TABLE t (id int PRIMARY KEY, a int, b int)",
        extra='[stream]\nbatch_bytes = "4KiB"\n',
    )
    followed.write("INSERT INTO t SELECT n, 1 + n % 10 FROM generate_series(1, 2000) n")
    assert followed.target("SELECT count(*), sum(b * 0 + 1) FROM t") == [(2000, 2000)]
    followed.source("INSERT INTO t SELECT n, 3001 - n FROM generate_series(2001, 3001) n")
    error = followed.failure()
    assert "mapping.yaml:5:19" in error
    assert followed.target("SELECT count(*) FROM t") == [(2000,)]
