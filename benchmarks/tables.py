"""Tables of figures: as text for the terminal, as Markdown for docs/performance.md. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

NOTHING = "-"
NEVER = "never"


@dataclass(frozen=True, slots=True)
class Table:
    """`rows` are cells as they are shown; the first column is the name and stands at the left."""

    title: str
    heading: Sequence[str]
    rows: Sequence[Sequence[str]]

    def as_text(self) -> str:
        """For a terminal: columns in line."""
        lines = [self.heading, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.heading))]
        laid = [
            "  ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        return "\n".join([self.title, laid[0], "-" * len(laid[0]), *laid[1:]])

    def as_markdown(self) -> str:
        """For a document."""
        ruler = ["---", *["--:"] * (len(self.heading) - 1)]
        lines = ["| " + " | ".join(line) + " |" for line in (self.heading, ruler, *self.rows)]
        return f"**{self.title}**\n\n" + "\n".join(lines)


def number(value: float, decimals: int = 2) -> str:
    """A figure, a dash when there is none, of a time "never"; thousands with a comma."""
    if value == math.inf:
        return NEVER
    return NOTHING if math.isnan(value) else f"{value:,.{decimals}f}"


def mib(value_bytes: float) -> str:
    """Bytes as MiB."""
    return number(value_bytes / (1 << 20), 0)


def part_size_text(part_size_bytes: int) -> str:
    """16 KiB, 1 MiB."""
    mib_bytes = 1 << 20
    whole = part_size_bytes >= mib_bytes
    return f"{part_size_bytes // mib_bytes} MiB" if whole else f"{part_size_bytes // 1024} KiB"


def percent(value: float) -> str:
    """A share as per cent."""
    return NOTHING if math.isnan(value) else f"{value:.0%}"


def ratio(ours: float, theirs: float) -> float:
    """ours / theirs, nan when either is missing."""
    return ours / theirs if theirs else math.nan


@dataclass(frozen=True, slots=True)
class Mark:
    """One line of the marks that the project has set itself: a ratio or a figure, and its bound."""

    text: str
    value: float
    least: float | None = None
    most: float | None = None
    show: Callable[[float], str] = number

    @property
    def met(self) -> bool | None:
        """Whether the bound holds; None when there is no figure, or no bound."""
        if math.isnan(self.value) or (self.least is None and self.most is None):
            return None
        above = self.least is None or self.value >= self.least
        return above and (self.most is None or self.value <= self.most)


def marks_table(marks: Sequence[Mark]) -> Table:
    """The marks and how they came out."""
    words = {True: "met", False: "NOT met", None: NOTHING}
    rows = []
    for mark in marks:
        bound = [f"at least {mark.show(mark.least)}"] if mark.least is not None else []
        bound += [f"at most {mark.show(mark.most)}"] if mark.most is not None else []
        rows.append([mark.text, mark.show(mark.value), ", ".join(bound), words[mark.met]])
    return Table("Marks", ["", "measured", "mark", ""], rows)
