"""A table published for INSERT and TRUNCATE only."""

from __future__ import annotations

import json

import pytest

from tests.integration.following import SAME, follow
from tests.servers.daemon import Workspace
from tests.servers.databases import Databases

APPENDED = "tables:\n  public.log:\n    append_only: true\n"


@pytest.mark.one_version  # the alarm comes with the guard's next look, ten seconds later
def test_an_update_of_an_append_only_table_raises_an_alarm(workspace: Workspace, databases: Databases) -> None:
    """Inserts and TRUNCATE arrive; UPDATE and DELETE are not published, and the server's counters give them away."""
    followed = follow(
        workspace,
        SAME + APPENDED,
        source="CREATE TABLE log (at int, what text); CREATE TABLE kept (id int PRIMARY KEY);",
        rows="INSERT INTO log SELECT n, 'x' FROM generate_series(1, 5) n",
        append=['"public"."log"'],
    )
    followed.write("INSERT INTO log VALUES (6, 'y')", "UPDATE log SET what = 'changed' WHERE at = 1")
    assert databases.target.value("SELECT count(*) FROM log") == 6
    followed.daemon.wait_for(lambda: "were updated or deleted" in followed.daemon.text(), "the alarm", timeout=40)
    alerts = json.loads(workspace.run("status", "--json").stdout)["alerts"]
    assert [alert["name"] for alert in alerts if alert["name"] == "append_only_changed"]
