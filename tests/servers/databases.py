"""A source and a target database for one test, with the least-privilege roles of deploy/sql on them.

`Databases.source` and `.target` each have two connection strings: `admin` (superuser, to make tables, write rows and
break things) and `dsn` (what crossfade gets). After the test everything cluster-wide that it left is removed: slots,
prepared transactions, replication origins, settings of the roles.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString, cast

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from crossfade.demo.servers import Server
from tests.servers.clusters import Pair
from tests.servers.psql import script

PASSWORD = "only for tests; the server listens on the loopback"
ROLE = "crossfade"
REPLICA_ROLE = "crossfade_replica"  # has the right to set session_replication_role as well
_numbers = itertools.count(1)

Row = tuple[Any, ...]
Query = str | sql.Composable


@dataclass(frozen=True, slots=True)
class Side:
    """One database and who may do what in it."""

    server: Server
    dbname: str
    role: str

    @property
    def admin(self) -> str:
        """Connection string of the superuser."""
        return self.server.dsn(self.dbname)

    @property
    def dsn(self) -> str:
        """Connection string of crossfade's role."""
        return self.server.dsn(self.dbname, self.role, PASSWORD)

    def connect(self, *, autocommit: bool = True, **settings: str) -> psycopg.Connection[Row]:
        """A superuser's connection; `settings` are pinned for the session."""
        options = " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in settings.items())
        return psycopg.connect(make_conninfo(self.admin, options=options), autocommit=autocommit)

    def execute(self, query: Query, parameters: Sequence[object] | Mapping[str, object] | None = None) -> list[Row]:
        """As the superuser: one statement, or several when there are no parameters. Returns the last one's rows."""
        with self.connect() as connection:
            cursor = connection.execute(cast(LiteralString, query), parameters)
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else []

    def value(self, query: Query, parameters: Sequence[object] | None = None) -> Any:
        """The one value a query returns."""
        ((value,),) = self.execute(query, parameters)
        return value

    def schemas(self) -> list[str]:
        """Where user tables may be: everything but the system's and crossfade's own."""
        return [
            name
            for (name,) in self.execute(
                "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' "
                "AND nspname NOT IN ('information_schema', 'crossfade') ORDER BY 1"
            )
        ]


