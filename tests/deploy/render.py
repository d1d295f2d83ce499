"""Lint and render the chart with Helm's own code: run by the interpreter that has helm-python-sdk; see charts.py.

Reads {"chart", "values", "name"} from standard input, writes {"lint", "manifests"} or {"refused"} to standard output.
"""

from __future__ import annotations

import json
import sys

import helm_python as helm

asked = json.load(sys.stdin)
try:
    with helm.Chart.load(asked["chart"]) as chart:
        chart.validate_schema(asked["values"])
        answer = {
            "lint": helm.lint(asked["chart"], values=asked["values"], strict=True),
            "manifests": chart.render(asked["values"], name=asked["name"], namespace="migrations"),
        }
except helm.HelmError as error:
    answer = {"refused": str(error)}
json.dump(answer, sys.stdout)
