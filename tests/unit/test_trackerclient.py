"""The tracker client against servers that answer, lie, stall and flood."""

from __future__ import annotations

import re
import socket
import threading
import time
import zlib

import pytest

import netutils
from orchestra.addresses import may_be_conductor
from orchestra.announce import AnnounceQuery, parse_announce
from orchestra.announcereply import MAX_REPLY_BYTES
from orchestra.trackerclient import Exchange, GivenUp, TrackerError, _TimedSocket
from tests.fakeconductor import PATIENCE_S, FakeConductor, Script, http_reply, replying

QUERY = AnnounceQuery(
    info_hash=bytes(range(20)),
    peer_id=b"-OR0100-abcdefghijkl",
    port=6881,
    uploaded_bytes=1,
    downloaded_bytes=2,
    left_bytes=3,
    event="started",
    wanted=50,
)
GOOD_BODY = b"d8:completei1e10:incompletei2e8:intervali7e5:peers6:\x0a\x00\x00\x01\x1a\xe1e"


def failure_of(script: Script, timeout_s: float = PATIENCE_S) -> str:
    with FakeConductor(script) as conductor, pytest.raises(TrackerError) as raised:
        Exchange(conductor.address, QUERY, timeout_s=timeout_s).run()
    return str(raised.value)


def test_an_answer_is_read() -> None:
    with FakeConductor(replying(http_reply(GOOD_BODY))) as conductor:
        reply = Exchange(conductor.address, QUERY).run()
    assert reply.members == (("10.0.0.1", 6881),)
    assert (reply.interval_s, reply.seeders, reply.leechers) == (7.0, 1, 2)


def test_the_request_says_what_was_asked_and_nothing_of_the_user() -> None:
    with FakeConductor(replying(http_reply(GOOD_BODY))) as conductor:
        Exchange(conductor.address, QUERY).run()
        head = conductor.requests.get(timeout=PATIENCE_S).decode()
        host, port = conductor.address
    request, *headers = head.rstrip().split("\r\n")
    method, target, version = request.split(" ")
    path, _, query = target.partition("?")
    assert (method, path, version) == ("GET", "/announce", "HTTP/1.1")
    assert parse_announce(query.encode()) == QUERY
    assert sorted(headers) == [
        "Accept-Encoding: identity",
        "Connection: close",
        f"Host: {host}:{port}",
        "User-Agent: Orchestra/0.1.0",
    ]


@pytest.mark.parametrize("reply", [
    b"HTTP/1.0 200 OK\r\n\r\n" + GOOD_BODY,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3b\r\n" + GOOD_BODY + b"\r\n0\r\n\r\n",
    b"HTTP/1.1 200\ntransfer-encoding:CHUNKED\n\n1;x=y\nd\n3A \n" + GOOD_BODY[1:] + b"\n0\n\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + http_reply(GOOD_BODY),
    b"HTTP/1.1 200 OK\r\ncontent-LENGTH : 59 \r\nno header\r\n Content-Length: 7\r\nContent-Length: 3\r\n\r\n"
    + GOOD_BODY + b"more",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 59\r\n\r\n" + GOOD_BODY,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n 000000000000003b\r\n" + GOOD_BODY + b"\r\n00\r\n",
], ids=["to end", "chunked", "bare", "interim", "odd headers", "identity", "long sizes"])  # fmt: skip
def test_other_ways_to_send_a_body_are_read(reply: bytes) -> None:
    with FakeConductor(replying(reply)) as conductor:
        assert Exchange(conductor.address, QUERY).run().interval_s == 7.0


def test_an_ipv6_conductor_is_reached() -> None:
    with FakeConductor(replying(http_reply(GOOD_BODY)), host="::1") as conductor:
        assert Exchange(conductor.address, QUERY).run().leechers == 2
        assert f"Host: [::1]:{conductor.address[1]}".encode() in conductor.requests.get(timeout=PATIENCE_S)


def test_a_proxy_in_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with FakeConductor(replying(http_reply(GOOD_BODY))) as conductor:
        assert Exchange(conductor.address, QUERY).run().interval_s == 7.0


HTML = b"<html><body>It works!</body></html>"


