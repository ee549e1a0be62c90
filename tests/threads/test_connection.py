"""One connection over real loopback sockets: handshakes, messages both ways, and every way to end."""

from __future__ import annotations

import errno
import queue
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

import netutils
from netutils import Address
from orchestra import connection as connection_module
from orchestra import line as line_module
from orchestra import receiver as receiver_module
from orchestra.buffers import Pool
from orchestra.connection import Connection, Identity
from orchestra.decoder import Decoder
from orchestra.landing import MESSAGE_BYTES, SLOTS, Landing
from orchestra.line import MAX_WAITING
from orchestra.messages import BlocksSent, LinkClosed, LinkUp, Received, Stop, ThreadEnded
from orchestra.receiver import (
    AWAKE_S,
    FEW_CONNECTIONS,
    FEW_SLOTS,
    FIRST_REST_S,
    FLOOD_BYTES,
    FLOOD_S,
    GATHER_S,
    HASTE_S,
    REST_S,
    ROUNDS_AT_ONCE,
    TRICKLE_SLOTS,
    Haste,
    Intake,
    Receiver,
)
from orchestra.shipment import Shipment
from orchestra.socketflow import Arrival
from orchestra.wire import (
    BLOCK_BYTES,
    EXTENSION_PROTOCOL_BIT,
    FAST_BIT,
    KEEP_ALIVE,
    OUR_EXTENSIONS,
    BitfieldReceived,
    Blocks,
    Choke,
    Handshake,
    HaveNone,
    Haves,
    MessageId,
    encode_bitfield,
    encode_handshake,
    encode_haves,
    encode_requests,
    encode_state,
)
from orchestra.worker import ThreadCrashed
from tests.fakes import (
    INFO_HASH,
    OUR_ID,
    PATIENCE_S,
    THEIR_ID,
    Reports,
    ScriptedPeer,
    loopback_pair,
    told,
)

PARTS, PART_BYTES = 100, 4 * BLOCK_BYTES
IDENTITY = Identity(INFO_HASH, OUR_ID, PARTS, PART_BYTES)
BUFFERS = 3
KEY = 7
CHOKE = encode_state(MessageId.CHOKE)


