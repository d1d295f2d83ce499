"""`crossfade check --data`: rows the target would refuse are counted and named by their keys, before any is copied."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from psycopg import sql

from crossfade.catalog import TableName
from crossfade.findings import Severity
from crossfade.preflight.data.ask import GAVE_WAY
from crossfade.preflight.data.asked import How, Question, Survey
from crossfade.preflight.data.look import ask
from tests.servers.daemon import Workspace
from tests.servers.databases import Databases

SOURCE = """
    CREATE TYPE mood AS ENUM ('happy', 'sad', 'odd');
    CREATE TABLE users (
        id int PRIMARY KEY, name text, email text NOT NULL, code text NOT NULL, score bigint NOT NULL,
        price numeric(12, 2) NOT NULL, mood mood NOT NULL, tags varchar(20)[] NOT NULL, doc json NOT NULL,
        born timestamp NOT NULL, token text NOT NULL, plan text NOT NULL
    );
    CREATE TABLE orders (id int PRIMARY KEY, user_id int, at timestamp NOT NULL UNIQUE, note text);
    CREATE TABLE log (line text, size int);
"""
TARGET = """
    CREATE SCHEMA app;
    CREATE TYPE app.mood AS ENUM ('happy', 'sad');
    CREATE TABLE app.users (
        id uuid PRIMARY KEY, name text NOT NULL, email varchar(40) NOT NULL, code varchar(4) NOT NULL UNIQUE,
        score int NOT NULL, price numeric(6, 2) NOT NULL CHECK (price >= 0), mood app.mood NOT NULL,
        tags varchar(5)[] NOT NULL, doc jsonb NOT NULL, born timestamptz NOT NULL, token uuid NOT NULL,
        plan text NOT NULL CHECK (plan IN ('free', 'pro') AND plan <> '{}')
    );
    CREATE UNIQUE INDEX users_email_key ON app.users (lower(email));
    CREATE TABLE app.orders (
        id int PRIMARY KEY, user_id uuid REFERENCES app.users, at timestamptz NOT NULL UNIQUE, note text
    );
    CREATE TABLE app.log (line text, size smallint NOT NULL) PARTITION BY RANGE (size);
    CREATE TABLE app.log_low PARTITION OF app.log FOR VALUES FROM (0) TO (10);
    CREATE TABLE app.log_high PARTITION OF app.log FOR VALUES FROM (20) TO (30);
"""
MAPPING = """
version: 1
schemas: {public: app}
ids: {user: {from: public.users.id, strategy: uuid7}}
tables:
  app.users: {columns: {born: {timezone: America/New_York}}}
  app.orders: {columns: {user_id: {remap: user}, at: {timezone: America/New_York}}}
  app.log: {append_only: true}
