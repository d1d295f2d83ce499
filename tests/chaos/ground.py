"""Two servers of one's own, with roles and a database each: to be crashed, filled, measured, and thrown away.

Knows what every campaign and measurement needs before it has a subject of its own. The invariant: nothing of it is
left when the block ends.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from crossfade.demo.servers import Server, start_together
from tests.servers.clusters import Pair, Versions, choose, memory
from tests.servers.daemon import Workspace
from tests.servers.databases import REPLICA_ROLE, ROLE, Databases, Side, make_roles


def versions() -> Versions:
    """The oldest server chosen as the source, the newest as the target: one pair, as a migration would have it."""
    chosen = choose().versions
    if not chosen:
        raise RuntimeError("no PostgreSQL server was found")
    sources = sorted((v.source for v in chosen), key=lambda b: b.version_major)
    targets = sorted((v.target for v in chosen), key=lambda b: b.version_major)
    return Versions(sources[0], targets[-1])


class Ground:
    """Use as a context manager. `databases` are called `shop` on both servers, the slot `crossfade`."""

    def __init__(
        self,
        folder: Path,
        *,
        on: Versions | None = None,
        replica_role: bool = True,
        fsync: bool = True,
        in_memory: bool = True,
        source_settings: Mapping[str, str] | None = None,
        target_settings: Mapping[str, str] | None = None,
    ) -> None:
        chosen = on or versions()
        base = memory() if in_memory else None
        self.source = Server(chosen.source, name="chaos-source", base=base, fsync=fsync, settings=source_settings)
        self.target = Server(chosen.target, name="chaos-target", base=base, fsync=fsync, settings=target_settings)
        self.databases = Databases(
            Side(self.source, "shop", ROLE),
            Side(self.target, "shop", REPLICA_ROLE if replica_role else ROLE),
            replica_role=replica_role,
        )
        self.workspace = Workspace(folder, self.databases)
        self.workspace.slot = "crossfade"
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        try:
            for server in (self.source, self.target):
                self._stack.callback(server.close)
            start_together(self.source, self.target)
            pair = Pair(self.source, self.target)
            make_roles(pair)
            for server in (self.source, self.target):
                with pair.admin(server) as admin:
                    admin.execute("CREATE DATABASE shop TEMPLATE template0")
            self._stack.callback(self.workspace.close)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
