"""`crossfade init` on real databases: what it writes, what it never does, and sixty tables from a draft to a stream."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from crossfade.mapping.compile import compile_plan
from crossfade.mapping.load import parse_mapping
from crossfade.mapping.plan import Const, LocalTime, Remap
from crossfade.settings import load_settings
from tests.drafts.ddl import LEGACY, NEW, read_ddl
from tests.drafts.rows import rows
from tests.integration.following import Followed, publish
from tests.servers.daemon import Workspace
from tests.servers.databases import PASSWORD, Databases

ZONE = "Europe/Berlin"
SOURCE = """
    CREATE TABLE users (id int PRIMARY KEY, name text NOT NULL, created timestamp NOT NULL);
    CREATE TABLE orders (id int PRIMARY KEY, user_id int NOT NULL REFERENCES users, total numeric(10,2));
"""
TARGET = """
    CREATE SCHEMA app;
    CREATE TABLE app.accounts (id uuid PRIMARY KEY, name text NOT NULL, created_at timestamptz NOT NULL);
    CREATE TABLE app.orders (id int PRIMARY KEY, account_id uuid NOT NULL REFERENCES app.accounts, total numeric(10,2));
"""


def given(databases: Databases) -> list[str]:
    return ["--source", databases.source_dsn, "--target", databases.target_dsn]


def test_both_files_are_written_and_hold_no_password(databases: Databases, workspace: Workspace) -> None:
    databases.prepare(SOURCE, TARGET)
    workspace.folder.mkdir(parents=True, exist_ok=True)
    answer = workspace.run("init", *given(databases), "--name", "shop", "--timezone", ZONE)
    assert answer.returncode == 0, answer.stderr
    written = workspace.config.read_text(), (workspace.folder / "mapping.yaml").read_text()
    for text in (*written, answer.stdout, answer.stderr):
        assert PASSWORD not in text
    assert "password of the source was not written down" in answer.stderr
    assert "CROSSFADE_SOURCE__DSN" in written[0]
    settings = load_settings(workspace.config, environment={}, run_secrets=Path("/nowhere"))
    assert settings.name == "shop"
    for text, name in zip(written, ("crossfade.schema.json", "mapping.schema.json"), strict=True):
        assert text.splitlines()[0].endswith(f"schema/{name}")
        assert json.loads((workspace.folder / "schema" / name).read_text())["title"].startswith("crossfade")
    assert "user=crossfade" in settings.source.dsn.get_secret_value()
    spec = parse_mapping(written[1])
    assert set(spec.keyspaces) == {"account"}
    # As the advice says: the whole connection string in the environment. All that is left are the publications.
    secrets = {"CROSSFADE_SOURCE__DSN": databases.source_dsn, "CROSSFADE_TARGET__DSN": databases.target_dsn}
    publish(databases)
    checked = workspace.run("check", env=secrets)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.one_version
def test_nothing_is_ever_overwritten(databases: Databases, workspace: Workspace) -> None:
    databases.prepare(SOURCE, TARGET)
    mapping = workspace.folder / "mapping.yaml"
    workspace.folder.mkdir(parents=True, exist_ok=True)
    workspace.config.write_text("mine")
    refused = workspace.run("init", *given(databases))
    assert (refused.returncode, workspace.config.read_text(), mapping.exists()) == (3, "mine", False)
    assert "crossfade.toml: This file is there already, and init writes over nothing." in refused.stderr
    workspace.config.unlink()
    mapping.write_text("mine")
    refused = workspace.run("init", *given(databases))
    assert (refused.returncode, mapping.read_text(), workspace.config.exists()) == (3, "mine", False)
    # A configuration that is there: the mapping alone is drafted from its databases, and not twice.
    workspace.write()
    mapping.unlink()
    before = workspace.config.read_text()
    assert workspace.run("init").returncode == 0
    assert 'timezone: "?"' in mapping.read_text()
    assert workspace.config.read_text() == before
    assert workspace.run("init").returncode == 3
    mapping.unlink()
    named = {"CROSSFADE_SOURCE__DSN": databases.source_dsn, "CROSSFADE_TARGET__DSN": databases.target_dsn}
    assert workspace.run("init", env=named).returncode == 0
    assert workspace.config.read_text() == before


@pytest.mark.one_version
def test_what_is_missing_is_said(databases: Databases, workspace: Workspace) -> None:
    workspace.folder.mkdir(parents=True, exist_ok=True)
    refused = workspace.run("init", "--source", databases.source_dsn)
    assert refused.returncode == 78
    assert "Two databases are needed." in refused.stderr
    nonsense = workspace.run("init", "--source", "host password=hunter2", "--target", databases.target_dsn)
    assert nonsense.returncode == 78
    assert "hunter2" not in nonsense.stderr + nonsense.stdout
    assert workspace.run("init", "--output", "x").returncode == 2
    assert workspace.run("init", *given(databases), "--timezone", "Europe/Berln").returncode == 2
    assert list(workspace.folder.iterdir()) == []


def test_refresh_proposes_only_what_changed(databases: Databases, workspace: Workspace) -> None:
    databases.prepare(SOURCE, TARGET)
    workspace.write("version: 1\nschemas: {public: app}\n")
    (workspace.folder / "mapping.yaml").unlink()
    assert workspace.run("init", "--timezone", ZONE).returncode == 0
    mapping = workspace.folder / "mapping.yaml"
    before = mapping.read_text()
    unchanged = workspace.run("init", "--refresh")
    assert (unchanged.returncode, unchanged.stdout) == (0, ""), unchanged.stdout
    databases.source.execute(
        "ALTER TABLE users ADD phone_no text; CREATE TABLE invoices (id int PRIMARY KEY, total numeric(10,2));"
        "ALTER TABLE orders RENAME user_id TO buyer_id"
    )
    databases.target.execute(
        "ALTER TABLE app.accounts ADD phone_number text;"
        "CREATE TABLE app.invoices (id uuid PRIMARY KEY, total numeric(10,2))"
    )
    answer = workspace.run("init", "--refresh")
    assert answer.returncode == 0
    assert "phone_number: phone_no" in answer.stdout
    assert "invoice: {from: public.invoices.id, to: uuid, strategy: uuid7}" in answer.stdout
    assert "app.invoices:\n    columns:\n      id: {remap: invoice}" in answer.stdout
    assert "Not there any more" in answer.stdout
    assert "user_id" in answer.stdout
    assert "full_name" not in answer.stdout
    assert "created_at" not in answer.stdout
    aside = workspace.folder / "proposal.yaml"
    assert workspace.run("init", "--refresh", "--output", str(aside)).returncode == 0
    assert aside.read_text() == answer.stdout
    assert workspace.run("init", "--refresh", "--output", str(aside)).returncode == 3
    assert mapping.read_text() == before


def decided(text: str) -> str:
    """The handful of decisions on the sixty tables, in the words that the draft offers."""
    for offered in ("append_only: true", "action: what", "statistics: stat", "succeeded: ok"):
        assert text.count(f"# {offered}") == 1, offered
        text = text.replace(f"# {offered}", offered)
    text = re.sub(r"# (email_verified: \{const:) \}.*", r"\1 false}", text)
    return re.sub(r"# (drop: \[(?:passwd_md5|legacy_flags)\])", r"\1", text)


@pytest.mark.one_version
def test_sixty_tables_from_the_draft_to_the_stream(databases: Databases, workspace: Workspace) -> None:
    databases.prepare(LEGACY, NEW)
    legacy, new = read_ddl(LEGACY), read_ddl(NEW)
    publish(databases, append=['"public"."tbl_audit"'])
    databases.source.execute(rows(legacy))
    workspace.write()
    mapping = workspace.folder / "mapping.yaml"
    mapping.unlink()
    answer = workspace.run("init", "--timezone", ZONE)
    assert answer.returncode == 0, answer.stderr
    assert "Matched 60 tables" in answer.stdout
    text = decided(mapping.read_text())
    mapping.write_text(text)
    checked = workspace.run("check")
    assert checked.returncode == 0, checked.stdout
    daemon = workspace.daemon()
    daemon.wait_for_phase("streaming")
    followed = Followed(databases, workspace, daemon)
    followed.write(
        rows(legacy, 6, 7),
        "UPDATE tbl_customer SET cust_name = 'other', updated = '2024-10-27 02:30' WHERE id = 6",
        "DELETE FROM tbl_cart_item WHERE cart_id = 3; DELETE FROM tbl_review WHERE id = 2",
    )
    plan = compile_plan(parse_mapping(text), legacy, new, workflow="shop", replica_role=databases.replica_role).plan
    assert plan is not None
    assert len(plan.tables) == 60
    for table in plan.tables:
        here, there = [], []
        for column in table.columns:
            name = column.target.name
            match column.rule:
                case Const():
                    continue
                case Remap(keyspace=keyspace):
                    there.append(f"(SELECT old::text FROM crossfade.id_{keyspace} WHERE new = t.{name})")
                case LocalTime():
                    there.append(f"({name} AT TIME ZONE '{ZONE}')::text")
                case _:
                    there.append(f"{name}::text")
            assert column.source is not None
            here.append(f"{column.source.name}::text")
        on_source = databases.source.execute(f"SELECT {', '.join(here)} FROM {table.source} ORDER BY 1, 2")
        on_target = databases.target.execute(f"SELECT {', '.join(there)} FROM {table.target} t ORDER BY 1, 2")
        assert on_source, table.source
        assert sorted(map(repr, on_target)) == sorted(map(repr, on_source)), table.target
    followed.stop()
