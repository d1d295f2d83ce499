"""Ids that become others, and everything that refers to them (edge-cases, section I).

The target is read back through the kept maps and compared with the source, reference by reference.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.integration.following import Followed, prepared, shared
from tests.servers.clusters import Pairs, Versions
from tests.servers.daemon import Workspace
from tests.servers.databases import make_roles

MAPPING = """
version: 1
schemas: {public: app}
ids:
  user: {from: public.users.id, to: uuid, strategy: uuid7}
  code: {from: public.codes.code, to: uuid, strategy: uuid4}
  token: {from: public.tokens.token, to: uuid, strategy: uuid5}
  item: {from: public.items.id, to: bigint, strategy: offset, by: 1000000}
tables:
  app.accounts:
    from: public.users
    columns: {full_name: name, kind: {const: legacy}, is_new: {const: false}, gone_at: {const: null}}
    drop: [password]
"""
SOURCE = """
CREATE TABLE users (id int PRIMARY KEY, name text, password text, boss int REFERENCES users ON UPDATE CASCADE);
CREATE TABLE orders (id int PRIMARY KEY, user_id int REFERENCES users ON UPDATE CASCADE DEFERRABLE, n int);
CREATE TABLE friends (a int REFERENCES users ON UPDATE CASCADE, b int REFERENCES users ON UPDATE CASCADE, n int,
    PRIMARY KEY (a, b));
CREATE TABLE messages (id int PRIMARY KEY, from_id int REFERENCES users ON UPDATE CASCADE,
    to_id int REFERENCES users ON UPDATE CASCADE, body text);
CREATE TABLE places (user_id int REFERENCES users ON UPDATE CASCADE, no int, label text, PRIMARY KEY (user_id, no));
CREATE TABLE visits (id int PRIMARY KEY, user_id int, no int,
    FOREIGN KEY (user_id, no) REFERENCES places (user_id, no) ON UPDATE CASCADE);
CREATE TABLE loose (id int PRIMARY KEY, user_id int, note text);
ALTER TABLE loose ADD FOREIGN KEY (user_id) REFERENCES users NOT VALID;
CREATE TABLE codes (code text PRIMARY KEY, n int);
CREATE TABLE code_uses (id int PRIMARY KEY, code text REFERENCES codes ON UPDATE CASCADE);
CREATE TABLE tokens (token uuid PRIMARY KEY);
CREATE TABLE token_uses (id int PRIMARY KEY, token uuid REFERENCES tokens);
CREATE TABLE items (id bigint PRIMARY KEY, parent bigint REFERENCES items DEFERRABLE INITIALLY DEFERRED);
"""
TARGET = """
CREATE SCHEMA app;
CREATE TABLE app.accounts (id uuid PRIMARY KEY, full_name text, kind text NOT NULL, is_new boolean NOT NULL,
    gone_at date, boss uuid REFERENCES app.accounts DEFERRABLE);
CREATE TABLE app.orders (id int PRIMARY KEY, user_id uuid REFERENCES app.accounts DEFERRABLE, n int);
CREATE TABLE app.friends (a uuid REFERENCES app.accounts, b uuid REFERENCES app.accounts, n int, PRIMARY KEY (a, b));
CREATE TABLE app.messages (id int PRIMARY KEY, from_id uuid REFERENCES app.accounts,
    to_id uuid REFERENCES app.accounts, body text);
CREATE TABLE app.places (user_id uuid REFERENCES app.accounts, no int, label text, PRIMARY KEY (user_id, no));
CREATE TABLE app.visits (id int PRIMARY KEY, user_id uuid, no int,
    FOREIGN KEY (user_id, no) REFERENCES app.places (user_id, no) DEFERRABLE);
