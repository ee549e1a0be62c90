"""The line to one peer: what goes out on a connection, whole and in order, from three threads.

Whoever has something to send sends it at once where that takes no waiting: to
wake another thread would cost more. What the system does not take waits for
the connection's own thread, which may be blocked by it.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from orchestra.messages import BlocksSent
from orchestra.shipment import Shipment
from orchestra.socketflow import Backlog

MAX_WAITING = 1000
"""Items that may wait for a peer; more means that it takes nothing in."""
_AT_ONCE = socket.MSG_DONTWAIT if sys.platform.startswith("linux") else 0
"""Elsewhere it is not there, or means something to who receives only."""


class Line:
    """What waits to be sent on connection `key`, and who may send. Reports BlocksSent."""

    def __init__(self, key: int, report: Callable[[Any], None]) -> None:
        self._key = key
        self._report = report
        self._waiting: deque[bytes | Shipment] = deque()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        """One for each that was put to wait, and for the end."""
        self._lock = threading.Lock()
        """Held by who sends. Only then is anything put before what waits, or the socket looked at."""
        self._sock: socket.socket | None = None
        self._backlog = Backlog()
        self._over = False

    @property
    def full(self) -> bool:
        """Whether the peer takes nothing in."""
        return len(self._waiting) >= MAX_WAITING

    def send(self, item: bytes | Shipment) -> None:
        """Any thread: send `item` at once if that takes no waiting, else after all that waits."""
        if _AT_ONCE and self._lock.acquire(blocking=False):
            try:
                if self._sock is not None and not self._waiting and self._begin(self._sock, item):
                    return
            finally:
                self._lock.release()
        self._waiting.append(item)
        self._wake.put(None)

    def _begin(self, sock: socket.socket, item: bytes | Shipment) -> bool:
        """Send what the system takes of `item` now; the rest comes first. False: it took nothing."""
        try:
            if isinstance(item, bytes):
                rest: bytes | Shipment = item[sock.send(item, _AT_ONCE) :]
            else:
                item.sent(sock.sendmsg(item.slots, (), _AT_ONCE))
                rest = item
        except OSError:
            # Full, or broken, which the thread that sends the rest will find out.
            return False
        if isinstance(rest, Shipment) and not rest.left_bytes:
            self._shipped(sock, rest)
        elif rest:
            self._waiting.appendleft(rest)
            self._wake.put(None)
        return True

    def _shipped(self, sock: socket.socket, shipment: Shipment) -> None:
        payload_bytes = shipment.payload_bytes
        shipment.give_back()
        self._backlog.sent(sock, payload_bytes)
        self._report(BlocksSent(self._key, payload_bytes))

    # The connection's side

    def open(self, sock: socket.socket) -> None:
        """From now on anybody may send."""
        self._backlog.begin(sock)
        with self._lock:
            self._sock = sock

    def close(self) -> None:
        """From now on nobody does, and the memory of what still waits is given back."""
        with self._lock:
            self._sock = None
        self.drain()

    def end(self) -> None:
        """Any thread: who waits in `send_waiting` need not wait any more."""
        self._over = True
        self._wake.put(None)

    def drain(self) -> None:
        """Any thread: give back the memory of what will never be sent."""
        while (item := self._next()) is not None:
            if isinstance(item, Shipment):
                item.give_back()

    def send_waiting(self) -> bool:
        """Wait for something, and send all that waits, in one call where it can; False after the end.

        Raises OSError when the connection is broken.
        """
        self._wake.get()
        sock = self._sock
        if self._over or sock is None:
            return False
        with self._lock:
            words = []
            item = self._next()
            while isinstance(item, bytes):
                words.append(item)
                item = self._next()
            try:
                if words:
                    sock.sendall(b"".join(words))
                if item is not None:
                    _send_whole(sock, item)
            except BaseException:
                # A message may have been cut: nothing may follow it.
                self._sock = None
                if item is not None:
                    item.give_back()
                raise
            if item is not None:
                self._shipped(sock, item)
        return True

    def _next(self) -> bytes | Shipment | None:
        with contextlib.suppress(IndexError):
            return self._waiting.popleft()
        return None


def _send_whole(sock: socket.socket, shipment: Shipment) -> None:
    if not hasattr(sock, "sendmsg"):  # Windows
        sock.sendall(b"".join(shipment.slots))
        return
    while shipment.left_bytes:
        shipment.sent(sock.sendmsg(shipment.slots))
