"""The inverse of every rule that has one, checked on values: what `check --explain` says of the way back gives, out of
the target's rows, what the source holds, whether a row came by the copy or by the stream.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.checking import examined
from tests.integration.following import Followed, follow, prepared
from tests.servers.daemon import Workspace

SOURCE = """
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE TABLE owners (id int PRIMARY KEY, name text);
CREATE TABLE numbers (no bigint PRIMARY KEY);
CREATE TABLE t (
    id int PRIMARY KEY, same text, narrow smallint, amount numeric(10, 2), bin bytea, doc json, feels mood,
    owner_id int REFERENCES owners, owners_ int[], number_no bigint REFERENCES numbers,
    local timestamp, plan int, letter char(1), price numeric(6, 2),
    flag int, counted boolean, worded boolean, day timestamp,
    email text, cents numeric(10, 2), title varchar(20), cut text, folded text
);
"""
TARGET = """
CREATE TABLE owners (id uuid PRIMARY KEY, name text);
CREATE TABLE numbers (no bigint PRIMARY KEY);
CREATE TABLE t (
    id bigint PRIMARY KEY, other text, narrow bigint, amount numeric(20, 4), bin bytea, doc jsonb, feels text,
    owner_id uuid, owners_ text[], number_no bigint,
    local timestamptz, plan text, letter smallint, price numeric(8, 4),
    flag boolean, counted smallint, worded varchar(5), day date,
    email text, cents bigint, title text, cut varchar(3), folded boolean
);
"""
MAPPING = """\
version: 1
schemas: {public: public}
ids:
  owner: {from: public.owners.id, to: uuid, strategy: uuid7}
  number: {from: public.numbers.no, to: bigint, strategy: offset, by: 1000000}
tables:
  public.t:
    columns:
      other: same
      owners_: {remap: owner}
      local: {timezone: America/New_York}
      plan: {values: {1: free, 2: "it's paid", 3: NULL, 4: '\u20ac'}}
      letter: {values: {A: 1, B: 2}}
      price: {values: {0: 0.5, 9.90: 10}}
      email: {up: "reverse(email)", down: "reverse(email)"}
      cents: {up: "(cents * 100)::bigint", down: "(cents / 100.0)::numeric(10, 2)"}
      title: {up: "'<' || title || '>'", down: "substr(title, 2, length(title) - 2)::varchar(20)"}
      cut: {cast: lossy}
      folded: {up: "folded = 'yes'"}
""".replace("3: NULL, ", "")
ROWS = """
INSERT INTO owners VALUES (1, 'a'), (-7, 'b'), (0, 'c');
INSERT INTO numbers VALUES (0), (-5), (9000000000);
INSERT INTO t VALUES
({0}, 'as it is', 32767, 12345678.90, '\\x00ff', '{{"a": [1, 2]}}', 'sad', 1, '{{1,-7,NULL}}', 0,
 '2024-07-01 12:00:00.123456', 1, 'A', 0, 0, false, false, '2024-02-29', 'Ann@X', 12.34, 'Mr', 'abcdef', 'yes'),
({1}, '', -32768, -0.01, '', '{{}}', 'glad', -7, '{{}}', -5, '2024-11-03 01:30', 2, 'B', 9.90, 1, true, true,
 '0044-03-15 BC', '', -0.01, '', 'x', 'no'),
({2}, 'tab\there', 0, 0, '\\x5c', '"\u00e9"', 'glad', 0, '{{0}}', 9000000000, '1883-11-18 11:00', 4, NULL, NULL, NULL,
 true, false, 'infinity', 'e\u0301\U0001d11e', 99999999.99, 'x y', '', NULL),
({3}, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
 NULL, NULL, NULL);
