"""Positions, feedback, exactly once: edge-cases.md, section A, on real servers with a real daemon."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import psycopg
import pytest

from tests.integration.sides import (
    ITEMS,
    assert_equal,
    blocked,
    both,
    confirmed,
    crashable,
    locked,
    rows,
    streaming,
    synced,
    written,
)
from tests.servers.clusters import Versions
from tests.servers.daemon import Workspace
from tests.servers.databases import REPLICA_ROLE, ROLE, Databases

TWO = ITEMS + "CREATE TABLE others (id int PRIMARY KEY, note text);"


@pytest.fixture
def begun(databases: Databases, workspace: Workspace) -> Workspace:
    """Two tables, published; nothing has run."""
    both(databases, TWO, rows="INSERT INTO items VALUES (1, 'one'); INSERT INTO others VALUES (1, 'other')")
    databases.publish("items", "others")
    return workspace.write()


def test_A1_the_last_transaction_is_not_sent_again(begun: Workspace, databases: Databases) -> None:
    """What is acknowledged is the end of a commit record: a restart is sent nothing it has already applied."""
    synced(begun)
    databases.source.execute("INSERT INTO items VALUES (2, 'two')")
    synced(begun)
    assert databases.durable() == confirmed(begun)
    left = databases.source.execute(
        "SELECT * FROM pg_logical_slot_peek_binary_changes(%s, NULL, NULL, 'proto_version', '1',"
        " 'publication_names', 'crossfade')",
        [begun.slot],
    )
    assert left == []


def test_A2_streaming_begins_exactly_at_the_stored_position(begun: Workspace, databases: Databases) -> None:
    """START_REPLICATION asks for the stored end LSN, to the byte."""
    databases.source.execute(f"ALTER ROLE {ROLE} SET log_replication_commands = on")
    synced(begun)
    stored = databases.target.value("SELECT end_lsn::text FROM crossfade.progress")
    databases.source.execute("INSERT INTO items VALUES (2, 'two')")
    synced(begun)
    log = databases.source.server.log.read_text(errors="replace")
    asked = re.findall(rf'START_REPLICATION SLOT "{begun.slot}" LOGICAL ([0-9A-F/]+)', log)
    assert asked[-1] == stored
    assert_equal(databases, "items")


def test_A3_an_idle_stream_lets_go_of_the_wal_its_neighbours_write(begun: Workspace, databases: Databases) -> None:
    """Nothing of ours changes while another database is busy: the idle position is written, then acknowledged."""
    daemon = streaming(begun)
    with psycopg.connect(databases.source.server.dsn("postgres"), autocommit=True) as neighbour:
        neighbour.execute("CREATE TABLE IF NOT EXISTS busy AS SELECT g FROM generate_series(1, 20000) g")
        neighbour.execute("DROP TABLE busy")
    past = written(databases.source)
    with databases.target.connect() as asks:

        def acknowledged() -> bool:
            asks.execute("SELECT pg_notify('crossfade_control', 'persist')")
            return confirmed(begun) >= past

        daemon.wait_for(acknowledged, "the neighbours' WAL is acknowledged")
    durable = databases.durable()
    assert durable is not None
    assert durable >= confirmed(begun), "acknowledged before it was written down"
    assert daemon.terminate() == 0


@pytest.mark.one_version
def test_A4_a_keepalive_acknowledges_nothing_that_is_not_applied(begun: Workspace, databases: Databases) -> None:
    """The target is blocked while keepalives go on: the acknowledged position stays before the change not applied."""
    daemon = streaming(begun)
    daemon.wait_until_caught_up()
    with locked(databases.target, "items"):
        before = written(databases.source)
        databases.source.execute("INSERT INTO items SELECT g, 'late' FROM generate_series(2, 50) g")
        daemon.wait_for(blocked(databases.target), "the apply is blocked")
        # Commits of no table of ours: the server's keepalives now name positions past the blocked change.
        databases.source.execute("CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.nobody (id int)")
        heard = databases.mark()
        daemon.wait_for(lambda: _received(databases, begun) >= heard, "keepalives past the blocked change")
        assert confirmed(begun) <= before
        daemon.kill9()
    synced(begun)
    assert_equal(databases, "items")
    assert len(rows(databases.target, "items")) == 50


def _received(databases: Databases, workspace: Workspace) -> int:
    """How far the client says that it has received (its `write` position)."""
    for (position,) in databases.source.execute(
        "SELECT r.write_lsn - '0/0' FROM pg_replication_slots s JOIN pg_stat_replication r ON r.pid = s.active_pid"
        " WHERE s.slot_name = %s",
        [workspace.slot],
    ):
        return int(position or 0)
    return 0


@pytest.mark.one_version
def test_A5_nothing_of_a_transaction_is_kept_before_its_commit(begun: Workspace, databases: Databases) -> None:
    """A transaction applied in many pieces, killed in the middle: invisible, unacknowledged, and whole afterwards."""
    begun.write(extra='[stream]\nbatch_bytes = "64 KiB"\npipe_bytes = "128 KiB"\n')
    daemon = streaming(begun)
    daemon.wait_until_caught_up()
    before = written(databases.source)
    with locked(databases.target, "others"):
        databases.source.execute(
            "BEGIN; INSERT INTO items SELECT g, repeat('x', 50) FROM generate_series(2, 5000) g;"
            " UPDATE others SET note = 'last'; COMMIT"
        )
        daemon.wait_for(blocked(databases.target), "the last piece is blocked")
        assert rows(databases.target, "items") == ["(1,one)"]
        assert confirmed(begun) <= before
        daemon.kill9()
    synced(begun)
    assert_equal(databases, "items", "others")


@pytest.mark.one_version
def test_A6_a_transaction_whose_changes_share_positions_is_resumed_whole(
    databases: Databases, workspace: Workspace
) -> None:
    """One COPY of a thousand rows (few LSNs for many rows), killed at row 500: every row once after the restart."""
    both(databases, "CREATE TABLE loads (n int); ")
    databases.target.execute("CREATE UNIQUE INDEX ON loads (n)")
    databases.publish(append=["loads"])
    workspace.write("version: 1\nschemas: {public: public}\ntables:\n  public.loads: {append_only: true}\n")
    daemon = streaming(workspace)
    with databases.target.connect(autocommit=False) as rival:
        rival.execute("INSERT INTO loads VALUES (500)")  # not committed: whoever inserts 500 waits
        with databases.source.connect() as source, source.cursor().copy("COPY loads FROM STDIN") as copy:
            copy.write("".join(f"{n}\n" for n in range(1000)))
        daemon.wait_for(blocked(databases.target), "row 500 is waited for")
        daemon.kill9()
        rival.rollback()
    synced(workspace)
    assert_equal(databases, "loads")
    assert len(rows(databases.target, "loads")) == 1000


def test_A7_slot_advanced_behind_our_back(begun: Workspace, databases: Databases) -> None:
    """Somebody moved the slot past what the target has: a gap. Refused, with both positions, and nothing is changed."""
    synced(begun)
    durable = databases.target.value("SELECT end_lsn::text FROM crossfade.progress")
    databases.source.execute("INSERT INTO items VALUES (2, 'lost')")
    databases.source.execute("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", [begun.slot])
    moved_to = databases.source.value(
        "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = %s", [begun.slot]
    )
    daemon = synced(begun, code=3)
    for part in (begun.slot, durable, moved_to, "crossfade teardown", "empty the target tables"):
        assert part in daemon.text()
    assert databases.target.value("SELECT end_lsn::text FROM crossfade.progress") == durable
    assert rows(databases.target, "items") == ["(1,one)"]
    # Said again at each start, and by status without a daemon: nobody streams on over the hole.
    databases.source.execute("INSERT INTO items VALUES (3, 'after the gap')")
    synced(begun, code=3)
    assert rows(databases.target, "items") == ["(1,one)"]


def test_A8_a_source_that_crashed_sends_again_what_it_forgot_we_have(postgres: Versions, tmp_path: Path) -> None:
    """The slot's position is saved at checkpoints only; after a crash it is behind ours, and nothing comes twice."""
    with crashable(postgres, tmp_path) as workspace:
        databases = workspace.databases
        databases.prepare("CREATE TABLE loads (n int)", "CREATE TABLE loads (n int)")
        databases.publish(append=["loads"])
        workspace.write("version: 1\nschemas: {public: public}\ntables:\n  public.loads: {append_only: true}\n")
        daemon = streaming(workspace)
        databases.source.execute("CHECKPOINT")
        for n in range(20):
            databases.source.execute("INSERT INTO loads VALUES (%s)", [n])
        daemon.wait_until_caught_up()
        durable = databases.durable()
        assert durable is not None
        daemon.wait_for(lambda: confirmed(workspace) >= durable, "acknowledged")
        daemon.signal(signal.SIGSTOP)  # or it may be back, and acknowledge again, before anybody has looked
        databases.source.server.kill()
        databases.source.server.start()
        assert confirmed(workspace) < durable, "the crash took nothing back: this test proves nothing"
        daemon.signal(signal.SIGCONT)
        databases.source.execute("INSERT INTO loads VALUES (99)")
        daemon.wait_until_caught_up()
        assert_equal(databases, "loads")
        assert daemon.terminate() == 0


