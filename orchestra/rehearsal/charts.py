"""Charts as inline SVG, drawn without any library. Pure.

A chart is CHART_WIDTH units wide, so that its text is readable where the page
is as narrow as a phone. Colours are classes, which the page gives values for
light and for dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

from orchestra import humans

CHART_WIDTH, CHART_HEIGHT = 480, 290
LEFT, RIGHT, TOP, BOTTOM = 50, 14, 16, 44
PLOT_WIDTH = CHART_WIDTH - LEFT - RIGHT
PLOT_HEIGHT = CHART_HEIGHT - TOP - BOTTOM

Point = tuple[float, float]

_TIME_UNITS = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))
_LABEL_ROOM = 150


@dataclass(frozen=True, slots=True)
class Axis:
    """From 0 to `top`, with ticks. `title` names the unit."""

    top: float
    title: str
    ticks: tuple[tuple[float, str], ...]


def time_axis(longest_s: float) -> Axis:
    """An axis of seconds, minutes, hours or days, whichever gives numbers that read well."""
    top = longest_s if longest_s > 0 else 1.0
    unit_s, name = next((each for each in _TIME_UNITS if top >= 2 * each[0]), _TIME_UNITS[-1])
    ticks = tuple((value * unit_s, f"{value:g}") for value in round_numbers(top / unit_s))
    return Axis(top, f"{name} after the start", ticks)


def number_axis(top: float, title: str, label: Callable[[float], str] = "{:g}".format) -> Axis:
    """An axis of plain numbers."""
    top = top if top > 0 else 1.0
    return Axis(top, title, tuple((value, label(value)) for value in round_numbers(top)))


def round_numbers(top: float, most: int = 6) -> list[float]:
    """0 and the multiples of 1, 2 or 5 times a power of ten up to `top`, at most `most` steps."""
    least = top / most
    power = 10.0 ** math.floor(math.log10(least))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))
    digits = max(0, -math.floor(math.log10(step)))
    return [round(number * step, digits) for number in range(int(top / step * (1 + 1e-9)) + 1)]


@dataclass(slots=True)
class Chart:
    """One chart. What is added later lies above."""

    title: str
    x: Axis
    y: Axis
    _marks: list[str] = field(default_factory=list)

    def line(self, points: Iterable[Point], css: str) -> None:
        """A line through `points`."""
        self._marks.append(f'<path class="line {css}" d="{self._path(points)}"/>')

    def area(self, points: Sequence[Point], css: str) -> None:
        """What is below the line through `points`."""
        if points:
            closed = [(points[0][0], 0.0), *points, (points[-1][0], 0.0)]
            self._marks.append(f'<path class="area {css}" d="{self._path(closed)}Z"/>')

    def bar(self, left: float, right: float, value: float, css: str, tip: str) -> None:
        """A bar from the bottom; `tip` shows when it is pointed at."""
        x, y = self._at(left, value)
        width, height = self._x(right) - x, TOP + PLOT_HEIGHT - y
        gap = 1.0 if width > 4 else 0.0
        self._marks.append(
            f'<rect class="bar {css}" x="{x:.1f}" y="{y:.1f}" width="{width - gap:.2f}" '
            f'height="{height:.1f}"><title>{escape(tip)}</title></rect>'
        )

    def moment(self, x: float, label: str, css: str, *, low: bool = False) -> None:
        """An upright dashed line with its label on the side that has room, at the top or low down."""
        at = self._x(x)
        left = at - LEFT > _LABEL_ROOM
        anchor, shift = ("end", -5) if left else ("start", 5)
        y = TOP + PLOT_HEIGHT - 8 if low else TOP + 12
        self._marks.append(
            f'<path class="mark {css}" d="M{at:.1f} {TOP}V{TOP + PLOT_HEIGHT}"/>'
            f'<text class="{css}" x="{at + shift:.1f}" y="{y}" text-anchor="{anchor}">'
            f"{escape(label)}</text>"
        )

    def level(self, y: float, label: str, css: str) -> None:
        """A dashed line across, its label at the left above it."""
        at = self._y(y)
        self._marks.append(
            f'<path class="mark {css}" d="M{LEFT} {at:.1f}H{LEFT + PLOT_WIDTH}"/>'
            f'<text class="{css}" x="{LEFT + 5}" y="{at - 5:.1f}">{escape(label)}</text>'
        )

    def svg(self) -> str:
        """The chart as an element of a page."""
        title = escape(self.title)
        return "\n".join(
            [
                f'<svg viewBox="0 0 {CHART_WIDTH} {CHART_HEIGHT}" role="img" aria-label="{title}">',
                f"<title>{title}</title>",
                *self._grid(),
                *self._marks,
                "</svg>",
            ]
        )

    def _grid(self) -> Iterable[str]:
        bottom, right = TOP + PLOT_HEIGHT, LEFT + PLOT_WIDTH
        for value, label in self.y.ticks:
            y = self._y(value)
            yield f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>'
            yield f'<text class="dim" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(label)}</text>'
        for value, label in self.x.ticks:
            x = self._x(value)
            yield f'<path class="grid" d="M{x:.1f} {bottom}v5"/>'
            at = f'x="{x:.1f}" y="{bottom + 18}"'
            yield f'<text class="dim" {at} text-anchor="middle">{escape(label)}</text>'
        yield (
            f'<text class="dim" x="{right}" y="{CHART_HEIGHT - 6}" text-anchor="end">'
            f"{escape(self.x.title)}</text>"
        )

    def _path(self, points: Iterable[Point]) -> str:
        steps = ["{:.1f} {:.1f}".format(*self._at(*point)) for point in points]
        return "M" + "L".join(steps) if steps else ""

    def _at(self, x: float, y: float) -> Point:
        return self._x(x), self._y(y)

    def _x(self, value: float) -> float:
        return LEFT + PLOT_WIDTH * min(max(value / self.x.top, 0.0), 1.0)

    def _y(self, value: float) -> float:
        return TOP + PLOT_HEIGHT * (1 - min(max(value / self.y.top, 0.0), 1.0))


def stairs(times: Sequence[float], most: int = 400) -> list[Point]:
    """How many of the sorted `times` have passed, from 0, as a line of about twice `most` points."""
    stride = max(1, -(-len(times) // most))
    points: list[Point] = [(0.0, 0.0)]
    for end in [*range(stride, len(times), stride), *([len(times)] if times else [])]:
        at = times[end - 1]
        points += [(at, points[-1][1]), (at, float(end))]
    return points


def in_runs(values: Sequence[float], most: int = 120) -> list[tuple[int, int, float]]:
    """`values` in at most `most` runs of neighbours: (first place, place after the last, mean)."""
    runs = min(most, len(values))
    ends = [len(values) * number // runs for number in range(runs + 1)] if runs else []
    return [(first, end, sum(values[first:end]) / (end - first)) for first, end in pairwise(ends)]


def tip_of(first: int, end: int, value: float) -> str:
    """What a bar of `in_runs` says of itself."""
    who = f"machine {first + 1:,}" if end - first == 1 else f"machines {first + 1:,} to {end:,}, each"
    return f"{who}: {value:.2f} copies"


def moment_label(name: str, time_s: float) -> str:
    """The words at an upright line."""
    return f"{name} {humans.duration(time_s)}"
