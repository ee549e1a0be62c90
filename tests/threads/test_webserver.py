"""The web server's thread in this process: what strangers may cost, and how it ends."""

from __future__ import annotations

import contextlib
import errno
import logging
import queue
import re
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import waitress.parser  # type: ignore[import-untyped]
from waitress.adjustments import Adjustments  # type: ignore[import-untyped]
from waitress.channel import ClientDisconnected  # type: ignore[import-untyped]
from waitress.parser import ParsingError
from waitress.task import ThreadedTaskDispatcher  # type: ignore[import-untyped]

import netutils
from netutils import Address
from orchestra import webserver
from orchestra.messages import ThreadEnded
from orchestra.tracker import Tracker
from orchestra.trackerapp import TrackerApp
from orchestra.webserver import WebServer
from orchestra.worker import ThreadCrashed

PATIENCE_S = 15.0
QUERY = (
    b"info_hash=%01" + b"%01" * 19 + b"&peer_id=-OR0100-abcdefghijkl&port=6881&uploaded=0&downloaded=0&left=0"
)
GOOD = b"GET /announce?" + QUERY + b" HTTP/1.1\r\nHost: x\r\n\r\n"
ANSWER = b"d8:completei1e10:incompletei0e8:intervali120e12:min intervali10e5:peers0:e"

App = Callable[[dict[str, Any], Any], Iterable[bytes]]


@contextlib.contextmanager
def serving(app: App | None = None, host: str | None = "127.0.0.1") -> Iterator[Address]:
    reports: queue.SimpleQueue[object] = queue.SimpleQueue()
    listeners = netutils.listen(host, 0)
    server = WebServer(app or TrackerApp(Tracker(120)), listeners, reports.put)
    server.start()
    try:
        yield netutils.address_of(listeners[0].getsockname())
    finally:
        server.stop()
        server.join(PATIENCE_S)
        ended = reports.get(timeout=PATIENCE_S)
        assert not isinstance(ended, ThreadCrashed), ended.error
        assert ended == ThreadEnded("webserver")


def open_to(address: Address, data: bytes = b"") -> socket.socket:
    sock = netutils.dial(address, PATIENCE_S)
    sock.settimeout(PATIENCE_S)
    sock.sendall(data)
    return sock


