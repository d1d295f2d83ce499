"""The demonstration's parts on a real server: sample rows, live writes, and a comparison that can say no.

The comparison judges crossfade, so it is judged first: a target filled by hand agrees, and every way of spoiling it
is found, counted and named.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from crossfade.demo import writers
from crossfade.demo.compare import Comparison, compare
from crossfade.demo.pairs import PAIRS
from crossfade.demo.schemas import load_app, load_legacy
from crossfade.demo.scripts import CONFIG
from crossfade.demo.servers import Server, embedded
from crossfade.demo.stage import Stage, furnish, set_up
from crossfade.demo.writers import MIX, Clerk, Counts, Ranges, Work, Writers
from crossfade.findings import Severity
from crossfade.mapping.load import load_mapping
from crossfade.preflight.examine import examine
from crossfade.settings import load_settings

ROWS = 3000
_names = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(embedded(), name="demo-parts", fsync=False) as running:
        with psycopg.connect(running.dsn(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE legacy")
        load_legacy(running.dsn("legacy"), rows=ROWS)
        with psycopg.connect(running.dsn(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE filled TEMPLATE legacy")
        load_app(running.dsn("filled"))
        with psycopg.connect(running.dsn("filled"), autocommit=True) as connection:
            connection.execute((Path(__file__).parent / "shop_by_hand.sql").read_bytes())
        yield running


def _copy_of(server: Server, template: str) -> str:
    name = f"test_{next(_names)}"
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
    return server.dsn(name)


@pytest.fixture
def both(server: Server) -> str:
    """A database that holds both schemas, in agreement."""
    return _copy_of(server, "filled")


@pytest.fixture
def legacy(server: Server) -> str:
    """A database that holds the legacy shop."""
    return _copy_of(server, "legacy")


def _compared(dsn: str) -> Comparison:
    return compare(dsn, dsn)


def _spoil(dsn: str, statement: str, *, changes: int = 1) -> None:
    with psycopg.connect(dsn, autocommit=True, options="-c session_replication_role=replica") as connection:
        touched = sum(max(connection.execute(part.encode()).rowcount, 0) for part in statement.split(";"))
    assert touched == changes, "the test itself did not spoil what it meant to"


def test_a_target_filled_by_hand_agrees(both: str) -> None:
    found = _compared(both)
    assert found.agrees
    assert {table.target: (table.missing, table.extra, table.different) for table in found.tables} == {
        table.target: (0, 0, 0) for table in found.tables
    }
    assert found.rows > ROWS * 0.8
    assert all(table.source_rows == table.target_rows == table.equal > 0 for table in found.tables)
    assert len(found.maps) == 6
    assert len(found.foreign_keys) == 9


SPOILS = {
    "a value": (
        "UPDATE app.orders SET note = coalesce(note, '') || 'x' WHERE id IN (SELECT id FROM app.orders LIMIT 1)",
        {"app.orders": (0, 0, 1, ("note",))},
    ),
    "null and empty": (
        (
            "UPDATE app.products SET description = '' WHERE id ="
            " (SELECT id FROM app.products WHERE description IS NULL ORDER BY id LIMIT 1)"
        ),
        {"app.products": (0, 0, 1, ("description",))},
    ),
    "a big text forgotten": (
        (
            "UPDATE app.products SET description = NULL WHERE id ="
            " (SELECT id FROM app.products WHERE length(description) > 8000 ORDER BY id LIMIT 1)"
        ),
        {"app.products": (0, 0, 1, ("description",))},
    ),
    "the other hour of two": (
        (
            "UPDATE app.products SET updated_at = updated_at + interval '1 hour' WHERE id ="
            " (SELECT id FROM app.products WHERE date_trunc('hour', updated_at) = '2025-11-02 05:00Z' LIMIT 1)"
        ),
        {"app.products": (0, 0, 1, ("updated_at",))},
    ),
    "a row lost": (
        "DELETE FROM app.shipments WHERE id = (SELECT min(id::text)::uuid FROM app.shipments)",
        {"app.shipments": (1, 0, 0, ())},
    ),
    "a row that nobody wrote": (
        "INSERT INTO app.warehouses VALUES (gen_random_uuid(), 'Atlantis', NULL)",
        {"app.warehouses": (0, 1, 0, ())},
    ),
    "a row twice in a table without a key": (
        (
            "INSERT INTO app.audit_log (at, actor, action, product_id, detail)"
            " SELECT at, actor, action, product_id, detail FROM app.audit_log ORDER BY id LIMIT 1"
        ),
        {"app.audit_log": (0, 1, 0, ())},
    ),
    "one of several equal rows lost": (
        (
            "DELETE FROM app.audit_log WHERE id = (SELECT max(id) FROM app.audit_log"
            " GROUP BY at, actor, action, product_id, detail HAVING count(*) > 1 LIMIT 1)"
        ),
        {"app.audit_log": (1, 0, 0, ())},
    ),
    "a row of a table without a key changed": (
        "UPDATE app.audit_log SET actor = 'mallory' WHERE id = 1",
        {"app.audit_log": (1, 1, 0, ())},
    ),
    "part of a key": (
        "UPDATE app.activity SET occurred_at = occurred_at + interval '1 hour' WHERE id = 7",
        {"app.activity": (1, 1, 0, ())},
    ),
}


@pytest.mark.parametrize("what", SPOILS)
def test_a_spoiled_target_is_found_out(both: str, what: str) -> None:
    statement, expected = SPOILS[what]
    _spoil(both, statement)
    found = _compared(both)
    assert not found.agrees
    assert {
        table.target: (table.missing, table.extra, table.different, table.columns)
        for table in found.tables
        if not table.agrees
    } == expected


def test_rows_that_exchanged_a_value_are_found(both: str) -> None:
    _spoil(
        both,
        "UPDATE app.accounts AS a SET full_name = b.full_name FROM app.accounts AS b"
        " WHERE (a.email, b.email) IN"
        " (('user1@example.org', 'user2@example.org'), ('user2@example.org', 'user1@example.org'))",
        changes=2,
    )
    found = {table.target: table for table in _compared(both).tables if not table.agrees}
    assert list(found) == ["app.accounts"]
    assert (found["app.accounts"].different, found["app.accounts"].columns) == (2, ("full_name",))


def test_rows_that_exchanged_their_ids_are_found(both: str) -> None:
    _spoil(
        both,
        "UPDATE crossfade.id_user AS a SET new = b.new FROM crossfade.id_user AS b"
        " WHERE (a.old, b.old) IN ((1, 2), (2, 1))",
        changes=2,
    )
    found = _compared(both)
    assert {table.target: table.different for table in found.tables if table.target == "app.accounts"}[
        "app.accounts"
    ] >= 2
    assert not any(each.shared for each in found.maps), "the maps themselves are still one-to-one"


def test_a_reference_to_an_id_nobody_handed_out_is_found(both: str) -> None:
    _spoil(both, "UPDATE app.activity SET account_id = gen_random_uuid() WHERE id = 5")
    found = _compared(both)
    assert {table.target: table.columns for table in found.tables if not table.agrees} == {
        "app.activity": ("account_id",)
    }
    assert [(key.table, key.violations) for key in found.foreign_keys if key.violations] == [("app.activity", 1)]


def test_a_row_lost_from_the_source_is_extra_on_the_target(both: str) -> None:
    _spoil(both, "DELETE FROM public.shipments WHERE id = 1")
    assert [(table.target, table.extra) for table in _compared(both).tables if not table.agrees] == [
        ("app.shipments", 1)
    ]


def test_a_map_that_gives_two_rows_one_id_is_found(both: str) -> None:
    _spoil(both, "INSERT INTO crossfade.id_order SELECT -old, new FROM crossfade.id_order ORDER BY old LIMIT 1")
    found = _compared(both)
    assert not found.agrees
    assert [(each.name, each.shared) for each in found.maps if each.shared] == [("id_order", 1)]


def test_a_broken_foreign_key_is_found_where_replica_role_did_not_look(both: str) -> None:
    _spoil(both, "DELETE FROM app.warehouses WHERE city = 'City 3'")
    broken = [key for key in _compared(both).foreign_keys if key.violations]
    assert [key.table for key in broken] == ["app.shipments"]


# -- sample rows


def test_the_sample_is_the_same_every_time(server: Server, legacy: str) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS again")
        connection.execute("CREATE DATABASE again")
    load_legacy(server.dsn("again"), rows=ROWS)
    assert _digests(legacy) == _digests(server.dsn("again"))


def test_the_sample_holds_what_makes_a_move_hard(legacy: str) -> None:
    with psycopg.connect(legacy) as connection:
        for question in (
            "SELECT count(*) FROM products WHERE pg_column_size(description) > 8000",
            "SELECT count(*) FROM users WHERE created_at BETWEEN '2025-11-02 01:00' AND '2025-11-02 02:00'",
            "SELECT count(*) FROM users WHERE created_at BETWEEN '2026-03-08 02:00' AND '2026-03-08 02:59'",
            "SELECT count(*) FROM users WHERE expires_at = 'infinity'",
            "SELECT count(*) FROM users WHERE referred_by > id",
            "SELECT count(*) FROM audit_log WHERE product_id NOT IN (SELECT id FROM products)",
        ):
            row = connection.execute(question).fetchone()
            assert row is not None
            assert row[0] > 0, question


def _digests(dsn: str) -> dict[str, str]:
    tables = (
        "users",
        "categories",
        "products",
        "warehouses",
        "orders",
        "order_lines",
        "shipments",
        "audit_log",
        "events",
    )
    with psycopg.connect(dsn) as connection:
        return {
            table: str(
                connection.execute(
                    f"SELECT md5(string_agg(t::text, ' ' ORDER BY t::text)) FROM {table} AS t".encode()
                ).fetchone()
            )
            for table in tables
        }


# -- live writes


@pytest.mark.parametrize("work", [work for _, work in MIX], ids=lambda work: work.__name__)
async def test_every_kind_of_transaction_works(legacy: str, work: Work) -> None:
    counts = Counts()
    async with await psycopg.AsyncConnection.connect(legacy, autocommit=True) as connection:
        ranges = Ranges(user=ROWS // 10, order=ROWS // 5, product=75, event=ROWS // 8, category=20)
        clerk = Clerk(connection, random.Random(7), 1, ranges, counts)
        for _ in range(20):
            async with connection.transaction():
                await work(clerk)
    assert counts.rows > 0


async def test_the_whole_mix_runs_and_stops_with_no_transaction_open(legacy: str) -> None:
    shop = Writers(legacy, rate=2000, connections=6, seed=5)
    stop = asyncio.Event()
    async with asyncio.timeout(60):
        task = asyncio.create_task(shop.run(stop))
        while shop.counts.committed < 1500 and not task.done():
            await asyncio.sleep(0.05)
        stop.set()
        await task
    assert shop.counts.committed >= 1500
    assert shop.counts.rolled_back > 0
    assert len(shop.counts.by_kind) > 15
    with psycopg.connect(legacy) as connection:
        row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'shop'").fetchone()
    assert row == (0,)


async def test_what_is_counted_as_committed_was_committed(legacy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "MIX", ((1, writers.record_events), (1, writers.give_up), (2, writers.log_in)))
    before = _log_ins(legacy)
    shop = Writers(legacy, rate=1000, connections=3, seed=6)
    stop = asyncio.Event()
    async with asyncio.timeout(60):
        task = asyncio.create_task(shop.run(stop))
        while shop.counts.committed < 300 and not task.done():
            await asyncio.sleep(0.02)
        stop.set()
        await task
    assert _log_ins(legacy) - before == shop.counts.by_kind["log_in"]


def _log_ins(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM events WHERE kind = 'log-in'").fetchone()
    assert row is not None
    return int(row[0])


# -- the stage


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    made = set_up()
    try:
        furnish(made, rows=ROWS)
        yield made
    finally:
        made.close()


async def test_the_shipped_mapping_fits_both_schemas(stage: Stage) -> None:
    settings = load_settings(CONFIG, environment=stage.overrides)
    found = await examine(settings, load_mapping(settings.mapping))
    assert [finding for finding in found.findings if finding.severity is Severity.ERROR] == []
    assert found.plan is not None
    assert {(str(table.source), str(table.target)) for table in found.plan.tables} == {
        (pair.source, pair.target) for pair in PAIRS
    }


def test_crossfade_gets_no_more_than_it_needs(stage: Stage) -> None:
    for dsn in (stage.source_dsn, stage.target_dsn):
        with psycopg.connect(dsn) as connection:
            row = connection.execute(
                "SELECT rolsuper, rolcreatedb, rolcreaterole, rolbypassrls FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
            assert row == (False, False, False, False)
            owned = connection.execute(
                "SELECT count(*) FROM pg_class WHERE relowner = current_user::regrole"
            ).fetchone()
            assert owned == (0,)
    with psycopg.connect(stage.source_dsn) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("DELETE FROM public.users")


def test_nothing_of_ours_reaches_what_we_start(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGOPTIONS", "PGHOST", "CROSSFADE_NAME", "NOTIFY_SOCKET"):
        monkeypatch.setenv(name, "wrong")
    environment = stage.environment
    assert "wrong" not in environment.values()
    assert environment["PATH"]
    assert environment["CROSSFADE_SOURCE__DSN"] == stage.source_dsn


def test_closing_the_stage_leaves_nothing_behind() -> None:
    made = set_up()
    homes = [made.legacy.home, made.new.home, made.folder]
    assert all(home.exists() for home in homes)
    made.close()
    made.close()
    assert not any(home.exists() for home in homes)
    assert not made.legacy.running
    assert not made.new.running


@pytest.mark.parametrize(
    ("how", "after"),
    [(signal.SIGINT, ""), (signal.SIGTERM, "Two servers run"), (signal.SIGINT, "least-privilege roles")],
)
async def test_an_interrupted_demonstration_leaves_nothing_behind(
    tmp_path: Path, how: signal.Signals, after: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "crossfade.cli.main", "demo", "--rows", "20000"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(_enterable(tmp_path))},
    )
    assert process.stderr is not None
    async with asyncio.timeout(60):
        if after:
            while after.encode() not in (line := await process.stderr.readline()):
                assert line, "it ended by itself"
        else:
            while not any(tmp_path.iterdir()):
                await asyncio.sleep(0.01)
        process.send_signal(how)
        told = await process.stderr.read()
        assert await process.wait() == 130
    assert b"Traceback" not in told
    assert [entry.name for entry in tmp_path.iterdir() if not entry.name.startswith("crossfade-postgresql")] == []


def _enterable(folder: Path) -> Path:
    """Let the account that runs the servers in: pytest's own folders are for us alone."""
    for each in (folder, *folder.parents[:2]):
        each.chmod(each.stat().st_mode | 0o011)
    return folder