@dataclass(frozen=True, slots=True)
class Databases:
    """What the `databases` fixture gives."""

    source: Side
    target: Side
    replica_role: bool

    @property
    def source_admin(self) -> str:
        return self.source.admin

    @property
    def source_dsn(self) -> str:
        return self.source.dsn

    @property
    def target_admin(self) -> str:
        return self.target.admin

    @property
    def target_dsn(self) -> str:
        return self.target.dsn

    def prepare(self, source: str = "", target: str = "") -> None:
        """Run DDL (and rows) as the superuser on either side, then give the roles their grants as deploy/sql does."""
        if source:
            self.source.execute(source)
        if target:
            self.target.execute(target)
        self.grant()

    def grant(self) -> None:
        """deploy/sql's role scripts for every schema there is now; call it again when tables were added."""
        for side, name in ((self.source, "source-role.sql"), (self.target, "target-role.sql")):
            for schema in side.schemas():
                side.execute(script(name, role=side.role, schema=schema, DBNAME=side.dbname))

    def publish(self, *tables: str, append: Sequence[str] = (), publication: str = "crossfade") -> None:
        """What a DBA does on the source before the first run: both publications, the second only for `append`."""
        for name, what, members in (
            (publication, "insert, update, delete, truncate", tables),
            (f"{publication}_append", "insert, truncate", append),
        ):
            if members:
                listed = ", ".join(members)
                self.source.execute(
                    f"CREATE PUBLICATION {name} FOR TABLE {listed} "
                    f"WITH (publish = '{what}', publish_via_partition_root = true)"
                )

    def durable(self, workflow: str = "shop") -> int | None:
        """Where the target has got to, as a number; None before there is a position."""
        with contextlib.suppress(psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            for (position,) in self.target.execute(
                "SELECT end_lsn - '0/0' FROM crossfade.progress WHERE workflow = %s", (workflow,)
            ):
                return None if position is None else int(position)
        return None

    def mark(self) -> int:
        """Commit a mark on the source; the target has everything up to now once `durable()` is at or past it."""
        return int(self.source.value("SELECT pg_logical_emit_message(true, 'crossfade test', '') - '0/0'"))

    def caught_up(self, mark: int, workflow: str = "shop") -> bool:
        """Whether the target is past the mark. Asks the daemon to persist an idle position, as `wait` does."""
        durable = self.durable(workflow)
        if durable is not None and durable >= mark:
            return True
        self.target.execute("SELECT pg_notify('crossfade_control', 'persist')")
        return False


def make_roles(pair: Pair) -> None:
    """Passwords and the one server-wide grant; deploy/sql makes the roles themselves, on each database."""
    for server, name in ((pair.source, "source-role.sql"), (pair.target, "target-role.sql")):
        admin = pair.admin(server)
        for role in (ROLE, REPLICA_ROLE):
            admin.execute(cast(LiteralString, script(name, role=role, schema="public", DBNAME="postgres")))
            admin.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(PASSWORD)))
        if server is pair.target:
            if server.binaries.version_major >= 15:
                admin.execute(cast(LiteralString, script("target-replica-role.sql", role=REPLICA_ROLE)))
            else:
                # As the script says: before version 15 only a superuser may set it.
                admin.execute(sql.SQL("ALTER ROLE {} SUPERUSER").format(sql.Identifier(REPLICA_ROLE)))
    for server in (pair.source, pair.target):
        # What target-role.sql made for the roles in the superuser's own database is not needed there.
        pair.admin(server).execute("DROP SCHEMA IF EXISTS crossfade")


@contextlib.contextmanager
def fresh(pair: Pair, *, replica_role: bool) -> Iterator[Databases]:
    """A new database on each server, dropped afterwards with whatever the test left."""
    number = next(_numbers)
    sides = []
    for server, kind in ((pair.source, "source"), (pair.target, "target")):
        name = f"{kind}_{number}"
        pair.admin(server).execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        sides.append(Side(server, name, REPLICA_ROLE if replica_role and kind == "target" else ROLE))
    try:
        databases = Databases(*sides, replica_role=replica_role)
        databases.grant()
        yield databases
    finally:
        for side in sides:
            clean(pair.admin(side.server), side.dbname)


def clean(admin: psycopg.Connection[Row], dbname: str) -> None:
    """Remove a database and what it left on its server."""
    admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
        (dbname,),
    )
    for (name,) in admin.execute(
        "SELECT slot_name FROM pg_replication_slots WHERE database = %s", (dbname,)
    ).fetchall():
        _drop_slot(admin, name)
    prepared = admin.execute("SELECT gid FROM pg_prepared_xacts WHERE database = %s", (dbname,)).fetchall()
    if prepared:
        with psycopg.connect(
            make_conninfo("", **{**admin.info.get_parameters(), "dbname": dbname, "password": admin.info.password}),
            autocommit=True,
        ) as inside:
            for (gid,) in prepared:
                inside.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))
    admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(dbname)))
    admin.execute("SELECT pg_replication_origin_drop(roname) FROM pg_replication_origin")
    for (role,) in admin.execute(
        "SELECT rolname FROM pg_roles WHERE rolname = ANY(%s) AND rolconfig IS NOT NULL", ([ROLE, REPLICA_ROLE],)
    ).fetchall():
        admin.execute(sql.SQL("ALTER ROLE {} RESET ALL").format(sql.Identifier(role)))


def _drop_slot(admin: psycopg.Connection[Row], name: str) -> None:
    # Its walsender was terminated a moment ago and may not have let go yet.
    deadline = time.monotonic() + 10
    while True:
        try:
            admin.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", (name,)
            )
        except psycopg.errors.ObjectInUse:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
