"""A daemon that follows, for tests of what the source's changes become on the target.

`follow` makes both schemas, publishes the source's tables as a DBA would, and starts `crossfade run`; the test then
writes on the source, waits for positions and looks at the target. Cases that only have to end well share one daemon
through `shared`, each with tables of its own. Knows no cases.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from tests.servers.clusters import Pair, Pairs, Versions
from tests.servers.daemon import MODE_VARIABLE, Daemon, Workspace
from tests.servers.databases import Databases, Query, fresh, make_roles

# What `crossfade resume` writes; starting a process for it takes longer than all the rest.
RESUME = "INSERT INTO crossfade.control (workflow, command, requested_by) VALUES ('shop', 'resume', 'a test')"
SAME = "version: 1\nschemas: {public: public}\n"

Levels = set[tuple[str, str]]
MODE = os.environ.get(MODE_VARIABLE, "")

_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p'
AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'crossfade') ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class FormWay:
    """One way of streaming for tests of values: lines of [stream], and whether tables that keep a stream in text must
    stay away."""

    name: str
    settings: str
    in_binary: bool

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Followed:
    """Both databases and the daemon between them."""

    databases: Databases
    workspace: Workspace
    daemon: Daemon

    def write(self, *scripts: Query) -> None:
        """Each script is one source transaction (unless it says BEGIN itself); then wait until all are durable."""
        for script in scripts:
            self.databases.source.execute(script)
        self._wait_until_caught_up()

    def at_once(self, *scripts: Query) -> None:
        """The same, but the daemon stands still meanwhile, so that it meets them all together: one batch."""
        self.at_once_by(lambda: [self.databases.source.execute(script) for script in scripts])

    def at_once_by(self, write: Callable[[], object]) -> None:
        """The same for whatever `write` does on the source."""
        with self.standing_still():
            write()
        self._wait_until_caught_up()

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """The daemon is stopped meanwhile, as a debugger would stop it."""
        self.daemon.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.daemon.signal(signal.SIGCONT)

    def _wait_until_caught_up(self) -> None:
        mark = self.databases.mark()
        self.daemon.wait_for(
            lambda: self.databases.caught_up(mark) or self.daemon.phase() == "failed", "caught up", timeout=30
        )
        assert self.databases.caught_up(mark), self._error()

    def source(self, query: Query) -> list[tuple[Any, ...]]:
        return self.databases.source.execute(query)

    def target(self, query: Query) -> list[tuple[Any, ...]]:
        return self.databases.target.execute(query)

    def assert_equal(self, *tables: str, columns: str = "*") -> None:
        """The same multiset of rows on both sides, each as the server prints it."""
        for table in tables:
            query = f"SELECT (t.*)::text FROM (SELECT {columns} FROM {table}) t ORDER BY 1"
            assert self.target(query) == self.source(query), table

    def failure(self) -> str:
        """Wait until it cannot go on; what it says then, where `status` finds it."""
        self.daemon.wait_for_phase("failed", timeout=30)
        self.daemon.wait_for(lambda: self._error() is not None, "the reason", timeout=10, may_exit=True)
        return str(self._error())

    def _error(self) -> str | None:
        error: str | None = self.databases.target.value("SELECT error FROM crossfade.workflows")
        return error

    def resume(self) -> None:
        """Tell it that the cause is gone, and wait until it has caught up."""
        self.databases.target.execute(RESUME)
        self.daemon.wait_until_caught_up()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        address = f"http://127.0.0.1:{self.workspace.port}/metrics"
        with urllib.request.urlopen(address, timeout=5) as answer:
            text = answer.read().decode()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        samples = [line for line in text.splitlines() if line.startswith(f"{name}{{")]
        assert samples, f"no metric {name}"
        return sum(float(line.rsplit(" ", 1)[1]) for line in samples if all(each in line for each in wanted))

    def metric_of(self, name: str) -> float:
        """A metric without labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.workspace.port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        (value,) = (line.rsplit(" ", 1)[1] for line in lines if line.startswith(f"{name} "))
        return float(value)

    def levels(self) -> Counter[tuple[str, str]]:
        """How many batches were applied by each level, and why."""
        found: Counter[tuple[str, str]] = Counter()
        for labels, count in self._samples("crossfade_batches_total"):
            found[labels["level"], labels["reason"]] += int(count)
        return found

    def taken_by(self, *scripts: Query) -> Levels:
        """`at_once`, and by which levels what was met; `set` only when there was nothing else, since the daemon may
        have begun with the first of the transactions before the others were there."""
        before = self.levels()
        self.at_once(*scripts)
        taken = set(self.levels() - before)
        return taken - {("set", "none")} or taken

    def _samples(self, name: str) -> Iterator[tuple[dict[str, str], float]]:
        address = f"http://127.0.0.1:{self.workspace.port}/metrics"
        with urllib.request.urlopen(address, timeout=5) as answer:
            text = answer.read().decode()
        for line in text.splitlines():
            if line.startswith(f"{name}{{"):
                yield dict(re.findall(r'(\w+)="([^"]*)"', line)), float(line.rsplit(" ", 1)[1])

    def stop(self) -> None:
        assert self.daemon.terminate() == 0


