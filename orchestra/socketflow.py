"""How much the system holds of a connection's data, in both directions.

Used by connections and the receiver. The system takes megabytes to be sent, and
wakes who receives for each packet: both are wrong for many slow connections.
Where it cannot be told otherwise, nothing here does anything.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import time

_log = logging.getLogger("orchestra.socketflow")

UNSENT_S = 0.025
LEAST_UNSENT_BYTES = 64 * 1024
MOST_UNSENT_BYTES = 4 << 20
RINGS = 3
"""How often to try to wake a thread."""
SPEED_S = 0.01
"""Over how long the speed of a connection is taken, at least."""


def for_turns(sock: socket.socket) -> None:
    """Prepare a connection for a line at which several take turns, where the system chose BBR for it.

    BBR sends as fast as the line was of late, when it was another one's turn; CUBIC sends what it may.
    """
    option = getattr(socket, "TCP_CONGESTION", None)
    if option is not None:
        with contextlib.suppress(OSError):
            if sock.getsockopt(socket.IPPROTO_TCP, option, 16).rstrip(b"\0").startswith(b"bbr"):
                sock.setsockopt(socket.IPPROTO_TCP, option, b"cubic")


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
    """How many bytes must have come in before a socket counts as readable."""

    can_gather = sys.platform.startswith("linux") and hasattr(socket, "SO_RCVLOWAT")
    """Elsewhere all that comes wakes who waits: a selector that waits already may not notice that fewer bytes
    will do now."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._least_bytes = 1

    def ask_for(self, least_bytes: int) -> None:
        """From now on so many, or the end of the stream. Raises OSError."""
        if least_bytes != self._least_bytes and self.can_gather:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least_bytes)
            self._least_bytes = least_bytes


class Bell:
    """Wakes one thread that waits in a selector, from any other."""

    def __init__(self) -> None:
        self._waiting, self._waking = socket.socketpair()
        self._waiting.setblocking(False)
        self._waking.setblocking(False)

    def ring(self) -> None:
        """Make `fileno` readable until it is hushed."""
        for _ in range(RINGS):
            try:
                self._waking.send(b"!")
            except BlockingIOError:
                return  # It has been rung so often that one more makes no difference.
            except OSError as error:
                # No memory for a byte. Who is not woken now looks when anything else comes.
                _log.warning("cannot wake a thread: %s", error.strerror)
            else:
                return

    def hush(self) -> None:
        """Who was rung for has come."""
        with contextlib.suppress(OSError):
            self._waiting.recv(4096)

    def fileno(self) -> int:
        """The descriptor that turns readable, for selectors."""
        return self._waiting.fileno()

    def close(self) -> None:
        """Release the sockets; nobody may wait with it any more."""
        self._waiting.close()
        self._waking.close()
