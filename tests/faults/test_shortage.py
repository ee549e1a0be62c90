"""A system that is short of descriptors or threads: fewer peers, but the transfer ends, and nothing spins."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from tests import figures, vitals
from tests.callers import Caller, tuned_member
from tests.compositions import MIB, compose
from tests.programs import PATIENCE_S, Programs
from tests.scriptedpeer import ScriptedPeer

pytestmark = pytest.mark.skipif(not vitals.HAVE_VITALS, reason="needs /proc to see what a process costs")


@pytest.mark.fault("D11")
@pytest.mark.parametrize(
    ("descriptors", "tuning", "starves"),
    [("32", "", False), ("32", "descriptors.OWN_DESCRIPTORS=0", True)],
    ids=["kept back", "none kept back"],
)
def test_with_thirty_two_descriptors_and_a_crowd_at_the_door_the_transfer_ends(
    programs: Programs, tmp_path: Path, descriptors: str, tuning: str, starves: bool
) -> None:
    composition = compose(tmp_path / "source", 8 * MIB, 65536)
    orch = composition.write_orch(tmp_path)
    with contextlib.ExitStack() as stack:
        good = [stack.enter_context(ScriptedPeer(composition)) for _ in range(3)]
        for peer in good:
            peer.may_answer.clear()
        member = tuned_member(
            programs, orch, "--dir", tmp_path / "ours", "--port", "0", "--no-seed",
            *[word for peer in good for word in ("--peer", peer.name)],
            DESCRIPTORS=descriptors, TUNING=tuning,
        )  # fmt: skip
        address = ("127.0.0.1", member.wait_for_event("listening")["port"])
        assert good[0].asked.wait(PATIENCE_S)
        for number in range(40):
            caller = stack.enter_context(Caller(address))
            with contextlib.suppress(OSError, EOFError):
                caller.sock.settimeout(0.5)
                caller.shake(composition, b"-II0001-%012d" % number)
        if starves:
            member.wait_for_stderr("cannot accept: Too many open files")
            before_s, began_s = vitals.cpu_s(member.pid), time.monotonic()
            # The callers' queue stays full: that is when a careless loop spins.
            with contextlib.suppress(AssertionError):
                member.wait_for_event("complete", 3.0)
            share = (vitals.cpu_s(member.pid) - before_s) / (time.monotonic() - began_s)
            figures.note("D11", "share of a processor while starved", f"{share:.0%}")
            assert share <= 0.2
            assert member.stderr.count("cannot accept") <= 30
        figures.note("D11", "descriptors in use", vitals.descriptors(member.pid))
        for peer in good:
            peer.may_answer.set()
        member.wait_for_event("complete")
    assert member.wait() == 0
    assert "Traceback" not in member.stderr
    assert composition.is_at(tmp_path / "ours" / "piece.bin")


@pytest.mark.fault("D12")
def test_with_few_threads_there_are_fewer_peers_and_the_transfer_ends(
    programs: Programs, tmp_path: Path
) -> None:
    composition = compose(tmp_path / "source", 8 * MIB, 65536)
    orch = composition.write_orch(tmp_path)
    with contextlib.ExitStack() as stack:
        good = [stack.enter_context(ScriptedPeer(composition)) for _ in range(6)]
        good[0].may_answer.clear()
        member = tuned_member(
            programs, orch, "--dir", tmp_path / "ours", "--port", "0",
            *[word for peer in good for word in ("--peer", peer.name)],
            THREADS="13",
        )  # fmt: skip
        address = ("127.0.0.1", member.wait_for_event("listening")["port"])
        for number in range(20):
            with contextlib.suppress(OSError, EOFError):
                stack.enter_context(Caller(address)).shake(composition, b"-II0001-%012d" % number)
        good[0].may_answer.set()
        member.wait_for_event("complete")
        figures.note("D12", "threads in use", vitals.threads(member.pid))
    assert composition.is_at(tmp_path / "ours" / "piece.bin")
    with Caller(address) as caller:
        assert caller.fetches_a_part(composition), "the accept loop is alive"
    assert "Traceback" not in member.stderr


@pytest.mark.fault("D12")
@pytest.mark.parametrize("threads", [1, 2, 4, 6])
def test_without_the_threads_that_it_needs_a_member_says_so_and_ends(
    programs: Programs, tmp_path: Path, threads: int
) -> None:
    composition = compose(tmp_path / "source", MIB, 65536)
    orch = composition.write_orch(tmp_path)
    member = tuned_member(programs, orch, "--dir", tmp_path / "ours", "--port", "0", THREADS=str(threads))
    assert member.wait() == 1
    assert "thread" in member.stderr
