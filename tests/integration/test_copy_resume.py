"""A table goes on where its copy was interrupted: what is there stays, and shows the next snapshot (G4, G5, G6).

Whatever happened meanwhile, both sides end alike, and no finished part was read again; where that cannot be promised,
the table begins again and says why.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import threading

import pytest

from crossfade.faults import Fenced
from crossfade.lsn import Lsn
from crossfade.session.connect import TARGET, connect
from crossfade.state import copies, schema
from tests.integration.sides import assert_equal, both, synced
from tests.servers.daemon import Workspace
from tests.servers.databases import Databases
from tests.unit.mapping.builders import compiled
from tests.unit.mapping.builders import table as tables

TABLE = "CREATE TABLE t (id int PRIMARY KEY, v text, long text);"
# Some 270 pages; every fiftieth row has a value that lies elsewhere.
ROWS = (
    "ALTER TABLE t ALTER long SET STORAGE EXTERNAL, SET (autovacuum_enabled = off);"
    " INSERT INTO t SELECT g, repeat('x', 80), CASE WHEN g % 50 = 0 THEN repeat(md5(g::text), 100) END"
    " FROM generate_series(1, 20000) g;"
)
PARTS = "[copy]\nworkers = 2\npart_bytes = 300000\n"

NOTHING = ""
UPDATED = "UPDATE t SET v = v || 'y' WHERE id % 7 = 0"  # to the end of the file, most of them
MOVED = (
    "DELETE FROM t WHERE id % 3 = 0; VACUUM t;"
    " INSERT INTO t SELECT 3 * g, 'again', NULL FROM generate_series(1, 3000) g;"
    " UPDATE t SET v = v || 'z' WHERE id % 5 = 0"  # into the holes, from wherever they were
)
KEYS = "UPDATE t SET id = id + 90000 WHERE id % 11 = 0; UPDATE t SET id = 11 WHERE id = 90022"
SWAPPED = "DELETE FROM t WHERE id < 3000; INSERT INTO t SELECT 3000 - g, 'new', NULL FROM generate_series(1, 2999) g"
LONG = "UPDATE t SET v = 'short' WHERE id % 50 = 0; UPDATE t SET long = NULL WHERE id % 250 = 0"
GROWN = "INSERT INTO t SELECT g, 'later', 'l' FROM generate_series(20001, 40000) g"
SHRUNK = "DELETE FROM t WHERE id > 500; VACUUM t"


def interrupted(workspace: Workspace, databases: Databases, where: str = "after_copy_part_commit") -> int:
    """Killed when a part or two were there; how many of them."""
    synced(workspace, failpoints=f"crash:{where}", code=137)
    found = int(databases.target.value("SELECT count(*) FROM crossfade.copy_parts WHERE state = 'done'"))
    assert 0 < found < int(databases.target.value("SELECT count(*) FROM crossfade.copy_parts"))
    return found


def done(databases: Databases) -> set[tuple[object, ...]]:
    query = "SELECT source_name, part, finished_at FROM crossfade.copy_parts WHERE state = 'done'"
    return set(databases.target.execute(query))


def happens(databases: Databases, meanwhile: str) -> None:
    for statement in filter(None, map(str.strip, meanwhile.split(";"))):
        databases.source.execute(statement)


@pytest.fixture
def table(databases: Databases, workspace: Workspace) -> Workspace:
    both(databases, TABLE, rows=ROWS)
    databases.publish("t")
    return workspace.write(extra=PARTS)


@pytest.mark.parametrize("replica_role", [True], ids=["replica"])
@pytest.mark.one_version
@pytest.mark.parametrize(
    "meanwhile",
    [NOTHING, UPDATED, KEYS, SWAPPED, LONG, GROWN, SHRUNK],
    ids=["nothing", "updated", "keys", "swapped", "long", "grown", "shrunk"],
)
def test_G4_finished_parts_stay_whatever_happened_meanwhile(
    table: Workspace, databases: Databases, meanwhile: str
) -> None:
    goes_on(table, databases, meanwhile)


@pytest.mark.parametrize("replica_role", [True], ids=["replica"])
def test_G4_finished_parts_stay_on_every_version(table: Workspace, databases: Databases) -> None:
    goes_on(table, databases, MOVED)


def begins_again(table: Workspace, databases: Databases, meanwhile: str, why: str, *, failpoints: str = "") -> None:
    """No finished part stays, and the log says why."""
    interrupted(table, databases)
    before = done(databases)
    happens(databases, meanwhile)
    daemon = synced(table, failpoints=failpoints)
    assert_equal(databases, "t")
    assert not before & done(databases)
    assert why in daemon.text()


def goes_on(table: Workspace, databases: Databases, meanwhile: str) -> None:
    interrupted(table, databases)
    before = done(databases)
    happens(databases, meanwhile)
    daemon = synced(table)
    assert_equal(databases, "t")
    assert before <= done(databases), "they were read again"
    assert "public.t had been copied in part:" in daemon.text()
    assert databases.target.value("SELECT copied_rows FROM crossfade.copy_tables") == databases.target.value(
        "SELECT count(*) FROM t"
    )


@pytest.mark.parametrize("replica_role", [True], ids=["replica"])
@pytest.mark.one_version
@pytest.mark.parametrize("step", ["before_forward_commit", "after_forward_commit", "after_copy_part_commit"])
def test_G5_killed_again_and_again_while_it_goes_on(table: Workspace, databases: Databases, step: str) -> None:
    """Before, after, and once more between two parts; the application changes the same rows each time."""
    interrupted(table, databases)
    before = done(databases)
    for _ in range(2):
        happens(databases, f"{MOVED}; {UPDATED}; INSERT INTO t VALUES ((SELECT max(id) + 1 FROM t), 'next', NULL)")
        synced(table, failpoints=f"crash:{step}", code=137)
    happens(databases, LONG)
    synced(table)
    assert_equal(databases, "t")
    assert before <= done(databases)


@pytest.mark.parametrize("replica_role", [True], ids=["replica"])
@pytest.mark.one_version
def test_G6_rows_that_were_touched_and_forgotten_are_caught(table: Workspace, databases: Databases) -> None:
    """The broken variant: what is there is said to show the next snapshot, and does not."""
    interrupted(table, databases)
    happens(databases, "DELETE FROM t WHERE id % 7 = 0")
    synced(table, failpoints="forget_touched")
    with pytest.raises(AssertionError, match="differs"):
        assert_equal(databases, "t")


@pytest.mark.parametrize("replica_role", [True], ids=["replica"])
@pytest.mark.one_version
@pytest.mark.parametrize(
    ("meanwhile", "why"),
    [
        ("VACUUM FULL t", "rewrote"),
        ("TRUNCATE t; INSERT INTO t SELECT g, 'other', NULL FROM generate_series(1, 20000) g", "rewrote"),
        ("CLUSTER t USING t_pkey", "rewrote"),
    ],
    ids=["vacuum_full", "truncate", "cluster"],
)
def test_G11_a_table_that_was_rewritten_begins_again(
    table: Workspace, databases: Databases, meanwhile: str, why: str
) -> None:
    begins_again(table, databases, meanwhile, why)


@pytest.mark.parametrize("replica_role", [True], ids=["replica"])
@pytest.mark.one_version
def test_G4_what_fails_for_good_on_the_way_forward_begins_again(table: Workspace, databases: Databases) -> None:
    """Without going on inside a table nothing could fail there, so that must not keep the table from its end."""
    begins_again(table, databases, UPDATED, "bring it forward failed", failpoints="refuse_forward")


@pytest.mark.parametrize("replica_role", [False], ids=["origin"])
@pytest.mark.one_version
def test_G4_where_the_target_enforces_its_constraints_it_begins_again(table: Workspace, databases: Databases) -> None:
    begins_again(table, databases, MOVED, "the target enforces constraints")


@pytest.mark.parametrize("replica_role", [True], ids=["replica"])
@pytest.mark.one_version
@pytest.mark.parametrize("identity", ["FULL", "USING INDEX t_code"])
def test_G4_by_whatever_identifies_a_row(workspace: Workspace, databases: Databases, identity: str) -> None:
    schema = "CREATE TABLE t (id int, code text NOT NULL, v text, CONSTRAINT t_code UNIQUE (code), PRIMARY KEY (code));"
    if identity == "FULL":
        schema = "CREATE TABLE t (id int, code text, day date, v text, PRIMARY KEY (code, day));"
    both(databases, schema)
    day = ", '2024-01-01'::date + g % 3" if identity == "FULL" else ""
    databases.source.execute(
        f"ALTER TABLE t REPLICA IDENTITY {identity};"
        f"INSERT INTO t SELECT g, 'it''s, \"' || g || '\\', {day.lstrip(', ') + ',' if day else ''} repeat('x', 80)"
        " FROM generate_series(1, 20000) g"
    )
    databases.publish("t")
    workspace.write(extra=PARTS)
    interrupted(workspace, databases)
    before = done(databases)
    happens(databases, "UPDATE t SET v = 'y' WHERE id % 7 = 0; UPDATE t SET code = code || 'c' WHERE id % 13 = 0")
    happens(databases, "DELETE FROM t WHERE id % 17 = 0; VACUUM t; INSERT INTO t SELECT * FROM t WHERE false")
    synced(workspace)
    assert_equal(databases, "t")
    assert before <= done(databases)


REMAPPED = """version: 1
schemas: {public: public}
ids:
  owner: {from: public.owners.id, to: uuid, strategy: uuid7}
