"""The thread that serves HTTP: waitress, with bounds on what a stranger may cost.

Owns the listening sockets and all connections. waitress has one loop, in this
thread, and a few handler threads of its own, which end with it; a slow client
costs no thread.

Rules: a connection carries one request, and has REQUEST_TIMEOUT_S to send it,
however busily it trickles. When too many are open, or the system has no more to
give, the oldest one that has not asked yet makes room: whoever holds connections
open keeps out nobody who has something to ask. Who asks too often (throttle.py)
gets status 429 from the loop, before anything is parsed.

waitress logs an exception that it did not expect, drops the connection, and goes
on. With us that is a bug, and ends the program: see _Alarm.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from socket import socket
from typing import Any

from waitress import wasyncore  # type: ignore[import-untyped]
from waitress.adjustments import Adjustments  # type: ignore[import-untyped]
from waitress.channel import ClientDisconnected, HTTPChannel  # type: ignore[import-untyped]
from waitress.parser import (  # type: ignore[import-untyped]
    HTTPRequestParser,
    ParsingError,
    TransferEncodingNotImplemented,
)
from waitress.server import TcpWSGIServer  # type: ignore[import-untyped]
from waitress.task import ThreadedTaskDispatcher, WSGITask  # type: ignore[import-untyped]

from orchestra.messages import ThreadEnded
from orchestra.text import safe
from orchestra.throttle import Throttle
from orchestra.worker import ThreadCrashed, Worker

HANDLERS = 4
BACKLOG = 1024
ACCEPTED_A_ROUND = 32
MAX_HEADER_BYTES = 8192
REQUEST_TIMEOUT_S = 4.0  # and up to a second until the loop looks
MAX_CONNECTIONS = 800
MAX_CONNECTIONS_ON_WINDOWS = 400  # its select() takes 512 sockets
SPARE_DESCRIPTORS = 32 + 2 * ACCEPTED_A_ROUND  # a round may let in so many before the first makes room
STARVED_REST_S = 0.1
LOGGED_A_PLACE = 5
_STOP_TIMEOUT_S = 1.0
_SPACES = re.compile(rb"[ \t]+")
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
_LOGGERS = ("waitress", "waitress.queue")

log = logging.getLogger(__name__)


class WebServer(Worker):
    """Serves a WSGI application on listening sockets until `stop`; its last word is ThreadEnded.

    A bug in its threads, or in the application, is ThreadCrashed; who asked gets status 500.

    Raises OSError when the system has not what it needs, RuntimeError when it has no threads.

    `throttle` is asked for each request, and then the server's own; who is refused gets the body
    `refusal`. `beat` is called at least once a second while the server serves.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        listeners: list[socket],
        report: Callable[[object], None],
        *,
        throttle: Throttle | None = None,
        refusal: bytes = b"Too many requests.\n",
        beat: Callable[[], object] = time.monotonic,
    ) -> None:
        super().__init__("webserver", report)
        self._map: dict[int, Any] = {}
        self._leaving = False
        self._filters = (_Alarm(report), _Seldom())
        settings = Adjustments(
            sockets=listeners,  # else it would look up an address of its own
            backlog=BACKLOG,
            ident=None,
            max_request_header_size=MAX_HEADER_BYTES,
            max_request_body_size=1,
            connection_limit=sys.maxsize,  # it would stop accepting there; _Channel makes room instead
            channel_timeout=sys.maxsize,  # it goes by the wall clock; _Channel has a deadline of its own
            log_socket_errors=False,
        )
        self._handlers = ThreadedTaskDispatcher()
        try:
            self._handlers.set_thread_count(HANDLERS)
        except RuntimeError:  # no more threads in this system: end those that there are
            self._handlers.shutdown(timeout=_STOP_TIMEOUT_S)
            raise
        try:
            # Each puts itself into the map.
            self._servers = [
                _Listener(
                    app,
                    self._map,
                    _sock=sock,
                    dispatcher=self._handlers,
                    adj=settings,
                    sockinfo=(sock.family, sock.type, sock.proto, sock.getsockname()),
                    bind_socket=False,
                )
                for sock in listeners
            ]
        except OSError:
            self._close()
            raise
        gate = _Gate(Throttle() if throttle is None else throttle, refusal)
        for server in self._servers:
            server.gate = gate
            server.beat = beat
        self._trigger = self._servers[0].trigger

    def work(self) -> None:
        """Serve until `stop`; then finish what is being answered, and close everything."""
        for each, name in itertools.product(self._filters, _LOGGERS):
            logging.getLogger(name).addFilter(each)
        try:
            while self._map and not self._leaving:
                rests = any(server.rests for server in self._servers)
                patience_s = STARVED_REST_S if rests else 1.0
                wasyncore.loop(timeout=patience_s, use_poll=True, map=self._map, count=1)
        finally:
            self._close()
            for each, name in itertools.product(self._filters, _LOGGERS):
                logging.getLogger(name).removeFilter(each)
        self._report(ThreadEnded(self.name))

    def _close(self) -> None:
        self._handlers.shutdown(timeout=_STOP_TIMEOUT_S)
        for connection in list(self._map.values()):
            connection.close()

    def stop(self) -> None:
        """Have the thread end, at once. Call it once, from any thread; then `join`."""
        self._leaving = True
        if self.is_alive():
            with contextlib.suppress(OSError):  # the loop looks once a second in any case
                self._trigger.pull_trigger()


