"""Targets for what passes between a member and a conductor: bencode, queries, HTTP both ways, replies."""

from __future__ import annotations

import io
import random
import socket
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any
from urllib.parse import quote_from_bytes

from waitress.adjustments import Adjustments  # type: ignore[import-untyped]

import netutils
from orchestra import bencode
from orchestra.addresses import can_dial, is_loopback
from orchestra.announce import AnnounceProblem, AnnounceQuery, format_announce, parse_announce, parse_scrape
from orchestra.announcereply import (
    MAX_INTERVAL_S,
    MAX_REPLY_MEMBERS,
    Answer,
    Counts,
    Reply,
    ReplyProblem,
    format_answer,
    format_failure,
    parse_reply,
)
from orchestra.throttle import Throttle
from orchestra.tracker import Tracker
from orchestra.trackerapp import TrackerApp
from orchestra.trackerclient import Exchange, TrackerError
from orchestra.webserver import MAX_HEADER_BYTES, _Channel, _Gate
from tests.fuzz.target import Target, outcome

QUERY = AnnounceQuery(bytes(range(20)), b"-OR0100-abcdefghijkl", 6881, 1, 2, 3, "started", 50)
BENCODE_TOKENS = (
    b"d",
    b"l",
    b"e",
    b"i0e",
    b"i-1e",
    b"0:",
    b"1:a",
    b"99999999999:",
    b"i1",
    b"l" * 120,
    b"de",
    b"le",
)
REPLY_TOKENS = (
    *BENCODE_TOKENS,
    b"5:peers",
    b"6:peers6",
    b"8:interval",
    b"12:min interval",
    b"14:failure reason",
    b"2:ip",
    b"4:port",
    b"15:warning message",
    b"8:complete",
    b"10:incomplete",
)
QUERY_TOKENS = (
    b"&",
    b"=",
    b"%",
    b"%00",
    b"%ff",
    b"info_hash=",
    b"peer_id=",
    b"port=",
    b"uploaded=",
    b"downloaded=",
    b"left=",
    b"event=",
    b"stopped",
    b"completed",
    b"numwant=",
    b"compact=0",
    b"no_peer_id=1",
    b"ip=1.2.3.4",
    b"-1",
)
HTTP_TOKENS = (
    *QUERY_TOKENS,
    b"GET ",
    b"POST ",
    b"HEAD ",
    b"/announce?",
    b"/scrape?",
    b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"Host: x\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: keep-alive\r\n",
    b"X-Forwarded-For: 1.2.3.4\r\n",
    b"0\r\n\r\n",
    b"http://[",
    b"http://a:b/",
    b"\t",
    b"Content-Length: " + b"9" * 5000,
    b"Expect: 100-continue\r\n",
)


# Bencode


def check_bencode(data: bytes) -> str:
    """ValueError that is safe to print, or the one value whose canonical form `data` is."""
    try:
        value = bencode.decode(data)
    except ValueError as error:
        assert str(error).isprintable()
        assert len(str(error)) < 300
        return outcome(error)
    assert bencode.encode(value) == data
    return f"a {type(value).__name__} of {min(len(data), 4)}"


def make_bencode(rng: random.Random) -> bytes:
    return bencode.encode(_value(rng, 4))


