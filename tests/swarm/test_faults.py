"""Swarms in which something goes wrong: somebody lies, falls silent, dies or was not there yet."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest

from tests.compositions import MIB, NOBODY, Composition, compose
from tests.programs import PATIENCE_S, Programs
from tests.scriptedpeer import ScriptedPeer, wrongly
from tests.swarms import Orchestra


@pytest.mark.parametrize("part_size_bytes", [16384, 65536, MIB])
def test_a_peer_that_sends_wrong_data_is_banned_and_the_transfer_completes(
    programs: Programs, tmp_path: Path, part_size_bytes: int
) -> None:
    composition = compose(tmp_path / "source", 8 * MIB, part_size_bytes)
    orch = composition.write_orch(tmp_path)
    with ScriptedPeer(composition, answer=wrongly) as liar, ScriptedPeer(composition) as good:
        good.may_answer.clear()
        options = ["--port", "0", "--no-seed", "--peer", liar.name, "--peer", good.name]
        member = programs.start("member", orch, "--dir", tmp_path / "ours", *options)
        assert liar.left.wait(PATIENCE_S)
        good.may_answer.set()
        assert member.wait() == 0
        assert liar.connections == 1
        assert good.connections == 1
    assert "banned" in member.stderr
    assert composition.is_at(tmp_path / "ours" / "piece.bin")
    # What the liar sent is lost, and no more than that had to be sent twice by the good one.
    assert good.sent_bytes <= composition.score.size_bytes + liar.sent_bytes


def test_one_bad_peer_among_members_costs_no_good_one(
    programs: Programs, piece: Composition, tmp_path: Path
) -> None:
    orchestra = Orchestra(programs, piece)
    orchestra.seed()
    with ScriptedPeer(piece, answer=wrongly) as liar:
        names = ["one", "two", "three"]
        members = [orchestra.fetch(name, "--no-seed", "--peer", liar.name) for name in names]
        for member in members:
            assert member.wait() == 0
        assert liar.connections <= len(members)
    assert all(map(orchestra.fetched, names))


@pytest.mark.parametrize("part_size_bytes", [16384, 500_000])
def test_peers_that_lie_now_and_then_are_found_out_and_the_good_one_is_not_blamed(
    programs: Programs, tmp_path: Path, part_size_bytes: int
) -> None:
    composition = compose(tmp_path / "source", 16 * MIB, part_size_bytes)
    numbers = random.Random(5)

    def at_times(part: int, begin: int, block: bytes) -> bytes:
        if numbers.random() < 0.01:
            raise ConnectionResetError
        return wrongly(part, begin, block) if numbers.random() < 0.02 else block

    orch = composition.write_orch(tmp_path)
    with contextlib.ExitStack() as stack:
        liars = [stack.enter_context(ScriptedPeer(composition, answer=at_times)) for _ in range(4)]
        good = stack.enter_context(ScriptedPeer(composition))
        good.may_answer.clear()
        members = [word for peer in (good, *liars) for word in ("--peer", peer.name)]
        member = programs.start(
            "member", orch, "--dir", tmp_path / "ours", "--port", "0", "--no-seed", *members
        )
        assert good.asked.wait(PATIENCE_S)
        for liar in liars:
            assert liar.left.wait(PATIENCE_S)
        good.may_answer.set()
        assert member.wait() == 0
        assert good.connections == 1
    assert composition.is_at(tmp_path / "ours" / "piece.bin")


def test_with_nobody_but_a_liar_nothing_is_installed(programs: Programs, tmp_path: Path) -> None:
    composition = compose(tmp_path / "source", MIB, 65536)
    orch = composition.write_orch(tmp_path)
    with ScriptedPeer(composition, answer=wrongly) as liar:
        options = ["--port", "0", "--timeout", "1", "--peer", liar.name]
        code, member = programs.run("member", orch, "--dir", tmp_path / "ours", *options)
        assert code == 5
        assert liar.connections == 1
    assert {event["parts_done"] for event in member.events if event["event"] == "progress"} == {0}
    assert [path.name for path in (tmp_path / "ours").iterdir()] == ["piece.bin.part"]


def test_a_peer_that_never_answers_holds_up_nobody(
    programs: Programs, piece: Composition, tmp_path: Path
) -> None:
    orch = piece.write_orch(tmp_path)
    with ScriptedPeer(piece, answer=lambda *_: None) as silent, ScriptedPeer(piece) as good:
        good.may_answer.clear()
        options = ["--port", "0", "--no-seed", "--peer", silent.name, "--peer", good.name]
        member = programs.start("member", orch, "--dir", tmp_path / "ours", *options)
        assert silent.asked.wait(PATIENCE_S)
        good.may_answer.set()
        assert member.wait() == 0
        assert silent.sent_bytes == 0
    assert piece.is_at(tmp_path / "ours" / "piece.bin")


def test_a_seeder_that_is_killed_is_replaced_by_another(
    programs: Programs, long_piece: Composition, tmp_path: Path
) -> None:
    orchestra = Orchestra(programs, long_piece)
    first, second = orchestra.seed(), orchestra.seed()
    member = orchestra.fetch("ours", "--no-seed")
    member.wait_for_event("listening")
    first.kill()
    assert member.wait() == 0
    assert orchestra.fetched("ours")
    assert second.process.poll() is None
    (tmp_path / "ours" / "long.bin").unlink()


def test_what_a_dead_peer_still_owed_comes_from_another(
    programs: Programs, piece: Composition, tmp_path: Path
) -> None:
    left = 77

    def then_die(_part: int, _begin: int, block: bytes) -> bytes:
        nonlocal left
        left -= 1
        if left < 0:
            raise ConnectionResetError
        return block

    orch = piece.write_orch(tmp_path)
    with ScriptedPeer(piece, answer=then_die) as mortal, ScriptedPeer(piece) as good:
        good.may_answer.clear()
        options = ["--port", "0", "--no-seed", "--peer", mortal.name, "--peer", good.name]
        member = programs.start("member", orch, "--dir", tmp_path / "ours", *options)
        assert mortal.left.wait(PATIENCE_S)
        good.may_answer.set()
        assert member.wait() == 0
        assert good.sent_bytes == piece.score.size_bytes - mortal.sent_bytes
    assert piece.is_at(tmp_path / "ours" / "piece.bin")


@pytest.mark.fault("T2")
def test_members_who_were_there_before_their_conductor_find_one_another(
    programs: Programs, piece: Composition, tmp_path: Path
) -> None:
    orchestra = Orchestra(programs, piece)
    orchestra.conductor.kill()
    seeder = programs.start("member", orchestra.orch, "--dir", piece.folder, "--port", "0")
    member = orchestra.fetch("ours", "--no-seed")
    for waiting in (seeder, member):
        waiting.wait_for_stderr("no conductor answers")
    orchestra.restart_conductor()
    assert member.wait() == 0
    assert orchestra.fetched("ours")


@pytest.mark.fault("T1")
def test_a_conductor_that_comes_back_soon_knows_everybody_again(
    programs: Programs, piece: Composition, tmp_path: Path
) -> None:
    orchestra = Orchestra(programs, piece, "--interval", "1")
    with ScriptedPeer(piece) as slow:
        slow.may_answer.clear()
        under_way = orchestra.fetch("before", "--peer", slow.name)
        assert slow.asked.wait(PATIENCE_S)
        orchestra.wait_for_members(incomplete=1)
        orchestra.restart_conductor()
        # The transfer never needed the conductor.
        slow.may_answer.set()
        under_way.wait_for_event("complete")
    orchestra.wait_for_members(complete=1)
    newcomer = orchestra.fetch("after", "--no-seed")
    assert newcomer.wait() == 0
    assert orchestra.fetched("after")


def test_the_second_conductor_in_line_1_is_asked_when_the_first_is_dead(
    programs: Programs, piece: Composition, tmp_path: Path
) -> None:
    orchestra = Orchestra(programs, piece)
    orchestra.seed()
    orch = piece.conducted_by(NOBODY, orchestra.address).write_orch(tmp_path, "two conductors")
    code, _ = programs.run("member", orch, "--dir", tmp_path / "ours", "--port", "0", "--no-seed")
    assert code == 0
    assert orchestra.fetched("ours")
