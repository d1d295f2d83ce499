"""A `Board` in Grafana's words: the JSON that is committed and loaded.

The only module that knows the SDK and Grafana's options. Refuses to know what is shown. The invariant: the same board
gives the same text, byte for byte.
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterable, Mapping
from typing import Any, Final

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    timeseries,
)
from grafana_foundation_sdk.builders import table as tables
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as words
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmaps
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from tests.dashboards import promql
from tests.dashboards.parts import WIDTH, Board, Choice, Column, Kind, Mark, Meaning, Panel, Query, Row, Step

SOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
# A stand-in, like the one in alerts.yml: everybody's runbooks are elsewhere.
RUNBOOKS: Final = "https://wiki.example.com/crossfade/docs/runbooks"
TAG: Final = "crossfade"
MARK_STEP: Final = 30  # seconds: less than the two minutes that the marks look back
Json = dict[str, Any]

_PLACE: Final = models.DashboardLinkType.LINK


def render(board: Board) -> str:
    """The JSON of a dashboard, with a line end."""
    builder = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags([TAG])
        .readonly()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .time("now-3h", "now")
        .refresh("30s")
        .timezone("browser")
        .link(_to_the_other(board))
    )
    builder.with_variable(
        dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus").multi(False)
    )
    for choice in board.choices:
        builder.with_variable(_variable(choice))
    builder.with_variable(
        dashboard.TextBoxVariable("runbooks")
        .label("Runbooks")
        .description("Where docs/runbooks is to be read: the address before the page's name.")
        .default_value(RUNBOOKS)
        .current(models.VariableOption(text=RUNBOOKS, value=RUNBOOKS))
    )
    for mark in board.marks:
        builder.annotation(_annotation(mark))
    placed = _Placed()
    for panel in board.panels:
        builder.with_panel(placed.panel(panel))
    for row in board.rows:
        builder.with_row(placed.row(row))
        if not row.collapsed:
            for panel in row.panels:
                builder.with_panel(placed.panel(panel))
    built = json.loads(JSONEncoder().encode(builder.build()))
    _worded(built, board.marks)
    return json.dumps(built, sort_keys=True, indent=2, ensure_ascii=False) + "\n"


class _Placed:
    """Where the next panel goes: left to right, the next line where it does not fit, one id after the other."""

    def __init__(self) -> None:
        self._id = 0
        self._x = self._y = self._line = 0

    def _next(self) -> int:
        self._id += 1
        return self._id

    def panel(self, panel: Panel) -> Any:
        """Its builder, at the next place."""
        if self._x + panel.width > WIDTH:
            self._break()
        at = models.GridPos(x=self._x, y=self._y, w=panel.width, h=panel.height)
        self._x += panel.width
        self._line = max(self._line, panel.height)
        return _panel(panel).id(self._next()).grid_pos(at)

    def row(self, row: Row) -> dashboard.Row:
        """Its heading; a collapsed one holds its panels."""
        self._break()
        built = (
            dashboard.Row(row.title)
            .id(self._next())
            .collapsed(row.collapsed)
            .grid_pos(models.GridPos(x=0, y=self._y, w=WIDTH, h=1))
        )
        self._y += 1
        if row.collapsed:
            for panel in row.panels:
                built.with_panel(self.panel(panel))
        return built

    def _break(self) -> None:
        self._y += self._line
        self._x = self._line = 0


# -- around the panels


def _variable(choice: Choice) -> dashboard.QueryVariable:
    built = (
        dashboard.QueryVariable(choice.name)
        .label(choice.label)
        .query(f"label_values({choice.metric}{_narrowed(choice)}, {choice.name})")
        .datasource(SOURCE)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(choice.multi)
    )
    if choice.multi:
        built.include_all(True).all_value(".+").current(models.VariableOption(text="All", value="$__all"))
    return built


def _narrowed(choice: Choice) -> str:
    """Only what goes with the variables to its left."""
    chosen = {"instance": 'job=~"$job"', "workflow": promql.SCRAPED, "direction": promql.FLOW}.get(choice.name)
    return f"{{{chosen}}}" if chosen else ""


def _annotation(mark: Mark) -> dashboard.AnnotationQuery:
    return (
        dashboard.AnnotationQuery()
        .name(mark.name)
        .datasource(SOURCE)
        .enable(mark.enabled)
        .icon_color(mark.color)
        .expr(mark.expr)
    )


def _worded(built: Json, marks: Iterable[Mark]) -> None:
    """What Prometheus' annotations are called: the SDK knows of these fields only their neighbour `expr`."""
    by_name = {mark.name: mark for mark in marks}
    for annotation in built["annotations"]["list"]:
        mark = by_name[annotation["name"]]
        annotation |= {"titleFormat": mark.title, "textFormat": mark.text, "step": f"{MARK_STEP}s"}


