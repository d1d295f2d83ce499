"""The launcher of demo/servers: servers come up, go down, come back and never stay behind."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from crossfade.demo.binaries import Binaries, account, runnable
from crossfade.demo.servers import Mode, Server, ServerFailed, find_binaries, start_together
from tests.servers.clusters import Versions, choose, memory
from tests.servers.daemon import environment
from tests.servers.databases import Databases

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


# The launcher is the same for every version, so most of this runs on the first one only.
FIRST = choose().versions[:1]


@pytest.fixture
def binaries() -> Binaries:
    return FIRST[0].source


@pytest.fixture
def server(binaries: Binaries) -> Iterator[Server]:
    """One not started, closed afterwards."""
    server = Server(binaries, name="launcher", base=memory())
    yield server
    server.close()


def _value(server: Server, query: str) -> object:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        row = connection.execute(query).fetchone()  # type: ignore[arg-type]
        assert row is not None
        return row[0]


def _await(reached: Callable[[], bool], what: str, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_server_is_fit_for_logical_replication(postgres: Versions, make_server: Callable[..., Server]) -> None:
    server = make_server("source")
    assert server.binaries == postgres.source
    assert _value(server, "SHOW wal_level") == "logical"
    assert _value(server, "SHOW listen_addresses") == "127.0.0.1"
    assert _value(server, "SHOW unix_socket_directories") == ""
    assert _value(server, "SHOW fsync") == "on"
    assert str(_value(server, "SHOW server_version")).startswith(server.binaries.version_text)


def test_a_server_and_its_secrets(server: Server) -> None:
    server.start()
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert not first <= server.port <= last, "the kernel hands such ports to clients"
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.dsn(password="guess"))
    assert server.password not in server.log.read_text()
    assert (server.home / "password").stat().st_mode & 0o077 == 0


def test_rows_and_port_survive_every_kind_of_stop(server: Server) -> None:
    server.start()
    port = server.port
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS id")
    modes: tuple[Mode, ...] = ("smart", "fast", "immediate")
    for mode in modes:
        pid, read = server.pid, server.log.stat().st_size
        server.restart(mode)
        assert _value(server, "SELECT id FROM kept") == 1
        assert server.port == port
        assert server.pid != pid
        recovered = "database system was not properly shut down" in server.log.read_text()[read:]
        assert recovered == (mode == "immediate")


def test_rows_survive_kill_9(server: Server) -> None:
    server.start()
    with psycopg.connect(server.dsn(), autocommit=True) as connection:  # a backend that must end with its postmaster
        connection.execute("CREATE TABLE t AS SELECT 1 AS id")
        backend = connection.info.backend_pid
        server.kill()
        assert not server.running
        assert not _alive(backend)
    server.start()
    assert _value(server, "SELECT id FROM t") == 1
    assert "database system was not properly shut down" in server.log.read_text()


def test_closing_leaves_nothing(server: Server) -> None:
    server.start()
    pid, home = server.pid, server.home
    server.close()
    assert not _alive(pid)
    assert not home.exists()
    server.close()


def test_a_given_directory_is_kept_and_used_again(binaries: Binaries) -> None:
    # Not pytest's own folder: when root drops to another account, that one cannot enter it.
    with tempfile.TemporaryDirectory(prefix="crossfade-test-") as folder:
        Path(folder).chmod(0o711)
        with Server(binaries, directory=Path(folder) / "kept") as first:
            with psycopg.connect(first.dsn(), autocommit=True) as connection:
                connection.execute("CREATE TABLE t AS SELECT 1 AS id")
            password = first.password
        assert not first.running
        with Server(binaries, directory=Path(folder) / "kept") as second:
            assert second.password == password
            assert _value(second, "SELECT id FROM t") == 1


def test_settings_change_while_it_runs(server: Server) -> None:
    server.start()
    server.configure({"wal_sender_timeout": "5s", "application_name": "it's quoted"})
    _await(lambda: _value(server, "SHOW wal_sender_timeout") == "5s", "wal_sender_timeout was not taken")
    assert "it\\'s quoted" in (server.data / "crossfade.conf").read_text().replace("''", "\\'")


def test_a_server_that_cannot_start_says_why(server: Server) -> None:
    server.start()
    server.stop()
    server.configure({"shared_buffers": "no number"})
    with pytest.raises(ServerFailed) as failure:
        server.start()
    assert "shared_buffers" in str(failure.value)
    assert str(server.log) in str(failure.value)
    assert not server.running


def test_two_start_together_and_are_two(binaries: Binaries) -> None:
    first, second = (Server(binaries, name=name, base=memory()) for name in ("source", "target"))
    try:
        start_together(first, second)
        identifier = "SELECT system_identifier::text FROM pg_control_system()"
        assert _value(first, identifier) != _value(second, identifier)
        assert first.port != second.port
    finally:
        first.close()
        second.close()


# -- whoever starts a server may die in any way

OWNER = """
    import os, signal, sys
    from pathlib import Path
    from crossfade.demo.servers import Server, find_binaries
    chosen = next(each for each in find_binaries() if str(each.bindir) == sys.argv[1])
    server = Server(chosen, name="orphan", base=Path(sys.argv[2]) if sys.argv[2] else None).start()
    print(server.pid, server.home, server._watcher.pid, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def owner(binaries: Binaries) -> Iterator[tuple[subprocess.Popen[str], int, Path, int]]:
    """A process that owns a server: itself, the postmaster, the folder, the watcher."""
    if binaries.origin == "npm":
        pytest.skip("the orphan's process looks for installed servers only")
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER), str(binaries.bindir), str(memory() or "")],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        pid, home, watcher = process.stdout.readline().split()
        yield process, int(pid), Path(home), int(watcher)
        process.kill()


