"""Everything a campaign needs on its feet: two servers to crash, a proxy before each, workloads, oracles, a daemon.

Knows how to bring the daemon to rest and compare both sides; knows no faults. The invariant: `settle()` returns only
when both sides hold the same rows, and every oracle's verdict so far is clean.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import psycopg
from psycopg.conninfo import make_conninfo

from crossfade.demo.servers import Server
from tests.chaos.ground import Ground
from tests.chaos.proxy import Proxy
from tests.oracles.compare import unequal
from tests.oracles.model import ModelWriter, differences, read_state
from tests.oracles.positions import Positions, describe, mark, wait_durable
from tests.oracles.snapshots import SnapshotChecker
from tests.oracles.verdict import Verdict
from tests.oracles.world import World
from tests.oracles.writers import BankWriter, BulkWriter, Gate
from tests.servers.clusters import Versions
from tests.servers.daemon import MODE_VARIABLE, Daemon

# Stale walsenders are gone soon, and slot positions survive a crash of the source only as of the last checkpoint (A8).
_SOURCE = {"wal_sender_timeout": "4s", "max_prepared_transactions": "20", "log_replication_commands": "on"}
_TARGET = {"deadlock_timeout": "300ms"}
_EXTRA = """\
[stream]
status_interval = "500ms"

