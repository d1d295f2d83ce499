"""`crossfade check` as an operator types it: exit codes, text, and the JSON document."""

from __future__ import annotations

import json

from tests.integration.checking import MAPPING, TABLES, WITH_LOG, prepare
from tests.servers.daemon import Workspace, free_port
from tests.servers.databases import Databases


def test_ready(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    answer = workspace.write(WITH_LOG).run("check")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "Ready" in answer.stdout


def test_not_ready_and_what_to_paste(databases: Databases, workspace: Workspace) -> None:
    prepare(databases, publish=False)
    databases.source.execute("REVOKE SELECT ON orders FROM crossfade")
    answer = workspace.write(WITH_LOG).run("check")
    assert answer.returncode == 3
    assert answer.stderr == ""
    pasted = answer.stdout.partition("ready to paste:")[2]
    assert 'GRANT SELECT ON TABLE "public"."orders" TO "crossfade";\n' in pasted
    assert pasted.count("CREATE PUBLICATION") == 2
    assert "-- on the source:" in pasted


def test_json(databases: Databases, workspace: Workspace) -> None:
    prepare(databases, publish=False)
    answer = workspace.write(WITH_LOG).run("check", "--json")
    said = json.loads(answer.stdout)
    assert (answer.returncode, said["exit_code"], said["ok"], said["schema_version"]) == (3, 3, False, 1)
    assert "publication_missing" in {finding["name"] for finding in said["findings"]}
    assert any(sql.startswith("CREATE PUBLICATION") for sql in said["sql"])


def test_a_mapping_error_outranks_an_unreachable_database_and_both_are_told(
    databases: Databases, workspace: Workspace
) -> None:
    prepare(databases)
    nowhere = f"host=127.0.0.1 port={free_port()} dbname=shop user=crossfade password=hunter2"
    answer = workspace.write("version: 1\nschemes: {public: public}\n", target_dsn=nowhere).run("check", "--json")
    assert answer.returncode == 78
    said = {finding["name"]: finding for finding in json.loads(answer.stdout)["findings"]}
    assert {"configuration_refused", "unreachable"} <= set(said)
    assert "schemes" in said["configuration_refused"]["sentence"]
    assert "hunter2" not in answer.stdout + answer.stderr


def test_an_unreachable_database(databases: Databases, workspace: Workspace) -> None:
    prepare(databases)
    nowhere = f"host=127.0.0.1 port={free_port()} dbname=shop user=crossfade"
    assert workspace.write(WITH_LOG, source_dsn=nowhere).run("check").returncode == 5


def test_a_mapping_the_catalogs_refuse(databases: Databases, workspace: Workspace) -> None:
    databases.prepare(source=TABLES, target="CREATE TABLE users (id int PRIMARY KEY, name text)")
    answer = workspace.write(MAPPING).run("check")
    assert answer.returncode == 78
    assert "mapping.yaml:" in answer.stdout
