"""Ids inside values: arrays, documents, polymorphic pairs; by copy and by stream, in sets and one by one.

The target's ids are taken back through the kept maps by SQL and compared with the source, element by element.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.following import MODE, Followed, FormWay, follow, shared
from tests.servers.clusters import Pairs, Versions
from tests.servers.daemon import Workspace
from tests.servers.databases import make_roles

pytestmark = pytest.mark.one_version  # nothing here differs between versions

MAPPING = """
version: 1
schemas: {public: app}
ids:
  user: {from: public.users.id, to: uuid, strategy: uuid7}
  team: {from: public.teams.id, to: bigint, strategy: offset, by: 1000000}
  word: {from: public.words.word, to: uuid, strategy: uuid4}
tables:
  app.lists:
    columns:
      users: {remap: user}
      teams: {from: team_ids, remap: team}
      words: {remap: word}
  app.documents:
    columns:
      body: {remap: [{ids: user, path: [$.owner, "$.readers[*].id"]}, {ids: team, path: $.team}]}
  app.notes:
    columns:
      owner_id: {remap: {by: owner_type, of: {User: user, Team: team}, otherwise: keep}}
  app.tags:
    columns:
      owner_id: {remap: {by: kind, of: {1: user, 2: user}, otherwise: null}}
    drop: []
  app.likes:
    columns:
      who: {from: who_id, remap: {by: who_kind, of: {person: user}}}
"""
SOURCE = """
CREATE TYPE kind AS ENUM ('person', 'machine');
CREATE TABLE users (id int PRIMARY KEY, name text);
CREATE TABLE teams (id bigint PRIMARY KEY);
CREATE TABLE words (word text PRIMARY KEY);
CREATE TABLE lists (id int PRIMARY KEY, users int[], team_ids bigint[], words text[], n int);
CREATE TABLE documents (id int PRIMARY KEY, body jsonb, n int);
CREATE TABLE notes (owner_type text, owner_id int, no int, note text, PRIMARY KEY (owner_type, owner_id, no));
CREATE TABLE tags (id int PRIMARY KEY, kind smallint, owner_id int, big text);
ALTER TABLE tags ALTER big SET STORAGE EXTERNAL;
{enums}
"""
ENUMS = "CREATE TABLE likes (id int PRIMARY KEY, who_kind kind, who_id int);"
TARGET = """
CREATE SCHEMA app;
CREATE TYPE app.kind AS ENUM ('person');
CREATE TABLE app.users (id uuid PRIMARY KEY, name text);
CREATE TABLE app.teams (id bigint PRIMARY KEY);
CREATE TABLE app.words (word uuid PRIMARY KEY);
CREATE TABLE app.lists (id int PRIMARY KEY, users uuid[], teams bigint[], words uuid[], n int);
CREATE TABLE app.documents (id int PRIMARY KEY, body jsonb, n int);
CREATE TABLE app.notes (owner_type text, owner_id text, no int, note text, PRIMARY KEY (owner_type, owner_id, no));
CREATE TABLE app.tags (id int PRIMARY KEY, kind smallint, owner_id uuid, big text);
{enums}
"""
TARGET_ENUMS = "CREATE TABLE app.likes (id int PRIMARY KEY, who_kind app.kind, who uuid);"
ROWS = """
INSERT INTO users SELECT n, 'u' || n FROM generate_series({first}, {last}) n;
INSERT INTO teams SELECT n FROM generate_series({first}, {last}) n;
INSERT INTO words SELECT 'w "' || n || E'\\\\' FROM generate_series({first}, {last}) n;
INSERT INTO lists SELECT n, CASE n % 5 WHEN 0 THEN NULL WHEN 1 THEN '{{}}' ELSE ARRAY[n, n - 1, NULL, n] END,
    ('[2:3]={{' || n || ',' || n + 1 || '}}')::bigint[],
    ARRAY[['w "' || n || E'\\\\', NULL], [NULL, 'w "' || n - 1 || E'\\\\']], n
    FROM generate_series({first}, {last}) n;
