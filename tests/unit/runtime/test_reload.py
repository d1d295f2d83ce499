from __future__ import annotations

from pathlib import Path

from crossfade.runtime.reload import merged
from crossfade.settings import Settings, load_settings

FILE = """
name = "shop"
[source]
dsn = "host=old password=hunter2"
[target]
dsn = "host=new"
"""


def settings(folder: Path, text: str) -> Settings:
    (folder / "crossfade.toml").write_text(text)
    return load_settings(folder / "crossfade.toml", environment={}, run_secrets=folder / "none")


def test_limits_thresholds_and_log_level_are_taken(tmp_path: Path) -> None:
    running = settings(tmp_path, FILE)
    fresh = settings(
        tmp_path,
        FILE + 'disk_capacity = "9 GiB"\n[log]\nlevel = "debug"\n[guards]\nwal_soft_limit = "1 GiB"\n[alerts]\n'
        'conflicts = 99\n[capacity]\ntarget_free = "2 GiB"\n',
    )
    taken, kept = merged(running, fresh)
    assert kept == []
    assert taken.model_dump() == fresh.model_dump()
    assert (taken.log.level, taken.guards.wal_soft_limit, taken.alerts.conflicts) == ("debug", 1024**3, 99)
    assert taken.target.disk_capacity == 9 * 1024**3


def test_what_takes_a_restart_is_named_and_left(tmp_path: Path) -> None:
    running = settings(tmp_path, FILE)
    fresh = settings(
        tmp_path,
        FILE.replace("hunter2", "rotated")
        + '[stream]\nslot = "other"\n[copy]\nworkers = 7\n[hooks]\non_alert = ["x"]\n'
        '[log]\nlevel = "debug"\n',
    )
    taken, kept = merged(running, fresh)
    assert kept == ["copy.workers", "hooks.on_alert", "source.dsn", "stream.slot"]
    assert taken.source.dsn.get_secret_value() == "host=old password=hunter2"
    assert taken.stream.slot == running.stream.slot
    assert taken.log.level == "debug"


def test_the_same_again_changes_nothing(tmp_path: Path) -> None:
    running = settings(tmp_path, FILE)
    taken, kept = merged(running, settings(tmp_path, FILE))
    assert (taken, kept) == (running, [])
