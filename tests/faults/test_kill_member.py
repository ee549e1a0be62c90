"""A member that is killed, or asked to end, at any point of a download: nothing verified is lost."""

from __future__ import annotations

import queue
import signal
import time
from pathlib import Path

import pytest

import member as member_program
from orchestra.console import Console
from orchestra.signals import Signalled
from tests import figures
from tests.compositions import MIB, Composition, compose
from tests.fakeconductor import FakeConductor, http_reply, replying
from tests.invariants import Invariants
from tests.kills import Download, Rationed
from tests.programs import PATIENCE_S, Programs
from tests.scriptedpeer import ScriptedPeer
from tests.swarms import member_address, wait_until

BLOCK = 16384


@pytest.fixture(scope="module")
def piece(tmp_path_factory: pytest.TempPathFactory) -> Composition:
    """8 MiB in parts of 64 KiB: all blocks have one size."""
    return compose(tmp_path_factory.mktemp("piece") / "source", 8 * MIB, 65536)


@pytest.mark.fault("K1")
@pytest.mark.parametrize("percent", [10, 50, 95])
def test_a_killed_member_has_lost_nothing_that_it_had_verified(
    programs: Programs, invariants: Invariants, piece: Composition, tmp_path: Path, percent: int
) -> None:
    orch, size = piece.write_orch(tmp_path), piece.score.size_bytes
    # Half a part too much, so that one is under way.
    ration = percent * size // 100 // BLOCK * BLOCK + 2 * BLOCK
    with (
        ScriptedPeer(piece, parts=(), curious=True) as witness,
        ScriptedPeer(piece, answer=Rationed(ration)) as peer,
    ):
        download = Download(programs, piece, tmp_path / "ours", witness)
        invariants.output(piece, tmp_path / "ours" / "piece.bin")
        member = download.start(orch, "--no-seed", "--peer", peer.name)
        member.wait_for_event("progress", downloaded_bytes=ration)
        member.kill()
        download.ended(member)
        sent_bytes = peer.sent_bytes
    assert len(download.promised) >= ration // 65536 - 1

    with ScriptedPeer(piece, parts=(), curious=True) as witness, ScriptedPeer(piece) as peer:
        peer.may_answer.clear()
        again = Download(programs, piece, tmp_path / "ours", witness)
        again.promised, again.counted = download.promised, download.counted
        member = again.start(orch, "--no-seed", "--peer", peer.name)
        # It offers what it had before anything new can have come.
        wait_until(lambda: any(download.promised <= told for told in witness.told), "the parts offered again")
        peer.may_answer.set()
        assert member.wait() == 0
        again.ended(member)
        fetched_again = sent_bytes + peer.sent_bytes - size
    assert again.finished()
    figures.note("K1", f"bytes fetched again, killed at {percent} %, parts of 65536", fetched_again)
    figures.note("K1", f"verified parts lost, killed at {percent} %", 0)
    assert fetched_again <= 65536


@pytest.mark.fault("K4")
def test_what_a_killed_seeder_owed_is_asked_of_another_at_once(
    programs: Programs, invariants: Invariants, tmp_path: Path
) -> None:
    """The seeder is stopped first, so that it owes something for certain when it is killed."""
    composition = compose(tmp_path / "source", 64 * MIB, 65536)
    orch = composition.write_orch(tmp_path)
    mortal = programs.start("member", orch, "--dir", composition.folder, "--port", "0")
    with (
        ScriptedPeer(composition) as other,
        ScriptedPeer(composition, parts=(), curious=True) as witness,
    ):
        other.may_answer.clear()
        peers = [member_address(mortal), other.name, witness.name]
        words = [word for peer in peers for word in ("--peer", peer)]
        member = programs.start(
            "member", orch, "--dir", tmp_path / "ours", "--port", "0", "--no-seed", *words
        )
        # All that has come is of the mortal one, in whose middle it is: 64 MiB take longer than a look.
        wait_until(lambda: any(witness.told), "a part of the mortal one")
        mortal.signal(signal.SIGSTOP)
        other.may_answer.set()
        mortal.kill()
        began_s = time.monotonic()
        assert member.wait() == 0
        figures.note("K4", "s from the kill to the end, 64 MiB", round(time.monotonic() - began_s, 2))
    assert composition.is_at(invariants.output(composition, tmp_path / "ours" / "piece.bin"))