def came(level: str, reason: str = "none") -> Levels:
    return {(level, reason)}


def assert_came(taken: Levels, expected: Levels) -> None:
    """By these levels and no others; but a mode that cuts batches otherwise or folds none comes to its own, with the
    same rows."""
    if MODE == "exact":
        assert all(level.startswith("exact") for level, _ in taken), taken
    elif MODE == "tiny":
        assert taken
    else:
        assert taken == expected


def publish(databases: Databases, *, append: Sequence[str] = ()) -> None:
    """Every table of the source, as `crossfade check` prints it; those named by `append` for INSERT and TRUNCATE."""
    names = [sql.Identifier(*row).as_string(None) for row in databases.source.execute(_TABLES)]
    databases.publish(*(name for name in names if name not in append), append=append)


def prepared(
    workspace: Workspace,
    mapping: str = SAME,
    *,
    source: str,
    target: str | None = None,
    append: Sequence[str] = (),
    extra: str = "",
) -> Workspace:
    """Both schemas (the same, unless `target` says otherwise; rows are the source's alone), publications, files."""
    databases = workspace.databases
    databases.prepare(source, source if target is None else target)
    publish(databases, append=append)
    return workspace.write(mapping, extra=extra)


def follow(
    workspace: Workspace,
    mapping: str = SAME,
    *,
    source: str,
    target: str | None = None,
    rows: str = "",
    append: Sequence[str] = (),
    extra: str = "",
    env: Mapping[str, str] | None = None,
) -> Followed:
    """`prepared`, then `rows` on the source, then a daemon that has copied them and streams."""
    prepared(workspace, mapping, source=source, target=target, append=append, extra=extra)
    if rows:
        workspace.databases.source.execute(rows)
    daemon = workspace.daemon(env=env)
    daemon.wait_for_phase("streaming")
    return Followed(workspace.databases, workspace, daemon)


@contextlib.contextmanager
def shared(
    servers: Pair,
    folder: Path,
    mapping: str = SAME,
    *,
    replica_role: bool,
    source: str,
    target: str | None = None,
    rows: str = "",
    append: Sequence[str] = (),
    extra: str = "",
    env: Mapping[str, str] | None = None,
) -> Iterator[Followed]:
    """`follow` for a whole module, on databases of its own; the daemon must end well."""
    with fresh(servers, replica_role=replica_role) as databases:
        workspace = Workspace(folder, databases)
        try:
            followed = follow(
                workspace, mapping, source=source, target=target, rows=rows, append=append, extra=extra, env=env
            )
            yield followed
            followed.stop()
        finally:
            workspace.close()


def in_both_roles(
    name: str, mapping: str, *, source: str, target: str, rows: str, append: Sequence[str] = ()
) -> Callable[..., Iterator[Followed]]:
    """A module's fixture: `shared` with replica role and then without, every batch folded however small it is."""

    @pytest.fixture(scope="module", params=[True, False], ids=["replica", "origin"])
    def followed(
        request: pytest.FixtureRequest, postgres: Versions, _pairs: Pairs, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[Followed]:
        with shared(
            _pairs.get(postgres, prepare=make_roles),
            tmp_path_factory.mktemp(name),
            mapping,
            replica_role=request.param,
            source=source,
            target=target,
            rows=rows,
            append=append,
            env={"CROSSFADE_FAILPOINTS": "fold_few"},
        ) as found:
            yield found

    return followed


def assert_same(followed: Followed, queries: Mapping[str, tuple[str, str]]) -> None:
    """Each pair of queries, of the target and of the source, says the same."""
    for name, (target, source) in queries.items():
        assert followed.target(target) == followed.source(source), name
