"""What the pictures are drawn with, as SVG without any library. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

INK, PAPER = "#1f2933", "#ffffff"


def document(title: str, width: int, height: int, elements: Sequence[str], *, font_px: int) -> str:
    """A whole file: the elements, on paper."""
    size = f'width="{width}" height="{height}"'
    style = f"font-family:sans-serif;font-size:{font_px}px"
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width} {height}" style="{style}">',
        f"<title>{escape(title)}</title>",
        f'<rect {size} fill="{PAPER}"/>',
    ]
    return "\n".join([*head, *elements, "</svg>"]) + "\n"


def text(x: int, y: int, shown: str, *, bold: bool = False) -> str:
    """A line of text that begins there."""
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x}" y="{y}" fill="{INK}"{weight}>{escape(shown)}</text>'


def line(points: Sequence[tuple[float, float]], colour: str, width: float) -> str:
    """A line through these points."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'
