"""Half of all peers send wrong blocks and break off: rqbit's profile, p = 5 % each for every block."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest

from tests import figures
from tests.compositions import MIB, compose
from tests.invariants import Invariants
from tests.programs import Programs
from tests.ratedpeer import Rated
from tests.scriptedpeer import wrongly

GOOD = FLAKY = 3
SEED = 2
WRONG = BREAKS_OFF = 0.05


@pytest.mark.fault("P2")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part_size_bytes", [16384, 256 * 1024])
def test_half_of_the_peers_are_flaky_and_a_tenth_is_wasted_at_most(
    programs: Programs, invariants: Invariants, tmp_path: Path, part_size_bytes: int
) -> None:
    composition = compose(tmp_path / "source", 64 * MIB, part_size_bytes)
    numbers = random.Random(SEED)

    def at_times(part: int, begin: int, block: bytes) -> bytes:
        if numbers.random() < BREAKS_OFF:
            raise ConnectionResetError
        return wrongly(part, begin, block) if numbers.random() < WRONG else block

    orch = composition.write_orch(tmp_path)
    with contextlib.ExitStack() as stack:
        flaky = [stack.enter_context(Rated(composition, reply=at_times)) for _ in range(FLAKY)]
        good = [stack.enter_context(Rated(composition)) for _ in range(GOOD)]
        peers = [word for peer in (*flaky, *good) for word in ("--peer", peer.name)]
        member = programs.start(
            "member", orch, "--dir", tmp_path / "ours", "--port", "0", "--no-seed", *peers
        )
        assert member.wait(300) == 0, member.story()
        sent_bytes = sum(peer.sent_bytes for peer in (*flaky, *good))
        assert [peer.connections for peer in good] == [1] * GOOD, "a good peer was blamed"
        tries = [peer.connections for peer in flaky]
    invariants.output(composition, tmp_path / "ours" / "piece.bin")
    wasted = sent_bytes / composition.score.size_bytes - 1
    figures.note("P2", f"parts of {part_size_bytes}: wasted, 3 of 6 flaky", f"{100 * wasted:.1f} %")
    figures.note(
        "P2",
        f"parts of {part_size_bytes}: connections of the flaky, banned",
        (tries, member.stderr.count("is banned")),
    )
    assert wasted <= 0.1
