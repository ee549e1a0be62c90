"""Conductors of the benchmarks: a real one to be asked who is there, and one that notes when it is told what.

Main thread; the noting one has a thread of its own that accepts and answers.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import urllib.request
from types import TracebackType
from urllib.parse import parse_qs, quote, urlsplit

from benchmarks.processes import PATIENCE_S, ROOT, BenchmarkError, Stage
from netutils import Address
from orchestra import bencode

LOCAL = "127.0.0.1"
LOOK_S = 0.02


class Conductor:
    """conductor.py, running in a stage."""

    def __init__(self, stage: Stage) -> None:
        arguments = ("--host", LOCAL, "--port", 0, "--json", "--log-dir", stage.folder / "logs")
        process = stage.python(ROOT / "conductor.py", *arguments, label="conductor")
        _, event = process.wait_for("listening")
        self.address: Address = (LOCAL, event["port"])

    def wait_for_seeders(self, info_hash: bytes, number: int) -> None:
        """Wait until it knows that many members that have everything (BEP 48)."""
        url = f"http://{LOCAL}:{self.address[1]}/scrape?info_hash={quote(info_hash, safe='')}"
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            with urllib.request.urlopen(url, timeout=PATIENCE_S) as reply:
                if _seeders(reply.read(), info_hash) >= number:
                    return
            time.sleep(LOOK_S)
        raise BenchmarkError(f"the conductor was not told of {number} seeders in {PATIENCE_S:.0f} s")


def _seeders(scraped: bytes, info_hash: bytes) -> int:
    answer = bencode.decode(scraped)
    assert isinstance(answer, dict)
    files = answer.get(b"files", {})
    assert isinstance(files, dict)
    swarm = files.get(info_hash, {})
    assert isinstance(swarm, dict)
    seeders = swarm.get(b"complete", 0)
    assert isinstance(seeders, int)
    return seeders


class NotingConductor:
    """Notes when each announce came. Knows nobody. `answers`: else it accepts and is silent. In a `with`."""

    REPLY = bencode.encode({"interval": 1800, "peers": b""})

    def __init__(self, *, answers: bool = True) -> None:
        self._answers = answers
        self._closing = False
        self._noted: list[tuple[float, str]] = []
        self._news = threading.Condition()
        self._listener = socket.create_server((LOCAL, 0))
        self._open: list[socket.socket] = []
        self.address: Address = (LOCAL, self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def __enter__(self) -> NotingConductor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        socket.create_connection(self.address).close()  # wakes the thread
        self._thread.join()
        for sock in (self._listener, *self._open):
            sock.close()

    def wait_for(self, event: str, timeout_s: float = PATIENCE_S) -> float:
        """When the announce of that event came. Raises BenchmarkError."""
        deadline_s = time.monotonic() + timeout_s
        with self._news:
            while True:
                for at_s, noted in self._noted:
                    if noted == event:
                        return at_s
                if not self._news.wait(max(0.0, deadline_s - time.monotonic())):
                    raise BenchmarkError(f"nobody announced {event!r} in {timeout_s:.0f} s")

    def told(self, event: str) -> bool:
        """Whether that event was announced so far."""
        with self._news:
            return any(noted == event for _, noted in self._noted)

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            self._open.append(sock)
            if self._closing:
                return
            sock.settimeout(1.0)
            with contextlib.suppress(OSError):
                self._serve(sock)

    def _serve(self, sock: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head and (data := sock.recv(4096)):
            head += data
        now_s = time.monotonic()
        if not head:
            return
        event = parse_qs(urlsplit(head.split(b" ")[1].decode("latin-1")).query).get("event", [""])[0]
        with self._news:
            self._noted.append((now_s, event))
            self._news.notify_all()
        if self._answers:
            length = f"Content-Length: {len(self.REPLY)}\r\nConnection: close\r\n\r\n"
            sock.sendall(b"HTTP/1.1 200 OK\r\n" + length.encode() + self.REPLY)
            sock.shutdown(socket.SHUT_RDWR)
