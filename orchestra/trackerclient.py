"""One announce to one conductor over HTTP, bounded in time and size, and abortable.

`Exchange.run` is called once, by the announcer's thread, which owns the socket;
`abort` may be called from any thread. Nothing is followed or believed: no
redirect, no proxy from the environment, no compressed body, at most 256 KiB;
one deadline covers the connection, the headers and the body, however slowly
they trickle in. Only the lookup of a host name escapes it (netutils.dial).
"""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from typing import TYPE_CHECKING

import netutils
from netutils import Address
from orchestra import __version__
from orchestra.addresses import is_loopback, may_be_conductor
from orchestra.announce import AnnounceQuery, format_announce
from orchestra.announcereply import MAX_REPLY_BYTES, Reply, ReplyProblem, parse_reply
from orchestra.httpreply import read_body
from orchestra.text import safe

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

EXCHANGE_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 10.0
MAX_HEADER_BYTES = 64 * 1024
# ReplyProblem is a ValueError.
_FAILURES = (OSError, ValueError)


class TrackerError(Exception):
    """A conductor did not answer an announce. The text says why, and is safe to print."""


class GivenUp(TrackerError):
    """`abort` ended the exchange. `heard`: the conductor may have heard what we announced."""

    def __init__(self, *, heard: bool) -> None:
        super().__init__("given up")
        self.heard = heard


class Exchange:
    """One announce to one conductor."""

    def __init__(
        self, conductor: Address, query: AnnounceQuery, *, timeout_s: float = EXCHANGE_TIMEOUT_S
    ) -> None:
        self._conductor = conductor
        self._query = query
        self._timeout_s = timeout_s
        # Guards the closing of the sockets against `abort`, which must not meet a reused descriptor.
        self._lock = threading.Lock()
        self._cancel = netutils.Cancel()
        self._sock: _TimedSocket | None = None
        self._heard = False

    def run(self) -> Reply:
        """Announce and return the answer. Raises TrackerError; GivenUp after `abort`."""
        deadline = time.monotonic() + self._timeout_s
        try:
            body, loopback = self._fetch(deadline)
            return parse_reply(body, loopback=loopback)
        except _FAILURES as error:
            if self._cancel.is_set:
                raise GivenUp(heard=self._heard) from None
            raise TrackerError(_reason(error)) from None
        finally:
            with self._lock:
                self._cancel.close()

    def abort(self) -> None:
        """Make `run` raise GivenUp at once, whatever it waits for but a name lookup. Any thread."""
        with self._lock:
            self._cancel.set()
            if self._sock is not None:
                netutils.shut(self._sock)

    def _fetch(self, deadline: float) -> tuple[bytes, bool]:
        """The body of the reply, and whether it came from this machine."""
        left_s = max(0.0, deadline - time.monotonic())
        dialled = netutils.dial(
            self._conductor, min(CONNECT_TIMEOUT_S, left_s), cancel=self._cancel, allowed=self._may_be_asked
        )
        with self._lock:
            sock = self._sock = _TimedSocket(dialled, deadline, MAX_HEADER_BYTES + MAX_REPLY_BYTES)
        try:
            remote, _ = netutils.address_of(sock.getpeername())
            if self._cancel.is_set:
                raise ConnectionAbortedError(errno.ECONNABORTED, "given up")
            return self._talk(sock), is_loopback(remote)
        finally:
            with self._lock:
                self._sock = None
                sock.close()

    def _may_be_asked(self, literal: str) -> bool:
        return may_be_conductor(self._conductor[0], literal, own_name=socket.gethostname())

    def _talk(self, sock: socket.socket) -> bytes:
        host, port = self._conductor
        lines = (
            f"GET /announce?{format_announce(self._query)} HTTP/1.1",
            f"Host: {netutils.format_address((host.partition('%')[0], port))}",  # RFC 6874: no scope in it
            f"User-Agent: Orchestra/{__version__}",
            "Accept-Encoding: identity",
            "Connection: close",
            "\r\n",
        )
        self._heard = True
        sock.sendall("\r\n".join(lines).encode("ascii"))
        return read_body(sock)


class _TimedSocket(socket.socket):
    """A connection that reads only until a deadline, and only so many bytes, however it is asked.

    Its file reads by `recv_into`, any number of times for the headers alone: a
    timeout for each would never end against a server that sends a byte now and then.
    """

    def __init__(self, dialled: socket.socket, deadline: float, budget_bytes: int) -> None:
        super().__init__(fileno=dialled.detach())
        self._deadline = deadline
        self._budget_bytes = budget_bytes

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0, /) -> int:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        self.settimeout(left_s)
        count = super().recv_into(buffer, nbytes, flags)
        self._budget_bytes -= count
        if self._budget_bytes < 0:
            raise OSError(errno.EMSGSIZE, f"the reply is longer than {MAX_REPLY_BYTES} bytes")
        return count


def _reason(error: Exception) -> str:
    """What went wrong, in a few words that name the cause rather than the library."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, socket.gaierror):
        return f"the host is not found ({safe(error.strerror or str(error), 80)})"
    if isinstance(error, ReplyProblem):
        return str(error)
    if isinstance(error, OSError):
        return safe(error.strerror or str(error), 120)
    return safe(str(error) or type(error).__name__, 120)
