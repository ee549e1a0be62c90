"""A process that takes all it can and gives nothing: python tests/greedy.py ORCH HOST:PORT...

From each of these members it fetches every part that it is told of, again and again, with QUEUE
requests on their way to each, on plain sockets. It tells nobody what it has, lets nobody ask, and calls
again whenever it is closed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orchestra.score import Score, parse_score
from tests.scriptedpeer import (
    BITFIELD,
    CHOKE,
    HAVE,
    INTERESTED,
    PIECE,
    PROTOCOL,
    REQUEST,
    UNCHOKE,
    message,
)

BLOCK_BYTES = 16384
QUEUE = 250
"""Requests on their way to each member: what clients of the field keep at most."""
AGAIN_S = 1.0


def main(orch: str, *members: str) -> None:
    """Take until ended."""
    score = parse_score(Path(orch).read_bytes(), orch)
    for member in members:
        host, _, port = member.rpartition(":")
        threading.Thread(target=take, args=(score, host, int(port))).start()


def take(score: Score, host: str, port: int) -> None:
    """From one member, for ever."""
    while True:
        with contextlib.suppress(OSError), socket.create_connection((host, port), 30) as sock:
            hello = PROTOCOL + bytes(8) + score.info_hash + b"-GR0001-" + os.urandom(6).hex().encode()
            sock.sendall(hello + message(INTERESTED))
            _Greed(score, sock).work()
        threading.Event().wait(AGAIN_S)


class _Greed:
    """One connection."""

    def __init__(self, score: Score, sock: socket.socket) -> None:
        self._score = score
        self._sock = sock
        self._parts: list[int] = []
        self._next_part = 0
        self._blocks: list[bytes] = []
        """Requests of the part that is being asked for, the last block first."""
        self._owed = 0
        self._unchoked = False

    def work(self) -> None:
        """Until the member closes."""
        with self._sock.makefile("rb") as stream:
            stream.read(68)
            while len(prefix := stream.read(4)) == 4:
                body = stream.read(int.from_bytes(prefix, "big"))
                if body:
                    self._hear(body[0], body[1:])
                    self._ask()

    def _hear(self, kind: int, payload: bytes) -> None:
        if kind == PIECE:
            self._owed -= 1
        elif kind == CHOKE:
            # What waited there is dropped.
            self._unchoked, self._owed = False, 0
        elif kind == UNCHOKE:
            self._unchoked = True
        elif kind == HAVE:
            self._parts.append(int.from_bytes(payload, "big"))
        elif kind == BITFIELD:
            self._parts += [p for p in range(8 * len(payload)) if payload[p // 8] & 0x80 >> p % 8]

    def _ask(self) -> None:
        wanted = []
        while self._unchoked and self._parts and self._owed < QUEUE:
            if not self._blocks:
                part = self._parts[self._next_part % len(self._parts)]
                self._next_part += 1
                length = self._score.part_length(part)
                self._blocks = [
                    message(REQUEST, struct.pack(">III", part, begin, min(BLOCK_BYTES, length - begin)))
                    for begin in reversed(range(0, length, BLOCK_BYTES))
                ]
            wanted.append(self._blocks.pop())
            self._owed += 1
        if wanted:
            self._sock.sendall(b"".join(wanted))


if __name__ == "__main__":
    main(*sys.argv[1:])
