"""The picture of a transfer: bars of MB/s and of CPU s/GiB, as an SVG file without any library. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import svg
from benchmarks.report import Bar

NAMES_WIDTH = 210
BARS_WIDTH = 230
VALUE_WIDTH = 70
ROW_HEIGHT = 22
HEAD_HEIGHT = 44
WIDTH = NAMES_WIDTH + 2 * (BARS_WIDTH + VALUE_WIDTH) + 10
OURS, THEIRS = "#b3541e", "#9aa5b1"
TITLE = "Speed and CPU time of one seeder to one leecher"


def draw(bars: Sequence[Bar]) -> str:
    """The SVG: a row a bar, under the name of its group; speed at the left, cost at the right."""
    groups = list(dict.fromkeys(bar.group for bar in bars))
    height = HEAD_HEIGHT + ROW_HEIGHT * (len(bars) + len(groups)) + 10
    elements = [
        svg.text(_column_x(0), 26, "MB/s, more is better", bold=True),
        svg.text(_column_x(1), 26, "CPU s/GiB, less is better", bold=True),
    ]
    scales = [
        max((bar.megabytes_s for bar in bars), default=1.0),
        max((bar.cpu_s_gib for bar in bars), default=1.0),
    ]
    y = HEAD_HEIGHT
    for group in groups:
        elements.append(svg.text(10, y + 15, group, bold=True))
        y += ROW_HEIGHT
        for bar in (bar for bar in bars if bar.group == group):
            elements += _row(bar, y, scales)
            y += ROW_HEIGHT
    return svg.document(TITLE, WIDTH, height, elements, font_px=13)


def _row(bar: Bar, y: int, scales: Sequence[float]) -> list[str]:
    colour = OURS if bar.name.startswith("ours") else THEIRS
    elements = [svg.text(10, y + 15, bar.name)]
    values = ((bar.megabytes_s, f"{bar.megabytes_s:,.0f}"), (bar.cpu_s_gib, f"{bar.cpu_s_gib:.2f}"))
    for column, (value, shown) in enumerate(values):
        x = _column_x(column)
        width = value / scales[column] * BARS_WIDTH
        elements.append(
            f'<rect x="{x}" y="{y + 3}" width="{width:.1f}" height="{ROW_HEIGHT - 6}" fill="{colour}"/>'
        )
        elements.append(svg.text(x + round(width) + 6, y + 15, shown))
    return elements


def _column_x(column: int) -> int:
    return NAMES_WIDTH + column * (BARS_WIDTH + VALUE_WIDTH)
