"""Programs that the tests of what is deployed need and a machine may not have: found, or unpacked beside the tests.

An environment variable names one, else it is looked for on PATH, else its Debian package is unpacked (not installed)
into .servers/, with what it needs and the machine has not. Where even that is impossible the test is skipped, with the
reason. Refuses to change the machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

KEPT: Final = Path(__file__).parents[2] / ".servers"
_SECONDS: Final = 600


@dataclass(frozen=True, slots=True)
class Program:
    """Where it is, and what its environment has to hold besides."""

    path: Path
    environment: Mapping[str, str] = field(default_factory=dict)


def debian(variable: str, name: str, packages: Sequence[str], inside: str) -> Program:
    """A program of a Debian package.

    `variable` is an environment variable that may name it, `name` what it is called on PATH, `packages` what to unpack,
    `inside` where it lies in there. Skips the test where none of it is to be had.
    """
    named = os.environ.get(variable) or shutil.which(name)
    if named:
        return Program(Path(named))
    root = _unpacked(packages)
    libraries = sorted({str(path.parent) for path in root.glob("**/*-linux-gnu/**/*.so*")})
    before = os.environ.get("LD_LIBRARY_PATH")
    return Program(
        root / inside,
        {
            "LD_LIBRARY_PATH": os.pathsep.join([*libraries, *([before] if before else [])]),
            "XDG_DATA_HOME": str(root / "usr" / "share"),  # fonts, where the machine has none
        },
    )


def _unpacked(packages: Sequence[str]) -> Path:
    folder = KEPT / "debian" / packages[0]
    root, done = folder / "root", folder / "done"
    if done.exists():
        return root
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        pytest.skip(f"{packages[0]} is not here, and neither is apt-get to fetch it with")
    folder.mkdir(parents=True, exist_ok=True)
    planned = _run("apt-get", "-s", "install", "--no-install-recommends", *packages, cwd=folder)
    missing = [line.split()[1] for line in planned.splitlines() if line.startswith("Inst ")]
    _run("apt-get", "download", "-o", "APT::Sandbox::User=root", *(missing or packages), cwd=folder)
    for archive in sorted(folder.glob("*.deb")):
        _run("dpkg", "-x", str(archive), str(root), cwd=folder)
        archive.unlink()
    done.touch()
    return root


def _run(*command: str, cwd: Path) -> str:
    try:
        ran = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{command[0]} took longer than {_SECONDS} s")
    if ran.returncode != 0:
        last = ran.stderr.strip().splitlines()[-1:] or ["no reason given"]
        pytest.skip(f"`{' '.join(command[:3])}` failed: {last[0]} (`apt-get update` may help)")
    return ran.stdout
