"""Where the demonstration plays: two servers, two databases, the roles a DBA would make, a configuration.

Everything crossfade gets is what deploy/sql gives it: the least it can live with. Refuses to know what is played. The
invariant: crossfade itself never sees a superuser's password here, and nothing is left behind after `close()`.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crossfade.demo import furnish as making
from crossfade.demo.scripts import CONFIG
from crossfade.demo.servers import Server, embedded, start_together

DBNAME: Final = "shop"
ROLE: Final = "crossfade"
OWNER: Final = "shop"  # of the legacy tables; the application logs in as it
# Names that would change what crossfade reads: only what we say here counts.
_FOREIGN: Final = ("CROSSFADE_", "PG")
_ALSO_FOREIGN: Final = frozenset({"CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})


@dataclass(slots=True)
class Stage:
    """Two running servers and how to reach them. `environment` is complete, for subprocesses of ours."""

    legacy: Server
    new: Server
    folder: Path
    listen: str
    password: str
    owner_password: str

    @property
    def source_dsn(self) -> str:
        """Crossfade's own way to the legacy database."""
        return self.legacy.dsn(DBNAME, ROLE, self.password)

    @property
    def target_dsn(self) -> str:
        """Crossfade's own way to the new database."""
        return self.new.dsn(DBNAME, ROLE, self.password)

    @property
    def application_dsn(self) -> str:
        """The legacy application's way to its database."""
        return self.legacy.dsn(DBNAME, OWNER, self.owner_password)

    @property
    def shop(self) -> making.Shop:
        """What the two servers shall hold."""
        return making.Shop(
            source_admin=self.legacy.dsn(),
            target_admin=self.new.dsn(),
            application=self.application_dsn,
            source=self.source_dsn,
            target=self.target_dsn,
        )

    @property
    def judge_dsns(self) -> tuple[str, str]:
        """Both databases for somebody who may see everything, crossfade's own tables included."""
        return self.legacy.dsn(DBNAME), self.new.dsn(DBNAME)

    @property
    def overrides(self) -> dict[str, str]:
        """What is not as the shipped configuration says."""
        return {
            "CROSSFADE_CONFIG": str(CONFIG),
            "CROSSFADE_SOURCE__DSN": self.source_dsn,
            "CROSSFADE_TARGET__DSN": self.target_dsn,
            "CROSSFADE_HTTP__LISTEN": self.listen,
        }

    @property
    def environment(self) -> dict[str, str]:
        """Our own environment without anything that speaks to crossfade or libpq, and with the overrides."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(_FOREIGN) and name not in _ALSO_FOREIGN
        }
        return kept | self.overrides

    def close(self) -> None:
        """Stop both servers and remove every file. May be called twice."""
        self.legacy.close()
        self.new.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def set_up() -> Stage:
    """Start both servers. Blocks for a second or two. Raises `ServerFailed` with the end of a log."""
    binaries = embedded()
    stage = Stage(
        # Nobody crashes these servers, only crossfade: they need not wait for the disk.
        legacy=Server(binaries, name="legacy", fsync=False),
        new=Server(binaries, name="new", fsync=False),
        folder=Path(tempfile.mkdtemp(prefix="crossfade-demo-")),
        listen=f"127.0.0.1:{_free_port()}",
        password=secrets.token_urlsafe(18),
        owner_password=secrets.token_urlsafe(18),
    )
    try:
        start_together(stage.legacy, stage.new)
    except BaseException:
        stage.close()
        raise
    return stage


def furnish(stage: Stage, *, rows: int) -> None:
    """Create both schemas, the legacy one with about `rows` rows, and what a DBA prepares. Blocks for some seconds."""
    making.furnish(stage.shop, rows=rows)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
