"""How the daemon behaves towards whoever runs it: signals, systemd, standby, reconnects, lag, discretion (cases K)."""

from __future__ import annotations

import json
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

from tests.integration.following import Followed, follow, prepared
from tests.integration.sides import ITEMS, assert_equal, blocked, confirmed, locked, synced
from tests.servers.clock import WrongClock
from tests.servers.clusters import Versions
from tests.servers.daemon import Daemon, Workspace, free_port
from tests.servers.databases import Databases, Side

# Nothing here depends on the server's version.
pytestmark = [pytest.mark.parametrize("replica_role", [True], ids=["replica"]), pytest.mark.one_version]

ROWS = "INSERT INTO items SELECT n, 'a note' FROM generate_series(1, 3) n;"
LOG = "CREATE TABLE log (line text);"
APPEND = "version: 1\nschemas: {public: public}\ntables:\n  public.log: {append_only: true}\n"


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
        text: str = response.read().decode()
        return text


def document(workspace: Workspace) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(get(workspace.port, "/api/v1/status"))
    return found


def waits(databases: Databases, daemon: Daemon) -> None:
    daemon.wait_for(blocked(databases.target, "crossfade %"), "it waits for somebody's lock")


# lag -----------------------------------------------------------------------------------------------------------------


def test_K1_lag_is_told_by_the_source_s_clock(workspace: Workspace, databases: Databases) -> None:
    """Idle is 0, also while the server writes for others; behind it grows by the source's clock; never negative."""
    followed = follow(workspace, source=ITEMS, rows=ROWS)
    daemon = followed.daemon
    daemon.wait_for(lambda: document(workspace)["lag_seconds"] == 0.0, "no lag")
    seen: set[str] = set()
    lags: list[float] = []

    def three_looks() -> bool:
        told = document(workspace)
        if told["at"][:19] not in seen:
            seen.add(told["at"][:19])
            lags.append(told["lag_seconds"])
            # WAL of which nothing concerns us.
            databases.source.execute("CREATE TABLE IF NOT EXISTS other (n int); INSERT INTO other VALUES (1)")
        return len(lags) >= 4

    daemon.wait_for(three_looks, "some looks at the clock")
    assert max(lags) < 2.0, lags
    assert min(lags) >= 0.0
    assert workspace.run("pause").returncode == 0
    began = databases.source.value("SELECT extract(epoch FROM clock_timestamp())::float")
    databases.source.execute("INSERT INTO items VALUES (100, 'late')")
    daemon.wait_for(lambda: document(workspace)["lag_seconds"] > 3.0, "the lag grows")
    told = document(workspace)
    elapsed = databases.source.value("SELECT extract(epoch FROM clock_timestamp())::float") - began
    assert told["lag_seconds"] <= elapsed + 2.5  # a sample before, a sample after
    assert told["lag_bytes"] > 0
    assert workspace.run("status", "--fail-if-lag-above", "1s").returncode == 3
    assert workspace.run("resume").returncode == 0
    daemon.wait_until_caught_up()
    daemon.wait_for(lambda: document(workspace)["lag_seconds"] == 0.0, "no lag again")
    assert workspace.run("status", "--fail-if-lag-above", "5s").returncode == 0


HOURS = 3 * 3600