CREATE TABLE app.loose (id int PRIMARY KEY, user_id uuid, note text);
CREATE TABLE app.codes (code uuid PRIMARY KEY, n int);
CREATE TABLE app.code_uses (id int PRIMARY KEY, code uuid REFERENCES app.codes);
CREATE TABLE app.tokens (token uuid PRIMARY KEY);
CREATE TABLE app.token_uses (id int PRIMARY KEY, token uuid REFERENCES app.tokens);
CREATE TABLE app.items (id bigint PRIMARY KEY, parent bigint REFERENCES app.items DEFERRABLE);
"""
ROWS = """
INSERT INTO users SELECT n, 'user ' || n, 'secret', CASE WHEN n > 1 THEN n / 2 END FROM generate_series(1, 300) n;
INSERT INTO users VALUES (0, 'zero', '', NULL), (-7, 'negative', NULL, 0), (2147483647, 'last', NULL, -7);
INSERT INTO orders SELECT n, CASE WHEN n % 10 > 0 THEN n % 300 + 1 END, n FROM generate_series(1, 1000) n;
INSERT INTO friends SELECT a, b, a * b FROM generate_series(1, 5) a, generate_series(1, 5) b;
INSERT INTO messages SELECT n, n % 5 + 1, n * 3 % 5 + 1, 'hello ' || n FROM generate_series(1, 30) n;
INSERT INTO messages VALUES (100, 9, 9, 'to myself'), (101, 100, 100, 'to myself too');
INSERT INTO places SELECT a, b, 'home' FROM generate_series(1, 5) a, generate_series(1, 3) b;
INSERT INTO visits SELECT n, n % 5 + 1, n % 3 + 1 FROM generate_series(1, 30) n;
INSERT INTO visits VALUES (100, NULL, 1), (101, NULL, NULL);
SET session_replication_role = replica;
INSERT INTO loose VALUES (1, 1, 'has a parent'), (2, 99999, 'never had one'), (3, NULL, 'wants none');
SET session_replication_role = origin;
INSERT INTO codes VALUES ('', 0), ('a b', 1), (E'tab\\tnl\\n\\\\', 2), ('ü😀', 3), ('\\N', 4);
INSERT INTO code_uses SELECT row_number() OVER (), code FROM codes; INSERT INTO code_uses VALUES (99, NULL);
INSERT INTO tokens VALUES ('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'), ('00000000-0000-0000-0000-000000000000');
INSERT INTO token_uses SELECT row_number() OVER (), token FROM tokens;
INSERT INTO items VALUES (2, 1), (1, NULL), (0, 2), (-5, 0);
"""


@pytest.fixture(scope="module", params=[True, False], ids=["replica", "origin"])
def followed(
    request: pytest.FixtureRequest, postgres: Versions, _pairs: Pairs, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Followed]:
    with shared(
        _pairs.get(postgres, prepare=make_roles),
        tmp_path_factory.mktemp("ids"),
        MAPPING,
        replica_role=request.param,
        source=SOURCE,
        target=TARGET,
        rows=ROWS,
    ) as followed:
        yield followed
        _assert_alike(followed)


# Each source query, and the target's, whose new ids are taken back through the map.
_ALIKE = (
    (
        "SELECT id, name, 'legacy', false, NULL::date, boss FROM users",
        "SELECT {user:id}, full_name, kind, is_new, gone_at, {user:boss} FROM app.accounts t",
    ),
    ("SELECT id, user_id, n FROM orders", "SELECT id, {user:user_id}, n FROM app.orders t"),
    ("SELECT a, b, n FROM friends", "SELECT {user:a}, {user:b}, n FROM app.friends t"),
    (
        "SELECT id, from_id, to_id, body FROM messages",
        "SELECT id, {user:from_id}, {user:to_id}, body FROM app.messages t",
    ),
    ("SELECT user_id, no, label FROM places", "SELECT {user:user_id}, no, label FROM app.places t"),
    ("SELECT id, user_id, no FROM visits", "SELECT id, {user:user_id}, no FROM app.visits t"),
    ("SELECT id, user_id, note FROM loose", "SELECT id, {user:user_id}, note FROM app.loose t"),
    ("SELECT code, n FROM codes", "SELECT {code:code}, n FROM app.codes t"),
    ("SELECT id, code FROM code_uses", "SELECT id, {code:code} FROM app.code_uses t"),
    ("SELECT token FROM tokens", "SELECT {token:token} FROM app.tokens t"),
    ("SELECT id, token FROM token_uses", "SELECT id, {token:token} FROM app.token_uses t"),
    ("SELECT id, parent FROM items", "SELECT {item:id}, {item:parent} FROM app.items t"),
)


def _assert_alike(followed: Followed) -> None:
    for source, target in _ALIKE:
        for keyspace in ("user", "code", "token", "item"):
            target = target.replace(f"{{{keyspace}:", f"(SELECT old FROM crossfade.id_{keyspace} WHERE new = t.")
        target = target.replace("}", ")")
        expected = sorted(map(repr, followed.source(source)))
        assert sorted(map(repr, followed.target(target))) == expected, target


def _new(followed: Followed, old: int) -> object:
    return followed.databases.target.value("SELECT new FROM crossfade.id_user WHERE old = %s", (old,))


def test_I1_I7_copied_ids_of_every_kind(followed: Followed) -> None:
    """Integer, bigint, text and uuid keyspaces; references plain, composite, to the table itself, NULL, to id 0."""
    _assert_alike(followed)


def test_I2_one_id_one_new_id(followed: Followed) -> None:
    """However many workers copied: the maps hold each old id once, and no new one twice."""
    for keyspace in ("user", "code", "token", "item"):
        counts = f"SELECT count(*), count(DISTINCT old), count(DISTINCT new) FROM crossfade.id_{keyspace}"
        ((total, olds, news),) = followed.target(counts)
        assert total == olds == news > 0


def test_the_strategies_make_what_they_say(followed: Followed) -> None:
    """uuid7 and uuid4 carry their version; uuid5 is a function of table and old id; offset adds."""
    assert {new.version for (new,) in followed.target("SELECT new FROM crossfade.id_user")} == {7}
    assert {new.version for (new,) in followed.target("SELECT new FROM crossfade.id_code")} == {4}
    for old, new in followed.target("SELECT old, new FROM crossfade.id_token"):
        assert new == uuid.uuid5(uuid.NAMESPACE_URL, f"public.tokens:{old}")
    assert (2, 1_000_002) in followed.target("SELECT old, new FROM crossfade.id_item")


def test_I1_a_child_streamed_before_its_parent(followed: Followed) -> None:
    """Deferred foreign keys let the child come first: it gets the id the parent will have, and counts as no orphan."""
    before = followed.metric("crossfade_conflicts_total", kind="orphan_id")
    followed.at_once(
        "INSERT INTO items VALUES (101, 102), (102, 103), (103, NULL)",
        "BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO orders VALUES (5001, 5001, 1);"
        "INSERT INTO users VALUES (5001, 'late', NULL, NULL); COMMIT",
        "INSERT INTO users VALUES (5003, 'c', NULL, 5002), (5002, 'p', NULL, NULL)",
        "UPDATE orders SET user_id = NULL WHERE id = 5001; UPDATE orders SET user_id = 5003 WHERE id = 5001",
    )
    _assert_alike(followed)
    assert followed.metric("crossfade_conflicts_total", kind="orphan_id") == before


def test_I3_a_reference_to_nobody_is_given_an_id_and_counted(followed: Followed) -> None:
    """NOT VALID foreign key, parent that never existed: an id is allocated all the same, by copy and by stream."""
    before = followed.metric("crossfade_conflicts_total", kind="orphan_id")
    followed.write(
        "SET session_replication_role = replica; INSERT INTO loose VALUES (10, 77777, 'orphan'), (11, 77777, 'again')"
    )
    assert followed.metric("crossfade_conflicts_total", kind="orphan_id") == before + 1
    assert followed.target("SELECT count(DISTINCT user_id) FROM app.loose WHERE id IN (10, 11)") == [(1,)]
    new = _new(followed, 77777)
    followed.write("INSERT INTO users VALUES (77777, 'found', NULL, NULL)")
    assert followed.target(f"SELECT full_name FROM app.accounts WHERE id = '{new}'") == [("found",)]
    _assert_alike(followed)


def test_I5_a_parent_s_key_changes_and_its_new_id_stays(followed: Followed) -> None:
    """UPDATE of the parent's key with ON UPDATE CASCADE: on the target nothing that refers to it changes."""
    new = _new(followed, 9)
    followed.at_once(
        "UPDATE users SET id = 900000 WHERE id = 9",
        "UPDATE users SET name = 'renamed' WHERE id = 900000",
        "INSERT INTO users VALUES (9, 'another nine', NULL, 900000)",
    )
    assert _new(followed, 900000) == new
    assert _new(followed, 9) != new
    assert followed.target(f"SELECT full_name FROM app.accounts WHERE id = '{new}'") == [("renamed",)]
    _assert_alike(followed)


