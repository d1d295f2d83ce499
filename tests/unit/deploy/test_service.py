"""The systemd unit: systemd has nothing to say against it, and it agrees with what the program does."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from crossfade.cli import exits
from crossfade.faults import Fault, Policy
from crossfade.settings import load_settings
from tests.unit.deploy.rules import ROOT

UNIT = ROOT / "deploy" / "systemd" / "crossfade.service"


def settings() -> dict[str, list[str]]:
    """Every assignment, in order; the unit has no line that is continued."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_what_a_restart_cannot_change_is_not_restarted() -> None:
    codes = {policy: exits.code_of(type("_", (Fault,), {"policy": policy})("")) for policy in Policy}
    final = {codes[Policy.REFUSED], codes[Policy.CONFIGURATION], exits.USAGE}
    assert {int(code) for code in settings()["RestartPreventExitStatus"][0].split()} == final
    assert settings()["Restart"] == ["on-failure"]


def test_each_credential_is_a_setting_and_its_file_is_found_without_the_service(tmp_path: Path) -> None:
    """The same directory serves the service, through systemd, and root's shell, through $CROSSFADE_SECRETS_DIR."""
    names, sources = zip(*(given.split(":") for given in settings()["LoadCredential"]), strict=True)
    assert set(names) == {"source__dsn", "target__dsn"}
    assert [Path(source).name for source in sources] == list(names)
    for name in names:
        (tmp_path / name).write_text(f"host={name}\n")
    (tmp_path / "crossfade.toml").write_text('name = "shop"\n')
    for variable in ("CREDENTIALS_DIRECTORY", "CROSSFADE_SECRETS_DIR"):
        loaded = load_settings(
            tmp_path / "crossfade.toml", environment={variable: str(tmp_path)}, run_secrets=tmp_path / "none"
        )
        assert loaded.source.dsn.get_secret_value() == "host=source__dsn"
        assert loaded.target.dsn.get_secret_value() == "host=target__dsn"


def test_systemd_waits_longer_than_the_drain_and_the_watchdog_longer_than_the_pulse(tmp_path: Path) -> None:
    (tmp_path / "crossfade.toml").write_text('name = "shop"\nsource.dsn = "host=a"\ntarget.dsn = "host=b"\n')
    defaults = load_settings(tmp_path / "crossfade.toml", environment={}, run_secrets=tmp_path / "none")
    assert int(settings()["TimeoutStopSec"][0]) > defaults.stop.deadline.total_seconds()
    assert settings()["Type"] == ["notify"]
    assert int(settings()["WatchdogSec"][0]) >= 10


def test_no_setting_is_given_twice_by_mistake() -> None:
    repeated = {key for key, values in settings().items() if len(values) > 1}
    assert repeated == {"LoadCredential", "SystemCallFilter"}


# -- systemd's word


def _analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("no systemd-analyze here")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.split()[1].partition("~")[0]) < 250:  # the first that judges a file, and knows all of ours
        pytest.skip(f"systemd-analyze {version.split()[1]} is too old")
    return subprocess.run([found, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit with a program that exists: systemd looks whether it can be executed."""
    text = UNIT.read_text()
    assert text.count("ExecStart=/opt/crossfade/bin/crossfade run") == 1
    copy = tmp_path / UNIT.name
    copy.write_text(text.replace("/opt/crossfade/bin/crossfade", shutil.which("true") or "/bin/true"))
    return copy


def test_systemd_verifies_it_without_a_word(installed: Path) -> None:
    verified = _analyze("verify", "--man=no", installed)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


def test_systemd_would_have_a_word_about_a_mistake(installed: Path) -> None:
    installed.write_text(installed.read_text().replace("ProtectHome=yes", "ProtectHouse=yes"))
    assert "ProtectHouse" in _analyze("verify", "--man=no", installed).stderr


def test_what_it_may_do_is_little(installed: Path) -> None:
    """At most 2.0 of 10; the exit code says so."""
    judged = _analyze("security", "--offline=true", "--threshold=20", "--no-pager", installed)
    assert judged.returncode == 0, judged.stdout + judged.stderr
    exposure = re.search(r"Overall exposure level for crossfade\.service: ([\d.]+)", judged.stdout)
    assert exposure is not None
    assert float(exposure[1]) <= 2.0
