"""Real servers for whoever asks: see tests/servers. Unit tests ask for none, and start none."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from crossfade.demo.servers import Server
from tests.servers.clusters import VARIABLE, Choice, Pair, Pairs, Versions, choose
from tests.servers.daemon import Workspace
from tests.servers.databases import Databases, fresh, make_roles

MakeServer = Callable[..., Server]
_CHOICE = pytest.StashKey[Choice]()
_ALL = "postgres"

# How long an example takes says something about the machine, which others may be using, and nothing about the code.
hypothesis.settings.register_profile(
    "crossfade", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("crossfade")


def pytest_configure(config: pytest.Config) -> None:
    # A run started in the background by a shell ignores Ctrl-C, and so would every program a test starts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[_CHOICE] = choose()


def pytest_report_header(config: pytest.Config) -> list[str]:
    return config.stash[_CHOICE].summary()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Said again at the end, where people look: which versions ran."""
    terminalreporter.section("servers", sep="-")
    for line in config.stash[_CHOICE].summary():
        terminalreporter.line(line)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Whoever uses a server is run on every version chosen; with none on this machine the run fails, loudly."""
    if _ALL in metafunc.fixturenames:
        chosen = metafunc.config.stash[_CHOICE].versions
        if not chosen:
            raise pytest.UsageError(
                f"No PostgreSQL server was found for {VARIABLE}. Install the embedded one: pip install -e '.[dev]'"
            )
        if metafunc.definition.get_closest_marker("one_version"):
            chosen = chosen[:1]
        metafunc.parametrize(_ALL, chosen, ids=str, indirect=True, scope="session")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A failed test shows what its daemons wrote."""
    report = yield
    workspace = getattr(item, "funcargs", {}).get("workspace")
    if report.failed and isinstance(workspace, Workspace):
        for daemon in workspace.daemons:
            report.sections.append((f"daemon {daemon.log.name}", "\n".join(daemon.text().splitlines()[-80:])))
    return report


@pytest.fixture(scope="session")
def _pairs() -> Iterator[Pairs]:
    pairs = Pairs()
    yield pairs
    pairs.close()


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Versions:
    """The versions this test runs on: source and target. Every test that names it runs once for each chosen."""
    versions: Versions = request.param
    return versions


@pytest.fixture
def servers(postgres: Versions, _pairs: Pairs) -> Pair:
    """The running source and target servers, shared by the tests: do not crash them."""
    return _pairs.get(postgres, prepare=make_roles)


@pytest.fixture
def replica_role() -> bool:
    """Whether crossfade's role on the target may set session_replication_role.

    For both: `@pytest.mark.parametrize("replica_role", [True, False], ids=["replica", "origin"])`.
    """
    return True


@pytest.fixture
def databases(servers: Pair, replica_role: bool) -> Iterator[Databases]:
    """An empty source and target database with the roles of deploy/sql, dropped after the test."""
    with fresh(servers, replica_role=replica_role) as databases:
        yield databases


@pytest.fixture
def workspace(databases: Databases, tmp_path: Path) -> Iterator[Workspace]:
    """A configuration folder for `databases`, and `crossfade` started with it: `workspace.write(...).daemon()`."""
    workspace = Workspace(tmp_path, databases)
    yield workspace
    workspace.close()


@pytest.fixture
def make_server(postgres: Versions) -> Iterator[MakeServer]:
    """Servers of a test's own, to be crashed: `make_server("source")`, keyword arguments as `Server`'s."""
    made: list[Server] = []

    def make(name: str, **arguments: object) -> Server:
        binaries = postgres.target if name == "target" else postgres.source
        server = Server(binaries, name=name, **arguments)  # type: ignore[arg-type]
        made.append(server)
        return server.start()

    yield make
    for server in made:
        server.close()
