"""What `make test` skips on a machine without Prometheus' programs is run here with them: rules, examples, metrics."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from tests.deploy import prometheus
from tests.deploy.tools import ROOT

FILES = (
    "tests/unit/deploy/test_alerts.py",
    "tests/unit/deploy/test_compose.py",
    "tests/unit/deploy/test_prometheus_examples.py",
    "tests/unit/telemetry/test_metrics.py",
    "tests/integration/test_alert_rules.py",
    "tests/integration/test_alerting.py",
)


def test_the_tests_of_rules_and_metrics_find_their_programs() -> None:
    found = {
        "PROMTOOL": prometheus.promtool(),
        "AMTOOL": prometheus.amtool(),
        "PROMETHEUS": prometheus.prometheus(),
    }
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *FILES],
        cwd=ROOT,
        env={**os.environ, **{name: str(path) for name, path in found.items()}},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-5000:]
    assert not re.search(r"no (promtool|amtool|prometheus) on PATH", ran.stdout), ran.stdout[-2000:]
    assert re.search(r"\d+ passed", ran.stdout)
