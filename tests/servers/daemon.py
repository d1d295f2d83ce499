"""`crossfade run` and the other commands as an operator starts them: a process of its own, with a configuration folder.

Everything is waited for by what can be seen from outside - the state tables, the log, the exit code - and every wait
has a deadline that tells, when it passes, what the daemon wrote last and where the databases stand.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

import psycopg

from crossfade.demo.servers import Server
from tests.servers.databases import Databases, Side

_TICK = 0.05
# CROSSFADE_TEST_MODE runs every test that starts a daemon in another way of applying: what it promises is the same.
MODE_VARIABLE = "CROSSFADE_TEST_MODE"
MODES: Final[Mapping[str, Mapping[str, str]]] = {
    "": {},
    "exact": {"apply": '"exact"'},
    "tiny": {"batch_bytes": "1024", "pipe_bytes": "65536"},
    "huge": {"batch_bytes": '"256 MiB"', "pipe_bytes": '"512 MiB"'},
    "text": {"wire": '"text"'},
    "sets": {},  # with FAILPOINTS
}
# Batches as small as most tests make them would all be applied change by change.
FAILPOINTS: Final[Mapping[str, str]] = {"sets": "fold_few"}
# What a test says of either is about both: one may not be larger than the other.
_TOGETHER: Final = ("batch_bytes", "pipe_bytes")
SOURCES = Path(__file__).parents[2] / "src"


class NotReached(AssertionError):
    """A daemon did not get where the test waited for it; the text says what it wrote last."""


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours without what would configure crossfade or libpq behind the test's back."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CROSSFADE_", "PG"))}
    paths = [str(SOURCES), *kept.get("PYTHONPATH", "").split(os.pathsep)]
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "NO_COLOR": "1", **(extra or {})}


def stream_settings(extra: str, mode: str | None = None) -> str:
    """The lines of [stream] that the mode adds, without those that the test itself decides in `extra`."""
    mode = os.environ.get(MODE_VARIABLE, "") if mode is None else mode
    assert mode in MODES, f"{MODE_VARIABLE} is none of {', '.join(filter(None, MODES))}"
    decided = {
        name for name in MODES["exact"] | MODES["tiny"] | MODES["text"] if re.search(rf"^{name}\s*=", extra, re.M)
    }
    if decided.intersection(_TOGETHER):
        decided.update(_TOGETHER)
    return "".join(f"\n{name} = {value}" for name, value in MODES[mode].items() if name not in decided)


def failpoints(env: Mapping[str, str], mode: str | None = None) -> dict[str, str]:
    """The variable that switches failpoints on: those of the test and of the mode."""
    mode = os.environ.get(MODE_VARIABLE, "") if mode is None else mode
    named = [each for each in (env.get("CROSSFADE_FAILPOINTS", ""), FAILPOINTS.get(mode, "")) if each]
    return {"CROSSFADE_FAILPOINTS": ",".join(named)} if named else {}


class Workspace:
    """A folder with crossfade.toml and mapping.yaml, and the daemons started with them (ended with the test)."""

    def __init__(self, folder: Path, databases: Databases, *, name: str = "shop") -> None:
        self.folder = folder
        self.databases = databases
        self.name = name
        self.slot = f"crossfade_{databases.source.dbname}"
        self.port = free_port()
        self.daemons: list[Daemon] = []

    @property
    def config(self) -> Path:
        return self.folder / "crossfade.toml"

    def write(
        self,
        mapping: str = "version: 1\nschemas: {public: public}\n",
        *,
        source_dsn: str = "",
        target_dsn: str = "",
        extra: str = "",
    ) -> Self:
        """Write both files. `extra` is TOML put at the end (whole tables, such as "[copy]\\nworkers = 1")."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "mapping.yaml").write_text(mapping)
        given = json.dumps  # a JSON string is a TOML string
        tables = {
            "[source]": f"dsn = {given(source_dsn or self.databases.source_dsn)}",
            "[target]": f"dsn = {given(target_dsn or self.databases.target_dsn)}",
            "[stream]": f"slot = {given(self.slot)}{stream_settings(extra)}",
            "[http]": f'listen = "127.0.0.1:{self.port}"',
        }
        if "own_disk_path" not in extra:  # how full this machine's disk is, is no matter of a test
            tables["[guards]"] = 'own_disk_path = ""'
        lines = [f"name = {given(self.name)}", 'mapping = "mapping.yaml"']
        for header, body in tables.items():
            if header in extra:  # the test's own keys join ours
                extra = extra.replace(header, f"{header}\n{body}", 1)
            else:
                lines += [header, body]
        self.config.write_text("\n".join([*lines, extra, ""]))
        self.config.chmod(0o600)
        return self

    def run(
        self, *arguments: str, env: Mapping[str, str] | None = None, timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """One command to its end, for example `run("check", "--json")`; the exit code is the test's to look at."""
        return subprocess.run(
            [*_command(arguments), "--config", str(self.config)],
            cwd=self.folder,
            env=environment(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def daemon(self, *arguments: str, env: Mapping[str, str] | None = None) -> Daemon:
        """Start `crossfade run`; `arguments` follow it, `env` is added to the environment."""
        daemon = Daemon(self, arguments, env or {}, self.folder / f"daemon-{len(self.daemons)}.log")
        self.daemons.append(daemon)
        return daemon.start()

    def close(self) -> None:
        for daemon in self.daemons:
            daemon.kill9()


class Daemon:
    """One `crossfade run` process. Its standard output and error are in `log`."""

    def __init__(self, workspace: Workspace, arguments: tuple[str, ...], env: Mapping[str, str], log: Path) -> None:
        self.workspace = workspace
        self.log = log
        self._command = [*_command(("run", *arguments)), "--config", str(workspace.config)]
        self._env = environment({"CROSSFADE_LOG__FORMAT": "json", **env, **failpoints(env)})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        assert self._process is None or self._process.poll() is not None, "it runs already"
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                self._command,
                cwd=self.workspace.folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return None if self._process is None else self._process.poll()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    # -- what it wrote

    def text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def lines(self) -> Iterator[dict[str, Any]]:
        """Its log, line by line; what is not JSON comes as {"text": ...}."""
        for line in self.text().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                entry = None
            yield entry if isinstance(entry, dict) else {"text": line}

    def rss_bytes(self) -> int:
        """Resident memory now."""
        fields = Path(f"/proc/{self.pid}/status").read_text()
        return 1024 * int(next(line.split()[1] for line in fields.splitlines() if line.startswith("VmRSS")))

    # -- waiting

    def wait_for(
        self, reached: Callable[[], object], what: str, *, timeout: float = 60.0, may_exit: bool = False
    ) -> None:
        """Until `reached()` is true. An early exit of the daemon ends the wait at once, unless it may."""
        deadline = time.monotonic() + timeout
        while True:
            ended = not self.running  # looked at first: what it did last counts
            try:
                if reached():
                    return
            except psycopg.OperationalError:
                pass  # a server is down just now, on purpose
            if ended and not may_exit:
                raise NotReached(f"{what}: the daemon ended with {self.exit_code}.\n{self.situation()}")
            if time.monotonic() > deadline:
                raise NotReached(f"{what}: not within {timeout:g} s.\n{self.situation()}")
            time.sleep(_TICK)

    def wait_for_line(self, part: str, *, timeout: float = 60.0) -> None:
        """Until its log holds these words."""
        self.wait_for(lambda: part in self.text(), f"a log line with {part!r}", timeout=timeout)

    def wait_for_phase(self, *phases: str, timeout: float = 60.0) -> str:
        """Until the state in the target names one of these phases; returns it."""
        self.wait_for(lambda: self.phase() in phases, f"phase {' or '.join(phases)}", timeout=timeout)
        return self.phase()

    def wait_until_caught_up(self, *, timeout: float = 60.0) -> None:
        """Until everything committed on the source before this call is durable on the target."""
        databases = self.workspace.databases
        mark = databases.mark()
        self.wait_for(lambda: databases.caught_up(mark, self.workspace.name), "caught up", timeout=timeout)

    def phase(self) -> str:
        """The phase the state tables tell; "" before they exist."""
        try:
            for (phase,) in self.workspace.databases.target.execute(
                "SELECT phase FROM crossfade.workflows WHERE workflow = %s", (self.workspace.name,)
            ):
                return str(phase)
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            pass
        return ""

    def situation(self) -> str:
        """For a failure's text: phase, positions, slot and the end of the log."""
        lines = [f"exit code {self.exit_code}"]
        lines += _told(self.workspace.databases.target, "SELECT * FROM crossfade.workflows")
        lines += _told(self.workspace.databases.target, "SELECT workflow, end_lsn, epoch, slot FROM crossfade.progress")
        lines += _told(
            self.workspace.databases.source,
            "SELECT slot_name, active, restart_lsn, confirmed_flush_lsn, pg_current_wal_lsn() "
            "FROM pg_replication_slots WHERE database = current_database()",
        )
        return "\n".join([*lines, "its log ends:", *self.text().splitlines()[-60:]])

    # -- ending it

    def wait(self, timeout: float = 60.0) -> int:
        """Until it ends by itself; its exit code."""
        assert self._process is not None
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise NotReached(f"it still runs after {timeout:g} s.\n{self.situation()}") from None

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def terminate(self, timeout: float = 30.0) -> int:
        """SIGTERM, as systemd stops it; its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill9(self) -> None:
        """SIGKILL, if it still runs; returns when it is gone."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def free_port() -> int:
    """A port for the daemon's own listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _command(arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "crossfade.cli.main", *arguments]


def _told(side: Side, query: str) -> list[str]:
    server: Server = side.server
    try:
        return [f"{server.name}: {row}" for row in side.execute(query)]
    except psycopg.Error as error:
        return [f"{server.name}: {str(error).strip()}"]
