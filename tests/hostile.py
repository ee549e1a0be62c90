"""A process that calls a member and does one kind of harm: python tests/hostile.py KIND ORCH FILE PORT.

It calls again whenever it is closed, until it is ended.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import socket
import struct
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orchestra.score import parse_score
from tests.scriptedpeer import BITFIELD, CHOKE, HAVE, INTERESTED, PIECE, PROTOCOL, REQUEST, UNCHOKE, message

KINDS = ("corrupt", "stalled", "lying", "flooding", "slow-loris", "resetting")
CROWD = 700
"""Connections of one "idle" process, all from CROWD_HOST: they say nothing, and are made once."""
CROWD_HOST = "127.0.0.77"
_numbers = random.Random(4)


def main(kind: str, orch: str, file: str, port: str) -> None:
    """Do harm until ended."""
    if kind == "idle":
        crowd(int(port))
    score = parse_score(Path(orch).read_bytes(), orch)
    data = Path(file).read_bytes()
    hello = PROTOCOL + bytes(8) + score.info_hash + b"-HH0001-" + os.urandom(6).hex().encode()
    field = bytearray(b"\xff" * (-(-score.parts // 8)))
    if score.parts % 8:
        field[-1] = 0xFF00 >> score.parts % 8 & 0xFF
    claim = message(BITFIELD, bytes(field)) + message(UNCHOKE)
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(port)), 5) as sock:
            if kind == "slow-loris":
                for byte in hello:
                    sock.sendall(bytes([byte]))
                    if select.select([sock], [], [], 5)[0]:
                        break
            elif kind == "resetting":
                talk = hello + claim + message(INTERESTED)
                sock.sendall(talk[: _numbers.randrange(len(talk))])
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif kind == "flooding":
                sock.sendall(hello + message(INTERESTED))
                # For a part that the member lacks it would be closed at once.
                span = struct.pack(">III", a_part_of(sock), 0, 16384)
                sock.settimeout(0.2)  # who is closed shall notice it, and come again at once
                flood = message(INTERESTED) + message(REQUEST, span) * 2000
                flood += message(CHOKE) + message(UNCHOKE)
                while True:
                    sock.sendall(flood)
            else:
                sock.sendall(hello + claim)
                serve(sock, kind, data, score.part_size_bytes)
        time.sleep(0.02 if kind == "resetting" else 0.2)


def crowd(port: int) -> None:
    """Hold what the member does not close."""
    held = [socket.create_connection(("127.0.0.1", port), 5, (CROWD_HOST, 0)) for _ in range(CROWD)]
    select.select([], [], held)


def a_part_of(sock: socket.socket) -> int:
    """One that the member says it has, once it does. Raises OSError when it says no more."""
    with sock.makefile("rb") as stream:
        stream.read(68)
        while len(prefix := stream.read(4)) == 4:
            body = stream.read(int.from_bytes(prefix, "big"))
            if body[:1] == bytes([HAVE]):
                return int.from_bytes(body[1:], "big")
            if body[:1] == bytes([BITFIELD]):
                bits = int.from_bytes(body[1:], "big")
                return 8 * len(body) - 8 - bits.bit_length()
    raise OSError


def serve(sock: socket.socket, kind: str, data: bytes, part_size_bytes: int) -> None:
    """Answer requests wrongly, two and then none, or never."""
    given = 0
    with sock.makefile("rb") as stream:
        if len(stream.read(68)) < 68:
            return
        while len(prefix := stream.read(4)) == 4:
            body = stream.read(int.from_bytes(prefix, "big"))
            if not body or body[0] != REQUEST or kind == "lying" or (kind == "stalled" and given >= 2):
                continue
            part, begin, length = struct.unpack(">III", body[1:])
            offset = part * part_size_bytes + begin
            block = data[offset : offset + length]
            if kind == "corrupt":
                block = bytes([block[0] ^ 1]) + block[1:]
            sock.sendall(message(PIECE, struct.pack(">II", part, begin) + block))
            given += 1


if __name__ == "__main__":
    main(*sys.argv[1:5])
