"""The slot and the source's life: edge-cases.md, section B, on real servers with a real daemon."""

from __future__ import annotations

import json
import time
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.chaos.proxy import Proxy
from tests.integration.sides import (
    ITEMS,
    assert_equal,
    blocked,
    both,
    crashable,
    locked,
    rows,
    streaming,
    synced,
)
from tests.servers.clusters import Versions
from tests.servers.daemon import Workspace
from tests.servers.databases import ROLE, Databases

QUICK = '[stream]\nstatus_interval = "500ms"\n'


@pytest.fixture
def begun(databases: Databases, workspace: Workspace) -> Workspace:
    """One table, published; nothing has run."""
    both(databases, ITEMS, rows="INSERT INTO items VALUES (1, 'one')")
    databases.publish("items")
    return workspace.write()


def slot(workspace: Workspace, column: str) -> object:
    """One column of our row in pg_replication_slots; None when there is no slot."""
    found = workspace.databases.source.execute(
        f"SELECT {column} FROM pg_replication_slots WHERE slot_name = %s", [workspace.slot]
    )
    return found[0][0] if found else None


def grow(databases: Databases) -> None:
    """A segment of WAL, and a checkpoint, at which the server decides about slots."""
    databases.source.execute("SELECT pg_logical_emit_message(false, 'grow', 'x')")
    databases.source.execute("SELECT pg_switch_wal()")


def test_B1_a_slot_whose_wal_is_gone_is_the_end_not_a_retry(begun: Workspace, databases: Databases) -> None:
    """max_slot_wal_keep_size was passed while no daemon ran: exit 3 at once, with the setting and the way out."""
    synced(begun)
    durable = databases.durable()
    databases.source.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
    databases.source.execute("SELECT pg_reload_conf()")
    try:
        for _ in range(6):
            grow(databases)
            databases.source.execute("CHECKPOINT")
            if slot(begun, "wal_status") == "lost":
                break
        assert slot(begun, "wal_status") == "lost"
        daemon = synced(begun, code=3)
        for part in (begun.slot, "max_slot_wal_keep_size", "crossfade teardown"):
            assert part in daemon.text()
        assert daemon.text().count("connected to the source") == 1, "it tried again"
        assert databases.durable() == durable
    finally:
        databases.source.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
        databases.source.execute("SELECT pg_reload_conf()")


@pytest.mark.one_version
def test_B1_a_slot_that_comes_close_is_told_in_time(begun: Workspace, databases: Databases) -> None:
    """Little room is left before the limit: an alert in log and status while everything can still be saved."""
    daemon = streaming(begun)
    assert begun.run("pause").returncode == 0
    databases.source.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '64MB'")
    databases.source.execute("SELECT pg_reload_conf()")
    try:
        while int(str(slot(begun, "safe_wal_size"))) > 12 << 20:
            databases.source.execute("SELECT pg_logical_emit_message(false, 'grow', repeat('x', 4000000))")
        daemon.wait_for_line("max_slot_wal_keep_size")
        document = json.loads(begun.run("status", "--json").stdout)
        assert [alert for alert in document["alerts"] if "slot" in str(alert)], document["alerts"]
        assert slot(begun, "wal_status") != "lost"
        assert begun.run("resume").returncode == 0
        databases.source.execute("INSERT INTO items VALUES (2, 'two')")
        daemon.wait_until_caught_up()
        assert_equal(databases, "items")
    finally:
        databases.source.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
        databases.source.execute("SELECT pg_reload_conf()")
    assert daemon.terminate() == 0


@pytest.mark.one_version
def test_B3_our_own_dead_session_does_not_keep_the_slot(begun: Workspace, databases: Databases) -> None:
    """kill -9 behind a network that swallows the goodbye: the old walsender lives on, and the next start ends it."""
    with Proxy(databases.source.server.port) as proxy:
        begun.write(source_dsn=make_conninfo(databases.source_dsn, port=proxy.port))
        daemon = streaming(begun)
        assert proxy.half_open() > 0
        daemon.kill9()
        assert slot(begun, "active") is True
        databases.source.execute("INSERT INTO items VALUES (2, 'two')")
        assert begun.daemon("--until", "caught-up").wait(40) == 0  # wal_sender_timeout is a minute
        assert_equal(databases, "items")