def rest_of(sock: socket.socket) -> bytes:
    """All that comes until the other side closes, or resets because it has not read all that we sent."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := sock.recv(65536):
            data += chunk
    sock.close()
    return data


def ask(address: Address, request: bytes) -> bytes:
    sock = netutils.dial(address, PATIENCE_S)
    sock.settimeout(PATIENCE_S)
    with contextlib.suppress(ConnectionError):  # it may have closed before we are done
        sock.sendall(request)
    return rest_of(sock)


def test_an_announce_is_answered_on_every_address() -> None:
    with serving(host=None) as (_, port):
        for host in ("127.0.0.1", "::1"):
            reply = ask((host, port), GOOD)
            assert reply.startswith(b"HTTP/1.1 200 OK\r\nConnection: close\r\n")
            assert b"\r\nContent-Type: text/plain\r\n" in reply
            assert reply.partition(b"\r\n\r\n")[2].startswith(b"d8:completei")


@pytest.mark.parametrize(
    "request_line",
    [b"GET /announce?%s HTTP/1.0", b"GET http://any/announce?%s HTTP/1.1", b"GET /announce?%s#f HTTP/1.1"],
)
def test_odd_but_right_requests_are_answered(request_line: bytes) -> None:
    with serving() as address:
        assert ask(address, request_line % QUERY + b"\r\n\r\n").endswith(ANSWER)


@pytest.mark.fault("X1")
def test_it_ends_even_where_nothing_can_wake_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    reports: queue.SimpleQueue[object] = queue.SimpleQueue()
    server = WebServer(TrackerApp(Tracker(120)), netutils.listen("127.0.0.1", 0), reports.put)
    server.start()
    monkeypatch.setattr(server._trigger, "_physical_pull", fail)
    server.stop()
    server.join(PATIENCE_S)
    assert reports.get(timeout=PATIENCE_S) == ThreadEnded("webserver")


@pytest.mark.fault("X1")
def test_a_socket_that_cannot_be_served_leaves_no_thread_behind() -> None:
    class Nameless(socket.socket):
        def getsockname(self) -> Any:
            raise OSError(errno.ENOBUFS, "No buffer space available")

    with Nameless() as sock, pytest.raises(OSError, match="No buffer space"):
        WebServer(TrackerApp(Tracker(120)), [sock], print)


@pytest.mark.fault("C3")
def test_the_address_that_a_request_claims_is_not_looked_at() -> None:
    claims = (b"X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\nX-Real-IP: 192.0.2.1\r\n"
              b"Client-IP: 192.0.2.1\r\n")  # fmt: skip
    with serving() as address:
        ask(address, GOOD.replace(b"left=0", b"left=0&ip=192.0.2.1&ipv6=2001:db8::1&ipv4=192.0.2.1")
            .replace(b"\r\n\r\n", b"\r\n" + claims + b"\r\n"))  # fmt: skip
        reply = ask(address, GOOD.replace(b"port=6881", b"port=6882").replace(b"left=0", b"left=1"))
    assert reply.endswith(b"5:peers6:\x7f\x00\x00\x01\x1a\xe1e")


def head(request: bytes, *lines: bytes) -> bytes:
    return b"\r\n".join([request, *lines, b"", b""])


BROKEN: dict[str, tuple[bytes, bytes]] = {
    "no parameters": (head(b"GET /announce HTTP/1.1"), b"d14:failure reason20:info_hash is missinge"),
    "bad escape": (head(b"GET /announce?info_hash=%zz HTTP/1.1"), b"14:failure reason45:a percent sign"),
    "a NUL": (head(b"GET /announce?info_hash=\0 HTTP/1.1"), b"info_hash has 1 bytes"),
    "port twice": (GOOD.replace(b"&left", b"&port=1&left"), b"port is given more than once"),
    "port 0": (GOOD.replace(b"6881", b"0"), b"port is not a number from 1 to 65535"),
    "port 65536": (GOOD.replace(b"6881", b"65536"), b"port is not a number from 1 to 65535"),
    "a long query": (head(b"GET /announce?" + b"a" * 5000 + b" HTTP/1.1"), b"longer than 4096 bytes"),
    "scrape of all": (head(b"GET /scrape HTTP/1.1"), b"d14:failure reason20:info_hash is missinge"),
    "another path": (head(b"GET /announce.php?x HTTP/1.1"), b" 404 "),
    "a path upwards": (head(b"GET /../../etc/passwd HTTP/1.1"), b" 404 "),
    "HEAD": (head(b"HEAD /announce HTTP/1.1"), b" 405 "),
    "CONNECT": (head(b"CONNECT example.org:80 HTTP/1.1"), b" 405 "),
    "DELETE": (head(b"DELETE /announce HTTP/1.1"), b" 405 "),
    "HTTP/2": (head(b"PRI * HTTP/2.0", b"", b"SM"), b" 405 "),
    "POST": (head(b"POST /announce HTTP/1.1", b"Content-Length: 5") + b"hello", b" 413 "),
    "a body": (head(b"POST /announce HTTP/1.1", b"Content-Length: 99999999") + bytes(100_000), b" 413 "),
    "chunks": (
        head(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked") + b"f" * 30 + b"\r\n" + bytes(9999),
        b" 4",
    ),
    "a body that is to be waited for, of no length": (
        head(b"GET / HTTP/1.1", b"Expect: 100-continue", b"Content-Length: x"),
        b" 400 ",
    ),
    "a length of 5,000 digits": (head(b"GET / HTTP/1.1", b"Content-Length: " + b"9" * 5000), b" 400 "),
    "a negative length": (head(b"GET / HTTP/1.1", b"Content-Length: -1"), b" 400 "),
    "half an IPv6 address": (head(b"GET http://[ HTTP/1.1"), b" 400 "),
    "raw bytes": (head(b"GET /announce?info_hash=" + bytes(range(128, 148)) + b" HTTP/1.1"), b" 400 "),
    "TLS": (bytes.fromhex("1603010200010001fc0303") + bytes(200) + b"\r\n\r\n", b" 400 "),
    "garbage": (bytes(range(256)) * 8 + b"\r\n\r\n", b" 400 "),
    "a header of a MiB": (head(b"GET / HTTP/1.1", b"X: " + b"x" * 1_000_000), b" 431 "),
    "100,000 headers": (head(b"GET / HTTP/1.1", *[b"X: y"] * 100_000), b" 431 "),
}


@pytest.fixture(scope="module")
def conductor() -> Iterator[Address]:
    """One server for all the requests that must not hurt it."""
    with serving() as address:
        yield address


@pytest.mark.fault("C5")
@pytest.mark.fault("G1")
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_request_gets_a_reason_and_hurts_nobody(
    conductor: Address, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    request, expected = BROKEN[name]
    reply = ask(conductor, request)
    # Where we were still sending when it closed, the reset may have taken the reply with it.
    assert expected in reply or (len(request) > 50_000 and reply == b""), reply
    assert b"Traceback" not in reply
    assert ask(conductor, GOOD).endswith(b"e")
    # "Task queue depth" only says that this machine is busy.
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert not [record for record in warnings if record.name != "waitress.queue"]


def test_whoever_leaves_before_the_answer_leaves_nothing_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(_channel: object, _data: bytes) -> int:
        raise ClientDisconnected

    monkeypatch.setattr(webserver._Channel, "write_soon", gone)
    with serving() as address:
        assert [ask(address, request) for request in (GOOD, b"garbage\r\n\r\n")] == [b"", b""]
    # "Task queue depth" only says that this machine is busy.
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert not [record for record in warnings if record.name != "waitress.queue"]


@pytest.mark.fault("C5")
def test_a_query_of_10_mib_is_not_read_to_its_end(conductor: Address) -> None:
    reply = ask(conductor, head(b"GET /announce?" + b"a" * 10_000_000 + b" HTTP/1.1"))
    assert reply == b"" or b" 431 " in reply
    assert ask(conductor, GOOD).endswith(b"e")


@pytest.mark.fault("C5")
def test_of_pipelined_requests_the_first_is_answered(conductor: Address) -> None:
    assert ask(conductor, GOOD * 50).count(b"HTTP/1.1 200 OK") == 1


def test_the_front_page_says_what_this_is(conductor: Address) -> None:
    assert b"This is a conductor of Orchestra" in ask(conductor, head(b"GET / HTTP/1.1"))


@pytest.mark.fault("C5")
def test_slow_requests_delay_nobody_and_are_closed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webserver, "REQUEST_TIMEOUT_S", 0.5)
    ended = threading.Event()
    with serving() as address:
        silent = [open_to(address) for _ in range(20)]
        halves = [open_to(address, GOOD[:30]) for _ in range(20)]
        trickling = open_to(address, GOOD[:30])

        def trickle() -> None:
            with contextlib.suppress(OSError):
                while not ended.wait(0.02):
                    trickling.sendall(b"x")

        thread = threading.Thread(target=trickle)
        thread.start()
        assert ask(address, GOOD).endswith(ANSWER)
        assert [rest_of(sock) for sock in (*silent, *halves)] == [b""] * 40
        with contextlib.suppress(ConnectionResetError):
            assert trickling.recv(1) == b""
        ended.set()
        thread.join(PATIENCE_S)
        trickling.close()
        assert ask(address, GOOD).endswith(ANSWER)


@pytest.mark.fault("C5")
def test_when_too_many_are_open_the_oldest_that_has_not_asked_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(webserver, "MAX_CONNECTIONS", 30)
    monkeypatch.setattr(webserver, "REQUEST_TIMEOUT_S", 10 * PATIENCE_S)
    with serving() as address:
        idle = [open_to(address) for _ in range(60)]
        assert ask(address, GOOD).endswith(ANSWER)
        assert rest_of(idle[0]) == b""
        idle[-1].sendall(GOOD)
        assert rest_of(idle[-1]).endswith(ANSWER)
        for sock in idle:
            sock.close()


def test_all_who_wait_are_let_in_at_once() -> None:
    connections: dict[int, Any] = {}
    (sock,) = netutils.listen("127.0.0.1", 0)
    listener = webserver._Listener(
        TrackerApp(Tracker(120)),
        connections,
        _sock=sock,
        dispatcher=ThreadedTaskDispatcher(),  # without a thread: nobody asks
        adj=Adjustments(),
        sockinfo=(sock.family, sock.type, sock.proto, sock.getsockname()),
        bind_socket=False,
    )
    before = len(connections)
    waiting = [open_to(netutils.address_of(sock.getsockname())) for _ in range(20)]
    listener.handle_accept()
    assert len(connections) == before + 20
    for each in [*connections.values(), *waiting]:
        each.close()


def test_a_connection_that_is_reset_while_it_is_let_in_ends_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[object] = []

    class Reset(webserver._Channel):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            if not refused:
                refused.append(arguments)
                raise OSError(errno.EINVAL, "Invalid argument")
            super().__init__(*arguments, **named)

    monkeypatch.setattr(webserver, "_Channel", Reset)
    with serving() as address:
        assert rest_of(open_to(address)) == b""
        assert ask(address, GOOD).endswith(ANSWER)


def test_it_ends_at_once_although_connections_are_open() -> None:
    with serving() as address:
        halves = [open_to(address, GOOD[:30]) for _ in range(20)]
        assert ask(address, GOOD).endswith(ANSWER)
    assert [rest_of(sock) for sock in halves] == [b""] * 20
    with pytest.raises(ConnectionRefusedError):
        netutils.dial(address, PATIENCE_S)


def test_what_is_being_answered_when_it_ends_is_answered() -> None:
    begun, may_end = threading.Event(), threading.Event()

    def slow(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        begun.set()
        may_end.wait(PATIENCE_S)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    with serving(slow) as address:
        sock = open_to(address, GOOD)
        assert begun.wait(PATIENCE_S)
        threading.Timer(0.1, may_end.set).start()
    assert rest_of(sock).endswith(b"\r\n\r\nok")


class Noted:
    """A pattern of waitress' that notes what it is to match, since some of it would take it seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.seen: list[bytes] = []
        self._pattern = getattr(waitress.parser, name)
        monkeypatch.setattr(waitress.parser, name, self)

    def match(self, line: bytes) -> re.Match[bytes] | None:
        self.seen.append(line)
        return self._pattern.match(line[:100])  # type: ignore[no-any-return]

    def fullmatch(self, line: bytes) -> re.Match[bytes] | None:
        self.seen.append(line)
        return self._pattern.fullmatch(line[:100])  # type: ignore[no-any-return]


