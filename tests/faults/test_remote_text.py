"""Text of strangers on its way to a terminal and a log: each place where it comes in, and none of it raw."""

from __future__ import annotations

import contextlib
import socket
import threading
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

import netutils
from orchestra import bencode
from orchestra.announce import AnnounceQuery, format_announce
from tests.compositions import Composition, compose
from tests.fakeconductor import FakeConductor, http_reply, replying
from tests.invariants import Invariants
from tests.programs import PATIENCE_S, Program, Programs
from tests.scriptedpeer import PROTOCOL, message
from tests.swarms import wait_until

FORGED = "member: error: forged"
HOSTILE = f"\x1b[2J\x1b]0;owned\x07\r\n{FORGED}\r\x00\x08\x7f\x9b31m\u202e\u2028\u200b\ufeff"
HIDING = {"Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"}
EXTENDED = 20


def is_clean(text: str) -> bool:
    """Nothing in it moves a cursor, forges a line or hides text."""
    raw = {character for character in text if unicodedata.category(character) in HIDING} - {"\n"}
    forged = any(line.startswith((FORGED, "forged")) for line in text.split("\n"))
    return not raw and not forged


def check(programs: Programs, *speakers: Program) -> str:
    """Whatever they said and logged is clean; all of the logs."""
    for speaker in speakers:
        assert is_clean(speaker.stderr), ascii(speaker.stderr)
        assert is_clean("".join(speaker.noise)), ascii(speaker.noise)
    logged = "".join(path.read_bytes().decode("utf-8") for path in programs.log_dir.glob("*.log"))
    assert is_clean(logged), ascii(logged)
    return logged


@pytest.fixture
def composition(tmp_path: Path) -> Composition:
    return compose(tmp_path / "source", 100_000, 16384)


CONDUCTORS = {
    "failure reason": http_reply(bencode.encode({"failure reason": "reason " + HOSTILE})),
    "status line": b"HTTP/1.1 500 status " + HOSTILE.replace("\r\n", "").encode() + b"\r\n\r\n",
    "no HTTP": b"garbage " + HOSTILE.encode() + b"\r\n\r\n",
    "header": http_reply(b"", headers=f"X-Header: {HOSTILE}\r\n"),
    "redirect": http_reply(b"", "302 Found", f"Location: http://redirect{HOSTILE}/\r\n"),
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: " + HOSTILE[:8].encode() + b"\r\n\r\n",
    "no dictionary": http_reply(b"8:" + HOSTILE[:8].encode()),
    "warning": http_reply(
        bencode.encode({"interval": 1800, "peers": b"", "warning message": "warning " + HOSTILE})
    ),
}


@pytest.mark.fault("O2")
def test_what_conductors_say_is_shown_escaped(
    programs: Programs, invariants: Invariants, composition: Composition, tmp_path: Path
) -> None:
    """A member asks them in their order: each has its own way of saying it."""
    with contextlib.ExitStack() as stack:
        fakes = [stack.enter_context(FakeConductor(replying(reply))) for reply in CONDUCTORS.values()]
        orch = composition.conducted_by(*(fake.address for fake in fakes)).write_orch(tmp_path)
        member = programs.start("member", orch, "--dir", tmp_path / "ours", "--port", "0", "-vv")
        member.wait_for_stderr("warning \\x1b")
        member.stop()
    logged = check(programs, member)
    for said in ("reason \\x1b", "status \\x1b", "garbage \\x1b", "warning \\x1b"):
        assert said in logged, said


@contextlib.contextmanager
def speaker(composition: Composition, *speeches: bytes) -> Iterator[netutils.Address]:
    """Somebody who says one of these after the other, to one caller each, and hears nothing."""
    listener = socket.create_server(("127.0.0.1", 0))

    def speak() -> None:
        for speech in speeches:
            sock, _ = listener.accept()
            with sock, contextlib.suppress(OSError):
                sock.sendall(speech)
                while sock.recv(4096):
                    pass

    thread = threading.Thread(target=speak)
    thread.start()
    try:
        yield netutils.address_of(listener.getsockname())
    finally:
        netutils.shut(listener)
        thread.join(PATIENCE_S)
        listener.close()


@pytest.mark.fault("O2")
def test_what_peers_say_is_shown_escaped(
    programs: Programs, invariants: Invariants, composition: Composition, tmp_path: Path
) -> None:
    hello = bencode.encode({"v": "client " + HOSTILE, "m": {HOSTILE: 3}})
    greeting = PROTOCOL + bytes(5) + b"\x10" + bytes(2) + composition.score.info_hash
    hostile_id = HOSTILE.encode()[:20]
    speeches = [
        greeting + hostile_id + message(EXTENDED, b"\0" + hello),
        greeting + hostile_id[::-1] + message(99, HOSTILE.encode()),
        greeting + hostile_id[1:] + hostile_id[:1] + message(EXTENDED, b"\0" + HOSTILE.encode()),
        b"\x13" + HOSTILE.encode() * 3,
        HOSTILE.encode() * 3,
    ]
    with contextlib.ExitStack() as stack:
        addresses = [stack.enter_context(speaker(composition, speech)) for speech in speeches]
        peers = [word for address in addresses for word in ("--peer", netutils.format_address(address))]
        options = ["--dir", str(tmp_path / "ours"), "--port", "0", "-vv"]
        member = programs.start("member", composition.write_orch(tmp_path), *options, *peers)
        member.wait_for_stderr("client \\x1b")
        wait_until(lambda: member.stderr.count(" connection ") >= len(speeches) - 1, "an end of the others")
        member.stop()
    check(programs, member)


@pytest.mark.fault("O2")
def test_what_callers_of_a_conductor_say_is_shown_escaped(programs: Programs, invariants: Invariants) -> None:
    conductor = programs.start("conductor", "--host", "127.0.0.1", "--port", "0", "-vv")
    address = ("127.0.0.1", conductor.wait_for_event("listening")["port"])
    raw = HOSTILE.replace("\r\n", "").encode()
    quoted = "".join(f"%{byte:02x}" for byte in HOSTILE.encode()).encode()
    query = format_announce(AnnounceQuery(b"A" * 20, HOSTILE.encode()[:20], 6881, 0, 0, 1, event="started"))
    requests = [
        b"GET /announce?" + query.encode(),
        b"GET /announce?" + query.replace("started", "").encode() + quoted,
        b"GET /" + raw,
        b"GET /announce?" + raw,
        raw + b" /",
        b"GET / HTTP/1.1\r\nX-Forwarded-For: " + raw + b"\r\nUser-Agent: " + raw + b"\r\nHost: " + raw,
        b"GET / HTTP/1.1\r\nContent-Length: " + raw,
        b"POST / HTTP/1.1\r\nTransfer-Encoding: " + raw,
    ]
    for request in requests:
        version = b"" if b"HTTP/1.1" in request else b" HTTP/1.1"
        with socket.create_connection(address, PATIENCE_S) as sock:
            sock.sendall(request + version + b"\r\nConnection: close\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                while sock.recv(65536):
                    pass
    conductor.stop()
    assert "started" in check(programs, conductor)