@pytest.mark.one_version
def test_A10_a_long_lock_on_the_target_costs_no_reconnect(begun: Workspace, databases: Databases) -> None:
    """The apply waits longer than wal_sender_timeout, more waits than we take in: status goes on being sent."""
    databases.source.execute(f"ALTER ROLE {ROLE} SET wal_sender_timeout = '1s'")
    # A full pipe is not read from, so that the server's own requests for a status are not seen either.
    begun.write(extra='[stream]\nbatch_bytes = "64 KiB"\npipe_bytes = "128 KiB"\n')
    daemon = streaming(begun)
    daemon.wait_until_caught_up()
    sender = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s"
    first = databases.source.value(sender, [begun.slot])
    with locked(databases.target, "items"):
        with databases.source.connect() as source:
            for n in range(2, 22):
                source.execute("INSERT INTO items SELECT %s * 1000 + g, 'much' FROM generate_series(1, 300) g", [n])
        daemon.wait_for(blocked(databases.target), "the apply is blocked")
        since = databases.source.value("SELECT clock_timestamp()")
        daemon.wait_for(
            lambda: databases.source.value("SELECT clock_timestamp() > %s + interval '3 s'", [since]),
            "three times the server's patience",
        )
    daemon.wait_until_caught_up()
    assert databases.source.value(sender, [begun.slot]) == first
    assert_equal(databases, "items")
    assert daemon.terminate() == 0


