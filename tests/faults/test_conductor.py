"""The conductor under attack: floods, lies, garbage, a system that gives no more, a clock that jumps."""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import queue
import random
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from waitress import server as waitress_server  # type: ignore[import-untyped]
from waitress.task import ThreadedTaskDispatcher  # type: ignore[import-untyped]

import netutils
from netutils import Address
from orchestra import bencode, webserver
from orchestra.announce import AnnounceQuery, format_announce
from orchestra.messages import ThreadEnded
from orchestra.throttle import BURST, Throttle
from orchestra.tracker import Tracker
from orchestra.trackerapp import REFUSAL, TrackerApp
from orchestra.trackerclient import Exchange, TrackerError
from orchestra.wakeful import WakefulClock
from orchestra.webserver import WebServer
from orchestra.worker import ThreadCrashed
from tests.figures import note

PATIENCE_S = 20.0
INFO_HASH = bytes(range(20))


@contextlib.contextmanager
def serving(throttle: Throttle | None = None, clock: WakefulClock | None = None) -> Iterator[Address]:
    """A conductor's web server in this process."""
    reports: queue.SimpleQueue[object] = queue.SimpleQueue()
    listeners = netutils.listen("127.0.0.1", 0)
    app = TrackerApp(Tracker(120, clock=clock or WakefulClock()))
    server = WebServer(app, listeners, reports.put, throttle=throttle, refusal=REFUSAL)
    server.start()
    try:
        yield netutils.address_of(listeners[0].getsockname())
    finally:
        server.stop()
        server.join(PATIENCE_S)
        assert reports.get(timeout=PATIENCE_S) == ThreadEnded("webserver")


def query(port: int, event: str = "", peer_id: bytes = b"", left: int = 1) -> AnnounceQuery:
    return AnnounceQuery(
        info_hash=INFO_HASH,
        peer_id=peer_id or b"-OR0100-%012d" % port,
        port=port,
        uploaded_bytes=0,
        downloaded_bytes=0,
        left_bytes=left,
        event=event,
    )


def request_of(asked: AnnounceQuery, more: str = "", headers: str = "") -> bytes:
    return f"GET /announce?{format_announce(asked)}{more} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode()


def ask(address: Address, request: bytes) -> bytes:
    """The whole answer; as much of it as came, where the connection was reset."""
    reply = b""
    with netutils.dial(address, PATIENCE_S) as sock, contextlib.suppress(ConnectionError):
        sock.settimeout(PATIENCE_S)
        sock.sendall(request)
        if not request.endswith(b"\r\n\r\n"):
            with contextlib.suppress(OSError):  # it may have closed already
                sock.shutdown(socket.SHUT_WR)  # else it would wait for the rest of it
        while data := sock.recv(65536):
            reply += data
    return reply


def members_known(address: Address, port: int = 7999) -> list[Address]:
    """Whom the conductor names to a newcomer."""
    reply = Exchange(address, query(port)).run()
    Exchange(address, query(port, "stopped")).run()
    return sorted(reply.members)


# Addresses on anyone's word


@pytest.mark.fault("C3")
def test_no_claim_puts_a_victim_on_the_list_and_nobody_removes_another() -> None:
    victim = "192.0.2.7"
    claims = f"&ip={victim}&ipv4={victim}&ipv6=2001:db8::7"
    headers = "".join(
        f"{name}: {victim}\r\n" for name in ("X-Forwarded-For", "X-Real-IP", "Client-IP", "True-Client-IP")
    )
    headers += f"Forwarded: for={victim}\r\n"
    with serving() as address:
        ask(address, request_of(query(6881), claims, headers))
        ask(address, request_of(query(6882)))
        for port in (0, 22, 1023, 65536):
            ask(address, request_of(query(port), claims, headers))
        # The port of another, under our own name; its name, under our own port; and a guess at both.
        ask(address, request_of(query(6881, "stopped", b"-XX0000-somebody.els")))
        ask(address, request_of(query(7000, "stopped", query(6882).peer_id)))
        ask(address, request_of(query(6883, "stopped", b"-XX0000-somebody.els")))
        known = members_known(address)
    assert known == [("127.0.0.1", 6881), ("127.0.0.1", 6882)]
    note("C3", "victims named after 5 claims in query and headers", 0)


# Floods


