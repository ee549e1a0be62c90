"""Members and aria2 in one swarm, brought together by the conductor alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.compositions import Composition
from tests.foreign import needs_aria2, start_aria2
from tests.programs import Programs
from tests.swarms import Orchestra

pytestmark = [pytest.mark.interop, needs_aria2]


def test_300_mib_from_a_member_to_aria2(programs: Programs, long_piece: Composition, tmp_path: Path) -> None:
    orchestra = Orchestra(programs, long_piece)
    orchestra.seed()
    client = start_aria2(programs, orchestra.torrent, tmp_path / "theirs", seed=False)
    assert client.wait() == 0
    assert orchestra.fetched("theirs")
    shutil.rmtree(tmp_path / "theirs")


def test_300_mib_from_aria2_to_a_member(programs: Programs, long_piece: Composition, tmp_path: Path) -> None:
    orchestra = Orchestra(programs, long_piece)
    start_aria2(programs, orchestra.torrent, long_piece.folder, seed=True)
    orchestra.wait_for_members(complete=1)
    member = orchestra.fetch("ours", "--no-seed")
    assert member.wait() == 0
    assert orchestra.fetched("ours")
    shutil.rmtree(tmp_path / "ours")