"""
# One row of users for every way to be wrong, after one that is right.
GOOD = {
    "id": 1,
    "name": "Ann",
    "email": "ann@example.org",
    "code": "a",
    "score": 1,
    "price": 1,
    "mood": "happy",
    "tags": ["x"],
    "doc": "{}",
    "born": "2024-01-01 12:00",
    "token": "00000000-0000-0000-0000-000000000001",
    "plan": "free",
}
WRONG: list[dict[str, Any]] = [
    {"name": None},
    {"email": "ANN@example.org"},
    {"email": "x" * 41},
    {"email": "spaces at the end are cut, by SQL's rule" + "  "},
    {"code": "a"},
    {"code": "abcde"},
    {"score": 2**31},
    {"price": 10_000},
    {"price": -1},
    {"mood": "odd"},
    {"tags": ["short", "longer"]},
    {"doc": '{"a": "\\u0000"}'},
    {"born": "2024-11-03 01:30"},
    {"born": "2024-03-10 02:30"},
    {"born": "infinity"},
    {"token": "secret, and no uuid"},
    {"plan": "gold"},
]


def _row(number: int, changes: dict[str, Any]) -> dict[str, Any]:
    """Different from every other where it must be."""
    own = {"id": number, "code": f"c{number}", "email": f"{number}@example.org"}
    return {**GOOD, **(own if number > 1 else {}), **changes}


def _fill(databases: Databases) -> None:
    with databases.source.connect() as connection:
        for number, changes in enumerate([{}, *WRONG], 1):
            row = _row(number, changes)
            columns = ", ".join(row)
            connection.execute(
                f"INSERT INTO users ({columns}) VALUES ({', '.join(['%s'] * len(row))})".encode(), list(row.values())
            )
        connection.execute(
            "INSERT INTO orders VALUES (1, 1, '2024-03-10 02:30', 'a'), (2, 99, '2024-03-10 03:30', 'b'),"
            " (3, NULL, '2024-03-10 12:00', 'c')"
        )
        connection.execute("INSERT INTO log VALUES ('low', 5), ('between', 15), ('high', 25), ('beyond', 70000)")


def _said(workspace: Workspace, *options: str, mapping: str = MAPPING) -> tuple[int, dict[str, Any]]:
    answer = workspace.write(mapping).run("check", "--data", "--json", *options)
    assert answer.returncode in {0, 3}, answer.stdout + answer.stderr
    return answer.returncode, json.loads(answer.stdout)


def _counted(said: dict[str, Any]) -> dict[tuple[str, str], tuple[int, list[Any]]]:
    """(finding, columns) -> rows and the keys shown, of what was found."""
    return {
        (each["name"], f"{table['source']}.{','.join(each['columns'])}"): (
            each["rows"],
            [next(iter(sample.values())) for sample in each["samples"]],
        )
        for table in said["data"]["tables"]
        for each in table["questions"]
        if each["rows"] != 0
    }


def _publish(databases: Databases) -> None:
    databases.publish("public.users", "public.orders", append=["public.log"])


def test_every_row_the_target_would_refuse_is_counted_and_named(databases: Databases, workspace: Workspace) -> None:
    databases.prepare(source=SOURCE, target=TARGET)
    _publish(databases)
    _fill(databases)
    code, said = _said(workspace)
    assert code == 3
    assert said["data"]["finished"] is True
    number = {json.dumps(changes): str(at) for at, changes in enumerate(WRONG, 2)}

    def of(**changes: Any) -> str:
        return number[json.dumps(changes)]

    found = _counted(said)
    where = {(name, at.partition(".")[2].partition(".")[2]): rows for (name, at), rows in found.items()}
    assert where.pop(("data_null", "name")) == (1, [of(name=None)])
    assert where.pop(("data_duplicate", "email")) == (2, ["1", of(email="ANN@example.org")])
    assert where.pop(("data_does_not_fit", "email")) == (1, [of(email="x" * 41)])
    assert where.pop(("data_duplicate", "code")) == (2, ["1", of(code="a")])
    assert where.pop(("data_does_not_fit", "code")) == (1, [of(code="abcde")])
    assert where.pop(("data_does_not_fit", "score")) == (1, [of(score=2**31)])
    assert where.pop(("data_does_not_fit", "price")) == (1, [of(price=10_000)])
    assert where.pop(("data_refused_by_check", "price")) == (1, [of(price=-1)])
    assert where.pop(("data_does_not_fit", "mood")) == (1, [of(mood="odd")])
    assert where.pop(("data_does_not_fit", "tags")) == (1, [of(tags=["short", "longer"])])
    assert where.pop(("data_does_not_fit", "doc")) == (1, [of(doc='{"a": "\\u0000"}')])
    assert where.pop(("data_does_not_fit", "token")) == (1, [of(token="secret, and no uuid")])
    assert where.pop(("data_refused_by_check", "plan")) == (1, [of(plan="gold")])
    assert where.pop(("data_orphan", "user_id")) == (1, ["2"])
    assert where.pop(("data_duplicate", "at")) == (2, ["1", "2"])
    assert where.pop(("data_does_not_fit", "size"))[0] == 1
    assert where.pop(("data_without_partition", "size"))[0] == 1
    assert where.pop(("data_clock_change", "at")) == (1, ["1"])
    clock = [rows for (name, at), rows in found.items() if name == "data_clock_change" and "born" in at]
    assert clock == [(1, [of(born="2024-03-10 02:30")])]  # under one name; the gap is the second of them
    where.pop(("data_clock_change", "born"))
    assert where == {}
    # Nothing but keys, neither in the findings nor anywhere else.
    text = json.dumps(said)
    assert "secret, and no uuid" not in text
    assert "ANN@example" not in text


def test_rows_that_fit_are_good_news_and_the_text_says_how_much_was_asked(
    databases: Databases, workspace: Workspace
) -> None:
    databases.prepare(source=SOURCE, target=TARGET)
    _publish(databases)
    row = _row(1, {})
    with databases.source.connect() as connection:
        connection.execute(
            f"INSERT INTO users ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})".encode(), list(row.values())
        )
        connection.execute("INSERT INTO orders VALUES (1, 1, '2024-06-01 12:00', 'a')")
        connection.execute("INSERT INTO log VALUES ('low', 5)")
    code, said = _said(workspace)
    assert (code, said["ok"], _counted(said)) == (0, True, {})
    assert {table["source"]: table["rows"] for table in said["data"]["tables"]} == {
        "public.users": 1,
        "public.orders": 1,
        "public.log": 1,
    }
    answer = workspace.run("check", "--data")
    assert " questions about 3 tables answered in " in answer.stdout
    assert "Ready" in answer.stdout


@pytest.mark.one_version
def test_what_is_printed_mends_it_and_finds_the_rows(databases: Databases, workspace: Workspace) -> None:
    databases.prepare(source=SOURCE, target=TARGET)
    _publish(databases)
    _fill(databases)
    databases.source.execute("DELETE FROM users WHERE id NOT IN (1, 2, 6, 8)")  # nothing but these three is wrong
    databases.source.execute("DELETE FROM orders; DELETE FROM log WHERE size <> 15")
    _, said = _said(workspace)
    found = {each["name"]: each for each in said["findings"] if each["name"].startswith("data_")}
    assert set(found) == {"data_null", "data_duplicate", "data_does_not_fit", "data_without_partition"}
    for name in ("data_null", "data_does_not_fit", "data_without_partition"):
        statement, query = (line for line in found[name]["remedy"].splitlines() if line.endswith(";"))
        assert len(databases.source.execute(query)) == 1
        databases.target.execute(statement)
    query = found["data_duplicate"]["remedy"].splitlines()[-1]
    assert databases.source.execute(query) == [("a", 2)]
    databases.source.execute("UPDATE users SET code = 'z' WHERE id = 6")
    databases.grant()
    code, said = _said(workspace)
    assert (code, _counted(said)) == (0, {})


@pytest.mark.one_version
def test_values_are_shown_when_somebody_asks_for_them(databases: Databases, workspace: Workspace) -> None:
    databases.prepare(source=SOURCE, target=TARGET)
    _publish(databases)
    _fill(databases)
    _, said = _said(workspace, "--show-values")
    (told,) = (
        each["sentence"]
        for each in said["findings"]
        if each["name"] == "data_does_not_fit" and "token" in each["sentence"]
    )
    assert told.endswith("token secret, and no uuid.")


@pytest.mark.one_version
def test_what_the_time_did_not_suffice_for_is_said(databases: Databases, workspace: Workspace) -> None:
    databases.prepare(source=SOURCE, target=TARGET)
    _publish(databases)
    _fill(databases)
    databases.source.execute(
        "INSERT INTO orders SELECT n, 1, '2024-06-01'::timestamp + n * interval '1 s'"
        " FROM generate_series(10, 300000) AS n"
    )
    _, said = _said(workspace, "--data-timeout", "200ms")
    assert said["data"]["finished"] is False
    assert said["data"]["seconds"] < 5
    told = [each for each in said["findings"] if each["name"] == "data_not_finished"]
    assert {(each["severity"], each["subject"]) for each in told} >= {("warning", "source public.orders")}
    assert all("because the time for --data was up" in each["sentence"] for each in told)
    unanswered = [
        each
        for table in said["data"]["tables"]
        if table["source"] == "public.orders"
        for each in table["questions"]
        if each["rows"] is None
    ]
    assert unanswered
    assert {each["why"] for each in unanswered} == {"the time for --data was up"}


@pytest.mark.one_version
def test_a_table_somebody_holds_is_passed_over(databases: Databases, workspace: Workspace) -> None:
    databases.prepare(source=SOURCE, target=TARGET)
    _publish(databases)
    _fill(databases)
    with databases.source.connect(autocommit=False) as holder:
        holder.execute("LOCK TABLE log IN ACCESS EXCLUSIVE MODE")
        _, said = _said(workspace)
    (told,) = (each for each in said["findings"] if each["name"] == "data_not_finished")
    assert (told["severity"], told["subject"]) == ("warning", "source public.log")
    assert "somebody holds a lock on the table" in told["sentence"]
    assert {table["source"]: table["rows"] for table in said["data"]["tables"]}["public.users"] == len(WRONG) + 1


@pytest.mark.one_version
def test_G12_nobody_queues_behind_a_question(databases: Databases) -> None:
    databases.prepare(source="CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    name = TableName("public", "t")
    slow = Question(
        "data_null", How.IN_PASSING, Severity.ERROR, ("id",), "", "", sql.SQL("pg_catalog.pg_sleep(60) IS NULL")
    )
    survey = Survey(name, name, sql.SQL("public.t AS s"), ("id",), (slow, slow), (), (), 0)
    altered: list[float] = []

    def alter() -> None:
        with databases.source.connect() as connection:
            asking = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
            while connection.execute(asking).fetchone() != (1,):
                pass
            began = time.monotonic()
            connection.execute("ALTER TABLE t ADD COLUMN a int")
            altered.append(time.monotonic() - began)

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(alter)
        found = asyncio.run(ask(databases.source_dsn, [survey], seconds=50, show_values=False))
        done.result()
    assert [(each.rows, each.why) for each in found.answers] == [(None, GAVE_WAY), (None, GAVE_WAY)]
    assert altered[0] < 10
    assert found.seconds < 30


@pytest.mark.one_version
def test_what_only_the_target_can_tell_is_not_asked_of_the_source(databases: Databases, workspace: Workspace) -> None:
    databases.prepare(
        source="CREATE TABLE t (id int PRIMARY KEY, a text, b text);"
        "INSERT INTO t VALUES (1, 'x', 'y'), (2, 'x', 'y'), (3, 'z', 'y'), (4, 'z', 'y'), (5, NULL, 'y')",
        target="""
            CREATE SCHEMA app;
            CREATE FUNCTION app.fine(text) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT true';
            CREATE TABLE app.t (id int PRIMARY KEY, a text CONSTRAINT own CHECK (app.fine(a)),
                                b text CONSTRAINT volatile CHECK (b <> random()::text), c text,
                                CONSTRAINT answered CHECK (a <> b AND c IS NULL));
            CREATE UNIQUE INDEX partly ON app.t (b) WHERE a = 'x';
        """,
    )
    databases.publish("public.t")
    _, said = _said(workspace, mapping="version: 1\nschemas: {public: app}\n")
    (table,) = said["data"]["tables"]
    assert [each for each in table["not_askable"] if "CHECK own" in each]
    assert [each for each in table["not_askable"] if "CHECK volatile" in each]
    assert len(table["not_askable"]) == 2
    assert [each["rows"] for each in table["questions"] if each["name"] == "data_refused_by_check"] == [0]
    (partly,) = (each for each in table["questions"] if each["name"] == "data_duplicate")
    assert (partly["rows"], [sample["id"] for sample in partly["samples"]]) == (2, ["1", "2"])
    assert [each["severity"] for each in said["findings"] if each["name"] == "data_not_examined"] == ["info", "info"]


def test_rules_that_say_error_make_errors_of_clock_changes_and_orphans(
    databases: Databases, workspace: Workspace
) -> None:
    databases.prepare(
        source=SOURCE.replace("user_id int,", "user_id int, ref int,"),
        target=TARGET.replace("user_id uuid REFERENCES app.users,", "user_id uuid, ref uuid,"),
    )
    _publish(databases)
    _fill_orders = "INSERT INTO orders (id, user_id, ref, at) VALUES (1, 1, 7, '2024-11-03 01:30')"
    databases.source.execute(_fill_orders)
    strict = MAPPING.replace(
        "app.orders: {columns: {user_id: {remap: user}, at: {timezone: America/New_York}}}",
        "app.orders: {orphan_id: error, columns: {user_id: {remap: user}, ref: {remap: user}, at: {timezone:"
        " America/New_York, ambiguous: error, nonexistent: error}}}",
    )
    assert strict != MAPPING
    answer = workspace.write(strict).run("check", "--data", "--json")
    said = json.loads(answer.stdout)
    assert answer.returncode == 3, answer.stdout
    found = _counted(said)
    assert found == {
        ("data_does_not_fit", "public.orders.at"): (1, ["1"]),
        ("data_orphan", "public.orders.user_id"): (1, ["1"]),
        ("data_orphan", "public.orders.ref"): (1, ["1"]),
    }
    assert {each["severity"] for each in said["findings"] if each["name"].startswith("data_")} == {"error"}


CONVERTED_MAPPING = """
version: 1
schemas: {public: app}
tables:
  app.t:
    columns:
      plan: {values: {1: free, 2: pro}}
      kind: {values: {a: x, b: x}, otherwise: {const: y}}
      cut: {cast: lossy}
      whole: {cast: lossy}
      small: {cast: lossy}
      rough: {cast: lossy}
