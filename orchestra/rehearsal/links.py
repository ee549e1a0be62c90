"""Machines and the connections between them: who sends what when, and when it arrives.

Pure; on the virtual clock. A machine's uplink goes round its connections that
have data, one quantum each, as the system's queue does. A quantum then takes
the latency, and its turn on the receiver's downlink. Short messages on a
connection without data wait for what the others have in the system's queue,
and go out together.

What it costs to send is the true length on the wire of the peer protocol; a
short message that goes alone pays its packet too, and a receiver pays for its
acknowledgements. Losses and TCP's slow start are not played.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from orchestra.connection import MAX_OUTBOX
from orchestra.messages import Accepted, Address, BlocksSent, LinkClosed, LinkUp, Received
from orchestra.rehearsal.clock import Clock
from orchestra.rehearsal.speech import QUANTUM_BLOCKS, Cargo, Speech
from orchestra.rehearsal.tally import Trace
from orchestra.shipment import Shipment
from orchestra.wire import (
    BLOCK_BYTES,
    HANDSHAKE_BYTES,
    OUR_EXTENSIONS,
    PIECE_HEADER_BYTES,
    BlockSpan,
    Handshake,
    Message,
)

SOCKET_BUFFER_BYTES = 64 * 1024
"""What the system takes of a connection's data before it goes out: shipments count as sent that early."""
QUEUED_BYTES = 8 * 1024
"""What one busy connection has in the device's queue, before a newcomer's packet: TCP keeps it that small."""
PACKET_BYTES = 66
"""Ethernet, IPv4 and TCP headers, with time stamps, of a packet."""
ACKNOWLEDGED_BYTES = 2 * 1448
"""How much payload one acknowledgement is for: every second full packet (RFC 5681)."""
QUANTUM_BYTES = QUANTUM_BLOCKS * (BLOCK_BYTES + PIECE_HEADER_BYTES)
CALLING_PORT = 40_000


class NoBuffer:
    """The memory that blocks without bytes stand in."""

    def give_back(self) -> None:
        """See messages.Buffer."""


_NO_BUFFER = NoBuffer()


class Network:
    """What all machines share. `hosts` are those that have come up, by address."""

    def __init__(
        self, clock: Clock, speech: Speech, trace: Trace, *, latency_s: float, part_size_bytes: int
    ) -> None:
        self.clock = clock
        self.speech = speech
        self.trace = trace
        self.latency_s = latency_s
        self.part_size_bytes = part_size_bytes
        self.hosts: dict[str, Host] = {}
        self.moved_s = 0.0
        """When blocks last arrived anywhere."""


class End:
    """One end of a connection: the Link of an orchestrator, and what the two threads of a connection do."""

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
        """There is data that has not left: the uplink has it in its round."""
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
        if self.open:
            self.end(reason)
            other = self.other
            if other is not None:
                clock = self.host.clock
                gone_s = max(clock.now_s + self.host.network.latency_s, self.data_s, other.word_s)
                clock.at(gone_s, other.lose, "closed by the peer")

    def end(self, reason: str) -> None:
        """The last word, once."""
        if self.open:
            self.open = False
            self._queue = self._unreported = None
            self.host.ends.pop(self.key, None)
            self.host.soon.append(LinkClosed(self.key, reason))

    def lose(self, reason: str) -> None:
        """The connection has ended at the other end, or never came about."""
        if self.open:
            self.end(reason)
            self.host.wake()

    # The uplink's and the downlink's side

    def _enqueue(self, item: bytes | Cargo, length_bytes: int) -> bool:
        if self._queue is None:
            self._queue = deque()
        if len(self._queue) >= MAX_OUTBOX:
            return False
        self._queue.append(item)
        self._enqueued_bytes += length_bytes
        if not self.busy:
            self.busy = True
            self.host.begin(self)
        return True

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
        return taken_bytes, messages

    def departed(self, quantum_bytes: int) -> bool:
        """A quantum has left: the system has room for more. True when there is more to leave."""
        self._departed_bytes += quantum_bytes
        unreported = self._unreported
        while unreported and unreported[0][0] <= self._departed_bytes:
            self.host.soon.append(BlocksSent(self.key, unreported.popleft()[1]))
        return bool(self._queue)

    def receive(self, messages: list[Message]) -> None:
        """A quantum has arrived."""
        if self.open:
            host = self.host
            host.network.moved_s = host.clock.now_s
            host.hear(Received(self.key, messages, _NO_BUFFER))

    def up(self, peer_id: bytes) -> None:
        """The other side's handshake has arrived."""
        if self.open:
            self.host.hear(LinkUp(self.key, Handshake(OUR_EXTENSIONS, self.host.info_hash, peer_id)))


