"""Members and libtorrent clients in one swarm, brought together by the conductor alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.compositions import Composition
from tests.foreign import needs_libtorrent, start_libtorrent
from tests.programs import Programs
from tests.swarms import Orchestra

pytestmark = [pytest.mark.interop, needs_libtorrent]


def test_300_mib_from_a_member_to_libtorrent(
    programs: Programs, long_piece: Composition, tmp_path: Path
) -> None:
    orchestra = Orchestra(programs, long_piece)
    orchestra.seed()
    client = start_libtorrent(programs, orchestra.torrent, tmp_path / "theirs")
    client.wait_for_event("complete")
    assert orchestra.fetched("theirs")
    shutil.rmtree(tmp_path / "theirs")


def test_300_mib_from_libtorrent_to_a_member(
    programs: Programs, long_piece: Composition, tmp_path: Path
) -> None:
    orchestra = Orchestra(programs, long_piece)
    start_libtorrent(programs, orchestra.torrent, long_piece.folder)
    orchestra.wait_for_members(complete=1)
    member = orchestra.fetch("ours", "--no-seed")
    assert member.wait() == 0
    assert orchestra.fetched("ours")
    shutil.rmtree(tmp_path / "ours")
