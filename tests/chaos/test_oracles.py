"""The oracles find what they are for: each wrong target is caught by name, and a right one by nobody."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count

import psycopg
import pytest

from crossfade.demo.servers import Server, embedded
from tests.oracles.compare import PAIRS, unequal
from tests.oracles.model import ModelWriter, differences, read_state
from tests.oracles.positions import Positions, mark, wait_durable
from tests.oracles.snapshots import SnapshotChecker
from tests.oracles.verdict import Verdict
from tests.oracles.world import CROSS, World
from tests.oracles.writers import BankWriter, BulkWriter, Gate

pytestmark = pytest.mark.chaos

_NUMBERS = count(1)
_STATE = """
CREATE SCHEMA crossfade;
CREATE TABLE crossfade.progress (end_lsn pg_lsn, epoch bigint, updated_at timestamptz);
CREATE TABLE crossfade.workflows (phase text, paused text, error text, daemon text, seen_at timestamptz);
CREATE TABLE crossfade.id_account (old integer, new uuid);
CREATE TABLE crossfade.id_person (old integer, new uuid);
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(embedded(), name="oracles") as server:
        yield server


@pytest.fixture
def world(server: Server) -> World:
    number = next(_NUMBERS)
    with psycopg.connect(server.dsn(), autocommit=True) as session:
        for side in ("source", "target"):
            session.execute(f"CREATE DATABASE {side}_{number}".encode())
    world = World(server.dsn(f"source_{number}"), server.dsn(f"target_{number}"), accounts=6, bulk=50)
    world.build()
    with psycopg.connect(world.target) as session:
        session.execute(_STATE.encode())
    return world


def _write(world: World, transactions: int, *, seed: int = 1) -> tuple[Verdict, ModelWriter]:
    verdict, gate = Verdict(), Gate()
    bank = BankWriter(world, verdict, gate, number=0, seed=seed, pace=0, two_phase=True)
    bulk = BulkWriter(world, verdict, gate, seed=seed, pace=0)
    model = ModelWriter(world, verdict, gate, seed=seed, pace=0)
    for _ in range(transactions):
        bank.step()
        bulk.step()
        model.step()
    for writer in (bank, bulk, model):
        writer.stop()
    verdict.require_clean()
    assert verdict.counts["writers.committed"] > 0
    return verdict, model


def _carry_over(world: World) -> None:
    """The target as a right daemon would leave it, made by hand: ids mapped, times moved."""
    with psycopg.connect(world.source) as source, psycopg.connect(world.target) as target:
        for keyspace, table in (("account", "accounts"), ("person", "people")):
            for (old,) in source.execute(f"SELECT id FROM public.{table}".encode()):
                target.execute(f"INSERT INTO crossfade.id_{keyspace} VALUES (%s, gen_random_uuid())".encode(), (old,))
        target.execute("SET timezone = 'America/New_York'")  # a local time read here becomes the right instant
        mapped = {
            ("accounts", "id"): "account",
            ("transfers", "debit_id"): "account",
            ("transfers", "credit_id"): "account",
            ("people", "id"): "person",
            ("badges", "person_id"): "person",
        }
        tables = [pair.name for pair in PAIRS]  # accounts and people come before who refers to them
        for table in tables:
            cursor = source.execute(f"SELECT * FROM public.{table}".encode())
            names = [column.name for column in cursor.description or ()]
            values = ", ".join(
                f"(SELECT new FROM crossfade.id_{mapped[table, name]} WHERE old = %s::int)"
                if (table, name) in mapped
                else "%s"
                for name in names
            )
            # Times travel as text: Python has neither infinity nor BC.
            select = ", ".join(f"{name}::text" for name in names)
            for row in source.execute(f"SELECT {select} FROM public.{table}".encode()):
                target.execute(f"INSERT INTO app.{table} VALUES ({values})".encode(), row)


def _judge(world: World) -> tuple[set[str], list[str]]:
    verdict = Verdict()
    checker = SnapshotChecker(world, verdict, assume_ready=True, whole_every=2)
    for _ in range(4):
        checker.look()
    checker.stop()
    assert verdict.counts["snapshots"] == 4
    return verdict.caught_by(), unequal(world.source, world.target)


def test_a_right_target_is_found_right(world: World) -> None:
    _, model = _write(world, 40)
    _carry_over(world)
    assert _judge(world) == (set(), [])
    assert differences(model.state, read_state(world.source, mapped=False), mapped=False, where="source") == []
    assert differences(model.state, read_state(world.target, mapped=True), mapped=True, where="target") == []


