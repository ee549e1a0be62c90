"""A peer that does what a test tells it to: has some parts, answers rightly, wrongly, late or never.

Plain sockets and struct: a second reading of BEP 3, which shares no code with the member that it meets.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from types import TracebackType

import netutils
from netutils import Address
from tests.compositions import Composition
from tests.programs import PATIENCE_S

PROTOCOL = b"\x13BitTorrent protocol"
CHOKE, UNCHOKE, INTERESTED, NOT_INTERESTED, HAVE, BITFIELD, REQUEST, PIECE, CANCEL = range(9)

Answer = Callable[[int, int, bytes], "bytes | None"]
"""Part, place in it and the right bytes of a requested block: what to send instead, None for nothing."""


def rightly(_part: int, _begin: int, block: bytes) -> bytes:
    """What a good peer answers."""
    return block


def wrongly(_part: int, _begin: int, block: bytes) -> bytes:
    """A block of the right length with one wrong bit in it."""
    return bytes([block[0] ^ 1]) + block[1:]


class ScriptedPeer:
    """Listens on a free port. Use it in a `with`, and give its `name` to --peer.

    `parts`: what it says that it has, all by default. `answer`: see Answer. It
    answers nobody before `may_answer` is set, which it is at first. `curious`:
    shows interest, so that it is told of every part, but asks for none.
    """

    def __init__(
        self,
        composition: Composition,
        *,
        parts: Iterable[int] | None = None,
        answer: Answer = rightly,
        curious: bool = False,
        host: str = "127.0.0.1",
    ) -> None:
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.asked = threading.Event()
        """Set when the first request has come."""
        self.left = threading.Event()
        """Set when a connection, with handshakes done, has ended."""
        self.connections = 0
        """How many handshakes have succeeded."""
        self.sent_bytes = 0
        """How many bytes of blocks it has sent."""
        self.told: list[set[int]] = []
        """For each connection the parts that the other side said it has. Who has all parts is told less."""
        self._score = composition.score
        self._data = composition.path.read_bytes()
        self._parts = set(range(self._score.parts) if parts is None else parts)
        self._answer = answer
        self._curious = curious
        self._cancel = netutils.Cancel()
        self._listeners = netutils.listen(host, 0)
        self.address: Address = netutils.address_of(self._listeners[0].getsockname())
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def name(self) -> str:
        """Its address, as --peer takes it."""
        return netutils.format_address(self.address)

    def __enter__(self) -> ScriptedPeer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.may_answer.set()
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
        with contextlib.suppress(OSError), sock.makefile("rb") as stream:
            greeting = PROTOCOL + bytes(8) + self._score.info_hash
            theirs = stream.read(68)
            if theirs[:20] + theirs[28:48] != PROTOCOL + self._score.info_hash:
                return
            sock.sendall(greeting + b"-XX0001-" + self.address[1].to_bytes(12, "big"))
            self.connections += 1
            told: set[int] = set()
            self.told.append(told)
            try:
                self._talk(sock, stream.read, told)
            finally:
                self.left.set()
        netutils.shut(sock)

    def _talk(self, sock: socket.socket, read: Callable[[int], bytes], told: set[int]) -> None:
        field = bytearray(-(-self._score.parts // 8))
        for part in self._parts:
            field[part // 8] |= 0x80 >> part % 8
        sock.sendall(message(BITFIELD, bytes(field)) + message(INTERESTED) * self._curious)
        while len(prefix := read(4)) == 4:
            body = read(int.from_bytes(prefix, "big"))
            if not body:
                continue
            if body[0] == INTERESTED:
                sock.sendall(message(UNCHOKE))
            elif body[0] == HAVE:
                told.add(int.from_bytes(body[1:], "big"))
            elif body[0] == BITFIELD:
                told |= {part for part in range(8 * len(body) - 8) if body[1 + part // 8] & 0x80 >> part % 8}
            elif body[0] == REQUEST:
                self._serve_block(sock, *struct.unpack(">III", body[1:]))

    def _serve_block(self, sock: socket.socket, part: int, begin: int, length: int) -> None:
        self.asked.set()
        self.may_answer.wait()
        offset = part * self._score.part_size_bytes + begin
        block = self._answer(part, begin, self._data[offset : offset + length])
        if block is not None:
            sock.sendall(message(PIECE, struct.pack(">II", part, begin) + block))
            self.sent_bytes += len(block)


def message(kind: int, payload: bytes = b"") -> bytes:
    """One peer message as BEP 3 frames it."""
    return struct.pack(">IB", 1 + len(payload), kind) + payload
