"""Ours against a second implementation of the wire, both ways; libtorrent and aria2 are in tests/swarm."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compositions import Composition, compose
from tests.invariants import Invariants
from tests.programs import Programs
from tests.referencepeer import fetch_parts
from tests.scriptedpeer import ScriptedPeer
from tests.swarms import Orchestra


@pytest.fixture
def odd(tmp_path: Path) -> Composition:
    """Parts that are no power of two, and a last one of one byte."""
    return compose(tmp_path / "source", 40 * 50_001 + 1, 50_001)


@pytest.mark.fault("X3")
def test_a_member_fetches_from_the_reference_peer(
    programs: Programs, invariants: Invariants, odd: Composition, tmp_path: Path
) -> None:
    with ScriptedPeer(odd) as peer:
        options = ["--dir", str(tmp_path / "ours"), "--port", "0", "--no-seed", "--peer", peer.name]
        code, member = programs.run("member", odd.write_orch(tmp_path), *options)
        assert code == 0, member.story()
        assert peer.sent_bytes == odd.score.size_bytes
    assert odd.is_at(invariants.output(odd, tmp_path / "ours" / "piece.bin"))


@pytest.mark.fault("X3")
def test_the_reference_peer_fetches_from_a_member(
    programs: Programs, invariants: Invariants, odd: Composition
) -> None:
    orchestra = Orchestra(programs, odd)
    seeder = orchestra.seed()
    address = ("127.0.0.1", seeder.wait_for_event("listening")["port"])
    with invariants.settles(seeder):
        assert fetch_parts(address, odd) == odd.score.size_bytes
    invariants.still_serves(address, odd)
    invariants.still_conducts(orchestra.address, odd)
