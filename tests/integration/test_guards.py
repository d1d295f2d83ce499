"""Guards on real servers: what pauses by itself goes on by itself, and nothing is lost on the way."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.following import RESUME, Followed, follow
from tests.integration.receiving import receiver
from tests.integration.sides import assert_equal, crashable
from tests.servers.clusters import Versions
from tests.servers.daemon import Workspace
from tests.servers.databases import Databases, Side

# Nothing here depends on the server's version.
pytestmark = pytest.mark.one_version

ITEMS = "CREATE TABLE items (id int PRIMARY KEY, note text);"
ROWS = "INSERT INTO items SELECT n, 'a note' FROM generate_series(1, 3) n;"
MIB = 1024 * 1024
QUICK = '[guards]\nprobe_interval = "1s"\n'


def document(workspace: Workspace) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{workspace.port}/api/v1/status", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def paused(followed: Followed, reason: str | None) -> None:
    def is_so() -> bool:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):  # it just starts
            return bool(document(followed.workspace)["paused"] == reason)
        return False

    followed.daemon.wait_for(is_so, f"paused: {reason}", timeout=60)


def alerts(workspace: Workspace) -> dict[str, dict[str, str]]:
    return {alert["name"]: alert for alert in document(workspace)["alerts"]}


def caught_up(followed: Followed) -> None:
    followed.daemon.wait_until_caught_up()
    assert_equal(followed.databases, "items")


def refusing(side: Side, sqlstate: str) -> None:
    """From now on the target answers each row with this SQLSTATE, as a server in trouble would."""
    side.execute(
        "CREATE FUNCTION public.trouble() RETURNS boolean LANGUAGE plpgsql AS"
        f" $$BEGIN RAISE EXCEPTION 'in trouble' USING ERRCODE = '{sqlstate}'; END$$;"
        " ALTER TABLE items ADD CONSTRAINT trouble CHECK (public.trouble()) NOT VALID"
    )


def full(side: Side) -> None:
    """From now on the target has no room, for rows or for a new table: as a probe would find it."""
    side.execute(
        "CREATE SEQUENCE public.probes;"  # no rollback takes back what it counted
        " CREATE FUNCTION public.no_room() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS"
        " $$BEGIN PERFORM nextval('public.probes'); RAISE EXCEPTION 'no room' USING ERRCODE = '53100'; END$$;"
    )
    refusing(side, "53100")
    side.execute(
        "CREATE EVENT TRIGGER no_room ON ddl_command_start WHEN TAG IN ('CREATE TABLE')"
        " EXECUTE FUNCTION public.no_room()"
    )


def probes(side: Side) -> int:
    """How often it was tried since."""
    return int(side.value("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM public.probes"))


def well(side: Side) -> None:
    side.execute(
        "DROP EVENT TRIGGER IF EXISTS no_room; DROP FUNCTION IF EXISTS public.no_room();"
        " DROP SEQUENCE IF EXISTS public.probes;"
        " ALTER TABLE items DROP CONSTRAINT trouble; DROP FUNCTION public.trouble()"
    )


# the target's disk ---------------------------------------------------------------------------------------------------


def test_H6_a_full_target_pauses_is_told_and_goes_on_by_itself(
    workspace: Workspace, databases: Databases, tmp_path: Path
) -> None:
    """SQLSTATE 53100: paused until a probe finds room; command, webhook and Alertmanager hear of both."""
    told = tmp_path / "told"
    script = tmp_path / "told.sh"
    script.write_text(f'#!/bin/sh\ncat >> {told}; echo >> {told}; env | grep -c "DSN" >> {told}.secrets; true\n')
    script.chmod(0o755)
    with receiver() as web:
        web.fails = 2  # the first two tries
        followed = follow(
            workspace,
            source=ITEMS,
            rows=ROWS,
            extra=f'{QUICK}[hooks]\non_alert = ["{script}"]\nwebhook = "{web.url}/hook/s3cret-in-the-path"\n'
            f'webhook_token = "t0ken"\nalertmanager = "{web.url}"\n',
            env={"CROSSFADE_SOURCE__DSN": databases.source_dsn},
        )
        full(databases.target)
        databases.source.execute("INSERT INTO items VALUES (100, 'no room')")
        paused(followed, "target_full")
        refused = len(list(re.finditer("53100", followed.daemon.text())))
        assert alerts(workspace)["paused"]["level"] == "error"
        assert followed.metric("crossfade_paused", reason="target_full") == 1
        assert followed.metric("crossfade_errors_total", component="apply", sqlstate_class="53") >= 1
        followed.daemon.wait_for(
            lambda: probes(databases.target) >= 2, "what it tries meanwhile is refused, and it stays paused"
        )
        assert document(workspace)["paused"] == "target_full"
        assert len(list(re.finditer("53100", followed.daemon.text()))) == refused  # rows are not tried meanwhile
        well(databases.target)
        caught_up(followed)
        paused(followed, None)

        def heard(path: str) -> list[Any]:
            return [body for at, _, body in web.received if at == path]

        followed.daemon.wait_for(lambda: len(heard("/hook/s3cret-in-the-path")) >= 4, "the webhook heard of both")
        hooked = [(said["alert"], said["status"]) for said in heard("/hook/s3cret-in-the-path")]
        assert hooked == [("paused", "firing")] * 3 + [("paused", "resolved")]  # the first two were not taken
        assert {headers["Authorization"] for at, headers, _ in web.received if "/hook" in at} == {"Bearer t0ken"}
        followed.daemon.wait_for(lambda: len(heard("/api/v2/alerts")) >= 2, "Alertmanager heard of both")
        first, *_, last = [entry for body in heard("/api/v2/alerts") for entry in body]
        assert first["labels"] == last["labels"]
        assert first["labels"] == {
            "alertname": "CrossfadePaused", "workflow": "shop", "severity": "critical", "origin": "daemon",
        }  # fmt: skip
        assert first["startsAt"] == last["startsAt"] < last["endsAt"] < first["endsAt"]
        followed.daemon.wait_for(lambda: told.read_text().count("resolved"), "the command heard of both")
        lines = [json.loads(line) for line in told.read_text().splitlines()]
        assert [(said["alert"], said["status"]) for said in lines] == [("paused", "firing"), ("paused", "resolved")]
        assert set(Path(f"{told}.secrets").read_text().split()) == {"0"}
        assert followed.metric("crossfade_notifications_total", channel="webhook", outcome="failed") == 2
        assert followed.metric("crossfade_notifications_total", channel="command", outcome="sent") == 2
        followed.stop()
    log = followed.daemon.text()
    assert "s3cret" not in log
    assert "t0ken" not in log
    assert "no room" not in "".join(map(json.dumps, (body for _, _, body in web.received)))


def test_H6_past_its_capacity_the_target_pauses_and_an_operator_s_pause_outlives_that(
    workspace: Workspace, databases: Databases
) -> None:
    databases.target.execute(
        "CREATE TABLE ballast AS SELECT repeat('x', 1900) AS filler FROM generate_series(1, 16384)"
    )
    used = databases.target.value("SELECT sum(pg_database_size(oid)) FROM pg_database")
    followed = follow(
        workspace,
        "version: 1\nschemas: {public: public}\n",
        source=ITEMS,
        target=ITEMS,
        rows=ROWS,
        extra=QUICK,
        env={"CROSSFADE_TARGET__DISK_CAPACITY": str(int(used) + 8 * MIB)},
    )
    followed.daemon.wait_for(lambda: "target" in document(workspace)["disks"], "the capacity is measured")
    assert document(workspace)["paused"] is None
    databases.source.execute("INSERT INTO items SELECT n, repeat(md5(n::text), 50) FROM generate_series(1000, 11000) n")
    paused(followed, "target_full")
    followed.daemon.wait_for(
        lambda: followed.metric("crossfade_disk_free_bytes", endpoint="target") == 0, "no room is left"
    )
    assert "disk is full" in workspace.run("status").stdout
    assert workspace.run("pause").returncode == 0
    paused(followed, "operator")
    databases.target.execute("DROP TABLE ballast")
    followed.daemon.wait_for(
        lambda: followed.metric("crossfade_paused", reason="target_full") == 0, "the guard has no reason any more"
    )
    assert document(workspace)["paused"] == "operator"
    # An operator's pause also outlives the daemon.
    assert followed.daemon.terminate() == 0
    daemon = followed.daemon.start()
    daemon.wait_for_phase("catchup")
    paused(followed, "operator")
    databases.target.execute(RESUME)
    caught_up(followed)
    followed.stop()


@contextmanager
def small_disk(size: str) -> Iterator[Path]:
    """A file system of its own, where a server may go as well; only root may make one."""
    folder = Path(tempfile.mkdtemp(prefix="crossfade-disk-", dir="/tmp"))
    folder.chmod(0o755)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0777", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        folder.rmdir()
        pytest.skip("nobody but root may make a file system to be filled")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=True)
        folder.rmdir()


def test_H6_a_disk_that_is_really_full_and_gets_room_again(postgres: Versions, tmp_path: Path) -> None:
    """The target's tables lie on a disk of their own: what crossfade writes about itself does not fit either."""
    with small_disk("48m") as disk, crashable(postgres, tmp_path / "work") as workspace:
        databases = workspace.databases
        place = disk / "tables"
        place.mkdir()
        owner = databases.target.server.data.stat()
        os.chown(place, owner.st_uid, owner.st_gid)
        databases.target.execute(f"CREATE TABLESPACE small LOCATION '{place}'")
        followed = follow(
            workspace,
            source=ITEMS,
            target=ITEMS + " ALTER TABLE items SET TABLESPACE small; ALTER INDEX items_pkey SET TABLESPACE small;",
            rows=ROWS,
            extra=QUICK,
        )
        ballast = disk / "ballast"
        with ballast.open("wb") as out:
            out.write(b"x" * (40 * MIB))
        databases.source.execute(
            "INSERT INTO items SELECT n, repeat(md5(n::text), 50) FROM generate_series(1000, 11000) n"
        )
        paused(followed, "target_full")
        assert document(workspace)["error"]["sqlstate"] == "53100"
        # Whoever starts next finds the pause, and that it still holds.
        followed.daemon.kill9()
        followed.daemon.start()
        paused(followed, "target_full")
        confirmed = databases.source.value("SELECT confirmed_flush_lsn::text FROM pg_replication_slots")
        durable = databases.target.value("SELECT end_lsn::text FROM crossfade.progress")
        assert databases.source.value("SELECT %s::pg_lsn <= %s::pg_lsn", [confirmed, durable])
        ballast.unlink()
        caught_up(followed)
        followed.stop()