class _Gate:
    """Who may ask now, and the whole answer to those who may not. In the loop's thread."""

    def __init__(self, throttle: Throttle, body: bytes) -> None:
        self._throttle = throttle
        # Clients wait as long as they always do after a failure, and hardly any reads Retry-After:
        # libtorrent 16 s, aria2 its interval, our member 1 s and more (schedule.py). But after a failure
        # reason with status 200, libtorrent waits for half an hour.
        head = (
            "HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nContent-Type: text/plain\r\n"
            f"Content-Length: {len(body)}\r\nRetry-After: {throttle.refill_s}\r\n\r\n"
        )
        self.refusal = head.encode() + body
        self._said = False

    def admits(self, host: str) -> bool:
        """Whether a request from there is let in."""
        admitted = self._throttle.admit(host, time.monotonic())
        if not admitted and not self._said:
            self._said = True
            log.warning("%s asks too often, and is told to wait; others will not be logged", safe(host))
        return admitted


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """Answers 400 where waitress would only close: an address like http://[, a length of 5,000 digits.

    And where it would take seconds: its patterns go back to each of thousands of places when the end of a
    line does not fit.
    """

    path = ""  # which waitress logs when the client has left, and has none of when it could not parse it

    def parse_header(self, header_plus: bytes) -> None:
        first_line, end, fields = header_plus.partition(b"\r\n")
        _, _, version = first_line.rstrip().partition(b" ")[2].partition(b" ")
        if version and not _VERSION.fullmatch(version):
            raise ParsingError("Start line is invalid")
        try:
            super().parse_header(first_line + end + _SPACES.sub(b" ", fields))
        except (ParsingError, TransferEncodingNotImplemented, ValueError) as error:
            # Else waitress would ask for the body of what it refuses, and go on parsing.
            self.expect_continue = False
            if isinstance(error, ValueError):
                raise ParsingError("Malformed number or address") from None
            raise


class _OneRequest(WSGITask):  # type: ignore[misc]
    """Answers a request and closes: whoever comes back in two minutes need not hold a connection."""

    def start(self) -> None:
        super().start()
        self.set_close_on_finish()


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection with a deadline. In the loop's thread, but for its task."""

    task_class = _OneRequest
    parser_class = _Parser

    def __init__(self, server: Any, sock: socket, addr: Any, adj: Any, map: dict[int, Any]) -> None:  # noqa: A002
        super().__init__(server, sock, addr, adj, map=map)
        self._deadline_s = time.monotonic() + REQUEST_TIMEOUT_S
        self._admitted = False
        if len(map) > _max_connections():
            _make_room(map, but=self)

    def readable(self) -> bool:
        """Asked by the loop at least once a second."""
        if not self.requests and time.monotonic() > self._deadline_s:
            self.will_close = True
        return bool(super().readable())

    def received(self, data: bytes) -> bool:
        """The first bytes of a request are what counts as one."""
        if not self._admitted and not self.server.gate.admits(self.addr[0]):
            self._refuse()
            return False
        self._admitted = True
        return bool(super().received(data))

    def _refuse(self) -> None:
        """Say so and close, without parsing: a flood is to cost as little as can be."""
        refusal = self.server.gate.refusal
        with self.outbuf_lock:
            self.outbufs[-1].append(refusal)
            self.total_outbufs_len += len(refusal)
        self.close_when_flushed = True