@pytest.mark.parametrize("end", ["exit", "SIGTERM", "SIGINT", "SIGKILL"])
def test_no_server_outlives_its_owner(owner: tuple[subprocess.Popen[str], int, Path, int], end: str) -> None:
    process, pid, home, _ = owner
    assert _alive(pid)
    if end == "exit":
        process.communicate("\n", timeout=30)
    else:
        process.send_signal(signal.Signals[end])
        process.wait(30)
    _await(lambda: not _alive(pid), f"the postmaster lives on after {end}")
    _await(lambda: not home.exists(), f"{home} is still there after {end}")


def test_what_even_the_watcher_missed_is_swept_away_by_the_next(
    owner: tuple[subprocess.Popen[str], int, Path, int], server: Server
) -> None:
    process, pid, home, watcher = owner
    os.kill(watcher, signal.SIGKILL)
    process.kill()
    process.wait()
    assert _alive(pid)
    server.start()
    assert not _alive(pid)
    assert not home.exists()
    assert server.running


def test_the_sweep_leaves_the_living_alone(owner: tuple[subprocess.Popen[str], int, Path, int], server: Server) -> None:
    _, pid, home, _ = owner
    server.start()
    assert _alive(pid)
    assert home.exists()


def test_a_detached_server_stays(binaries: Binaries) -> None:
    server = Server(binaries, name="detached", base=memory()).start()
    pid, home = server.pid, server.home
    server.detach()
    with Server(binaries, name="next", base=memory()):
        assert _alive(pid)
        assert _value(server, "SELECT 1") == 1
    server.close()
    assert not _alive(pid)
    assert not home.exists()


# -- root and not root


@root_only
def test_as_root_the_server_is_somebody_else(server: Server) -> None:
    who = account()
    assert who is not None
    assert who.uid != 0
    server.start()
    assert Path(f"/proc/{server.pid}").stat().st_uid == who.uid
    groups = Path(f"/proc/{server.pid}/status").read_text().split("Groups:")[1].splitlines()[0].split()
    assert "0" not in groups


