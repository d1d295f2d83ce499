"""A small launcher for PostgreSQL servers, used by the demonstration and by the tests.

`with Server(embedded()) as server:` makes a server with a data directory of its own, on a free port of 127.0.0.1, set
up for logical replication, with a random password for its superuser. Works as root (the server drops to an unprivileged
account) and as anybody else. Refuses to know what is stored in a server. The invariant: no server outlives the process
that started it, however that ends, unless `detach()` was called - a watcher holds a pipe of ours and stops the server
when it closes, and what even the watcher missed is swept away by the next start.

PostgreSQL: server-shutdown, storage-file-layout ("postmaster.pid").
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Literal, Self

from psycopg.conninfo import make_conninfo

from crossfade.demo.binaries import (
    ENVIRONMENT,
    Account,
    Binaries,
    ServerFailed,
    account,
    embedded,
    find_binaries,
    run_as,
    runnable,
    shared_folder,
)

__all__ = ["Binaries", "Mode", "Server", "ServerFailed", "embedded", "find_binaries", "start_together"]

Mode = Literal["smart", "fast", "immediate"]

SUPERUSER: Final = "postgres"
_SIGNALS: Final[Mapping[Mode, signal.Signals]] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}
_START_SECONDS: Final = 60.0  # crash recovery of a loaded server included
_STOP_SECONDS: Final = 60.0
_TICK: Final = 0.02

_SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "wal_level": "logical",
    "max_wal_senders": "20",
    "max_replication_slots": "20",
    "max_connections": "100",
    "max_prepared_transactions": "10",
    "shared_buffers": "32MB",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "15min",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] %q%u@%d %a ",
    "log_timezone": "UTC",
    "timezone": "UTC",
    "jit": "off",
}
# Only for servers that nobody crashes: what these lose in a crash, tests of crashes are about.
_CARELESS: Final[Mapping[str, str]] = {"fsync": "off", "full_page_writes": "off", "wal_sync_method": "fdatasync"}

_DETACHED: Final[list[subprocess.Popen[bytes]]] = []

# Started beside each server with the read end of a pipe as its standard input. The read ends when we end, by whatever
# cause; kill -9 included. ($1 is the postmaster, $2 the folder to remove afterwards or nothing.)
_WATCHER: Final = """
read -r _
if [ -n "$2" ]; then kill -QUIT "$1"; else kill -INT "$1"; fi
n=0
while kill -0 "$1" && [ -e "/proc/$1/exe" ] && [ "$n" -lt 300 ]; do  # nobody may reap a dead orphan: no exe then
  n=$((n + 1))
  if [ "$n" -eq 200 ]; then kill -QUIT "$1"; fi
  if [ "$n" -eq 250 ]; then kill -KILL "$1"; fi
  sleep 0.1
