"""The two sample schemas, loaded as their owners would.

Refuses to know servers and roles: it is given connection strings. The invariant: each script runs as one
transaction, so a schema is there completely or not at all.
"""

from __future__ import annotations

from importlib import resources

import psycopg


def load_legacy(dsn: str, *, rows: int) -> None:
    """Create the legacy shop with about `rows` rows in all. Blocks for some seconds."""
    _run(dsn, "legacy.sql", rows)


def load_app(dsn: str) -> None:
    """Create the new, empty schema."""
    _run(dsn, "app.sql", 0)


def _run(dsn: str, name: str, rows: int) -> None:
    script = (resources.files("crossfade.demo") / name).read_bytes()
    with psycopg.connect(dsn, autocommit=True, application_name="crossfade demo", client_encoding="utf8") as connection:
        connection.execute("SELECT set_config('crossfade_demo.rows', %s, false)", (str(rows),))
        connection.execute(script)