def test_K1_a_wrong_clock_here_changes_no_lag(workspace: Workspace, databases: Databases, tmp_path: Path) -> None:
    """Our clock is hours ahead or behind, and is set while we run: no lag and no latency takes notice."""
    clock = WrongClock(tmp_path, HOURS)
    prepared(workspace, source=ITEMS)
    databases.source.execute(ROWS)
    daemon = workspace.daemon(env=clock.environment)
    daemon.wait_for_phase("streaming")
    followed = Followed(databases, workspace, daemon)
    for number, offset in enumerate((HOURS, -HOURS, 0)):
        clock.set(offset)
        daemon.wait_for(
            lambda offset=offset: abs(followed.metric("crossfade_clock_skew_seconds", endpoint="source") + offset) < 60,
            "the clock is wrong",
        )
        daemon.wait_for(lambda: document(workspace)["lag_seconds"] == 0.0, "no lag")
        assert workspace.run("pause").returncode == 0
        began = databases.source.value("SELECT extract(epoch FROM clock_timestamp())::float")
        databases.source.execute(f"INSERT INTO items VALUES ({100 + number}, 'late')")
        lags: list[float] = []

        def grows(lags: list[float] = lags) -> bool:
            lags.append(document(workspace)["lag_seconds"])
            return lags[-1] > 1.5

        daemon.wait_for(grows, "the lag grows")
        elapsed = databases.source.value("SELECT extract(epoch FROM clock_timestamp())::float") - began
        assert 0.0 <= min(lags) <= max(lags) <= elapsed + 2.5, lags
        clock.set(-offset)  # between two looks at the source's clock, more often than not
        followed.resume()
    count, total = (followed.metric(f"crossfade_end_to_end_latency_seconds_{part}") for part in ("count", "sum"))
    assert count >= 3
    assert 0.0 <= total < 60.0 * count
    assert followed.metric("crossfade_end_to_end_latency_seconds_bucket", le="60.0") == count
    followed.stop()


# failed, and going on ------------------------------------------------------------------------------------------------


def test_K2_failed_is_not_ready_and_goes_on_by_itself_or_on_resume(workspace: Workspace, databases: Databases) -> None:
    """503 with the reason while it cannot go on, 200 after; it tries by itself, less and less often, and on resume."""
    followed = follow(workspace, source=ITEMS, rows=ROWS)
    daemon = followed.daemon
    short = "ALTER TABLE items ADD CONSTRAINT short CHECK (length(note) < 10) NOT VALID"
    databases.target.execute(short)
    databases.source.execute("INSERT INTO items VALUES (100, 'longer than that')")
    assert "short" in followed.failure()
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(workspace.port, "/readyz")
    assert refused.value.code == 503
    assert "phase is failed" in refused.value.read().decode()
    refused.value.close()
    assert get(workspace.port, "/livez") == "ok\n"
    databases.target.execute("ALTER TABLE items DROP CONSTRAINT short")
    daemon.wait_until_caught_up()
    daemon.wait_for(lambda: document(workspace)["error"] is None, "mended by itself")
    assert get(workspace.port, "/readyz") == "ok\n"
    databases.target.execute(short)
    databases.source.execute("INSERT INTO items VALUES (101, 'longer than that')")

    def retries_rarely() -> bool:
        error = document(workspace)["error"]
        return error is not None and (error["retry_in_seconds"] or 0) > 4

    daemon.wait_for(retries_rarely, "a longer wait between tries", timeout=90)
    databases.target.execute("ALTER TABLE items DROP CONSTRAINT short")
    resumed = workspace.run("resume")
    assert (resumed.returncode, resumed.stdout) == (0, "resume: trying again now\n"), resumed.stderr
    daemon.wait_until_caught_up(timeout=10)
    followed.assert_equal("items")


def end_sessions(side: Side) -> int:
    """As an administrator does; how many of crossfade's there were."""
    return len(
        side.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name LIKE 'crossfade%'"
        )
    )


@pytest.mark.parametrize("endpoint", ["source", "target"])
def test_reconnects_with_backoff(workspace: Workspace, databases: Databases, postgres: Versions, endpoint: str) -> None:
    """A side that is away for a while is tried again, with growing waits; the status says so, nothing is lost."""
    if endpoint == "target" and postgres.target.version_major < 15:
        pytest.skip("before 15 a role with replica role is a superuser, whom no connection limit holds")
    followed = follow(workspace, source=ITEMS, rows=ROWS)
    side: Side = getattr(databases, endpoint)
    side.execute(f"ALTER DATABASE {side.dbname} CONNECTION LIMIT 0")
    assert end_sessions(side) >= 2
    databases.source.execute("INSERT INTO items VALUES (100, 'meanwhile')")

    def tries() -> list[float]:
        return [line["retry_in_seconds"] for line in followed.daemon.lines() if line.get("retry_in_seconds")]

    followed.daemon.wait_for(lambda: document(workspace)["error"] is not None, "it is told")
    error = document(workspace)["error"]
    assert error["is_transient"] is True
    assert endpoint in error["text"]
    followed.daemon.wait_for(lambda: (document(workspace)["error"] or {}).get("retry_in_seconds", 0) > 0.5, "growing")
    side.execute(f"ALTER DATABASE {side.dbname} CONNECTION LIMIT -1")
    followed.daemon.wait_until_caught_up()
    followed.assert_equal("items")
    assert min(tries()) >= 0.2
    assert "phase is failed" not in followed.daemon.text()


