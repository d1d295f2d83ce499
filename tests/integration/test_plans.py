"""The plans of the statements over arrays, on a real server: by the key's index, whatever the statistics say (H13)."""

from __future__ import annotations

import asyncio
import time

import pytest

from crossfade.pgoutput.messages import Form
from crossfade.session.connect import TARGET, Connection, connect
from crossfade.target import setforms, sets
from crossfade.target.pipeline import Pipeline, Statement
from crossfade.target.planages import DISCARD
from tests.integration.following import Followed, follow
from tests.servers.daemon import Workspace
from tests.servers.databases import Databases
from tests.unit.target.test_setforms import plan

pytestmark = pytest.mark.one_version

TABLE = plan("id int", "v text", target=("id int", "v text"))
UPDATE = setforms.update(TABLE, [1], Form.TEXT)


async def planned(connection: Connection, name: str) -> str:
    cursor = await connection.execute(f"EXPLAIN EXECUTE {name} ('{{x}}', '{{1}}')".encode())
    return "\n".join(str(line) for (line,) in await cursor.fetchall())


async def updated(pipeline: Pipeline, count: int, *first: Statement) -> None:
    numbers = ",".join(str(number) for number in range(count)).encode()
    texts = ",".join(["x"] * count).encode()
    found = await pipeline.run(
        [
            Statement(b"BEGIN"),
            *first,
            sets._BY_INDEX,
            Statement(UPDATE, [b"{%b}" % texts, b"{%b}" % numbers]),
            Statement(b"COMMIT"),
        ]
    )
    assert found[-2] == count


@pytest.mark.parametrize("analysed", [True, False])
def test_H13_a_plan_made_for_a_tiny_table_is_made_anew_when_it_has_grown(databases: Databases, analysed: bool) -> None:
    databases.target.execute("CREATE SCHEMA app; CREATE TABLE app.t (id int PRIMARY KEY, v text)")
    databases.target.execute("INSERT INTO app.t VALUES (0, 'x')")
    databases.target.execute("ALTER TABLE app.t SET (autovacuum_enabled = off)")
    databases.target.execute("GRANT ALL ON SCHEMA app TO PUBLIC; GRANT ALL ON app.t TO PUBLIC")
    if analysed:
        databases.target.execute("VACUUM ANALYZE app.t")

    async def run() -> None:
        connection = await connect(databases.target.dsn, purpose="apply", endpoint="target", settings=TARGET)
        await connection.execute(sets.session(replica_role=False))
        pipeline = Pipeline(connection)
        await updated(pipeline, 1)
        if analysed:
            assert "Join Filter" in await planned(connection, pipeline._prepared[UPDATE].decode())
        databases.target.execute("INSERT INTO app.t SELECT n, 'x' FROM generate_series(1, 999) n")
        await updated(pipeline, 1000, DISCARD)
        assert "Recheck Cond: (id = n.k0)" in await planned(connection, pipeline._prepared[UPDATE].decode())
        cursor = await connection.execute("SELECT count(*) FROM pg_prepared_statements WHERE statement ~ '^UPDATE'")
        assert await cursor.fetchone() == (1,)
        await connection.close()

    asyncio.run(run())


def test_H13_every_kind_of_statement_goes_by_the_index(databases: Databases) -> None:
    databases.target.execute("CREATE SCHEMA app; CREATE TABLE app.t (id int PRIMARY KEY, v text)")
    databases.target.execute("INSERT INTO app.t SELECT n, 'x' FROM generate_series(1, 1000) n; ANALYZE app.t")
    databases.target.execute("GRANT ALL ON SCHEMA app TO PUBLIC; GRANT ALL ON app.t TO PUBLIC")
    texts = {
        "delete": (setforms.delete(TABLE, Form.TEXT), "'{1}'"),
        "look": (setforms.update(TABLE, [], Form.TEXT), "'{1}'"),
        "reinsert": (setforms.reinsert(TABLE, [1], Form.TEXT), "'{1}', '{1}', '{x}', '{t}'"),
    }

    async def run() -> None:
        connection = await connect(databases.target.dsn, purpose="apply", endpoint="target", settings=TARGET)
        await connection.execute(sets.session(replica_role=False))
        await connection.execute("BEGIN")
        await connection.execute(sets._BY_INDEX.text)
        for name, (text, parameters) in texts.items():
            await connection.execute(f"PREPARE {name} AS ".encode() + text)
            cursor = await connection.execute(f"EXPLAIN EXECUTE {name} ({parameters})".encode())
            lines = " ".join(" ".join(str(line).split()) for (line,) in await cursor.fetchall())
            assert "Recheck Cond: (id = " in lines, name
        await connection.close()

    asyncio.run(run())


