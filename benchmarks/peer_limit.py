"""The same work without any protocol: what a Python program with two threads can reach at best.

`peer_limit.py send FILE [HOST]` listens and sends FILE to whoever connects;
`peer_limit.py receive FILE SIZE` reads `HOST PORT` from stdin, connects,
receives SIZE bytes, writes them to FILE and computes their SHA-1 in a second
thread, with memory like ours. Events as of peer_libtorrent.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import socket
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orchestra import memory

BUFFER_BYTES = 1 << 20
BUFFERS = 8


def say(event: str, **fields: object) -> None:
    """One line on stdout, in one write."""
    os.write(1, (json.dumps({"event": event, **fields}) + "\n").encode())


def send(path: str, host: str = "127.0.0.1") -> None:
    """Send the file to each caller, one after the other; for ever."""
    with socket.create_server((host, 0)) as listener, open(path, "rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        say("ready", port=listener.getsockname()[1])
        while True:
            sock, _ = listener.accept()
            with sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                buffer = memory.fresh(2 * BUFFER_BYTES)[:BUFFER_BYTES]
                for offset in range(0, size_bytes, BUFFER_BYTES):
                    sock.sendall(buffer[: os.preadv(file.fileno(), [buffer], offset)])


def receive(path: str, size_bytes: int) -> None:
    """Receive and write here, hash in another thread; both work on the same few buffers."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
    whole = memory.fresh(BUFFERS * BUFFER_BYTES)
    for number in range(BUFFERS):
        free.put(whole[number * BUFFER_BYTES : (number + 1) * BUFFER_BYTES])
    filled: queue.SimpleQueue[tuple[memoryview, int] | None] = queue.SimpleQueue()
    sha1 = hashlib.sha1()

    def work() -> None:
        while (piece := filled.get()) is not None:
            buffer, length = piece
            sha1.update(buffer[:length])
            free.put(buffer)

    hasher = threading.Thread(target=work)
    hasher.start()
    say("ready", port=0)
    host, port = sys.stdin.readline().split()
    with socket.create_connection((host, int(port))) as sock:
        got_bytes = 0
        while got_bytes < size_bytes:
            buffer = free.get()
            length = sock.recv_into(buffer)
            if not length:
                sys.exit("the sender has ended")
            os.pwrite(fd, buffer[:length], got_bytes)
            filled.put((buffer, length))
            got_bytes += length
    filled.put(None)
    hasher.join()
    say("done", sha1=sha1.hexdigest())
    sys.stdin.read()


def main() -> None:
    """Run until told to end."""
    if sys.argv[1] == "send":
        send(*sys.argv[2:])
    else:
        receive(sys.argv[2], int(sys.argv[3]))


if __name__ == "__main__":
    main()
