"""Every statement of the runbooks, run against both databases of a workflow that streams."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.servers.daemon import Workspace
from tests.servers.databases import Databases, Side
from tests.unit.deploy import rules

_SOURCE = "CREATE TABLE public.items (id bigint PRIMARY KEY, name text); INSERT INTO items VALUES (1, 'first');"
_TARGET = "CREATE SCHEMA app; CREATE TABLE app.items (id bigint PRIMARY KEY, name text);"
# They change the server, and other tests use it as well.
_CHANGES = ("ALTER SYSTEM", "pg_drop_replication_slot")


def statements() -> Iterator[tuple[str, str, int, str]]:
    """Page, side, oldest version, SQL."""
    for page in sorted(rules.RUNBOOKS.glob("*.md")):
        for block in re.findall(r"^```sql\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE):
            where, _, sql = block.partition("\n")
            version = re.search(r"PostgreSQL (\d+)", where)
            for statement in filter(None, map(str.strip, sql.split(";"))):
                yield page.stem, where.split()[1].rstrip(","), int(version[1]) if version else 13, statement


@pytest.mark.parametrize("replica_role", [True], ids=["replica"])
def test_every_statement_can_be_run(workspace: Workspace, databases: Databases) -> None:
    databases.prepare(_SOURCE, _TARGET)
    databases.publish("items")
    daemon = workspace.write("version: 1\nschemas: {public: app}\n").daemon()
    daemon.wait_for_phase("streaming")
    sides = {"source": databases.source, "target": databases.target}
    slot, shown = workspace.slot, dict[str, int]()
    for page, where, oldest, statement in statements():
        if any(change in statement for change in _CHANGES) or _version(sides[where]) < oldest:
            continue
        # A session that does not exist: a warning, and false. The slot has another name here.
        asked = statement.replace("<pid>", "2147483647").replace("slot_name = 'crossfade'", f"slot_name = '{slot}'")
        rows = sides[where].execute(asked)
        shown[page] = shown.get(page, 0) + len(rows)
    for page in ("CrossfadeDown", "CrossfadeSlotRetention", "CrossfadeNoLeader", "CrossfadeStalled"):
        assert shown[page] >= 1, f"{page} looks for a slot or a session that is there, and finds none"


def test_the_limit_of_a_slot_can_be_raised_without_a_restart(databases: Databases) -> None:
    context = databases.source.value("SELECT context FROM pg_settings WHERE name = 'max_slot_wal_keep_size'")
    assert context == "sighup"


def _version(side: Side) -> int:
    version = side.value("SELECT current_setting('server_version_num')::int / 10000")
    assert isinstance(version, int)
    return version