@pytest.mark.fault("K6")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_member_asked_to_end_tells_the_conductor_and_keeps_its_parts(
    programs: Programs, invariants: Invariants, piece: Composition, tmp_path: Path, name: str
) -> None:
    with FakeConductor(replying(http_reply(b"d8:intervali60e5:peers0:e"))) as conductor:
        orch = piece.conducted_by(conductor.address).write_orch(tmp_path)
        with (
            ScriptedPeer(piece, parts=(), curious=True) as witness,
            ScriptedPeer(piece, answer=Rationed(MIB)) as peer,
        ):
            download = Download(programs, piece, tmp_path / "ours", witness)
            member = download.start(orch, "--peer", peer.name)
            member.wait_for_event("progress", downloaded_bytes=MIB)
            assert b"event=started" in conductor.requests.get(timeout=PATIENCE_S)
            member.signal(signal.Signals[name])
            began_s = time.monotonic()
            while b"event=stopped" not in conductor.requests.get(timeout=PATIENCE_S):
                pass
            told_s = time.monotonic() - began_s
            assert member.wait() == -signal.Signals[name]
            figures.note("K6", f"s to 'stopped' at the conductor, {name}", round(told_s, 2))
            figures.note("K6", f"s to the exit, {name}", round(time.monotonic() - began_s, 2))
            download.ended(member)
            again = download.start(orch, "--peer", peer.name)
            assert again.wait_for_event("progress")["parts_done"] >= MIB // 65536 - 1
            assert again.stop() == -signal.SIGTERM
            download.ended(again)
    invariants.output(piece, tmp_path / "ours" / "piece.bin")


@pytest.mark.fault("K6")
def test_a_second_signal_ends_a_member_at_once(
    programs: Programs, invariants: Invariants, piece: Composition, tmp_path: Path
) -> None:
    """The conductor does not answer the goodbye, which the first signal waits for."""
    answer = replying(http_reply(b"d8:intervali60e5:peers0:e"))
    with FakeConductor(answer, None) as conductor:
        orch = piece.conducted_by(conductor.address).write_orch(tmp_path)
        member = programs.start("member", orch, "--dir", piece.folder, "--port", "0")
        assert b"event=started" in conductor.requests.get(timeout=PATIENCE_S)
        member.signal(signal.SIGTERM)
        assert b"event=stopped" in conductor.requests.get(timeout=PATIENCE_S)
        began_s = time.monotonic()
        member.signal(signal.SIGINT)
        assert member.wait() == -signal.SIGINT
        figures.note("K6", "s from the second signal to the exit", round(time.monotonic() - began_s, 2))
    assert member.events[-1]["event"] != "stopped"
    assert not (tmp_path / "ours").exists()


class Stopping:
    """A session that stops for as long as it is let."""

    def __init__(self, first: Signalled | None) -> None:
        self.inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.asked_to_stop = False
        self.abandoned = False
        self._first = first

    def start(self) -> None:
        """Nothing to start."""

    def quit(self, reason: str) -> None:
        self.asked_to_stop = True

    def next_message(self) -> object:
        if self._first is None:
            raise KeyboardInterrupt
        first, self._first = self._first, None
        return first

    def abandon(self) -> None:
        self.abandoned = True


@pytest.mark.fault("K6")
@pytest.mark.parametrize("first", [None, Signalled(signal.SIGTERM)], ids=["first", "second"])
def test_only_the_first_signal_waits_for_a_clean_stop(
    monkeypatch: pytest.MonkeyPatch, piece: Composition, tmp_path: Path, first: Signalled | None
) -> None:
    session = Stopping(first)
    monkeypatch.setattr(member_program, "Session", lambda *_, **__: session)
    arguments = member_program.make_parser().parse([str(piece.write_orch(tmp_path)), "--dir", str(tmp_path)])
    with pytest.raises(KeyboardInterrupt):
        member_program.perform(arguments, Console("member"))
    assert session.abandoned == (first is None)
