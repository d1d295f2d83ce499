"""A real PgBouncer between crossfade and a database, where one is installed (Debian: apt install pgbouncer).

`$PGBOUNCER` names the program if it is not on PATH. It is started on a free port of the loopback, in the manner given,
and stopped with the test.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from tests.servers.daemon import free_port
from tests.servers.databases import PASSWORD, Side

_SECONDS = 10.0


def program() -> str:
    """Where PgBouncer is. Skips the test if nowhere."""
    found = shutil.which(os.environ.get("PGBOUNCER", "pgbouncer")) or shutil.which("/usr/sbin/pgbouncer")
    if found is None:
        pytest.skip("no pgbouncer on PATH, and PGBOUNCER is not set")
    return found


@contextmanager
def pooled(side: Side, folder: Path, *, mode: str = "transaction", ignored: str = "") -> Iterator[str]:
    """A connection string of crossfade's role that leads to the database through PgBouncer.

    `ignored` are startup parameters it swallows (`ignore_startup_parameters`).
    """
    port = free_port()
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    config = folder / "pgbouncer.ini"
    config.write_text(
        "[databases]\n"
        f"* = host=127.0.0.1 port={side.server.port} user={side.role} password='{PASSWORD}'\n"
        "[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        f"pool_mode = {mode}\nignore_startup_parameters = {ignored}\n"
    )
    arguments = [program(), *(["-u", "nobody"] if os.geteuid() == 0 else []), str(config)]
    log = folder / "pgbouncer.log"
    with log.open("wb") as output, subprocess.Popen(arguments, stdout=output, stderr=output) as process:
        try:
            _await(port, process, log)
            yield make_conninfo("", host="127.0.0.1", port=port, dbname=side.dbname, user=side.role, sslmode="disable")
        finally:
            process.kill()


def _await(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise AssertionError(f"PgBouncer did not start:\n{log.read_text(errors='replace')}")
