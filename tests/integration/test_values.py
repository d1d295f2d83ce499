"""Rules that concern one value, by copy and by stream, in each form and on each path: value maps and conversions.

What must be on the target is said by SQL over the source, in the server's own words (CASE, casts), so that nothing of
the daemon's is compared with itself. One daemon for each way; a row nobody can convert has a daemon of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.following import Followed, FormWay, follow, shared
from tests.servers.clusters import Pairs, Versions
from tests.servers.daemon import Workspace
from tests.servers.databases import make_roles

FOLD = {"CROSSFADE_FAILPOINTS": "fold_few"}


WAYS = [
    FormWay("binary", 'wire = "auto"', in_binary=True),
    FormWay("binary-exact", 'apply = "exact"', in_binary=True),
    FormWay("text", 'wire = "text"', in_binary=False),
    FormWay("text-exact", 'wire = "text"\napply = "exact"', in_binary=False),
]

MAPPING = """
version: 1
schemas: {public: app}
tables:
  app.accounts:
    columns:
      plan: {from: plan_code, values: {1: free, 2: pro, 3: null}, otherwise: {const: legacy}}
      level: {from: mood, values: {sad: -1, glad: 1}, otherwise: null}
      active: {from: flag, values: {true: 'yes', false: 'no'}}
      seen: {from: day, values: {2000-01-01: never, 2024-02-29: leap}, otherwise: {const: 'some "day"'}}
      kind: {from: uid, values: {a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11: root}, otherwise: null}
  app.keyed:
    columns:
      place: {from: code, values: {1: front, 2: back, 3: side}}
  app.casts:
    columns:
      truthy: {from: truthy, cast: lossy}
      cut: {from: cut, cast: lossy}
      day_cut: {from: day_cut, cast: lossy}
"""
TEXT_MAPPING = """
  app.texts:
    columns:
      grade: {from: grade, values: {1: one, 2.50: more}, otherwise: null}
      letter: {from: letter, values: {A: first, B: second}, otherwise: {const: other}}
      whole: {from: whole, cast: lossy}
      near: {from: near, cast: lossy}
      shorter: {from: shorter, cast: lossy}
      less: {from: less, cast: lossy}
      bare: {from: bare, cast: lossy}
      second: {from: second, cast: lossy}
"""
ENUMS = "CREATE TYPE mood AS ENUM ('sad', 'so-so', 'glad');"
SOURCE = f"""
{ENUMS}
CREATE TABLE accounts (id int PRIMARY KEY, plan_code smallint, mood mood, flag boolean, day date, uid uuid, n int);
CREATE TABLE keyed (code int PRIMARY KEY, n int);
CREATE TABLE casts (id int PRIMARY KEY, strict int, truthy bigint, number boolean, word boolean, day timestamp,
    day_cut timestamp, cut text, small bigint);
"""
TEXT_SOURCE = """
CREATE TABLE texts (id int PRIMARY KEY, grade numeric(6,2), letter char(3), whole numeric(12,3), near float8,
    shorter numeric(12,4), less float8, bare char(5), second timestamp, bit1 numeric(1), yes text, c char(1), mood mood,
    label text, j json, wide bigint);
"""
TARGET = """
CREATE SCHEMA app;
CREATE TYPE app.plan AS ENUM ('legacy', 'free', 'pro');
CREATE TYPE app.mood AS ENUM ('glad', 'so-so', 'sad');
CREATE TABLE app.accounts (id int PRIMARY KEY, plan app.plan, level smallint, active varchar(3), seen text, kind text,
    n int);
CREATE TABLE app.keyed (place text PRIMARY KEY, n int);
CREATE TABLE app.casts (id int PRIMARY KEY, strict boolean, truthy boolean, number bigint, word varchar(5), day date,
    day_cut date, cut varchar(4), small bigint);