def test_a_standby_takes_over_within_30_seconds(workspace: Workspace, databases: Databases) -> None:
    """It waits, healthy, while another leads; when that one is killed, it leads and goes on from what is durable."""
    followed = follow(workspace, source=ITEMS, rows=ROWS)
    port = free_port()
    standby = workspace.daemon(env={"CROSSFADE_HTTP__LISTEN": f"127.0.0.1:{port}"})
    standby.wait_for_line("waiting as a standby")
    assert get(port, "/readyz") == "ok\n"
    assert json.loads(get(port, "/api/v1/status"))["leader"] is False
    followed.daemon.kill9()
    killed = time.monotonic()
    databases.source.execute("INSERT INTO items VALUES (100, 'after the kill')")
    standby.wait_until_caught_up(timeout=30)
    assert time.monotonic() - killed < 30
    assert json.loads(get(port, "/api/v1/status"))["leader"] is True
    followed.assert_equal("items")
    assert standby.terminate() == 0


def test_a_former_leader_stands_by_and_tells_nothing_of_the_stream(workspace: Workspace, databases: Databases) -> None:
    """Two show one leader; who was passed works again, as a standby, without an error and without a lag of before."""
    followed = follow(workspace, source=ITEMS, rows=ROWS)
    former = followed.daemon
    port = free_port()
    standby = workspace.daemon(env={"CROSSFADE_HTTP__LISTEN": f"127.0.0.1:{port}"})
    standby.wait_for_line("waiting as a standby")
    former.signal(signal.SIGSTOP)
    databases.target.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    standby.wait_for_line("phase is streaming")
    former.signal(signal.SIGCONT)
    former.wait_for_line("waiting as a standby")
    former.wait_for(lambda: followed.metric("crossfade_up") == 1, "standing by is work")
    assert followed.metric("crossfade_leader") == 0
    assert "crossfade_replication_lag_seconds{" not in get(workspace.port, "/metrics")
    assert "crossfade_slot_retained_wal_bytes{" not in get(workspace.port, "/metrics")
    told = document(workspace)
    assert (told["leader"], told["error"], told["alerts"]) == (False, None, [])
    assert 'crossfade_leader{workflow="shop"} 1.0' in get(port, "/metrics")
    assert "crossfade_replication_lag_seconds{" in get(port, "/metrics")
    databases.source.execute("INSERT INTO items VALUES (100, 'after the change')")
    standby.wait_until_caught_up()
    followed.assert_equal("items")
    assert standby.terminate() == 0
    former.wait_for(lambda: followed.metric("crossfade_leader") == 1, "it leads again")
    followed.stop()


# signals -------------------------------------------------------------------------------------------------------------


@contextmanager
def held(workspace: Workspace, *, deadline: str) -> Iterator[Followed]:
    """A daemon in the middle of a batch that somebody's lock on the target holds up."""
    followed = follow(
        workspace,
        APPEND,
        source=ITEMS + LOG,
        rows=ROWS,
        append=['"public"."log"'],
        extra=f'[stop]\ndeadline = "{deadline}"\n',
    )
    databases = followed.databases
    with locked(databases.target, "items"):
        databases.source.execute("INSERT INTO log VALUES ('once'); INSERT INTO items VALUES (100, 'held')")
        waits(databases, followed.daemon)
        yield followed