def _make_room(map: dict[int, Any], but: object = None, *, share: int = 0) -> None:  # noqa: A002
    """Close the oldest one that has not asked; with `share`, so large a part of them, and one at least."""
    silent = (
        each
        for each in map.values()  # the oldest first
        if isinstance(each, HTTPChannel) and each is not but and not (each.requests or each.will_close)
    )
    chosen = list(silent if share else itertools.islice(silent, 1))
    for each in chosen[: -(-len(chosen) // share) if share else 1]:
        # Closed in the loop's next round: in this one, its number must not be reused.
        each.will_close = True


class _Listener(TcpWSGIServer):  # type: ignore[misc]
    """A listening socket. waitress would let in one connection in each round of its loop.

    A round with many busy connections is long, and those who wait would wait for as many rounds.
    """

    gate: _Gate
    beat: Callable[[], object]
    _rests_until_s = 0.0
    _starved = False

    @property
    def rests(self) -> bool:
        """True for a moment after the system had nothing to give."""
        return time.monotonic() < self._rests_until_s

    def readable(self) -> bool:
        """Asked by the loop at least once a second."""
        self.beat()
        return bool(super().readable()) and not self.rests

    def handle_error(self) -> None:
        """Whatever it is, nobody would be let in any more: it ends the loop's thread."""
        raise  # noqa: PLE0704 - called where the exception is handled

    def handle_accept(self) -> None:
        """Let in all who wait, within reason."""
        for _ in range(ACCEPTED_A_ROUND):
            try:
                accepted = self.accept()
            except OSError as error:
                self._rest(error)
                return
            if accepted is None:
                return
            self._let_in(*accepted)

    def _let_in(self, sock: socket, address: Any) -> None:
        """Open a channel, unless the connection has been reset already: macOS says so only now."""
        try:
            self.set_socket_options(sock)
            _Channel(self, sock, address, self.adj, map=self._map)
        except OSError:
            sock.close()

    def _rest(self, error: OSError) -> None:
        """The system has no socket to give (EMFILE, ENFILE, ENOBUFS): else the loop would spin.

        Half of those who have not asked make room; the others may have come just now.
        """
        self._rests_until_s = time.monotonic() + STARVED_REST_S
        _make_room(self._map, share=2)
        if not self._starved:
            self._starved = True
            log.warning("cannot let anybody in for now: %s", error.strerror or error)


class _Alarm(logging.Filter):
    """Reports what waitress says while it handles an exception that no stranger can be blamed for.

    It does so in its loop, its handler threads, and where it sends or closes something, and nowhere else
    can one learn of it. An OSError is the network's, or the client's.
    """

    def __init__(self, report: Callable[[object], None]) -> None:
        super().__init__()
        self._report = report

    def filter(self, record: logging.LogRecord) -> bool:
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError | ClientDisconnected):
            self._report(ThreadCrashed(threading.current_thread().name, error))
        return bool(super().filter(record))


class _Seldom(logging.Filter):
    """Lets only the first few records from each place pass: strangers can cause any number."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: Counter[tuple[str, int]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        place = (record.pathname, record.lineno)
        self._seen[place] += 1
        return self._seen[place] <= LOGGED_A_PLACE


def _max_connections() -> int:
    """How many connections may be open, within what the system allows the process."""
    if sys.platform == "win32":
        return MAX_CONNECTIONS_ON_WINDOWS
    import resource  # noqa: PLC0415 - POSIX only

    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(16, min(MAX_CONNECTIONS, allowed - SPARE_DESCRIPTORS))