"""
TEXT_TARGET = """
CREATE TABLE app.texts (id int PRIMARY KEY, grade text, letter text, whole bigint, near int, shorter numeric(12,1),
    less real, bare text, second timestamp(0), bit1 boolean, yes boolean, c boolean, mood app.mood, label app.mood,
    j jsonb, wide int);
"""
ROWS = """
INSERT INTO accounts SELECT n, n % 5, (ARRAY['sad', 'so-so', 'glad', NULL])[n % 4 + 1]::mood, n % 3 = 0,
    (ARRAY['2000-01-01', '2024-02-29', '2024-03-01', NULL])[n % 4 + 1]::date,
    CASE WHEN n % 2 = 0 THEN 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid END, n
    FROM generate_series({first}, {last}) n;
INSERT INTO casts SELECT n, n % 2, n - 3, n % 2 = 0, n % 3 = 0,
    (ARRAY['2024-02-29', 'infinity', '-infinity', '0044-03-15 BC'])[n % 4 + 1]::timestamp,
    timestamp '1999-12-31 23:59:59.999999' - n * interval '17 hours', repeat('ä"\\', n % 4), n
    FROM generate_series({first}, {last}) n;
"""
TEXT_ROWS = """
INSERT INTO texts SELECT n, n * 0.5, chr(64 + n % 4) || repeat('x', n % 2), n * 0.5, n * 0.5, n * 0.05 - 1, n / 7.0,
    repeat('b', n % 5) , timestamp '2024-01-01' + n * interval '0.5 s', n % 2,
    (ARRAY['yes', 'off', '1', 'FALSE'])[n % 4 + 1],
    (ARRAY['Y', 'n', '0', 't'])[n % 4 + 1], (ARRAY['sad', 'glad'])[n % 2 + 1]::mood,
    (ARRAY['so-so', 'glad', NULL])[n % 3 + 1], json_build_object('n', n), n
    FROM generate_series({first}, {last}) n;
