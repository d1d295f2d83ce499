"""The promtool tests of the alert rules: each fires when it should, not a moment before, and is over when it should be.

No server is needed, but promtool is: $PROMTOOL or on the path (Debian: in the package `prometheus`).
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.unit.deploy import rules

_FIRES = re.compile(r"""        expr: 'ALERTS\{alertname="(\w+)".*'\n        exp_samples: \[\{.*\}\]""")
_IS_QUIET = re.compile(r"""      - eval_time: \S+\n        expr: .*\n        exp_samples: \[\]\n""")


@pytest.mark.parametrize("path", rules.promtool_tests(), ids=lambda path: path.name)
def test_each_alert_fires_when_it_should_and_only_then(path: Path) -> None:
    ran = subprocess.run(
        [rules.tool("promtool"), "test", "rules", path], capture_output=True, text=True, check=False, cwd=path.parent
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize(
    "path",
    # A day of the pace takes seconds, and its texts have nothing that the others have not.
    [path for path in rules.promtool_tests() if path.name != "performance.test.yml"],
    ids=lambda path: path.name,
)
def test_every_annotation_can_be_rendered(path: Path, tmp_path: Path) -> None:
    """promtool shows the texts of an alert that nobody expected: so expect none wherever a test says that it fires."""
    asked = tmp_path / path.name
    unexpecting = _IS_QUIET.sub("", _FIRES.sub(r"        alertname: \1", path.read_text()))
    asked.write_text(
        unexpecting.replace("promql_expr_test:", "alert_rule_test:").replace("../alerts.yml", str(rules.RULES))
    )
    ran = subprocess.run([rules.tool("promtool"), "test", "rules", asked], capture_output=True, text=True, check=False)
    shown = ran.stdout + ran.stderr
    assert ran.returncode != 0
    assert shown.count('runbook_url="docs/runbooks/') >= unexpecting.count("alertname: ")
    assert not re.search(r"error expanding|<no value>|%!|NaN", shown), shown