done
if [ -n "$2" ]; then rm -rf -- "$2"; fi
"""


class Server:
    """One PostgreSQL server of our own. Not thread-safe; two servers may be driven from two threads.

    `directory` (made when absent) keeps the data for a later run; without it everything is temporary, in a new folder
    under `base` (TMPDIR when not given), and `close()` removes it. `fsync=False` is quicker and only for servers that
    nobody crashes. `settings` go into postgresql.conf over ours. Nothing happens before `start()` or `with`;
    every failure is a `ServerFailed` with the log's end.
    """

    def __init__(
        self,
        binaries: Binaries,
        *,
        name: str = "server",
        directory: Path | None = None,
        base: Path | None = None,
        fsync: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.binaries = binaries
        self.name = name
        self.password = ""
        self.port = 0
        self._given = directory
        self._base = base
        self._settings: dict[str, str] = {**_SETTINGS, **({} if fsync else _CARELESS), **(settings or {})}
        self._home: Path | None = None
        self._bindir: Path | None = None
        self._who: Account | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._owner: IO[bytes] | None = None

    # -- what it is

    def __str__(self) -> str:
        return f"{self.name} ({self.binaries}, port {self.port})"

    @property
    def home(self) -> Path:
        """The folder of everything this server has."""
        if self._home is None:
            raise ServerFailed("The server was never started.", where=self.name)
        return self._home

    @property
    def data(self) -> Path:
        """PGDATA."""
        return self.home / "data"

    @property
    def log(self) -> Path:
        """The server's log, from its first start on."""
        return self.home / "server.log"

    @property
    def pid(self) -> int:
        """The postmaster's process id; 0 when it does not run."""
        return self._process.pid if self.running and self._process else 0

    @property
    def running(self) -> bool:
        """Whether the postmaster is alive."""
        return self._process is not None and self._process.poll() is None

    def dsn(self, dbname: str = "postgres", user: str = SUPERUSER, password: str | None = None) -> str:
        """A connection string over TCP; the superuser's password is put in by itself."""
        if password is None and user == SUPERUSER:
            password = self.password
        return make_conninfo(
            "", host="127.0.0.1", port=self.port, dbname=dbname, user=user, password=password, sslmode="disable"
        )

    # -- what it does

    def start(self) -> Self:
        """Make the data directory if there is none, start the server, return once it takes connections."""
        if self.running:
            return self
        self._initialise()
        told = self.port != 0  # clients may know the port from an earlier start: it is kept
        for attempt in range(5):
            if not told:
                self.port = _free_port()
            self._write_settings()
            refusal = self._launch()
            if refusal is None:
                break
            # Somebody took the port between our look and the server's: another one may help.
            if told or attempt == 4 or "could not bind" not in refusal:
                raise ServerFailed("The PostgreSQL server did not start.", where=f"{self}, {self.log}", means=refusal)
        return self

    def stop(self, mode: Mode = "fast") -> None:
        """Stop and wait until it is gone; `immediate` crashes it, as `pg_ctl -m immediate` does."""
        process = self._process
        if process is None:
            return
        self._dismiss_watcher()
        children = _children(process.pid)
        if process.poll() is None:
            process.send_signal(_SIGNALS[mode])
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                _await_gone(children)
        self._process = None

    def restart(self, mode: Mode = "fast") -> None:
        """Stop, and start on the same port."""
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """`kill -9` of the postmaster: returns once its orphans are gone too, so that it can start again."""
        process = self._process
        if process is None:
            return
        self._dismiss_watcher()
        children = _children(process.pid)
        process.kill()
        process.wait()
        _await_gone(children)
        self._process = None

    def configure(self, settings: Mapping[str, str]) -> None:
        """Change settings; those that need a restart take effect at the next one, the others now."""
        self._settings.update(settings)
        if self._home is not None:
            self._write_settings()
        if self.running and self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def log_tail(self, lines: int = 30) -> str:
        """The log's last lines, for a failure's text."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"

    def detach(self) -> None:
        """Let the server and its data outlive this process; from now on somebody else must stop it (by `pid`)."""
        self._dismiss_watcher()
        if self._process is not None:
            _DETACHED.append(self._process)  # kept, or its collection would complain that it still runs
        atexit.unregister(self.close)
        if self._owner is not None:
            (self.home / "owner").unlink(missing_ok=True)
            self._owner.close()
            self._owner = None

    def close(self) -> None:
        """Stop, and remove what is temporary. May be called twice."""
        self.stop("fast" if self._given is not None else "immediate")
        atexit.unregister(self.close)
        if self._owner is not None:
            self._owner.close()
            self._owner = None
        if self._given is None and self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- how

    def _initialise(self) -> None:
        if self._home is not None:
            return
        self._who = account()
        self._bindir = runnable(self.binaries, self._who)
        if self._given is None:
            base = self._base or shared_folder(self._who)
            _sweep(base)
            self._home = Path(tempfile.mkdtemp(prefix=f"crossfade-server-{self.name}-", dir=base))
            # Locked as long as we live, whatever ends us; renamed when locked, so that nobody finds it unlocked.
            self._owner = (self._home / "owner.new").open("wb")
            fcntl.flock(self._owner, fcntl.LOCK_EX)
            (self._home / "owner.new").rename(self._home / "owner")
        else:
            self._home = self._given.resolve()
            self._home.mkdir(parents=True, exist_ok=True)
        atexit.register(self.close)
        self._home.chmod(0o711)
        if (self.data / "PG_VERSION").exists():
            self.password = (self._home / "password").read_text()
            return
        self.password = secrets.token_urlsafe(24)
        self.data.mkdir(mode=0o700, exist_ok=True)
        secret = self._home / "password"
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        if self._who is not None:
            os.chown(self.data, self._who.uid, self._who.gid)
            os.chown(secret, self._who.uid, self._who.gid)
        self._run_initdb(secret)

    def _run_initdb(self, secret: Path) -> None:
        answer = run_as(
            [
                str(self._program("initdb")),
                f"--pgdata={self.data}",
                f"--username={SUPERUSER}",
                f"--pwfile={secret}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
                "--no-instructions" if self.binaries.version_major >= 14 else "--no-sync",
            ],
            self._who,
            cwd=self.home,
        )
        if answer.returncode != 0:
            raise ServerFailed(
                "initdb failed.", where=f"{self.binaries}, {self.data}", means=answer.stderr.strip()[-2000:]
            )
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.write("\ninclude 'crossfade.conf'\n")

    def _program(self, name: str) -> Path:
        assert self._bindir is not None  # _initialise came first
        return self._bindir / name

    def _write_settings(self) -> None:
        lines = [f"port = {self.port}"]
        lines += [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'" for name, value in self._settings.items()]
        conf = self.data / "crossfade.conf"
        conf.write_text("\n".join(lines) + "\n")
        conf.chmod(0o644)

    def _launch(self) -> str | None:
        """Start the postmaster as our child. Returns None once it is ready, else the end of its log."""
        began = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603
                [str(self._program("postgres")), "-D", str(self.data)],
                cwd=self.home,
                env=dict(ENVIRONMENT),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in a terminal is for us; we stop the server in our own order
                user=self._who.uid if self._who else None,
                group=self._who.gid if self._who else None,
                extra_groups=[] if self._who else None,
            )
        self._process = process
        self._watcher = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", _WATCHER, "crossfade-watcher", str(process.pid), "" if self._given else str(self.home)],
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            if self._is_ready(process.pid):
                return None
            time.sleep(_TICK)
        alive = process.poll() is None
        self._dismiss_watcher()
        if alive:
            process.kill()
            process.wait()
        self._process = None
        text = self.log.read_bytes()[began:].decode("utf-8", "replace").strip()
        return f"Not ready after {_START_SECONDS:.0f} s. {text}" if alive else text[-2000:] or "It left no log."

    def _is_ready(self, pid: int) -> bool:
        # What `pg_ctl -w` looks at: the first line is the postmaster, the eighth its state.
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"

    def _dismiss_watcher(self) -> None:
        if (watcher := self._watcher) is None:
            return
        self._watcher = None
        watcher.kill()  # before its pipe closes, which is its order to act
        watcher.wait()
        if watcher.stdin is not None:
            watcher.stdin.close()


def start_together(*servers: Server) -> None:
    """Start several at once; each waits for its own initdb, on a second core if there is one."""
    with ThreadPoolExecutor(max_workers=len(servers)) as pool:
        for started in [pool.submit(server.start) for server in servers]:
            started.result()


def _free_port() -> int:
    """A port nobody listens on, below the range the kernel hands out to clients.

    Inside that range another program's outgoing connection could take it while our server restarts, and a client that
    keeps trying to connect would at some point be connected to itself.
    """
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        first = 32768
    ports = range(15000, first) if first > 16000 else range(50000, 65000)
    for _ in range(200):
        port = random.SystemRandom().choice(ports)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise ServerFailed("No free port was found on 127.0.0.1.", where=f"ports {ports.start} to {ports.stop - 1}")


# -- processes, as /proc tells of them: (pid, start time), which no later process shares


def _processes() -> Iterator[tuple[int, int, int, str]]:
    """(pid, parent, start time, state) of everything that runs."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # The name, in parentheses, may hold spaces and parentheses of its own.
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                yield int(entry.name), int(fields[1]), int(fields[19]), fields[0]


