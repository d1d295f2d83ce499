"""Keys of several columns that become one new id: by copy and by stream, in every path, form and role.

The same rows must meet the same ids whoever makes the key's text: the source in the copy, the daemon in the stream.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.integration.checking import errors, examined, one
from tests.integration.following import Followed, follow, prepared, shared
from tests.servers.clusters import Pairs, Versions
from tests.servers.daemon import Workspace
from tests.servers.databases import make_roles

SOURCE = """
CREATE TABLE accounts (tenant int, no bigint, name varchar(40), parent_no bigint, big text, PRIMARY KEY (tenant, no),
    FOREIGN KEY (tenant, parent_no) REFERENCES accounts ON UPDATE CASCADE);
ALTER TABLE accounts ALTER big SET STORAGE EXTERNAL;
CREATE TABLE orders (id int PRIMARY KEY, account_no bigint, tenant int, n int,
    FOREIGN KEY (tenant, account_no) REFERENCES accounts ON UPDATE CASCADE ON DELETE CASCADE);
CREATE TABLE lines (tenant int, account_no bigint, line smallint, n int, PRIMARY KEY (tenant, account_no, line),
    FOREIGN KEY (tenant, account_no) REFERENCES accounts ON UPDATE CASCADE ON DELETE CASCADE);
CREATE TABLE loose (id int PRIMARY KEY, t smallint, n int);
CREATE TABLE words (word text, lang varchar(9), of uuid, meaning text, PRIMARY KEY (lang, word, of));
CREATE TABLE uses (id int PRIMARY KEY, word text, lang text, of uuid, n int);
ALTER TABLE uses REPLICA IDENTITY FULL;
ALTER TABLE words ADD CONSTRAINT wide UNIQUE (word, lang, of);
"""
TARGET = """
CREATE TABLE accounts (id uuid PRIMARY KEY, tenant int NOT NULL, name text, parent_id uuid {fk}, big text);
CREATE TABLE orders (id int PRIMARY KEY, account_id uuid {fk}, n int);
CREATE TABLE lines (account_id uuid {fk}, line int, n int, PRIMARY KEY (account_id, line));
CREATE TABLE loose (id int PRIMARY KEY, account_id uuid, n int);
CREATE TABLE words (meaning text, id bigint PRIMARY KEY);
CREATE TABLE uses (id int PRIMARY KEY, word_id bigint, n int);
CREATE SEQUENCE word_ids START 1000;
GRANT USAGE ON SEQUENCE word_ids TO PUBLIC;
""".format(fk="REFERENCES accounts DEFERRABLE")
MAPPING = """\
version: 1
schemas: {public: public}
ids:
  account: {from: [public.accounts.tenant, public.accounts.no], to: uuid, strategy: uuid7}
  word: {from: [public.words.word, public.words.lang, public.words.of], to: bigint, strategy: sequence,
         sequence: public.word_ids}
tables:
  public.accounts: {columns: {id: [tenant, no], parent_id: [tenant, parent_no]}}
  public.orders: {columns: {account_id: {from: [tenant, account_no]}}}
  public.lines: {columns: {account_id: {from: [tenant, account_no], remap: account}}}
  public.loose: {columns: {account_id: {from: [t, n], remap: account}, n: n}}
  public.words: {columns: {id: {from: [word, lang, of], remap: word}}}
  public.uses: {columns: {word_id: {from: [word, lang, of], remap: word}}}
"""
ODD = [
    "plain", "", '"', "\\", 'a"b\\c', "x, y", "[1]", "tab\there", "new\nline", "\b\f\r\x01\x1f", "\x7f", "é", "𝄞", "/",
    "'", "\u2028", " ", "null", "1",
]  # fmt: skip
UUID = "00000000-0000-0000-0000-00000000000"
ROWS = """
INSERT INTO accounts SELECT n % 3, n, 'a' || n, CASE WHEN n > 3 THEN n - 3 END, repeat('b', abs(n) * 200)
    FROM generate_series(0, 60) n;