@root_only
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_as_an_ordinary_user_it_is_ourselves(binaries: Binaries) -> None:
    nobody = pwd.getpwnam("nobody")
    reachable = Binaries(binaries.version_major, binaries.version_text, runnable(binaries, account()), binaries.origin)
    child = os.fork()
    if child == 0:  # never returns: it is a copy of pytest
        code = 1
        try:
            os.setgroups([])
            os.setresgid(nobody.pw_gid, nobody.pw_gid, nobody.pw_gid)
            os.setresuid(nobody.pw_uid, nobody.pw_uid, nobody.pw_uid)
            os.chdir("/")
            with Server(reachable, name="ordinary", base=memory()) as server:
                code = 0 if Path(f"/proc/{server.pid}").stat().st_uid == nobody.pw_uid else 2
                code = code if _value(server, "SELECT 1") == 1 else 3
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@root_only
def test_binaries_nobody_else_can_read_are_copied_once(binaries: Binaries, monkeypatch: pytest.MonkeyPatch) -> None:
    if binaries.origin == "system":
        pytest.skip("the system's binaries can be read by everybody")
    with tempfile.TemporaryDirectory(prefix="crossfade-test-") as cache, tempfile.TemporaryDirectory() as hidden:
        Path(cache).chmod(0o755)
        monkeypatch.setattr(tempfile, "tempdir", cache)
        package = binaries.bindir.parents[1]
        for folder in (package, package.with_name(f"{package.name}.libs")):
            if folder.exists():
                subprocess.run(["cp", "-a", str(folder), hidden], check=True)
        theirs = Binaries(
            binaries.version_major,
            binaries.version_text,
            Path(hidden, package.name, *binaries.bindir.parts[-2:]),
            binaries.origin,
        )
        place = runnable(theirs, account())
        assert place.is_relative_to(cache)
        assert runnable(theirs, account()) == place
        with Server(theirs, name="copied", base=memory()) as server:
            assert _value(server, "SELECT 1") == 1


@root_only
def test_nothing_is_run_from_a_folder_somebody_else_made(binaries: Binaries, monkeypatch: pytest.MonkeyPatch) -> None:
    if binaries.origin == "system":
        pytest.skip("the system's binaries can be read by everybody")
    with tempfile.TemporaryDirectory(prefix="crossfade-test-") as cache, tempfile.TemporaryDirectory() as hidden:
        Path(cache).chmod(0o755)
        monkeypatch.setattr(tempfile, "tempdir", cache)
        subprocess.run(["cp", "-a", str(binaries.bindir.parents[1]), hidden], check=True)
        libs = binaries.bindir.parents[1].with_name(f"{binaries.bindir.parents[1].name}.libs")
        if libs.exists():
            subprocess.run(["cp", "-a", str(libs), hidden], check=True)
        bindir = Path(hidden, *binaries.bindir.parts[-3:])
        theirs = Binaries(binaries.version_major, binaries.version_text, bindir, binaries.origin)
        home = runnable(theirs, account()).relative_to(cache).parts[0]
        os.chown(Path(cache, home), pwd.getpwnam("nobody").pw_uid, -1)
        with pytest.raises(ServerFailed, match="not ours"):
            runnable(theirs, account())


def test_every_server_found_is_one_that_runs() -> None:
    found = find_binaries()
    assert "embedded" in {each.origin for each in found}
    for each in found:
        assert each.version_text.startswith(str(each.version_major))
        assert (each.bindir / "postgres").exists()


# -- what a test leaves behind


def test_what_a_test_leaves_does_not_stop_the_next(databases: Databases) -> None:
    source = databases.source
    source.execute("CREATE TABLE t (id int)")
    source.execute("SELECT pg_create_logical_replication_slot('left_behind_' || current_database(), 'pgoutput')")
    source.execute("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'left behind'")
    source.execute("ALTER ROLE crossfade SET statement_timeout = '1s'")
    databases.target.execute("SELECT pg_replication_origin_create('left behind')")
    left_open = source.connect(autocommit=False)
    left_open.execute("CREATE TABLE never_committed (id int)")
    # The fixture's own teardown is the test: it fails here, at the end of this test, if it cannot clean up; and
    # test_every_test_begins_clean would see what it missed.
    left_open.close()


def test_every_test_begins_clean(databases: Databases) -> None:
    for side in (databases.source, databases.target):
        assert side.execute("SELECT slot_name FROM pg_replication_slots") == []
        assert side.execute("SELECT gid FROM pg_prepared_xacts") == []
        assert side.execute("SELECT roname FROM pg_replication_origin") == []
        assert side.execute("SELECT rolname FROM pg_roles WHERE rolconfig IS NOT NULL") == []
        assert side.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []
