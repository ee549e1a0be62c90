"""What a fault test measured, for docs/faults.md: one line a figure, printed when the run ends."""

from __future__ import annotations

_FIGURES: list[tuple[str, str, str]] = []


def note(case: str, what: str, value: object) -> None:
    """Keep a figure of the case `case` ("K1"): "bytes fetched again", 16384."""
    _FIGURES.append((case, what, str(value)))


def lines() -> list[str]:
    """All figures so far, in the order of their cases."""
    return [f"{case:4} {what}: {value}" for case, what, value in sorted(_FIGURES)]