[log]
level = "debug"
"""


# A copy that was killed leaves tens of thousands of changes behind, and tiny pieces are three rows each.
_PATIENCE = 300.0 if os.environ.get(MODE_VARIABLE) == "tiny" else 90.0


class Stage:
    """Use as a context manager; nothing of it survives the block."""

    def __init__(
        self,
        folder: Path,
        *,
        seed: int,
        bulk: int = 2000,
        pace: float = 0.03,
        banks: int = 2,
        replica_role: bool = True,
        on: Versions | None = None,
        extra: str = _EXTRA,
        source_settings: Mapping[str, str] | None = None,
    ) -> None:
        self.seed = seed
        self.verdict = Verdict()
        self.gate = Gate()
        self._ground = Ground(
            folder,
            on=on,
            replica_role=replica_role,
            source_settings={**_SOURCE, **(source_settings or {})},
            target_settings=_TARGET,
        )
        self._bulk = bulk
        self._pace = pace
        self._banks = banks
        self._extra = extra
        self._stack = contextlib.ExitStack()
        self.copies = 0  # finished comparisons

    # -- life

    def __enter__(self) -> Self:
        try:
            return self._build()
        except BaseException:
            self._stack.close()
            raise

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _build(self) -> Self:
        ground = self._stack.enter_context(self._ground)
        self.source, self.target, self.databases = ground.source, ground.target, ground.databases
        self.world = World(self.databases.source_admin, self.databases.target_admin, bulk=self._bulk)
        self.world.build()
        self.databases.grant()
        self.databases.publish(*self.world.published, append=self.world.appended)
        self.to_source = self._stack.enter_context(Proxy(self.source.port, seed=self.seed))
        self.to_target = self._stack.enter_context(Proxy(self.target.port, seed=self.seed + 1))
        self.workspace = ground.workspace
        self.workspace.write(
            self.world.mapping,
            source_dsn=make_conninfo(self.databases.source_dsn, port=self.to_source.port),
            target_dsn=make_conninfo(self.databases.target_dsn, port=self.to_target.port),
            extra=self._extra,
        )
        self._stack.callback(self._end_daemons)
        world, verdict, gate, seed, pace = self.world, self.verdict, self.gate, self.seed, self._pace
        self.snapshots = SnapshotChecker(world, verdict)
        self.positions = Positions(world, verdict)
        self.model = ModelWriter(world, verdict, gate, seed=seed, pace=pace)
        self._threads: list[BankWriter | BulkWriter | ModelWriter | SnapshotChecker | Positions] = [
            *(
                BankWriter(world, verdict, gate, number=i, seed=seed, pace=pace, two_phase=True)
                for i in range(self._banks)
            ),
            BulkWriter(world, verdict, gate, seed=seed, pace=pace),
            self.model,
            self.snapshots,
            self.positions,
        ]
        for thread in self._threads:
            thread.start()
            self._stack.callback(thread.stop)
        return self

    def _end_daemons(self) -> None:
        for daemon in self.workspace.daemons:
            with contextlib.suppress(ProcessLookupError, AssertionError):
                daemon.signal(signal.SIGCONT)

    # -- the daemon

    def start(self, *arguments: str, failpoints: str = "") -> Daemon:
        """A further daemon, through the proxies."""
        env = {"CROSSFADE_HTTP__LISTEN": ""}  # two of one configuration would want the same port
        if failpoints:
            env["CROSSFADE_FAILPOINTS"] = failpoints
        return self.workspace.daemon(*arguments, env=env)

    @property
    def daemon(self) -> Daemon:
        """The one started last."""
        return self.workspace.daemons[-1]

    def require_running(self) -> None:
        """The daemon may retry and say so, but never end by itself (nor by an error of the databases)."""
        if not self.daemon.running:
            self.verdict.violated("daemon", f"ended by itself with exit code {self.daemon.exit_code}")
            raise AssertionError(f"the daemon ended by itself\n{self.situation()}")

    def wait_for_phase(self, *phases: str, seconds: float = 60) -> None:
        self.daemon.wait_for_phase(*phases, timeout=seconds)

    # -- judging

    def settle(self, *, seconds: float = _PATIENCE, resume: bool = True) -> float:
        """Writers pause, everything arrives, both sides are compared. Returns seconds until caught up."""
        self.gate.pause()
        try:
            self.model.settle()
            _, position = mark(self.world, "settle")
            began = time.monotonic()
            while True:
                self.require_running()
                try:
                    wait_durable(self.world, position, seconds=2)
                    break
                except AssertionError:
                    if time.monotonic() - began > seconds:
                        self.verdict.violated("caught_up", f"not within {seconds:.0f} s")
                        raise AssertionError(f"not caught up within {seconds:.0f} s\n{self.situation()}") from None
            took = time.monotonic() - began
            self.compare()
        finally:
            if resume:
                self.gate.resume()
        return took

    def compare(self) -> None:
        """Both sides as multisets, and both against the dicts."""
        source, target = self.world.source, self.world.target
        found = unequal(source, target)
        found += differences(self.model.state, read_state(source, mapped=False), mapped=False, where="source")
        found += differences(self.model.state, read_state(target, mapped=True), mapped=True, where="target")
        for text in found:
            self.verdict.violated("equal", text)
        self.copies += 1
        if self.verdict.violations:
            raise AssertionError("\n".join([*self.verdict.violations, self.situation()]))

    def situation(self) -> str:
        """What there is to know when something went wrong."""
        lines = [f"seed {self.seed}", *self.verdict.notes[-30:], *self.verdict.violations, describe(self.world)]
        lines += [f"proxy to source {dict(self.to_source.counts)}, to target {dict(self.to_target.counts)}"]
        for server in (self.source, self.target):
            lines += [f"{server.name}'s log ends:", server.log_tail(12)]
        for daemon in self.workspace.daemons[-2:]:
            lines += [f"{daemon.log.name} (exit code {daemon.exit_code}) ends:", *daemon.text().splitlines()[-25:]]
        return "\n".join(lines)

    # -- errands for faults

    def sessions(self, server: Server, where: str) -> list[int]:
        """Process ids of the daemon's sessions on a server."""
        with psycopg.connect(server.dsn(), connect_timeout=5) as session:
            rows = session.execute(
                f"SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'crossfade%' AND ({where})".encode()
            ).fetchall()
        return [pid for (pid,) in rows]

    def terminate(self, server: Server, where: str = "true") -> int:
        """pg_terminate_backend for the daemon's sessions; how many there were."""
        pids = self.sessions(server, where)
        with psycopg.connect(server.dsn(), autocommit=True, connect_timeout=5) as session:
            hit = [session.execute("SELECT pg_terminate_backend(%s)", (pid,)).fetchone() for pid in pids]
        return sum(row == (True,) for row in hit)


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped (SIGSTOP, or a `stop:` failpoint)."""
    text = Path(f"/proc/{pid}/stat").read_text()
    return text.rpartition(")")[2].split()[0] in {"T", "t"}


def wait_until(reached: object, what: str, seconds: float = 30) -> None:
    """Until `reached()` holds. Raises `AssertionError` when it does not in time."""
    assert callable(reached)
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.02)


def say(text: str) -> None:
    """Progress of a long campaign, for whoever watches."""
    if os.environ.get("CROSSFADE_CHAOS_QUIET"):
        return
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