class Desk:
    """Connections under test, their reports, and the peers at their other ends."""

    def __init__(self) -> None:
        self.reports = Reports()
        self.receiver = Receiver(self.reports)
        self.receiver.start()
        self.pool = self.receiver.pool
        self.shipments: Pool[Shipment] = Pool(BUFFERS, Shipment)
        self.cancel = netutils.Cancel()
        self._made: list[Connection] = []
        self._peers: list[ScriptedPeer] = []

    def _start(self, address: Address, sock: socket.socket | None) -> Connection:
        connection = Connection(
            KEY, address, IDENTITY, self.reports, sock=sock, receiver=self.receiver, cancel=self.cancel
        )
        self._made.append(connection)
        connection.start()
        return connection

    def dial(self, address: Address) -> Connection:
        """A connection that calls there."""
        return self._start(address, None)

    def called(self) -> tuple[Connection, ScriptedPeer]:
        """A connection that was accepted, and who called."""
        ours, theirs = loopback_pair()
        self._peers.append(ScriptedPeer(theirs, parts=PARTS, part_size_bytes=PART_BYTES))
        return self._start(netutils.address_of(ours.getpeername()), ours), self._peers[-1]

    def up(self) -> tuple[Connection, ScriptedPeer]:
        """Such a connection after both handshakes."""
        connection, peer = self.called()
        peer.shake()
        self.reports.next(LinkUp)
        return connection, peer

    def shipment(self, *numbers: int) -> Shipment:
        """Blocks by their numbers, each filled with a byte of its own."""
        shipment = self.shipments.take()
        blocks = [(number // 4, number % 4 * BLOCK_BYTES, BLOCK_BYTES) for number in numbers]
        for offset, view in shipment.load(blocks, PART_BYTES):
            view[:] = b"".join(
                bytes([(offset // BLOCK_BYTES + n) % 251]) * BLOCK_BYTES
                for n in range(len(view) // BLOCK_BYTES)
            )
        return shipment

    def last_word(self) -> str:
        """The reason in LinkClosed, which nothing follows; all memory is back."""
        reason = self.reports.skip_to(LinkClosed).reason
        for connection in self._made:
            connection.join(PATIENCE_S)
        assert self.reports.nothing_more
        assert free(self.pool) == free(self.shipments) == BUFFERS
        return reason

    def end(self) -> None:
        self.cancel.set()
        for connection in self._made:
            connection.close("test over")
        for peer in self._peers:
            peer.sock.close()
        for connection in self._made:
            connection.join(PATIENCE_S)
        self.cancel.close()
        self.receiver.put(Stop())
        self.receiver.join(PATIENCE_S)
        self.receiver.close()


def free(pool: Pool[Any]) -> int:
    """How many could be taken without waiting."""
    return pool._free.qsize() + pool._unmade.qsize()


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.end()


def piece(number: int) -> bytes:
    """A `piece` message with block `number`, as Desk.shipment fills it (BEP 3)."""
    index, block = divmod(number, 4)
    return (
        struct.pack(">IBII", 9 + BLOCK_BYTES, 7, index, block * BLOCK_BYTES)
        + bytes([number % 251]) * BLOCK_BYTES
    )


# Handshakes


def test_who_dials_speaks_first(desk: Desk) -> None:
    [listener] = netutils.listen("127.0.0.1", 0)
    with listener:
        desk.dial(netutils.address_of(listener.getsockname()))
        with ScriptedPeer(listener.accept()[0]) as peer:
            assert peer.read_handshake() == Handshake(OUR_EXTENSIONS, INFO_HASH, OUR_ID)
            assert desk.reports.nothing_more
            peer.send(encode_handshake(INFO_HASH, THEIR_ID))
            assert desk.reports.next(LinkUp) == LinkUp(KEY, Handshake(OUR_EXTENSIONS, INFO_HASH, THEIR_ID))


def test_who_is_called_answers_only_those_who_know_the_composition(desk: Desk) -> None:
    _, peer = desk.called()
    peer.send(encode_handshake(INFO_HASH, THEIR_ID)[:48])
    assert peer.read_handshake() == Handshake(OUR_EXTENSIONS, INFO_HASH, OUR_ID)
    peer.send(THEIR_ID)
    assert desk.reports.next(LinkUp) == LinkUp(KEY, Handshake(OUR_EXTENSIONS, INFO_HASH, THEIR_ID))


def test_a_caller_with_another_composition_learns_nothing_of_us(desk: Desk) -> None:
    _, peer = desk.called()
    peer.send(encode_handshake(bytes(20), THEIR_ID))
    assert peer.wait_for_end() == 0
    assert desk.last_word() == "a handshake for another composition"


def test_a_callee_with_another_composition_is_left(desk: Desk) -> None:
    [listener] = netutils.listen("127.0.0.1", 0)
    with listener:
        desk.dial(netutils.address_of(listener.getsockname()))
        with ScriptedPeer(listener.accept()[0]) as peer:
            peer.send(encode_handshake(bytes(20), THEIR_ID))
            assert desk.last_word() == "a handshake for another composition"


@pytest.mark.parametrize("agreed", [True, False])
def test_the_fast_extension_is_heard_where_both_sides_speak_it(desk: Desk, agreed: bool) -> None:
    _, peer = desk.called()
    bits = FAST_BIT if agreed else EXTENSION_PROTOCOL_BIT
    peer.send(b"\x13BitTorrent protocol" + bits.to_bytes(8, "big") + INFO_HASH + THEIR_ID)
    peer.read_handshake()
    peer.send(encode_state(MessageId.HAVE_NONE))
    desk.reports.next(LinkUp)
    if agreed:
        assert desk.reports.next(Received).messages == [HaveNone()]
    else:
        assert desk.last_word() == "message id 15, which nobody agreed on"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: somewhere.example\r\nAccept: */*\r\n\r\n",
        b"\0" * 68,
        b"\xff" * 68,
        b"\x13BitTorrent protocoX" + bytes(48),
    ],
)
def test_what_is_no_handshake_ends_the_connection(desk: Desk, data: bytes) -> None:
    _, peer = desk.called()
    peer.send(data)
    assert peer.wait_for_end() == 0
    assert desk.last_word() == "not a BitTorrent handshake"


@pytest.mark.parametrize("length", [0, 1, 47, 48, 67])
def test_a_handshake_that_breaks_off_ends_the_connection(desk: Desk, length: int) -> None:
    _, peer = desk.called()
    peer.send(encode_handshake(INFO_HASH, THEIR_ID)[:length])
    peer.sock.shutdown(socket.SHUT_WR)
    assert desk.last_word() == "the connection ended early"


@pytest.mark.fault("P9")
@pytest.mark.parametrize("stops_at", [0, 30, 60])
def test_a_handshake_has_one_deadline_however_it_trickles(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, stops_at: int
) -> None:
    monkeypatch.setattr(connection_module, "HANDSHAKE_S", 0.1)
    _, peer = desk.called()
    for byte in encode_handshake(INFO_HASH, THEIR_ID)[:stops_at]:
        peer.send(bytes([byte]))
    assert desk.last_word() == "timed out"
    assert connection_module.HANDSHAKE_S <= 10


def test_a_call_that_nobody_takes_ends_with_the_reason_and_nothing_can_be_sent(desk: Desk) -> None:
    [listener] = netutils.listen("127.0.0.1", 0)
    address = netutils.address_of(listener.getsockname())
    listener.close()
    connection = desk.dial(address)
    assert desk.last_word() == "Connection refused"
    assert not connection.send(CHOKE)


def test_a_call_is_woken_when_the_member_stops(desk: Desk) -> None:
    desk.cancel.set()
    desk.dial(("127.0.0.1", 1))
    assert desk.last_word() == "given up"


def test_a_close_before_the_handshake_wins(desk: Desk) -> None:
    connection, _ = desk.called()
    connection.close("we stop")
    assert desk.last_word() == "we stop"


def test_a_close_while_it_dials_takes_effect_as_soon_as_it_is_through(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = loopback_pair()
    connections: list[Connection] = []

    def dial(_address: Address, _timeout_s: float, *, cancel: netutils.Cancel) -> socket.socket:
        assert cancel is desk.cancel
        connections[0].close("we stop")
        return ours

    monkeypatch.setattr(netutils, "dial", dial)
    connection = Connection(
        KEY, ("h", 1), IDENTITY, desk.reports, sock=None, receiver=desk.receiver, cancel=desk.cancel
    )
    connections.append(connection)
    connection.start()
    assert desk.last_word() == "we stop"
    connection.join(PATIENCE_S)
    with theirs:
        assert theirs.recv(100) == b""


# Receiving


def test_all_that_one_receive_brings_is_one_report(desk: Desk) -> None:
    _, peer = desk.up()
    peer.send(encode_bitfield(bytes(13)) + encode_haves([1, 2]) + CHOKE)
    received = desk.reports.next(Received)
    assert (received.key, received.buffer) == (KEY, None)
    assert [type(message).__name__ for message in received.messages] == ["BitfieldReceived", "Haves", "Choke"]


def test_where_no_blocks_come_little_is_heard_at_a_time(desk: Desk) -> None:
    _, peer = desk.up()
    count = 20_000
    peer.send(encode_haves([5]) * count)
    heard: list[int] = []
    while sum(heard) < count:
        said = told(desk.reports.next(Received).messages)
        assert set(said) == {("have", 5)}
        heard.append(len(said))
    assert max(heard) <= 2 * MESSAGE_BYTES // 9 + 1


def test_a_keep_alive_is_reported_as_a_sign_of_life(desk: Desk) -> None:
    _, peer = desk.up()
    peer.send(KEEP_ALIVE)
    received = desk.reports.next(Received)
    assert (received.key, received.messages, received.buffer) == (KEY, [], None)


def test_blocks_come_with_the_memory_that_they_are_in(desk: Desk) -> None:
    _, peer = desk.up()
    peer.send(piece(5) + piece(6))
    found, length = [], 0
    while length < 2 * BLOCK_BYTES:
        received = desk.reports.next(Received)
        found += told(received.messages)
        length = sum(len(item[2]) for item in found)
        if received.buffer is not None:
            assert free(desk.pool) < BUFFERS
            received.buffer.give_back()
    assert b"".join(item[2] for item in found) == bytes([5]) * BLOCK_BYTES + bytes([6]) * BLOCK_BYTES
    assert found[0][1] == 5 * BLOCK_BYTES


def test_a_message_may_come_byte_by_byte(desk: Desk) -> None:
    _, peer = desk.up()
    for byte in encode_requests([(1, 2, 3)]) + encode_haves([9]):
        peer.send(bytes([byte]))
    found: list[Any] = []
    while len(found) < 2:
        found += told(desk.reports.next(Received).messages)
    assert found == [("request", 1, 2, 3), ("have", 9)]
    assert free(desk.pool) == BUFFERS


def test_a_long_stream_arrives_whole_and_in_order(desk: Desk) -> None:
    _, peer = desk.up()
    stream = encode_haves([1]) + b"".join(map(piece, range(200))) + encode_haves([2])
    sender = threading.Thread(target=peer.send, args=(stream,))
    sender.start()
    found: list[Any] = []
    while ("have", 2) not in found:
        received = desk.reports.next(Received)
        found += told(received.messages)
        if received.buffer is not None:
            received.buffer.give_back()
    sender.join(PATIENCE_S)
    assert found[0] == ("have", 1)
    data = b"".join(item[2] for item in found if item[0] == "bytes")
    assert data == b"".join(bytes([number % 251]) * BLOCK_BYTES for number in range(200))


def test_while_no_memory_is_free_nothing_is_received_and_then_it_goes_on(desk: Desk) -> None:
    _, peer = desk.up()
    held = [desk.pool.take() for _ in range(BUFFERS)]
    peer.send(encode_haves([1]))
    assert desk.reports.nothing_more
    held.pop().give_back()
    assert desk.reports.next(Received).messages == [Haves([1])]
    while held:
        held.pop().give_back()


def test_idle_peers_hold_no_memory(desk: Desk) -> None:
    for _ in range(2 * BUFFERS):
        desk.up()
    assert free(desk.pool) == BUFFERS


@pytest.mark.skipif(not Arrival.can_gather, reason="the system cannot be told")
def test_what_is_gathered_does_not_wait_for_more_for_ever(desk: Desk) -> None:
    _, peer = desk.up()
    for number in range(3):
        # The second and the third wait for more, which does not come.
        peer.send(piece(number))
        received = desk.reports.next(Received)
        while not told(received.messages):
            received = desk.reports.next(Received)
        assert told(received.messages)[0][1] == number * BLOCK_BYTES
        assert received.buffer is not None
        received.buffer.give_back()


@pytest.mark.skipif(not Arrival.can_gather, reason="the system cannot be told")
def test_who_gives_fast_is_not_kept_waiting_by_who_gives_slowly(desk: Desk) -> None:
    receiver, patience_s = Receiver(desk.reports), []
    pairs = [loopback_pair() for _ in range(4)]
    for number, (ours, _) in enumerate(pairs):
        intake = Intake(number, ours, Decoder(PARTS, PART_BYTES, fast=False), Whoever())
        intake.slots = SLOTS if number % 2 else TRICKLE_SLOTS
        ours.setblocking(False)
        receiver._receive(intake)
        patience_s.append(receiver._patience_s())
    assert all(until_s is not None and until_s <= FLOOD_S for until_s in patience_s[1:])
    for gathering in receiver._gatherings.values():
        assert len(gathering.until_s) == 2
        assert len(list(gathering.pop_due(time.monotonic() + 2 * GATHER_S))) == 2
        assert not gathering.until_s
    assert receiver._patience_s() is None
    for pair in pairs:
        for sock in pair:
            sock.close()
    receiver.close()


@pytest.mark.skipif(not Arrival.can_gather, reason="the system cannot be told")
def test_more_is_waited_for_where_much_comes(desk: Desk) -> None:
    asked: list[int] = []
    ours, theirs = loopback_pair()
    with ours, theirs:
        intake = Intake(KEY, ours, Decoder(PARTS, PART_BYTES, fast=False), Whoever())
        intake.arrival.ask_for = asked.append  # type: ignore[method-assign,assignment]
        for intake.slots in (FEW_SLOTS, TRICKLE_SLOTS, SLOTS):
            desk.receiver._receive(intake)
    assert asked[0] < asked[1] - BLOCK_BYTES < asked[2] - FLOOD_BYTES / 2


@pytest.mark.skipif(not Arrival.can_gather, reason="the system cannot be told")
def test_who_was_waited_for_in_vain_is_heard_at_once_until_much_comes_again(desk: Desk) -> None:
    # Of one that is asked for less than FLOOD_BYTES at a time so much never comes.
    receiver = Receiver(desk.reports)
    ours, theirs = loopback_pair()
    with ours, theirs:
        intake = Intake(KEY, ours, Decoder(PARTS, PART_BYTES, fast=False), Whoever())
        intake.slots = SLOTS
        receiver._receive(intake)
        flood = receiver._gatherings[SLOTS]
        assert intake in flood.until_s
        flood.until_s[intake] = 0.0
        receiver._patience_s()
        receiver._receive(intake)
        assert intake not in flood.until_s
        assert intake.arrival._least_bytes == intake.missing_bytes
        intake.floods = True
        receiver._receive(intake)
        assert intake in flood.until_s
    receiver.close()


@pytest.fixture
def crowd(desk: Desk) -> Iterator[tuple[Receiver, list[Intake]]]:
    """A receiver whose thread does not run, with as many connections as are a few; nobody waits for them."""
    receiver, intakes = Receiver(desk.reports), []
    pairs = [loopback_pair() for _ in range(FEW_CONNECTIONS + 1)]
    for number, (ours, _) in enumerate(pairs):
        ours.setblocking(False)
        intakes.append(Intake(number, ours, Decoder(PARTS, PART_BYTES, fast=False), Whoever()))
        if number < FEW_CONNECTIONS:
            receiver._begin(intakes[-1])
    yield receiver, intakes
    for pair in pairs:
        for sock in pair:
            sock.close()
    receiver.close()


def test_who_hears_many_rests_when_it_was_woken_often(
    crowd: tuple[Receiver, list[Intake]], monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver, intakes = crowd
    now_s = 100.0
    rests_s: list[float] = []

    def sleep(rest_s: float) -> None:
        nonlocal now_s
        rests_s.append(rest_s)
        now_s += rest_s

    def rounds(count: int) -> list[float]:
        rests_s.clear()
        for _ in range(count):
            receiver._rest()
        return rests_s

    monkeypatch.setattr(receiver_module, "time", SimpleNamespace(monotonic=lambda: now_s, sleep=sleep))
    assert rounds(2 * ROUNDS_AT_ONCE) == []  # there are only a few
    receiver._begin(intakes[-1])
    assert rounds(ROUNDS_AT_ONCE) == []
    rests = list(rounds(40))
    lengthening = rests[: rests.index(REST_S)]
    assert lengthening == [FIRST_REST_S * 2**number for number in range(len(lengthening))]
    assert set(rests[len(lengthening) :]) == {REST_S}
    now_s += AWAKE_S - 2 * REST_S  # as many rounds are free, 50 a second
    assert set(rounds(40)) == {REST_S}
    now_s += 10.0
    assert rounds(ROUNDS_AT_ONCE) == []
    assert rounds(2) == [FIRST_REST_S, 2 * FIRST_REST_S]


def test_while_much_moves_it_does_not_rest(
    crowd: tuple[Receiver, list[Intake]], monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver, intakes = crowd
    receiver._begin(intakes[-1])
    now_s = 100.0
    rests_s: list[float] = []
    monkeypatch.setattr(
        receiver_module, "time", SimpleNamespace(monotonic=lambda: now_s, sleep=rests_s.append)
    )

    def rounds(rounds_s: float, moved_bytes: int, count: int) -> int:
        nonlocal now_s
        rests_s.clear()
        for _ in range(count):
            now_s += rounds_s
            receiver._haste.moved_bytes += moved_bytes
            receiver._rest()
        return len(rests_s)

    assert rounds(0.001, 100, 200) > 150
    # It goes on: whatever is said beside it does not slow it down.
    rounds(0.001, 64 << 10, int(1000 * HASTE_S))
    assert rounds(0.001, 64 << 10, 200) == 0
    assert rounds(0.010, 1 << 20, 200) == 0
    assert rounds(0.001, 8 << 10, int(2000 * HASTE_S)) <= 1000 * HASTE_S
    assert rounds(0.001, 8 << 10, 200) > 150
    assert rounds(0.001, 4 << 20, 20) == 0, "at once, where it is much"


@pytest.mark.parametrize(
    ("said", "moved_bytes"),
    [
        (encode_haves([1, 2, 3]), 27),
        (encode_requests([(0, 0, BLOCK_BYTES), (0, BLOCK_BYTES, BLOCK_BYTES)]), 34 + 2 * BLOCK_BYTES),
        (piece(0) + piece(1), 2 * MESSAGE_BYTES),
    ],
    ids=["haves", "requests", "blocks"],
)
def test_what_comes_and_what_is_asked_for_moves(desk: Desk, said: bytes, moved_bytes: int) -> None:
    receiver = Receiver(desk.reports)
    ours, theirs = loopback_pair()
    with ours, theirs:
        intake = Intake(KEY, ours, Decoder(PARTS, PART_BYTES, fast=False), Whoever())
        intake.slots = SLOTS
        theirs.sendall(said)
        assert len(ours.recv(len(said), socket.MSG_PEEK | socket.MSG_WAITALL)) == len(said)
        for times in (1, 2):
            receiver._receive(intake)
            assert receiver._haste.moved_bytes == times * moved_bytes
            theirs.sendall(said)
            assert len(ours.recv(len(said), socket.MSG_PEEK | socket.MSG_WAITALL)) == len(said)
    receiver.close()


@pytest.mark.skipif(not Arrival.can_gather, reason="the system cannot be told")
def test_where_it_rests_more_blocks_are_not_waited_for(crowd: tuple[Receiver, list[Intake]]) -> None:
    receiver, intakes = crowd
    receiver._begin(intakes[-1])
    for rests in (False, True):
        receiver._haste = Haste()
        receiver._haste.moved_bytes = 0 if rests else 1 << 60
        receiver._rest()
        for intake, slots in zip(intakes, (TRICKLE_SLOTS, SLOTS), strict=False):
            intake.slots = slots
            receiver._receive(intake)
            assert (intake in receiver._gatherings[slots].until_s) is not rests


@pytest.mark.parametrize("is_up", [False, True])
def test_who_takes_turns_with_others_prepares_its_socket_once_it_has_one(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, is_up: bool
) -> None:
    prepared: list[socket.socket] = []
    monkeypatch.setattr(connection_module, "for_turns", prepared.append)
    [listener] = netutils.listen("127.0.0.1", 0)
    with listener:
        connection = Connection(
            KEY,
            netutils.address_of(listener.getsockname()),
            IDENTITY,
            desk.reports,
            sock=None,
            receiver=desk.receiver,
            cancel=desk.cancel,
        )
        desk._made.append(connection)
        if not is_up:
            connection.take_turns()
            assert prepared == []
        connection.start()
        theirs, _ = listener.accept()
        with ScriptedPeer(theirs, parts=PARTS, part_size_bytes=PART_BYTES) as peer:
            peer.shake()
            desk.reports.next(LinkUp)
            connection.take_turns()
            connection.take_turns()
            assert len(prepared) == 1
            connection.close("over")
            desk.reports.skip_to(LinkClosed)


class Whoever:
    """Whose socket it is (receiver.Speaker)."""

    is_closed = False

    def __init__(self) -> None:
        self.is_over = threading.Event()

    def over(self, _reason: str) -> None:
        self.is_over.set()


@pytest.mark.skipif(not Arrival.can_gather, reason="the system cannot be told")
def test_a_receive_takes_less_than_was_asked_for() -> None:
    # Where memory is short a wait ends with less: a receive that waited for the rest would never end.
    ours, theirs = loopback_pair()
    pool: Pool[Landing] = Pool(1, Landing)
    with ours, theirs:
        intake = Intake(KEY, ours, Decoder(PARTS, PART_BYTES, fast=False), Whoever())
        intake.arrival.ask_for(100)
        theirs.sendall(CHOKE)
        assert intake.receive_into(pool.take()) == ([Choke()], len(CHOKE))


def test_the_receiver_ends_with_the_last_connection(desk: Desk) -> None:
    connection, _ = desk.up()
    desk.receiver.put(Stop())
    connection.close("we stop")
    said = {desk.reports.next(object), desk.reports.next(object)}
    assert said == {LinkClosed(KEY, "we stop"), ThreadEnded("receiver")}


def test_who_comes_when_the_receiver_has_ended_is_let_go(desk: Desk) -> None:
    desk.receiver.put(Stop())
    desk.receiver.join(PATIENCE_S)
    _, peer = desk.called()
    peer.shake()
    assert desk.reports.skip_to(LinkClosed).reason == "we stop"


def test_the_receiver_ends_when_the_last_connection_ends_while_it_gathers(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = loopback_pair()
    speaker = Whoever()
    intake = Intake(KEY, ours, Decoder(PARTS, PART_BYTES, fast=False), speaker)

    def fail(_least_bytes: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    def gather(_least_bytes: int) -> None:
        monkeypatch.setattr(intake.arrival, "ask_for", fail)
        desk.receiver.put(Stop())

    monkeypatch.setattr(intake.arrival, "ask_for", gather)
    monkeypatch.setattr(intake.arrival, "can_gather", True)
    with ours, theirs:
        desk.receiver.put(intake)
        theirs.sendall(piece(0))
        desk.receiver.join(PATIENCE_S)
        assert speaker.is_over.is_set()
    received = desk.reports.skip_to(Received)
    assert received.buffer is not None
    received.buffer.give_back()


def test_when_the_receiver_crashes_all_connections_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: Any) -> None:
        raise ZeroDivisionError("a bug")

    _, peer = desk.up()
    desk.up()
    monkeypatch.setattr(Receiver, "_receive", crash)
    peer.send(KEEP_ALIVE)
    crashes = 0
    for _ in range(3):
        try:
            desk.reports.next(LinkClosed)
        except ZeroDivisionError:
            crashes += 1
    assert crashes == 1


def test_what_is_closed_as_soon_as_it_is_up_is_not_heard(desk: Desk) -> None:
    ours, theirs = loopback_pair()
    made: list[Connection] = []

    def report(message: Any) -> None:
        desk.reports(message)
        if isinstance(message, LinkUp):
            made[0].close("banned")

    made.append(
        Connection(KEY, ("h", 1), IDENTITY, report, sock=ours, receiver=desk.receiver, cancel=desk.cancel)
    )
    with theirs:
        theirs.sendall(encode_handshake(INFO_HASH, THEIR_ID) + encode_haves([5]) * 30_000)
        made[0].start()
        desk.reports.next(LinkUp)
        assert desk.reports.next(LinkClosed).reason == "banned"
        made[0].join(PATIENCE_S)


def test_who_could_not_be_woken_looks_when_anything_else_comes(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, first = desk.up()

    class Silent:
        def send(self, _data: bytes) -> int:
            raise OSError(errno.ENOBUFS, "No buffer space available")

    with monkeypatch.context() as patched:
        patched.setattr(desk.receiver._bell, "_waking", Silent())
        _, second = desk.up()
        second.send(encode_haves([3]))
        first.send(KEEP_ALIVE)
        said = [desk.reports.next(Received).messages for _ in range(2)]
        assert sorted(said, key=len) == [[], [Haves([3])]]


def test_after_many_small_messages_less_is_heard_at_a_time(desk: Desk) -> None:
    # What takes long to decode keeps all others waiting.
    ours, theirs = loopback_pair()
    intake = Intake(KEY, ours, Decoder(PARTS, PART_BYTES, fast=False), Whoever())
    landing = desk.pool.take()
    with ours, theirs:
        intake.slots = SLOTS
        theirs.sendall(struct.pack(">IBIIB", 10, 7, 0, 0, 0) * 9000)
        assert select.select([ours], [], [], PATIENCE_S)[0]
        intake.receive_into(landing)
        assert intake.slots == TRICKLE_SLOTS
    landing.give_back()


# Sending


class Part:
    """A socket's first answers: it takes so many bytes at once, and then, for a moment, none."""

    def __init__(self, sock: socket.socket, *takes: int) -> None:
        self._sock = sock
        self._takes = list(takes)

    def send(self, data: bytes, _flags: int) -> int:
        return self._sock.send(data[: self._take(len(data))])

    def sendmsg(self, views: Sequence[memoryview], _ancillary: Any = (), _flags: int = 0) -> int:
        data = b"".join(views)
        return self._sock.send(data[: self._take(len(data))])

    def sendall(self, data: bytes) -> None:
        self._sock.sendall(data)

    def _take(self, whole: int) -> int:
        take = self._takes.pop(0) if self._takes else whole
        if not take:
            raise BlockingIOError
        return take


class Asleep:
    """What wakes a connection's thread: nothing does, until `awake` is set."""

    def __init__(self) -> None:
        self.tokens: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.awake = threading.Event()

    def put(self, _token: None) -> None:
        self.tokens.put(None)

    def get(self) -> None:
        self.awake.wait(PATIENCE_S)
        self.tokens.get()


def idle_sender(desk: Desk) -> tuple[Connection, ScriptedPeer, Asleep]:
    """A connection that is up, its thread asleep whatever is sent; and what wakes it."""
    connection, peer = desk.called()
    sleep = Asleep()
    # The thread does not look at it before the handshakes are through.
    connection._line._wake = sleep  # type: ignore[assignment]
    peer.shake()
    desk.reports.next(LinkUp)
    return connection, peer, sleep


@pytest.mark.skipif(not line_module._AT_ONCE, reason="the system cannot be told")
@pytest.mark.parametrize("takes", [(), (0,), (3,), (9, 0), (9, 1)])
def test_words_that_the_system_takes_in_part_arrive_whole_and_in_order(
    desk: Desk, takes: tuple[int, ...]
) -> None:
    connection, peer, sleep = idle_sender(desk)
    connection._line._sock = Part(connection._line._sock, *takes)  # type: ignore[assignment,arg-type]
    for index in range(4):
        assert connection.send(encode_haves([index]))
    connection.send(desk.shipment(0))
    assert connection.send(encode_haves([4]))
    sleep.awake.set()
    found: list[Any] = []
    while ("have", 4) not in found:
        found += told([peer.next(object)])  # type: ignore[list-item]
    assert [item for item in found if item[0] == "have"] == [("have", index) for index in range(5)]
    assert found[-1] == ("have", 4)


@pytest.mark.skipif(not line_module._AT_ONCE, reason="the system cannot be told")
@pytest.mark.parametrize("take", [1, 13, 14, BLOCK_BYTES + 13, 2 * BLOCK_BYTES + 25])
def test_a_shipment_that_the_system_takes_in_part_comes_before_what_is_sent_later(
    desk: Desk, take: int
) -> None:
    connection, peer, sleep = idle_sender(desk)
    connection._line._sock = Part(connection._line._sock, take)  # type: ignore[assignment,arg-type]
    for item in (desk.shipment(0, 1), encode_haves([4]), desk.shipment(9), encode_haves([5])):
        assert connection.send(item)
    assert desk.reports.nothing_more
    sleep.awake.set()
    found: list[Any] = []
    while ("have", 5) not in found:
        found += told([peer.next(object)])  # type: ignore[list-item]
    kinds = [item[0] for item in found]
    assert [kind for kind, before in zip(kinds, [None, *kinds], strict=False) if kind != before] == [
        "bytes",
        "have",
        "bytes",
        "have",
    ]
    data = b"".join(item[2] for item in found if item[0] == "bytes")
    assert data == b"".join(bytes([n]) * BLOCK_BYTES for n in (0, 1, 9))
    assert [desk.reports.next(BlocksSent).payload_bytes for _ in range(2)] == [2 * BLOCK_BYTES, BLOCK_BYTES]
    assert free(desk.shipments) == BUFFERS


@pytest.mark.skipif(not line_module._AT_ONCE, reason="the system cannot be told")
def test_what_is_said_while_a_shipment_is_taken_in_part_comes_after_it(desk: Desk) -> None:
    connection, peer, sleep = idle_sender(desk)

    class Interrupted(Part):
        def sendmsg(self, views: Sequence[memoryview], _ancillary: Any = (), _flags: int = 0) -> int:
            if not connection._line._waiting:
                connection.send(encode_haves([4]))
            return super().sendmsg(views)

    connection._line._sock = Interrupted(connection._line._sock, 20)  # type: ignore[assignment,arg-type]
    connection.send(desk.shipment(0))
    sleep.awake.set()
    found: list[Any] = []
    while ("have", 4) not in found:
        found += told([peer.next(object)])  # type: ignore[list-item]
    assert found[-1] == ("have", 4)
    assert b"".join(item[2] for item in found[:-1]) == bytes(BLOCK_BYTES)


@pytest.mark.skipif(not line_module._AT_ONCE, reason="the system cannot be told")
def test_what_was_begun_gives_its_memory_back_when_the_connection_ends(desk: Desk) -> None:
    connection, _, sleep = idle_sender(desk)
    connection._line._sock = Part(connection._line._sock, 20)  # type: ignore[assignment,arg-type]
    connection.send(desk.shipment(0, 1))
    assert free(desk.shipments) == BUFFERS - 1
    connection.close("over")
    sleep.awake.set()
    desk.reports.skip_to(LinkClosed)
    assert free(desk.shipments) == BUFFERS


@pytest.mark.skipif(not line_module._AT_ONCE, reason="the system cannot be told")
def test_what_the_system_takes_is_sent_by_who_has_it(desk: Desk) -> None:
    # Nobody has to be woken for it.
    connection, peer, sleep = idle_sender(desk)
    assert connection.send(encode_haves([7]))
    assert peer.next(Haves) == Haves([7])
    assert connection.send(desk.shipment(3))
    assert peer.next(Blocks).offset == 3 * BLOCK_BYTES
    assert desk.reports.next(BlocksSent) == BlocksSent(KEY, BLOCK_BYTES)
    assert sleep.tokens.empty()
    sleep.awake.set()


def test_while_somebody_sends_nobody_else_does(desk: Desk) -> None:
    connection, peer = desk.up()
    with connection._line._lock:
        assert connection.send(encode_haves([7]))
        assert connection.send(desk.shipment(3))
        assert len(connection._line._waiting) == 2
    assert peer.next(Haves) == Haves([7])
    assert peer.next(Blocks).offset == 3 * BLOCK_BYTES


def test_what_is_sent_arrives_in_order(desk: Desk) -> None:
    connection, peer = desk.up()
    assert connection.send(encode_bitfield(bytes(13)))
    assert connection.send(desk.shipment(0, 1, 9))
    assert connection.send(encode_haves([4]))
    assert connection.send(encode_haves([5]))
    assert peer.next(BitfieldReceived) == BitfieldReceived(bytes(13))
    found: list[Any] = []
    while ("have", 5) not in found:
        found += told([peer.next(object)])  # type: ignore[list-item]
    blocks = [item for item in found if item[0] == "bytes"]
    assert b"".join(item[2] for item in blocks) == b"".join(bytes([n]) * BLOCK_BYTES for n in (0, 1, 9))
    assert found[-2:] == [("have", 4), ("have", 5)]


def test_a_shipment_that_has_left_is_reported_and_its_memory_is_back(desk: Desk) -> None:
    connection, peer = desk.up()
    connection.send(desk.shipment(0, 1))
    assert desk.reports.next(BlocksSent) == BlocksSent(KEY, 2 * BLOCK_BYTES)
    assert free(desk.shipments) == BUFFERS
    assert peer.next(Blocks).offset == 0


class Grudging:
    """A socket that takes only some bytes at a time."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = b""

    def sendmsg(self, views: Sequence[memoryview]) -> int:
        some = b"".join(views)[: self.most]
        self.taken += some
        return len(some)

    def sendall(self, data: bytes) -> None:
        self.taken += data


@pytest.mark.parametrize("most", [1 << 30, 16397, 10_000, 16384 * 3])
def test_a_shipment_is_sent_to_its_end_however_little_the_system_takes(desk: Desk, most: int) -> None:
    shipment, sock = desk.shipment(3, 4, 7), Grudging(most)
    line_module._send_whole(sock, shipment)  # type: ignore[arg-type]
    assert sock.taken == piece(3) + piece(4) + piece(7)


def test_a_shipment_is_sent_whole_by_a_system_that_cannot_gather(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Grudging, "sendmsg")
    shipment, sock = desk.shipment(3, 4, 7), Grudging(1)
    line_module._send_whole(sock, shipment)  # type: ignore[arg-type]
    assert sock.taken == piece(3) + piece(4) + piece(7)


def stuffed(desk: Desk) -> tuple[Connection, ScriptedPeer]:
    """A connection whose peer takes nothing in, its sender blocked, and no more may wait."""
    connection, peer = desk.up()
    assert connection.send(bytes(64 << 20))
    deadline_s = time.monotonic() + PATIENCE_S
    while connection._line._waiting or not connection._line._lock.locked():
        assert time.monotonic() < deadline_s, "the sender has not begun"
    sent = 0
    while connection.send(KEEP_ALIVE if sent else desk.shipment(1)):
        sent += 1
        assert sent <= MAX_WAITING + 1
    return connection, peer


def test_a_line_that_is_full_refuses(desk: Desk) -> None:
    connection, _ = stuffed(desk)
    assert not connection.send(CHOKE)
    shipment = desk.shipment(2)
    assert not connection.send(shipment)
    shipment.give_back()


def test_a_close_wakes_a_sender_that_is_blocked_and_empties_the_line(desk: Desk) -> None:
    connection, _ = stuffed(desk)
    connection.close("too far behind")
    assert desk.last_word() == "too far behind"


# Ends


def test_a_close_wakes_a_receiver_that_is_blocked(desk: Desk) -> None:
    connection, peer = desk.up()
    connection.close("we stop")
    assert desk.last_word() == "we stop"
    assert peer.wait_for_end() == 0


def test_what_waits_of_a_peer_that_we_close_is_not_decoded_any_more(desk: Desk) -> None:
    connection, peer = desk.up()
    held = [desk.pool.take() for _ in range(BUFFERS)]
    # Several receives, which cannot begin before there is memory.
    peer.send(encode_haves([5]) * 40_000)
    connection.close("a flood")
    while held:
        held.pop().give_back()
    heard = []
    while not isinstance(message := desk.reports.next(object), LinkClosed):
        heard.append(message)
    assert message.reason == "a flood"
    assert len(heard) <= 1, "the receive that was under way"


def test_the_first_reason_counts(desk: Desk) -> None:
    connection, _ = desk.up()
    connection.close("part 3 was wrong")
    connection.close("we stop")
    assert desk.last_word() == "part 3 was wrong"


def test_what_was_sent_before_the_peer_closed_is_still_heard(desk: Desk) -> None:
    _, peer = desk.up()
    peer.send(encode_haves([1]))
    peer.sock.close()
    assert desk.reports.next(Received).messages == [Haves([1])]
    assert desk.last_word() == "closed by the peer"


@pytest.mark.fault("P6")
def test_a_reset_is_an_end_like_others(desk: Desk) -> None:
    _, peer = desk.up()
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.sock.close()
    assert desk.last_word() in ("Connection reset by peer", "closed by the peer")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xff\xff\xff", "a message of 4294967295 bytes"),
        (struct.pack(">I", (1 << 20) + 1), "a message of 1048577 bytes"),
        (struct.pack(">IB", 9 + BLOCK_BYTES + 1, 7), "PIECE of 16394 bytes"),
        (struct.pack(">IB", 1, 99), "message id 99, which nobody agreed on"),
        (encode_bitfield(bytes(12)), "BITFIELD of 13 bytes"),
        (CHOKE + encode_haves([1])[:4] + b"\x0a", "message id 10, which nobody agreed on"),
    ],
)
def test_who_breaks_the_protocol_is_closed_with_the_reason(desk: Desk, data: bytes, reason: str) -> None:
    _, peer = desk.up()
    peer.send(data)
    assert desk.last_word() == reason
    peer.wait_for_end()


@pytest.mark.fault("P11")
def test_a_flood_behind_a_broken_length_is_not_swallowed(desk: Desk) -> None:
    _, peer = desk.up()
    peer.send(b"\xff\xff\xff\xff")
    assert desk.last_word() == "a message of 4294967295 bytes"
    with pytest.raises(OSError, match="Broken pipe|reset"):
        peer.send(bytes(200 << 20))


def test_memory_comes_back_also_when_a_broken_message_follows_blocks(desk: Desk) -> None:
    _, peer = desk.up()
    peer.send(piece(0) + piece(1) + struct.pack(">IB", 1, 99))
    while not isinstance(report := desk.reports.next(object), LinkClosed):
        assert isinstance(report, Received)
        if report.buffer is not None:
            report.buffer.give_back()
    assert report.reason == "message id 99, which nobody agreed on"
    assert free(desk.pool) == BUFFERS


def test_after_the_end_nothing_is_taken(desk: Desk) -> None:
    connection, _ = desk.up()
    connection.close("over")
    desk.last_word()
    assert not connection.send(CHOKE)
    shipment = desk.shipment(0)
    assert not connection.send(shipment)
    shipment.give_back()
    connection.close("again")


def test_what_is_sent_just_as_the_connection_ends_gives_its_memory_back(desk: Desk) -> None:
    class EndsAfterTheFirstLook(threading.Event):
        def is_set(self) -> bool:
            before = super().is_set()
            self.set()
            return before

    connection, _ = desk.up()
    connection.close("over")
    desk.last_word()
    connection._ended = EndsAfterTheFirstLook()
    connection.send(desk.shipment(0))
    assert free(desk.shipments) == BUFFERS


@pytest.mark.skipif(not line_module._AT_ONCE, reason="the system cannot be told")
def test_nothing_follows_a_message_that_was_cut(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    connection, _, sleep = idle_sender(desk)
    offered: list[bytes] = []

    class Breaks(Part):
        def sendall(self, data: bytes) -> None:
            raise OSError(errno.ENOBUFS, "No buffer space available")

        def send(self, data: bytes, _flags: int) -> int:
            offered.append(data)
            raise BlockingIOError

    shut = connection._shut

    def say_more_and_shut() -> None:
        connection.send(encode_haves([2]))
        shut()

    monkeypatch.setattr(connection, "_shut", say_more_and_shut)
    connection._line._sock = Breaks(connection._line._sock)  # type: ignore[assignment,arg-type]
    connection.send(encode_haves([1]))
    sleep.awake.set()
    desk.reports.skip_to(LinkClosed)
    assert offered == [encode_haves([1])]


@pytest.mark.fault("D12")
def test_a_bug_in_the_sending_thread_is_reported_and_ends_the_connection(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(line_module, "_AT_ONCE", 0)
    monkeypatch.setattr(line_module, "_send_whole", crash)
    connection, _ = desk.up()
    connection.send(desk.shipment(0))
    assert desk.reports.next(LinkClosed).key == KEY
    with pytest.raises(ZeroDivisionError):
        desk.reports.next(ThreadCrashed)