def _to_the_other(board: Board) -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink(board.other_title)
        .type(_PLACE)
        .icon("dashboard")
        .url(f"/d/{board.other}")
        .include_vars(True)
        .keep_time(True)
    )


# -- one panel


def _panel(panel: Panel) -> Any:
    built = (
        _BUILDERS[panel.kind](panel)
        .title(panel.title)
        .description(panel.description)
        .datasource(SOURCE)
        .unit(panel.unit)
        .thresholds(_thresholds(panel.steps))
    )
    for ref, query in zip(string.ascii_uppercase, panel.queries, strict=False):
        built.with_target(_target(panel, ref, query))
    if panel.decimals is not None:
        built.decimals(panel.decimals)
    if panel.least is not None:
        built.min(panel.least)
    if panel.most is not None:
        built.max(panel.most)
    if panel.meanings:
        built.mappings([_mapping(panel.meanings)])
    if panel.empty:
        built.no_value(panel.empty)
    if panel.runbooks:
        built.links([_runbook(name) for name in panel.runbooks])
    return built


def _target(panel: Panel, ref: str, query: Query) -> prometheus.Dataquery:
    built = prometheus.Dataquery().ref_id(ref).expr(query.expr).datasource(SOURCE)
    if panel.kind is Kind.TABLE:
        return built.instant().format(PromQueryFormat.TABLE)
    built.legend_format(query.legend or "__auto")
    if panel.kind is Kind.HEATMAP:
        return built.range().format(PromQueryFormat.HEATMAP)
    return built.range() if panel.kind in _OVER_TIME or panel.trend else built.instant()


_OVER_TIME: Final = {Kind.LINES, Kind.STATES}


def _runbook(name: str) -> dashboard.DashboardLink:
    return dashboard.DashboardLink(f"Runbook: {name}").type(_PLACE).url(f"${{runbooks}}/{name}.md").target_blank(True)


def _thresholds(steps: Iterable[Step]) -> dashboard.ThresholdsConfig:
    return (
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=step.value, color=step.color) for step in steps])
    )


def _mapping(meanings: Mapping[int, Meaning]) -> models.ValueMap:
    return models.ValueMap(
        options={
            str(value): models.ValueMappingResult(text=meaning.text, color=meaning.color, index=number)
            for number, (value, meaning) in enumerate(meanings.items())
        }
    )


def _legend() -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .display_mode(words.LegendDisplayMode.LIST)
        .placement(words.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs([])
    )


def _tooltip() -> common.VizTooltipOptions:
    return common.VizTooltipOptions().mode(words.TooltipDisplayMode.MULTI).sort(words.SortOrder.DESCENDING)


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def _lines(panel: Panel) -> timeseries.Panel:
    built = (
        timeseries.Panel()
        .draw_style(words.GraphDrawStyle.LINE)
        .line_width(1)
        .fill_opacity(30 if panel.stacked else 8)
        .show_points(words.VisibilityMode.AUTO)
        .span_nulls(False)  # a gap is a fact
        .legend(_legend())
        .tooltip(_tooltip())
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC))
    )
    if panel.stacked:
        built.stacking(common.StackingConfig().mode(words.StackingMode.NORMAL).group("A"))
    if panel.lines:
        built.thresholds_style(common.GraphThresholdsStyleConfig().mode(words.GraphThresholdsStyleMode.DASHED))
    return built