@pytest.mark.one_version
def test_B3_a_stranger_on_our_slot_is_waited_for(begun: Workspace, databases: Databases) -> None:
    """Another client streams from the slot: it is not ended, it is told, and streaming goes on when it is gone."""
    synced(begun)
    databases.source.execute("INSERT INTO items VALUES (2, 'two')")
    with psycopg.connect(make_conninfo(databases.source_admin, replication="database"), autocommit=True) as stranger:
        options = "proto_version '1', publication_names '\"crossfade\"'"
        stranger.execute(f'START_REPLICATION SLOT "{begun.slot}" LOGICAL 0/0 ({options})')
        pid = slot(begun, "active_pid")
        daemon = begun.daemon()
        daemon.wait_for_line("Another client streams from our slot")
        assert slot(begun, "active_pid") == pid
        stranger.close()
    daemon.wait_until_caught_up()
    assert_equal(databases, "items")
    assert daemon.terminate() == 0


@pytest.mark.one_version
def test_B3_a_session_that_waits_for_a_lock_gives_the_lead_back(
    begun: Workspace, databases: Databases, postgres: Versions
) -> None:
    """The daemon dies while its apply waits for somebody's lock: its session notices, and another daemon leads."""
    if postgres.target.version_major < 14:
        pytest.skip("client_connection_check_interval came with 14: before, the lock is held until the wait is over")
    daemon = streaming(begun)
    with locked(databases.target, "items"):
        databases.source.execute("INSERT INTO items VALUES (2, 'two')")
        daemon.wait_for(blocked(databases.target), "the apply is blocked")
        daemon.kill9()
        another = begun.daemon()
        another.wait_for_line("leading")
    another.wait_until_caught_up()
    assert_equal(databases, "items")
    assert another.terminate() == 0


@pytest.mark.one_version  # waits for our own patience, which no server's version changes
@pytest.mark.parametrize("who", ["stream", "everybody"])
def test_B4_a_half_open_network_is_noticed(begun: Workspace, databases: Databases, who: str) -> None:
    """Nothing passes and nobody hangs up: our own watchdog gives the connections up and opens new ones."""
    with Proxy(databases.source.server.port) as to_source, Proxy(databases.target.server.port) as to_target:
        begun.write(
            source_dsn=make_conninfo(databases.source_dsn, port=to_source.port),
            target_dsn=make_conninfo(databases.target_dsn, port=to_target.port),
            extra=QUICK,
        )
        daemon = streaming(begun)
        daemon.wait_until_caught_up()
        if who == "stream":
            assert to_source.half_open(applications="crossfade stream") == 1
        else:
            assert to_source.half_open() > 1
            assert to_target.half_open() > 1
        databases.source.execute("INSERT INTO items VALUES (2, 'two')")
        daemon.wait_until_caught_up()
        assert_equal(databases, "items")
        assert "again" in daemon.text()
        assert daemon.terminate() == 0


def test_B11_who_keeps_the_slot_from_being_made_is_told(begun: Workspace, databases: Databases) -> None:
    """An open transaction holds slot creation up: it is named, and the moment it ends the slot is made."""
    databases.source.execute(f"ALTER ROLE {ROLE} SET lock_timeout = '1s'")
    with databases.source.connect(autocommit=False) as idle:
        idle.execute("SELECT txid_current()")
        daemon = begun.daemon()
        daemon.wait_for_line("cannot finish creating the slot")
        assert f"session {idle.info.backend_pid}" in daemon.text()
        idle.rollback()
    daemon.wait_until_caught_up()
    assert_equal(databases, "items")
    assert daemon.terminate() == 0


