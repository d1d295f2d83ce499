"""The demonstration's shop on somebody else's servers, as deploy/compose.yaml starts it: made once, then written to."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from crossfade.demo.furnish import NotOurs, Shop, is_furnished
from crossfade.demo.servers import Server, embedded, start_together
from crossfade.demo.shop import shop_of
from tests.servers.daemon import environment


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Server, Server]]:
    source, target = (Server(embedded(), name=name, fsync=False) for name in ("source", "target"))
    start_together(source, target)
    yield source, target
    source.close()
    target.close()


@pytest.fixture(scope="module")
def secrets(servers: tuple[Server, Server], tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, target = servers
    folder = tmp_path_factory.mktemp("secrets")
    for name, dsn in {
        "source_admin_dsn": source.dsn(),
        "target_admin_dsn": target.dsn(),
        "application_dsn": source.dsn("shop", "shop", "its own"),
        "source__dsn": source.dsn("shop", "crossfade", "to read"),
        "target__dsn": target.dsn("shop", "crossfade", "to write"),
    }.items():
        (folder / name).write_text(f"{dsn}\n")
    return folder


def shop(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "crossfade.demo.shop", *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(shop(*arguments), env=environment(), capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def made(secrets: Path) -> Shop:
    """It is prepared twice: the second time nothing is to do."""
    for said in ("about 3,000 rows", "there already"):
        ran = run("prepare", "--rows", 3000, "--secrets", secrets)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert said in ran.stdout
    return shop_of(secrets)


def test_each_side_is_as_crossfade_s_role_needs_it(made: Shop) -> None:
    assert is_furnished(made)
    with psycopg.connect(made.source) as session:
        assert session.execute("SELECT count(*) > 100 FROM orders").fetchone() == (True,)
        assert session.execute("SELECT count(*) FROM pg_publication").fetchone() == (2,)
    with psycopg.connect(made.target) as session:
        assert session.execute("SELECT count(*) FROM app.orders").fetchone() == (0,)
        session.execute("SET session_replication_role = replica")


def test_it_is_open_until_it_is_told_to_close(made: Shop, secrets: Path, tmp_path: Path) -> None:
    pulse = tmp_path / "pulse"
    with psycopg.connect(made.source, autocommit=True) as session:
        before = session.execute("SELECT sum(n_tup_ins) FROM pg_stat_user_tables").fetchone()
    opened = subprocess.Popen(
        shop("open", "--rate", 200, "--pulse", pulse, "--secrets", secrets),
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not pulse.exists():
            assert opened.poll() is None, opened.stdout and opened.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        # The server goes away from under it, as an application must live with.
        with psycopg.connect(made.inside(made.source_admin), autocommit=True) as session:
            session.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'shop'")
        pulse.unlink()
        while not pulse.exists():
            assert opened.poll() is None, opened.stdout and opened.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        opened.send_signal(signal.SIGTERM)
        said, _ = opened.communicate(timeout=60)
    assert opened.returncode == 0, said
    assert "Closed after" in said
    assert "does not answer the shop; trying again" in said
    with psycopg.connect(made.source, autocommit=True) as session:
        assert session.execute("SELECT sum(n_tup_ins) FROM pg_stat_user_tables").fetchone() != before


def test_what_is_somebody_else_s_is_not_touched(made: Shop, servers: tuple[Server, Server], secrets: Path) -> None:
    theirs = Shop(
        source_admin=made.source_admin,
        target_admin=made.target_admin,
        application=servers[0].dsn("theirs", "shop", "its own"),
        source=servers[0].dsn("theirs", "crossfade", "to read"),
        target=servers[1].dsn("theirs", "crossfade", "to write"),
    )
    assert not is_furnished(theirs)
    with psycopg.connect(made.source_admin, autocommit=True) as admin:
        admin.execute("CREATE DATABASE theirs")
        with pytest.raises(NotOurs, match="theirs"):
            is_furnished(theirs)
        admin.execute("DROP DATABASE theirs")


def test_a_missing_secret_and_a_server_that_is_away_are_told_without_a_password(tmp_path: Path) -> None:
    ran = run("prepare", "--secrets", tmp_path)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "source_admin_dsn" in ran.stderr
    for name in ("source_admin_dsn", "target_admin_dsn", "application_dsn", "source__dsn", "target__dsn"):
        (tmp_path / name).write_text("host=127.0.0.1 port=1 dbname=shop user=shop password=hush")
    ran = run("prepare", "--secrets", tmp_path)
    assert ran.returncode == 1
    assert "does not answer" in ran.stderr
    assert "hush" not in ran.stderr
    assert "Traceback" not in ran.stderr