"""


def test_value_maps_and_conversions_are_looked_through(databases: Databases, workspace: Workspace) -> None:
    databases.prepare(
        source="""
            CREATE TYPE mood AS ENUM ('happy', 'sad');
            CREATE TABLE t (id int PRIMARY KEY, plan int, kind char(2) UNIQUE, mood mood, flag int, seen timestamp,
                            cut text UNIQUE, whole numeric, small numeric, yes boolean, rough double precision);
            INSERT INTO t VALUES
                (1, 1, 'a', 'happy', 1, '2024-01-01', 'abcde', 1.4, 1.234, true, 1.5),
                (2, 2, 'b', NULL, 0, 'infinity', 'abcdf', 1.6, 99.994, false, 'NaN'),
                (3, 3, 'c', 'sad', 7, '2024-01-01 12:00', 'x', 2147483647.5, 99.995, NULL, 'Infinity'),
                (4, NULL, NULL, 'happy', NULL, NULL, NULL, 'NaN', 'NaN', NULL, 1e300),
                (5, 1, 'd', 'happy', NULL, NULL, NULL, NULL, NULL, NULL, NULL)
        """,
        target="""
            CREATE SCHEMA app;
            CREATE TABLE app.t (id int PRIMARY KEY, plan text, kind text UNIQUE, mood text NOT NULL, flag boolean,
                                seen date, cut varchar(4) UNIQUE, whole int, small numeric(4, 2),
                                yes varchar(4), rough real CHECK (rough <> 1.5));
        """,
    )
    databases.publish("public.t")
    answer = workspace.write(CONVERTED_MAPPING).run("check", "--data", "--json")
    assert answer.returncode == 3, answer.stdout
    said = json.loads(answer.stdout)
    assert said["data"]["finished"], said["findings"]
    assert _counted(said) == {
        ("data_null", "public.t.mood"): (1, ["2"]),
        ("data_does_not_fit", "public.t.plan"): (1, ["3"]),
        ("data_duplicate", "public.t.kind"): (4, ["1", "2", "3", "5"]),
        ("data_does_not_fit", "public.t.flag"): (1, ["3"]),
        ("data_does_not_fit", "public.t.seen"): (1, ["3"]),
        ("data_duplicate", "public.t.cut"): (2, ["1", "2"]),
        ("data_does_not_fit", "public.t.whole"): (2, ["3", "4"]),
        ("data_does_not_fit", "public.t.small"): (1, ["3"]),
        ("data_does_not_fit", "public.t.yes"): (1, ["2"]),
        ("data_does_not_fit", "public.t.rough"): (1, ["4"]),
        ("data_refused_by_check", "public.t.rough"): (1, ["1"]),
    }
    explained = json.loads(workspace.run("check", "--explain", "app.t", "--json").stdout)
    columns = {column["name"]: column for column in explained["sources"][0]["columns"]}
    assert "1 becomes free, 2 becomes pro; anything else is an error" in columns["plan"]["words"]
    assert "lost" in columns["cut"]["words"]
    databases.source.execute("DELETE FROM t WHERE id IN (3, 4)")
    select = explained["sources"][0]["select"].removesuffix(";")
    assert databases.source.execute(f"SELECT plan, kind FROM ({select}) AS arrived ORDER BY id") == [
        ("free", "x"),
        ("pro", "x"),
        ("free", "y"),
    ]


@pytest.mark.one_version
def test_F27_names_that_must_be_quoted(databases: Databases, workspace: Workspace) -> None:
    table = """CREATE TABLE "we""ird %s {{x}}" ("i'd {{}}" int PRIMARY KEY, "a ""b"" %(c)s" {0}, "t" text)"""
    databases.prepare(
        source=table.format("text") + """; INSERT INTO "we""ird %s {x}" VALUES (1, 'longer', '%s'), (2, NULL, '{}')""",
        target=table.format('varchar(3) NOT NULL CHECK ("a ""b"" %(c)s" <> \'{}%s\')')
        + """; CREATE UNIQUE INDEX ON "we""ird %s {x}" (lower(t))""",
    )
    databases.publish('"we""ird %s {x}"')
    _, said = _said(workspace, mapping="version: 1\nschemas: {public: public}\n")
    assert said["data"]["finished"], said["findings"]
    (found,) = said["data"]["tables"]
    assert {each["name"]: each["samples"] for each in found["questions"] if each["rows"]} == {
        "data_null": [{"i'd {}": "2"}],
        "data_does_not_fit": [{"i'd {}": "1"}],
    }
    assert {each["name"] for each in found["questions"]} >= {"data_refused_by_check", "data_duplicate"}
    for each in said["findings"]:
        if each["name"] in {"data_null", "data_does_not_fit"}:
            assert len(databases.source.execute(each["remedy"].splitlines()[-1])) == 1
    explained = json.loads(workspace.run("check", "--explain", 'public.we"ird %s {x}', "--json").stdout)
    assert len(databases.source.execute(explained["sources"][0]["select"])) == 2


@pytest.mark.one_version
def test_D4_keys_that_may_be_stored_out_of_line(databases: Databases, workspace: Workspace) -> None:
    table = "CREATE TABLE t (id text PRIMARY KEY, n int); ALTER TABLE t ALTER id SET STORAGE EXTERNAL;"
    databases.prepare(source=f"{table} INSERT INTO t VALUES ('short', 1), ('x' || repeat('y', 2100), 2)", target=table)
    databases.publish("public.t")
    mapping = "version: 1\nschemas: {public: public}\n"
    code, said = _said(workspace, mapping=mapping)
    assert code == 0
    (told,) = (each for each in said["findings"] if each["name"] == "data_wide_key")
    assert "1 row of public.t holds more than 2000 bytes in id" in told["sentence"]
    assert "y" * 200 not in told["sentence"]
    databases.source.execute(told["remedy"].splitlines()[1])
    assert "data_wide_key" not in {each["name"] for each in _said(workspace, mapping=mapping)[1]["findings"]}


INNER_MAPPING = """
version: 1
schemas: {public: app}
ids: {user: {from: public.users.id, strategy: uuid7}, team: {from: public.teams.id, strategy: uuid7}}
tables:
  app.t:
    columns:
      readers: {remap: user}
      doc: {remap: [{ids: user, path: [$.owner, "$.readers[*].id"]}, {ids: team, path: $.team}]}
      owner: {remap: {by: kind, of: {User: user, Team: team}}}
      other: {remap: {by: kind, of: {User: user}, otherwise: keep}}
