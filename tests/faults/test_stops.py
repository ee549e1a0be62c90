"""X2, a sample: stops at random moments, and queues of one. tests/soak/test_stops.py has two hundred."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import figures
from tests.compositions import compose
from tests.stops import stop_many, tighten, transfer


@pytest.mark.fault("X2")
@pytest.mark.parametrize("tight", [False, True], ids=["as usual", "queues of one"])
def test_a_member_that_is_stopped_at_any_moment_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, tight: bool
) -> None:
    composition = compose(tmp_path / "source", 3_000_000, 65_536)
    if tight:
        tighten(monkeypatch)
    slowest_s = stop_many(composition, tmp_path / "down", 4, seed=1)
    figures.note(
        "X2", f"slowest of 4 stops, {'queues of one' if tight else 'as usual'} (s)", f"{slowest_s:.2f}"
    )


@pytest.mark.fault("X2")
def test_a_transfer_with_queues_of_one_is_slow_but_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tighten(monkeypatch)
    composition = compose(tmp_path / "source", 3_000_000, 65_536)
    ended, _ = transfer(composition, tmp_path / "down", None)
    assert ended.complete
    assert composition.is_at(tmp_path / "down" / composition.score.name)