def _children(pid: int) -> set[tuple[int, int]]:
    return {(child, began) for child, parent, began, _ in _processes() if parent == pid}


def _await_gone(known: set[tuple[int, int]]) -> None:
    """Orphans of a killed postmaster end by themselves, at the next wait; those that compute are helped along."""
    for sign in (None, signal.SIGQUIT, signal.SIGKILL):
        deadline = time.monotonic() + 5.0
        while alive := {pid for pid, _, began, state in _processes() if (pid, began) in known and state not in "ZX"}:
            if sign is not None:
                for pid in alive:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, sign)
            if time.monotonic() > deadline:
                break
            time.sleep(_TICK)
        if not alive:
            return


def _sweep(base: Path) -> None:
    """Remove servers whose owner ended without `close()` and whose watcher was killed as well."""
    for home in base.glob("crossfade-server-*"):
        with contextlib.suppress(OSError):
            if home.lstat().st_uid != os.geteuid() or home.is_symlink():
                continue
            with (home / "owner").open("rb") as owner:  # absent: being made, or detached
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while its owner lives
                lines = (home / "data" / "postmaster.pid").read_text().splitlines() if _has_pidfile(home) else []
                if lines and Path(f"/proc/{lines[0].strip()}/cwd").resolve() == (home / "data").resolve():
                    pid = int(lines[0])
                    known = {(one, began) for one, _, began, _ in _processes() if one == pid} | _children(pid)
                    os.kill(pid, signal.SIGQUIT)
                    _await_gone(known)
                shutil.rmtree(home, ignore_errors=True)


def _has_pidfile(home: Path) -> bool:
    return (home / "data" / "postmaster.pid").exists()