# errors --------------------------------------------------------------------------------------------------------------


def test_K5_many_errors_pause_and_it_tries_again_by_itself(workspace: Workspace, databases: Databases) -> None:
    followed = follow(workspace, source=ITEMS, rows=ROWS, extra=QUICK)
    refusing(databases.target, "40001")
    databases.source.execute("INSERT INTO items VALUES (100, 'refused')")
    paused(followed, "error_rate")
    assert followed.metric("crossfade_errors_total", component="apply", sqlstate_class="40") >= 5
    well(databases.target)
    caught_up(followed)
    paused(followed, None)
    followed.stop()


# WAL on the source ---------------------------------------------------------------------------------------------------


def test_B1_the_slot_is_given_up_when_that_is_configured_and_not_before(
    workspace: Workspace, databases: Databases
) -> None:
    """First an alarm; a reload says what is to be done; then the slot goes, and everybody is told why."""
    extra = '[guards]\nwal_soft_limit = "1 MiB"\nwal_hard_limit = "4 MiB"\n'
    followed = follow(workspace, source=ITEMS, rows=ROWS, extra=extra)
    daemon = followed.daemon
    assert workspace.run("pause").returncode == 0

    def write(mib: int) -> None:
        with databases.source.connect() as writer:
            for _ in range(mib):
                writer.execute("SELECT pg_logical_emit_message(false, 'ballast', repeat('x', 1048576))")

    write(2)
    daemon.wait_for(lambda: "wal_soft_limit" in alerts(workspace), "the soft limit is told")
    assert "wal_hard_limit" not in alerts(workspace)
    write(4)
    daemon.wait_for(lambda: "wal_hard_limit" in alerts(workspace), "the hard limit is told")
    assert databases.source.value("SELECT count(*) FROM pg_replication_slots WHERE slot_name = %s", [workspace.slot])
    # A file that is no good changes nothing; one that is, does.
    written = workspace.config.read_text()
    workspace.config.write_text(written.replace("wal_hard_limit", "wal_hardest_limit"))
    daemon.signal(signal.SIGHUP)
    daemon.wait_for(lambda: followed.metric_of("crossfade_config_last_reload_successful") == 0, "it is refused")
    assert daemon.running
    workspace.config.write_text(
        written.replace('wal_hard_limit = "4 MiB"', 'wal_hard_limit = "4 MiB"\non_wal_hard_limit = "give_up_slot"')
    )
    daemon.signal(signal.SIGHUP)
    assert daemon.wait(30) == 3
    assert "settings were read again" in daemon.text()
    assert not databases.source.value(
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name = %s", [workspace.slot]
    )
    (outcome,) = databases.target.execute("SELECT outcome FROM crossfade.control WHERE command = 'give_up_slot'")
    assert "wal_hard_limit" in outcome[0]
    assert "1 tables, 3 rows" in outcome[0]
    asked = workspace.run("status")
    assert "given up" in asked.stdout
    again = workspace.run("run")
    assert again.returncode == 3
    assert "given up to save the source" in again.stderr


