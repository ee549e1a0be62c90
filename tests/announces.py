"""Announces by the thousand, over plain sockets: the load that a conductor is put under."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from netutils import Address
from orchestra.announce import AnnounceQuery, format_announce

PATIENCE_S = 30.0


def query_for(info_hash: bytes, port: int, event: str = "", *, left: int = 1) -> AnnounceQuery:
    """What a member on `port` would ask."""
    return AnnounceQuery(
        info_hash=info_hash,
        peer_id=b"-OR0100-%012d" % port,
        port=port,
        uploaded_bytes=0,
        downloaded_bytes=0,
        left_bytes=left,
        event=event,
    )


def request_for(query: AnnounceQuery) -> bytes:
    """The request that asks it."""
    return f"GET /announce?{format_announce(query)} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def exchange(conductor: Address, request: bytes, source: str = "") -> bytes:
    """Send a request, from `source` if given; the whole answer, or what came of it before a reset."""
    reply = b""
    family = socket.AF_INET6 if ":" in conductor[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock, contextlib.suppress(ConnectionError):
        sock.settimeout(PATIENCE_S)
        if source:
            sock.bind((source, 0))
        sock.connect(conductor)
        sock.sendall(request)
        while data := sock.recv(65536):
            reply += data
    return reply


def local_sources() -> Iterator[str]:
    """Addresses of this machine, each another one: 127.0.1.1, 127.0.1.2 and so on (Linux has them all)."""
    for number in range(256, 1 << 24):
        if number % 256 not in (0, 255):
            yield f"127.{number >> 16}.{number >> 8 & 255}.{number & 255}"


class Timer:
    """A good member that asks again and again; how long each answer took."""

    def __init__(self, conductor: Address, info_hash: bytes) -> None:
        self.took_s: list[float] = []
        self.failed = 0
        self._conductor = conductor
        self._request = request_for(query_for(info_hash, 6999))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Timer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(2 * PATIENCE_S)

    def _run(self) -> None:
        while not self._ended.wait(0.02):
            begun_s = time.monotonic()
            reply = exchange(self._conductor, self._request)
            self.took_s.append(time.monotonic() - begun_s)
            self.failed += not reply.startswith(b"HTTP/1.1 200")

    def percentile(self, percent: float) -> float:
        """So many of a hundred answers came within so many seconds."""
        ordered = sorted(self.took_s)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def at_a_rate(count: int, a_second: float, work: Callable[[int], None], threads: int = 8) -> None:
    """Call `work` with 0 to count - 1, so often a second in all, on several threads."""
    begun_s = time.monotonic()
    numbers = iter(range(count))
    lock = threading.Lock()

    def run() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            time.sleep(max(0.0, begun_s + number / a_second - time.monotonic()))
            work(number)

    running = [threading.Thread(target=run) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


def memory_mib(pid: int, what: str = "VmRSS") -> float:
    """What a process has (VmRSS), or has had at most (VmHWM), in MiB; 0 where there is no /proc."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    found = re.search(rf"^{what}:\s*(\d+)", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def cpu_s(pid: int) -> float:
    """How much processor time a process has had; 0 where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / 100  # utime and stime, in hundredths


def threads_of(pid: int) -> int:
    """How many threads a process has; 0 where there is no /proc."""
    folder = Path(f"/proc/{pid}/task")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def descriptors_of(pid: int) -> int:
    """How many descriptors a process has open; 0 where there is no /proc."""
    folder = Path(f"/proc/{pid}/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def random_hashes(count: int, seed: int) -> list[bytes]:
    """So many info-hashes."""
    chance = random.Random(seed)
    return [chance.randbytes(20) for _ in range(count)]
