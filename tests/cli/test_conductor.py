"""The conductor as a process: what it prints, whom it brings together, how it ends, what cannot hurt it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import os
import pty
import random
import signal
import socket
import time
from collections.abc import Iterator

import pytest

import conductor as conductor_program
import netutils
from netutils import Address
from orchestra import bencode, cli
from orchestra.announce import AnnounceQuery, format_announce
from orchestra.announcereply import Reply, parse_reply
from orchestra.errors import NetworkError
from tests.figures import note
from tests.foreign import needs_libtorrent, start_libtorrent
from tests.programs import PATIENCE_S, Program, Programs
from tests.swarms import wait_until

INFO_HASH = bytes(range(20))


def address_of(conductor: Program) -> Address:
    event = conductor.wait_for_event("listening")
    return str(event["host"]), int(event["port"])


def get(address: Address, target: str) -> bytes:
    with contextlib.closing(http.client.HTTPConnection(*address, timeout=PATIENCE_S)) as connection:
        connection.request("GET", target)
        return connection.getresponse().read()


def announce(address: Address, port: int, event: str = "", *, left: int = 1, who: str = "") -> Reply:
    query = AnnounceQuery(
        info_hash=INFO_HASH,
        peer_id=(who or f"-OR0100-{port}").encode().ljust(20, b"."),
        port=port,
        uploaded_bytes=0,
        downloaded_bytes=0,
        left_bytes=left,
        event=event,
    )
    return parse_reply(get(address, f"/announce?{format_announce(query)}"), loopback=True)


def scrape(address: Address) -> object:
    escaped = "".join(f"%{byte:02X}" for byte in INFO_HASH)
    reply = bencode.decode(get(address, f"/scrape?info_hash={escaped}"))
    assert isinstance(reply, dict)
    return reply[b"files"]


def answers(address: Address) -> bool:
    try:
        return b"conductor of Orchestra" in get(address, "/")
    except (OSError, http.client.HTTPException):
        return False


def log_of(programs: Programs) -> str:
    return "".join(path.read_text() for path in programs.log_dir.glob("conductor-*.log"))


@pytest.fixture
def conductor(programs: Programs) -> Program:
    return programs.start("conductor", "--host", "127.0.0.1", "--port", "0")


# What it prints


@pytest.mark.parametrize(("host", "pattern"), [("127.0.0.1", "127.0.0.1:"), ("::1", "[::1]:")])
def test_it_says_where_it_listens(programs: Programs, host: str, pattern: str) -> None:
    conductor = programs.start("conductor", "--host", host, "--port", "0", json=False)
    wait_until(lambda: bool(conductor.noise), "a line on stdout")
    line = conductor.noise[0].rstrip("\n")
    assert line.startswith(f"listening on {pattern}")
    assert announce((host, int(line.rpartition(":")[2])), 6881).members == ()


@pytest.mark.fault("N1")
def test_without_host_it_listens_on_all_addresses_of_both_families_on_one_port(programs: Programs) -> None:
    conductor = programs.start("conductor", "--port", "0")
    host, port = address_of(conductor)
    assert host == "0.0.0.0"
    announce(("127.0.0.1", port), 6881)
    assert announce(("::1", port), 6882).members == (("127.0.0.1", 6881),)
    assert announce(("127.0.0.1", port), 6881).members == (("::1", 6882),)


def test_with_quiet_it_prints_nothing(programs: Programs) -> None:
    port = free_port()
    conductor = programs.start("conductor", "--host", "127.0.0.1", "--port", str(port), "-q", json=False)
    wait_until(lambda: answers(("127.0.0.1", port)), "an answer")
    assert conductor.stop() == -signal.SIGTERM
    assert conductor.noise == []
    assert conductor.stderr == ""


# Whom it brings together


def test_members_find_each_other_and_leave(conductor: Program) -> None:
    address = address_of(conductor)
    assert announce(address, 6881, "started", left=0).members == ()
    reply = announce(address, 6882, "started")
    assert reply.members == (("127.0.0.1", 6881),)
    assert (reply.interval_s, reply.min_interval_s) == (120.0, 10.0)
    assert (reply.seeders, reply.leechers) == (1, 1)
    assert announce(address, 6882, "completed", left=0).members == ()
    assert scrape(address) == {INFO_HASH: {b"complete": 2, b"downloaded": 1, b"incomplete": 0}}
    announce(address, 6881, "stopped", left=0)
    assert announce(address, 6883).members == (("127.0.0.1", 6882),)


@pytest.mark.fault("C3")
def test_nobody_is_listed_on_anyones_word_or_removed_by_another(conductor: Program) -> None:
    address = address_of(conductor)
    announce(address, 6881)
    assert announce(address, 22).warning.startswith("you are not listed")
    announce(address, 6881, "stopped", who="-XX0000-somebody")
    claim = format_announce(AnnounceQuery(INFO_HASH, b"v" * 20, 7000, 0, 0, 1))
    get(address, f"/announce?{claim}&ip=192.0.2.1&ipv6=2001:db8::1")
    members = announce(address, 6882).members
    assert sorted(members) == [("127.0.0.1", 6881), ("127.0.0.1", 7000)]


def test_a_member_that_falls_silent_for_two_intervals_is_forgotten(programs: Programs) -> None:
    conductor = programs.start("conductor", "--host", "127.0.0.1", "--port", "0", "--interval", "1")
    address = address_of(conductor)
    announce(address, 6881)
    reply = announce(address, 6882)
    assert (reply.interval_s, reply.min_interval_s) == (1.0, 1.0)
    assert reply.members == (("127.0.0.1", 6881),)
    wait_until(lambda: not announce(address, 6882).members, "a conductor that forgets")


@needs_libtorrent
def test_libtorrent_clients_find_each_other(programs: Programs, conductor: Program) -> None:
    content = os.urandom(300_000)
    (programs.folder / "seed").mkdir()
    (programs.folder / "seed" / "piece.bin").write_bytes(content)
    pieces = b"".join(hashlib.sha1(content[at : at + 16384]).digest() for at in range(0, 300_000, 16384))
    info = {"length": 300_000, "name": "piece.bin", "piece length": 16384, "pieces": pieces}
    url = f"http://{netutils.format_address(address_of(conductor))}/announce"
    torrent = programs.folder / "piece.torrent"
    torrent.write_bytes(bencode.encode({"announce": url, "info": info}))
    seeding = start_libtorrent(programs, torrent, programs.folder / "seed")
    seeding.wait_for_event("announced")
    fetching = start_libtorrent(programs, torrent, programs.folder / "fetch")
    fetching.wait_for_event("complete")
    assert (programs.folder / "fetch" / "piece.bin").read_bytes() == content


# How it ends


@pytest.mark.fault("K6")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_cleanly_although_connections_are_open(
    programs: Programs, conductor: Program, signum: signal.Signals
) -> None:
    address = address_of(conductor)
    announce(address, 6881)
    with contextlib.ExitStack() as stack:
        halves = [stack.enter_context(netutils.dial(address, PATIENCE_S)) for _ in range(10)]
        for half in halves:
            half.sendall(b"GET /announce?")
        conductor.signal(signum)
        assert conductor.wait() == -signum
    assert conductor.stderr == ""
    assert "Traceback" not in log_of(programs)
    netutils.listen(*address)[0].close()  # the port is free


@pytest.mark.fault("K6")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_on_the_spot(conductor: Program, signum: signal.Signals) -> None:
    """However soon it comes, and whatever it interrupts: no traceback, and the code says which signal."""
    address = address_of(conductor)
    with netutils.dial(address, PATIENCE_S) as half:
        half.sendall(b"GET /announce?")
        conductor.signal(signum)
        with contextlib.suppress(ProcessLookupError):
            conductor.signal(signum)
        begun_s = time.monotonic()
        assert conductor.wait() == -signum
    note("K6", "conductor: seconds from two signals to its end", f"{time.monotonic() - begun_s:.2f}")
    assert conductor.stderr == ""


@pytest.mark.parametrize("key", ["q", "Q"])
def test_q_at_the_terminal_ends_it_with_exit_code_0(programs: Programs, key: str) -> None:
    ours, theirs = pty.openpty()
    try:
        conductor = programs.start("conductor", "--host", "127.0.0.1", "--port", "0", stdin=theirs)
        address = address_of(conductor)
        os.write(ours, b"x")  # any other key does nothing
        announce(address, 6881)
        os.write(ours, key.encode())
        assert conductor.wait() == 0
    finally:
        os.close(ours)
        os.close(theirs)


def test_without_a_terminal_it_goes_on_when_stdin_ends(conductor: Program) -> None:
    assert announce(address_of(conductor), 6881).members == ()
    assert conductor.stop() == -signal.SIGTERM


# When it cannot


def error_of(conductor: Program, exit_code: int) -> str:
    """Its one line on stderr, without its name; the JSON event says the same."""
    assert conductor.wait() == exit_code
    error = conductor.events[-1]
    assert (error["event"], error["exit_code"]) == ("error", exit_code)
    assert conductor.stderr == f"conductor: error: {error['message']}\n"
    return str(error["message"])


def test_a_taken_port_is_exit_code_5_and_one_line(programs: Programs, conductor: Program) -> None:
    port = str(address_of(conductor)[1])
    for host in (["--host", "127.0.0.1"], []):
        text = error_of(programs.start("conductor", *host, "--port", port), 5)
        assert text.startswith("cannot listen on ")
        assert text.endswith(f"{port}: another program has that port; choose another one with --port")


@pytest.mark.parametrize(("host", "advice"), [
    ("192.0.2.1", "this machine has no such address; --host takes one of its own"),
    ("nobody.invalid", "no such address or name; --host takes an address of this machine"),
    ("\x1b[31mx", "no such address or name; --host takes an address of this machine"),
    ("2001:db8::1", "this machine has no such address; --host takes one of its own"),
])  # fmt: skip
def test_a_bad_host_is_exit_code_5_and_one_line(programs: Programs, host: str, advice: str) -> None:
    text = error_of(programs.start("conductor", "--host", host, "--port", "0"), 5)
    assert text.isprintable()
    assert text.endswith(f": {advice}")


@pytest.mark.parametrize(("code", "advice"), [
    (errno.EACCES, "no permission; ports below 1024 are for root, choose another one with --port"),
    (errno.ENOBUFS, os.strerror(errno.ENOBUFS)),
])  # fmt: skip
def test_what_else_the_system_refuses_is_said(
    monkeypatch: pytest.MonkeyPatch, code: int, advice: str
) -> None:
    def refused(host: str | None, port: int) -> list[socket.socket]:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(netutils, "listen", refused)
    with pytest.raises(NetworkError) as raised:
        conductor_program.listen("::1", 80)
    assert str(raised.value) == f"cannot listen on [::1]:80: {advice}"


@pytest.mark.parametrize("arguments", [
    ["--port", "65536"], ["--port", "-1"], ["--port", "x"], ["--port", "1_0"], ["--port", "\uff11"],
    ["--interval", "0"], ["--interval", "1.5"], ["--interval", "86401"], ["--interval", "9" * 5000],
    ["extra"], ["--prot", "1"],
])  # fmt: skip
def test_a_bad_command_line_is_exit_code_2_and_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(conductor_program.make_parser(), conductor_program.conduct, arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("conductor: error: ")
    assert err.endswith("(see conductor.py --help)\n")
    assert err.count("\n") == 1


# What cannot hurt it


@pytest.mark.fault("C5")
def test_it_serves_while_two_thousand_connections_say_nothing(programs: Programs, conductor: Program) -> None:
    address = address_of(conductor)
    with many_descriptors(2200), contextlib.ExitStack() as stack:
        for number in range(2000):
            sock = stack.enter_context(netutils.dial(address, PATIENCE_S))
            if number % 2:
                sock.sendall(b"GET /announce?info_hash=")
            if number % 100 == 0:
                assert announce(address, 6881).members == ()
    assert announce(address, 6881).members == ()
    assert conductor.stop() == -signal.SIGTERM
    assert conductor.stderr == ""
    assert "Traceback" not in log_of(programs)


@pytest.mark.fault("G1")
def test_garbage_of_every_kind_leaves_it_serving_and_its_log_clean(
    programs: Programs, conductor: Program
) -> None:
    address = address_of(conductor)
    chance = random.Random(5)
    good = b"GET /announce?info_hash=%01 HTTP/1.1\r\nHost: x\r\n\r\n"
    for number in range(300):
        data = bytearray(chance.randbytes(chance.randrange(200)) if number % 2 else good)
        for _ in range(number % 7):
            data[chance.randrange(len(data) or 1) : chance.randrange(len(data) + 1)] = chance.randbytes(3)
        with netutils.dial(address, PATIENCE_S) as sock, contextlib.suppress(OSError):
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
    assert announce(address, 6881).members == ()
    assert conductor.stop() == -signal.SIGTERM
    assert conductor.stderr == ""
    log = log_of(programs)
    assert "Traceback" not in log
    assert "ERROR" not in log
    assert all(line.isprintable() for line in log.split("\n"))


def test_hostile_text_does_not_reach_the_log_as_it_is(programs: Programs, conductor: Program) -> None:
    address = address_of(conductor)
    get(address, "/announce?info_hash=%1B%5B31m&event=%0Aforged%20line")
    get(address, "/%1B%5B31m%0Aforged")
    announce(address, 6881, "started")
    conductor.stop()
    assert "\x1b" not in log_of(programs)
    assert "\nforged" not in log_of(programs)


@contextlib.contextmanager
def many_descriptors(count: int) -> Iterator[None]:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"this process may not open {count} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def free_port() -> int:
    [listener] = netutils.listen("127.0.0.1", 0)
    with listener:
        return int(listener.getsockname()[1])
