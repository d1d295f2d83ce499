"""The two servers all contenders share, fresh databases on them, and what is to be told of the machine.

Both servers have the same settings for everybody, fsync included; clients and servers talk over TCP on the loopback.
Refuses to know the contenders. The invariant: what one run leaves behind is gone before the next one begins.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

import psycopg
from psycopg import sql

import crossfade
from crossfade.demo.servers import Binaries, Server, find_binaries, start_together
from tests.bench.cpu import Cpu, sample
from tests.servers.clusters import Pair
from tests.servers.databases import REPLICA_ROLE, ROLE, Side, clean, make_roles

# What differs from the server's defaults, the same on both servers and for every contender.
SETTINGS: Final = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "16GB",  # no checkpoint but those made before each timing
    "min_wal_size": "4GB",  # segments are used again, instead of being made anew under somebody's clock
    "checkpoint_timeout": "1h",
    "autovacuum": "off",  # it would hit one contender and not the other
    "max_worker_processes": "24",
    "max_logical_replication_workers": "12",
    "wal_retrieve_retry_interval": "200ms",  # a native worker waits so long before it starts anew; nobody is timed then
}
_TOLD: Final = (*SETTINGS, "wal_level", "logical_decoding_work_mem", "wal_compression", "jit")


class NotMeasured(RuntimeError):
    """A contender did not get where it was waited for; no number comes of it."""


def choose() -> Binaries:
    """The system's newest server, else the embedded one. Raises `NotMeasured` when there is neither."""
    found = find_binaries()
    for origin in ("system", "embedded"):
        for binaries in found:
            if binaries.origin == origin:
                return binaries
    raise NotMeasured("No PostgreSQL server was found.")


class Ground:
    """Use as a context manager; `folder` is a temporary place for configurations and logs."""

    def __init__(self, *, with_pglogical: bool = True) -> None:
        self.binaries = choose()
        self.has_pglogical = with_pglogical and _has_library(self.binaries, "pglogical")
        settings = dict(SETTINGS)
        if self.has_pglogical:
            settings["shared_preload_libraries"] = "pglogical"
            settings["pglogical.synchronous_commit"] = "on"  # off by default: its commits would not wait for the disk
        self.source = Server(self.binaries, name="bench-source", settings=settings)
        self.target = Server(self.binaries, name="bench-target", settings=settings)
        self.pair = Pair(self.source, self.target)
        self.folder = Path()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crossfade-bench-")))
            stack.callback(self.pair.close)
            start_together(self.source, self.target)
            make_roles(self.pair)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def program(self, name: str) -> str | None:
        """A client program of the server's own version, else of the system's."""
        beside = self.binaries.bindir / name
        return str(beside) if os.access(beside, os.X_OK) else shutil.which(name)

    @contextlib.contextmanager
    def database(self, server: Server, name: str) -> Iterator[Side]:
        """A new database, dropped afterwards with its subscriptions and slots."""
        admin = self.pair.admin(server)
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        side = Side(server, name, REPLICA_ROLE if server is self.target else ROLE)
        try:
            yield side
        finally:
            _drop_subscriptions(side)
            if self.has_pglogical:
                _empty(side)
            else:
                clean(admin, name)

    def checkpoint(self) -> None:
        """Write all dirty pages, theirs and the system's, so that nobody pays for what was done before."""
        for server in (self.source, self.target):
            self.pair.admin(server).execute("CHECKPOINT")
        os.sync()

    def cpu(self, daemon: int | None) -> Cpu:
        """CPU seconds so far of both servers and of the daemon."""
        return sample(source=self.source.pid, daemon=daemon, target=self.target.pid)

    def client(self, arguments: Sequence[str], **environment: str) -> str:
        """Run a client program to its end; its standard output. Raises `NotMeasured` with its complaint."""
        done = subprocess.run(
            list(arguments),
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=3600,
            check=False,
        )
        if done.returncode != 0:
            raise NotMeasured(f"{Path(arguments[0]).name} ended with {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout

    def flush_ms(self) -> float:
        """The median of fifty 8 KiB writes with fdatasync, where the servers keep their data."""
        path = self.target.home / "flush"
        took: list[float] = []
        with path.open("wb") as file:
            for _ in range(50):
                file.write(bytes(8192))
                file.flush()
                began = time.perf_counter()
                os.fdatasync(file.fileno())
                took.append(time.perf_counter() - began)
        path.unlink()
        return round(statistics.median(took) * 1000, 3)

    def machine(self) -> dict[str, Any]:
        """What the numbers depend on. No names of machines, accounts or folders."""
        with psycopg.connect(self.target.dsn()) as session:
            settings = {
                str(name): str(value)
                for name, value in session.execute(
                    "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(%s) ORDER BY 1",
                    (list(_TOLD),),
                )
            }
        settings["subscription synchronous_commit"] = "on"
        settings["subscription binary"] = "true"
        if self.has_pglogical:
            settings["pglogical.synchronous_commit"] = "on"
        return {
            "cpu": _cpu_model(),
            "cores": os.cpu_count(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "kernel": f"{platform.system()} {platform.release()}",
            "fdatasync_ms": self.flush_ms(),
            "python": platform.python_version(),
            "postgresql": str(self.binaries),
            "crossfade": crossfade.__version__,
            "compiled": ", ".join(_compiled()) or "nothing: the codec runs as plain Python",
            "settings": settings,
        }


def wait_until(reached: Any, what: str, *, timeout: float, tick: float = 0.01, ended: Any = None) -> float:
    """Poll until `reached()` is true; returns the moment it was seen (time.monotonic).

    `ended`, when given, returns a text once waiting has become pointless.
    """
    deadline = time.monotonic() + timeout
    while True:
        if reached():
            return time.monotonic()
        if ended is not None and (why := ended()):
            raise NotMeasured(f"{what}: {why}")
        if time.monotonic() > deadline:
            raise NotMeasured(f"{what}: not within {timeout:g} s")
        time.sleep(tick)


def _drop_subscriptions(side: Side) -> None:
    with side.connect() as session:
        names = session.execute(
            "SELECT subname FROM pg_subscription WHERE subdbid ="
            " (SELECT oid FROM pg_database WHERE datname = current_database())"
        ).fetchall()
        for (name,) in names:
            for order in ("ALTER SUBSCRIPTION {} DISABLE", "ALTER SUBSCRIPTION {} SET (slot_name = NONE)"):
                session.execute(sql.SQL(order).format(sql.Identifier(name)))
            session.execute(sql.SQL("DROP SUBSCRIPTION {}").format(sql.Identifier(name)))


def _empty(side: Side) -> None:
    """Instead of DROP DATABASE, which waits for ever for the supervisor of pglogical 2.4 (it absorbs no barriers)."""
    with side.connect() as session:
        session.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()"
        )
        for name in side.schemas():
            session.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
        session.execute("DROP SCHEMA IF EXISTS crossfade CASCADE")


def _has_library(binaries: Binaries, name: str) -> bool:
    config = binaries.bindir / "pg_config"
    if not os.access(config, os.X_OK):
        return False
    done = subprocess.run([str(config), "--pkglibdir"], capture_output=True, text=True, check=False)
    return done.returncode == 0 and (Path(done.stdout.strip()) / f"{name}.so").exists()


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _compiled() -> list[str]:
    package = Path(crossfade.__file__).parent
    return sorted(
        ".".join((*path.relative_to(package).parent.parts, path.name.partition(".")[0]))
        for path in package.rglob("*.so")
    )