@pytest.mark.one_version
def test_B11_stopped_while_it_waits_it_leaves_no_slot(begun: Workspace, databases: Databases) -> None:
    """SIGTERM during slot creation: the server's command is cancelled, no half-made slot stays, exit 0; run again."""
    with databases.source.connect(autocommit=False) as idle:
        idle.execute("SELECT txid_current()")
        daemon = begun.daemon()
        daemon.wait_for(lambda: slot(begun, "active") is True, "the slot is being made")
        assert daemon.terminate() == 0
        assert slot(begun, "slot_name") is None
        idle.rollback()
    synced(begun)
    assert_equal(databases, "items")


@pytest.mark.one_version
def test_B11_the_second_snapshot_s_slot_waits_in_the_same_manner(begun: Workspace, databases: Databases) -> None:
    """After a crash in the copy a temporary slot is made: blockers are told, and SIGTERM ends the wait at once."""
    synced(begun, failpoints="crash:in_copy", code=137)
    with databases.source.connect(autocommit=False) as idle:
        idle.execute("SELECT txid_current()")
        daemon = begun.daemon()
        daemon.wait_for_line(f"session {idle.info.backend_pid}")
        assert daemon.terminate(timeout=10) == 0
        assert databases.source.value("SELECT count(*) FROM pg_replication_slots WHERE temporary") == 0
        idle.rollback()
    synced(begun)
    assert_equal(databases, "items")


@pytest.mark.parametrize("state", ["idle", "blocked", "paused"])
def test_B16_the_source_can_shut_down(postgres: Versions, tmp_path: Path, state: str) -> None:
    """A fast shutdown waits until the client has confirmed everything: idle, blocked or paused, we never hang it."""
    with crashable(postgres, tmp_path) as workspace:
        databases = workspace.databases
        both(databases, ITEMS)
        databases.source.execute("CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.nobody (id int)")
        databases.publish("items")
        workspace.write()
        daemon = streaming(workspace)
        daemon.wait_until_caught_up()
        if state == "paused":
            assert workspace.run("pause").returncode == 0
        if state == "idle":
            databases.source.execute("INSERT INTO elsewhere.nobody SELECT generate_series(1, 1000)")
            _stopped_soon(databases)
        else:
            with locked(databases.target, "items"):
                databases.source.execute("INSERT INTO items VALUES (1, 'one')")
                if state == "blocked":
                    daemon.wait_for(blocked(databases.target), "the apply is blocked")
                _stopped_soon(databases)
        databases.source.server.start()
        if state == "paused":
            assert workspace.run("resume").returncode == 0
        databases.source.execute("INSERT INTO items VALUES (2, 'two')")
        daemon.wait_until_caught_up()
        assert_equal(databases, "items")
        assert daemon.terminate() == 0


def _stopped_soon(databases: Databases) -> None:
    began = time.monotonic()
    databases.source.server.stop("fast")
    assert time.monotonic() - began < 10, "the shutdown waited for us"


@pytest.mark.one_version
def test_B17_no_slot_to_spare_is_said_before_anything_is_made(begun: Workspace, databases: Databases) -> None:
    """Every one of max_replication_slots is taken: refused, nothing made, then it runs."""
    taken = []
    limit = int(databases.source.value("SELECT current_setting('max_replication_slots')"))
    used = int(databases.source.value("SELECT count(*) FROM pg_replication_slots"))
    try:
        for number in range(limit - used):
            databases.source.execute("SELECT pg_create_physical_replication_slot(%s)", [f"taken_{number}"])
            taken.append(f"taken_{number}")
        daemon = synced(begun, code=3)
        assert "max_replication_slots" in daemon.text()
        assert slot(begun, "slot_name") is None
        assert databases.durable() is None
        assert rows(databases.target, "items") == []
    finally:
        for name in taken:
            databases.source.execute("SELECT pg_drop_replication_slot(%s)", [name])
    synced(begun)
    assert_equal(databases, "items")
