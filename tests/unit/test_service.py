"""Whom a lone source serves when a peer takes nothing any more, and does not say so."""

from __future__ import annotations

import random

import pytest

from orchestra.geometry import Geometry
from orchestra.messages import Read
from orchestra.peer import Peer
from orchestra.picker import Picker
from orchestra.service import Service
from orchestra.sharer import STALLED_S
from orchestra.uploads import Uploads
from orchestra.wire import BLOCK_BYTES
from tests.fakes import ListInbox, bitfield, link_of, make_peer, told

PARTS = 12
GEOMETRY = Geometry(PARTS * BLOCK_BYTES, BLOCK_BYTES)


class Source:
    """The only source, and peers that want all of it, or nothing. Time is an argument."""

    def __init__(self, peers: int = 2, *, want: bool = True) -> None:
        rng = random.Random(1)
        self.reader = ListInbox()
        self.picker = Picker(PARTS, rng)
        for index in range(PARTS):
            self.picker.mark_have(index)
        self.peers = {key: make_peer(key, GEOMETRY, have=bitfield(PARTS)) for key in range(1, peers + 1)}
        self.uploads = Uploads(GEOMETRY, self.picker.have, self.reader, 0.0)
        self.service = Service(
            GEOMETRY, self.picker, self.peers, self.uploads, extent_parts=1, rng=rng, now_s=0.0, slots=4
        )
        self.service.expect(seeders=1, leechers=peers)
        for peer in self.peers.values():
            self.service.greeting(peer)
            peer.interested = want
        self.service.rechoke(0.0)

    def joins(self, key: int, now_s: float) -> Peer:
        """Another peer, which wants what it is told of."""
        peer = self.peers[key] = make_peer(key, GEOMETRY, have=bitfield(PARTS))
        greeting = self.service.greeting(peer)
        if greeting:
            peer.say(greeting, now_s)
        self.service.welcomed(now_s)
        return peer

    def offered(self, peer: Peer) -> list[int]:
        """What it was told of since the last time."""
        return [message[1] for message in told(link_of(peer).said()) if message[0] == "have"]

    def takes(self, peer: Peer, now_s: float) -> list[int]:
        """The peer fetches what it was told of, and says that it has it."""
        indices = self.offered(peer)
        self.asks(peer, indices, now_s)
        for read in self.reader.take():
            if isinstance(read, Read) and read.key == peer.key:
                self.uploads.sent(peer, sum(length for _, _, length in read.blocks), now_s)
        for index in indices:
            peer.have.add(index)
            self.picker.count_parts([index])
        self.service.heard(peer, indices, now_s)
        return indices

    def asks(self, peer: Peer, indices: list[int], now_s: float) -> None:
        if indices:
            self.service.asked(peer, [(index, 0, BLOCK_BYTES) for index in indices], now_s)


@pytest.mark.fault("P5")
def test_what_a_half_open_peer_was_given_is_for_others_before_the_connection_is_found_dead() -> None:
    source = Source()
    gone, stays = source.peers[1], source.peers[2]
    given = source.offered(gone)
    source.asks(gone, given, 0.0)
    assert given
    taken: list[int] = []
    now_s = 0.0
    while now_s < STALLED_S:
        taken += source.takes(stays, now_s)
        assert not set(taken) & set(given)
        now_s += 1.0
        source.service.tick(now_s)
    for _ in range(3):
        taken += source.takes(stays, now_s)
        source.service.tick(now_s)
    assert sorted(taken) == list(range(PARTS))


def test_what_a_slow_peer_was_given_stays_its_own_while_it_takes_something() -> None:
    source = Source()
    slow, other = source.peers[1], source.peers[2]
    given = source.offered(slow)
    source.asks(slow, given, 0.0)
    taken: list[int] = []
    for second in range(3 * int(STALLED_S)):
        now_s = float(second)
        taken += source.takes(other, now_s)
        if second % 5 == 4:
            source.uploads.sent(slow, BLOCK_BYTES // 8, now_s)
            slow.reading += 1
        source.service.tick(now_s)
    assert not set(taken) & set(given)


@pytest.mark.fault("P8")
def test_peers_that_leave_their_offers_lie_do_not_keep_a_newcomer_from_what_we_have() -> None:
    source = Source(peers=20, want=False)
    newcomer = source.joins(99, 1.0)
    shown: set[int] = set(source.offered(newcomer))
    for second in range(1, int(STALLED_S) + 2):
        source.service.tick(float(second))
        shown.update(source.offered(newcomer))
    assert shown == set(range(PARTS))
    newcomer.interested = True
    source.service.wavered(newcomer, STALLED_S + 2)
    assert not newcomer.choked


@pytest.mark.fault("P8")
def test_who_leaves_its_offers_lie_keeps_no_slot_from_those_who_fetch() -> None:
    source = Source(peers=5)
    [waiting] = [peer for peer in source.peers.values() if peer.choked]
    fetching, *idle = [peer for peer in source.peers.values() if not peer.choked]
    for peer in (waiting, *idle):
        peer.interested = False
    source.asks(fetching, source.offered(fetching), 0.0)
    for second in range(1, int(STALLED_S) + 2):
        source.uploads.sent(fetching, 1, float(second))
        fetching.reading += 1
        source.service.tick(float(second))
    assert source.offered(waiting)
    assert not waiting.choked
    assert all(peer.choked for peer in idle)
