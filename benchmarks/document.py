"""docs/performance.md: each benchmark's block in it, which --write replaces. The prose around is by hand.

Main thread. A block stands between two comments that name its benchmark.
"""

from __future__ import annotations

import datetime as dt
from importlib import metadata

from benchmarks import machine
from benchmarks.picture import draw
from benchmarks.plan import Plan
from benchmarks.processes import ROOT, BenchmarkError
from benchmarks.report import Report

DOCUMENT = ROOT / "docs" / "performance.md"
PICTURE = ROOT / "docs" / "performance.svg"


def write(name: str, report: Report, plan: Plan) -> None:
    """Put a report into the document, and its bars into the picture. Raises BenchmarkError."""
    text = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(replaced(text, name, body(report, conditions(plan))), encoding="utf-8")
    if report.bars:
        PICTURE.write_text(draw(report.bars), encoding="utf-8")


def replaced(text: str, name: str, new: str) -> str:
    """`text` with another block of that name. Raises BenchmarkError when it has none."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise BenchmarkError(f"{DOCUMENT} has no block between {begin} and {end}")
    return f"{before}{begin}\n{new}\n{end}{after}"


def body(report: Report, measured_on: str) -> str:
    """A report as Markdown, with the picture where there are bars for it."""
    picture = [f"![Bars of MB/s and of CPU seconds a GiB]({PICTURE.name})"] if report.bars else []
    tables = [table.as_markdown() for table in report.all_tables]
    return "\n\n".join([report.note, f"*{measured_on}*", *picture, *tables])


def conditions(plan: Plan) -> str:
    """When, where and how often it was measured."""
    today = dt.datetime.now(dt.timezone.utc).date().isoformat()
    where = "in memory (tmpfs)" if plan.folder.is_relative_to("/dev/shm") else f"on {plan.folder.anchor}"
    return (
        f"{today}; {machine.description()}; libtorrent {_libtorrent_version()}; files {where}; "
        f"{'one run' if plan.runs == 1 else f'medians of {plan.runs} runs'}"
    )


def _libtorrent_version() -> str:
    try:
        return metadata.version("libtorrent")
    except metadata.PackageNotFoundError:
        return "not installed"