@pytest.mark.fault("T3")
@pytest.mark.parametrize(("reply", "reason"), [
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-a\r\n", "no HTTP reply"),
    (b"\x13BitTorrent protocol" + bytes(48), "this is no HTTP reply"),
    (http_reply(HTML), "the reply is not bencode"),
    (http_reply(b""), "the reply is not bencode"),
    (http_reply(b"l" * 100_000), "the reply is not bencode"),
    (http_reply(b"i1e"), "the reply is not a dictionary"),
    (http_reply(b"d14:failure reason7:no\x1b[31me"), "refused: no\\x1b[31m"),
    (http_reply(b"", "500 Internal Server Error"), "HTTP status 500 Internal Server Error"),
    (http_reply(b"", "404 \x1b]0;x"), "HTTP status 404 \\x1b]0;x"),
    (http_reply(b"", "302 Found", "Location: http://127.0.0.1:1/\r\n"), "redirects are not followed"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nd", "the reply ended early"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "this is no HTTP reply (zz)"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n", "this is no HTTP reply (c)"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", "the reply ended early"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", "the reply ended early"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 16 + b"\r\nab", "no HTTP reply"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "this is no HTTP reply (gzip, chunked)"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nd", "this is no HTTP reply (-1)"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\nd", "this is no HTTP reply (1, 1)"),
    (b"HTTP/1.1 200 OK\r\nContent-Le", "the reply ended early"),
    (b"HTTP/1.1 099 No\r\n\r\n", "this is no HTTP reply"),
    (b"HTTP/2 200\r\n\r\n", "this is no HTTP reply (HTTP/2 200)"),
    (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", "this is no HTTP reply"),
    (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", "this is no HTTP reply"),
    (b"", "ended early|reset"),
])  # fmt: skip
def test_what_is_no_answer_is_named_in_one_safe_line(reply: bytes, reason: str) -> None:
    text = failure_of(replying(reply))
    assert re.search(reason if "|" in reason else re.escape(reason), text), text
    assert text.isprintable()


@pytest.mark.fault("T3")
def test_a_body_of_a_gigabyte_is_not_read() -> None:
    sent = 0

    def flood(sock: socket.socket) -> None:
        nonlocal sent
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while sent < 1_000_000_000:
            sock.sendall(bytes(65536))
            sent += 65536

    assert "longer than 262144 bytes" in failure_of(flood)
    assert sent < 100 * MAX_REPLY_BYTES  # what the system's buffers hold


@pytest.mark.fault("T3")
def test_headers_without_end_are_not_read() -> None:
    def flood(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000)

    assert "longer than" in failure_of(flood)


@pytest.mark.fault("T3")
def test_a_compressed_bomb_stays_packed() -> None:
    body = zlib.compress(b"d" + bytes(100_000_000))
    assert "not bencode" in failure_of(replying(http_reply(body, headers="Content-Encoding: deflate\r\n")))


@pytest.mark.fault("T3")
@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nX-A: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_the_deadline_holds_however_slowly_it_trickles(head: bytes) -> None:
    def trickle(sock: socket.socket) -> None:
        sock.sendall(head)
        while not conductor.ended.wait(0.02):
            sock.sendall(b"a")

    with FakeConductor(trickle) as conductor, pytest.raises(TrackerError, match="timed out"):
        Exchange(conductor.address, QUERY, timeout_s=0.3).run()


def test_each_read_waits_only_for_what_is_left_of_the_deadline() -> None:
    ours, theirs = socket.socketpair()
    with theirs, _TimedSocket(ours, time.monotonic() + 0.05, 100) as timed:
        with pytest.raises(TimeoutError):
            timed.recv_into(bytearray(10))
        theirs.sendall(b"too late")
        with pytest.raises(TimeoutError):
            timed.recv_into(bytearray(10))


def test_nobody_listening_is_said_so() -> None:
    [listener] = netutils.listen("127.0.0.1", 0)
    address = netutils.address_of(listener.getsockname())
    listener.close()
    with pytest.raises(TrackerError, match=r"^Connection refused$"):
        Exchange(address, QUERY).run()


def test_an_unknown_host_is_said_so() -> None:
    with pytest.raises(TrackerError, match="the host is not found"):
        Exchange(("nobody.invalid", 80), QUERY).run()


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nd"])
def test_abort_wakes_an_exchange_that_waits_for_the_reply(head: bytes) -> None:
    sent = threading.Event()

    def hang(sock: socket.socket) -> None:
        sock.sendall(head)
        sent.set()
        conductor.ended.wait()

    with FakeConductor(hang) as conductor:
        exchange = Exchange(conductor.address, QUERY, timeout_s=1e6)

        def abort_when_it_waits() -> None:
            sent.wait(PATIENCE_S)
            exchange.abort()

        threading.Thread(target=abort_when_it_waits).start()
        with pytest.raises(GivenUp):
            exchange.run()


def test_abort_wakes_an_exchange_that_still_connects() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    fillers = []
    for _ in range(4):  # a full backlog: Linux drops further SYNs, so that connecting hangs
        fillers.append(socket.socket())
        fillers[-1].setblocking(False)
        fillers[-1].connect_ex(listener.getsockname())
    exchange = Exchange(netutils.address_of(listener.getsockname()), QUERY)
    threading.Timer(0.1, exchange.abort).start()
    with pytest.raises(GivenUp):
        exchange.run()
    for sock in (listener, *fillers):
        sock.close()


def test_an_exchange_aborted_before_it_runs_does_not_reach_the_conductor() -> None:
    with FakeConductor(replying(http_reply(GOOD_BODY))) as conductor:
        exchange = Exchange(conductor.address, QUERY)
        exchange.abort()
        with pytest.raises(GivenUp):
            exchange.run()
        assert conductor.requests.empty()


def test_abort_after_the_end_does_nothing() -> None:
    with FakeConductor(replying(http_reply(GOOD_BODY))) as conductor:
        exchange = Exchange(conductor.address, QUERY)
        exchange.run()
        exchange.abort()


# FAULTS 2.9: a name in a stranger's .orch must not lead to what only this machine can reach.


@pytest.mark.fault("T3")
@pytest.mark.parametrize(("host", "literal"), [
    ("0.0.0.0", "0.0.0.0"), ("0.1.2.3", "0.1.2.3"), ("::", "::"), ("255.255.255.255", "255.255.255.255"),
    ("224.0.0.1", "224.0.0.1"), ("ff02::1%eth0", "ff02::1%eth0"), ("example.org", "0.0.0.0"),
    ("example.org", "127.0.0.1"), ("example.org.", "127.1.1.1"), ("localhost.example.org", "::1"),
    ("example.org", "169.254.169.254"), ("localhost", "169.254.169.254"), ("example.org", "fe80::1%2"),
])  # fmt: skip
def test_what_no_conductor_has_is_not_asked(host: str, literal: str) -> None:
    assert not may_be_conductor(host, literal, own_name="here")


@pytest.mark.parametrize(("host", "literal"), [
    ("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("169.254.3.4", "169.254.3.4"), ("fe80::1%e0", "fe80::1%e0"),
    ("192.168.1.1", "192.168.1.1"), ("localhost", "127.0.0.1"), ("LOCALHOST.", "::1"),
    ("a.localhost", "127.0.0.1"),
    ("debian", "127.0.1.1"), ("Here.example.org", "127.0.1.1"), ("conductor.lan", "10.0.0.7"),
    ("example.org", "93.184.215.14"), ("example.org", "2001:db8::1"), ("example.org", "fd00::1"),
])  # fmt: skip
def test_what_a_conductor_may_have_is_asked(host: str, literal: str) -> None:
    assert may_be_conductor(host, literal, own_name="here.local")


def test_of_the_addresses_of_a_name_only_the_allowed_are_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeConductor(replying(http_reply(GOOD_BODY))) as conductor:
        port = conductor.address[1]
        hosts = ("0.0.0.0", "127.0.0.1")
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in hosts]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_named: found)
        assert Exchange(("localhost", port), QUERY).run().interval_s == 7.0
        with pytest.raises(TrackerError, match=r"^the host has no address that may be dialled$"):
            Exchange(("rebound.example.org", port), QUERY).run()
        assert conductor.requests.qsize() == 1
