"""A second implementation of the wire, the fetching half: as little of BEP 3 as gets a file.

Plain sockets and struct, like scriptedpeer.py, which is the serving half: no
code of the suite, so that what both misread is not misread by the same lines.
It checks every block against the original: a wrong byte fails the test.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable

from netutils import Address
from tests.compositions import Composition
from tests.programs import PATIENCE_S
from tests.scriptedpeer import INTERESTED, PIECE, PROTOCOL, REQUEST, UNCHOKE, message

BLOCK_BYTES = 16384
WINDOW = 16
"""Requests on their way at a time."""


def fetch_parts(
    address: Address,
    composition: Composition,
    parts: Iterable[int] | None = None,
    *,
    timeout_s: float = PATIENCE_S,
    peer_id: bytes = b"-XX0002-fetcher.....",
) -> int:
    """Fetch these parts (all by default) from whoever listens there; how many bytes.

    Raises AssertionError for a wrong byte, and when it takes longer than `timeout_s`; OSError when the
    other side does not want to.
    """
    wanted = blocks_of(composition, parts)
    with socket.create_connection(address, timeout_s) as sock:
        return _fetch(sock, composition, wanted, time.monotonic() + timeout_s, peer_id)


def blocks_of(composition: Composition, parts: Iterable[int] | None = None) -> list[tuple[int, int, int]]:
    """Part, place in it and length of each block of these parts, all by default."""
    score = composition.score
    return [
        (part, begin, min(BLOCK_BYTES, score.part_length(part) - begin))
        for part in (range(score.parts) if parts is None else parts)
        for begin in range(0, score.part_length(part), BLOCK_BYTES)
    ]


def _fetch(
    sock: socket.socket,
    composition: Composition,
    wanted: list[tuple[int, int, int]],
    deadline_s: float,
    peer_id: bytes,
) -> int:
    info_hash, size = composition.score.info_hash, composition.score.part_size_bytes
    with sock.makefile("rb") as stream, composition.path.open("rb") as original:
        sock.sendall(PROTOCOL + bytes(8) + info_hash + peer_id)
        theirs = stream.read(68)
        if theirs[:20] + theirs[28:48] != PROTOCOL + info_hash:
            raise ConnectionResetError(f"no handshake, but {theirs[:68]!r}")
        sock.sendall(message(INTERESTED))
        left, on_the_way, fetched = list(reversed(wanted)), set[tuple[int, int, int]](), 0
        unchoked = False
        while left or on_the_way:
            while unchoked and left and len(on_the_way) < WINDOW:
                on_the_way.add(left[-1])
                sock.sendall(message(REQUEST, struct.pack(">III", *left.pop())))
            left_s = deadline_s - time.monotonic()
            assert left_s > 0, f"{len(left) + len(on_the_way)} blocks did not come in time"
            sock.settimeout(left_s)
            kind, payload = _next_message(stream.read)
            unchoked = unchoked or kind == UNCHOKE
            if kind == PIECE:
                part, begin = struct.unpack(">II", payload[:8])
                block = payload[8:]
                on_the_way.remove((part, begin, len(block)))
                original.seek(part * size + begin)
                assert block == original.read(len(block)), f"wrong bytes in part {part} from {begin}"
                fetched += len(block)
    return fetched


def _next_message(read: object) -> tuple[int, bytes]:
    """Kind and payload of the next message that is no keep-alive. Raises ConnectionResetError at the end."""
    assert callable(read)
    while True:
        prefix = read(4)
        if len(prefix) < 4:
            raise ConnectionResetError("the other side has left")
        body = read(int.from_bytes(prefix, "big"))
        if body:
            return body[0], body[1:]
