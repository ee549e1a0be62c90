"""Whole swarms of our own programs: everybody gets everything, whoever leaves or lies."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest

from tests.compositions import MIB, Composition, compose
from tests.programs import Programs
from tests.scriptedpeer import ScriptedPeer
from tests.swarms import Orchestra, member_address, uploaded_bytes, wait_until


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback address")


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
    programs: Programs, long_piece: Composition, tmp_path: Path
) -> None:
    orchestra = Orchestra(programs, long_piece)
    seeder = orchestra.seed()
    names = [f"member {number}" for number in range(5)]
    members = [orchestra.fetch(name) for name in names]
    for member in members:
        member.wait_for_event("complete")
    copies = 5 * long_piece.score.size_bytes
    wait_until(lambda: sum(map(uploaded_bytes, [seeder, *members])) >= copies, "five copies accounted for")
    assert uploaded_bytes(seeder) < 2.5 * long_piece.score.size_bytes
    for member in members:
        member.stop()  # before that it may be in the midst of writing its resume file
    for name in names:
        assert orchestra.fetched(name)
        shutil.rmtree(tmp_path / name)


@pytest.mark.parametrize(
    ("size_bytes", "part_size_bytes"),
    [
        (3001, 1),
        (1_000_001, 1000),
        (1_000_000, 16384),
        (1_000_000, 20000),
        (5 * MIB + 1, MIB),
        (1, 16384),
        (100, 2**40),
    ],
)
def test_any_part_size_goes_round(
    programs: Programs, tmp_path: Path, size_bytes: int, part_size_bytes: int
) -> None:
    orchestra = Orchestra(programs, compose(tmp_path / "source", size_bytes, part_size_bytes))
    orchestra.seed()
    names = ["one", "two"]
    members = [orchestra.fetch(name) for name in names]
    for member in members:
        complete = member.wait_for_event("complete")
        assert complete["size_bytes"] == size_bytes
        parts = orchestra.composition.score.parts
        assert member.wait_for_event("progress", parts_done=parts)["parts"] == parts
    assert all(map(orchestra.fetched, names))


def test_an_empty_composition_needs_nobody(programs: Programs, tmp_path: Path) -> None:
    empty = compose(tmp_path / "source", 0, 16384, name="silence")
    code, member = programs.run(
        "member", empty.write_orch(tmp_path), "--dir", tmp_path / "ours", "--port", "0", "--no-seed"
    )
    assert code == 0
    complete = member.wait_for_event("complete")
    assert (complete["size_bytes"], complete["downloaded_bytes"]) == (0, 0)
    assert [path.name for path in (tmp_path / "ours").iterdir()] == ["silence"]
    assert (tmp_path / "ours" / "silence").read_bytes() == b""


def test_a_wrong_line_3_is_noticed_before_the_file_gets_its_name(
    programs: Programs, piece: Composition, tmp_path: Path
) -> None:
    """Every part is right, so it is the .orch that contradicts itself: code 3."""
    orch = tmp_path / "wrong.orch"
    orch.write_bytes(
        piece.write_orch(tmp_path).read_bytes().replace(piece.score.sha1.hex().encode(), b"0" * 40)
    )
    with ScriptedPeer(piece) as peer:
        options = ["-q", "--port", "0", "--no-seed", "--peer", peer.name]
        code, member = programs.run("member", orch, "--dir", tmp_path / "ours", *options)
    assert code == 3
    assert "line 3" in member.events[-1]["message"]
    assert member.stderr.count("\n") == 1
    assert {path.name for path in (tmp_path / "ours").iterdir()} <= {"piece.bin.part", ".piece.bin.resume"}


@needs_ipv6
def test_a_swarm_over_ipv6(programs: Programs, piece: Composition) -> None:
    orchestra = Orchestra(programs, piece, host="::1")
    orchestra.seed()
    names = ["one", "two", "three"]
    members = [orchestra.fetch(name, "--no-seed") for name in names]
    for member in members:
        assert member.wait() == 0
    assert all(map(orchestra.fetched, names))


@needs_ipv6
def test_a_member_is_reached_by_its_ipv6_address(
    programs: Programs, piece: Composition, tmp_path: Path
) -> None:
    orch = piece.write_orch(tmp_path)
    seeder = programs.start("member", orch, "--dir", piece.folder, "--port", "0")
    options = ["--port", "0", "--no-seed", "--peer", member_address(seeder, "::1")]
    code, _ = programs.run("member", orch, "--dir", tmp_path / "ours", *options)
    assert code == 0
    assert piece.is_at(tmp_path / "ours" / "piece.bin")
