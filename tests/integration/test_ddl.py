"""DDL and publications under a running stream: edge-cases.md, section E, with C17 and D16.

Where a case says "copy again", crossfade stops with exit code 3 and names the remedy; where the mapping must be
changed, with 78; where a person can mend the cause, it goes on afterwards. In no case is a row guessed or left out.
"""

from __future__ import annotations

import json

import pytest

from tests.integration.sides import ITEMS, assert_equal, both, owned, rows, streaming, synced
from tests.servers.daemon import Workspace
from tests.servers.databases import Databases

MAPPING = "version: 1\nschemas: {public: public}\n"
AGAIN = "crossfade teardown"


@pytest.fixture
def begun(databases: Databases, workspace: Workspace) -> Workspace:
    """A table that was copied and is followed; no daemon runs."""
    both(databases, ITEMS, rows="INSERT INTO items VALUES (1, 'one'), (2, 'two')")
    databases.publish("items")
    workspace.write()
    synced(workspace)
    return workspace


@pytest.mark.one_version
def test_E1_an_added_column_stops_before_its_first_row(begun: Workspace, databases: Databases) -> None:
    """ADD COLUMN and rows, in one transaction: stop with the column's name; `drop` it, and the stream goes on."""
    databases.source.execute(
        "BEGIN; ALTER TABLE items ADD colour text DEFAULT 'red'; INSERT INTO items VALUES (3, 'three', 'blue'); COMMIT"
    )
    daemon = synced(begun, code=78)
    assert "colour" in daemon.text()
    assert "drop: [colour]" in daemon.text()
    assert len(rows(databases.target, "items")) == 2
    begun.write(MAPPING + "tables:\n  public.items: {drop: [colour]}\n")
    synced(begun)
    assert rows(databases.target, "items") == ["(1,one)", "(2,two)", "(3,three)"]


@pytest.mark.one_version
def test_E1_an_added_column_stops_a_running_stream(begun: Workspace, databases: Databases) -> None:
    """The same while streaming: what was committed before is durable, nothing after it, and `status` tells why."""
    daemon = streaming(begun)
    databases.source.execute("INSERT INTO items VALUES (3, 'before')")
    databases.source.execute("ALTER TABLE items ADD colour text")
    databases.source.execute("INSERT INTO items VALUES (4, 'after', 'blue')")
    assert daemon.wait() == 78
    assert rows(databases.target, "items")[2:] == ["(3,before)"]
    document = json.loads(begun.run("status", "--json").stdout)
    assert document["phase"] == "failed"
    assert "colour" in str(document["error"])


@pytest.mark.one_version
def test_E1_ignored_columns_never_shift_the_others(databases: Databases, workspace: Workspace) -> None:
    """With `source_column_added: ignore`, columns come and go between the mapped ones; values stay in their places."""
    both(
        databases,
        "CREATE TABLE items (id int PRIMARY KEY, a text, b text);",
        rows="INSERT INTO items VALUES (1, 'a', 'b')",
    )
    databases.publish("items")
    workspace.write(MAPPING + "policies: {source_column_added: ignore}\n")
    daemon = streaming(workspace)
    databases.source.execute("ALTER TABLE items ADD c text")
    databases.source.execute("INSERT INTO items (id, a, b, c) VALUES (2, 'a2', 'b2', 'c2')")
    databases.source.execute(
        "BEGIN; ALTER TABLE items DROP c; ALTER TABLE items ADD d int DEFAULT 7; UPDATE items SET b = 'x'; COMMIT"
    )
    daemon.wait_until_caught_up()
    assert daemon.terminate() == 0
    databases.source.execute("INSERT INTO items (id, a, b) VALUES (3, 'a3', 'b3')")
    synced(workspace)
    assert rows(databases.target, "items") == ["(1,a,x)", "(2,a2,x)", "(3,a3,b3)"]


def test_E3_a_rewritten_column_must_be_copied_again(begun: Workspace, databases: Databases) -> None:
    """ALTER TYPE ... USING changes values without any event: exit 3 names table, column and the way out."""
    databases.source.execute("ALTER TABLE items ALTER note TYPE varchar(10) USING 'x' || note")
    daemon = synced(begun, code=3)
    for part in ("public.items", "note", AGAIN):
        assert part in daemon.text()
    assert rows(databases.target, "items") == ["(1,one)", "(2,two)"]