class Host:
    """A machine: its uplink, its downlink, its connections (doorway.Links).

    `hear` takes what its orchestrator is to be told at once, and notes it; `handle` is
    its orchestrator's own. `soon` has what it is to be told once it has handled that, and
    `words` what it has said meanwhile: then `wake` is due.
    """

    def __init__(
        self,
        network: Network,
        number: int,
        peer_id: bytes,
        *,
        up_bytes_s: float,
        down_bytes_s: float,
    ) -> None:
        self.network = network
        self.clock = network.clock
        self.number = number
        self.address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        self.peer_id = peer_id
        self.info_hash = bytes(20)
        self.hear: Callable[[Any], None] = _nobody
        self.handle: Callable[[Any, float], None] = _nobody
        self.wake: Callable[[], None] = _nobody
        self.soon: deque[Any] = deque()
        self.ends: dict[int, End] = {}
        self.listens = False
        self._up_bytes_s = up_bytes_s
        self._down_bytes_s = down_bytes_s
        # Until when the links are taken by what is on them.
        self._up_free_s = 0.0
        self._down_free_s = 0.0
        self.heard_bytes = 0
        """Short messages that have come down our link since the last data: they take its time too."""
        self._sending = False
        self._round: deque[End] = deque()
        self.words: dict[End, list[Message]] = {}
        self._words_bytes = 0
        self._word_s = 0.0

    # Short messages

    def say(self, end: End, data: bytes) -> None:
        """Send a short message; all that is said until `flush` goes out together."""
        assert end.other is not None
        messages = self.network.speech.messages(data)
        said = self.words.get(end.other)
        self.words[end.other] = messages if said is None else said + messages
        self._words_bytes += len(data)

    def flush(self) -> None:
        """Let go what was said, behind what is in the device's queue."""
        words, self.words = self.words, {}
        length_bytes = self._words_bytes + PACKET_BYTES * len(words)
        self._words_bytes = 0
        own_s = length_bytes / self._up_bytes_s
        now_s = self.clock.now_s
        self._up_free_s = max(self._up_free_s, now_s) + own_s
        queued_s = (self._sending + len(self._round)) * QUEUED_BYTES / self._up_bytes_s
        arrives_s = (now_s + queued_s + own_s if self._sending else self._up_free_s) + self.network.latency_s
        # In the order in which it was said.
        arrives_s = self._word_s = max(arrives_s, self._word_s)
        for end in words:
            end.word_s = arrives_s
        self.clock.at(arrives_s, _deliver, (words, length_bytes // len(words)))

    # Data

    def begin(self, end: End) -> None:
        """An end has data: it takes part in the round from now on."""
        self._round.append(end)
        if not self._sending:
            self._send_next()

    def _send_next(self) -> None:
        while self._round:
            end = self._round.popleft()
            quantum_bytes, messages = end.take()
            if quantum_bytes:
                self._sending = True
                began_s = max(self.clock.now_s, self._up_free_s)
                self._up_free_s = began_s + quantum_bytes / self._up_bytes_s
                self.clock.at(self._up_free_s, self._sent, (end, quantum_bytes, messages, began_s))
                return
            end.busy = False
        self._sending = False

    def _sent(self, load: tuple[End, int, list[Message], float]) -> None:
        end, quantum_bytes, messages, began_s = load
        if end.open:
            assert end.other is not None
            end.data_s = end.other.host.arrival_s(end.other, quantum_bytes, began_s)
            self.clock.at(end.data_s, end.other.receive, messages)
            if end.departed(quantum_bytes):
                self._round.append(end)
            else:
                end.busy = False
        self._send_next()
        if self.soon:
            self.wake()

    def arrival_s(self, end: End, quantum_bytes: int, began_s: float) -> float:
        """When a quantum that has just left, and began to leave then, will have come down our link."""
        latency_s = self.network.latency_s
        length_bytes = quantum_bytes + self.heard_bytes
        self.heard_bytes = 0
        start_s = max(self._down_free_s, began_s + latency_s)
        self._down_free_s = max(self.clock.now_s + latency_s, start_s + length_bytes / self._down_bytes_s)
        acknowledging_s = quantum_bytes / ACKNOWLEDGED_BYTES * PACKET_BYTES / self._up_bytes_s
        self._up_free_s = max(self._up_free_s, self.clock.now_s) + acknowledging_s
        return max(self._down_free_s, end.word_s)

    # doorway.Links

    def dial(self, key: int, address: Address) -> End:
        """See doorway.Links."""
        end = self.ends[key] = End(self, key)
        self.clock.after(self.network.latency_s, self._knock, (end, address[0]))
        return end

    def _knock(self, call: tuple[End, str]) -> None:
        end, address = call
        callee = self.network.hosts.get(address)
        if callee is None or not callee.listens:
            self.clock.after(self.network.latency_s, end.lose, "Connection refused")
        else:
            # The system answers, and the caller's handshake comes with the last word of TCP's.
            self.clock.after(2 * self.network.latency_s, callee.called, end)

    def called(self, caller: End) -> None:
        """Somebody has connected, and said its handshake."""
        if not caller.open:
            return
        if self.listens:
            self.hear(Accepted(caller, (caller.host.address, CALLING_PORT)))
        else:
            self.refuse(caller)

    def adopt(self, key: int, sock: Any, address: Address) -> End:  # noqa: ARG002 - the caller is known
        """See doorway.Links."""
        theirs: End = sock
        end = self.ends[key] = End(self, key)
        end.other, theirs.other = theirs, end
        handshake = Handshake(OUR_EXTENSIONS, self.info_hash, theirs.host.peer_id)
        self.soon.append(LinkUp(key, handshake))
        self._up_free_s = max(self._up_free_s, self.clock.now_s) + HANDSHAKE_BYTES / self._up_bytes_s
        theirs.word_s = self.clock.now_s + self.network.latency_s
        self.clock.at(theirs.word_s, theirs.up, self.peer_id)
        return end

    def refuse(self, sock: Any) -> None:
        """See doorway.Links."""
        self.clock.after(self.network.latency_s, sock.lose, "closed by the peer")

    def stop_dialling(self) -> None:
        """See doorway.Links."""

    def leave(self) -> None:
        """The machine's member is no more: the system closes what is open, and takes no calls."""
        self.listens = False
        for end in list(self.ends.values()):
            end.close("gone")
        self.soon.clear()
        self.words.clear()


def _deliver(sent: tuple[dict[End, list[Message]], int]) -> None:
    """Short messages have arrived, at one time at many ends."""
    words, each_bytes = sent
    network = next(iter(words)).host.network
    now_s, note = network.clock.now_s, network.trace.numbers.extend
    for end, messages in words.items():
        if end.open:
            host, key = end.host, end.key
            host.heard_bytes += each_bytes
            note((now_s, host.number, key, len(messages)))
            host.handle(Received(key, messages, None), now_s)
            if host.soon or host.words:
                host.wake()
    network.trace.digest()


def _nobody(*_: Any) -> None:
    """Before there is a member."""