"""
# What the target must show, as the source says it.
EXPECTED = {
    "accounts": """
        SELECT id, CASE plan_code WHEN 1 THEN 'free' WHEN 2 THEN 'pro' WHEN 3 THEN NULL
                   ELSE CASE WHEN plan_code IS NOT NULL THEN 'legacy' END END AS plan,
            CASE mood WHEN 'sad' THEN -1 WHEN 'glad' THEN 1 END AS level,
            CASE WHEN flag THEN 'yes' WHEN NOT flag THEN 'no' END AS active,
            CASE day WHEN '2000-01-01' THEN 'never' WHEN '2024-02-29' THEN 'leap'
            ELSE CASE WHEN day IS NOT NULL THEN 'some "day"' END END AS seen,
            CASE WHEN uid IS NOT NULL THEN 'root' END AS kind, n
        FROM accounts""",
    "keyed": "SELECT CASE code WHEN 1 THEN 'front' WHEN 2 THEN 'back' WHEN 3 THEN 'side' END AS place, n FROM keyed",
    "casts": """
        SELECT id, strict::boolean, truthy <> 0, number::int, word::text, day::date, day_cut::date, left(cut, 4), small
        FROM casts""",
}
TEXT_EXPECTED = {
    "texts": """
        SELECT id, CASE grade WHEN 1 THEN 'one' WHEN 2.5 THEN 'more' END AS grade,
            CASE letter WHEN 'A' THEN 'first' WHEN 'B' THEN 'second'
            ELSE CASE WHEN letter IS NOT NULL THEN 'other' END END AS letter,
            whole::bigint, near::int, shorter::numeric(12,1), less::real, bare::text, second::timestamp(0),
            bit1 = 1, yes::boolean, c::text::boolean, mood, label, j::jsonb, wide::int
        FROM texts""",
}


@pytest.fixture(scope="module", params=WAYS, ids=str)
def way(request: pytest.FixtureRequest) -> FormWay:
    param: FormWay = request.param
    return param


def rows(way: FormWay, first: int, last: int) -> str:
    return (ROWS if way.in_binary else ROWS + TEXT_ROWS).format(first=first, last=last)


@pytest.fixture(scope="module")
def followed(
    way: FormWay, postgres: Versions, _pairs: Pairs, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Followed]:
    more = not way.in_binary
    with shared(
        _pairs.get(postgres, prepare=make_roles),
        tmp_path_factory.mktemp("values"),
        MAPPING + TEXT_MAPPING * more,
        replica_role=True,
        source=SOURCE + TEXT_SOURCE * more,
        target=TARGET + TEXT_TARGET * more,
        rows=rows(way, 1, 40) + "INSERT INTO keyed VALUES (1, 1), (2, 2)",
        extra=f"[stream]\n{way.settings}",
        env=FOLD,
    ) as followed:
        yield followed


def assert_as_said(followed: Followed, way: FormWay) -> None:
    for name, query in (EXPECTED if way.in_binary else EXPECTED | TEXT_EXPECTED).items():
        said = followed.source(f"SELECT (t.*)::text FROM ({query}) t ORDER BY 1")
        assert said, name
        assert followed.target(f"SELECT (t.*)::text FROM app.{name} t ORDER BY 1") == said, name


def test_what_was_copied(followed: Followed, way: FormWay) -> None:
    assert_as_said(followed, way)


def test_what_is_streamed(followed: Followed, way: FormWay) -> None:
    if way.name == "binary":
        said = [line for line in followed.daemon.text().splitlines() if "stream_form" in line]
        version = followed.databases.source.server.binaries.version_major
        assert all("in binary form" in line for line in said) or version < 14, said
    followed.at_once(rows(way, 101, 140))
    assert_as_said(followed, way)
    followed.at_once(rows(way, 1001, 1400))  # enough for COPY
    assert_as_said(followed, way)
    followed.at_once(
        "UPDATE accounts SET plan_code = plan_code + 1, mood = 'so-so', n = -1 WHERE id % 3 = 0",
        "UPDATE accounts SET plan_code = NULL, flag = NULL, day = NULL, uid = NULL WHERE id % 7 = 0",
        "UPDATE casts SET truthy = 0, strict = 1 - strict, number = NOT number, cut = 'qqqqqqq' WHERE id % 3 = 0",
        "DELETE FROM accounts WHERE id % 5 = 0; DELETE FROM casts WHERE id > 120",
        *(["UPDATE texts SET grade = 2.5, letter = 'B', near = -2.5, yes = 'no' WHERE id < 130"] * (not way.in_binary)),
    )
    assert_as_said(followed, way)


def test_a_mapped_key_moves_and_goes(followed: Followed, way: FormWay) -> None:
    followed.at_once("UPDATE keyed SET n = n + 10", "UPDATE keyed SET code = 3 WHERE code = 1")
    assert_as_said(followed, way)
    followed.at_once("DELETE FROM keyed WHERE code = 3; INSERT INTO keyed VALUES (1, 7)")
    assert_as_said(followed, way)


def test_F31_what_no_rule_answers_stops_and_names_no_value(workspace: Workspace) -> None:
    followed = follow(
        workspace,
        "version: 1\nschemas: {public: app}\ntables:\n  app.t: {columns: {plan: {from: code, values: {1: free}}}}\n",
        source="CREATE TABLE t (id int PRIMARY KEY, code int, done int)",
        target="CREATE SCHEMA app; CREATE TABLE app.t (id int PRIMARY KEY, plan text, done boolean)",
        rows="INSERT INTO t VALUES (1, 1, 1)",
    )
    followed.databases.source.execute("INSERT INTO t VALUES (2, 4711, 0)")
    error = followed.failure()
    assert "not in its value map" in error
    assert "public.t, column plan" in error
    assert "4711" not in error + followed.daemon.text()
    assert followed.target("SELECT plan, done FROM app.t") == [("free", True)]
