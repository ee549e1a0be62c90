"""Garbage for a member's port: random streams, and valid ones with a few bits wrong."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import struct
import time
from pathlib import Path

from netutils import Address
from orchestra.wire import encode_bitfield, encode_handshake, encode_haves, encode_requests
from tests.fuzz.mutator import mutate
from tests.programs import PATIENCE_S

MOST_BYTES = 65_536


def streams(count: int, info_hash: bytes, parts: int, seed: int) -> list[bytes]:
    """So many streams: a third at random, the others like those of a peer, mostly broken."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        shake = encode_handshake(info_hash, b"-XX0001-" + b"%012d" % number)
        talk = encode_bitfield(bytes((parts + 7) // 8)) + encode_haves([0]) + b"\0\0\0\1\2"
        talk += encode_requests([(rng.randrange(parts), 0, 16384)]) * rng.randrange(3)
        kind = number % 3
        if kind == 0:
            made.append(rng.randbytes(int(rng.random() ** 3 * MOST_BYTES)))
        elif kind == 1:
            made.append(shake + mutate(talk, [talk], (struct.pack(">I", 2**32 - 1),), rng))
        else:
            made.append(mutate(shake + talk, [talk], (), rng))
    return made


def throw(address: Address, data: bytes) -> None:
    """Send a stream, and leave without a word."""
    with contextlib.suppress(OSError), socket.create_connection(address, PATIENCE_S) as sock:
        sock.settimeout(1.0)
        sock.sendall(data)
        if len(data) % 2:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65_536):
                pass


def is_served(address: Address, info_hash: bytes) -> float:
    """How long a good peer waits for the member's handshake, in seconds; fails when it never comes."""
    start_s = time.monotonic()
    while time.monotonic() < start_s + PATIENCE_S:
        with contextlib.suppress(OSError), socket.create_connection(address, PATIENCE_S) as sock:
            sock.settimeout(PATIENCE_S)
            sock.sendall(encode_handshake(info_hash, b"-XX0001-a-good-one--"))
            if sock.recv(20):
                return time.monotonic() - start_s
        time.sleep(0.1)
    raise AssertionError("a good peer is not let in any more")


def peak_rss_bytes(pid: int) -> int:
    """The most memory that a process had; 0 where the system does not tell."""
    status = Path(f"/proc/{pid}/status")
    found = re.search(r"VmHWM:\s+([0-9]+)", status.read_text()) if status.exists() else None
    return 1024 * int(found[1]) if found else 0
