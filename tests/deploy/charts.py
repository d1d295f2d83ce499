"""The chart as Helm makes it, and what Kubernetes' own schemas say of it. Needs no cluster.

Helm comes as a library in a Python package, the schemas of Kubernetes likewise, those of the Prometheus operator from
npm.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from tests.deploy.tools import ROOT, Program, debian, from_npm, from_pip

CHART: Final = ROOT / "deploy" / "helm" / "crossfade"
_HERE: Final = Path(__file__).parent
_OPERATOR: Final = "@kubernetes-models/prometheus-operator"


class Refused(Exception):
    """Helm does not render this; the text is its own."""


def _helm() -> Path:
    return from_pip("helm", "helm-python-sdk>=0.2.2,<0.3", "kubernetes-validate>=1.37,<2")


def rendered(values: Mapping[str, Any], name: str = "shop") -> list[dict[str, Any]]:
    """Every object of a release, in no order that matters. Raises Refused; asserts that lint has no complaint."""
    ran = subprocess.run(
        [str(_helm() / "python"), str(_HERE / "render.py")],
        input=json.dumps({"chart": str(CHART), "values": values, "name": name}),
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(ran.stdout)
    if "refused" in answer:
        raise Refused(answer["refused"])
    assert answer["lint"]["errors"] == []
    assert [one for one in answer["lint"]["messages"] if one["severity"] > 1] == []  # 1: an icon is recommended
    return [
        document
        for path, text in answer["manifests"].items()
        if not path.endswith("NOTES.txt")
        for document in yaml.safe_load_all(text)
        if document is not None
    ]


def one(objects: Sequence[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The only object of this kind."""
    (found,) = (each for each in objects if each["kind"] == kind)
    return found


def complaints(objects: Sequence[dict[str, Any]], folder: Path) -> list[str]:
    """What Kubernetes' schemas (strict: no unknown field), and the operator's, have against them."""
    folder.mkdir(exist_ok=True)
    found = []
    own = [each for each in objects if "coreos.com" not in each["apiVersion"]]
    for number, each in enumerate(own):
        path = folder / f"{number}-{each['kind']}.yaml"
        path.write_text(yaml.safe_dump(each))
        checked = Program(_helm() / "kubernetes-validate").run("--strict", path)
        if checked.returncode != 0:
            found.append(checked.stdout + checked.stderr)
    operators = [each for each in objects if "coreos.com" in each["apiVersion"]]
    return found + (_operator_complaints(operators) if operators else [])


def _operator_complaints(objects: Sequence[dict[str, Any]]) -> list[str]:
    packages = from_npm("prometheus-operator", f"{_OPERATOR}@^6")
    script = f"""
        let found = [];
        for (const each of {json.dumps(objects)}) {{
          const {{ [each.kind]: Model }} = await import(`{_OPERATOR}/${{each.apiVersion}}/${{each.kind}}`);
          try {{ new Model(each).validate(); }} catch (error) {{ found.push(`${{each.kind}}: ${{error.message}}`); }}
        }}
        console.log(JSON.stringify(found));
    """
    path = packages / "validate.mjs"
    path.write_text(script)
    ran = debian("NODE", "node", ["nodejs"], "usr/bin/node").run(path, cwd=packages)
    assert ran.returncode == 0, ran.stderr
    complaints: list[str] = json.loads(ran.stdout)
    return complaints
