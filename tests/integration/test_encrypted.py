"""Both ways to read a stream and a copy: the bare socket where nothing encrypts it, libpq under TLS.

The servers get a certificate of a moment's making. What is asked of each way: everything arrives whole (values larger
than any block among it), a status goes out, a lost publication is noticed, and the daemon stops and goes on in order.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from crossfade.demo.servers import Server
from tests.integration.sides import assert_equal, both, confirmed, crashable, streaming
from tests.servers.clusters import Versions
from tests.servers.daemon import Workspace

WAYS = ["disable", "require"]


@pytest.fixture(scope="module")
def encrypting(postgres: Versions, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A pair of servers that take both kinds of connection."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on PATH to make a certificate with")
    with crashable(postgres, tmp_path_factory.mktemp("encrypted")) as workspace:
        for server in (workspace.databases.source.server, workspace.databases.target.server):
            if not _encrypt(server):
                pytest.skip(f"{postgres} was built without TLS")
        yield workspace


def _encrypt(server: Server) -> bool:
    key, certificate = server.data / "server.key", server.data / "server.crt"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    owner = server.data.stat()
    for file in (key, certificate):
        file.chmod(0o600)
        os.chown(file, owner.st_uid, owner.st_gid)
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        try:
            connection.execute("ALTER SYSTEM SET ssl = on")
        except psycopg.errors.InvalidParameterValue:
            return False
        connection.execute("SELECT pg_reload_conf()")
    with psycopg.connect(server.dsn().replace("sslmode=disable", "sslmode=require")):
        return True


@pytest.mark.parametrize("mode", WAYS)
def test_F1_a_stream_and_a_copy_arrive_whole(encrypting: Workspace, mode: str, tmp_path: Path) -> None:
    databases = encrypting.databases
    workspace = Workspace(tmp_path, databases)
    tables = f"CREATE TABLE {mode} (id int PRIMARY KEY, v text);"
    # Values around the size of a block, one of them many times as large.
    sizes = "(VALUES (1), (100), (131000), (262100), (262144), (400000), (9000000)) s (size)"
    both(databases, tables, rows=f"INSERT INTO {mode} SELECT size, repeat('x', size) FROM {sizes}")
    databases.publish(mode)
    workspace.write(
        source_dsn=databases.source_dsn.replace("sslmode=disable", f"sslmode={mode}"),
        target_dsn=databases.target_dsn.replace("sslmode=disable", f"sslmode={mode}"),
    )
    daemon = streaming(workspace)
    encrypted = databases.source.value(
        "SELECT ssl FROM pg_stat_ssl JOIN pg_replication_slots ON active_pid = pid WHERE slot_name = %s",
        [workspace.slot],
    )
    assert encrypted is (mode == "require")
    assert_equal(databases, mode)
    databases.source.execute(
        f"INSERT INTO {mode} SELECT -size, repeat('y', size) FROM {sizes};"
        f"INSERT INTO {mode} SELECT 20000000 + n, 'row ' || n FROM generate_series(1, 30000) n;"
        f"UPDATE {mode} SET v = repeat('z', 300000 + id % 10) WHERE id BETWEEN 20000000 AND 20000020"
    )
    daemon.wait_until_caught_up()
    assert_equal(databases, mode)
    durable = databases.durable()
    assert durable is not None
    daemon.wait_for(lambda: confirmed(workspace) >= durable, "acknowledged")
    assert daemon.terminate() == 0
    databases.source.execute(f"INSERT INTO {mode} VALUES (0, 'while it was away')")
    again = streaming(workspace)
    again.wait_until_caught_up()
    assert_equal(databases, mode)
    assert again.terminate() == 0
    assert workspace.run("teardown", "--yes").returncode == 0
    databases.source.execute(f"DROP PUBLICATION crossfade; DROP TABLE {mode}")
    databases.target.execute(f"DROP TABLE {mode}")
