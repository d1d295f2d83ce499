"""New ids that are made on the target: numbers of its sequence, entries of a map somebody has filled.

With keys of every type, and references that no foreign key declares. By copy and by stream, in sets and one by one.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.following import Followed, follow, shared
from tests.servers.clusters import Pairs, Versions
from tests.servers.daemon import Workspace
from tests.servers.databases import make_roles

pytestmark = pytest.mark.one_version  # nothing here differs between versions

MAPPING = """
version: 1
schemas: {public: app}
ids:
  user: {from: public.users.id, strategy: sequence, sequence: app.users_id_seq}
  small: {from: public.small.id, to: integer, strategy: sequence, sequence: app.small_seq}
  product: {from: public.products.code, to: uuid, strategy: table, table: legacy.products}
  team: {from: public.teams.id, strategy: table, table: legacy.teams}
  word: {from: public.words.id, to: text, strategy: table, table: legacy.words}
tables:
  app.uses:
    columns:
      user_id: {remap: user}
      small_id: {remap: small}
      product_code: {remap: product}
      team_id: {remap: team}
      word_id: {remap: word}
"""
SOURCE = """
CREATE TABLE users (id bigint PRIMARY KEY, boss bigint REFERENCES users);
CREATE TABLE small (id smallint PRIMARY KEY);
CREATE TABLE products (code varchar(40) PRIMARY KEY);
CREATE TABLE teams (id uuid PRIMARY KEY);
CREATE TABLE words (id int PRIMARY KEY);
CREATE TABLE uses (id int PRIMARY KEY, user_id bigint, small_id int, product_code text, team_id uuid, word_id bigint);
"""
TARGET = """
CREATE SCHEMA app; CREATE SCHEMA legacy;
CREATE SEQUENCE app.small_seq AS int START 1000 INCREMENT 10;
CREATE TABLE app.users (id bigserial PRIMARY KEY, boss bigint REFERENCES app.users DEFERRABLE);
SELECT setval('app.users_id_seq', 5000);
CREATE TABLE app.small (id int PRIMARY KEY);
CREATE TABLE app.products (code uuid PRIMARY KEY);
CREATE TABLE app.teams (id bigint PRIMARY KEY);
CREATE TABLE app.words (id varchar(20) PRIMARY KEY);
CREATE TABLE app.uses (id int PRIMARY KEY, user_id bigint, small_id int, product_code uuid, team_id bigint,
    word_id varchar(20));
CREATE TABLE legacy.products (old text PRIMARY KEY, new uuid, note text);
INSERT INTO legacy.products SELECT 'p ' || n, md5(n::text)::uuid FROM generate_series(1, 3000) n;
CREATE TABLE legacy.mine (id uuid, number int);
INSERT INTO legacy.mine SELECT md5(n::text)::uuid, n FROM generate_series(1, 3000) n;
CREATE VIEW legacy.teams AS SELECT id AS old, number AS new FROM legacy.mine;
CREATE TABLE legacy.words (old smallint UNIQUE, new text);
INSERT INTO legacy.words SELECT n, 'w "' || n || '"' FROM generate_series(1, 3000) n;
"""
ROWS = """
INSERT INTO users SELECT n, CASE WHEN n > {first} THEN n - 1 END FROM generate_series({first}, {last}) n;
INSERT INTO small SELECT n FROM generate_series({first}, {last}) n;
INSERT INTO products SELECT 'p ' || n FROM generate_series({first}, {last}) n;
INSERT INTO teams SELECT md5(n::text)::uuid FROM generate_series({first}, {last}) n;
INSERT INTO words SELECT n FROM generate_series({first}, {last}) n;
INSERT INTO uses SELECT n, n + 5, n + 5, 'p ' || n + 5, md5((n + 5)::text)::uuid, CASE WHEN n % 3 > 0 THEN n END
    FROM generate_series({first}, {last}) n;
