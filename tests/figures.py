"""What a fault test measured, for docs/faults.md: one line a figure, printed when the run ends.

Where a case's mark is a time or a share of one, the tests of every commit only note it: a busy machine is
no bug. `python3 run.py soak` holds them to it (pytest --hold-marks).
"""

from __future__ import annotations

_FIGURES: list[tuple[str, str, str]] = []
_HELD: list[bool] = []


def hold_marks() -> None:
    """From now on a figure beyond its mark fails its test."""
    _HELD.append(True)


def note(case: str, what: str, value: object, *, at_most: float | None = None) -> None:
    """Keep a figure of the case `case` ("K1"): "bytes fetched again", 16384. `at_most`: its mark."""
    _FIGURES.append((case, what, str(value)))
    if at_most is not None and _HELD:
        assert isinstance(value, int | float)
        assert value <= at_most, f"{case} {what}: {value}, and the mark is {at_most}"


def lines() -> list[str]:
    """All figures so far, in the order of their cases."""
    return [f"{case:4} {what}: {value}" for case, what, value in sorted(_FIGURES)]
