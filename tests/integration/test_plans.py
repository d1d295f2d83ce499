"""The plans of the statements over arrays, on a real server: by the key's index, whatever the statistics say (H13)."""

from __future__ import annotations

import asyncio

import pytest

from crossfade.pgoutput.messages import Form
from crossfade.session.connect import TARGET, Connection, connect
from crossfade.target import setforms, sets
from crossfade.target.pipeline import Pipeline, Statement
from crossfade.target.planages import DISCARD
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