def test_E3_a_rewrite_is_noticed_in_the_stream(begun: Workspace, databases: Databases) -> None:
    """While streaming: the next change of the table brings the new type, and the daemon ends with exit 3 before it."""
    daemon = streaming(begun)
    databases.source.execute("ALTER TABLE items ALTER note TYPE varchar(10) USING 'x' || note")
    databases.source.execute("UPDATE items SET note = 'after' WHERE id = 1")
    assert daemon.wait() == 3
    assert "note" in daemon.text()
    assert AGAIN in daemon.text()
    assert rows(databases.target, "items") == ["(1,one)", "(2,two)"]


@pytest.mark.one_version
def test_E3_the_way_out_that_is_named_works(begun: Workspace, databases: Databases) -> None:
    """Teardown, empty the target tables, run: everything is copied again with its new values."""
    databases.source.execute(
        "ALTER TABLE items ALTER note TYPE text USING 'x' || note; ALTER TABLE items ALTER id TYPE bigint"
    )
    synced(begun, code=3)
    assert begun.run("teardown", "--yes").returncode == 0
    databases.target.execute("TRUNCATE items; ALTER TABLE items ALTER id TYPE bigint")
    databases.publish("items") if not _published(databases) else None
    synced(begun)
    assert_equal(databases, "items")


def _published(databases: Databases) -> bool:
    return bool(databases.source.value("SELECT count(*) FROM pg_publication"))


@pytest.mark.one_version
@pytest.mark.parametrize("change", ["RENAME note TO remark", "DROP note"], ids=["rename", "drop"])
def test_E4_a_mapped_column_that_is_gone_stops_the_stream(begun: Workspace, databases: Databases, change: str) -> None:
    """RENAME or DROP of a column the mapping uses, then an UPDATE: stopped before it, naming column and table."""
    daemon = streaming(begun)
    databases.source.execute(f"ALTER TABLE items {change}")
    databases.source.execute("DELETE FROM items WHERE id = 1")
    assert daemon.wait() == 3
    for part in ("public.items", "note", AGAIN):
        assert part in daemon.text()
    assert len(rows(databases.target, "items")) == 2


@pytest.mark.one_version
def test_E4_a_column_that_has_its_name_again_goes_on(begun: Workspace, databases: Databases) -> None:
    """Renamed with nothing written meanwhile: refused while the name is another, streamed on when it is back."""
    databases.source.execute("ALTER TABLE items RENAME note TO remark")
    assert "note" in synced(begun, code=3).text()
    databases.source.execute("ALTER TABLE items RENAME remark TO note; UPDATE items SET note = 'back'")
    synced(begun)
    assert_equal(databases, "items")


def test_E6_relations_are_learnt_anew_on_every_connection(databases: Databases, workspace: Workspace) -> None:
    """The walsender is ended between DDL and rows, again and again: each connection describes the table as it was."""
    both(databases, "CREATE TABLE items (id int PRIMARY KEY, a text, b text);")
    databases.publish("items")
    workspace.write(MAPPING + "policies: {source_column_added: ignore}\n")
    daemon = streaming(workspace)
    for n in range(3):
        databases.source.execute(f"INSERT INTO items (id, a, b) VALUES ({n}, 'a', 'b')")
        databases.source.execute(f"ALTER TABLE items ADD extra_{n} text DEFAULT 'e'")
        databases.source.execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s", [workspace.slot]
        )
        databases.source.execute(f"ALTER TABLE items DROP extra_{n}")
        databases.source.execute(f"UPDATE items SET b = 'changed' WHERE id = {n}")
    daemon.wait_until_caught_up()
    assert rows(databases.target, "items") == ["(0,a,changed)", "(1,a,changed)", "(2,a,changed)"]
    assert daemon.terminate() == 0


def test_E7_a_table_taken_out_of_the_publication_must_be_copied_again(begun: Workspace, databases: Databases) -> None:
    """Out for a while, a row written, put back before we look again: its change is lost to us, and that is noticed."""
    databases.source.execute("ALTER PUBLICATION crossfade DROP TABLE items; UPDATE items SET note = 'unseen'")
    daemon = synced(begun, code=3)
    for part in ("no longer holds public.items", AGAIN):
        assert part in daemon.text()
    databases.source.execute("ALTER PUBLICATION crossfade ADD TABLE items")
    daemon = synced(begun, code=3)
    for part in ("was without public.items for a while", AGAIN):
        assert part in daemon.text()
    assert rows(databases.target, "items") == ["(1,one)", "(2,two)"]


@pytest.mark.one_version  # waits for the guard's next look
def test_E7_a_running_stream_notices_within_seconds(begun: Workspace, databases: Databases) -> None:
    """The same under a running daemon, with no change of any table to betray it: exit 3 at the guard's next look."""
    daemon = streaming(begun)
    databases.source.execute("ALTER PUBLICATION crossfade DROP TABLE items")
    assert daemon.wait(30) == 3
    assert "public.items" in daemon.text()
    assert AGAIN in daemon.text()