def scans(followed: Followed, more: int, than: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """Of the table, by all of it and by its index, as soon as the server tells of so many more: a session tells at the
    end of a transaction, not more often than each second, so there is one more."""
    until = time.monotonic() + 30
    while True:
        time.sleep(1.1)
        followed.write("UPDATE t SET v = v WHERE id = 0")
        ((whole, by_index),) = followed.databases.target.execute(
            "SELECT seq_scan, idx_scan FROM pg_stat_user_tables WHERE relname = 't'"
        )
        found = int(str(whole)), int(str(by_index))
        if sum(found) >= sum(than) + more:
            return found
        assert time.monotonic() < until, f"{found} scans were told of"


@pytest.mark.parametrize("replica_role", [True, False], ids=["replica", "origin"])
def test_H13_single_changes_find_their_rows_by_the_index_once_the_table_has_grown(
    workspace: Workspace, databases: Databases
) -> None:
    """The session lives for weeks, and nobody analyses the table: a plan made for its first row must not stay."""
    table = "CREATE TABLE public.t (id int PRIMARY KEY, v text)"
    followed = follow(workspace, source=table, target=f"{table}; ALTER TABLE public.t SET (autovacuum_enabled = off)")
    target = followed.databases.target

    followed.write("INSERT INTO t VALUES (0, 'x')")
    target.execute("ANALYZE public.t")
    for _ in range(3):
        followed.write("UPDATE t SET v = v || 'y' WHERE id = 0")  # planned for a table of one row
    small = scans(followed, 3)
    assert small[0] >= 3
    followed.write("INSERT INTO t SELECT n, 'x' FROM generate_series(1, 2000) n")
    followed.write("UPDATE t SET v = 'z' WHERE id = 7")
    before = scans(followed, 1, small)
    for n in range(10):
        followed.write(f"UPDATE t SET v = 'z' WHERE id = {100 + n}")
    after = scans(followed, 10, before)
    assert after[0] == before[0]
    assert after[1] >= before[1] + 10


def test_H13_a_long_exact_transaction_does_not_scan_what_it_has_written_for_each_row(
    workspace: Workspace, databases: Databases
) -> None:
    """Inserts and updates of one source transaction: the plan that was there when it began must not last to its end."""
    table = "CREATE TABLE public.t (id int PRIMARY KEY, v text)"
    followed = follow(
        workspace,
        source=table,
        target=f"{table}; ALTER TABLE public.t SET (autovacuum_enabled = off)",
        extra='[stream]\napply = "exact"\n',
    )
    target = followed.databases.target
    followed.write("INSERT INTO t VALUES (0, 'x')")
    target.execute("ANALYZE public.t")
    for _ in range(8):
        followed.write("UPDATE t SET v = v || 'y' WHERE id = 0")
    before = scans(followed, 8)
    followed.write(
        "DO $$BEGIN INSERT INTO t SELECT n, 'x' FROM generate_series(1, 60000) n;"
        " FOR n IN 1..1500 LOOP UPDATE t SET v = 'z' WHERE id = n * 30; END LOOP; END$$"
    )
    after = scans(followed, 1500, before)
    assert after[1] - before[1] > 1200, (before, after)