"""
ONE_WAY = {"cut", "folded"}


def rows(first: int) -> str:
    text = ROWS.format(*(first + number for number in range(4)))
    return text if first == 1 else text[text.index("INSERT INTO t ") :]


@pytest.mark.one_version
@pytest.mark.parametrize("exact", [False, True], ids=["sets", "exact"])
def test_what_comes_back_is_what_was_there(workspace: Workspace, exact: bool) -> None:
    followed = follow(
        workspace, MAPPING, source=SOURCE, target=TARGET, rows=rows(1),
        extra='[stream]\napply = "exact"\n' if exact else "", env={"CROSSFADE_FAILPOINTS": "fold_few"},
    )  # fmt: skip
    followed.write(rows(11), "UPDATE t SET plan = 2, cents = 5.50, owner_id = 0 WHERE id = 11")
    for table, columns in (("t", 23), ("owners", 2), ("numbers", 1)):
        backs = _backs(followed, table)
        assert len(backs) == columns
        assert {back["column"] for back in backs if back["sql"] is None} == (ONE_WAY if table == "t" else set())
        for back in backs:
            if back["sql"] is not None:
                _assert_back(followed, table, back)
    followed.stop()


def _backs(followed: Followed, table: str) -> list[dict[str, Any]]:
    answer = followed.workspace.run("check", "--explain", f"public.{table}", "--json")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    (source,) = json.loads(answer.stdout)["sources"]
    return [column["back"] for column in source["columns"] if column["back"] is not None]


def _assert_back(followed: Followed, table: str, back: dict[str, Any]) -> None:
    """Rows are met by what they have in common: how many of each value there are."""
    column = back["column"]
    ((kind,),) = followed.source(
        f"SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '{table}'::regclass"
        f" AND attname = '{column}'"
    )
    read = "text" if kind == "mood" else kind  # what the target does not know is its text
    key = "t.id" if table == "t" else "1"
    found = followed.target(f"SELECT {key}, ({back['sql']})::{read}::text FROM {table} t ORDER BY 1, 2")
    assert found == followed.source(f"SELECT {key}, t.{column}::text FROM {table} t ORDER BY 1, 2"), column


# the type of `down` --------------------------------------------------------------------------------------------------

TYPES = "CREATE TABLE t (id int PRIMARY KEY, n int, price numeric(10, 2), name varchar(10), first text, last text)"
TYPES_TARGET = "CREATE TABLE t (id int PRIMARY KEY, n text, price bigint, name text, full_name text, first text)"


def said(workspace: Workspace, columns: str) -> list[tuple[str, str]]:
    """What is told of a way back."""
    text = f"version: 1\nschemas: {{public: public}}\ntables:\n  public.t:\n    columns: {{id: id, {columns}}}\n"
    found = examined(workspace, text + "    only: true\n")
    return [(each.name, each.sentence) for each in found.findings if "down" in each.sentence]


CASES = [
    ('n: {up: "n::text", down: "n::int"}', "", ""),
    ('n: {up: "n::text", down: n}', "expression_refused", "it is text, and goes back to public.t.n, which is integer"),
    ('n: {up: "n::text", down: n}', "expression_refused", "the target says: column"),
    ('n: {up: "n::text", down: "n::numeric"}', "down_narrowed", "it is numeric, and goes back to public.t.n"),
    ('n: {up: "n::text", down: "n::smallint"}', "", ""),
    ('price: {up: "(price * 100)::bigint", down: "price / 100.0"}', "down_narrowed", "which is numeric(10,2)"),
    ('price: {up: "(price * 100)::bigint", down: "(price / 100.0)::numeric(10,2)"}', "", ""),
    ("name: {up: lower(name), down: name}", "down_narrowed", "which is character varying(10)"),
    ('name: {up: lower(name), down: "name::varchar(10)"}', "", ""),
    ('full_name: {up: "first || last", down: full_name}', "down_unclear", "up reads first, last; which of them"),
    ('first: {up: "first || last", down: first}', "", ""),
    ('n: {up: "n::text", down: "nn::int"}', "expression_refused", 'the target says: column "nn" does not exist'),
    ('n: {up: "n::text", down: "random()::int"}', "expression_refused", "random() is volatile"),
]


@pytest.mark.one_version
def test_the_type_of_the_way_back(workspace: Workspace) -> None:
    """Asked of the target, of no rows."""
    prepared(workspace, source=TYPES, target=TYPES_TARGET)
    for columns, name, words in CASES:
        found = said(workspace, columns)
        assert [one for one, _ in found] == ([name] if name else []), (columns, found)
        assert all(words in sentence for _, sentence in found), (columns, found)