@pytest.mark.fault("C4")
def test_whoever_asks_too_often_gets_429_before_anything_is_parsed(caplog: pytest.LogCaptureFixture) -> None:
    with serving(Throttle(0.001, 5, spare_local=False)) as address, caplog.at_level(logging.WARNING):
        good = [ask(address, request_of(query(6881 + number))) for number in range(5)]
        refused = [ask(address, request) for request in (request_of(query(6890)), b"\x13BitTorrent protocol")]
        with pytest.raises(TrackerError, match=r"^HTTP status 429 Too Many Requests$"):
            Exchange(address, query(6890)).run()
    assert all(reply.startswith(b"HTTP/1.1 200 OK\r\n") for reply in good)
    for reply in refused:
        head, _, body = reply.partition(b"\r\n\r\n")
        status, *headers = head.split(b"\r\n")
        assert status == b"HTTP/1.1 429 Too Many Requests"
        assert b"Retry-After: 5000" in headers
        assert b"Connection: close" in headers
        assert b"Content-Length: %d" % len(body) in headers
        answer = bencode.decode(body)
        assert isinstance(answer, dict)
        assert b"failure reason" in answer
    said = [record.getMessage() for record in caplog.records if record.name == "orchestra.webserver"]
    assert said == ["127.0.0.1 asks too often, and is told to wait; others will not be logged"]


@pytest.mark.fault("C4")
def test_of_a_flood_a_burst_is_answered_and_then_so_many_a_second() -> None:
    with serving(Throttle(1.0, BURST, spare_local=False)) as address:
        begun_s = time.monotonic()
        replies = [ask(address, request_of(query(1024 + number)))[:12] for number in range(300)]
        took_s = time.monotonic() - begun_s
    answered, refused = replies.count(b"HTTP/1.1 200"), replies.count(b"HTTP/1.1 429")
    assert answered + refused == 300
    assert BURST <= answered <= BURST + took_s + 1
    note("C4", "of 300 requests at once from one address, refused", refused)


# Connections, and what the system has to give


@pytest.mark.fault("C5")
def test_a_system_without_sockets_to_give_is_survived_without_spinning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = 3
    tried: list[float] = []
    accept = webserver._Listener.accept

    def starved(listener: webserver._Listener) -> object:
        tried.append(time.monotonic())
        if len(tried) <= failures:
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(listener)

    monkeypatch.setattr(webserver._Listener, "accept", starved)
    with serving() as address:
        assert ask(address, request_of(query(6881))).startswith(b"HTTP/1.1 200 OK")
    rests_s = [later - earlier for earlier, later in itertools.pairwise(tried[: failures + 1])]
    assert min(rests_s) >= webserver.STARVED_REST_S, "it must not spin"
    warnings = [record.getMessage() for record in caplog.records if record.name == "orchestra.webserver"]
    assert warnings == ["cannot let anybody in for now: Too many open files"]


@pytest.mark.fault("C5")
def test_without_sockets_to_give_an_idle_connection_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    accept = webserver._Listener.accept
    state = {"starved": False}

    def starved(listener: webserver._Listener) -> object:
        if state["starved"]:
            state["starved"] = False
            raise OSError(errno.ENFILE, "Too many open files in system")
        return accept(listener)

    monkeypatch.setattr(webserver._Listener, "accept", starved)
    monkeypatch.setattr(webserver, "REQUEST_TIMEOUT_S", 10 * PATIENCE_S)
    with serving() as address, netutils.dial(address, PATIENCE_S) as idle:
        idle.settimeout(PATIENCE_S)
        idle.sendall(b"GET /announce?")
        assert ask(address, request_of(query(6881))).startswith(b"HTTP/1.1 200 OK")
        state["starved"] = True
        assert ask(address, request_of(query(6882))).startswith(b"HTTP/1.1 200 OK")
        assert idle.recv(1) == b""


@pytest.mark.fault("C5")
def test_a_system_without_threads_to_give_is_told_at_the_start_and_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[str] = []
    start_new_thread = ThreadedTaskDispatcher.start_new_thread

    def scarce(dispatcher: object, target: object, thread_no: int) -> None:
        started.append(str(thread_no))
        if len(started) == 3:
            raise RuntimeError("can't start new thread")
        start_new_thread(dispatcher, target, thread_no)

    monkeypatch.setattr(ThreadedTaskDispatcher, "start_new_thread", scarce)
    listeners = netutils.listen("127.0.0.1", 0)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        WebServer(TrackerApp(Tracker(120)), listeners, print)
    for listener in listeners:
        listener.close()


# Bugs