@pytest.mark.parametrize(
    ("damage", "oracles", "tables"),
    [
        ("UPDATE app.accounts SET balance = balance + 1 WHERE code = 'code-1'", {"bank"}, {"accounts"}),
        (
            """UPDATE app.accounts SET balance = balance + CASE code WHEN 'code-1' THEN 5 ELSE -5 END
               WHERE code IN ('code-1', 'code-2')""",
            {"bank"},
            {"accounts"},
        ),
        ("DELETE FROM app.ledger WHERE txn_no = 5", {"ledger", "exactly_once", "bank"}, {"ledger"}),
        (
            "DELETE FROM app.ledger WHERE txn_no = (SELECT n FROM app.counter)",
            {"ledger", "cross_table", "exactly_once", "bank"},
            {"ledger"},
        ),
        ("UPDATE app.counter SET n = n - 1", {"ledger"}, {"counter"}),
        ("UPDATE app.cross_3 SET n = n - 1 WHERE n = (SELECT n FROM app.counter)", {"cross_table"}, {"cross_3"}),
        ("INSERT INTO app.once SELECT * FROM app.once LIMIT 1", {"exactly_once"}, {"once"}),
        ("DELETE FROM app.once WHERE ctid = (SELECT min(ctid) FROM app.once)", {"exactly_once"}, {"once"}),
        (
            "UPDATE app.transfers SET credit_id = debit_id WHERE id = (SELECT min(id) FROM app.transfers)",
            {"bank", "ids"},
            {"transfers"},
        ),
        ("UPDATE app.items SET big = NULL WHERE id = (SELECT max(id) FROM app.items WHERE big > '')", set(), {"items"}),
        ("UPDATE app.items SET note = '' WHERE note IS NULL", set(), {"items"}),
        ("UPDATE app.bulk SET at = at + interval '1 hour' WHERE id = 7", set(), {"bulk"}),
        ("INSERT INTO app.twins SELECT * FROM app.twins LIMIT 1", set(), {"twins"}),
    ],
)  # fmt: skip
def test_a_wrong_target_is_caught(world: World, damage: str, oracles: set[str], tables: set[str]) -> None:
    _write(world, 60)
    _carry_over(world)
    with psycopg.connect(world.target) as target:
        assert target.execute(damage.encode()).rowcount > 0, "nothing was damaged"
    caught, differing = _judge(world)
    assert caught == oracles
    assert {text.split(":")[0] for text in differing} == tables


def test_a_wrong_id_map_is_caught(world: World) -> None:
    _write(world, 30)
    _carry_over(world)
    with psycopg.connect(world.target) as target:
        target.execute("INSERT INTO crossfade.id_person SELECT -7, new FROM crossfade.id_account LIMIT 1")
        target.execute("INSERT INTO crossfade.id_person SELECT -7, gen_random_uuid()")
    assert any("bijection" in text for text in unequal(world.source, world.target))


def test_a_ledger_that_gets_shorter_is_caught_even_when_it_has_no_holes(world: World) -> None:
    verdict = Verdict()
    checker = SnapshotChecker(world, verdict, assume_ready=True, whole_every=2)
    _write(world, 20)
    _carry_over(world)
    checker.look()
    checker.look()
    verdict.require_clean()
    with psycopg.connect(world.target) as target:
        for table in ("transfers", "once", "ledger", *(f"cross_{i}" for i in range(CROSS))):
            target.execute(f"TRUNCATE app.{table} CASCADE".encode())
        target.execute("UPDATE app.counter SET n = 0")
        target.execute("UPDATE app.accounts SET balance = 1000")
    checker.look()
    checker.look()
    checker.stop()
    assert verdict.caught_by() == {"ledger"}
    assert "went back" in verdict.violations[0]


def test_model_and_source_agree_after_crashes_of_the_source(world: World, server: Server) -> None:
    verdict, gate = Verdict(), Gate()
    writers = [BankWriter(world, verdict, gate, number=i, seed=3, pace=0, two_phase=True) for i in range(2)]
    model = ModelWriter(world, verdict, gate, seed=3, pace=0)
    everyone = (*writers, model)
    for writer in everyone:
        writer.start()
    for enough in (10, 20, 30):
        deadline = time.monotonic() + 30
        while verdict.counts["writers.committed"] < enough and time.monotonic() < deadline:
            time.sleep(0.01)
        server.restart("immediate")
        mark(world, "after")
    gate.pause()
    model.settle()
    for writer in everyone:
        writer.stop()
    verdict.require_clean()
    assert verdict.counts["writers.connection_lost"] >= 3
    assert differences(model.state, read_state(world.source, mapped=False), mapped=False, where="source") == []
    with psycopg.connect(world.source) as source:
        row = source.execute(
            """SELECT (SELECT n FROM counter) = count(*) AND count(*) = max(txn_no) AND count(*) >= 30
               AND (SELECT sum(balance) FROM accounts) = %s FROM ledger""",
            (world.total,),
        ).fetchone()
    assert row == (True,)


def test_positions_that_go_back_or_run_ahead_are_caught(world: World) -> None:
    verdict = Verdict()
    positions = Positions(world, verdict, slot="oracle_positions")
    with (
        psycopg.connect(world.source, autocommit=True) as source,
        psycopg.connect(world.target, autocommit=True) as target,
    ):
        source.execute("SELECT pg_create_logical_replication_slot('oracle_positions', 'pgoutput')")
        target.execute(
            "INSERT INTO crossfade.progress SELECT confirmed_flush_lsn FROM pg_replication_slots"
            " WHERE slot_name = 'oracle_positions'"
        )
        positions.look()
        verdict.require_clean()
        target.execute("UPDATE crossfade.progress SET end_lsn = end_lsn - 8")
        positions.look()
        assert verdict.caught_by() == {"positions", "early_ack"}
        source.execute("SELECT pg_drop_replication_slot('oracle_positions')")
    positions.stop()


def test_waiting_for_a_position_says_what_it_saw_when_it_gives_up(world: World) -> None:
    number, position = mark(world, "never arrives")
    assert number == 1
    with psycopg.connect(world.target) as target:
        target.execute("INSERT INTO crossfade.progress VALUES ('0/10')")
        target.execute("INSERT INTO crossfade.workflows VALUES ('catchup')")
    with pytest.raises(AssertionError, match=r"(?s)not durable at .*catchup.*0/10"):
        wait_durable(world, position, seconds=0.2)
