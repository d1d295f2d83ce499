"""Conditions of the mapping in the publication as well: printed, accepted with and without, refused when they differ.

Rows that the source leaves out by itself, or sends as new because they begin to match, come to the same as when it
sends everything, whatever the publication was at that moment.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.integration.checking import MAPPING, errors, examined, names, obey, one
from tests.integration.following import Followed
from tests.servers.clusters import Pairs, Versions
from tests.servers.daemon import Workspace
from tests.servers.databases import Databases, fresh, make_roles

SCHEMA = """
CREATE TABLE people (id int PRIMARY KEY, name varchar(40), gone_at timestamp, n int, size bigint);
CREATE TABLE parts (tenant int, id int, n int, PRIMARY KEY (tenant, id)) PARTITION BY LIST (tenant);
CREATE TABLE parts1 PARTITION OF parts FOR VALUES IN (1, 2);
CREATE TABLE parts2 PARTITION OF parts FOR VALUES IN (3, 4);
CREATE TABLE letters (id int PRIMARY KEY, body text, is_kept bool);
CREATE TABLE log (line text, level int);
"""
SOURCE = (
    SCHEMA
    + "ALTER TABLE people REPLICA IDENTITY FULL; ALTER TABLE letters REPLICA IDENTITY FULL;"
    + "ALTER TABLE letters ALTER body SET STORAGE EXTERNAL;"
)
FILTERS = {
    "people": "gone_at IS NULL AND n BETWEEN 1 AND 3",
    "parts": "tenant <> 2",
    "letters": "is_kept",
    "log": "level IN (3, 4)",
}
RULES = MAPPING + "tables:\n" + "".join(
    f"  public.{table}: {{where: \"{where}\"{', append_only: true' if table == 'log' else ''}}}\n"
    for table, where in FILTERS.items()
)  # fmt: skip


def prepared(databases: Databases, workspace: Workspace, text: str = RULES) -> None:
    """The publications as `check` prints them."""
    databases.prepare(source=SOURCE, target=SCHEMA)
    obey(databases, examined(workspace, text))


@pytest.fixture
def filtering(databases: Databases) -> Databases:
    if databases.source.server.binaries.version_major < 15:
        pytest.skip("row filters exist since version 15")
    return databases


def test_E11_what_is_printed_is_what_is_accepted(filtering: Databases, workspace: Workspace) -> None:
    filtering.prepare(source=SOURCE, target=SCHEMA)
    found = examined(workspace, RULES)
    assert errors(found) == {"publication_missing"}
    first, second = found.source_sql
    assert '"public"."people" WHERE (gone_at IS NULL AND n BETWEEN 1 AND 3)' in first
    assert '"public"."parts" WHERE (tenant <> 2)' in first
    assert '"public"."log" WHERE (level IN (3, 4))' in second
    obey(filtering, found)
    after = examined(workspace, RULES)
    assert errors(after) == set()
    assert "publication_may_filter" not in names(after)
    # Nothing that the application does has become impossible.
    filtering.source.execute(
        "INSERT INTO people VALUES (1, 'a', NULL, 2, 1); UPDATE people SET n = 9; UPDATE people SET id = 2;"
        "INSERT INTO parts VALUES (1, 1, 1); UPDATE parts SET n = 2; UPDATE parts SET tenant = 3; DELETE FROM parts;"
        "CREATE TABLE parts3 PARTITION OF parts FOR VALUES IN (5); INSERT INTO parts VALUES (5, 1, 1);"
        "UPDATE parts SET n = 2; DELETE FROM parts"
    )


def test_E11_a_publication_of_all_rows_is_as_good(filtering: Databases, workspace: Workspace) -> None:
    filtering.prepare(source=SOURCE, target=SCHEMA)
    filtering.publish("public.people", "public.parts", "public.letters", append=["public.log"])
    found = examined(workspace, RULES)
    assert errors(found) == set()
    assert found.source_sql == ()
    told = [each for each in found.findings if each.name == "publication_may_filter"]
    assert [each.subject for each in told] == ["source publication crossfade", "source publication crossfade_append"]
    for each in told:
        filtering.source.execute(each.remedy.partition("after it: ")[2])
    assert "publication_may_filter" not in names(examined(workspace, RULES))


OTHER = (
    "(n >= 1 AND n <= 3) AND gone_at IS NULL",  # the same to a person; the server prints it in another order
    "gone_at IS NULL",
    "gone_at IS NULL AND n BETWEEN 1 AND 2",
    "gone_at IS NULL AND size BETWEEN 1 AND 3",
    "gone_at IS NULL AND n BETWEEN 1 AND 3 AND id <> 4",
    "gone_at IS NULL AND 1 / n >= 0",
)
SAME = (
    "gone_at IS NULL AND n BETWEEN 1 AND 3",
    "(  (gone_at) is null ) and n between 1 and 3",
    "(gone_at ISNULL) AND (n BETWEEN '1' AND '3')",
)


def test_E11_the_server_compares_what_it_has_parsed(filtering: Databases, workspace: Workspace) -> None:
    prepared(filtering, workspace)
    for written in SAME:
        filtering.source.execute(f"ALTER PUBLICATION crossfade SET TABLE people WHERE ({written}), parts, letters")
        assert errors(examined(workspace, RULES)) == set(), written
    for written in OTHER:
        filtering.source.execute(
            f"ALTER PUBLICATION crossfade SET TABLE people WHERE ({written}), parts, letters WHERE (is_kept)"
        )
        found = examined(workspace, RULES)
        assert errors(found) == {"publication_differs"}, written
        sentence = one(found, "publication_differs").sentence
        assert "another row filter than the mapping's `where` on public.people" in sentence
    obey(filtering, found)
    assert errors(examined(workspace, RULES)) == set()


def test_E11_a_filter_that_the_mapping_does_not_have(filtering: Databases, workspace: Workspace) -> None:
    """Also where its condition says the same, but may not be left to the source."""
    filtering.prepare(source=SOURCE, target=SCHEMA)
    text = f"{MAPPING}exclude: [public.letters, public.log]\ntables: {{public.people: {{where: \"name <> 'x'\"}}}}\n"
    filtering.source.execute(
        "CREATE PUBLICATION crossfade FOR TABLE people WHERE (name <> 'x'), parts WHERE (tenant = 1)"
        " WITH (publish_via_partition_root = true)"
    )
    found = examined(workspace, text)
    assert errors(found) == {"publication_differs"}
    assert "has a row filter on public.parts, public.people" in one(found, "publication_differs").sentence


def test_E11_what_may_not_be_left_to_the_source(filtering: Databases, workspace: Workspace) -> None:
    """Division, a collation, overflow, an inexact comparison, a conversion."""
    filtering.prepare(source=SOURCE, target=SCHEMA)
    for where in ("1 / n > 0", "name = 'x'", "n + 1 > 2", "size > n::numeric", "id::text = '1'"):
        found = examined(
            workspace, f'{MAPPING}exclude: [public.log]\ntables: {{public.people: {{where: "{where}"}}}}\n'
        )
        assert "WHERE" not in found.source_sql[0], where


# following -----------------------------------------------------------------------------------------------------------


def statement(way: random.Random) -> str:
    """A change of a few rows, so that every kind of beginning and ceasing to match comes up."""
    one, other = way.randrange(1, 40), way.randrange(1, 40)
    n, tenant = way.randrange(0, 6), way.randrange(1, 5)
    return way.choice(
        [
            f"INSERT INTO people VALUES ({one}, 'p', NULL, {n}, {other}) ON CONFLICT DO NOTHING",
            f"UPDATE people SET n = {n}, name = 'n{other}' WHERE id % 7 = {one % 7}",
            f"UPDATE people SET gone_at = CASE WHEN gone_at IS NULL THEN now() END WHERE id % 5 = {one % 5}",
            (
                f"UPDATE people SET id = id + 100, n = {n} WHERE id = {one} AND NOT EXISTS"
                f" (SELECT FROM people WHERE id = {one} + 100)"
            ),
            f"DELETE FROM people WHERE id IN ({one}, {other})",
            f"INSERT INTO parts VALUES ({tenant}, {one}, {n}) ON CONFLICT DO NOTHING",
            f"UPDATE parts SET n = {n} WHERE id % 3 = {one % 3}",
            (
                f"UPDATE parts p SET tenant = {tenant} WHERE id = {one} AND NOT EXISTS"
                f" (SELECT FROM parts o WHERE o.id = p.id AND o.tenant = {tenant})"
                f" AND (SELECT count(*) FROM parts o WHERE o.id = p.id) = 1"
            ),
            f"DELETE FROM parts WHERE id = {other}",
            f"INSERT INTO letters VALUES ({one}, repeat('x', {other} * 500), {one} % 2 = 0) ON CONFLICT DO NOTHING",
            f"UPDATE letters SET is_kept = NOT is_kept WHERE id % 4 = {one % 4}",
            f"UPDATE letters SET body = repeat('y', {other} * 500) WHERE id = {one}",
            f"DELETE FROM letters WHERE id = {other}",
            f"INSERT INTO log VALUES ('line {other}', {n})",
        ]
    )


def transactions(way: random.Random, count: int) -> list[str]:
    return [";".join(["BEGIN", *(statement(way) for _ in range(way.randrange(1, 6))), "COMMIT"]) for _ in range(count)]


def assert_alike(followed: Followed) -> None:
    for table, where in FILTERS.items():
        wanted = followed.source(f"SELECT (t.*)::text FROM {table} t WHERE {where} ORDER BY 1")
        assert followed.target(f"SELECT (t.*)::text FROM {table} t ORDER BY 1") == wanted, table


@pytest.fixture(scope="module", params=[True, False], ids=["replica", "origin-exact"])
def followed(
    request: pytest.FixtureRequest, postgres: Versions, _pairs: Pairs, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Followed]:
    """A daemon whose publications nobody watches, so that they may change under it."""
    servers = _pairs.get(postgres, prepare=make_roles)
    with fresh(servers, replica_role=request.param) as databases:
        if databases.source.server.binaries.version_major < 15:
            pytest.skip("row filters exist since version 15")
        workspace = Workspace(tmp_path_factory.mktemp("row-filters"), databases)
        try:
            prepared(databases, workspace)
            for script in transactions(random.Random(1), 30):
                databases.source.execute(script)
            workspace.write(RULES, extra="" if request.param else '[stream]\napply = "exact"\n')
            daemon = workspace.daemon(env={"CROSSFADE_FAILPOINTS": "fold_few,no_publication_guard"})
            daemon.wait_for_phase("streaming")
            found = Followed(databases, workspace, daemon)
            assert_alike(found)
            yield found
            found.stop()
        finally:
            workspace.close()


FORMS = [
    "people WHERE (gone_at IS NULL AND n BETWEEN 1 AND 3), parts WHERE (tenant <> 2), letters WHERE (is_kept)",
    "people, parts, letters",
    "people WHERE (gone_at IS NULL AND n BETWEEN 1 AND 3), parts, letters WHERE (is_kept)",
    "people, parts WHERE (tenant <> 2), letters",
]


@pytest.mark.parametrize("seed", range(4))
def test_E11_whatever_the_publication_is_at_that_moment(followed: Followed, seed: int) -> None:
    """Changed between transactions that are then met together, and while the daemon reads."""
    way = random.Random(seed)
    scripts: list[str] = []
    for _ in range(12):
        scripts += transactions(way, way.randrange(1, 8))
        scripts.append(f"ALTER PUBLICATION crossfade SET TABLE {way.choice(FORMS)}")
    before = sum(followed.levels().values())
    if seed % 2:
        followed.at_once(*scripts)
    else:
        followed.write(*scripts)
    assert_alike(followed)
    assert sum(followed.levels().values()) > before
    assert followed.metric("crossfade_conflicts_total", kind="missing_row") == 0


def test_E11_rows_that_are_left_out_do_not_travel(followed: Followed) -> None:
    followed.write(f"ALTER PUBLICATION crossfade SET TABLE {FORMS[0]}")
    before = followed.metric("crossfade_changes_received_total", table="public.people")
    followed.write(
        "INSERT INTO people SELECT n, 'out', NULL, 9, 1 FROM generate_series(10001, 10200) n",
        "INSERT INTO people SELECT n, 'in', NULL, 1, 1 FROM generate_series(10201, 10210) n",
    )
    assert followed.metric("crossfade_changes_received_total", table="public.people") - before == 10
    assert_alike(followed)


@pytest.mark.one_version
def test_E11_a_filter_that_changes_while_it_runs_stops_the_stream(filtering: Databases, workspace: Workspace) -> None:
    prepared(filtering, workspace)
    workspace.write(RULES)
    daemon = workspace.daemon()
    daemon.wait_for_phase("streaming")
    assert daemon.terminate() == 0
    daemon = workspace.daemon()  # the filter it began with is as it was
    daemon.wait_for_phase("streaming")
    filtering.source.execute(
        "ALTER PUBLICATION crossfade SET TABLE people WHERE (n = 1), parts WHERE (tenant <> 2), letters WHERE (is_kept)"
    )
    assert daemon.wait(30) == 3
    error = daemon.text()
    assert "row filter on public.people that is not the mapping's condition" in error
    assert "public.parts" not in error.partition("row filter on")[2]
    # Putting it back does not bring the rows that were left out.
    filtering.source.execute(f"ALTER PUBLICATION crossfade SET TABLE {FORMS[0]}")
    again = workspace.run("run")
    assert again.returncode == 3
    assert "rows may be missing" in again.stderr