def test_I5_a_row_that_refers_twice_to_a_parent_whose_key_changes(followed: Followed) -> None:
    """The cascade changes one column at a time: the other still says the old key, and must not become a stranger's."""
    before = followed.metric("crossfade_conflicts_total", kind="orphan_id")
    new = _new(followed, 100)
    followed.at_once("UPDATE users SET id = 100100 WHERE id = 100")
    assert followed.target("SELECT from_id, to_id FROM app.messages WHERE id = 101") == [(new, new)]
    assert followed.target("SELECT count(*) FROM crossfade.id_user WHERE old = 100") == [(0,)]
    assert followed.metric("crossfade_conflicts_total", kind="orphan_id") == before
    _assert_alike(followed)


def test_I5_keys_shift_in_one_statement(followed: Followed) -> None:
    """Every key of a group is increased by one at once, highest first; keys of two references follow on both sides."""
    rows = "SELECT a, b, n FROM app.friends ORDER BY n, a, b"
    before = followed.target(rows)
    # A plain UPDATE takes the rows as they lie in the table: written in descending order, they are free to shift.
    followed.at_once(
        "INSERT INTO users SELECT n, 'group', NULL, NULL FROM generate_series(3009, 3001, -1) n;"
        "INSERT INTO friends SELECT a, b, 100 * a + b FROM generate_series(3001, 3009) a,"
        " generate_series(3001, 3009) b;"
        "INSERT INTO messages SELECT id, 3001 + id % 9, 3001 + id / 9 % 9, 'x' FROM generate_series(3001, 3081) id",
    )
    start = followed.target(rows)
    assert len(start) == len(before) + 81
    followed.at_once("UPDATE users SET id = id + 1 WHERE name = 'group'")
    assert followed.target(rows) == start, "on the target nothing has changed"
    _assert_alike(followed)
    followed.at_once(
        "UPDATE users SET id = 3999 WHERE id = 3005; UPDATE users SET id = 3005 WHERE id = 3004;"
        "UPDATE users SET id = 3004 WHERE id = 3999; UPDATE friends SET n = -n WHERE a IN (3004, 3005);"
        "DELETE FROM friends WHERE a = 3004 AND b = 3005",
    )
    _assert_alike(followed)


