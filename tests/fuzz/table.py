"""The table of fuzzing in docs/faults.md: a row a target, which a run with --write fills."""

from __future__ import annotations

import re
from pathlib import Path

from tests.fuzz.engine import Run

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
_ROW = re.compile(r"^\| `([a-z-]+)` \|([^|\n]*)\|(?:[^|\n]*\|){4}$", re.MULTILINE)


def listed(text: str) -> list[str]:
    """The targets in the table, as they stand."""
    return [target for target, _ in _ROW.findall(text)]


def filled(text: str, run: Run) -> str:
    """The document with what came of a run in the row of its target."""
    memory = f"{run.start_rss_bytes / 1e6:.1f} → {run.end_rss_bytes / 1e6:.1f}"
    figures = f"{run.inputs:,} | {len(run.outcomes)} | {1000 * run.slowest_s:.2f} | {memory}"

    def row(match: re.Match[str]) -> str:
        return f"| `{match[1]}` |{match[2]}| {figures} |" if match[1] == run.target else match[0]

    return _ROW.sub(row, text)


def write(run: Run) -> None:
    """Put what came of a run into the document."""
    DOCUMENT.write_text(filled(DOCUMENT.read_text(encoding="utf-8"), run), encoding="utf-8")
