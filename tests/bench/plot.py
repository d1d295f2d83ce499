"""Line charts as SVG, written by hand: a measured value against a size, both usually on logarithmic scales.

No third-party code and no scripts: a file that any browser and any forge shows, readable on a light and on a dark
page because its colours follow the reader's preference. Refuses to know what is plotted. The invariant: every point
given is drawn where the axes say, with its spread.

SVG 2: www.w3.org/TR/SVG2. CSS: prefers-color-scheme.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

_WIDTH: Final = 720
_HEIGHT: Final = 400
_FONT: Final = 'font-family="system-ui, sans-serif" font-size="13"'
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 30, 64, 56
# Chosen to differ for people who do not tell red from green; each line has its own marker as well.
_COLOURS: Final = (("#1f6fb4", "#6cb6ff"), ("#c2571a", "#ff9d57"), ("#4d8a2b", "#9bd66b"), ("#7a4fa3", "#c79bf2"))


@dataclass(frozen=True, slots=True)
class Point:
    """A median and its spread at one place of the horizontal axis."""

    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Line:
    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale: values between `low` and `high`, with its marks."""

    low: float
    high: float
    marks: tuple[float, ...]
    is_logarithmic: bool

    def share(self, value: float) -> float:
        """0 at the low end, 1 at the high end."""
        if self.is_logarithmic:
            return (math.log10(value) - math.log10(self.low)) / (math.log10(self.high) - math.log10(self.low))
        return (value - self.low) / (self.high - self.low)


def logarithmic(values: Sequence[float]) -> Axis:
    """From the power of ten below the smallest to the one above the largest; a mark at each."""
    first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    last = max(last, first + 1)
    return Axis(10.0**first, 10.0**last, tuple(10.0**power for power in range(first, last + 1)), True)


def linear(values: Sequence[float]) -> Axis:
    """From zero to a round number above the largest, with five steps or so."""
    largest = max(values)
    step = 10.0 ** math.floor(math.log10(largest)) if largest > 0 else 1.0
    for part in (0.2, 0.25, 0.5, 1.0):
        if largest / (step * part) <= 6:
            step *= part
            break
    else:
        step *= 2
    count = max(1, math.ceil(largest / step))
    return Axis(0.0, step * count, tuple(step * n for n in range(count + 1)), False)


def vertical(values: Sequence[float]) -> Axis:
    """From zero, unless the largest is so many times the smallest that the small ones would lie on the floor."""
    return logarithmic(values) if min(values) > 0 and max(values) > 20 * min(values) else linear(values)


def number(value: float) -> str:
    """As people write it on an axis: 0.5, 20, 5,000, 1M."""
    if value >= 1_000_000 and value % 100_000 == 0:
        return f"{value / 1_000_000:g}M"
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:g}"


def svg(*, title: str, x_label: str, y_label: str, lines: Sequence[Line], note: str = "") -> str:
    """The whole file. Horizontal values must be above zero; raises ValueError without a point."""
    points = [point for line in lines for point in line.points]
    if not points:
        raise ValueError("nothing to draw")
    across = logarithmic([point.x for point in points])
    up = vertical([value for point in points for value in (point.low, point.high)])
    inner_width, inner_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        return _LEFT + inner_width * across.share(x), _TOP + inner_height * (1 - up.share(y))

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" {_FONT}',
        f'  width="{_WIDTH}" height="{_HEIGHT}" aria-labelledby="title">',
        f'<title id="title">{escape(title)}</title>',
        f"<style>{_style(len(lines))}</style>",
        f'<rect class="page" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>',
        f'<text class="ink" x="{_LEFT}" y="24" font-size="16" font-weight="600">{escape(title)}</text>',
    ]
    for mark in up.marks:
        _, y = at(across.low, mark)
        out.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<text class="ink" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{number(mark)}</text>')
    for mark in across.marks:
        x, _ = at(mark, up.low)
        out.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
        place = f'x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle"'
        out.append(f'<text class="ink" {place}>{number(mark)}</text>')
    out.append(
        f'<text class="ink" x="{_LEFT + inner_width / 2:.1f}" y="{_HEIGHT - 14}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
    )
    out.append(f'<text class="faint" x="{_LEFT}" y="46">{escape(y_label)}{escape(f"; {note}" if note else "")}</text>')
    for index, line in enumerate(lines):
        out += _line(index, line, at)
        out += _legend(index, line.name)
    return "\n".join([*out, "</svg>", ""])


def _style(count: int) -> str:
    light = ".page{fill:#ffffff}.ink{fill:#1b1f24}.faint{fill:#57606a}.grid{stroke:#d0d7de}"
    dark = ".page{fill:#0d1117}.ink{fill:#e6edf3}.faint{fill:#9198a1}.grid{stroke:#30363d}"
    for index in range(count):
        bright, pale = _COLOURS[index % len(_COLOURS)]
        light += f".c{index}{{stroke:{bright}}}.f{index}{{fill:{bright}}}"
        dark += f".c{index}{{stroke:{pale}}}.f{index}{{fill:{pale}}}"
    return f"{light}@media (prefers-color-scheme: dark){{{dark}}}"


def _line(index: int, line: Line, at: object) -> list[str]:
    assert callable(at)
    places = [at(point.x, point.y) for point in line.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    out = [f'<polyline class="c{index}" points="{path}" fill="none" stroke-width="2"/>']
    for point, (x, y) in zip(line.points, places, strict=True):
        (_, low), (_, high) = at(point.x, point.low), at(point.x, point.high)
        out.append(f'<line class="c{index}" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>')
        told = escape(f"{line.name}: {number(point.x)}, {point.y:.2f} ({point.low:.2f} to {point.high:.2f})")
        out.append(f'<g class="f{index}">{_marker(index, x, y)}<title>{told}</title></g>')
    return out


def _marker(index: int, x: float, y: float) -> str:
    if index % 2 == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'


def _legend(index: int, name: str) -> list[str]:
    x = _WIDTH - _RIGHT - 130 * (2 - index) if index < 2 else _LEFT + 130 * (index - 2)
    y = 22
    return [
        f'<g class="f{index}">{_marker(index, x, y - 4)}</g>',
        f'<text class="ink" x="{x + 10}" y="{y}">{escape(name)}</text>',
    ]