def test_E7_an_added_table_stops_the_stream_at_its_first_row(begun: Workspace, databases: Databases) -> None:
    """A table the mapping does not know comes through our publication: nothing is guessed, it is named."""
    databases.source.execute("CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.new (id int PRIMARY KEY)")
    daemon = streaming(begun)
    databases.source.execute("ALTER PUBLICATION crossfade ADD TABLE elsewhere.new")
    databases.source.execute("INSERT INTO elsewhere.new VALUES (1)")
    assert daemon.wait() == 3
    assert "elsewhere.new" in daemon.text()


def test_E8_a_publication_dropped_and_made_again_is_not_trusted(begun: Workspace, databases: Databases) -> None:
    """Dropped, a row written, made again the same: what was written between cannot be decoded, and is not skipped."""
    databases.source.execute("DROP PUBLICATION crossfade")
    databases.source.execute("INSERT INTO items VALUES (3, 'unseen')")
    databases.publish("items")
    databases.source.execute("INSERT INTO items VALUES (4, 'seen')")
    daemon = synced(begun, code=3)
    assert "crossfade" in daemon.text()
    assert AGAIN in daemon.text()
    assert len(rows(databases.target, "items")) == 2


def test_E8_a_publication_that_is_gone_stops_a_running_stream(begun: Workspace, databases: Databases) -> None:
    """Renamed under a running daemon: version 18 only warns and sends nothing, older servers fail; both end with 3."""
    daemon = streaming(begun)
    databases.source.execute("ALTER PUBLICATION crossfade RENAME TO another")
    databases.source.execute("INSERT INTO items VALUES (3, 'unseen')")
    assert daemon.wait() == 3
    assert "publication" in daemon.text()
    assert AGAIN in daemon.text()
    assert len(rows(databases.target, "items")) == 2


def test_E8_a_publication_that_is_gone_is_said_at_the_start(begun: Workspace, databases: Databases) -> None:
    """Dropped while no daemon ran: exit 3 with the remedy, whether or not anything was written."""
    databases.source.execute("DROP PUBLICATION crossfade")
    daemon = synced(begun, code=3)
    assert "crossfade" in daemon.text()
    assert AGAIN in daemon.text()


@pytest.mark.one_version
@pytest.mark.parametrize("made_ready", ["nothing", "its target", "its target and its publication"])
def test_E9_a_new_table_of_a_mapped_schema_is_named_at_the_next_start(
    begun: Workspace, databases: Databases, made_ready: str
) -> None:
    """It was created while we followed: the next start says that it is not in the copy, whoever has prepared what for
    it; excluded, everything goes on."""
    databases.source.execute("CREATE TABLE fresh (id int PRIMARY KEY)")
    if made_ready != "nothing":
        databases.target.execute("CREATE TABLE fresh (id int PRIMARY KEY)")
    databases.grant()
    if made_ready.endswith("publication"):
        databases.source.execute("ALTER PUBLICATION crossfade ADD TABLE fresh")
    for told in (synced(begun, code=78).text(), begun.run("check").stdout):
        for part in ("mapping.yaml:2:11", "public.fresh is not in the running copy", "exclude: [public.fresh]", AGAIN):
            assert part in " ".join(told.split()), told
        assert "The target has no table" not in told
        assert "The mapping is not the one" not in told
    if made_ready.endswith("publication"):
        databases.source.execute("ALTER PUBLICATION crossfade DROP TABLE fresh")
    databases.source.execute("INSERT INTO items VALUES (3, 'three')")
    begun.write(MAPPING + "exclude: [public.fresh]\n")
    synced(begun)
    assert_equal(databases, "items")


@pytest.mark.one_version
def test_a_table_of_the_copy_that_is_excluded_is_named(begun: Workspace) -> None:
    begun.write(MAPPING + "exclude: [public.items]\n")
    text = synced(begun, code=78).text()
    assert "mapping.yaml:3:11: public.items is in the running copy, and the mapping takes it no more" in text


PARTITIONED = """
    CREATE TABLE events (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
    CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
    CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
    INSERT INTO events VALUES (1, '2024-01-05'), (2, '2024-02-05');
"""


