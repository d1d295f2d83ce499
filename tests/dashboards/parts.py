"""What a dashboard is made of, as plain values: queries, panels, rows, variables.

Refuses to know Grafana's JSON (`board` does) and what is worth showing. The invariant: a panel without a title, a
description, a unit or a query cannot be written down.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

WIDTH: Final = 24  # of Grafana's grid
GREEN: Final = "green"
YELLOW: Final = "yellow"
ORANGE: Final = "orange"
RED: Final = "red"
BLUE: Final = "blue"
PURPLE: Final = "purple"
GREY: Final = "text"  # neither good nor bad: the colour of the theme's text


class Kind(enum.Enum):
    """How a panel shows its queries, in Grafana's words."""

    LINES = "timeseries"
    NUMBER = "stat"
    BARS = "bargauge"
    STATES = "state-timeline"
    TABLE = "table"
    HEATMAP = "heatmap"


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression with the variables of the dashboard in it. `legend` in Grafana's {{label}} form."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """From `value` on it is coloured so; None: from the beginning."""

    value: float | None
    color: str


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a number stands for."""

    text: str
    color: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """How one column of a table is called and shown. `unit` empty: the panel's."""

    field: str
    title: str
    unit: str = ""
    meanings: Mapping[int, Meaning] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    url: str = ""  # where a click leads; `link` says so
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture. The description says what it shows and what to do; `runbooks` names the alerts whose pages help."""

    kind: Kind
    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    width: int = 12
    height: int = 8
    decimals: int | None = None
    least: float | None = None  # where the axis begins
    most: float | None = None
    steps: tuple[Step, ...] = (Step(None, GREEN),)
    lines: bool = False  # draw the steps as lines
    meanings: Mapping[int, Meaning] = field(default_factory=dict)
    empty: str = ""  # shown when there is no value
    stacked: bool = False
    trend: bool = False  # a number with its recent course behind it
    columns: tuple[Column, ...] = ()  # of a table, in this order; others are hidden
    joined_by: str = ""  # the label that joins a table's queries
    runbooks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what Grafana would show as a riddle."""
        assert self.title, "a panel without a title"
        assert self.description.endswith("."), f"{self.title}: its description is no sentence"
        assert self.unit, f"{self.title}: no unit"
        assert self.queries, f"{self.title}: no query"
        assert 0 < self.width <= WIDTH, self.title


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]
    collapsed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A variable whose values are those of a label."""

    name: str
    label: str
    metric: str
    multi: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Moments drawn over every plot."""

    name: str
    expr: str
    title: str
    text: str
    color: str
    enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One dashboard. `panels` come before the first row."""

    uid: str
    title: str
    description: str
    choices: tuple[Choice, ...]
    marks: tuple[Mark, ...]
    panels: tuple[Panel, ...]
    rows: tuple[Row, ...]
    other: str  # the uid of the other dashboard, and what it is called
    other_title: str

    def all_panels(self) -> tuple[Panel, ...]:
        """Every panel, in reading order."""
        return (*self.panels, *(panel for row in self.rows for panel in row.panels))
