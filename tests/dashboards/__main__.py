"""Writes deploy/grafana: `make dashboards`. tests/unit/deploy/test_dashboards.py compares."""

from __future__ import annotations

from tests.dashboards import board, overview, workflow
from tests.dashboards.asked import FOLDER

BOARDS = {"overview.json": overview.BOARD, "workflow.json": workflow.BOARD}

if __name__ == "__main__":
    for name, each in BOARDS.items():
        (FOLDER / name).write_text(board.render(each))