def test_E12_a_publication_by_leaf_is_refused(databases: Databases, workspace: Workspace) -> None:
    """publish_via_partition_root off would name leaves the mapping does not know: refused, until it is on."""
    databases.prepare(PARTITIONED, "CREATE TABLE events (id int, day date, PRIMARY KEY (id, day))")
    databases.source.execute("CREATE PUBLICATION crossfade FOR TABLE events WITH (publish_via_partition_root = false)")
    workspace.write()
    daemon = synced(workspace, code=3)
    assert "publish_via_partition_root" in daemon.text()
    assert (
        databases.source.value("SELECT count(*) FROM pg_replication_slots WHERE slot_name = %s", [workspace.slot]) == 0
    )
    databases.source.execute("ALTER PUBLICATION crossfade SET (publish_via_partition_root = true)")
    synced(workspace)
    databases.source.execute("UPDATE events SET day = '2024-02-20' WHERE id = 1; DELETE FROM events WHERE id = 2")
    synced(workspace)
    assert_equal(databases, "events")
    databases.source.execute("ALTER PUBLICATION crossfade SET (publish_via_partition_root = false)")
    databases.source.execute("INSERT INTO events VALUES (3, '2024-01-09')")
    daemon = synced(workspace, code=3)
    assert "publish_via_partition_root" in daemon.text()
    assert AGAIN in daemon.text()


@pytest.mark.one_version
def test_C17_a_publication_of_fewer_operations_is_refused(databases: Databases, workspace: Workspace) -> None:
    """publish = 'insert' would lose updates without a word: refused before, and noticed when it happens later."""
    both(databases, ITEMS, rows="INSERT INTO items VALUES (1, 'one')")
    databases.source.execute(
        "CREATE PUBLICATION crossfade FOR TABLE items WITH (publish = 'insert', publish_via_partition_root = true)"
    )
    workspace.write()
    daemon = synced(workspace, code=3)
    assert "publishes insert instead of insert, update, delete, truncate" in daemon.text()
    assert "ALTER PUBLICATION" in begun_sql(workspace)
    databases.source.execute("ALTER PUBLICATION crossfade SET (publish = 'insert, update, delete, truncate')")
    synced(workspace)
    databases.source.execute("ALTER PUBLICATION crossfade SET (publish = 'insert, update, delete')")
    databases.source.execute("TRUNCATE items")
    assert AGAIN in synced(workspace, code=3).text()
    # Put back without copying again: the TRUNCATE would be missing for ever, so this is not forgotten.
    databases.source.execute("ALTER PUBLICATION crossfade SET (publish = 'insert, update, delete, truncate')")
    assert AGAIN in synced(workspace, code=3).text()
    assert len(rows(databases.target, "items")) == 1


def begun_sql(workspace: Workspace) -> str:
    """What `check` prints."""
    return workspace.run("check").stdout


def test_D16_an_unlogged_table_is_refused(databases: Databases, workspace: Workspace) -> None:
    """An unlogged table writes no WAL, so that none of its changes would come: refused by name."""
    databases.prepare("CREATE UNLOGGED TABLE items (id int PRIMARY KEY, note text)", ITEMS)
    owned(databases, "items")
    workspace.write()
    daemon = workspace.daemon("--until", "caught-up")
    assert daemon.wait() in {3, 78}
    assert "public.items" in daemon.text()
    assert "unlogged" in daemon.text().lower()
    databases.source.execute("ALTER TABLE items SET LOGGED; INSERT INTO items VALUES (1, 'one')")
    synced(workspace)
    assert_equal(databases, "items")


@pytest.mark.one_version
def test_D16_a_table_made_unlogged_meanwhile_must_be_copied_again(begun: Workspace, databases: Databases) -> None:
    """Out of the publication, unlogged, changed: its changes were never logged, and that is said by name."""
    databases.source.execute("ALTER PUBLICATION crossfade DROP TABLE items")
    databases.source.execute("ALTER TABLE items SET UNLOGGED")
    databases.source.execute("UPDATE items SET note = 'unlogged'")
    daemon = synced(begun, code=3)
    assert "public.items is unlogged" in daemon.text()


@pytest.mark.one_version
def test_E5_another_table_under_the_same_name_is_not_taken_for_it(begun: Workspace, databases: Databases) -> None:
    """Renamed away and made anew under the old name, published as before: a new oid is a new table."""
    daemon = streaming(begun)
    databases.source.execute(
        "BEGIN; ALTER TABLE items RENAME TO items_old; CREATE TABLE items (id int PRIMARY KEY, note text);"
        " ALTER PUBLICATION crossfade ADD TABLE items; INSERT INTO items VALUES (9, 'of another table'); COMMIT"
    )
    assert daemon.wait() == 3
    assert "public.items" in daemon.text()
    assert AGAIN in daemon.text()
    assert rows(databases.target, "items") == ["(1,one)", "(2,two)"]
