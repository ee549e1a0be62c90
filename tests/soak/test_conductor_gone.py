"""Conductors that die in the middle of a transfer, and come back."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from tests.compositions import MIB, Composition, compose
from tests.conductorkills import kill_conductor
from tests.figures import note
from tests.programs import Programs
from tests.scriptedpeer import ScriptedPeer
from tests.swarms import Orchestra, wait_until

pytestmark = pytest.mark.timeout(600)
BLOCKS_S = 250.0


class Paced:
    """Answers so many blocks a second, whoever asks: what a transfer takes is known beforehand."""

    def __init__(self) -> None:
        self.first_s = self.last_s = 0.0
        """When the first and the latest block were sent."""
        self._next_s = 0.0

    def __call__(self, _part: int, _begin: int, block: bytes) -> bytes:
        now_s = time.monotonic()
        self._next_s = max(self._next_s, now_s - 0.5) + 1 / BLOCKS_S
        time.sleep(max(0.0, self._next_s - now_s))
        self.last_s = time.monotonic()
        self.first_s = self.first_s or self.last_s
        return block


@pytest.fixture
def piece(tmp_path: Path) -> Composition:
    return compose(tmp_path / "source", 64 * MIB, 256 * 1024)


def transfer_s(orchestra: Orchestra, piece: Composition, name: str, *, dies: bool) -> float:
    """How long a member takes to fetch it from a paced peer, while the conductor is gone for five seconds."""
    paced = Paced()
    with ScriptedPeer(piece, answer=paced) as peer:
        member = orchestra.fetch(name, "--peer", peer.name)
        assert peer.asked.wait(30)
        if dies:
            orchestra.wait_for_members(incomplete=1)
            orchestra.conductor.kill()
            threading.Event().wait(5.0)
            orchestra.start_conductor().wait_for_event("listening")
            back_s = time.monotonic()
            wait_until(lambda: orchestra.scrape() != (0, 0), "a conductor that knows the swarm again")
            note("T1", "seconds until the swarm is known again", f"{time.monotonic() - back_s:.1f}")
            assert time.monotonic() - back_s <= 10.0
        member.wait_for_event("complete", timeout_s=120)
    if dies:  # only now: it would have its share of what the paced peer gives
        newcomer = orchestra.fetch("newcomer", "--no-seed")
        joining_s = time.monotonic()
        newcomer.wait_for_event("progress", members=1)
        note("T1", "seconds until a newcomer is among them", f"{time.monotonic() - joining_s:.1f}")
        assert time.monotonic() - joining_s <= 15.0
        assert newcomer.wait(60) == 0
        assert orchestra.fetched("newcomer")
    member.stop()
    assert orchestra.fetched(name)
    return paced.last_s - paced.first_s


@pytest.mark.fault("T1")
def test_a_transfer_hardly_notices_that_its_conductor_is_gone(programs: Programs, piece: Composition) -> None:
    orchestra = Orchestra(programs, piece, "--interval", "10")
    clean_s = transfer_s(orchestra, piece, "clean", dies=False)
    hurt_s = transfer_s(orchestra, piece, "hurt", dies=True)
    note("T1", "throughput while the conductor is restarted", f"{100 * clean_s / hurt_s:.1f} %")
    assert clean_s / hurt_s >= 0.98


@pytest.mark.fault("T1")
@pytest.mark.parametrize("seed", range(1, 5))
def test_50_kills_of_a_conductor_four_times_lose_nothing(
    programs: Programs, tmp_path: Path, seed: int
) -> None:
    orchestra = Orchestra(programs, compose(tmp_path / "source", 8 * MIB, 65536), "--interval", "1")
    report = kill_conductor(orchestra, 50, random.Random(seed))
    case = f"{report.kills} kills of a conductor, seed {seed}:"
    note("T1", f"{case} of these while it started", report.killed_while_starting)
    note("T1", f"{case} members that came and have the right file", report.fetched)
    note("T1", f"{case} slowest restart, s", f"{report.slowest_restart_s:.1f}")
    note("T1", f"{case} s until the seeder is known again after the last", f"{report.known_again_s:.1f}")
