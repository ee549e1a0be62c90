"""Callers of a member who say exactly what a test tells them to, on plain sockets."""

from __future__ import annotations

import socket
import struct
import sys
from types import TracebackType

from netutils import Address
from tests.compositions import Composition
from tests.programs import PATIENCE_S, ROOT, Program, Programs
from tests.scriptedpeer import BITFIELD, HAVE, INTERESTED, PIECE, PROTOCOL, REQUEST, UNCHOKE, message

__all__ = ["Caller", "tuned_member"]


class Caller:
    """One connection to a member. `source`: the address that it calls from, where there are several."""

    def __init__(self, address: Address, *, source: str = "") -> None:
        self.sock = socket.create_connection(
            address, PATIENCE_S, source_address=(source, 0) if source else None
        )

    def __enter__(self) -> Caller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()

    def shake(
        self, composition: Composition, peer_id: bytes = b"-XX0001-caller-calle", *, reserved: int = 0
    ) -> bytes:
        """Both handshakes; the member's."""
        info_hash = composition.score.info_hash
        self.sock.sendall(PROTOCOL + reserved.to_bytes(8, "big") + info_hash + peer_id[:20])
        return self.read(68)

    def read(self, length: int) -> bytes:
        """So many bytes. Raises EOFError."""
        data = b""
        while len(data) < length:
            piece = self.sock.recv(length - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def send(self, data: bytes) -> int:
        """Send until the member closes; how many bytes it, or the system, has taken."""
        view, sent = memoryview(data), 0
        try:
            while sent < len(view):
                sent += self.sock.send(view[sent : sent + 65536])
        except OSError:
            pass
        return sent

    def ended(self, timeout_s: float = PATIENCE_S) -> bool:
        """Whether the member closes this connection in that time."""
        self.sock.settimeout(timeout_s)
        try:
            while self.sock.recv(1 << 16):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True

    def next(self, *kinds: int) -> tuple[int, bytes]:
        """The next message of one of these kinds: kind and payload."""
        while True:
            body = self.read(int.from_bytes(self.read(4), "big"))
            if body and body[0] in kinds:
                return body[0], body[1:]

    def fetches_a_part(self, composition: Composition) -> bool:
        """What a good client does: shake hands, ask for a part, get it. Whether the bytes are right."""
        self.shake(composition, b"-GG0001-" + self.sock.getsockname()[1].to_bytes(12, "big"))
        self.sock.sendall(message(INTERESTED))
        score, part, unchoked = composition.score, -1, False
        while part < 0 or not unchoked:
            kind, payload = self.next(BITFIELD, HAVE, UNCHOKE)
            unchoked = unchoked or kind == UNCHOKE
            if kind == HAVE:
                part = struct.unpack(">I", payload)[0]
            elif kind == BITFIELD:
                part = next(
                    index for index in range(score.parts) if payload[index // 8] & (0x80 >> index % 8)
                )
        length = min(16384, score.part_size_bytes)
        self.sock.sendall(message(REQUEST, struct.pack(">III", part, 0, length)))
        _, payload = self.next(PIECE)
        offset = part * score.part_size_bytes
        return payload[8:] == composition.path.read_bytes()[offset : offset + length]


def tuned_member(programs: Programs, *arguments: object, **environment: str) -> Program:
    """tests/tuned_member.py with --json and -v, so that the reasons of all ends are on stderr."""
    words = [str(argument) for argument in arguments]
    command = [sys.executable, str(ROOT / "tests/tuned_member.py"), *words, "-v", "--json"]
    return programs.start_other([*command, "--log-dir", str(programs.log_dir)], env=environment)
