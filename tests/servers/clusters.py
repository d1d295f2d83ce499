"""The servers the tests run on: one pair (source, target) for every version asked for, started when first needed.

CROSSFADE_TEST_POSTGRES chooses, as a comma-separated list: `embedded`, `system`, a major version (`16`), or two of
these with a colon for a source and a target of different versions (`13:18`). The default is `embedded,system`. The
pairs are quick and careless (fsync off) and nobody may crash them; a test that crashes servers makes its own
(`make_server`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from crossfade.demo.servers import Binaries, Server, find_binaries, start_together

ROOT = Path(__file__).parents[2]
VARIABLE = "CROSSFADE_TEST_POSTGRES"


@dataclass(frozen=True, slots=True)
class Versions:
    """The source's and the target's binaries, and the name tests carry in brackets."""

    source: Binaries
    target: Binaries

    def __str__(self) -> str:
        if self.source == self.target:
            return f"{self.source.origin}{self.source.version_major}"
        return f"{self.source.version_major}to{self.target.version_major}"


@dataclass(frozen=True, slots=True)
class Choice:
    """What runs, and what was asked for but is not on this machine."""

    versions: tuple[Versions, ...]
    missing: tuple[str, ...]

    def summary(self) -> list[str]:
        """Lines for the terminal: which versions run, and what was not found."""
        lines = [f"PostgreSQL {_named(each)}" for each in self.versions]
        lines += [
            "the system's PostgreSQL server was not found; the tests run without it"
            if name == "system"
            else f"PostgreSQL {name} was asked for in {VARIABLE} and was not found"
            for name in self.missing
        ]
        return lines


def _named(versions: Versions) -> str:
    source, target = versions.source, versions.target
    if source == target:
        return f"{source.version_text} ({source.origin})"
    return f"{source.version_text} ({source.origin}) to {target.version_text} ({target.origin})"


def choose(asked: str | None = None, found: Sequence[Binaries] | None = None) -> Choice:
    """Read CROSSFADE_TEST_POSTGRES against what this machine has."""
    asked = asked or os.environ.get(VARIABLE) or "embedded,system"
    found = find_binaries(ROOT / ".servers") if found is None else found
    versions: list[Versions] = []
    missing: list[str] = []
    for word in (word.strip() for word in asked.split(",")):
        pair = [_find(name, found) for name in word.split(":")]
        if None in pair or len(pair) > 2:
            missing.append(word)
        elif pair[0] is not None and pair[-1] is not None:
            versions.append(Versions(pair[0], pair[-1]))
    return Choice(tuple(versions), tuple(missing))


def _find(name: str, found: Sequence[Binaries]) -> Binaries | None:
    return next((each for each in found if name in (each.origin, str(each.version_major))), None)


@dataclass(slots=True)
class Pair:
    """Two running servers, each with a superuser connection for errands; the roles exist on both."""

    source: Server
    target: Server
    errands: dict[Server, psycopg.Connection[tuple[object, ...]]] = field(default_factory=dict)

    def admin(self, server: Server) -> psycopg.Connection[tuple[object, ...]]:
        """The superuser's connection to one of the two, opened again when a test closed it on the server's side."""
        known = self.errands.get(server)
        if known is None or known.closed or known.broken:
            known = self.errands[server] = psycopg.connect(server.dsn(), autocommit=True)
        return known

    def close(self) -> None:
        for connection in self.errands.values():
            connection.close()
        self.source.close()
        self.target.close()


def memory() -> Path | None:
    """A file system in memory with room to spare, where a database is made ten times as fast as on a disk."""
    memory = Path("/dev/shm")
    try:
        room = os.statvfs(memory)
    except OSError:
        return None
    roomy = room.f_bavail * room.f_frsize > 4 << 30
    return memory if roomy and os.access(memory, os.W_OK) and memory.stat().st_mode & 0o001 else None


class Pairs:
    """Every pair of this test session (each worker of pytest-xdist has a session of its own)."""

    def __init__(self) -> None:
        self._running: dict[Versions, Pair] = {}

    def get(self, versions: Versions, *, prepare: Callable[[Pair], None]) -> Pair:
        """The running pair of these versions; started now, and prepared, if it is the first time."""
        pair = self._running.get(versions)
        if pair is None:
            base = memory()
            pair = Pair(
                Server(versions.source, name="source", base=base, fsync=False),
                Server(versions.target, name="target", base=base, fsync=False),
            )
            start_together(pair.source, pair.target)
            self._running[versions] = pair
            prepare(pair)
        return pair

    def close(self) -> None:
        """Stop them all."""
        for pair in self._running.values():
            pair.close()
        self._running.clear()
