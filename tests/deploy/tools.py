"""Programs that the tests of what is deployed need and a machine may not have: found, or fetched beside the tests.

An environment variable names one, else it is looked for on PATH, else its Debian package is unpacked (not installed)
into .tools/, with what it needs and the machine has not. Python and npm packages get a folder of their own for each
purpose. Where even that is impossible the test is skipped, with the reason. Refuses to change the machine. The
invariant: what is in .tools/ is whole; several runs in one checkout wait for each other.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
KEPT: Final = ROOT / ".tools"  # not .servers, which is searched for servers, whole
_SECONDS: Final = 900.0


@dataclass(frozen=True, slots=True)
class Program:
    """Where it is, and what its environment has to hold besides. `root`: where its package was unpacked."""

    path: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    root: Path | None = None

    def run(
        self,
        *arguments: object,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = _SECONDS,
    ) -> subprocess.CompletedProcess[str]:
        """To its end; the exit code is the test's to look at."""
        return subprocess.run(
            [str(self.path), *map(str, arguments)],
            env={**os.environ, **self.environment, **(env or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )


def debian(variable: str, name: str, packages: Sequence[str], inside: str) -> Program:
    """A program of a Debian package.

    `variable` is an environment variable that may name it, `name` what it is called on PATH, `packages` what to unpack,
    `inside` where it lies in there. Skips the test where none of it is to be had.
    """
    named = os.environ.get(variable) or shutil.which(name)
    if named:
        return Program(Path(named))
    root = _made(f"debian-{packages[0]}", lambda into: _unpack(into, packages))
    libraries = sorted({str(path.parent) for path in root.glob("**/*-linux-gnu/**/*.so*")})
    before = os.environ.get("LD_LIBRARY_PATH")
    return Program(
        root / inside,
        {
            "LD_LIBRARY_PATH": os.pathsep.join([*libraries, *([before] if before else [])]),
            "XDG_DATA_HOME": str(root / "usr" / "share"),  # fonts, where the machine has none
        },
        root,
    )


def from_pip(purpose: str, *requirements: str) -> Path:
    """The programs' folder of a virtual environment that holds these packages."""

    def make(into: Path) -> None:
        venv.create(into, with_pip=True)
        _run(str(into / "bin" / "python"), "-m", "pip", "install", "--quiet", *requirements, cwd=KEPT)

    # Its programs name their interpreter, so it may not be moved once it is made.
    return _made(f"pip-{purpose}", make, in_place=True) / "bin"


def from_npm(purpose: str, *packages: str) -> Path:
    """A folder whose node_modules holds these packages. No script of theirs is run."""
    if shutil.which("npm") is None:
        pytest.skip(f"{purpose} is not here, and neither is npm to fetch it with")

    def make(into: Path) -> None:
        into.mkdir()
        (into / "package.json").write_text('{"private": true, "type": "module"}\n')
        flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
        _run("npm", "install", *flags, *packages, cwd=into)

    return _made(f"npm-{purpose}", make)


def _unpack(into: Path, packages: Sequence[str]) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        pytest.skip(f"{packages[0]} is not here, and neither is apt-get to fetch it with")
    into.mkdir()
    apt = ["apt-get", *(f"-o{name}={value}" for name, value in _apt_options().items())]
    planned = _run(*apt, "-s", "install", "--no-install-recommends", *packages, cwd=into)
    missing = [line.split()[1] for line in planned.splitlines() if line.startswith("Inst ")]
    _run(*apt, "download", *(missing or packages), cwd=into)
    for archive in sorted(into.glob("*.deb")):
        _run("dpkg", "-x", str(archive), str(into), cwd=into)
        archive.unlink()
    for path in into.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o777)  # nothing of this is to be more than who runs it


def _apt_options() -> dict[str, str]:
    """Package lists of our own: the machine's may be absent or old, and are not ours to renew."""
    folder = KEPT / "apt"
    options = {
        "Dir::State::lists": str(folder / "lists"),
        "Dir::Cache": str(folder / "cache"),
        "Debug::NoLocking": "1",
        "APT::Sandbox::User": "root",
    }
    if not (folder / "fresh").exists():
        for each in ("lists/partial", "cache/archives/partial"):
            (folder / each).mkdir(parents=True, exist_ok=True)
        _run("apt-get", *(f"-o{name}={value}" for name, value in options.items()), "update", cwd=folder)
        (folder / "fresh").touch()
    return options


def _run(*command: str, cwd: Path) -> str:
    try:
        ran = subprocess.run(
            command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"{command[0]} took longer than {_SECONDS:.0f} s")
    if ran.returncode != 0:
        last = ran.stderr.strip().splitlines()[-1:] or ["no reason given"]
        shown = [word for word in command if not word.startswith("-")][:3]
        pytest.skip(f"`{' '.join(shown)}` failed: {last[0][:300]}")
    return ran.stdout


def _made(name: str, make: Callable[[Path], None], *, in_place: bool = False) -> Path:
    """The folder of that name, made once; what was begun and not finished is begun again."""
    KEPT.mkdir(exist_ok=True)
    folder, done = KEPT / name, KEPT / f"{name}.done"
    with _alone():
        if done.exists():
            return folder
        making = folder if in_place else KEPT / f"{name}.new"
        for old in (folder, making):
            shutil.rmtree(old, ignore_errors=True)
        make(making)
        if not in_place:
            making.rename(folder)
        done.touch()
    return folder


@contextmanager
def _alone() -> Iterator[None]:
    with (KEPT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
