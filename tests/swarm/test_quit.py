"""`q` and signals at any moment: a prompt end, a sane terminal, the right code, a conductor that knows."""

from __future__ import annotations

import hashlib
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestra import bencode
from orchestra.score import Score
from tests.compositions import MIB, NOBODY, Composition
from tests.fakeconductor import FakeConductor, http_reply, replying
from tests.programs import PATIENCE_S, Program, Programs
from tests.scriptedpeer import ScriptedPeer
from tests.swarms import Orchestra

if sys.platform == "win32":
    pytest.skip("pseudo-terminals are POSIX", allow_module_level=True)

from tests.terminals import Terminal


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with Terminal() as opened:
        yield opened


def quits(member: Program, terminal: Terminal, code: int) -> None:
    """Press q; the member must end with `code` and leave the terminal as it found it."""
    terminal.wait_for_keys()
    terminal.type("q")
    assert member.wait() == code
    assert terminal.is_sane
    assert member.events[-1] == {"event": "stopped", "reason": "q"}
    assert "error" not in member.stderr


@pytest.fixture(params=["dead", "silent", "slow"])
def hopeless_conductor(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """One that is not there, one that never answers, one that never ends its answer."""
    if request.param == "dead":
        yield NOBODY
        return

    def never_ends(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nd8:")
        fake.ended.wait()

    with FakeConductor(never_ends if request.param == "slow" else None) as fake:
        yield fake.address


def test_q_before_anybody_was_found(
    programs: Programs,
    piece: Composition,
    tmp_path: Path,
    terminal: Terminal,
    hopeless_conductor: tuple[str, int],
) -> None:
    orch = piece.conducted_by(hopeless_conductor).write_orch(tmp_path)
    member = programs.start("member", orch, "--dir", tmp_path / "ours", "--port", "0", stdin=terminal.theirs)
    member.wait_for_event("listening")
    quits(member, terminal, 7)


def test_q_while_seeding_under_a_hopeless_conductor(
    programs: Programs,
    piece: Composition,
    tmp_path: Path,
    terminal: Terminal,
    hopeless_conductor: tuple[str, int],
) -> None:
    orch = piece.conducted_by(hopeless_conductor).write_orch(tmp_path)
    member = programs.start("member", orch, "--dir", piece.folder, "--port", "0", stdin=terminal.theirs)
    member.wait_for_event("listening")
    quits(member, terminal, 0)


@pytest.mark.fault("K6")
def test_q_when_the_conductor_has_fallen_silent(
    programs: Programs, piece: Composition, tmp_path: Path, terminal: Terminal
) -> None:
    """It knows of the member and ought to be told; it does not listen any more."""
    answer = replying(http_reply(bencode.encode({"interval": 1800, "peers": b""})))
    with FakeConductor(answer, None) as conductor:
        orch = piece.conducted_by(conductor.address).write_orch(tmp_path)
        member = programs.start("member", orch, "--dir", piece.folder, "--port", "0", stdin=terminal.theirs)
        assert b"event=started" in conductor.requests.get(timeout=PATIENCE_S)
        quits(member, terminal, 0)
        assert b"event=stopped" in conductor.requests.get(timeout=PATIENCE_S)


def silence(folder: Path, size_bytes: int) -> Composition:
    """Gigabytes of zeros that need no disk: a sparse file, and a score that nobody had to hash."""
    zeros = hashlib.sha1(bytes(MIB)).digest()
    score = Score((NOBODY,), "silence.bin", bytes(20), size_bytes, MIB, zeros * (size_bytes // MIB))
    return Composition(folder / "silence.bin", score)


@pytest.mark.parametrize("name", ["silence.bin", "silence.bin.part"])
def test_q_while_it_checks_what_is_there(
    programs: Programs, tmp_path: Path, terminal: Terminal, name: str
) -> None:
    ours = tmp_path / "ours"
    ours.mkdir()
    composition = silence(tmp_path, min(shutil.disk_usage(tmp_path).free // 2, 20_000 * MIB) // MIB * MIB)
    with (ours / name).open("wb") as file:
        file.truncate(composition.score.size_bytes)
    member = programs.start(
        "member", composition.write_orch(tmp_path), "--dir", ours, "--port", "0", stdin=terminal.theirs
    )
    quits(member, terminal, 7)
    assert [path.name for path in ours.iterdir()] == [name]
    assert (ours / name).stat().st_blocks == 0


@pytest.mark.fault("K6")
def test_q_in_the_middle_of_a_download_keeps_what_is_there(
    programs: Programs, piece: Composition, tmp_path: Path, terminal: Terminal
) -> None:
    orchestra = Orchestra(programs, piece)
    half = range(piece.score.parts // 2)
    with ScriptedPeer(piece, parts=half) as peer:
        options = ["--dir", str(tmp_path / "ours"), "--port", "0", "--peer", peer.name]
        member = programs.start("member", orchestra.orch, *options, stdin=terminal.theirs)
        member.wait_for_event("progress", parts_done=len(half))
        orchestra.wait_for_members(incomplete=1)
        quits(member, terminal, 7)
        assert orchestra.scrape() == (0, 0)
        assert peer.left.wait(PATIENCE_S)
    again = orchestra.fetch("ours")
    assert again.wait_for_event("progress")["parts_done"] == len(half)


def test_q_while_seeding_ends_with_0_and_the_conductor_knows_at_once(
    programs: Programs, piece: Composition, tmp_path: Path, terminal: Terminal
) -> None:
    orchestra = Orchestra(programs, piece)
    options = ["--dir", str(piece.folder), "--port", "0"]
    member = programs.start("member", orchestra.orch, *options, stdin=terminal.theirs)
    orchestra.wait_for_members(complete=1)
    quits(member, terminal, 0)
    assert orchestra.scrape() == (0, 0)


def test_q_while_a_peer_takes_nothing_in(
    programs: Programs, piece: Composition, tmp_path: Path, terminal: Terminal
) -> None:
    """A member that seeds to one that was stopped (Ctrl-Z) has full buffers; it must end all the same."""
    orchestra = Orchestra(programs, piece)
    options = ["--dir", str(piece.folder), "--port", "0"]
    member = programs.start("member", orchestra.orch, *options, stdin=terminal.theirs)
    orchestra.wait_for_members(complete=1)
    other = orchestra.fetch("theirs")
    other.wait_for_event("listening")
    other.signal(signal.SIGSTOP)
    quits(member, terminal, 0)


@pytest.mark.fault("K6")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_tells_the_conductor_too(programs: Programs, piece: Composition, name: str) -> None:
    orchestra = Orchestra(programs, piece)
    member = orchestra.seed()
    member.signal(signal.Signals[name])
    assert member.wait() == -signal.Signals[name]
    assert orchestra.scrape() == (0, 0)


def test_a_member_that_is_done_says_goodbye(programs: Programs, piece: Composition) -> None:
    orchestra = Orchestra(programs, piece)
    orchestra.seed()
    member = orchestra.fetch("ours", "--no-seed")
    assert member.wait() == 0
    assert orchestra.scrape() == (1, 0)
