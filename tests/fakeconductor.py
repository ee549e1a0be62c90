"""A conductor that answers as a test tells it to: right, wrong, slowly or not at all."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Callable
from types import TracebackType

import netutils
from netutils import Address

PATIENCE_S = 10.0
Script = Callable[[socket.socket], None]


class FakeConductor:
    """Runs the next of `scripts` (the last one again and again) for each request, in a thread.

    The connection is closed when its script returns. A script of None never
    answers. `requests` gets each request's head as it came. `ended` is set when
    the test is over, so that a script may wait as long as the test lasts.
    """

    def __init__(self, *scripts: Script | None, host: str = "127.0.0.1") -> None:
        self.requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.ended = threading.Event()
        self._scripts = list(scripts)
        self._cancel = netutils.Cancel()
        self._listeners = netutils.listen(host, 0)
        self.address: Address = netutils.address_of(self._listeners[0].getsockname())
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> FakeConductor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self._cancel.set()
        self._threads[0].join(PATIENCE_S)
        for sock in self._open:
            netutils.shut(sock)
        for thread in self._threads:
            thread.join(PATIENCE_S)
        for sock in (*self._listeners, *self._open):
            sock.close()
        self._cancel.close()

    def _accept(self) -> None:
        while (accepted := netutils.accept(self._listeners, self._cancel)) is not None:
            self._open.append(accepted[0])
            self._threads.append(threading.Thread(target=self._serve, args=accepted[:1]))
            self._threads[-1].start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head and (data := sock.recv(4096)):
                head += data
            script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
            self.requests.put(head)
            if script is None:
                self.ended.wait()
            else:
                script(sock)
        netutils.shut(sock)


def http_reply(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    """A reply as a well-behaved server sends it."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def replying(data: bytes) -> Script:
    """A script that sends exactly this."""
    return lambda sock: sock.sendall(data)
