"""What each step of a transfer costs by itself: `peer_steps.py FILE OUT`.

FILE is read, OUT is written; each step does what a member does with 1 MiB at a
time, over the whole file, in one thread. Says {"event": "measured", ...} with
CPU seconds a GiB.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from orchestra.buffers import Pool  # noqa: E402 - a script in a folder beside the package
from orchestra.decoder import Decoder  # noqa: E402
from orchestra.landing import SLOTS, Landing  # noqa: E402
from orchestra.shipment import Shipment  # noqa: E402
from orchestra.wire import BLOCK_BYTES, encode_requests  # noqa: E402

MIB = 1 << 20
GIB = 1 << 30
HOPS = 20_000


def main() -> None:
    """Measure every step once."""
    source, target = sys.argv[1:]
    size_bytes = os.stat(source).st_size
    steps = {
        "read": lambda: read(source),
        "hash": lambda: hash_mib(size_bytes),
        "hash_16k": lambda: hash_small(size_bytes),
        "write": lambda: write(target, size_bytes),
        "rewrite": lambda: write(target, size_bytes),
        "ask": lambda: ask(size_bytes),
        "lay_out": lambda: lay_out(size_bytes),
        "decode": lambda: decode(size_bytes),
    }
    gibs = size_bytes / GIB
    figures = {name: cpu_of(step) / gibs for name, step in steps.items()}
    figures["send"], figures["receive"] = (used_s / gibs for used_s in through_a_socket(size_bytes))
    figures["hop"], figures["waking_hop"] = hops(), waking_hops()
    os.write(1, (json.dumps({"event": "measured", **figures}) + "\n").encode())


def cpu_of(step: Callable[[], None]) -> float:
    """CPU seconds of this thread."""
    began_s = time.thread_time()
    step()
    return time.thread_time() - began_s


def read(path: str) -> None:
    """From the file into memory of our own."""
    buffer = memoryview(bytearray(MIB))
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def hash_mib(size_bytes: int) -> None:
    """SHA-1 of parts of 1 MiB."""
    data = bytes(MIB)
    for _ in range(size_bytes // MIB):
        hashlib.sha1(data).digest()


def hash_small(size_bytes: int) -> None:
    """SHA-1 of parts of 16 KiB."""
    data = memoryview(bytes(MIB))
    for _ in range(size_bytes // MIB):
        for begin in range(0, MIB, BLOCK_BYTES):
            hashlib.sha1(data[begin : begin + BLOCK_BYTES]).digest()


def write(path: str, size_bytes: int) -> None:
    """Into the file; the first time its pages have to be found."""
    data = bytes(MIB)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    for offset in range(0, size_bytes, MIB):
        os.pwrite(fd, data, offset)
    os.close(fd)


def ask(size_bytes: int) -> None:
    """Requests for every block, as bytes."""
    spans = [(0, begin, BLOCK_BYTES) for begin in range(0, MIB, BLOCK_BYTES)]
    for _ in range(size_bytes // MIB):
        encode_requests(spans)


def lay_out(size_bytes: int) -> None:
    """The seeder's side of every block: a header before it."""
    shipment = Shipment(Pool(1, Shipment))
    spans = [(0, begin, BLOCK_BYTES) for begin in range(0, MIB, BLOCK_BYTES)]
    for _ in range(size_bytes // MIB):
        shipment.load(spans, MIB)


def decode(size_bytes: int) -> None:
    """The leecher's side of every block: its header is found and believed."""
    shipment = Shipment(Pool(1, Shipment))
    shipment.load([(0, begin, BLOCK_BYTES) for begin in range(0, MIB, BLOCK_BYTES)], MIB)
    stream = b"".join(shipment.slots)
    landing, decoder = Landing(Pool(1, Landing)), Decoder(1, MIB)
    landing.lay(stream)
    for _ in range(size_bytes // MIB):
        messages, _rest = landing.decode(len(stream), decoder)
        assert len(messages) == 1


def through_a_socket(size_bytes: int) -> tuple[float, float]:
    """The same memory through a TCP connection: CPU seconds of the sending and of the receiving thread."""
    shipment = Shipment(Pool(1, Shipment))
    shipment.load([(0, begin, BLOCK_BYTES) for begin in range(0, MIB, BLOCK_BYTES)], MIB)
    messages, length_bytes = shipment.slots, shipment.left_bytes
    whole = length_bytes * (size_bytes // MIB)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = socket.create_connection(listener.getsockname())
        receiver, _ = listener.accept()
    used_s: list[float] = []

    def send() -> None:
        for _ in range(size_bytes // MIB):
            shipment.slots, shipment.left_bytes = messages, length_bytes
            while shipment.left_bytes:
                shipment.sent(sender.sendmsg(shipment.slots))

    with sender, receiver:
        thread = threading.Thread(target=lambda: used_s.append(cpu_of(send)))
        thread.start()
        receiving_s = cpu_of(lambda: _receive(receiver, whole))
        thread.join()
    return used_s[0], receiving_s


def _receive(sock: socket.socket, whole: int) -> None:
    landing = Landing(Pool(1, Landing))
    got = filled = 0
    while got < whole:
        length = sock.recvmsg_into(landing.room(filled))[0]
        got += length
        filled = (filled + length) % (SLOTS * (BLOCK_BYTES + 13))


def hops() -> float:
    """Seconds for a message through a queue when nobody sleeps at its end."""
    inbox: queue.SimpleQueue[int] = queue.SimpleQueue()
    began_s = time.thread_time()
    for number in range(HOPS):
        inbox.put(number)
        inbox.get()
    return (time.thread_time() - began_s) / HOPS


def waking_hops() -> float:
    """Seconds of wall time for a message that wakes a sleeping thread."""
    there: queue.SimpleQueue[bool] = queue.SimpleQueue()
    back: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def echo() -> None:
        while there.get():
            back.put(True)

    thread = threading.Thread(target=echo)
    thread.start()
    began_s = time.monotonic()
    for _ in range(HOPS):
        there.put(True)
        back.get()
    took_s = time.monotonic() - began_s
    there.put(False)
    thread.join()
    return took_s / (2 * HOPS)


if __name__ == "__main__":
    main()
