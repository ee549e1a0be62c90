"""Members whose conductor lies, is endless, is gone: as processes, with what a user would see."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from netutils import pack_peers
from orchestra import bencode
from tests.compositions import NOBODY, Composition, compose
from tests.fakeconductor import FakeConductor, Script, http_reply, replying
from tests.figures import note
from tests.programs import PATIENCE_S, Program, Programs
from tests.scriptedpeer import ScriptedPeer

HOSTILE = b"\x1b]0;owned\x07\x1b[2J\nconductor: error: forged\r\x9b31m\xe2\x80\xae\x00"
INVALID = [("0.0.0.0", 6881), ("255.255.255.255", 6881), ("224.0.0.1", 6881), ("127.0.0.1", 0), ("::", 6881)]


@pytest.fixture
def piece(tmp_path: Path) -> Composition:
    return compose(tmp_path / "source", 300_000, 16384)


def fetch(programs: Programs, piece: Composition, conductor: FakeConductor, *options: str) -> Program:
    orch = piece.conducted_by(conductor.address).write_orch(programs.folder)
    return programs.start("member", orch, "--dir", programs.folder / "ours", "--port", "0", *options)


def log_of(programs: Programs) -> str:
    return "".join(path.read_text(encoding="utf-8") for path in programs.log_dir.glob("member-*.log"))


def port_of(request: bytes) -> int:
    found = re.search(rb"[?&]port=([0-9]+)", request)
    assert found
    return int(found[1])


@pytest.mark.fault("T3")
def test_what_a_conductor_says_does_not_reach_the_terminal_or_the_log_as_it_is(
    programs: Programs, piece: Composition
) -> None:
    warning = bencode.encode({"interval": 1, "peers": b"", "warning message": b"warned " + HOSTILE})
    failure = bencode.encode({"failure reason": b"refused " + HOSTILE})
    status = b"HTTP/1.1 500 \x1b]0;owned\x07\x9b31m\r\n\r\n"
    scripts = [replying(data) for data in (http_reply(warning), http_reply(failure), status)]
    with FakeConductor(*scripts) as conductor:
        member = fetch(programs, piece, conductor)
        member.wait_for_stderr("warned")
        member.wait_for_stderr("refused")
        for _ in range(3):
            conductor.requests.get(timeout=PATIENCE_S)
        member.stop()
    for text in (member.stderr, log_of(programs)):
        assert "warned \\x1b]0;owned\\x07" in text
        assert "refused \\x1b]0;owned\\x07" in text
        assert not [line for line in text.split("\n") if not line.isprintable()]
        assert "\nconductor: error: forged" not in text
    assert not member.noise


@pytest.mark.fault("T3")
def test_among_lies_the_one_good_member_is_found(programs: Programs, piece: Composition) -> None:
    """Addresses that nobody can dial, nobody behind them, ourselves; and ten thousand more than asked for."""
    with ScriptedPeer(piece) as good:
        dead = [(f"127.0.9.{number}", 1) for number in range(1, 21)]

        def lie(sock: socket.socket) -> None:
            request = told.requests.get(timeout=PATIENCE_S)
            own = ("127.0.0.1", port_of(request))
            more = [(f"10.{number >> 8}.{number & 255}.1", 1) for number in range(10_000)]
            v4, v6 = pack_peers([*INVALID, own, *dead, good.address, own, *more])
            sock.sendall(http_reply(bencode.encode({"interval": 120, "peers": v4, "peers6": v6})))

        with FakeConductor(lie) as told:
            member = fetch(programs, piece, told, "--no-seed")
            assert member.wait() == 0
    assert piece.is_at(programs.folder / "ours" / "piece.bin")
    log = log_of(programs)
    assert "Traceback" not in log
    note("T3", "connections begun before the good member of 10,000 was found", log.count("connection ") - 1)


@pytest.mark.fault("T3")
def test_a_member_that_is_told_of_itself_notices(programs: Programs, piece: Composition) -> None:
    def mirror(sock: socket.socket) -> None:
        port = port_of(conductor.requests.get(timeout=PATIENCE_S))
        peers, _ = pack_peers([("127.0.0.1", port), ("127.0.0.2", port)])
        sock.sendall(http_reply(bencode.encode({"interval": 1, "peers": peers})))
        answered.append(port)

    answered: list[int] = []
    with FakeConductor(mirror) as conductor:
        member = fetch(programs, piece, conductor, "--timeout", "4")
        assert member.wait() == 5
    assert len(answered) >= 2, "it is told again and again"
    told_itself = re.findall("that is us", log_of(programs))
    assert 1 <= len(told_itself) <= 4, "each of the two addresses once, at both ends"


def _endless(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\n\r\nd5:peers999999999:")
    while True:
        sock.sendall(bytes(65536))


def _moved(sock: socket.socket) -> None:
    where = "http://127.0.0.1:1/announce"
    sock.sendall(http_reply(b"", "301 Moved", f"Location: {where}\r\n"))


BAD_ANSWERS: dict[str, Script | None] = {
    "HTML": replying(http_reply(b"<html><body>It works!</body></html>")),
    "500": replying(http_reply(b"", "500 Oops")),
    "garbage": replying(b"\x13BitTorrent protocol" + bytes(100)),
    "endless": _endless,
    "redirect": _moved,
    "silent": None,
}


@pytest.mark.fault("T2")
@pytest.mark.fault("T3")
@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_whatever_the_conductor_answers_known_members_go_on(
    programs: Programs, piece: Composition, name: str
) -> None:
    with FakeConductor(BAD_ANSWERS[name]) as conductor, ScriptedPeer(piece) as known:
        member = fetch(programs, piece, conductor, "--no-seed", "--timeout", "30", "--peer", known.name)
        assert member.wait() == 0
    assert piece.is_at(programs.folder / "ours" / "piece.bin")
    assert "Traceback" not in log_of(programs)


@pytest.mark.fault("T2")
def test_without_a_conductor_and_without_members_it_gives_up_with_code_5(
    programs: Programs, piece: Composition
) -> None:
    orch = piece.conducted_by(NOBODY).write_orch(programs.folder)
    member = programs.start(
        "member", orch, "--dir", programs.folder / "ours", "--port", "0", "--timeout", "2"
    )
    assert member.wait() == 5
    assert "no conductor answers, trying on: 127.0.0.1:1: Connection refused" in member.stderr
    assert "no source for 2 s" in member.stderr