INSERT INTO accounts VALUES (-1, -9000000000, 'far', NULL, NULL);
INSERT INTO orders SELECT n, n % 60, n % 60 % 3, n FROM generate_series(0, 200) n;
INSERT INTO orders VALUES (1001, NULL, 1, 0), (1002, 5, NULL, 0);
INSERT INTO lines SELECT n % 3, n, l, n FROM generate_series(1, 60) n, generate_series(1, 2) l;
INSERT INTO accounts SELECT 100, n, 'steady', NULL, NULL FROM generate_series(1, 20) n;
INSERT INTO loose SELECT n, 100, n FROM generate_series(1, 40) n
"""


def word_rows(first: int, lang: str) -> list[str]:
    """Odd words as SQL; json reads what no literal holds."""
    return [
        f"WITH w AS (SELECT ($j${json.dumps(word)}$j$::json) #>> '{{}}' AS w), i AS (INSERT INTO words"
        f" SELECT w, '{lang}', '{UUID}{at % 10}', 'm{at}' FROM w)"
        f" INSERT INTO uses SELECT {first + at}, w, '{lang}', '{UUID}{at % 10}', {at} FROM w"
        for at, word in enumerate(ODD)
    ]


WAYS = {"replica": (True, ""), "origin, exact": (False, 'apply = "exact"'), "text": (True, 'wire = "text"')}


@pytest.fixture(scope="module", params=WAYS)
def followed(
    request: pytest.FixtureRequest, postgres: Versions, _pairs: Pairs, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Followed]:
    replica_role, setting = WAYS[request.param]
    servers = _pairs.get(postgres, prepare=make_roles)
    with shared(
        servers, tmp_path_factory.mktemp("compound"), MAPPING, replica_role=replica_role, source=SOURCE, target=TARGET,
        rows=";".join([ROWS, *word_rows(1, "de")]), extra=f"[stream]\n{setting}\n",
        env={"CROSSFADE_FAILPOINTS": "fold_few"},
    ) as found:  # fmt: skip
        yield found


ID = "(SELECT m.old FROM crossfade.id_{} m WHERE m.new = {})"


def together(*columns: str) -> str:
    present = " AND ".join(f"{column} IS NOT NULL" for column in columns)
    return f"CASE WHEN {present} THEN json_build_array({', '.join(f'{column}::text' for column in columns)})::text END"


def assert_alike(followed: Followed) -> None:
    account, word = ID.format("account", "{}"), ID.format("word", "{}")
    queries = {
        "accounts": (
            (
                f"SELECT {account.format('t.id')}, tenant, name, {account.format('t.parent_id')}, md5(big)"
                " FROM accounts t ORDER BY 1"
            ),
            (
                f"SELECT {together('tenant', 'no')}, tenant, name, {together('tenant', 'parent_no')}, md5(big)"
                " FROM accounts ORDER BY 1"
            ),
        ),
        "orders": (
            f"SELECT id, {account.format('t.account_id')}, n FROM orders t ORDER BY 1",
            f"SELECT id, {together('tenant', 'account_no')}, n FROM orders ORDER BY 1",
        ),
        "lines": (
            f"SELECT {account.format('t.account_id')}, line, n FROM lines t ORDER BY 1, 2",
            f"SELECT {together('tenant', 'account_no')}, line, n FROM lines ORDER BY 1, 2",
        ),
        "loose": (
            f"SELECT id, {account.format('t.account_id')}, n FROM loose t ORDER BY 1",
            f"SELECT id, {together('t', 'n')}, n FROM loose ORDER BY 1",
        ),
        "words": (
            f"SELECT {word.format('t.id')}, meaning FROM words t ORDER BY 1, 2",
            f"SELECT {together('word', 'lang', 'of')}, meaning FROM words ORDER BY 1, 2",
        ),
        "uses": (
            f"SELECT id, {word.format('t.word_id')}, n FROM uses t ORDER BY 1",
            f"SELECT id, {together('word', 'lang', 'of')}, n FROM uses ORDER BY 1",
        ),
    }
    for name, (target, source) in queries.items():
        assert followed.target(target) == followed.source(source), name
    assert followed.target("SELECT count(*) - count(DISTINCT new) FROM crossfade.id_account") == [(0,)]


CHANGES = {
    "rows of both": "INSERT INTO accounts SELECT 7, n, 'new', NULL, 'x' FROM generate_series(1, 30) n;"
    "INSERT INTO orders SELECT 2000 + n, n, 7, n FROM generate_series(1, 30) n",
    "updates": "UPDATE accounts SET name = 'other' WHERE tenant = 1; UPDATE orders SET n = -n WHERE id < 50",
    "another reference": "UPDATE orders SET account_no = 4, tenant = 1 WHERE id IN (60, 61);"
    "UPDATE orders SET account_no = NULL WHERE id = 62; UPDATE orders SET tenant = 1, account_no = 1 WHERE id = 1001",
    "deletes": "DELETE FROM lines WHERE line = 2 AND n < 20; DELETE FROM orders WHERE id BETWEEN 100 AND 120",
    "a reference without a row": "INSERT INTO loose VALUES (5001, 9, 9); INSERT INTO accounts VALUES (9, 9, 'late')",
    # The rows whose parent it is follow, and those whose parents these are: their tenant is a part of their key.
    "all of the key": "UPDATE accounts SET no = 1002, tenant = 5 WHERE tenant = 2 AND no = 2",
    "a part of the key": "UPDATE accounts SET no = 3001 WHERE tenant = 1 AND no = 10",
    "keys that change hands": "UPDATE accounts SET no = 9999 WHERE tenant = 0 AND no = 33;"
    "UPDATE accounts SET no = 33 WHERE tenant = 0 AND no = 36;"
    "UPDATE accounts SET no = 36 WHERE tenant = 0 AND no = 9999",
    "gone with all of its own": "DELETE FROM accounts WHERE tenant = 1 AND no = 58",
    "gone and back": "INSERT INTO accounts VALUES (8, 1, 'one'); DELETE FROM accounts WHERE tenant = 8;"
    "INSERT INTO accounts VALUES (8, 1, 'two')",
    "keys of three columns": f"UPDATE words SET lang = 'nl' WHERE of = '{UUID}3' AND lang = 'de';"
    f"UPDATE uses SET lang = 'nl', n = n + 1 WHERE of = '{UUID}3' AND lang = 'de'",
    "not sent": "UPDATE accounts SET name = 'short' WHERE no > 40",
}  # fmt: skip


def test_I7_the_copy_and_every_change(followed: Followed, request: pytest.FixtureRequest) -> None:
    """One after the other where that is fast; else all of them in one batch."""
    assert_alike(followed)
    is_each = "replica" in request.node.name
    query = "SELECT id FROM accounts WHERE tenant IN (2, 5) ORDER BY 1"  # some of which move, all together
    kept = followed.target(query)
    for scripts in [[each] for each in CHANGES.values()] if is_each else [list(CHANGES.values())]:
        followed.at_once(*scripts)
        assert_alike(followed)
        assert followed.target(query) == kept
    assert followed.metric("crossfade_conflicts_total", kind="missing_row") == 0


def test_I7_every_spelling_is_the_source_s(followed: Followed) -> None:
    """What the copy brought under one language, the stream brings under another."""
    followed.at_once(*word_rows(101, "en"))
    assert_alike(followed)
    assert followed.target("SELECT count(*) FROM words") == [(2 * len(ODD),)]


def test_I7_truncate(followed: Followed) -> None:
    followed.at_once("TRUNCATE loose; INSERT INTO loose VALUES (1, 100, 1), (2, 100, 12)")
    assert_alike(followed)


# what is refused -----------------------------------------------------------------------------------------------------

TWO = """
CREATE TABLE a (x int, y int, z date, v text, PRIMARY KEY (x, y));
CREATE TABLE b (id int PRIMARY KEY, x int, y int, FOREIGN KEY (x, y) REFERENCES a);
"""
TWO_TARGET = "CREATE TABLE a (id uuid PRIMARY KEY, v text, w uuid); CREATE TABLE b (id int PRIMARY KEY, a_id uuid)"


@pytest.mark.one_version
def test_what_is_refused(workspace: Workspace) -> None:
    prepared(workspace, source=TWO, target=TWO_TARGET)
    for ids, a, b, name, words in (
        ("[public.a.x, public.a.y]", "[x, y]", "[x, y]", "", ""),
        ("[public.a.y, public.a.x]", "[y, x]", "{from: [y, x], remap: a}", "", ""),
        ("[public.a.x, public.a.y]", "[x, y]", "{from: [y, x]}", "compound_without_ids", "nothing says that they are"),
        ("[public.a.x, public.a.z]", "[x, y]", "[x, y]", "keyspace_type", "public.a.z is date"),
        ("[public.a.x, public.a.q]", "[x, y]", "[x, y]", "keyspace_column_missing", "no column 'q'"),
        ("[public.b.x, public.b.y]", "[x, y]", "[x, y]", "keyspace_not_unique", "[x, y] is not unique by itself"),
        ("[public.a.x, public.a.y]", "[x, q]", "[x, y]", "source_column_missing", "no column 'q'"),
        ("[public.a.x, public.a.y]", "[x, z]", "[x, y]", "compound_type", "cannot be an id together"),
    ):
        text = (
            f"version: 1\nschemas: {{public: public}}\nids: {{a: {{from: {ids}, strategy: uuid7}}}}\ntables:\n"
            f"  public.a: {{columns: {{id: {a}}}, drop: [z]}}\n  public.b: {{columns: {{a_id: {b}}}}}\n"
        )
        found = examined(workspace, text)
        if not name:
            assert errors(found) == set(), found.findings
        else:
            assert name in errors(found), (ids, a, b, found.findings)
            assert words in one(found, name).sentence


@pytest.mark.one_version
def test_it_is_told_and_asked_about(workspace: Workspace) -> None:
    """`--explain` and `--data` say the columns, and their SQL runs."""
    text = (
        "version: 1\nschemas: {public: public}\nids: {a: {from: [public.a.x, public.a.y], strategy: uuid7}}\ntables:\n"
        "  public.a: {columns: {id: [x, y]}, drop: [z]}\n  public.b: {columns: {a_id: [x, y]}}\n"
    )
    followed = follow(
        workspace,
        text,
        source=TWO,
        target=TWO_TARGET,
        rows="INSERT INTO a VALUES (1, 2); INSERT INTO b VALUES (1, 1, 2)",
    )
    (source,) = json.loads(workspace.run("check", "--explain", "public.b", "--json").stdout)["sources"]
    (column,) = [column for column in source["columns"] if column["name"] == "a_id"]
    assert column["from"] == ["x", "y"]
    assert "[x, y] in ids.a (public.a.[x, y])" in column["words"]
    assert source["left_behind"] == []
    ((back,),) = followed.target(f"SELECT {column['back']['sql']} FROM b t")
    assert back == '["1", "2"]'
    answer = workspace.run("check", "--data", "--json")
    asked = json.loads(answer.stdout)["data"]
    assert asked["finished"], answer.stdout
    assert all(each["why"] is None or each["why"] == "" for table in asked["tables"] for each in table["questions"])
    followed.stop()
    # The parts are watched as if they were mapped by themselves.
    followed.source("ALTER TABLE b RENAME y TO yy")
    refused = workspace.run("run")
    assert refused.returncode == 3
    assert "Column y of public.b" in refused.stderr
