"""What a benchmark comes to: tables, marks, bars for the picture. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.curves import Panel
from benchmarks.measure import Series
from benchmarks.tables import Mark, Table, marks_table, mib, number, percent


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of the picture: whose, in which group, how fast and at what cost."""

    group: str
    name: str
    megabytes_s: float
    cpu_s_gib: float


@dataclass(frozen=True, slots=True)
class Report:
    """`note` says in a sentence or two what the figures are; Markdown.

    `curves` are for a picture, as `bars` are. `sections` are blocks of their
    own in the document; `partial`: not everything was measured, and only they
    are written. `measured_with` is a condition that not every benchmark has;
    `skipped` says why nothing was measured.
    """

    tables: Sequence[Table]
    marks: Sequence[Mark] = ()
    bars: Sequence[Bar] = ()
    note: str = ""
    curves: Sequence[Panel] = ()
    sections: Mapping[str, Report] = field(default_factory=dict)
    partial: bool = False
    measured_with: str = ""
    skipped: str = ""

    @property
    def own_tables(self) -> list[Table]:
        """The tables, and that of the marks where there are any."""
        return [*self.tables, marks_table(self.marks)] if self.marks else list(self.tables)

    @property
    def all_tables(self) -> list[Table]:
        """The sections' tables, then its own."""
        inner = [table for section in self.sections.values() for table in section.all_tables]
        return [*inner, *self.own_tables]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of medians: `show` makes the cell, of the median times `scale`."""

    heading: str
    figure: str
    decimals: int = 2
    scale: float = 1.0

    def cell(self, series: Series) -> str:
        """What stands in it for one contender."""
        return number(series.median(self.figure) * self.scale, self.decimals)


def series_table(title: str, series: dict[str, Series], columns: Sequence[Column]) -> Table:
    """A row a contender: these columns, peak memory where it was measured, and how quiet the machine was."""
    rows = []
    for name, one in series.items():
        if not one.runs:
            rows.append([f"{name}: skipped, {one.skipped}", *[""] * (len(columns) + 3)])
            continue
        cells = [column.cell(one) for column in columns]
        quiet = [percent(one.median("other_load")), str(one.repeated)]
        rows.append([name, *cells, mib(one.median("peak_bytes")), *quiet])
    heading = ["", *(column.heading for column in columns), "peak MiB", "others", "again"]
    return Table(title, heading, rows)
