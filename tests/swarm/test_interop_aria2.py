"""Members and aria2 in one swarm, brought together by the conductor alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.compositions import Composition, compose
from tests.foreign import needs_aria2, start_aria2
from tests.programs import Programs
from tests.swarms import Orchestra

pytestmark = [pytest.mark.interop, pytest.mark.fault("X3"), needs_aria2]


def test_300_mib_from_a_member_to_aria2(programs: Programs, long_piece: Composition, tmp_path: Path) -> None:
    orchestra = Orchestra(programs, long_piece)
    orchestra.seed()
    client = start_aria2(programs, orchestra.torrent, tmp_path / "theirs", seed=False)
    assert client.wait() == 0
    assert orchestra.fetched("theirs")
    shutil.rmtree(tmp_path / "theirs")


def test_small_parts_from_a_member_to_aria2(programs: Programs, tmp_path: Path) -> None:
    # With twenty parts or more to tell of, aria2 sends its bitfield again in the middle of everything.
    small = compose(tmp_path / "source", 30_000_000, 16384)
    orchestra = Orchestra(programs, small)
    orchestra.seed()
    client = start_aria2(programs, orchestra.torrent, tmp_path / "theirs", seed=False)
    assert client.wait() == 0
    assert orchestra.fetched("theirs")


def test_300_mib_from_aria2_to_a_member(programs: Programs, long_piece: Composition, tmp_path: Path) -> None:
    orchestra = Orchestra(programs, long_piece)
    start_aria2(programs, orchestra.torrent, long_piece.folder, seed=True)
    orchestra.wait_for_members(complete=1)
    member = orchestra.fetch("ours", "--no-seed")
    assert member.wait() == 0
    assert orchestra.fetched("ours")
    shutil.rmtree(tmp_path / "ours")
