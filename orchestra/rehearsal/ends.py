"""The ends of connections: what has been said and has not left yet. Pure, on the virtual clock.

An End is the Link of an orchestrator, and does what a connection and the
receiver do. Its host knows when something leaves and arrives.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from orchestra.line import MAX_WAITING
from orchestra.messages import BlocksSent, LinkClosed, LinkUp, Received
from orchestra.rehearsal.speech import QUANTUM_BLOCKS, Cargo
from orchestra.shipment import Shipment
from orchestra.socketflow import LEAST_UNSENT_BYTES
from orchestra.wire import (
    BLOCK_BYTES,
    OUR_EXTENSIONS,
    PIECE_HEADER_BYTES,
    BlockSpan,
    Handshake,
    Message,
)

if TYPE_CHECKING:
    from orchestra.rehearsal.host import Host

QUANTUM_BYTES = QUANTUM_BLOCKS * (BLOCK_BYTES + PIECE_HEADER_BYTES)
"""As much of one connection leaves at a time."""
SOCKET_BUFFER_BYTES = LEAST_UNSENT_BYTES
"""What the system takes of a connection's data before it goes out: shipments count as sent that early."""


class NoBuffer:
    """The memory that blocks without bytes stand in."""

    def give_back(self) -> None:
        """See messages.Buffer."""


_NO_BUFFER = NoBuffer()


class End:
    """One end of a connection. `key` is what the orchestrator of `host` calls it."""

    __slots__ = (
        "_departed_bytes",
        "_enqueued_bytes",
        "_queue",
        "_unreported",
        "busy",
        "data_s",
        "host",
        "key",
        "open",
        "other",
        "word_s",
    )

    def __init__(self, host: Host, key: int) -> None:
        self.host = host
        self.key = key
        self.other: End | None = None
        self.open = True
        self.busy = False
        """There is data that has not left: the host has it in its round."""
        self.data_s = 0.0
        """When the last data that has left will be at the other end."""
        self.word_s = 0.0
        """When the last short message will be at this end."""
        self._queue: deque[bytes | Cargo] | None = None
        self._enqueued_bytes = 0
        self._departed_bytes = 0
        self._unreported: deque[tuple[int, int]] | None = None

    # The orchestrator's and the reader's side

    def send(self, item: bytes | Shipment) -> bool:
        """See messages.Outbox; shipments are not made here, see `ship`."""
        assert isinstance(item, bytes)
        if not self.open:
            return False
        host = self.host
        if not self.busy and self.data_s <= host.clock.now_s + host.network.latency_s:
            host.say(self, item)
            return True
        return self._enqueue(item, len(item))

    def ship(self, blocks: list[BlockSpan]) -> None:
        """Send blocks. BlocksSent follows when the system has taken them."""
        if not self.open:
            return
        cargo = Cargo(blocks, self.host.network.part_size_bytes)
        if not self._enqueue(cargo, cargo.wire_bytes):
            return
        if self._enqueued_bytes - self._departed_bytes <= SOCKET_BUFFER_BYTES:
            self.host.soon.append(BlocksSent(self.key, cargo.payload_bytes))
            return
        if self._unreported is None:
            self._unreported = deque()
        self._unreported.append((self._enqueued_bytes - SOCKET_BUFFER_BYTES, cargo.payload_bytes))

    def close(self, reason: str) -> None:
        """See peer.Link. What has not left is lost: what the peer says next is answered by a reset."""
        if not self.open:
            return
        self._end(reason)
        other = self.other
        if other is not None:
            clock = self.host.clock
            gone_s = max(clock.now_s + self.host.network.latency_s, self.data_s, other.word_s)
            clock.at(gone_s, other.lose, "closed by the peer")

    def _end(self, reason: str) -> None:
        self.open = False
        self._queue = self._unreported = None
        self.host.ends.pop(self.key, None)
        self.host.soon.append(LinkClosed(self.key, reason))

    def _enqueue(self, item: bytes | Cargo, length_bytes: int) -> bool:
        if self._queue is None:
            self._queue = deque()
        if len(self._queue) >= MAX_WAITING:
            return False
        self._queue.append(item)
        self._enqueued_bytes += length_bytes
        if not self.busy:
            self.busy = True
            self.host.begin(self)
        return True

    # The network's side

    def take(self) -> tuple[int, list[Message]]:
        """The next quantum: its bytes on the wire, and what it says; of no bytes when there is nothing."""
        taken_bytes, blocks = 0, 0
        messages: list[Message] = []
        queue = self._queue
        while queue and taken_bytes < QUANTUM_BYTES and blocks < QUANTUM_BLOCKS:
            item = queue[0]
            if isinstance(item, bytes):
                messages += self.host.network.speech.messages(item)
                taken_bytes += len(item)
                queue.popleft()
            else:
                number, wire_bytes = item.take(QUANTUM_BLOCKS - blocks, messages)
                blocks += number
                taken_bytes += wire_bytes
                if item.empty:
                    queue.popleft()
        if not queue:
            self._queue = None
        return taken_bytes, messages

    def departed(self, quantum_bytes: int) -> bool:
        """A quantum has left: the system has room for more. True when there is more to leave."""
        self._departed_bytes += quantum_bytes
        unreported = self._unreported
        while unreported and unreported[0][0] <= self._departed_bytes:
            self.host.soon.append(BlocksSent(self.key, unreported.popleft()[1]))
        if not unreported:
            self._unreported = None
        return bool(self._queue)

    def receive(self, messages: list[Message]) -> None:
        """A quantum has arrived."""
        if self.open:
            host = self.host
            network, now_s = host.network, host.clock.now_s
            network.moved_s = now_s
            network.trace.note(now_s, host.number, self.key, len(messages))
            host.handle(Received(self.key, messages, _NO_BUFFER), now_s)
            if host.soon or host.words:
                host.wake()

    def up(self, peer_id: bytes) -> None:
        """The other side's handshake has arrived."""
        if self.open:
            info_hash = self.host.network.info_hash
            self.host.hear(LinkUp(self.key, Handshake(OUR_EXTENSIONS, info_hash, peer_id)))

    def lose(self, reason: str) -> None:
        """The connection has ended at the other end, or never came about."""
        if self.open:
            self._end(reason)
            self.host.wake()