"""


def test_I6_ids_inside_values_that_have_no_parent(databases: Databases, workspace: Workspace) -> None:
    databases.prepare(
        source="""
            CREATE TABLE users (id int PRIMARY KEY);
            CREATE TABLE teams (id uuid PRIMARY KEY);
            CREATE TABLE t (id int PRIMARY KEY, readers int[], doc jsonb, kind text, owner text, other text);
            INSERT INTO users VALUES (1), (2);
            INSERT INTO teams VALUES ('00000000-0000-0000-0000-000000000001');
            INSERT INTO t VALUES
                (1, '{{1,NULL},{2,1}}', '{"owner": 1, "readers": [{"id": "2"}, {"no": 9}, {"id": null}]}', 'User',
                    '1', '2'),
                (2, '{}', '{"team": "00000000-0000-0000-0000-000000000001"}', 'Team',
                    '00000000-0000-0000-0000-000000000001', 'x'),
                (3, '{1,3}', '{"readers": [{"id": 1}, {"id": 4}]}', NULL, NULL, NULL),
                (4, NULL, '{"team": "00000000-0000-0000-0000-000000000002"}', 'User', '5', '5'),
                (5, NULL, '{"owner": true}', 'Shop', '1', '1'),
                (6, NULL, '{"owner": "x"}', NULL, '1', '1'),
                (7, NULL, '[]', 'Team', 'none', NULL)
        """,
        target="""
            CREATE SCHEMA app;
            CREATE TABLE app.users (id uuid PRIMARY KEY);
            CREATE TABLE app.teams (id uuid PRIMARY KEY);
            CREATE TABLE app.t (id int PRIMARY KEY, readers uuid[], doc jsonb, kind text, owner text, other text);
        """,
    )
    databases.publish("public.users", "public.teams", "public.t")
    _, said = _said(workspace, mapping=INNER_MAPPING)
    assert said["data"]["finished"], said["findings"]
    (table,) = (each for each in said["data"]["tables"] if each["source"] == "public.t")
    found = sorted(
        (each["name"], each["columns"][0], [sample["id"] for sample in each["samples"]])
        for each in table["questions"]
        if each["rows"]
    )
    assert found == [
        ("data_does_not_fit", "doc", ["5", "6"]),
        ("data_does_not_fit", "owner", ["5", "6"]),
        ("data_does_not_fit", "owner", ["7"]),
        ("data_orphan", "doc", ["3"]),
        ("data_orphan", "doc", ["4"]),
        ("data_orphan", "other", ["4"]),
        ("data_orphan", "owner", ["4"]),
        ("data_orphan", "readers", ["3"]),
    ]
    explained = json.loads(workspace.run("check", "--explain", "app.t", "--json").stdout)
    columns = {column["name"]: column for column in explained["sources"][0]["columns"]}
    assert columns["owner"]["from"] == ["owner", "kind"]
    assert "User: ids.user, Team: ids.team); any other is an error" in columns["owner"]["words"]


COMPUTED_MAPPING = """
version: 1
schemas: {public: public}
tables:
  public.users:
    where: "deleted_at IS NULL AND feels <> 'bad'"
    columns:
      email: {up: lower(email)}
      label: {up: "first || ' ' || upper(feels)"}
      own: {up: "public.own(id)"}
    drop: [first]
  public.orders: {}
