"""Another mapping for a workflow that runs: what is free is accepted and recorded, the rest refused with the reason."""

from __future__ import annotations

import json

import pytest

from tests.integration.following import follow
from tests.servers.daemon import Workspace

TABLES = """
    CREATE TABLE users (id int PRIMARY KEY, name text, plan int, note text);
    CREATE TABLE orders (id int PRIMARY KEY, total int);
"""
TARGET = """
    CREATE TABLE users (id int PRIMARY KEY, name text, plan text, note text);
    CREATE TABLE orders (id int PRIMARY KEY, total int);
"""
MAPPING = """\
version: 1
schemas: {public: public}
tables:
  public.users:
    columns:
      plan: {values: {1: free, 2: pro}}
  public.orders:
    columns:
      total: {up: "total + 1", down: "total - 1"}
"""


@pytest.mark.one_version
def test_what_is_free_goes_on_and_what_is_not_is_refused_as_the_diff_says(workspace: Workspace) -> None:
    followed = follow(workspace, MAPPING, source=TABLES, target=TARGET, rows="INSERT INTO users VALUES (1, 'a', 1)")
    databases = workspace.databases
    # A value nobody foresaw stops the stream ...
    databases.source.execute("INSERT INTO users VALUES (2, 'b', 3)")
    assert "public.users" in followed.failure()
    followed.daemon.terminate()
    texts = databases.target.execute("SELECT number, text, why FROM crossfade.mappings ORDER BY 1")
    assert texts == [(1, MAPPING, "the workflow began")]
    # ... and a mapping that names it is free: the diff says so, and the stream goes on.
    wider = MAPPING.replace("2: pro}", "2: pro, 3: max}")
    workspace.write(wider)
    answer = workspace.run("mapping", "diff")
    assert (answer.returncode, answer.stdout.split()[0]) == (0, "free"), answer.stdout + answer.stderr
    assert "mapping_changed_free" in workspace.run("check").stdout
    assert "public.users.plan: a value map" in answer.stdout
    daemon = workspace.daemon()
    daemon.wait_for_phase("streaming")
    daemon.wait_until_caught_up()
    assert databases.target.execute("SELECT id, plan FROM users ORDER BY 1") == [(1, "free"), (2, "max")]
    assert daemon.terminate() == 0
    rows = databases.target.execute(
        "SELECT m.text, m.why, m.mapping_hash = p.mapping_hash FROM crossfade.mappings m, crossfade.progress p"
        " ORDER BY number DESC LIMIT 1"
    )
    assert rows[0][0] == wider
    assert rows[0][1].startswith("public.users.plan: a value map")
    assert rows[0][2] is True
    # Comments and policies: recorded as well, once, and without a word.
    commented = wider + "policies: {truncate: stop}    # from now on\n"
    workspace.write(commented)
    for _ in range(2):
        daemon = workspace.daemon("--until", "caught-up")
        assert daemon.wait() == 0
    assert databases.target.value("SELECT count(*) FROM crossfade.mappings") == 3
    # Other rows: refused with the very text of the diff, and nothing was changed.
    other = wider.replace("3: max", "3: huge").replace("public.users:\n", "public.users:\n    drop: [note]\n")
    workspace.write(other)
    answer = workspace.run("mapping", "diff")
    assert answer.returncode == 3
    assert "To be copied again: public.users." in answer.stdout
    refused = workspace.run("run")
    assert refused.returncode == 78
    for line in answer.stdout.splitlines():
        assert line in refused.stderr, refused.stderr
    assert databases.target.value("SELECT count(*) FROM crossfade.mappings") == 3
    checked = workspace.run("check")
    assert (checked.returncode, "[mapping_changed]" in checked.stdout) == (78, True), checked.stdout
    said = json.loads(workspace.run("mapping", "diff", "--json").stdout)
    assert (said["effect"], said["compared"], said["tables"]) == ("resync", "catalogs", ["public.users"])
    # State of the version before, which kept no text: another mapping cannot be judged, the same one is kept.
    databases.target.execute("DROP TABLE crossfade.mappings; UPDATE crossfade.version SET version = 2")
    assert workspace.run("mapping", "diff").returncode == 3
    refused = workspace.run("run")
    assert (refused.returncode, "Its text was not kept" in refused.stderr) == (78, True), refused.stderr
    workspace.write(commented)
    assert workspace.daemon("--until", "caught-up").wait() == 0
    assert databases.target.execute("SELECT number, text, why FROM crossfade.mappings") == [
        (1, commented, "in progress")
    ]
    # A schema that makes other rows of the same text is no free change either.
    workspace.write(commented)
    databases.target.execute("ALTER TABLE users ADD extra text")
    databases.source.execute("ALTER TABLE users ADD extra text")
    refused = workspace.run("run")
    assert refused.returncode in {3, 78}, refused.stderr
    assert databases.target.value("SELECT count(*) FROM crossfade.mappings") == 1


@pytest.mark.one_version
def test_two_files_are_compared_without_any_database(workspace: Workspace) -> None:
    workspace.folder.mkdir(parents=True, exist_ok=True)
    old, new = workspace.folder / "old.yaml", workspace.folder / "new.yaml"
    old.write_text(MAPPING)
    new.write_text(MAPPING.replace("2: pro", "2: max"))
    answer = workspace.run("mapping", "diff", str(old), str(new), "--offline")
    assert answer.returncode == 3
    assert "resync      public.users.plan: a value map, and was a value map." in answer.stdout
    assert workspace.run("mapping", "diff", str(old), str(old), "--offline").returncode == 0
    new.write_text("version: 1\nschemes: {}\n")
    assert workspace.run("mapping", "diff", str(old), str(new), "--offline").returncode == 78