def goes_on(followed: Followed) -> None:
    """Started again, it loses nothing and repeats nothing."""
    followed.daemon.start().wait_until_caught_up()
    followed.assert_equal("items", "log")
    assert followed.databases.target.value("SELECT count(*) FROM log") == 1


def test_K3_sigterm_in_the_middle_of_a_batch_drains(workspace: Workspace, databases: Databases) -> None:
    """What is in flight is finished, committed and acknowledged; the log says what is durable; exit 0."""
    with held(workspace, deadline="60s") as followed:
        followed.daemon.signal(signal.SIGTERM)
        followed.daemon.wait_for_line("Told to stop: draining, for 60 s at most")
        assert followed.daemon.running
    assert followed.daemon.wait(30) == 0
    assert databases.target.value("SELECT count(*) FROM items WHERE id = 100") == 1
    assert confirmed(workspace) == databases.durable()
    assert "is durable" in followed.daemon.text()
    goes_on(followed)


def test_K3_sigterm_gives_up_at_its_deadline(workspace: Workspace, databases: Databases) -> None:
    """Past the deadline the batch is dropped, and read again at the next start; exit 0 all the same."""
    with held(workspace, deadline="500ms") as followed:
        started = time.monotonic()
        assert followed.daemon.terminate() == 0
        assert time.monotonic() - started < 10
        assert "is durable" in followed.daemon.text()
    assert databases.target.value("SELECT count(*) FROM items WHERE id = 100") == 0
    goes_on(followed)


def test_K3_a_second_sigterm_abandons_at_once(workspace: Workspace) -> None:
    with held(workspace, deadline="1m") as followed:
        followed.daemon.signal(signal.SIGTERM)
        followed.daemon.wait_for_line("Told to stop")
        assert followed.daemon.running
        started = time.monotonic()
        assert followed.daemon.terminate() == 0
        assert time.monotonic() - started < 10
    goes_on(followed)


def test_K3_kill_9_in_the_middle_of_a_batch(workspace: Workspace) -> None:
    with held(workspace, deadline="1m") as followed:
        followed.daemon.kill9()
    goes_on(followed)


def test_K3_sigterm_during_the_copy(workspace: Workspace, databases: Databases) -> None:
    """Parts in flight are abandoned at once, finished tables stay; exit 0; the next start copies the rest."""
    prepared(workspace, APPEND, source=ITEMS + LOG, append=['"public"."log"'])
    databases.source.execute(f"{ROWS} INSERT INTO log SELECT 'x' FROM generate_series(1, 50)")
    with locked(databases.target, "items"):
        daemon = workspace.daemon()
        waits(databases, daemon)
        daemon.wait_for(lambda: databases.target.value("SELECT count(*) FROM log") == 50, "the other table")
        started = time.monotonic()
        assert daemon.terminate() == 0
        assert time.monotonic() - started < 10
    copied = dict(databases.target.execute("SELECT source_name, state FROM crossfade.copy_tables"))
    assert copied == {"items": "pending", "log": "done"}
    synced(workspace)
    assert_equal(databases, "items", "log")


def test_K3_sigterm_while_waiting_to_try_again(workspace: Workspace, databases: Databases) -> None:
    """A daemon that backs off, or waits as a standby, ends at once as well."""
    followed = follow(workspace, source=ITEMS, rows=ROWS)
    standby = workspace.daemon(env={"CROSSFADE_HTTP__LISTEN": ""})
    standby.wait_for_line("waiting as a standby")
    assert standby.terminate(10) == 0
    databases.target.execute("ALTER TABLE items ADD CONSTRAINT short CHECK (length(note) < 10)")
    databases.source.execute("INSERT INTO items VALUES (100, 'longer than that')")
    followed.failure()
    assert followed.daemon.terminate(10) == 0