def test_I4_a_deleted_parent_s_id_is_used_again(followed: Followed) -> None:
    """Deleted, and inserted again with the same id: it has the same new id, and so have references to it."""
    new = _new(followed, 200)
    followed.at_once(
        "DELETE FROM orders WHERE user_id = 200; UPDATE users SET boss = NULL WHERE boss = 200;"
        "DELETE FROM users WHERE id = 200",
        "INSERT INTO users VALUES (200, 'again', NULL, NULL); INSERT INTO orders VALUES (6000, 200, 1)",
        "DELETE FROM orders WHERE id = 6000; INSERT INTO orders VALUES (6000, 200, 2)",
    )
    assert _new(followed, 200) == new
    _assert_alike(followed)


def test_I7_composite_keys_and_deletes_through_the_map(followed: Followed) -> None:
    """Rows whose key holds a remapped id are updated, moved and deleted; text and uuid keys as well."""
    followed.at_once(
        "UPDATE places SET label = 'away' WHERE no = 1",
        "UPDATE places SET no = no + 10 WHERE no = 2",
        "DELETE FROM visits WHERE no = 3; DELETE FROM places WHERE no = 3",
        "DELETE FROM friends WHERE n = (SELECT min(n) FROM friends)",
        "UPDATE codes SET code = E'new\\n\\t' WHERE n = 1; UPDATE codes SET n = 9 WHERE n = 3",
        "DELETE FROM code_uses WHERE code = ''; DELETE FROM codes WHERE code = ''",
        "DELETE FROM token_uses WHERE id = 1",
        "UPDATE items SET id = 50 WHERE id = -5",
    )
    _assert_alike(followed)


@pytest.mark.one_version
@pytest.mark.parametrize(
    ("has", "refusal"),
    [
        ("bigint", ""),  # of a time when something wider referred to these ids
        ("integer", ""),
        ("wide", ""),
        ("smallint", "no value of its column: the id map holds smallint and uuid"),
        ("text", "column old is of type text, and the mapping needs integer"),
    ],
)
def test_a_map_that_was_there_is_used_when_it_can_hold_the_ids(workspace: Workspace, has: str, refusal: str) -> None:
    """Made by hand, or by a workflow whose mapping meant other types."""
    ready = prepared(
        workspace,
        "version: 1\nschemas: {public: public}\nids: {user: {from: public.users.id, to: uuid, strategy: uuid7}}\n",
        source="CREATE TABLE users (id int PRIMARY KEY, name text)",
        target="CREATE TABLE users (id uuid PRIMARY KEY, name text); CREATE DOMAIN wide AS bigint",
    )
    databases = ready.databases
    databases.source.execute("INSERT INTO users SELECT n * 100, 'a' FROM generate_series(1, 500) n")
    databases.target.execute(
        f"CREATE TABLE crossfade.id_user (old {has} PRIMARY KEY, new uuid NOT NULL);"
        f" ALTER TABLE crossfade.id_user OWNER TO {databases.target.role}"
    )
    daemon = ready.daemon()
    if refusal:
        daemon.wait_for_line(refusal)
        assert "crossfade.id_user" in daemon.text()
        assert databases.target.value("SELECT count(*) FROM users") == 0
        slots = databases.source.value("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()")
        assert slots == (0 if "needs" in refusal else 1)
        return
    daemon.wait_until_caught_up()
    databases.source.execute("INSERT INTO users SELECT n * 100, 'b' FROM generate_series(501, 1000) n")
    databases.source.execute("INSERT INTO users VALUES (1, 'few')")
    daemon.wait_until_caught_up()
    assert databases.target.value("SELECT count(*) FROM users JOIN crossfade.id_user ON new = id") == 1001
    assert daemon.terminate() == 0