"""


@pytest.fixture(scope="module", params=["sets", "text", "exact"])
def followed(
    request: pytest.FixtureRequest, postgres: Versions, _pairs: Pairs, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Followed]:
    settings = {"sets": "", "text": 'wire = "text"', "exact": 'apply = "exact"'}
    with shared(
        _pairs.get(postgres, prepare=make_roles),
        tmp_path_factory.mktemp("taken"),
        MAPPING,
        replica_role=True,
        source=SOURCE,
        target=TARGET,
        rows=ROWS.format(first=1, last=300),
        extra=f"[stream]\n{settings[request.param]}",
        env={"CROSSFADE_FAILPOINTS": "fold_few"},
    ) as followed:
        yield followed


def _assert_right(followed: Followed) -> None:
    """Every new id is that of the map, once; those of a sequence are its numbers."""
    source, target = followed.source, followed.target
    for query, there in (
        ("SELECT code FROM products", "SELECT m.old FROM app.products t JOIN legacy.products m ON m.new = t.code"),
        ("SELECT id::text FROM teams", "SELECT m.old::text FROM app.teams t JOIN legacy.teams m ON m.new = t.id"),
        ("SELECT id FROM words", "SELECT m.old FROM app.words t JOIN legacy.words m ON m.new = t.id"),
        (
            "SELECT id, boss FROM users",
            (
                "SELECT m.old, b.old FROM app.users t JOIN crossfade.id_user m ON m.new = t.id"
                " LEFT JOIN crossfade.id_user b ON b.new = t.boss"
            ),
        ),
        ("SELECT id FROM small", "SELECT m.old FROM app.small t JOIN crossfade.id_small m ON m.new = t.id"),
        (
            "SELECT id, user_id, small_id, product_code, team_id::text, word_id FROM uses",
            (
                "SELECT t.id, u.old, s.old, p.old, l.old::text, w.old FROM app.uses t"
                " LEFT JOIN crossfade.id_user u ON u.new = t.user_id"
                " LEFT JOIN crossfade.id_small s ON s.new = t.small_id"
                " LEFT JOIN crossfade.id_product p ON p.new = t.product_code"
                " LEFT JOIN crossfade.id_team l ON l.new = t.team_id LEFT JOIN crossfade.id_word w ON w.new = t.word_id"
            ),
        ),
    ):
        assert target(f"{there} ORDER BY 1") == source(f"{query} ORDER BY 1"), query
    ((users, lowest, highest),) = target("SELECT count(DISTINCT new), min(new), max(new) FROM crossfade.id_user")
    assert target("SELECT count(*) FROM crossfade.id_user") == [(users,)]
    assert lowest > 5000
    assert highest <= target("SELECT last_value FROM app.users_id_seq")[0][0] < 5000 + users + 200
    assert target("SELECT count(*) FROM crossfade.id_small WHERE new < 1000 OR new % 10 > 0") == [(0,)]


def test_what_was_copied(followed: Followed) -> None:
    _assert_right(followed)


def test_what_is_streamed(followed: Followed) -> None:
    followed.at_once(ROWS.format(first=401, last=430), "UPDATE uses SET user_id = 7, team_id = NULL WHERE id % 7 = 0")
    _assert_right(followed)
    followed.at_once(
        ROWS.format(first=1001, last=1400), "DELETE FROM uses WHERE id % 5 = 0; DELETE FROM small WHERE id < 5"
    )
    _assert_right(followed)
    followed.write("INSERT INTO users VALUES (99999, 1)")
    _assert_right(followed)


def test_an_id_without_an_entry_stops_until_there_is_one(workspace: Workspace) -> None:
    followed = follow(
        workspace,
        "version: 1\nschemas: {public: app}\n"
        "ids: {k: {from: public.t.id, to: uuid, strategy: table, table: app.ids}}\n",
        source="CREATE TABLE t (id int PRIMARY KEY, n int)",
        target="CREATE SCHEMA app; CREATE TABLE app.t (id uuid PRIMARY KEY, n int);"
        "CREATE TABLE app.ids (old int, new uuid); INSERT INTO app.ids VALUES (1, md5('1')::uuid)",
        rows="INSERT INTO t VALUES (1, 1)",
    )
    followed.databases.source.execute("INSERT INTO t VALUES (4711, 2), (1234, 2)")
    error = followed.failure()
    assert "An id of public.t has no entry in app.ids." in error
    assert "4711" not in error + followed.daemon.text()
    followed.target("INSERT INTO app.ids SELECT n, md5(n::text)::uuid FROM (VALUES (4711), (1234)) v (n)")
    followed.target("INSERT INTO app.ids VALUES (1234, md5('other')::uuid)")
    followed.databases.target.execute(
        "INSERT INTO crossfade.control (workflow, command, requested_by) VALUES ('shop', 'resume', 'a')"
    )
    followed.daemon.wait_for(lambda: "no usable entry" in str(followed._error()), "two entries", timeout=30)
    followed.target("DELETE FROM app.ids WHERE new = md5('other')::uuid")
    followed.resume()
    assert followed.target("SELECT n FROM app.t t JOIN app.ids i ON i.new = t.id ORDER BY i.old") == [(1,), (2,), (2,)]


@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize("rows", [50, 400])
def test_numbers_that_went_past_their_type_stop_until_there_is_room(
    workspace: Workspace, rows: int, pieces: bool
) -> None:
    """However many there are, and in whichever way they would be written."""
    followed = follow(
        workspace,
        "version: 1\nschemas: {public: app}\n"
        "ids: {k: {from: public.t.id, to: smallint, strategy: sequence, sequence: app.numbers}}\n",
        source="CREATE TABLE t (id int PRIMARY KEY, n int)",
        target="CREATE SCHEMA app; CREATE TABLE app.t (id bigint PRIMARY KEY, n int);"
        "CREATE SEQUENCE app.numbers START 32760",
        rows="INSERT INTO t VALUES (1, 1)",
        extra='[stream]\nbatch_bytes = "4KiB"\n' if pieces else "",
    )
    followed.databases.source.execute(f"INSERT INTO t SELECT n, n FROM generate_series(2, {rows}) n")
    error = followed.failure()
    assert "crossfade.id_k" in error or "writing the id maps" in error, error
    assert followed.target("SELECT count(*) FROM app.t") == [(1,)]
    followed.target("ALTER TABLE crossfade.id_k ALTER new TYPE bigint; ALTER SEQUENCE app.numbers RESTART 20000")
    followed.resume()
    assert followed.target("SELECT count(*) FROM app.t JOIN crossfade.id_k ON new = id") == [(rows,)]
    followed.stop()