@pytest.mark.fault("C5")
@pytest.mark.parametrize(
    "first_line",
    [
        b"GET http://a" + b"9" * 8000 + b" x",
        b"GET http://" + b"9 " * 4000,
        b"GET http://a" + b"9" * 8000 + b" HTTP/1",
    ],
    ids=["another end", "many ends", "half a version"],
)
def test_a_first_line_that_waitress_would_go_over_by_the_square_of_its_length_is_kept_from_it(
    first_line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pattern = Noted(monkeypatch, "first_line_re")
    with pytest.raises(ParsingError):
        webserver._Parser(Adjustments()).parse_header(first_line + b"\r\n\r\n")
    assert pattern.seen == []
    webserver._Parser(Adjustments()).parse_header(b"GET / HTTP/1.1\r\n\r\n")
    assert pattern.seen == [b"GET / HTTP/1.1"]


@pytest.mark.fault("C5")
def test_of_a_header_of_spaces_waitress_sees_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = Noted(monkeypatch, "HEADER_FIELD_RE")
    with pytest.raises(ParsingError):
        webserver._Parser(Adjustments()).parse_header(
            b"GET / HTTP/1.1\r\na:" + b" \t" * 4000 + b"\x00\r\n\r\n"
        )
    assert pattern.seen == [b"a: \x00"]
    parser = webserver._Parser(Adjustments())
    parser.parse_header(b"GET / HTTP/1.1\r\na:  b \t c  \r\n\r\n")
    assert parser.headers == {"A": "b c"}
