"""X2: two hundred stops at random moments, and whole transfers with queues of one: nothing hangs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import figures
from tests.compositions import compose
from tests.stops import stop_many, tighten, transfer

STOPS, TRANSFERS = 200, 20
MOST_S = 2.0
"""The promise is a second after q; joining the threads is in here, and another member beside it."""


@pytest.mark.fault("X2")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("tight", [False, True], ids=["as usual", "queues of one"])
def test_a_member_that_is_stopped_at_any_moment_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, tight: bool
) -> None:
    composition = compose(tmp_path / "source", 30_000_000, 65_536)
    if tight:
        tighten(monkeypatch)
    slowest_s = stop_many(composition, tmp_path / "down", STOPS, seed=2)
    figures.note(
        "X2", f"slowest of {STOPS} stops, {'queues of one' if tight else 'as usual'} (s)", f"{slowest_s:.2f}"
    )
    figures.note("X2", "hangs", 0)
    assert slowest_s <= MOST_S


@pytest.mark.fault("X2")
@pytest.mark.timeout(900)
def test_transfers_with_queues_of_one_are_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tighten(monkeypatch)
    composition = compose(tmp_path / "source", 3_000_000, 65_536)
    for _ in range(TRANSFERS):
        ended, _ = transfer(composition, tmp_path / "down", None)
        assert ended.complete
        assert composition.is_at(tmp_path / "down" / composition.score.name)
