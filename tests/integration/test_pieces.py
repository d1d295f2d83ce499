"""A transaction too large for one batch, applied in pieces inside one open target transaction."""

from __future__ import annotations

from tests.integration.following import SAME, follow
from tests.servers.daemon import Workspace
from tests.servers.databases import Databases

# The smallest pieces and a pipe that a few of them fill.
TINY = "[stream]\nbatch_bytes = 1024\npipe_bytes = 4096\n"


def test_an_idle_position_never_comes_between_two_pieces(workspace: Workspace, databases: Databases) -> None:
    """Idle log is heard, a large transaction begins, and somebody asks to persist: the position waits for its end."""
    followed = follow(workspace, source="CREATE TABLE big (id int PRIMARY KEY, v text);", mapping=SAME, extra=TINY)
    with databases.target.connect(autocommit=False) as blocker:
        blocker.execute("LOCK TABLE big IN ACCESS EXCLUSIVE MODE")
        # Log of no table of ours, of which only a keepalive tells.
        idle = databases.source.value("SELECT pg_logical_emit_message(false, 'test', '') - '0/0'::pg_lsn")
        followed.daemon.wait_for(
            lambda: followed.metric("crossfade_received_lsn_bytes") >= int(idle), "the idle position", timeout=20
        )
        databases.source.execute("INSERT INTO big SELECT n, repeat('y', 100) FROM generate_series(1, 2000) n")
        followed.daemon.wait_for(
            lambda: bool(
                databases.target.value("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'big'::regclass")
            ),
            "the first piece waiting for the lock",
            timeout=20,
        )
        for _ in range(5):
            databases.target.execute("SELECT pg_notify('crossfade_control', 'persist')")
        blocker.rollback()
    followed.write("INSERT INTO big VALUES (0, 'after')")
    followed.assert_equal("big")
    assert "failed" not in followed.daemon.text()
