"""`make stack`: all of it comes up, a killed daemon raises its alert all the way to a person, Ctrl-C leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import urllib.request
from pathlib import Path

from tests.deploy import prometheus
from tests.deploy.running import Stack, hastened, running
from tests.deploy.stack import RULES


def _told(stack: Stack) -> set[str]:
    """What Alertmanager has."""
    with urllib.request.urlopen(f"http://{stack.alertmanager}/api/v2/alerts", timeout=10) as answer:
        return {alert["labels"]["alertname"] for alert in json.load(answer)}


def _answers(address: str) -> bool:
    host, _, port = address.partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(entry.parent.name))
    return found


def test_a_killed_daemon_is_told_of_and_nothing_is_left_behind(tmp_path: Path) -> None:
    prometheus.prometheus(), prometheus.alertmanager()  # skips where they cannot be had
    # `for` is a second here instead of minutes; what the minutes are for is tested in deploy/prometheus/tests.
    rules = hastened(RULES, tmp_path)
    assert "for: 2m" in RULES.read_text()
    assert "for: 1s" in rules.read_text()
    with running(tmp_path, "--rows", "5000", "--interval", "1", "--rules", str(rules)) as stack:
        stack.until(lambda: stack.value('crossfade_phase{phase="streaming"} == 1'), "streaming", 120)
        stack.until(lambda: stack.value("sum(rate(crossfade_changes_applied_total[10s])) > 0"), "live writes")
        assert "CrossfadeDown" not in _told(stack)

        os.kill(stack.pid, signal.SIGKILL)
        firing = 'ALERTS{alertname="CrossfadeDown", alertstate="firing", workflow="shop", severity="critical"}'
        stack.until(lambda: stack.value(firing) == 1, "the alert")
        stack.until(lambda: "CrossfadeDown" in _told(stack), "Alertmanager has it")
        stack.until(lambda: "ALERT firing: CrossfadeDown (critical): No crossfade daemon" in stack.text(), "a person")
        assert "crossfade has ended" in stack.text()

        addresses = (stack.prometheus, stack.alertmanager)
        assert all(_answers(address) for address in addresses)
        children = _children(stack.process.pid)
        assert children
        assert stack.interrupt() == 0
        assert not any(_answers(address) for address in addresses)
        assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
        assert "The shop is closed" in stack.text()