"""


def test_expressions_and_filters_are_looked_through(databases: Databases, workspace: Workspace) -> None:
    databases.prepare(
        source="""
            CREATE TYPE mood AS ENUM ('fine', 'bad');
            CREATE TABLE users (id int PRIMARY KEY, email varchar(40) UNIQUE, first varchar(9), feels mood NOT NULL,
                                deleted_at timestamp);
            ALTER TABLE users REPLICA IDENTITY FULL;
            CREATE TABLE orders (id int PRIMARY KEY, user_id int REFERENCES users);
            INSERT INTO users VALUES
                (1, 'a@x', 'Ann', 'fine', NULL), (2, 'A@X', 'Ann', 'fine', NULL), (3, 'A@x', 'Ann', 'fine', now()),
                (4, 'b@x', NULL, 'fine', NULL), (5, NULL, NULL, 'bad', NULL), (6, 'c@x', 'Annabella', 'fine', NULL);
            INSERT INTO orders VALUES (1, 1), (2, 3), (3, 5), (4, NULL);
        """,
        target="""
            CREATE FUNCTION own(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 * 2';
            CREATE TABLE users (id int PRIMARY KEY, email varchar(40) UNIQUE, label varchar(9) NOT NULL,
                                own int NOT NULL, feels text, deleted_at timestamp);
            CREATE TABLE orders (id int PRIMARY KEY, user_id int REFERENCES users);
        """,
    )
    databases.publish("public.users", "public.orders")
    _, said = _said(workspace, mapping=COMPUTED_MAPPING)
    found = {
        (each["name"], each["columns"][0]): (each["rows"], [sample["id"] for sample in each["samples"]])
        for table in said["data"]["tables"]
        for each in table["questions"]
        if each["rows"] != 0
    }
    assert found.pop(("data_null", "id")) == (None, [])  # a function that only the target has
    assert found == {
        ("data_duplicate", "email"): (2, ["1", "2"]),
        ("data_null", "first"): (1, ["4"]),
        ("data_does_not_fit", "first"): (1, ["6"]),
        ("data_orphan", "user_id"): (2, ["2", "3"]),
    }
    explained = json.loads(workspace.run("check", "--explain", "users", "--json").stdout)
    (source,) = explained["sources"]
    columns = {column["name"]: column for column in source["columns"]}
    assert columns["label"]["from"] == ["first", "feels"]
    assert "by SQL of the mapping" in columns["label"]["words"]
    assert "for which deleted_at IS NULL AND feels <> 'bad' becomes one row" in source["rows"]
