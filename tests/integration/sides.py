"""What the case tests share: two equal tables to begin with, and the question whether both sides hold the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg

from crossfade.demo.servers import Server
from tests.servers.clusters import Pair, Versions, memory
from tests.servers.daemon import Daemon, Workspace
from tests.servers.databases import REPLICA_ROLE, ROLE, Databases, Row, Side, make_roles

ITEMS = "CREATE TABLE items (id int PRIMARY KEY, note text);"
COPY_AGAIN = "crossfade teardown"


def both(databases: Databases, schema: str = ITEMS, *, rows: str = "") -> None:
    """The same tables on either side, and rows on the source."""
    databases.prepare(source=schema + rows, target=schema)


def owned(databases: Databases, *tables: str) -> None:
    """Let crossfade's role own source tables, so that `run` makes the publications itself."""
    databases.source.execute(f"GRANT CREATE ON DATABASE {databases.source.dbname} TO {databases.source.role}")
    for table in tables:
        databases.source.execute(f"ALTER TABLE {table} OWNER TO {databases.source.role}")


def rows(side: Side, table: str) -> list[str]:
    """Every row as text, duplicates included, in one order for both sides."""
    return [str(row) for (row,) in side.execute(f'SELECT t::text COLLATE "C" FROM {table} t ORDER BY 1')]


def assert_equal(databases: Databases, *tables: str) -> None:
    """The same multiset of rows on both sides."""
    for table in tables:
        assert rows(databases.target, table) == rows(databases.source, table), f"{table} differs"


def synced(workspace: Workspace, *arguments: str, failpoints: str = "", code: int = 0) -> Daemon:
    """`run --until caught-up` to its end, with the exit code one expects."""
    daemon = workspace.daemon(
        "--until", "caught-up", *arguments, env={"CROSSFADE_FAILPOINTS": failpoints} if failpoints else None
    )
    ended = daemon.wait(90)
    assert ended == code, f"exit code {ended} instead of {code}\n{daemon.situation()}"
    return daemon


def streaming(workspace: Workspace) -> Daemon:
    """A daemon that has copied and follows."""
    daemon = workspace.daemon()
    # Not the phase in the state tables: that may still be the last run's.
    daemon.wait_for_line("phase is streaming")
    return daemon


def confirmed(workspace: Workspace) -> int:
    """What the source's slot says was acknowledged, as a number."""
    return int(
        workspace.databases.source.value(
            "SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots WHERE slot_name = %s", [workspace.slot]
        )
    )


def written(side: Side) -> int:
    """The end of what the source has written, as a number."""
    return int(side.value("SELECT pg_current_wal_insert_lsn() - '0/0'"))


@contextmanager
def locked(side: Side, table: str, mode: str = "ACCESS EXCLUSIVE") -> Iterator[psycopg.Connection[Row]]:
    """Somebody else holds a lock on a table; it ends with the block."""
    with side.connect(autocommit=False) as holder:
        holder.execute(f"LOCK TABLE {table} IN {mode} MODE".encode())
        yield holder
        holder.rollback()


def blocked(side: Side, application: str = "crossfade%") -> Callable[[], bool]:
    """Whether a session of crossfade waits for somebody's lock."""
    return lambda: bool(
        side.value(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE %s"
            " AND cardinality(pg_blocking_pids(pid)) > 0",
            [application],
        )
    )


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped, by a `stop:` failpoint for example."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"T", "t"}


@contextmanager
def crashable(
    versions: Versions,
    folder: Path,
    *,
    source: Mapping[str, str] | None = None,
    target: Mapping[str, str] | None = None,
) -> Iterator[Workspace]:
    """A workspace on servers of its own (fsync on, in memory where there is room), which a test may crash."""
    base = memory()
    with (
        Server(versions.source, name="source", base=base, settings=source) as one,
        Server(versions.target, name="target", base=base, settings=target) as other,
    ):
        pair = Pair(one, other)
        make_roles(pair)
        for server, name in ((one, "source"), (other, "target")):
            pair.admin(server).execute(f"CREATE DATABASE {name} TEMPLATE template0")
            pair.admin(server).close()
        databases = Databases(Side(one, "source", ROLE), Side(other, "target", REPLICA_ROLE), replica_role=True)
        databases.grant()
        workspace = Workspace(folder, databases)
        try:
            yield workspace
        finally:
            workspace.close()
