"""Machines on a network: who sends what when, and when it arrives. Pure, on the virtual clock.

A machine's uplink goes round its connections that have data, one quantum each,
as the system's queue does. A quantum then takes the latency, and its turn on
the receiver's downlink. Short messages on a connection without data wait for
what the others have in the device's queue, and go out together.

What it costs to send is the true length on the wire of the peer protocol; a
short message that goes alone pays its packet too, and a receiver pays for its
acknowledgements. Losses and TCP's slow start are not played.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from orchestra.messages import Accepted, Address, LinkUp, Received
from orchestra.rehearsal.clock import Clock
from orchestra.rehearsal.ends import End
from orchestra.rehearsal.lines import PACKET_BYTES, Lines
from orchestra.rehearsal.speech import Speech
from orchestra.rehearsal.tally import Trace
from orchestra.wire import HANDSHAKE_BYTES, OUR_EXTENSIONS, Handshake, Message

CALLING_PORT = 40_000
_INFO_HASH = bytes(20)


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
        self.info_hash = _INFO_HASH
        self.hosts: dict[str, Host] = {}
        self.moved_s = 0.0
        """When data last arrived anywhere."""


class Host:
    """A machine and its connections (doorway.Links).

    `hear` takes what its orchestrator is to be told at once, and notes it; `handle` is
    its orchestrator's own. `soon` has what it is to be told once it has handled that, and
    `words` what it has said meanwhile, by the end that is to hear it: then `wake` is due.
    """

    def __init__(self, network: Network, number: int, peer_id: bytes, lines: Lines) -> None:
        self.network = network
        self.clock = network.clock
        self._speech = network.speech
        self.number = number
        self.address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        self.peer_id = peer_id
        self.hear: Callable[[Any], None] = _nobody
        self.handle: Callable[[Any, float], None] = _nobody
        self.wake: Callable[[], None] = _nobody
        self.soon: deque[Any] = deque()
        self.words: dict[End, list[Message]] = {}
        self.ends: dict[int, End] = {}
        self.listens = False
        self.lines = lines
        self._sends = False
        self._round: deque[End] = deque()
        self._words_bytes = 0
        self._word_s = 0.0
        network.hosts[self.address] = self

    # Short messages

    def say(self, end: End, data: bytes) -> None:
        """Send a short message; all that is said until `flush` goes out together."""
        assert end.other is not None
        messages = self._speech.messages(data)
        said = self.words.get(end.other)
        self.words[end.other] = messages if said is None else said + messages
        self._words_bytes += len(data)

    def flush(self) -> None:
        """Let go what was said."""
        words, self.words = self.words, {}
        length_bytes = self._words_bytes + PACKET_BYTES * len(words)
        self._words_bytes = 0
        busy = self._sends + len(self._round)
        left_s = self.lines.send_between(length_bytes, self.clock.now_s, busy)
        # In the order in which it was said.
        self._word_s = max(left_s + self.network.latency_s, self._word_s)
        for end in words:
            end.word_s = self._word_s
        self.clock.at(self._word_s, _deliver, (words, length_bytes // len(words)))

    # Data

    def begin(self, end: End) -> None:
        """An end has data: it takes part in the round from now on."""
        self._round.append(end)
        if not self._sends:
            self._send_next()

    def _send_next(self) -> None:
        while self._round:
            end = self._round.popleft()
            quantum_bytes, messages = end.take()
            if quantum_bytes:
                self._sends = True
                began_s, left_s = self.lines.send(quantum_bytes, self.clock.now_s)
                self.clock.at(left_s, self._sent, (end, quantum_bytes, messages, began_s))
                return
            end.busy = False
        self._sends = False

    def _sent(self, load: tuple[End, int, list[Message], float]) -> None:
        end, quantum_bytes, messages, began_s = load
        if end.open:
            other = end.other
            assert other is not None
            now_s, latency_s = self.clock.now_s, self.network.latency_s
            here_s = other.host.lines.receive(quantum_bytes, began_s + latency_s, now_s + latency_s)
            other.host.lines.acknowledge(quantum_bytes, now_s)
            end.data_s = max(here_s, other.word_s)
            self.clock.at(end.data_s, other.receive, messages)
            if end.departed(quantum_bytes):
                self._round.append(end)
            else:
                end.busy = False
        self._send_next()
        if self.soon:
            self.wake()

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
        handshake = Handshake(OUR_EXTENSIONS, self.network.info_hash, theirs.host.peer_id)
        self.soon.append(LinkUp(key, handshake))
        self.lines.send(HANDSHAKE_BYTES, self.clock.now_s)
        theirs.word_s = self.clock.now_s + self.network.latency_s
        self.clock.at(theirs.word_s, theirs.up, self.peer_id)
        return end

    def refuse(self, sock: Any) -> None:
        """See doorway.Links."""
        self.clock.after(self.network.latency_s, sock.lose, "closed by the peer")

    def stop_dialling(self) -> None:
        """See doorway.Links: nothing here waits."""

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
            host.lines.heard_bytes += each_bytes
            note((now_s, host.number, key, len(messages)))
            host.handle(Received(key, messages, None), now_s)
            if host.soon or host.words:
                host.wake()
    network.trace.digest()


def _nobody(*_: Any) -> None:
    """Before there is a member."""
