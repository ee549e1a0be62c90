"""How much the system holds of a connection's data, in both directions.

Used by a connection's threads. The system takes megabytes to be sent, and
wakes who receives for each packet: both are wrong for many slow connections.
Where it cannot be told otherwise, nothing here does anything.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time

UNSENT_S = 0.025
LEAST_UNSENT_BYTES = 64 * 1024
MOST_UNSENT_BYTES = 4 << 20
SPEED_S = 0.01
"""Over how long the speed of a connection is taken, at least."""


class Backlog:
    """Keeps what the system holds of a connection's data, and has not sent, to UNSENT_S of its speed.

    A system takes megabytes from each connection and sends from all of them alike: then whose turn it is was
    decided a second ago. It matters on slow lines only; on fast ones a long backlog saves calls.
    """

    def __init__(self) -> None:
        self._limit_bytes = 0
        self._since_s = time.monotonic()
        self._sent_bytes = 0

    def begin(self, sock: socket.socket) -> None:
        """Nothing is known of the speed yet."""
        self._set(sock, LEAST_UNSENT_BYTES)

    def sent(self, sock: socket.socket, length_bytes: int) -> None:
        """So much has been handed to the system."""
        self._sent_bytes += length_bytes
        now_s = time.monotonic()
        elapsed_s = now_s - self._since_s
        if elapsed_s < SPEED_S:
            return
        limit_bytes = int(self._sent_bytes / elapsed_s * UNSENT_S)
        limit_bytes = min(max(limit_bytes, LEAST_UNSENT_BYTES), MOST_UNSENT_BYTES)
        if not self._limit_bytes / 2 < limit_bytes < 2 * self._limit_bytes:
            self._set(sock, limit_bytes)
        self._since_s, self._sent_bytes = now_s, 0

    def _set(self, sock: socket.socket, limit_bytes: int) -> None:
        option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
        if option is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, option, limit_bytes)
        self._limit_bytes = limit_bytes


class Arrival:
    """Waits until data has come in on a blocking socket, and takes none. For one thread."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._least_bytes = 1
        self._poll = None
        if hasattr(select, "poll") and hasattr(socket, "SO_RCVLOWAT"):
            self._poll = select.poll()
            self._poll.register(sock, select.POLLIN)

    def wait(self, least_bytes: int, patience_s: float | None = None) -> None:
        """Until so many bytes are there, or any where the system cannot be told, or the connection has ended.

        After `patience_s` fewer will do. Raises OSError, and EOFError where it has noticed the end.
        """
        if self._poll is None:  # Windows
            if not self._sock.recv(1, socket.MSG_PEEK):
                raise EOFError
            return
        self._ask_for(least_bytes)
        if not self._poll.poll(None if patience_s is None else int(1000 * patience_s)):
            self._ask_for(1)
            self._poll.poll()
        # Else a receive would wait for so many: where the system runs short of memory for what came, fewer
        # count as arrived, and no more do come.
        self._ask_for(1)

    def _ask_for(self, least_bytes: int) -> None:
        if least_bytes != self._least_bytes:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least_bytes)
            self._least_bytes = least_bytes