def test_a_bug_is_a_500_without_a_traceback_is_reported_and_the_log_has_it_a_few_times(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        raise RuntimeError("a bug")

    reports: queue.SimpleQueue[object] = queue.SimpleQueue()
    listeners = netutils.listen("127.0.0.1", 0)
    server = WebServer(broken, listeners, reports.put)
    server.start()
    times = 2 * webserver.LOGGED_A_PLACE
    for _ in range(times):
        reply = ask(netutils.address_of(listeners[0].getsockname()), request_of(query(7000)))
        assert b" 500 " in reply
        assert b"a bug" not in reply
    server.stop()
    server.join(PATIENCE_S)
    for _ in range(times):
        crash = reports.get(timeout=PATIENCE_S)
        assert isinstance(crash, ThreadCrashed)
        assert (crash.name[:9], str(crash.error)) == ("waitress-", "a bug")
    assert reports.get(timeout=PATIENCE_S) == ThreadEnded("webserver")
    assert len([record for record in caplog.records if record.exc_info]) == webserver.LOGGED_A_PLACE


@pytest.mark.parametrize("wreck", [ConnectionResetError, TimeoutError])
def test_what_the_network_does_to_a_connection_ends_it_and_no_more(
    monkeypatch: pytest.MonkeyPatch, wreck: type[OSError]
) -> None:
    received = webserver._Channel.received
    left = [1]

    def once(channel: webserver._Channel, data: bytes) -> bool:
        if left and left.pop():
            raise wreck("no route to host")
        return received(channel, data)

    monkeypatch.setattr(webserver._Channel, "received", once)
    with serving() as address:
        assert ask(address, request_of(query(7000))) == b""
        assert b" 200 " in ask(address, request_of(query(7000)))


# Clocks


class Hand:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 5000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.fault("C7")
def test_a_conductor_that_stood_still_for_ten_minutes_has_forgotten_nobody() -> None:
    hand = Hand()
    clock = WakefulClock(hand)
    tracker = Tracker(120, clock=clock)
    for number in range(20):
        tracker.announce(query(7000 + number), f"192.0.2.{number}")
    hand.now_s += 600.0
    answer = tracker.announce(query(7100), "192.0.2.100")
    assert len(answer.v4) == 20 * 6
    for _ in range(250):  # but then two silent intervals count
        hand.now_s += 1.0
        clock()
    assert tracker.announce(query(7100), "192.0.2.100").v4 == b""


@pytest.mark.fault("C7")
@pytest.mark.parametrize("jump_s", [3600.0, -3600.0, 315_000_000.0, -315_000_000.0])
def test_a_wall_clock_that_jumps_closes_no_connection_and_forgets_nobody(
    monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    wall = time.time
    with serving() as address, netutils.dial(address, PATIENCE_S) as half:
        Exchange(address, query(6881)).run()
        half.settimeout(PATIENCE_S)
        request = request_of(query(6882))
        half.sendall(request[:40])
        Exchange(address, query(6883)).run()  # by now the half one is in
        monkeypatch.setattr(time, "time", lambda: wall() + jump_s)
        assert waitress_server.time.time() != pytest.approx(wall(), abs=100)
        for _ in range(3):
            Exchange(address, query(6883)).run()
        half.sendall(request[40:])
        assert half.recv(12) == b"HTTP/1.1 200"
        assert [port for _, port in members_known(address)] == [6881, 6882, 6883]


# Garbage, and datagrams


@pytest.mark.fault("C1")
@pytest.mark.fault("C2")
def test_no_datagram_is_answered() -> None:
    """BEP 15 is not built: nothing listens on UDP, so that nothing can be guessed, replayed or reflected.

    That is all that C1 and C2 can be shown for today.
    """
    connect = bytes.fromhex("0000041727101980") + bytes(4) + b"abcd"
    announced = bytes(8) + b"\0\0\0\1" + b"abcd" + INFO_HASH + bytes(62)
    assert (len(connect), len(announced)) == (16, 98)
    datagrams = [connect, connect[:15], announced, announced[:97], b"", bytes(1400)]
    with serving() as address, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        Exchange(address, query(6881)).run()
        for datagram in datagrams * 50:
            sock.sendto(datagram, address)
        assert members_known(address) == [("127.0.0.1", 6881)]  # it had the time to answer
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(65536)
    note("C1", "bytes out for 300 datagrams", 0)


@pytest.mark.fault("G1")
def test_streams_of_garbage_leave_it_serving(caplog: pytest.LogCaptureFixture) -> None:
    chance = random.Random(20)
    good = request_of(query(6881))
    with serving() as address:
        for number in range(200):
            data = bytearray(good if number % 2 else chance.randbytes(chance.randrange(2000)))
            for _ in range(number % 5):
                data[chance.randrange(len(data) or 1)] ^= 1 << chance.randrange(8)
            if number % 20 == 0:
                data += chance.randbytes(65536)
            ask(address, bytes(data)) if number % 3 else _hang_up(address, bytes(data))
        assert ("127.0.0.1", 6881) in members_known(address)
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]


def _hang_up(address: Address, data: bytes) -> None:
    """Send and leave, with a reset: the answer finds nobody."""
    with netutils.dial(address, PATIENCE_S) as sock, contextlib.suppress(ConnectionError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.sendall(data)


def test_what_listens_is_tcp_alone(tmp_path: Path) -> None:
    with serving() as (host, port), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, port))  # nobody has it