def _number(panel: Panel) -> stat.Panel:
    return (
        stat.Panel()
        .reduce_options(_last())
        .color_mode(words.BigValueColorMode.VALUE)
        .graph_mode(words.BigValueGraphMode.AREA if panel.trend else words.BigValueGraphMode.NONE)
        .text_mode(words.BigValueTextMode.AUTO)
        .justify_mode(words.BigValueJustifyMode.AUTO)
        .orientation(words.VizOrientation.AUTO)
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    )


def _bars(_panel: Panel) -> bargauge.Panel:
    return (
        bargauge.Panel()
        .reduce_options(_last())
        .display_mode(words.BarGaugeDisplayMode.BASIC)
        .orientation(words.VizOrientation.HORIZONTAL)
        .value_mode(words.BarGaugeValueMode.COLOR)
        .show_unfilled(True)
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    )


def _states(_panel: Panel) -> statetimeline.Panel:
    return (
        statetimeline.Panel()
        .merge_values(True)
        .show_value(words.VisibilityMode.AUTO)
        .align_value(words.TimelineValueAlignment.LEFT)
        .row_height(0.9)
        .fill_opacity(70)
        .line_width(0)
        .legend(_legend())
        .tooltip(common.VizTooltipOptions().mode(words.TooltipDisplayMode.SINGLE).sort(words.SortOrder.NONE))
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    )


def _heatmap(_panel: Panel) -> heatmap.Panel:
    return (
        heatmap.Panel()
        .calculate(False)
        .color(_Palette())
        .cell_gap(1)
        .show_legend()
        .mode(words.TooltipDisplayMode.SINGLE)
    )


class _Palette:
    """The colours of a heatmap; the SDK's own builder leaves a required field out."""

    def build(self) -> heatmaps.HeatmapColorOptions:
        """What a builder answers."""
        return heatmaps.HeatmapColorOptions(
            mode=heatmaps.HeatmapColorMode.SCHEME,
            scheme="Blues",
            fill="dark-blue",
            exponent=0.5,
            steps=32,
            reverse=False,
        )


def _table(panel: Panel) -> tables.Panel:
    built = tables.Panel().show_header(True).cell_height(words.TableCellHeight.SM)
    if panel.joined_by:
        built.with_transformation(
            models.DataTransformerConfig(id_val="joinByField", options={"byField": panel.joined_by, "mode": "outer"})
        )
    shown = {column.field: column.title for column in panel.columns}
    built.with_transformation(
        models.DataTransformerConfig(id_val="filterFieldsByName", options={"include": {"names": list(shown)}})
    )
    built.with_transformation(
        models.DataTransformerConfig(
            id_val="organize",
            options={"indexByName": {name: at for at, name in enumerate(shown)}, "renameByName": shown},
        )
    )
    for column in panel.columns:
        if said := list(_column(column)):
            built.override_by_name(column.title, said)
    return built


def _column(column: Column) -> Iterable[models.DynamicConfigValue]:
    say = models.DynamicConfigValue
    if column.unit:
        yield say(id_val="unit", value=column.unit)
    if column.meanings:
        yield say(id_val="mappings", value=[_mapping(column.meanings)])
    if column.steps:
        yield say(id_val="thresholds", value=_thresholds(column.steps).build())
    if column.meanings or column.steps:
        yield say(id_val="custom.cellOptions", value={"type": "color-text"})
    if column.url:
        yield say(id_val="links", value=[{"title": column.link, "url": column.url, "targetBlank": False}])


_BUILDERS: Final[Mapping[Kind, Any]] = {
    Kind.LINES: _lines,
    Kind.NUMBER: _number,
    Kind.BARS: _bars,
    Kind.STATES: _states,
    Kind.TABLE: _table,
    Kind.HEATMAP: _heatmap,
}