INSERT INTO documents SELECT n, CASE WHEN n % 7 > 0 THEN jsonb_build_object('owner', n, 'team', n, 'n', 1.50,
    'readers', (SELECT jsonb_agg(jsonb_build_object('id', r, 'x', '"\\\\'))
    FROM generate_series(n, n + n % 3) r)) END, n
    FROM generate_series({first}, {last}) n;
INSERT INTO notes SELECT (ARRAY['User', 'Team', 'Other'])[n % 3 + 1], n, 1, 'note'
    FROM generate_series({first}, {last}) n;
INSERT INTO tags SELECT n, NULLIF(n % 4, 0), CASE WHEN n % 9 > 0 THEN n END, repeat(md5(n::text), 200)
    FROM generate_series({first}, {last}) n;
"""
ENUM_ROWS = "INSERT INTO likes SELECT n, 'person', n FROM generate_series({first}, {last}) n;"


WAYS = [
    FormWay("binary", "", in_binary=True),
    FormWay("text", 'wire = "text"', in_binary=False),
    FormWay("exact", 'apply = "exact"', in_binary=True),
]
USER = "(SELECT m.old FROM crossfade.id_user m WHERE m.new::text = {})"
COMPARED = {
    "lists": (
        "SELECT id, users, team_ids, words, n FROM lists",
        ("SELECT id, CASE WHEN users IS NULL OR users = '{}' THEN users::text ELSE (SELECT"
        " array_agg(m.old ORDER BY e.at)"
        " FROM unnest(users) WITH ORDINALITY e (new, at) LEFT JOIN crossfade.id_user m"
        " ON m.new = e.new)::text END::int[],"
        " ('[2:3]=' || (SELECT array_agg(new - 1000000 ORDER BY at) FROM unnest(teams) WITH ORDINALITY e (new, at))"
        "::text)::bigint[],"
        " ARRAY[[(SELECT m.old FROM crossfade.id_word m WHERE m.new = words[1][1]), words[1][2]::text],"
        " [words[2][1]::text, (SELECT m.old FROM crossfade.id_word m WHERE m.new = words[2][2])]], n FROM app.lists"),
    ),
    "documents": (
        ("SELECT id, body - 'readers', (SELECT array_agg(r ->> 'id' ORDER BY at)"
        " FROM jsonb_array_elements(body -> 'readers') WITH ORDINALITY e (r, at)), n FROM documents"),
        "SELECT id, (body - 'readers') || jsonb_build_object('owner', " + USER.format("body ->> 'owner'") + ", 'team',"
        " (body ->> 'team')::bigint - 1000000), (SELECT array_agg(m.old::text ORDER BY at)"
        " FROM jsonb_array_elements(body -> 'readers') WITH ORDINALITY e (r, at)"
        " JOIN crossfade.id_user m ON m.new::text = r ->> 'id'), n FROM app.documents",
    ),
    "notes": (
        "SELECT owner_type, owner_id, no, note FROM notes",
        "SELECT owner_type, CASE owner_type WHEN 'User' THEN " + USER.format("t.owner_id")
        + " WHEN 'Team' THEN t.owner_id::int - 1000000 ELSE t.owner_id::int END, no, note FROM app.notes t",
    ),
    "tags": (
        "SELECT id, kind, CASE WHEN kind < 3 THEN owner_id END, md5(big) FROM tags",
        "SELECT id, kind, " + USER.format("t.owner_id::text") + ", md5(big) FROM app.tags t",
    ),
    "likes": (
        "SELECT id, who_kind, who_id FROM likes",
        "SELECT id, who_kind, " + USER.format("t.who::text") + " FROM app.likes t",
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=WAYS, ids=str)
def way(request: pytest.FixtureRequest) -> FormWay:
    param: FormWay = request.param
    return param


def rows(way: FormWay, first: int, last: int) -> str:
    return (ROWS + ENUM_ROWS * (not way.in_binary)).format(first=first, last=last)


@pytest.fixture(scope="module")
def followed(
    way: FormWay, postgres: Versions, _pairs: Pairs, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Followed]:
    more = not way.in_binary
    with shared(
        _pairs.get(postgres, prepare=make_roles),
        tmp_path_factory.mktemp("inner"),
        MAPPING if more else MAPPING.partition("  app.likes:")[0],
        replica_role=True,
        source=SOURCE.format(enums=ENUMS * more),
        target=TARGET.format(enums=TARGET_ENUMS * more),
        rows=rows(way, 1, 60),
        extra=f"[stream]\n{way.settings}",
        env={"CROSSFADE_FAILPOINTS": "fold_few"},
    ) as followed:
        yield followed


def assert_right(followed: Followed, way: FormWay) -> None:
    for name, (here, there) in COMPARED.items():
        if name == "likes" and way.in_binary:
            continue
        said = followed.source(f"SELECT (t.*)::text FROM ({here}) t ORDER BY 1")
        assert said, name
        assert followed.target(f"SELECT (t.*)::text FROM ({there}) t ORDER BY 1") == said, name


def test_what_was_copied(followed: Followed, way: FormWay) -> None:
    if way.in_binary and MODE != "text" and followed.databases.source.server.binaries.version_major >= 14:
        said = [line for line in followed.daemon.text().splitlines() if "stream_form" in line]
        assert all("in binary form" in line for line in said), said
    assert_right(followed, way)


def test_what_is_streamed(followed: Followed, way: FormWay) -> None:
    followed.at_once(rows(way, 101, 130))
    assert_right(followed, way)
    followed.at_once(rows(way, 1001, 1400))  # enough for COPY
    assert_right(followed, way)
    followed.at_once(
        "UPDATE tags SET owner_id = owner_id + 1 WHERE id % 5 = 0",
        "UPDATE tags SET kind = 2 WHERE id % 5 = 1",
        "UPDATE lists SET users = array_append(users, 7) WHERE users <> '{}' AND id % 2 = 0; UPDATE lists SET n = -n",
        "UPDATE documents SET body = jsonb_set(body, '{owner}', '3') WHERE id % 3 = 0",
        "UPDATE notes SET owner_type = 'Team' WHERE owner_type = 'User' AND owner_id % 2 = 0",
        "UPDATE notes SET owner_id = owner_id + 5000 WHERE owner_type = 'Other'",
        "DELETE FROM notes WHERE owner_id % 10 = 1; DELETE FROM tags WHERE id % 10 = 2",
        "DELETE FROM lists WHERE id > 1300",
    )
    assert_right(followed, way)


def test_I1_an_id_inside_a_value_comes_before_the_row_that_owns_it(followed: Followed, way: FormWay) -> None:
    followed.at_once(
        "INSERT INTO lists VALUES (5000, '{5000,5001}', '[2:3]={1,1}', ARRAY[['w \"1\\', NULL], [NULL, 'w \"2\\']], 1)",
        "INSERT INTO users VALUES (5001, 'later'), (5000, 'later')",
    )
    assert_right(followed, way)
    assert followed.target(
        "SELECT count(*) FROM app.users WHERE id = ANY (SELECT unnest(users) FROM app.lists WHERE id = 5000)"
    ) == [(2,)]


def test_what_is_nobodys_id_stops_and_names_no_value(workspace: Workspace) -> None:
    followed = follow(
        workspace,
        "version: 1\nschemas: {public: app}\nids: {u: {from: public.users.id, strategy: uuid7}}\n"
        "tables: {app.t: {columns: {id: {remap: {by: kind, of: {a: u}}}}}}\n",
        source="CREATE TABLE users (id int PRIMARY KEY); CREATE TABLE t (no int PRIMARY KEY, kind text, id int)",
        target="CREATE SCHEMA app; CREATE TABLE app.users (id uuid PRIMARY KEY);"
        " CREATE TABLE app.t (no int PRIMARY KEY, kind text, id uuid)",
        rows="INSERT INTO users VALUES (1); INSERT INTO t VALUES (1, 'a', 1), (2, 'b', NULL)",
    )
    followed.databases.source.execute("INSERT INTO t VALUES (3, 'secretive', 4711)")
    error = followed.failure()
    assert "A value of kind names no keyspace" in error
    assert "public.t, column id" in error
    assert "secretive" not in error + followed.daemon.text()
    assert followed.target("SELECT count(*), count(id) FROM app.t") == [(2, 1)]
