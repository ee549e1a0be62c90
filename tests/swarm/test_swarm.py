"""Whole swarms of our own programs: everybody gets everything, whoever leaves or lies."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.compositions import Composition
from tests.programs import Programs
from tests.swarms import Orchestra, uploaded_bytes, wait_until


def test_300_mib_from_member_to_member(programs: Programs, long_piece: Composition, tmp_path: Path) -> None:
    orchestra = Orchestra(programs, long_piece)
    orchestra.seed()
    member = orchestra.fetch("ours", "--no-seed")
    assert member.wait() == 0
    complete = member.wait_for_event("complete")
    assert complete["path"] == str(tmp_path / "ours" / "long.bin")
    assert complete["downloaded_bytes"] == long_piece.score.size_bytes
    assert orchestra.fetched("ours")
    shutil.rmtree(tmp_path / "ours")


def test_five_members_at_once_cost_their_seeder_less_than_two_and_a_half_copies(
    programs: Programs, crowd_piece: Composition, tmp_path: Path
) -> None:
    orchestra = Orchestra(programs, crowd_piece)
    seeder = orchestra.seed()
    names = [f"member {number}" for number in range(5)]
    members = [orchestra.fetch(name) for name in names]
    for member in members:
        member.wait_for_event("complete")
    copies = 5 * crowd_piece.score.size_bytes
    wait_until(lambda: sum(map(uploaded_bytes, [seeder, *members])) >= copies, "five copies accounted for")
    assert uploaded_bytes(seeder) < 2.5 * crowd_piece.score.size_bytes
    for name in names:
        assert orchestra.fetched(name)
        shutil.rmtree(tmp_path / name)
