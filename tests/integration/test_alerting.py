"""The shipped rules on a real Prometheus that scrapes a leader and a standby: they evaluate, fire and are over.

$PROMETHEUS or on the path (Debian: in the package `prometheus`); without it the test is skipped.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers.daemon import Workspace, free_port
from tests.servers.databases import Databases
from tests.servers.prometheus import prometheus, until
from tests.unit.deploy import rules

pytestmark = [pytest.mark.parametrize("replica_role", [True], ids=["replica"]), pytest.mark.one_version]

_ITEMS = "CREATE TABLE public.items (id bigint PRIMARY KEY, name text); INSERT INTO items VALUES (1, 'first');"


def test_the_rules_work_on_what_is_scraped(workspace: Workspace, databases: Databases, tmp_path: Path) -> None:
    program = rules.tool("prometheus")
    databases.prepare(_ITEMS, "CREATE TABLE public.items (id bigint PRIMARY KEY, name text);")
    databases.publish("items")
    leader = workspace.write().daemon()
    leader.wait_for_phase("streaming")
    port = free_port()
    standby = workspace.daemon(env={"CROSSFADE_HTTP__LISTEN": f"127.0.0.1:{port}"})
    standby.wait_for_line("waiting as a standby")
    with prometheus(program, tmp_path / "prometheus", [workspace.port, port], rules.RULES) as server:
        until(lambda: len(server.query("crossfade_up == 1")) == 2, lambda: server.query("up"))
        until(lambda: not server.unwell(), server.unwell)
        # What the rules single out is there, once, and the standby's is not.
        assert len(server.query("crossfade_replication_lag_seconds and on (job, instance) crossfade_leader == 1")) == 1
        assert len(server.query("crossfade_slot_active and on (job, instance) crossfade_leader == 1")) == 1
        assert len(server.query(rules.THRESHOLD)) == len(rules.thresholds())
        always = {("CrossfadeWatchdog", "")}
        assert server.firing() == always

        databases.target.execute("ALTER TABLE items ADD CONSTRAINT refused CHECK (id < 10) NOT VALID")
        databases.source.execute("INSERT INTO items VALUES (10, 'refused')")
        refused = ("CrossfadeHighErrorRate", "phase_failed")
        until(lambda: refused in server.firing(), server.firing)
        assert server.unwell() == []
        (told,) = server.query('ALERTS{alertname="CrossfadeHighErrorRate",alertstate="firing"}')
        assert (told["workflow"], told["severity"]) == ("shop", "critical")

        databases.target.execute("ALTER TABLE items DROP CONSTRAINT refused")
        assert workspace.run("resume").returncode == 0
        until(lambda: databases.target.value("SELECT count(*) FROM items") == 2, leader.text)
        leading = 'crossfade_phase{phase="failed"} == 1 and on (instance) crossfade_leader == 1'
        until(lambda: not server.query(leading), lambda: server.query(leading))
        assert server.unwell() == []