tables:
  public.owners: {columns: {id: {remap: owner}, at: {timezone: Asia/Tokyo}}}
  public.pets: {columns: {owner_id: {remap: owner}}}
"""


@pytest.mark.parametrize("replica_role", [True], ids=["replica"])
@pytest.mark.one_version
@pytest.mark.parametrize("first", ["owners", "pets"])
def test_I1_tables_that_get_new_ids_go_on_as_well(databases: Databases, workspace: Workspace, first: str) -> None:
    """The owner of the ids in parts, or who refers to it with its key: every key has one id, whenever it came."""
    schema = """
        CREATE TABLE owners (id int PRIMARY KEY, at timestamp, note text);
        CREATE TABLE pets (owner_id int, n int, note text, PRIMARY KEY (owner_id, n));
    """
    many, few = (100, 1) if first == "owners" else (1, 100)
    databases.prepare(
        source=schema
        + f"""
            INSERT INTO owners SELECT g, '2024-01-01'::timestamp + g * interval '1 hour', repeat('o', {many})
            FROM generate_series(1, {12000 if first == "owners" else 300}) g;
            INSERT INTO pets SELECT g % 300 + 1, g, repeat('p', {few})
            FROM generate_series(1, {12000 if first == "pets" else 300}) g;
        """,
        target="CREATE TABLE owners (id uuid PRIMARY KEY, at timestamptz, note text);"
        "CREATE TABLE pets (owner_id uuid, n int, note text, PRIMARY KEY (owner_id, n));",
    )
    databases.publish("owners", "pets")
    workspace.write(REMAPPED, extra=PARTS)
    interrupted(workspace, databases)
    before = done(databases)
    happens(
        databases,
        "UPDATE owners SET note = 'y', at = at + interval '1 day' WHERE id % 7 = 0;"
        "DELETE FROM owners WHERE id % 31 = 30;"
        "INSERT INTO owners VALUES (30000, '2024-06-01 12:00', 'new'); INSERT INTO pets VALUES (30000, 1, 'new');"
        "UPDATE pets SET note = 'z' WHERE n % 7 = 0; DELETE FROM pets WHERE n % 11 = 0; VACUUM pets; VACUUM owners;"
        "UPDATE pets SET owner_id = 30000 WHERE n % 13 = 0; UPDATE owners SET id = id + 50000 WHERE id % 29 = 0",
    )
    synced(workspace)
    here = databases.target.execute(
        "SELECT m.old, o.at AT TIME ZONE 'Asia/Tokyo', o.note FROM owners o"
        " JOIN crossfade.id_owner m ON m.new = o.id ORDER BY 1"
    )
    assert here == databases.source.execute("SELECT * FROM owners ORDER BY 1")
    pets = databases.target.execute(
        "SELECT m.old, p.n, p.note FROM pets p JOIN crossfade.id_owner m ON m.new = p.owner_id ORDER BY 1, 2"
    )
    assert pets == databases.source.execute("SELECT * FROM pets ORDER BY 1, 2")
    assert before <= done(databases)


LEAVES = """
    CREATE TABLE events (id int, day date, note text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
    CREATE TABLE "events.1" PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
    CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2024-02-01') TO ('2024-04-01');
    INSERT INTO events SELECT g, '2024-01-01'::date + g % 90, repeat('n', 100) FROM generate_series(1, 15000) g;
"""
ACROSS = (
    "UPDATE events SET day = day + 31 WHERE id % 7 = 0 AND day < '2024-02-01'; UPDATE events SET note = 'x' WHERE"
    " id % 5 = 0; UPDATE events SET day = day - 31 WHERE id % 11 = 0 AND day > '2024-03-01'"
)
DETACHED = (
    'ALTER TABLE events DETACH PARTITION "events.1"; UPDATE "events.1" SET note = \'unheard of\';'
    " ALTER TABLE events ATTACH PARTITION \"events.1\" FOR VALUES FROM ('2024-01-01') TO ('2024-02-01')"
)
NAMES = (
    'ALTER TABLE "events.1" RENAME TO e; ALTER TABLE events_2 RENAME TO "events.1"; ALTER TABLE e RENAME TO events_2'
)


@pytest.mark.parametrize("replica_role", [True], ids=["replica"])
@pytest.mark.one_version
@pytest.mark.parametrize(
    ("meanwhile", "stays"), [(ACROSS, True), (DETACHED, False), (NAMES, False)], ids=["across", "detached", "names"]
)
def test_G9_leaves_of_a_partitioned_table(
    databases: Databases, workspace: Workspace, meanwhile: str, stays: bool
) -> None:
    """Rows change their leaf; a leaf goes, changes and comes back, of which the stream tells nothing; two change their
    names, by which their parts are written down."""
    databases.prepare(source=LEAVES, target="CREATE TABLE events (note text, id int, day date, PRIMARY KEY (id, day))")
    databases.publish("events")
    workspace.write(extra=PARTS)
    interrupted(workspace, databases)
    before = done(databases)
    happens(databases, meanwhile)
    synced(workspace)
    source = sorted(databases.source.execute("SELECT id, day, note FROM events"))
    assert sorted(databases.target.execute("SELECT id, day, note FROM events")) == source
    assert (before <= done(databases)) is stays


@pytest.mark.parametrize("replica_role", [True], ids=["replica"])
@pytest.mark.one_version
def test_G14_a_column_of_the_target_that_was_made_again_holds_nothing(table: Workspace, databases: Databases) -> None:
    interrupted(table, databases)
    databases.target.execute("ALTER TABLE t DROP COLUMN long; ALTER TABLE t ADD COLUMN long text")
    synced(table)
    assert_equal(databases, "t")


@pytest.mark.one_version
def test_G16_an_attempt_that_was_overtaken_takes_out_and_cuts_nothing(databases: Databases) -> None:
    """A daemon that stood still between two steps wakes up after its successor has written: it is not to touch that."""
    result = compiled(
        "version: 1\nschemas: {public: app}",
        [tables("public.t", "id int", pk="id")],
        [tables("app.t", "id int", pk="id")],
    )
    assert result.plan is not None
    plan, route = result.plan, result.plan.tables[0].route
    databases.target.execute(
        "CREATE SCHEMA app; CREATE TABLE app.t (id int PRIMARY KEY);"
        " GRANT ALL ON SCHEMA app TO PUBLIC; GRANT ALL ON app.t TO PUBLIC"
    )
    parts = [copies.Piece(at, None, "ctid", None, None) for at in range(2)]

    async def run() -> None:
        target = await connect(databases.target.dsn, purpose="copy control", endpoint="target", settings=TARGET)
        await schema.ensure(target)
        await copies.register(target, plan)
        overtaken, _ = await copies.begin_attempt(target, plan)
        attempt, _ = await copies.begin_attempt(target, plan)
        assert await copies.start_over(target, plan, (), attempt=attempt, replica_role=False) == []
        await copies.divide(target, plan.workflow, route, parts, attempt=attempt, shows=Lsn(1), basis="b")
        async with target.transaction():
            await target.execute("INSERT INTO app.t VALUES (1)")
            await copies.write(target, copies.Mark(plan.workflow, route, 0, attempt, Lsn(1)), rows=1, size=1)
        with pytest.raises(Fenced):
            await copies.start_over(target, plan, (), attempt=overtaken, replica_role=False)
        with pytest.raises(Fenced):
            await copies.divide(target, plan.workflow, route, parts, attempt=overtaken, shows=Lsn(2), basis="b")
        for stale in (copies.Mark(plan.workflow, route, 1, overtaken, Lsn(1)), replace_lsn(attempt)):
            with pytest.raises(Fenced):
                async with target.transaction():
                    await copies.write(target, stale, rows=1, size=1)
        found = await copies.pieces(target, plan.workflow, route)
        assert list(found.values()) == [(1, 1), None]
        await target.close()

    def replace_lsn(attempt: int) -> copies.Mark:
        """At a snapshot that the table does not show."""
        return copies.Mark(plan.workflow, route, 1, attempt, Lsn(2))

    asyncio.run(run())
    assert databases.target.value("SELECT count(*) FROM app.t") == 1


@pytest.mark.parametrize("replica_role", [True], ids=["replica"])
@pytest.mark.one_version
@pytest.mark.parametrize("by_hand", ["TRUNCATE t", "DELETE FROM t WHERE id % 10 = 0"])
def test_G14_a_target_that_was_emptied_by_hand_is_filled_again(
    table: Workspace, databases: Databases, by_hand: str
) -> None:
    interrupted(table, databases)
    databases.target.execute(by_hand)
    daemon = synced(table)
    assert_equal(databases, "t")
    assert "does not hold the rows" in daemon.text()


@pytest.mark.parametrize("replica_role", [True], ids=["replica"])
@pytest.mark.one_version
def test_G4_killed_at_any_moment_while_the_application_goes_on(table: Workspace, databases: Databases) -> None:
    """kill -9 again and again, no failpoint to choose the place, and somebody who writes all the time."""
    seed = int(os.environ.get("CROSSFADE_TEST_SEED", "7"))
    over = threading.Event()

    def writes() -> None:
        choose, moves = random.Random(seed), itertools.count()
        with databases.source.connect() as session:
            while not over.is_set():
                low = choose.randrange(20_000)
                some = f"id BETWEEN {low} AND {low + choose.choice((1, 10, 200))}"
                session.execute(
                    choose.choice(
                        (
                            f"UPDATE t SET v = v || 'u' WHERE {some}",
                            f"UPDATE t SET long = repeat('l', 5000) WHERE {some} AND id % 20 = 0",
                            f"DELETE FROM t WHERE {some}",
                            f"INSERT INTO t SELECT generate_series({low}, {low + 300}), 'b' ON CONFLICT DO NOTHING",
                            f"UPDATE t SET id = id + 3000000 + {next(moves)} * 20000 WHERE {some}",
                            "VACUUM t",
                        )
                    ).encode()
                )
                over.wait(0.01)

    databases.source.execute("INSERT INTO t SELECT g, repeat('m', 80), NULL FROM generate_series(2000000, 2120000) g")
    table.write(extra="[copy]\nworkers = 2\npart_bytes = 200000\n")
    writer = threading.Thread(target=writes)
    writer.start()
    there, choose = 0, random.Random(seed)
    try:
        for _ in range(5):
            daemon = table.daemon()
            goal = there + choose.randrange(1, 10)
            daemon.wait_for(lambda goal=goal: parts_done(databases) >= goal, f"{goal} parts")  # type: ignore[misc]
            daemon.kill9()
            there = parts_done(databases)
    finally:
        over.set()
        writer.join()
    before = done(databases)
    synced(table)
    assert_equal(databases, "t")
    assert before <= done(databases)


def parts_done(databases: Databases) -> int:
    if databases.target.value("SELECT to_regclass('crossfade.copy_parts')") is None:
        return 0
    return int(databases.target.value("SELECT count(*) FROM crossfade.copy_parts WHERE state = 'done'"))
