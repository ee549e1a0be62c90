"""Members and libtorrent clients in one swarm, brought together by the conductor alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.compositions import Composition, compose
from tests.foreign import needs_libtorrent, start_libtorrent
from tests.programs import Programs
from tests.swarms import Orchestra

pytestmark = [pytest.mark.interop, pytest.mark.fault("X3"), needs_libtorrent]


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


# libtorrent 2.1 takes any part size from 1 byte to 512 MiB, a power of two or not: its blocks are
# 16 KiB and whatever remains of each part, as BEP 3 has it.
@pytest.mark.parametrize("part_size_bytes", [1, 1000, 20000])
def test_odd_part_sizes_go_both_ways(programs: Programs, tmp_path: Path, part_size_bytes: int) -> None:
    size_bytes = min(2000 * part_size_bytes, 3_000_000) + part_size_bytes // 2
    orchestra = Orchestra(programs, compose(tmp_path / "source", size_bytes, part_size_bytes))
    orchestra.seed()
    client = start_libtorrent(programs, orchestra.torrent, tmp_path / "theirs")
    client.wait_for_event("complete")
    assert orchestra.fetched("theirs")

    orchestra = Orchestra(programs, orchestra.composition)
    start_libtorrent(programs, orchestra.torrent, tmp_path / "theirs")
    orchestra.wait_for_members(complete=1)
    member = orchestra.fetch("ours", "--no-seed")
    assert member.wait() == 0
    assert orchestra.fetched("ours")


def test_members_and_libtorrent_clients_fetch_together(programs: Programs, piece: Composition) -> None:
    orchestra = Orchestra(programs, piece)
    orchestra.seed()
    torrent = orchestra.torrent
    clients = [start_libtorrent(programs, torrent, orchestra.folder / name) for name in ("one", "two")]
    members = [orchestra.fetch(name) for name in ("three", "four")]
    for program in (*clients, *members):
        program.wait_for_event("complete")
    for name in ("one", "two", "three", "four"):
        assert orchestra.fetched(name)
