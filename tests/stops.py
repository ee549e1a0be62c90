"""Members in this process that are stopped at random moments of a transfer."""

from __future__ import annotations

import faulthandler
import random
import shutil
import time
from pathlib import Path

import pytest

from orchestra import receiver, session, writer
from orchestra.messages import Ended
from tests.compositions import Composition
from tests.threads.test_session import Member

STUCK_S = 30.0
"""Without an end for so long, the stacks of all threads are shown."""


def tighten(monkeypatch: pytest.MonkeyPatch) -> None:
    """One message, one landing, one step: whoever waits for whom in a circle waits for ever now."""
    monkeypatch.setattr(session, "INBOX_MESSAGES", 1)
    monkeypatch.setattr(receiver, "BUFFERS", 1)
    monkeypatch.setattr(writer, "STEPS", 1)


def transfer(composition: Composition, folder: Path, stop_after_s: float | None) -> tuple[Ended, float]:
    """A member fetches from another one until it is complete, or is stopped; how it ended, and how fast."""
    shutil.rmtree(folder, ignore_errors=True)
    seeder = Member(composition, composition.folder)
    fetching = seed = stop_after_s is not None
    leecher = Member(composition, folder, members=(seeder.address,), seed=seed)
    if stop_after_s is not None:
        time.sleep(stop_after_s)  # what is tested is any moment, not an event
    start_s = time.monotonic()
    ended = leecher.end("q" if fetching else "")
    stopped_s = time.monotonic() - start_s
    seeder.end("q")
    return ended, stopped_s


def stop_many(composition: Composition, folder: Path, times: int, seed: int) -> float:
    """Stop so many transfers at random moments; the slowest end, in seconds. A file is right or absent."""
    rng = random.Random(seed)
    slowest_s = 0.0
    installed = folder / composition.score.name
    for _ in range(times):
        faulthandler.dump_traceback_later(STUCK_S)
        try:
            ended, stopped_s = transfer(composition, folder, rng.random() ** 2 * 0.4)
        finally:
            faulthandler.cancel_dump_traceback_later()
        assert ended.error is None, ended
        assert ended.complete == installed.exists()
        assert not ended.complete or composition.is_at(installed)
        slowest_s = max(slowest_s, stopped_s)
    return slowest_s
