"""The documents: each benchmark's block in its own, which --write replaces. The prose around is by hand.

Main thread. A block stands between two comments that name its benchmark, or a section of it.
"""

from __future__ import annotations

import datetime as dt
from importlib import metadata
from pathlib import Path

from benchmarks import curves, machine, picture
from benchmarks.composition import in_memory
from benchmarks.plan import Plan
from benchmarks.processes import ROOT, BenchmarkError
from benchmarks.report import Report

PERFORMANCE = ROOT / "docs" / "performance.md"
SWARM = ROOT / "docs" / "swarm.md"
DOCUMENTS = {"swarm": SWARM, "rehearsal": SWARM}
"""Where a benchmark stands that is not in docs/performance.md."""


def write(name: str, report: Report, plan: Plan) -> None:
    """Put a report into its document, and its curves or bars into the picture. Raises BenchmarkError."""
    document = DOCUMENTS.get(name, PERFORMANCE)
    blocks = dict(report.sections) if report.partial else {name: report, **report.sections}
    text = document.read_text(encoding="utf-8")
    for block, section in blocks.items():
        shown = body(section, conditions(plan, report.measured_with), picture_of(document).name)
        text = replaced(text, block, shown)
    document.write_text(text, encoding="utf-8")
    if not report.partial and (drawn := draw(report)):
        picture_of(document).write_text(drawn, encoding="utf-8")


def picture_of(document: Path) -> Path:
    """The picture that belongs to a document."""
    return document.with_suffix(".svg")


def draw(report: Report) -> str:
    """The SVG of a report; empty when it has no picture."""
    if report.curves:
        return curves.draw(report.curves)
    return picture.draw(report.bars) if report.bars else ""


def replaced(text: str, name: str, new: str) -> str:
    """`text` with another block of that name. Raises BenchmarkError when it has none."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise BenchmarkError(f"the document has no block between {begin} and {end}")
    return f"{before}{begin}\n{new}\n{end}{after}"


def body(report: Report, measured_on: str, picture_name: str = PERFORMANCE.with_suffix(".svg").name) -> str:
    """A report as Markdown, with the picture where there is one for it; its sections stand elsewhere."""
    shown = []
    if report.bars:
        shown = [f"![Bars of MB/s and of CPU seconds a GiB]({picture_name})"]
    elif report.curves:
        shown = [f"![Leechers that have the file, over time]({picture_name})"]
    note = [report.note] if report.note else []
    tables = [table.as_markdown() for table in report.own_tables]
    return "\n\n".join([*note, f"*{measured_on}*", *shown, *tables])


def conditions(plan: Plan, measured_with: str = "") -> str:
    """When, where and how often it was measured."""
    today = dt.datetime.now(dt.timezone.utc).date().isoformat()
    where = "in memory (tmpfs)" if in_memory(plan.folder) else f"on {plan.folder.anchor}"
    more = f"; {measured_with}" if measured_with else ""
    return (
        f"{today}; {machine.description()}; libtorrent {_libtorrent_version()}{more}; files {where}; "
        f"{'one run' if plan.runs == 1 else f'medians of {plan.runs} runs'}"
    )


def _libtorrent_version() -> str:
    try:
        return metadata.version("libtorrent")
    except metadata.PackageNotFoundError:
        return "not installed"