def test_B1_the_slot_is_watched_and_given_up_also_while_the_target_is_away(postgres: Versions, tmp_path: Path) -> None:
    """Nothing makes a slot keep more WAL than a target that is away: the guards do not wait for it."""
    with crashable(postgres, tmp_path) as workspace:
        extra = '[guards]\nwal_hard_limit = "4 MiB"\non_wal_hard_limit = "give_up_slot"\n'
        followed = follow(workspace, source=ITEMS, rows=ROWS, extra=extra)
        databases = workspace.databases
        databases.target.server.stop("immediate")
        lag = document(workspace)["lag_seconds"] or 0.0
        databases.source.execute("INSERT INTO items VALUES (100, 'nobody takes it')")
        followed.daemon.wait_for(
            lambda: (document(workspace)["lag_seconds"] or 0.0) > lag + 3, "the lag grows all the while"
        )
        assert followed.metric("crossfade_leader") == 0
        with databases.source.connect() as writer:
            for _ in range(6):
                writer.execute("SELECT pg_logical_emit_message(false, 'ballast', repeat('x', 1048576))")
        assert followed.daemon.wait(60) == 3
        assert not databases.source.value(
            "SELECT count(*) FROM pg_replication_slots WHERE slot_name = %s", [workspace.slot]
        )
        assert "could not be written to the target" in followed.daemon.text()


# our own disk --------------------------------------------------------------------------------------------------------


def test_our_own_disk_pauses_while_it_is_nearly_full(
    workspace: Workspace, databases: Databases, tmp_path: Path
) -> None:
    with small_disk("8m") as disk:
        followed = follow(
            workspace,
            source=ITEMS,
            rows=ROWS,
            extra=f'{QUICK}own_disk_path = "{disk}"\nown_disk_reserve = "2 MiB"\n',
        )
        (disk / "ballast").write_bytes(b"x" * (7 * MIB))
        paused(followed, "own_disk")
        databases.source.execute("INSERT INTO items VALUES (100, 'waits')")
        (disk / "ballast").unlink()
        caught_up(followed)
        followed.stop()
