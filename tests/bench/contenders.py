"""Who drains: the server's own subscription, pglogical where it is installed, and crossfade; all by the same steps.

`prepare` brings the rows that are there already and leaves a slot nobody reads; `start` lets the contender begin;
`stop` ends it. Refuses to know what is in the tables, and to measure. The invariant: a contender that is prepared has
no process running.
"""

from __future__ import annotations

import abc
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final, LiteralString

from psycopg import sql

from tests.bench.backlogs import Backlog, Shape
from tests.bench.cpu import peak_mb
from tests.bench.ground import Ground, NotMeasured, wait_until
from tests.bench.results import CROSSFADE, NATIVE
from tests.servers.daemon import Daemon, Workspace
from tests.servers.databases import Databases, Side

PGLOGICAL: Final = "pglogical"
_PREPARE_SECONDS: Final = 1800.0


class Contender(abc.ABC):
    """One way of getting one backlog into one target database, used once."""

    def __init__(self, ground: Ground, source: Side, target: Side, backlog: Backlog, shape: Shape) -> None:
        self.ground = ground
        self.source = source
        self.target = target
        self.backlog = backlog
        self.shape = shape

    name: str
    slot: str

    @abc.abstractmethod
    def prepare(self) -> None:
        """Tables are there on both sides; copy their rows, leave a slot."""

    @abc.abstractmethod
    def start(self) -> None:
        """Begin to drain."""

    @abc.abstractmethod
    def stop(self) -> None:
        """End it; the target keeps what it has."""

    @property
    def daemon_pid(self) -> int | None:
        """The process beside the two servers, if there is one."""
        return None

    def ended(self) -> str:
        """Why it cannot go on; "" while it can."""
        return ""

    def peak_mb(self) -> float | None:
        return None

    def discard(self) -> None:
        """Before its databases are dropped: what would keep them."""
        return

    def _wait_until_unread(self) -> None:
        admin = self.ground.pair.admin(self.source.server)
        query = "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND NOT active"
        wait_until(lambda: admin.execute(query, (self.slot,)).fetchone(), f"{self.name}: slot let go", timeout=60)


class Native(Contender):
    """CREATE SUBSCRIPTION, binary, with the durability crossfade has: synchronous_commit on."""

    name = NATIVE

    def prepare(self) -> None:
        self.slot = f"native_{self.target.dbname}"
        self._order(
            "CREATE SUBSCRIPTION {name} CONNECTION {dsn} PUBLICATION native"
            " WITH (binary = true, synchronous_commit = 'on', slot_name = {slot})"
        )
        with self.target.connect() as session:
            wait_until(
                lambda: not session.execute("SELECT 1 FROM pg_subscription_rel WHERE srsubstate <> 'r'").fetchone(),
                "the subscription's initial copy",
                timeout=_PREPARE_SECONDS,
            )
        self.stop()

    def start(self) -> None:
        self._order("ALTER SUBSCRIPTION {name} ENABLE")

    def stop(self) -> None:
        self._order("ALTER SUBSCRIPTION {name} DISABLE")
        self._wait_until_unread()

    def _order(self, statement: LiteralString) -> None:
        name = f"bench_{self.target.dbname}"  # subscriptions are the server's, not the database's
        self.target.execute(
            sql.SQL(statement).format(
                name=sql.Identifier(name), slot=sql.Identifier(self.slot), dsn=sql.Literal(self.source.admin)
            )
        )


