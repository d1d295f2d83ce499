"""What Grafana asks Prometheus for: the expressions of a committed dashboard, with its variables put in.

Reads the JSON, not the Python it was made from: what is committed is what runs. Refuses to judge.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parents[2] / "deploy" / "grafana"
FILES: Final = tuple(sorted(FOLDER.glob("*.json")))
ALL: Final = ".+"  # what the variables send for All

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """One expression of one panel, with the variables still in it."""

    board: str
    panel: str
    kind: str
    ref: str
    expr: str
    is_instant: bool

    def __str__(self) -> str:
        return f"{self.board}: {self.panel} {self.ref}"


def load(path: Path) -> Json:
    """One committed dashboard."""
    loaded = json.loads(path.read_text())
    assert isinstance(loaded, dict)
    return loaded


def panels(board: Json) -> Iterator[Json]:
    """Every panel that shows something, those of collapsed rows included."""
    for panel in board["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", ())
        else:
            yield panel


def asked(path: Path) -> Iterator[Asked]:
    """Every query of a dashboard."""
    board = load(path)
    for panel in panels(board):
        for target in panel["targets"]:
            yield Asked(
                board=path.stem,
                panel=panel["title"],
                kind=panel["type"],
                ref=target["refId"],
                expr=target["expr"],
                is_instant=bool(target.get("instant")),
            )


def every_query() -> list[Asked]:
    """Those of all dashboards."""
    return [each for path in FILES for each in asked(path)]


def as_sent(expr: str, *, span: int, step: int, scrape: int, chosen: Mapping[str, str] | None = None) -> str:
    """The expression as it reaches Prometheus. `span`, `step` and `scrape` in seconds: the time shown, the distance of
    two points, and how often the data source says it scrapes.

    Grafana: panels-query-transform, Prometheus data source, "$__rate_interval".
    """
    values = {
        "__rate_interval": f"{max(step + scrape, 4 * scrape)}s",
        "__interval": f"{step}s",
        "__range": f"{span}s",
        **dict.fromkeys(("job", "instance", "workflow", "direction"), ALL),
        **(chosen or {}),
    }
    return re.sub(r"\$\{?(\w+)\}?", lambda match: values[match[1]], expr)
