"""Stand-ins for what surrounds a piece of the member: inboxes and links that note, buffers that count.

Nothing here waits or sleeps but ScriptedPeer and Reports, which fail after
PATIENCE_S instead of hanging.
"""

from __future__ import annotations

import hashlib
import queue
import random
import socket
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, TypeVar

import netutils
from netutils import Address
from orchestra.bitfield import Bitfield
from orchestra.decoder import Decoder
from orchestra.geometry import Geometry
from orchestra.peer import Peer
from orchestra.score import Score
from orchestra.shipment import Shipment
from orchestra.wire import (
    HANDSHAKE_BYTES,
    AllowedFast,
    Blocks,
    Cancels,
    Handshake,
    Haves,
    Message,
    Rejects,
    Requests,
    Suggestions,
    decode_handshake,
    encode_handshake,
)
from orchestra.worker import ThreadCrashed

PATIENCE_S = 10.0
INFO_HASH = bytes(range(20))
OUR_ID = b"-OR0100-m-y-s-e-l-f-"
THEIR_ID = b"-XX0001-somebodyelse"

T = TypeVar("T")


# Compositions in memory


def content(size_bytes: int, seed: int = 0) -> bytes:
    """Reproducible bytes without regularity."""
    return random.Random(seed).randbytes(size_bytes)


def score_of(
    data: bytes, part_size_bytes: int, *, name: str = "piece.bin", sha1: bytes | None = None
) -> Score:
    """What a .orch of `data` says; `sha1` forges its line 3."""
    parts = [data[begin : begin + part_size_bytes] for begin in range(0, len(data), part_size_bytes)]
    return Score(
        conductors=(("127.0.0.1", 1),),
        name=name,
        sha1=hashlib.sha1(data).digest() if sha1 is None else sha1,
        size_bytes=len(data),
        part_size_bytes=part_size_bytes,
        part_sha1s=b"".join(hashlib.sha1(part).digest() for part in parts),
    )


def geometry_of(score: Score) -> Geometry:
    """The sizes in a score."""
    return Geometry(score.size_bytes, score.part_size_bytes)


def bitfield(parts: int, *present: int) -> Bitfield:
    """A bitfield with these parts."""
    field = Bitfield(parts)
    for index in present:
        field.add(index)
    return field


def full_bitfield(parts: int) -> Bitfield:
    """A bitfield with all parts."""
    return bitfield(parts, *range(parts))


# Inboxes, buffers, links


class ListInbox(list[Any]):
    """An inbox that is a list."""

    def put(self, message: Any, /) -> None:
        self.append(message)

    def take(self) -> list[Any]:
        """What has come since the last `take`."""
        taken = list(self)
        self.clear()
        return taken

    def only(self, kind: type[T]) -> T:
        """The one message of this kind that has come; all are taken."""
        [found] = [message for message in self.take() if isinstance(message, kind)]
        return found


