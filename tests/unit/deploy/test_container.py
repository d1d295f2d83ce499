"""The Dockerfile agrees with the program and is sent nothing it need not see; tests/deploy/test_image.py builds it."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from crossfade.cli.commands import app
from crossfade.settings import load_settings
from tests.unit.deploy.rules import ROOT

TEXT = (ROOT / "Dockerfile").read_text()
STAGES = re.split(r"^FROM ", TEXT, flags=re.MULTILINE)[1:]


def last(instruction: str) -> str:
    """What the final stage gives an instruction."""
    (given,) = re.findall(rf"^{instruction} (.+?)$(?<!\\)", STAGES[-1].replace("\\\n", " "), re.MULTILINE)
    return str(given).strip()


def commands() -> set[str]:
    return {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}


def test_both_stages_stand_on_the_base_that_is_an_argument() -> None:
    assert [stage.split()[0] for stage in STAGES] == ["${BASE}", "${BASE}"]
    (default,) = re.findall(r"^ARG BASE=(\S+)$", TEXT, re.MULTILINE)
    name, _, tag = default.partition(":")
    assert name
    version = re.match(r"3\.(\d+)-", tag)
    assert version is not None, "a tag that says which Python"
    assert int(version[1]) >= 11


def test_it_runs_as_nobody_of_the_base() -> None:
    uid, gid = last("USER").split(":")
    assert uid.isdigit(), "runAsNonRoot needs a number"
    assert gid.isdigit()
    assert int(uid) > 1000


def test_it_runs_commands_that_exist_and_is_stopped_as_the_program_expects() -> None:
    assert json.loads(last("ENTRYPOINT"))[-1] == "crossfade"
    assert json.loads(last("CMD")) == ["run"]
    health = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    assert health[0] == "crossfade"
    assert {"run", health[1]} <= commands()
    assert last("STOPSIGNAL") == "SIGTERM"


def test_the_port_is_that_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "crossfade.toml").write_text('name = "shop"\nsource.dsn = "host=a"\ntarget.dsn = "host=b"\n')
    settings = load_settings(tmp_path / "crossfade.toml", environment={}, run_secrets=tmp_path / "none")
    assert settings.http.listen.endswith(f":{last('EXPOSE')}")


def test_nothing_secret_is_made_part_of_it() -> None:
    assert not re.search(r"dsn|passw|token|secret=", re.sub(r"^#.*$", "", TEXT, flags=re.MULTILINE), re.IGNORECASE)


def test_only_what_the_package_is_made_of_is_sent_to_the_build() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    sent = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = {name for names in re.findall(r"^COPY (?!--from)(.+) \S+$", TEXT, re.MULTILINE) for name in names.split()}
    assert sent == copied
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    linked = {"deploy/sql"}  # from src/crossfade/demo; config/ is linked as well, and may be somebody's own
    assert {"pyproject.toml", "src", project["readme"], *project["license-files"]} | linked == sent


@pytest.mark.parametrize("name", ["**/__pycache__", "**/*.so", "**/*.c"])
def test_what_was_built_here_stays_here(name: str) -> None:
    """A binary of this machine would be taken for one of the image's."""
    assert name in (ROOT / ".dockerignore").read_text().splitlines()


def test_the_documentation_mounts_what_it_reads_for_whom_it_runs_as() -> None:
    section = (ROOT / "docs/operations.md").read_text().partition("## In a container")[2].partition("\n## ")[0]
    uid = last("USER").split(":")[0]
    assert f"user {uid}" in section
    assert f":{last('WORKDIR')}:ro" in section
    assert f"CROSSFADE_CONFIG={last('WORKDIR')}/crossfade.toml" in STAGES[-1]
    assert ":/run/secrets:ro" in section, "where settings.py looks without being told"
    assert f":{last('EXPOSE')} crossfade" in section
