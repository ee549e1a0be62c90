"""The virtual network of a rehearsal, without orchestrators: what arrives when."""

from __future__ import annotations

from typing import Any

import pytest

from orchestra.geometry import Geometry
from orchestra.line import MAX_WAITING
from orchestra.messages import Accepted, BlocksSent, LinkClosed, LinkUp, Received
from orchestra.rehearsal.clock import Clock
from orchestra.rehearsal.ends import QUANTUM_BYTES, SOCKET_BUFFER_BYTES, End
from orchestra.rehearsal.host import Host, Network
from orchestra.rehearsal.lines import PACKET_BYTES, QUEUED_BYTES, Lines
from orchestra.rehearsal.speech import Cargo, Speech
from orchestra.rehearsal.tally import Trace
from orchestra.wire import BLOCK_BYTES, Blocks, Haves, Interested, MessageId, encode_haves, encode_state

PART_BYTES = 16 * BLOCK_BYTES
LATENCY_S = 0.01
UP_BYTES_S, DOWN_BYTES_S = 1_000_000.0, 4_000_000.0
INTERESTED = encode_state(MessageId.INTERESTED)


class Machine:
    """A host whose orchestrator takes every call, and notes what it is told."""

    def __init__(
        self,
        network: Network,
        number: int,
        up_bytes_s: float = UP_BYTES_S,
        down_bytes_s: float = DOWN_BYTES_S,
    ) -> None:
        self.host = Host(network, number, b"%020d" % number, Lines(up_bytes_s, down_bytes_s))
        self.host.hear, self.host.wake = self.hear, self.hear_soon
        self.host.handle = lambda message, _: self.note(message)
        self.host.listens = True
        self.clock = network.clock
        self.told: list[tuple[float, Any]] = []
        self.keys = iter(range(100, 200))

    def note(self, message: Any) -> None:
        self.told.append((self.clock.now_s, message))
        if isinstance(message, Accepted):
            self.host.adopt(next(self.keys), message.sock, message.address)

    def hear(self, message: Any) -> None:
        self.note(message)
        self.hear_soon()

    def hear_soon(self) -> None:
        while self.host.soon:
            self.note(self.host.soon.popleft())
        if self.host.words:
            self.host.flush()

    def heard(self, kind: type) -> list[tuple[float, Any]]:
        return [(when_s, message) for when_s, message in self.told if isinstance(message, kind)]

    def payload_bytes(self) -> int:
        return sum(
            said.length
            for _, message in self.heard(Received)
            for said in message.messages
            if isinstance(said, Blocks)
        )

    def dial(self, other: Machine) -> End:
        return self.host.dial(next(self.keys), (other.host.address, 6881))

    def send(self, end: End, data: bytes) -> None:
        assert end.send(data)
        self.hear_soon()

    def ship(self, end: End, blocks: int, first: int = 0) -> None:
        numbers = range(first, first + blocks)
        end.ship([(number // 16, number % 16 * BLOCK_BYTES, BLOCK_BYTES) for number in numbers])
        self.hear_soon()


@pytest.fixture
def network() -> Network:
    geometry = Geometry(1000 * PART_BYTES, PART_BYTES)
    return Network(Clock(), Speech(geometry), Trace(), latency_s=LATENCY_S, part_size_bytes=PART_BYTES)


def connect(one: Machine, other: Machine) -> tuple[End, End]:
    end = one.dial(other)
    one.clock.run()
    assert end.other is not None
    return end, end.other


def ended_s(machine: Machine) -> float:
    return machine.heard(Received)[-1][0]


# The clock


def test_the_clock_keeps_the_order_of_entry_among_equal_times_and_never_runs_backwards() -> None:
    clock = Clock()
    seen: list[str] = []
    clock.at(2.0, seen.append, "later")
    clock.at(1.0, seen.append, "first")
    clock.at(1.0, lambda word: clock.at(0.5, seen.append, word), "in the past: now")
    clock.at(1.0, seen.append, "second")
    clock.run()
    assert seen == ["first", "second", "in the past: now", "later"]
    assert clock.now_s == 2.0


def test_the_clock_stops_when_told() -> None:
    clock = Clock()
    seen: list[str] = []
    clock.at(1.0, lambda _: clock.stop(), None)
    clock.at(1.0, seen.append, "too late")
    clock.run()
    assert not seen


# Coming and going


def test_the_callee_hears_of_a_connection_after_three_trips_the_caller_after_four(network: Network) -> None:
    one, other = Machine(network, 1), Machine(network, 2)
    end, theirs = connect(one, other)
    [(called_s, call)] = other.heard(Accepted)
    [(up_s, link)] = other.heard(LinkUp)
    assert called_s == up_s == pytest.approx(3 * LATENCY_S)
    assert (call.address[0], link.key, link.handshake.peer_id) == ("10.0.0.1", theirs.key, one.host.peer_id)
    [(up_s, link)] = one.heard(LinkUp)
    assert up_s == pytest.approx(4 * LATENCY_S)
    assert (link.key, link.handshake.peer_id) == (end.key, other.host.peer_id)


def test_nobody_listens_there(network: Network) -> None:
    one, other = Machine(network, 1), Machine(network, 2)
    other.host.listens = False
    end = one.dial(other)
    missing = one.host.dial(7, ("10.9.9.9", 6881))
    network.clock.run()
    assert one.told == [
        (2 * LATENCY_S, LinkClosed(end.key, "Connection refused")),
        (2 * LATENCY_S, LinkClosed(missing.key, "Connection refused")),
    ]
    assert not one.host.ends


def test_a_connection_that_is_closed_before_it_is_up_is_gone_on_both_sides(network: Network) -> None:
    one, other = Machine(network, 1), Machine(network, 2)
    end = one.dial(other)
    network.clock.at(2 * LATENCY_S, lambda _: end.close("not any more"), None)
    network.clock.run()
    one.hear_soon()
    assert not other.told
    assert [message for _, message in one.told] == [LinkClosed(end.key, "not any more")]


def test_closing_says_the_last_word_at_once_here_and_a_trip_later_there(network: Network) -> None:
    one, other = Machine(network, 1), Machine(network, 2)
    end, theirs = connect(one, other)
    began_s = network.clock.now_s
    end.close("enough")
    one.hear_soon()
    network.clock.run()
    assert one.told[-1] == (began_s, LinkClosed(end.key, "enough"))
    closed_s, closed = other.told[-1]
    assert closed_s == pytest.approx(began_s + LATENCY_S)
    assert closed == LinkClosed(theirs.key, "closed by the peer")
    assert not end.send(INTERESTED)
    assert not theirs.send(INTERESTED)
    assert not one.host.ends
    assert not other.host.ends


def test_what_has_left_still_arrives_before_the_end_and_the_rest_is_lost(network: Network) -> None:
    one, other = Machine(network, 1), Machine(network, 2)
    end, _ = connect(one, other)
    one.ship(end, 64)
    network.clock.after(2.5 * QUANTUM_BYTES / UP_BYTES_S, lambda _: end.close("killed"), None)
    network.clock.run()
    assert other.payload_bytes() == 2 * 4 * BLOCK_BYTES
    assert isinstance(other.told[-1][1], LinkClosed)


def test_a_machine_that_leaves_closes_everything_and_takes_no_calls(network: Network) -> None:
    one, other, third = Machine(network, 1), Machine(network, 2), Machine(network, 3)
    connect(one, other)
    one.host.leave()
    end = third.dial(one)
    network.clock.run()
    assert isinstance(other.told[-1][1], LinkClosed)
    assert third.told[-1][1] == LinkClosed(end.key, "Connection refused")


# How long it takes


def test_data_take_their_bytes_over_the_uplink_and_one_trip(network: Network) -> None:
    one, other = Machine(network, 1), Machine(network, 2)
    end, _ = connect(one, other)
    began_s = network.clock.now_s
    one.ship(end, 128)
    network.clock.run()
    wire_bytes = 128 * (BLOCK_BYTES + 13)
    assert ended_s(other) - began_s == pytest.approx(wire_bytes / UP_BYTES_S + LATENCY_S, rel=0.001)
    assert other.payload_bytes() == 128 * BLOCK_BYTES


def test_data_take_their_bytes_over_a_slower_downlink(network: Network) -> None:
    one, other = Machine(network, 1), Machine(network, 2, down_bytes_s=UP_BYTES_S / 2)
    end, _ = connect(one, other)
    began_s = network.clock.now_s
    one.ship(end, 128)
    network.clock.run()
    wire_bytes = 128 * (BLOCK_BYTES + 13)
    assert ended_s(other) - began_s == pytest.approx(2 * wire_bytes / UP_BYTES_S + LATENCY_S, rel=0.001)


def test_a_downlink_is_shared_by_all_who_send(network: Network) -> None:
    sink = Machine(network, 9, down_bytes_s=UP_BYTES_S)
    senders = [Machine(network, number) for number in (1, 2, 3)]
    ends = [connect(sender, sink)[0] for sender in senders]
    began_s = network.clock.now_s
    for sender, end in zip(senders, ends, strict=True):
        sender.ship(end, 64)
    network.clock.run()
    wire_bytes = 3 * 64 * (BLOCK_BYTES + 13)
    assert ended_s(sink) - began_s == pytest.approx(wire_bytes / UP_BYTES_S + LATENCY_S, rel=0.01)


def test_an_uplink_is_shared_fairly_however_much_each_connection_has(network: Network) -> None:
    one = Machine(network, 1)
    others = [Machine(network, number) for number in (2, 3, 4)]
    ends = [connect(one, other)[0] for other in others]
    began_s = network.clock.now_s
    for end, blocks in zip(ends, (32, 32, 320), strict=True):
        one.ship(end, blocks)
    network.clock.run()
    block_s = (BLOCK_BYTES + 13) / UP_BYTES_S
    alike = [ended_s(other) - began_s for other in others[:2]]
    assert alike == [pytest.approx(3 * 32 * block_s, rel=0.1)] * 2
    assert ended_s(others[2]) - began_s == pytest.approx(384 * block_s, rel=0.02)


def test_two_machines_send_to_each_other_at_full_speed_less_their_acknowledgements(network: Network) -> None:
    one, other = Machine(network, 1), Machine(network, 2)
    end, theirs = connect(one, other)
    began_s = network.clock.now_s
    one.ship(end, 256)
    other.ship(theirs, 256)
    network.clock.run()
    alone_s = 256 * (BLOCK_BYTES + 13) / UP_BYTES_S
    taken_s = max(ended_s(one), ended_s(other)) - began_s - LATENCY_S
    assert 1.02 * alone_s < taken_s < 1.03 * alone_s


def test_a_short_message_on_a_free_line_takes_a_packet_and_a_trip(network: Network) -> None:
    one, other = Machine(network, 1), Machine(network, 2)
    end, theirs = connect(one, other)
    began_s = network.clock.now_s
    one.send(end, INTERESTED)
    network.clock.run()
    packet_s = (PACKET_BYTES + len(INTERESTED)) / UP_BYTES_S
    heard_s, heard = other.told[-1]
    assert heard_s == pytest.approx(began_s + packet_s + LATENCY_S)
    assert isinstance(heard, Received)
    assert (heard.key, heard.messages, heard.buffer) == (theirs.key, [Interested()], None)


def test_what_is_said_to_one_at_one_moment_is_heard_as_one(network: Network) -> None:
    one, other = Machine(network, 1), Machine(network, 2)
    end, theirs = connect(one, other)
    end.send(encode_haves([3]))
    one.send(end, INTERESTED)
    network.clock.run()
    heard = other.told[-1][1]
    assert isinstance(heard, Received)
    assert (heard.key, heard.messages, heard.buffer) == (theirs.key, [Haves([3]), Interested()], None)
    assert network.speech.messages(encode_haves([3])) == [Haves([3])], "others hear what was said to all"


def test_many_short_messages_take_their_bytes(network: Network) -> None:
    one = Machine(network, 1)
    others = [Machine(network, number) for number in range(2, 52)]
    ends = [connect(one, other)[0] for other in others]
    began_s = network.clock.now_s
    for end in ends:
        end.send(encode_haves(list(range(100))))
    one.hear_soon()
    network.clock.run()
    taken_s = 50 * (900 + PACKET_BYTES) / UP_BYTES_S
    assert [ended_s(other) for other in others] == [pytest.approx(began_s + taken_s + LATENCY_S)] * 50


def test_a_short_message_stays_behind_the_data_of_its_own_connection(network: Network) -> None:
    one, other = Machine(network, 1), Machine(network, 2)
    end, _ = connect(one, other)
    one.ship(end, 20)
    one.send(end, INTERESTED)
    one.ship(end, 2, first=20)
    network.clock.run()
    said = [type(message) for _, heard in other.heard(Received) for message in heard.messages]
    assert said == [Blocks] * 5 + [Interested, Blocks]


def test_a_short_message_goes_between_the_data_of_others(network: Network) -> None:
    one, other, third = Machine(network, 1), Machine(network, 2), Machine(network, 3)
    end, _ = connect(one, other)
    quiet, _ = connect(one, third)
    began_s = network.clock.now_s
    one.ship(end, 1000)
    one.send(quiet, INTERESTED)
    network.clock.run()
    queued_s = QUEUED_BYTES / UP_BYTES_S
    assert began_s + LATENCY_S + queued_s < ended_s(third) < began_s + LATENCY_S + 1.1 * queued_s


def test_short_messages_and_data_of_one_connection_keep_their_order(network: Network) -> None:
    one, other = Machine(network, 1), Machine(network, 2, down_bytes_s=UP_BYTES_S / 4)
    end, _ = connect(one, other)
    for number in range(20):
        at_s = network.clock.now_s + number * 0.03
        network.clock.at(at_s, lambda number: one.send(end, encode_haves([number])), number)
        network.clock.at(at_s, lambda number: one.ship(end, 1, first=number), number)
    network.clock.run()
    heard = [message for _, received in other.heard(Received) for message in received.messages]
    expected: list[Any] = []
    for number in range(20):
        expected += [Haves([number]), (number * BLOCK_BYTES, BLOCK_BYTES)]
    assert [(said.offset, said.length) if isinstance(said, Blocks) else said for said in heard] == expected


# What is taken ahead


def test_a_shipment_counts_as_sent_when_the_rest_fits_into_the_socket(network: Network) -> None:
    one, other = Machine(network, 1), Machine(network, 2)
    end, _ = connect(one, other)
    began_s = network.clock.now_s
    fitting = SOCKET_BUFFER_BYTES // (BLOCK_BYTES + 13)
    one.ship(end, fitting)
    assert one.told[-1] == (began_s, BlocksSent(end.key, fitting * BLOCK_BYTES))
    one.ship(end, 64, first=fitting)
    assert len(one.heard(BlocksSent)) == 1
    network.clock.run()
    [(sent_s, sent)] = one.heard(BlocksSent)[1:]
    assert sent == BlocksSent(end.key, 64 * BLOCK_BYTES)
    all_s = (64 + fitting) * (BLOCK_BYTES + 13) / UP_BYTES_S
    ahead_s = SOCKET_BUFFER_BYTES / UP_BYTES_S
    assert sent_s - began_s == pytest.approx(all_s - ahead_s, abs=QUANTUM_BYTES / UP_BYTES_S)


def test_a_peer_that_takes_nothing_in_cannot_be_told_for_ever(network: Network) -> None:
    one, other = Machine(network, 1), Machine(network, 2)
    end, _ = connect(one, other)
    one.ship(end, 16)
    took = sum(end.send(INTERESTED) for _ in range(2 * MAX_WAITING))
    assert took == MAX_WAITING - 1


# Blocks


def test_cargo_becomes_runs_of_neighbours_in_quanta() -> None:
    spans = [(0, 14 * BLOCK_BYTES, BLOCK_BYTES), (0, 15 * BLOCK_BYTES, BLOCK_BYTES), (1, 0, BLOCK_BYTES)]
    cargo = Cargo([*spans, (5, 0, 100), (7, 0, BLOCK_BYTES)], PART_BYTES)
    assert (cargo.payload_bytes, cargo.wire_bytes) == (4 * BLOCK_BYTES + 100, 4 * BLOCK_BYTES + 100 + 5 * 13)
    messages: list[Any] = []
    assert cargo.take(4, messages) == (4, 3 * BLOCK_BYTES + 100 + 4 * 13)
    assert [(run.offset, run.length) for run in messages] == [
        (14 * BLOCK_BYTES, 3 * BLOCK_BYTES),
        (5 * PART_BYTES, 100),
    ]
    assert [sum(map(len, run.views)) for run in messages] == [3 * BLOCK_BYTES, 100]
    assert not cargo.empty
    cargo.take(4, messages)
    assert cargo.empty
