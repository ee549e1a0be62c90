"""A member that ends early goes on where it was: killed, or with spoiled bytes on disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import figures
from tests.compositions import MIB, Composition, compose
from tests.programs import PATIENCE_S, Program, Programs
from tests.scriptedpeer import ScriptedPeer
from tests.swarms import Orchestra


def first_progress(member: Program) -> int:
    """How many parts a member has right after its start."""
    return int(member.wait_for_event("progress")["parts_done"])


def parts_done(member: Program) -> int:
    """How many parts a member has, by its latest progress event."""
    done = [event["parts_done"] for event in list(member.events) if event["event"] == "progress"]
    return int(done[-1]) if done else 0


@pytest.mark.fault("K1")
def test_a_member_killed_half_way_keeps_its_parts_and_finishes(
    programs: Programs, long_piece: Composition, tmp_path: Path
) -> None:
    orchestra = Orchestra(programs, long_piece)
    left_bytes = 150 * MIB + MIB // 2

    def until_half_way(_part: int, _begin: int, block: bytes) -> bytes | None:
        nonlocal left_bytes
        left_bytes -= len(block)
        return block if left_bytes >= 0 else None

    with ScriptedPeer(long_piece, answer=until_half_way) as peer:
        member = orchestra.fetch("ours", "--peer", peer.name)
        member.wait_for_event("progress", parts_done=150, downloaded_bytes=150 * MIB + MIB // 2)
        member.kill()
    had = parts_done(member)
    assert not (tmp_path / "ours" / "long.bin").exists()

    orchestra.seed()
    again = orchestra.fetch("ours", "--no-seed")
    assert first_progress(again) >= had
    assert again.wait() == 0
    downloaded_bytes = again.wait_for_event("complete")["downloaded_bytes"]
    assert downloaded_bytes <= (300 - had) * MIB
    figures.note("K1", "verified parts lost", had - first_progress(again))
    again_bytes = downloaded_bytes - (300 * MIB - 150 * MIB - MIB // 2)
    figures.note("K1", "bytes fetched again, parts of 1 MiB", again_bytes)
    assert orchestra.fetched("ours")
    shutil.rmtree(tmp_path / "ours")


@pytest.mark.fault("K1")
def test_every_part_that_was_announced_survives_kill_9(
    programs: Programs, piece: Composition, tmp_path: Path
) -> None:
    orch = piece.write_orch(tmp_path)
    options: list[str | Path] = [orch, "--dir", tmp_path / "ours", "--port", "0"]
    half = range(0, piece.score.parts, 2)
    with ScriptedPeer(piece, parts=half) as halfway:
        member = programs.start("member", *options, "--peer", halfway.name)
        member.wait_for_event("progress", parts_done=len(half))
        member.kill()

        # Nothing is left to be had from this peer: it is not asked for anything again.
        sent_bytes = halfway.sent_bytes
        member = programs.start("member", *options, "--peer", halfway.name)
        assert first_progress(member) == len(half)
        member.wait_for_event("progress", members=1)
        member.kill()
        assert halfway.sent_bytes == sent_bytes

    with ScriptedPeer(piece) as whole:
        code, member = programs.run("member", *options, "--peer", whole.name, "--no-seed")
        assert code == 0
        assert whole.sent_bytes == piece.score.size_bytes - sent_bytes
    assert piece.is_at(tmp_path / "ours" / "piece.bin")
    assert not (tmp_path / "ours" / "piece.bin.part").exists()


@pytest.mark.fault("D6")
def test_only_spoiled_parts_are_fetched_again(programs: Programs, piece: Composition, tmp_path: Path) -> None:
    ours = tmp_path / "ours"
    ours.mkdir()
    spoiled = bytearray(piece.path.read_bytes())
    size = piece.score.part_size_bytes
    for place in (0, 100 * size + 77, len(spoiled) - 1):
        spoiled[place] ^= 1
    (ours / "piece.bin.part").write_bytes(spoiled + b"more than there should be")
    orch = piece.write_orch(tmp_path)
    with ScriptedPeer(piece) as whole:
        options: list[str | Path] = ["--dir", ours, "--port", "0", "--no-seed", "--peer", whole.name]
        code, member = programs.run("member", orch, *options)
        assert code == 0
        assert first_progress(member) == piece.score.parts - 3
        assert whole.sent_bytes == 2 * size + piece.score.part_length(piece.score.parts - 1)
    assert [path.name for path in ours.iterdir()] == ["piece.bin"]
    assert piece.is_at(ours / "piece.bin")


@pytest.mark.fault("K1")
def test_a_part_that_was_cut_off_by_the_kill_is_fetched_whole(programs: Programs, tmp_path: Path) -> None:
    """The last part is under way: its blocks have come but for one when the member is killed."""
    composition = compose(tmp_path / "source", 4 * MIB, MIB)
    options: list[str | Path] = [composition.write_orch(tmp_path), "--dir", tmp_path / "ours", "--port", "0"]
    held_back: list[int] = []

    def all_but_one(part: int, begin: int, block: bytes) -> bytes | None:
        if begin == MIB // 2 and (not held_back or part in held_back):
            held_back.append(part)
            return None
        return block

    with ScriptedPeer(composition, answer=all_but_one) as peer:
        member = programs.start("member", *options, "--peer", peer.name)
        member.wait_for_event("progress", parts_done=3, downloaded_bytes=4 * MIB - 16384)
        member.kill()
    with ScriptedPeer(composition) as peer:
        code, member = programs.run("member", *options, "--peer", peer.name, "--no-seed")
        assert code == 0
        assert first_progress(member) == 3
        assert peer.sent_bytes == MIB
    assert composition.is_at(tmp_path / "ours" / "piece.bin")


def test_force_replaces_a_different_file_only_when_the_right_one_is_complete(
    programs: Programs, piece: Composition, tmp_path: Path
) -> None:
    ours = tmp_path / "ours"
    ours.mkdir()
    (ours / "piece.bin").write_bytes(b"mine")
    orch = piece.write_orch(tmp_path)
    with ScriptedPeer(piece) as peer:
        peer.may_answer.clear()
        options: list[str | Path] = [
            "--dir",
            ours,
            "--port",
            "0",
            "--no-seed",
            "--force",
            "--peer",
            peer.name,
        ]
        member = programs.start("member", orch, *options)
        assert peer.asked.wait(PATIENCE_S)
        assert (ours / "piece.bin").read_bytes() == b"mine"
        peer.may_answer.set()
        assert member.wait() == 0
    assert [path.name for path in ours.iterdir()] == ["piece.bin"]
    assert piece.is_at(ours / "piece.bin")


def test_output_names_the_file_and_its_part_file(
    programs: Programs, piece: Composition, tmp_path: Path
) -> None:
    ours = tmp_path / "ours"
    ours.mkdir()
    (ours / "piece.bin").write_bytes(b"mine")
    orch = piece.write_orch(tmp_path)
    with ScriptedPeer(piece) as peer:
        peer.may_answer.clear()
        options: list[str | Path] = [
            "--dir",
            ours,
            "--port",
            "0",
            "--no-seed",
            "--output",
            "other.bin",
            "--peer",
            peer.name,
        ]
        member = programs.start("member", orch, *options)
        assert peer.asked.wait(PATIENCE_S)
        assert {path.name for path in ours.iterdir()} == {"piece.bin", "other.bin.part"}
        peer.may_answer.set()
        assert member.wait() == 0
        assert member.wait_for_event("complete")["path"] == str(ours / "other.bin")
    assert (ours / "piece.bin").read_bytes() == b"mine"
    assert piece.is_at(ours / "other.bin")