class CountingBuffer:
    """Memory that knows how often it was given back."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.returns = 0

    def give_back(self) -> None:
        self.returns += 1


class FakeLink:
    """Keeps what is sent; `full` makes it refuse, as a congested connection does."""

    def __init__(self, parts: int = 8, part_size_bytes: int = 16384) -> None:
        self.sent: list[bytes | Shipment] = []
        self.closed: list[str] = []
        self.full = False
        self._decoder = Decoder(parts, part_size_bytes, fast=True)

    def send(self, item: bytes | Shipment) -> bool:
        if self.full:
            return False
        self.sent.append(item)
        return True

    def close(self, reason: str) -> None:
        self.closed.append(reason)

    def said(self) -> list[Message]:
        """The wire messages sent since the last time that this was asked."""
        data = b"".join(item for item in self.sent if isinstance(item, bytes))
        self.sent.clear()
        messages, used = self._decoder.decode(memoryview(data), len(data))
        assert used == len(data), "half a message was sent"
        return messages


class FakeLinks:
    """Makes FakeLinks for the orchestrator and notes what it asked for."""

    def __init__(self, parts: int = 8, part_size_bytes: int = 16384) -> None:
        self.made: dict[int, FakeLink] = {}
        self.dialled: dict[int, Address] = {}
        self.adopted: dict[int, Any] = {}
        self.refused: list[Any] = []
        self.dialling_stopped = False
        self._shape = (parts, part_size_bytes)

    def dial(self, key: int, address: Address) -> FakeLink:
        self.dialled[key] = address
        return self._make(key)

    def adopt(self, key: int, sock: Any, address: Address) -> FakeLink:
        self.adopted[key] = (sock, address)
        return self._make(key)

    def refuse(self, sock: Any) -> None:
        self.refused.append(sock)

    def stop_dialling(self) -> None:
        self.dialling_stopped = True

    def _make(self, key: int) -> FakeLink:
        assert key not in self.made, "a key was used twice"
        self.made[key] = FakeLink(*self._shape)
        return self.made[key]


def link_of(peer: Peer) -> FakeLink:
    """The fake behind a peer."""
    assert isinstance(peer.link, FakeLink)
    return peer.link


def make_peer(key: int, geometry: Geometry, *, have: Bitfield | None = None, host: str = "10.0.0.1") -> Peer:
    """A peer behind a FakeLink; by default it has everything."""
    link = FakeLink(geometry.parts, geometry.part_size_bytes)
    peer = Peer(key, host, link, full_bitfield(geometry.parts) if have is None else have, 0.0)
    peer.peer_id = b"-FA0000-" + b"%012d" % key
    return peer


def blocks_message(data: bytes, offset: int, length: int) -> Blocks:
    """A run of whole blocks as the decoder makes it, out of a composition in memory."""
    view = memoryview(data)[offset : offset + length]
    return Blocks(offset, length, [view[begin : begin + 16384] for begin in range(0, length, 16384)])


def told(messages: Iterable[Message]) -> list[tuple[Any, ...]]:
    """The same messages one by one, and bytes that follow one another as one, however they were bundled.

    Copies the bytes of blocks: what holds them may be used again.
    """
    single: list[tuple[Any, ...]] = []
    for message in messages:
        match message:
            case Haves(indices):
                single += [("have", index) for index in indices]
            case Requests(blocks):
                single += [("request", *block) for block in blocks]
            case Cancels(blocks) | Rejects(blocks):
                single += [(type(message), *block) for block in blocks]
            case Suggestions(indices) | AllowedFast(indices):
                single += [(type(message), index) for index in indices]
            case Blocks(offset=offset, length=length, views=views):
                data = b"".join(views)
                assert len(data) == length
                if single and single[-1][0] == "bytes" and single[-1][1] + len(single[-1][2]) == offset:
                    data = single[-1][2] + data
                    offset = single.pop()[1]
                single.append(("bytes", offset, data))
            case _:
                single.append((message,))
    return single


# For tests with threads


class Reports:
    """What a thread reports, one after the other; a crash fails the test that waits."""

    def __init__(self) -> None:
        self._said: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def __call__(self, message: Any) -> None:
        self._said.put(message)

    def next(self, kind: type[T]) -> T:
        """The next report, which must be of this kind."""
        message = self._said.get(timeout=PATIENCE_S)
        if isinstance(message, ThreadCrashed):
            raise message.error
        assert isinstance(message, kind), f"{kind.__name__} expected, not {message!r}"
        return message

    def skip_to(self, kind: type[T]) -> T:
        """The next report of this kind; others are dropped."""
        while True:
            message = self.next(object)
            if isinstance(message, kind):
                return message

    @property
    def nothing_more(self) -> bool:
        """True when nothing waits."""
        return self._said.empty()


def loopback_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of one TCP connection."""
    [listener] = netutils.listen("127.0.0.1", 0)
    with listener:
        ours = netutils.dial(netutils.address_of(listener.getsockname()), PATIENCE_S)
        theirs, _ = listener.accept()
    theirs.setblocking(True)
    return ours, theirs


class ScriptedPeer:
    """The other end of a connection, in the test's own hands: it says exactly what it is told to."""

    def __init__(self, sock: socket.socket, *, parts: int = 8, part_size_bytes: int = 16384) -> None:
        self.sock = sock
        sock.settimeout(PATIENCE_S)
        self._decoder = Decoder(parts, part_size_bytes, fast=True)
        self._rest = b""
        self._messages: deque[Message] = deque()

    def __enter__(self) -> ScriptedPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def shake(self, info_hash: bytes = INFO_HASH, peer_id: bytes = THEIR_ID) -> Handshake:
        """Both handshakes, ours first; returns the other side's."""
        self.send(encode_handshake(info_hash, peer_id))
        return self.read_handshake()

    def read_handshake(self) -> Handshake:
        """The other side's handshake."""
        return decode_handshake(
            netutils.recv_exactly(self.sock, HANDSHAKE_BYTES, time.monotonic() + PATIENCE_S)
        )

    def send(self, data: bytes) -> None:
        """These bytes and no others."""
        self.sock.sendall(data)

    def next(self, kind: type[T]) -> T:
        """The next wire message, which must be of this kind. Its views stay valid."""
        while not self._messages:
            data = self.sock.recv(1 << 20)
            assert data, "the other side has closed"
            self._rest += data
            messages, used = self._decoder.decode(memoryview(self._rest), len(self._rest))
            self._messages += messages
            self._rest = self._rest[used:]
        message = self._messages.popleft()
        assert isinstance(message, kind), f"{kind.__name__} expected, not {message!r}"
        return message

    def wait_for_end(self) -> int:
        """Read until the other side closes or resets; returns how many bytes still came."""
        count = 0
        try:
            while data := self.sock.recv(1 << 16):
                count += len(data)
        except ConnectionError:
            pass
        return count