class Pglogical(Contender):
    """The extension of that name, where its package is installed, with synchronous_commit on as well."""

    name = PGLOGICAL

    def prepare(self) -> None:
        for side, node in ((self.source, f"provider_{self.target.dbname}"), (self.target, "subscriber")):
            side.execute("CREATE EXTENSION IF NOT EXISTS pglogical")
            if side is self.target or not side.execute("SELECT 1 FROM pglogical.local_node"):
                self._call(side, "SELECT pglogical.create_node(%s, %s)", node, side.admin)
        for tables, kept in ((self.backlog.tables, "default"), (self.backlog.appended, "default_insert_only")):
            for table in tables:
                self._call(self.source, "SELECT pglogical.replication_set_add_table(%s, %s)", kept, table)
        self._call(
            self.target,
            "SELECT pglogical.create_subscription('bench', %s, ARRAY['default', 'default_insert_only'], false, true)",
            self.source.admin,
        )
        with self.target.connect() as session:
            wait_until(
                lambda: (
                    session.execute(
                        "SELECT 1 FROM pglogical.show_subscription_status() WHERE status = 'replicating'"
                    ).fetchone()
                    and not session.execute(
                        "SELECT 1 FROM pglogical.local_sync_status WHERE sync_status NOT IN ('r', 'y')"
                    ).fetchone()
                ),
                "pglogical's initial copy",
                timeout=_PREPARE_SECONDS,
            )
        self.slot = self.target.value("SELECT slot_name::text FROM pglogical.show_subscription_status()")
        self.stop()

    def start(self) -> None:
        self.target.execute("SELECT pglogical.alter_subscription_enable('bench', true)")

    def stop(self) -> None:
        self.target.execute("SELECT pglogical.alter_subscription_disable('bench', true)")
        self._wait_until_unread()

    def discard(self) -> None:
        # Its manager comes back as often as it is ended, until the extension is gone.
        for side in (self.target, self.source):
            if side is self.target:
                side.execute("SELECT pglogical.drop_subscription('bench', true)")
            side.execute(
                "SELECT pglogical.drop_node(node_name) FROM pglogical.local_node JOIN pglogical.node USING (node_id)"
            )
            side.execute("DROP EXTENSION pglogical CASCADE")

    def _call(self, side: Side, statement: str, *values: str) -> None:
        side.execute(statement, values)


# Contenders are prepared side by side, and a server refuses two grants on one object at once.
_GRANTING: Final = threading.Lock()


class Crossfade(Contender):
    """`crossfade run` as an operator starts it, with the roles of deploy/sql and default settings."""

    name = CROSSFADE

    def __init__(
        self, ground: Ground, source: Side, target: Side, backlog: Backlog, shape: Shape, *, settings: str = ""
    ) -> None:
        super().__init__(ground, source, target, backlog, shape)
        self.databases = Databases(source, target, replica_role=True)
        self.workspace = Workspace(Path(ground.folder, target.dbname), self.databases, name="bench")
        self.slot = self.workspace.slot = f"crossfade_{target.dbname}"
        self._settings = settings
        self._daemon: Daemon | None = None

    def configure(self) -> None:
        """Grants and configuration, for tables that are there."""
        with _GRANTING:
            self.databases.grant()
        self.workspace.write(self.shape.mapping, extra=self._settings)

    def prepare(self) -> None:
        self.configure()
        done = self.workspace.run("run", "--until", "caught-up", timeout=_PREPARE_SECONDS)
        if done.returncode != 0:
            raise NotMeasured(f"crossfade's initial copy ended with {done.returncode}:\n{done.stderr[-3000:]}")
        self._wait_until_unread()

    def start(self) -> None:
        self._daemon = self.workspace.daemon()

    def stop(self) -> None:
        assert self._daemon is not None
        code = self._daemon.terminate()
        if code != 0:
            raise NotMeasured(f"crossfade ended with {code}:\n{self._daemon.situation()}")

    @property
    def daemon(self) -> Daemon:
        assert self._daemon is not None, "not started"
        return self._daemon

    @property
    def daemon_pid(self) -> int | None:
        return self.daemon.pid

    def ended(self) -> str:
        if not self.daemon.running:
            return f"crossfade ended with {self.daemon.exit_code}:\n{self.daemon.situation()}"
        if self.daemon.phase() == "failed":
            return f"crossfade failed:\n{self.daemon.situation()}"
        return ""

    def peak_mb(self) -> float | None:
        return peak_mb(self.daemon.pid)


def publish(source: Side, tables: Sequence[str], appended: Sequence[str]) -> None:
    """All publications, before any slot: one for the native subscription, two for crossfade."""
    listed = ", ".join([*tables, *appended])
    source.execute(f"CREATE PUBLICATION native FOR TABLE {listed}")
    databases = Databases(source, source, replica_role=True)
    databases.publish(*tables, append=tuple(appended))