def _value(rng: random.Random, depth: int) -> object:
    dice = rng.random()
    if depth and dice < 0.3:
        return [_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    if depth and dice < 0.6:
        return {rng.randbytes(rng.randrange(3)): _value(rng, depth - 1) for _ in range(rng.randrange(4))}
    if dice < 0.8:
        return rng.randbytes(rng.randrange(8))
    return rng.choice((0, 1, -1, 255, 2**63 - 1, -(2**63), 2**64 - 1))


# Announces: the question


def check_announce(data: bytes) -> str:
    """A query string, as an announce and as a scrape: AnnounceProblem, or what is asked."""
    said = []
    try:
        query = parse_announce(data)
    except AnnounceProblem as problem:
        assert str(problem).isprintable()
        said.append(outcome(problem))
    else:
        assert parse_announce(format_announce(query).encode()) == query
        said.append(f"announces {query.event} {query.compact} {query.with_ids} {query.wanted is None}")
    try:
        said.append(f"scrapes {min(len(parse_scrape(data)), 2)}")
    except AnnounceProblem as problem:
        assert str(problem).isprintable()
        said.append(outcome(problem))
    return " | ".join(said)


def make_query(rng: random.Random) -> bytes:
    if rng.random() < 0.3:
        return b"&".join(
            b"info_hash=" + quote_from_bytes(rng.randbytes(20)).encode() for _ in range(rng.randrange(4))
        )
    pieces = [*format_announce(QUERY).encode().split(b"&"), b"no_peer_id=1", b"ip=1.2.3.4", b"key=1"]
    rng.shuffle(pieces)
    return b"&".join(pieces)


# Announces: the answer


def check_reply(data: bytes) -> str:
    """The body of a conductor's answer: ReplyProblem, or a Reply within its bounds."""
    loopback = bool(len(data) & 1)
    try:
        reply = parse_reply(data, loopback=loopback)
    except ReplyProblem as problem:
        assert str(problem).isprintable()
        assert len(str(problem)) < 400
        return outcome(problem)
    _check_bounds(reply, loopback=loopback)
    return (
        f"reply {min(len(reply.members), 3)} {bool(reply.warning)} {reply.seeders < 0} {reply.leechers < 0}"
    )


def _check_bounds(reply: Reply, *, loopback: bool) -> None:
    assert len(reply.members) <= MAX_REPLY_MEMBERS
    for address in reply.members:
        assert can_dial(address)
        assert loopback or not is_loopback(address[0])
        netutils.parse_address(netutils.format_address(address))
    assert 0 < reply.interval_s <= MAX_INTERVAL_S
    assert 0 < reply.min_interval_s <= MAX_INTERVAL_S
    assert min(reply.seeders, reply.leechers) >= -1
    assert reply.warning.isprintable()


def make_reply(rng: random.Random) -> bytes:
    if rng.random() < 0.1:
        return format_failure("no such swarm")
    v4 = b"".join(
        rng.choice((rng.randbytes(6), b"\x7f\0\0\1\x1a\xe1", b"\x0a\0\0\1\x1a\xe1"))
        for _ in range(rng.randrange(4))
    )
    v6 = b"".join(rng.choice((rng.randbytes(18), bytes(15) + b"\1\x1a\xe1")) for _ in range(rng.randrange(3)))
    ids = tuple(rng.randbytes(20) for _ in range(len(v4) // 6 + len(v6) // 18))
    counts = Counts(rng.randrange(9), rng.randrange(9), rng.randrange(9))
    answer = Answer(120, 10, counts, v4, v6, ids, rng.choice(("", "you are not listed")))
    return format_answer(answer, compact=rng.random() < 0.5, with_ids=rng.random() < 0.5)


# HTTP: what the conductor is asked


class _Socket:
    """A connection as waitress sees it: what it sends is kept."""

    def __init__(self) -> None:
        self.sent = b""

    def send(self, data: bytes) -> int:
        self.sent += data
        return len(data)

    def getsockopt(self, *_: int) -> int:
        return 65536

    def setblocking(self, *_: object) -> None:
        """It never waits."""

    def fileno(self) -> int:
        return 7

    def close(self) -> None:
        """Nothing is open."""


class _Alarmed:
    """The log of a connection. waitress writes there what it did not expect, and goes on: we do not."""

    @staticmethod
    def info(*_: object) -> None:
        error = sys.exc_info()[1]
        if error is not None:
            raise error

    exception = warning = error = log = info


class _Server:
    """What a connection and its task ask of the server."""

    adj = Adjustments(ident=None, max_request_header_size=MAX_HEADER_BYTES, max_request_body_size=1)
    effective_port = 9999
    server_name = "conductor"

    def __init__(self) -> None:
        self.application = TrackerApp(Tracker(10, clock=_Clock()))
        self.gate = _Gate(Throttle(), b"")
        self.gate.admits = lambda host: True  # type: ignore[method-assign]
        self.active_channels: dict[int, _Channel] = {}
        self.waiting: list[_Channel] = []
        self.add_task = self.waiting.append

    def pull_trigger(self) -> None:
        """Nobody sleeps."""


class _Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 0.5
        return self.now_s


@cache
def _server() -> _Server:
    return _Server()


def check_request(data: bytes) -> str:
    """What a connection sends, in pieces, and all that the web server does with it: answers, and no crash."""
    piece_bytes = max(1 + data[0], len(data) // 32) if data else 1
    server, sock = _server(), _Socket()
    channel = _Channel(server, sock, ("10.0.0.1", 40_000), server.adj, {})  # type: ignore[arg-type]
    channel.logger = _Alarmed()
    for position in range(1, len(data), piece_bytes):
        if not channel.readable():
            break
        channel.received(data[position : position + piece_bytes])
        while server.waiting:
            server.waiting.pop().service()
        if channel.writable():
            channel.handle_write()
    open_still = channel.connected
    channel.handle_close()
    assert not server.active_channels
    return " ".join([*_answers(sock.sent), "open" if open_still else "closed"])


def _answers(sent: bytes) -> Iterator[str]:
    """Each answer, all of it."""
    while sent:
        head, end, rest = sent.partition(b"\r\n\r\n")
        assert end
        first, *lines = head.split(b"\r\n")
        version, status, _ = first.split(b" ", 2)
        assert version in (b"HTTP/1.0", b"HTTP/1.1")
        assert status in (b"100", b"200") or status[:1] in b"45"
        length_bytes = sum(int(line[15:]) for line in lines if line.startswith(b"Content-Length:"))
        assert len(rest) >= length_bytes
        body, sent = rest[:length_bytes], rest[length_bytes:]
        yield f"{status!r} {body[: 4 if status == b'200' else 30]!r}"


def make_request(rng: random.Random) -> bytes:
    path = rng.choice(
        (b"/announce?" + make_query(rng), b"/scrape?" + make_query(rng), b"/", b"/x", b"http://a/announce?")
    )
    lines = [
        rng.choice((b"GET ", b"GET ", b"GET ", b"POST ", b"HEAD "))
        + path
        + b" HTTP/1."
        + rng.choice((b"0", b"1"))
    ]
    lines += rng.choices(
        (
            b"Host: a",
            b"Content-Length: 1",
            b"Accept: */*",
            b"Connection: close",
            b"Expect: 100-continue",
            b"Transfer-Encoding: chunked",
        ),
        k=rng.randrange(4),
    )
    return (
        bytes([rng.choice((255, 255, 0, rng.randrange(256)))])
        + b"\r\n".join(lines)
        + b"\r\n\r\n"
        + rng.choice((b"", b"x"))
    )


# HTTP: what the conductor answers


class _Wire:
    """What the reader of a reply needs of a socket; the answer is there already."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def sendall(self, data: bytes) -> None:
        """Nobody reads the question."""

    def settimeout(self, timeout_s: float | None) -> None:
        """Nothing waits."""

    def makefile(self, _mode: str, *_: object) -> io.BufferedReader:
        return io.BufferedReader(io.BytesIO(self._answer))

    def close(self) -> None:
        """Nothing is open."""


class _Exchange(Exchange):
    """An exchange whose conductor has answered already."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(("127.0.0.1", 9999), QUERY)
        self._answer = answer

    def _fetch(self, deadline: float) -> tuple[bytes, bool]:
        wire: Any = _Wire(self._answer)
        answer: socket.socket = wire
        return self._talk(answer), False


def check_http_reply(data: bytes) -> str:
    """An answer over HTTP: TrackerError that is safe to print, or a Reply within its bounds."""
    try:
        reply = _Exchange(data).run()
    except TrackerError as error:
        assert str(error).isprintable(), str(error)
        assert len(str(error)) < 400
        return outcome(error)
    _check_bounds(reply, loopback=False)
    return "reply"


def make_http_reply(rng: random.Random) -> bytes:
    body = make_reply(rng)
    status = rng.choice(
        (b"200 OK", b"200 OK", b"200 OK", b"302 Found", b"404 Not Found", b"500 x", b"100 Continue")
    )
    lines = [b"HTTP/1.1 " + status, b"Content-Type: text/plain"]
    if rng.random() < 0.3:
        lines.append(b"Transfer-Encoding: chunked")
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    elif rng.random() < 0.8:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


TRACKERS = (
    Target("bencode", check_bencode, make_bencode, BENCODE_TOKENS),
    Target("announce", check_announce, make_query, QUERY_TOKENS, 5000),
    Target("reply", check_reply, make_reply, REPLY_TOKENS),
    Target("request", check_request, make_request, HTTP_TOKENS, 20_000),
    Target("http-reply", check_http_reply, make_http_reply, (*REPLY_TOKENS, *HTTP_TOKENS), 20_000),
)