@pytest.mark.parametrize("endpoint", ["source", "target"])
def test_K3_signals_while_a_server_does_not_answer(workspace: Workspace, databases: Databases, endpoint: str) -> None:
    """A peer that takes the connection and says nothing: the second signal ends that wait, too."""
    prepared(workspace, source=ITEMS)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        side: Side = getattr(databases, endpoint)
        workspace.write(**{f"{endpoint}_dsn": make_conninfo(side.dsn, port=silent.getsockname()[1])})
        daemon = workspace.daemon()
        silent.settimeout(30)
        connected, _ = silent.accept()
        with connected:
            daemon.signal(signal.SIGTERM)
            daemon.wait_for_line("Told to stop")
            began = time.monotonic()
            assert daemon.terminate(8) == 0  # connect_timeout is 10 s
            assert time.monotonic() - began < 5


# systemd -------------------------------------------------------------------------------------------------------------


def test_systemd_hears_ready_watchdog_and_stopping(workspace: Workspace, databases: Databases, tmp_path: Path) -> None:
    """READY once the supervisor runs, WATCHDOG all the time, STOPPING when the drain begins; SIGHUP ends nothing."""
    prepared(workspace, source=ITEMS)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)

        def heard(wanted: str) -> str:
            while True:
                told = systemd.recv(4096).decode()
                if wanted in told.splitlines():
                    return told
                assert told.splitlines()[0] == "WATCHDOG=1", told

        daemon = workspace.daemon(env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"})
        heard("READY=1")
        daemon.wait_for_phase("streaming")
        daemon.signal(signal.SIGHUP)
        # A blocked target is no reason to be killed: the loop lives.
        with locked(databases.target, "items"):
            databases.source.execute("INSERT INTO items VALUES (1, 'held')")
            waits(databases, daemon)
            _drop_what_came(systemd)
            began = time.monotonic()
            for _ in range(5):
                heard("WATCHDOG=1")
            assert time.monotonic() - began < 5 * 0.4
            began = time.monotonic()
            daemon.signal(signal.SIGTERM)
            heard("STOPPING=1")
            assert time.monotonic() - began < 5  # long before the drain's deadline
            assert daemon.running
        assert daemon.wait(30) == 0
    assert databases.target.value("SELECT count(*) FROM items") == 1


def _drop_what_came(receiver: socket.socket) -> None:
    patience = receiver.gettimeout()
    receiver.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            receiver.recv(4096)
    receiver.settimeout(patience)


# pause ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("still_blocked", [False, True], ids=["between-pieces", "while-blocked"])
def test_pause_holds_a_large_transaction_back_and_releases_its_locks(
    workspace: Workspace, databases: Databases, still_blocked: bool
) -> None:
    """Half applied when the pause comes: it is taken back, holds no row or table, and is applied whole after resume.

    Also when it waits for somebody's lock at that moment, and for as long as that one is held.
    """
    followed = follow(
        workspace,
        source="CREATE TABLE first (id int PRIMARY KEY, pad text); CREATE TABLE second (id int PRIMARY KEY, pad text);",
        rows="INSERT INTO first VALUES (0, 'there')",
        extra="[stream]\nbatch_bytes = 8192\npipe_bytes = 16384\n",
    )
    daemon, target = followed.daemon, databases.target
    with locked(target, "second"):
        databases.source.execute(
            "BEGIN; UPDATE first SET pad = 'changed'; INSERT INTO first SELECT n, repeat('x', 100) FROM"
            " generate_series(1, 300) n; INSERT INTO second SELECT n, repeat('x', 100) FROM generate_series(1, 3000) n;"
            " COMMIT"
        )
        waits(databases, daemon)
        assert _locks(target) > 0
        assert workspace.run("pause").stdout == "pause: paused\n"
        if still_blocked:
            daemon.wait_for(lambda: _locks(target) == 0, "the locks are gone", timeout=30)
    daemon.wait_for(lambda: _locks(target) == 0, "the locks are gone")
    assert document(workspace)["paused"] == "operator"
    assert target.execute("SELECT id, pad FROM first FOR UPDATE NOWAIT") == [(0, "there")]
    assert target.value("SELECT count(*) FROM second") == 0
    assert workspace.run("resume").returncode == 0
    daemon.wait_until_caught_up()
    followed.assert_equal("first", "second")
    assert "phase is failed" not in daemon.text()


def _locks(target: Side) -> int:
    return int(
        target.value(
            "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE application_name LIKE 'crossfade %'"
            " AND relation IN ('first'::regclass, 'second'::regclass)"
        )
    )


# discretion ----------------------------------------------------------------------------------------------------------

SECRET = "tell-nobody"


def everything_told(followed: Followed) -> str:
    """All that leaves the daemon about an error."""
    workspace, target = followed.workspace, followed.databases.target
    return "\n".join(
        [
            followed.daemon.text(),
            get(workspace.port, "/metrics"),
            get(workspace.port, "/api/v1/status"),
            workspace.run("status", "--json").stdout,
            workspace.run("status").stdout,
            *map(str, target.execute("SELECT * FROM crossfade.workflows")),
            *map(str, target.execute("SELECT * FROM crossfade.control")),
        ]
    )


def test_K6_values_of_refused_rows_are_told_nowhere(workspace: Workspace, databases: Databases) -> None:
    """The server's DETAIL, primary message and CONTEXT hold the row; ours name constraint, table and position only."""
    followed = follow(
        workspace,
        source="CREATE TABLE items (id text PRIMARY KEY, note text); CREATE TABLE codes (id int PRIMARY KEY, n text);",
        target="CREATE TABLE items (id text PRIMARY KEY, note text, CONSTRAINT shape CHECK (note NOT LIKE '%nobody-3'),"
        " CONSTRAINT once UNIQUE (note)); CREATE TABLE codes (id int PRIMARY KEY, n int);",
        rows=f"INSERT INTO items VALUES ('a', '{SECRET}-1'); INSERT INTO codes VALUES (1, '1')",
        extra='[log]\nlevel = "debug"\n',
    )

    def assert_told(sqlstate: str, *words: str) -> None:
        said = followed.failure()
        for word in (sqlstate, *words):
            assert word in said, said
        assert SECRET not in everything_told(followed)

    databases.source.execute(f"INSERT INTO items VALUES ('{SECRET}', '{SECRET}-1')")
    assert_told("23505", "once", "public.items")
    databases.target.execute("ALTER TABLE items DROP CONSTRAINT once")
    followed.resume()
    databases.source.execute(f"UPDATE items SET note = '{SECRET}-3' WHERE id = 'a'")
    assert_told("23514", "shape", "public.items")
    databases.target.execute("ALTER TABLE items DROP CONSTRAINT shape")
    followed.resume()
    databases.source.execute(f"INSERT INTO codes VALUES (2, '{SECRET}')")
    assert_told("22P02", "public.codes")
    # The primary key: its value is in DETAIL, in the key of an UPDATE, and in what `status` shows of the position.
    assert followed.daemon.terminate() == 0
    assert SECRET not in followed.daemon.text()


@pytest.mark.parametrize("broken", ["cast", "unique"])
def test_K6_values_are_told_nowhere_during_the_copy(workspace: Workspace, databases: Databases, broken: str) -> None:
    """COPY's CONTEXT shows the line and the value; we say which table, and what kind of thing was wrong."""
    column = {"cast": "n int", "unique": "n text UNIQUE"}[broken]
    prepared(
        workspace,
        source="CREATE TABLE codes (id int PRIMARY KEY, n text);",
        target=f"CREATE TABLE codes (id int PRIMARY KEY, {column});",
        extra='[log]\nlevel = "debug"\n',
    )
    databases.source.execute(f"INSERT INTO codes VALUES (1, '{SECRET}'), (2, '{SECRET}')")
    daemon = workspace.daemon()
    followed = Followed(databases, workspace, daemon)
    said = followed.failure()
    assert {"cast": "22P02", "unique": "23505"}[broken] in said
    assert "public.codes" in said
    assert SECRET not in everything_told(followed)
