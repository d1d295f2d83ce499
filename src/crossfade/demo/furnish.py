"""Makes the demonstration's shop on two servers: databases, both schemas, rows, and the roles a DBA would make.

Whose servers they are is not asked: it is given connection strings, and what stands in those (user, password, database)
is what it makes. Everything crossfade gets is what deploy/sql gives it: the least it can live with. The invariant:
nothing that exists is touched - a shop that is there completely is left alone, anything else of that name is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from crossfade.demo.schemas import load_app, load_legacy
from crossfade.demo.scripts import role_script
from crossfade.faults import Fault

_PUBLICATION: Final = "crossfade"

_Session = psycopg.Connection[tuple[object, ...]]


class NotOurs(Fault):
    """Something of the shop's name exists on a server and is not a shop of ours."""


@dataclass(frozen=True, slots=True)
class Shop:
    """How to reach it all, as libpq connection strings with passwords in them, which is why none is shown.

    The first two are of superusers, of any database; the others name the shop's database, and the roles to be made with
    their passwords: the application's own, and crossfade's on either side.
    """

    source_admin: str = field(repr=False)
    target_admin: str = field(repr=False)
    application: str = field(repr=False)
    source: str = field(repr=False)
    target: str = field(repr=False)

    def role(self, dsn: str) -> tuple[str, str]:
        """Name and password of the role that logs in with `dsn`."""
        parts = _parts(dsn)
        return parts["user"], parts["password"]

    @property
    def dbname(self) -> str:
        """The database, of the same name on both sides."""
        return _parts(self.application)["dbname"]

    def inside(self, admin: str) -> str:
        """The superuser's way into the shop's database."""
        return make_conninfo(admin, dbname=self.dbname)


def _parts(dsn: str) -> Mapping[str, str]:
    return {name: str(value) for name, value in conninfo_to_dict(dsn).items()}


def is_furnished(shop: Shop) -> bool:
    """Whether it is all there. Raises `NotOurs` where only a part of it is, `psycopg.OperationalError` unreached."""
    found = []
    for admin in (shop.source_admin, shop.target_admin):
        with psycopg.connect(admin, autocommit=True) as session:
            query = b"SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = %s)"
            found.append(_is_true(session, query, shop.dbname))
    if not any(found):
        return False
    # The last thing made, on the target.
    query = b"SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'crossfade')"
    if all(found):
        with psycopg.connect(shop.inside(shop.target_admin), autocommit=True) as session:
            if _is_true(session, query):
                return True
    raise NotOurs(
        f"A database {shop.dbname} exists, but not with everything the demonstration's shop has.",
        where="demo",
        means="It is somebody else's, or it was being made when something ended that.",
        do="If nobody needs it, drop that database on both servers (or their volumes) and try again.",
    )


def _is_true(session: _Session, query: bytes, *values: object) -> bool:
    row = session.execute(query, values).fetchone()
    return row is not None and row[0] is True


def furnish(shop: Shop, *, rows: int) -> None:
    """Create everything, the legacy schema with about `rows` rows. Blocks for some seconds."""
    owner, owner_password = shop.role(shop.application)
    for admin_dsn, ours in ((shop.source_admin, shop.source), (shop.target_admin, shop.target)):
        with psycopg.connect(admin_dsn, autocommit=True) as admin:
            _make_role(admin, owner, owner_password)
            _make_role(admin, *shop.role(ours))
            admin.execute(
                sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(shop.dbname), sql.Identifier(owner))
            )
        with psycopg.connect(shop.inside(admin_dsn), autocommit=True) as admin:
            admin.execute(sql.SQL("ALTER SCHEMA public OWNER TO {}").format(sql.Identifier(owner)))
    load_legacy(make_conninfo(shop.inside(shop.source_admin), user=owner, password=owner_password), rows=rows)
    load_app(make_conninfo(shop.inside(shop.target_admin), user=owner, password=owner_password))
    grant(shop)


def grant(shop: Shop) -> None:
    """Run deploy/sql as a DBA would: roles, the publications, the right to set session_replication_role."""
    source_role, _ = shop.role(shop.source)
    target_role, _ = shop.role(shop.target)
    with psycopg.connect(shop.inside(shop.source_admin), autocommit=True) as admin:
        admin.execute(role_script("source-role.sql", role=source_role, schema="public", DBNAME=shop.dbname).encode())
        admin.execute(
            role_script(
                "publication.sql", publication=_PUBLICATION, append_publication=f"{_PUBLICATION}_append"
            ).encode()
        )
    with psycopg.connect(shop.inside(shop.target_admin), autocommit=True) as admin:
        admin.execute(role_script("target-replica-role.sql", role=target_role).encode())
        admin.execute(role_script("target-role.sql", role=target_role, schema="app", DBNAME=shop.dbname).encode())


def _make_role(admin: _Session, name: str, password: str) -> None:
    admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(password)))
