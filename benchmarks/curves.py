"""Curves of who had the file when, in panels side by side, as an SVG file without any library. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import svg
from benchmarks.svg import INK, line, text

PANELS_A_ROW = 3
PLOT_WIDTH, PLOT_HEIGHT = 240, 130
LEFT, TOP, RIGHT, BOTTOM = 34, 34, 16, 34
PANEL_WIDTH, PANEL_HEIGHT = LEFT + PLOT_WIDTH + RIGHT, TOP + PLOT_HEIGHT + BOTTOM
LEGEND_WIDTH = 290
FAINT = "#d5dae0"
TITLE = "Leechers that have the file, over time in T*"
COLOURS = ("#b3541e", "#2f6f9f", "#7aa6c2", "#4c8c4a", "#8a5fa8", "#c29d3c", "#5f6b7a")
LEAST_SPAN = 2.0
"""How many T* a panel shows at least."""


@dataclass(frozen=True, slots=True)
class Curve:
    """When one after the other was done, in T*, ascending; those who never were are not in it."""

    name: str
    done: Sequence[float]


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves with the same bound; `leechers` is how many there are."""

    title: str
    leechers: int
    curves: Sequence[Curve]


def draw(panels: Sequence[Panel]) -> str:
    """The SVG: a legend, then the panels in rows; all begin at 0, and T* is a vertical line."""
    names = list(dict.fromkeys(curve.name for panel in panels for curve in panel.curves))
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
    columns = min(PANELS_A_ROW, len(panels))
    legend_columns = max(1, columns * PANEL_WIDTH // LEGEND_WIDTH)
    head = 28 + 18 * math.ceil(len(names) / legend_columns)
    width, height = columns * PANEL_WIDTH, head + math.ceil(len(panels) / PANELS_A_ROW) * PANEL_HEIGHT
    elements = [text(10, 18, TITLE, bold=True)]
    for number, name in enumerate(names):
        x, y = 10 + number % legend_columns * LEGEND_WIDTH, 36 + number // legend_columns * 18
        elements.append(line([(x, y - 4), (x + 22, y - 4)], colours[name], 2.5))
        elements.append(text(x + 28, y, name))
    for number, panel in enumerate(panels):
        x, y = number % PANELS_A_ROW * PANEL_WIDTH + LEFT, head + number // PANELS_A_ROW * PANEL_HEIGHT + TOP
        elements += _panel(panel, x, y, colours)
    return svg.document(TITLE, width, height, elements, font_px=12)


def steps(done: Sequence[float]) -> list[tuple[float, int]]:
    """The corners of a curve: (time, how many have it), from nobody at 0."""
    corners = [(0.0, 0)]
    for number, at in enumerate(done, 1):
        corners += [(at, number - 1), (at, number)]
    return corners


def _panel(panel: Panel, left: int, top: int, colours: dict[str, str]) -> list[str]:
    last = max((curve.done[-1] for curve in panel.curves if curve.done), default=0.0)
    span = max(LEAST_SPAN, math.ceil(last * 2) / 2)
    bottom = top + PLOT_HEIGHT

    def place(at: float, number: int) -> tuple[float, float]:
        return left + at / span * PLOT_WIDTH, bottom - number / panel.leechers * PLOT_HEIGHT

    bound_x = place(1.0, 0)[0]
    elements = [
        text(left, top - 10, panel.title, bold=True),
        line([(left, top), (left, bottom), (left + PLOT_WIDTH, bottom)], INK, 1),
        line([(bound_x, top), (bound_x, bottom)], FAINT, 1.5),
        text(round(bound_x) - 6, bottom + 16, "T*"),
        text(left + PLOT_WIDTH - 16, bottom + 16, f"{span:g}"),
        text(left - 4, bottom + 16, "0"),
        text(left - 22, top + 10, str(panel.leechers)),
    ]
    # The first named is drawn last, on top of the others.
    for curve in reversed(panel.curves):
        number = len(curve.done)
        # Where all have the file the curve ends: lines on the top edge would only hide each other.
        rest = [(span, number)] if number < panel.leechers else []
        corners = [place(at, count) for at, count in [*steps(curve.done), *rest]]
        elements.append(line(corners, colours[curve.name], 2))
    return elements
