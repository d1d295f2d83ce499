"""A chart is an SVG any reader can open, with every point where the axes say."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from tests.bench.curves import CURVES, Load, backlog, draw, markdown
from tests.bench.plot import Line, Point, linear, logarithmic, number, svg, vertical

_NAMESPACE = "{http://www.w3.org/2000/svg}"
_LINES = (
    Line("native", (Point(1, 5.0, 4.0, 6.0), Point(1000, 10.0, 9.0, 12.0))),
    Line("crossfade <&>", (Point(1, 2.5, 2.0, 3.0), Point(1000, 5.0, 5.0, 5.0))),
)


def _svg(lines: tuple[Line, ...] = _LINES) -> str:
    return svg(title="Cost & size", x_label="bytes < 1 MB", y_label="us", lines=lines)


def test_it_is_well_formed_and_says_what_it_is() -> None:
    root = ElementTree.fromstring(_svg())
    assert root.tag == f"{_NAMESPACE}svg"
    assert root.findtext(f"{_NAMESPACE}title") == "Cost & size"
    assert "crossfade <&>" in [element.text for element in root.iter(f"{_NAMESPACE}text")]


def test_it_needs_nothing_from_elsewhere() -> None:
    text = _svg().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"href|script|url\(|@import|http", text)


def test_it_is_legible_on_light_and_on_dark() -> None:
    style = ElementTree.fromstring(_svg()).findtext(f"{_NAMESPACE}style")
    assert style is not None
    light, _, dark = style.partition("@media (prefers-color-scheme: dark)")
    for name in (".page", ".ink", ".faint", ".grid", ".c0", ".c1", ".f0", ".f1"):
        assert name + "{" in light
        assert name + "{" in dark


def test_every_point_is_drawn_and_lies_inside() -> None:
    root = ElementTree.fromstring(_svg())
    drawn = root.findall(f"{_NAMESPACE}polyline")
    assert len(drawn) == len(_LINES)
    for line, element in zip(_LINES, drawn, strict=True):
        places = [tuple(map(float, pair.split(","))) for pair in element.attrib["points"].split()]
        assert len(places) == len(line.points)
        assert all(70 <= x <= 690 and 64 <= y <= 344 for x, y in places)
        assert places[0][0] < places[1][0]
        assert places[0][1] > places[1][1], "what costs more is higher up"


def test_nothing_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        _svg(())


def test_a_logarithmic_axis_holds_all_values_between_powers_of_ten() -> None:
    axis = logarithmic([20.0, 5000.0])
    assert (axis.low, axis.high, axis.marks) == (10.0, 10000.0, (10.0, 100.0, 1000.0, 10000.0))
    assert axis.share(100.0) == pytest.approx(1 / 3)
    assert logarithmic([10.0]).share(10.0) == 0.0


@pytest.mark.parametrize("largest", [0.07, 1.0, 3.3, 9.99, 10.0, 58.0, 280.0, 12345.0])
def test_a_linear_axis_starts_at_zero_and_has_a_handful_of_marks(largest: float) -> None:
    axis = linear([largest / 2, largest])
    assert axis.low == 0
    assert axis.high >= largest * 0.9999
    assert 3 <= len(axis.marks) <= 8


def test_a_wide_range_is_drawn_logarithmically() -> None:
    assert vertical([5.0, 50.0]).is_logarithmic is False
    assert vertical([5.0, 500.0]).is_logarithmic is True


def test_numbers_are_written_for_people() -> None:
    shown = [number(value) for value in (0.5, 5, 20, 5000, 1_000_000, 1_500_000)]
    assert shown == ["0.5", "5", "20", "5,000", "1M", "1.5M"]


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)
def test_each_curve_changes_one_thing_and_can_be_drawn(curve: object) -> None:
    assert curve in CURVES
    (found,) = (each for each in CURVES if each is curve)
    loads = [found.at(Load(), place) for place in found.places]
    assert len(set(loads)) == len(loads)
    for load in loads:
        assert load.changes % load.transaction == 0, "as many changes as the cost is divided by"
        assert load.changes // load.transaction >= load.tables, "every table has its turn"
        assert len(backlog(load).tables) == load.tables + 1
    line = Line("crossfade", tuple(Point(place, 1.0, 1.0, 1.0) for place in found.places))
    ElementTree.fromstring(draw(found, [line]))
    assert f"performance/{found.name}.svg" in markdown({found.name: [line]})
