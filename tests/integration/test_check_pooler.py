"""PgBouncer between crossfade and a database is seen on either side, however it is configured (B18)."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfade.findings import Kind
from tests.integration.checking import errors, examined, one, prepare
from tests.servers.daemon import Workspace
from tests.servers.databases import Databases
from tests.servers.pooler import pooled

pytestmark = pytest.mark.one_version

# What a DBA lets it swallow after the first complaint; our settings are swallowed as well then.
_SWALLOWED = "options, extra_float_digits, replication"


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_B18_a_pooler_that_swallows_our_settings(
    databases: Databases, workspace: Workspace, tmp_path: Path, side: str, mode: str
) -> None:
    prepare(databases)
    between = databases.source if side == "source" else databases.target
    with pooled(between, tmp_path / "pooler", mode=mode, ignored=_SWALLOWED) as dsn:
        found = examined(workspace, **{f"{side}_dsn": dsn})
    finding = one(found, "connection_pooler")
    assert (finding.kind, finding.subject) == (Kind.CONFIGURATION, side)
    assert f"{side}.dsn" in finding.remedy
    assert errors(examined(workspace)) == set()


@pytest.mark.parametrize("side", ["source", "target"])
def test_B18_a_pooler_that_refuses_our_settings(
    databases: Databases, workspace: Workspace, tmp_path: Path, side: str
) -> None:
    prepare(databases)
    between = databases.source if side == "source" else databases.target
    with pooled(between, tmp_path / "pooler") as dsn:
        found = examined(workspace, **{f"{side}_dsn": dsn})
    assert errors(found) == {"connection_pooler"}
    assert one(found, "connection_pooler").subject == side


def test_B18_the_daemon_does_not_start_through_a_pooler(
    databases: Databases, workspace: Workspace, tmp_path: Path
) -> None:
    prepare(databases)
    with pooled(databases.source, tmp_path / "pooler", ignored=_SWALLOWED) as dsn:
        answer = workspace.write(source_dsn=dsn).run("run", "--until", "caught-up", timeout=15)
    assert answer.returncode == 78, answer.stderr
    assert "PgBouncer" in answer.stderr