@pytest.mark.one_version
def test_A13_a_target_that_commits_carelessly_loses_nothing_acknowledged(postgres: Versions, tmp_path: Path) -> None:
    """Our role has synchronous_commit = off on the target, which crashes right after the acknowledgement."""
    # The WAL writer sleeps, so that an asynchronous commit would surely be lost with the crash.
    with crashable(postgres, tmp_path, target={"wal_writer_delay": "10s"}) as workspace:
        databases = workspace.databases
        both(databases)
        databases.publish("items")
        for role in (ROLE, REPLICA_ROLE):
            databases.target.execute(f"ALTER ROLE {role} SET synchronous_commit = off")
        workspace.write()
        daemon = streaming(workspace)
        databases.source.execute("INSERT INTO items VALUES (1, 'one')")
        past = written(databases.source)
        daemon.wait_for(lambda: confirmed(workspace) >= past - 64, "acknowledged")
        databases.target.server.kill()
        databases.target.server.start()
        assert rows(databases.target, "items") == ["(1,one)"]
        durable = databases.durable()
        assert durable is not None
        assert durable >= confirmed(workspace)
        databases.source.execute("INSERT INTO items VALUES (2, 'two')")
        daemon.wait_until_caught_up()
        assert_equal(databases, "items")
        assert daemon.terminate() == 0


def test_A19_transactions_of_other_tables_cost_the_target_nothing(begun: Workspace, databases: Databases) -> None:
    """Hundreds of transactions that touch no published table move the position in memory, not in the target."""
    databases.source.execute("CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.nobody (id int)")
    daemon = streaming(begun)
    daemon.wait_until_caught_up()
    with databases.target.connect() as target, databases.source.connect() as source:
        epoch = _writes(target)
        for n in range(300):
            source.execute("INSERT INTO elsewhere.nobody VALUES (%s)", [n])
        daemon.wait_until_caught_up()
        assert _writes(target) - epoch < 30
    assert daemon.terminate() == 0


def _writes(target: psycopg.Connection[tuple[object, ...]]) -> int:
    """How often the position was written: transactions of the target so far."""
    row = target.execute("SELECT txid_current()").fetchone()
    assert row is not None
    return int(str(row[0]))


@pytest.mark.one_version
def test_A20_transactions_are_ordered_by_commit_not_by_their_first_change(
    begun: Workspace, databases: Databases
) -> None:
    """Two sessions interleave and commit the other way round; the last to commit wins on both sides."""
    synced(begun)
    with databases.source.connect(autocommit=False) as early, databases.source.connect(autocommit=False) as late:
        early.execute("INSERT INTO others VALUES (10, 'written first, committed last')")
        late.execute("UPDATE items SET note = 'by late' WHERE id = 1")
        late.execute("INSERT INTO others VALUES (11, 'written second, committed first')")
        late.commit()
        early.execute("UPDATE items SET note = 'by early' WHERE id = 1")
        early.commit()
    synced(begun)
    assert rows(databases.target, "items") == ['(1,"by early")']
    assert_equal(databases, "items", "others")
