"""Whom a lone source serves when a peer takes nothing any more, and does not say so."""

from __future__ import annotations

import random

import pytest

from orchestra.fast import Fast
from orchestra.geometry import Geometry
from orchestra.messages import Read
from orchestra.peer import Peer
from orchestra.picker import Picker
from orchestra.service import FIRST_WORD_S, MUTE_S, MUTES_AT_ONCE, Service
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
            self.service.greeting(peer, 0.0)
            peer.interested, peer.has_spoken = want, True
        self.service.rechoke(0.0)

    def joins(self, key: int, now_s: float, *, fast: bool = False) -> Peer:
        """Another peer, which has said nothing yet; `fast`: but has to (BEP 6)."""
        peer = self.peers[key] = make_peer(key, GEOMETRY, have=bitfield(PARTS))
        peer.since_s, peer.fast = now_s, Fast(()) if fast else None
        greeting = self.service.greeting(peer, now_s)
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


@pytest.mark.fault("P8")
def test_peers_that_say_nothing_are_no_reason_to_share_sparingly() -> None:
    source = Source(peers=0)
    for key in range(1, 101):
        source.joins(key, 0.0)
    source.joins(101, 0.0)
    assert not any(source.service.hides_from(peer) for peer in source.peers.values())


def test_one_whose_first_word_is_on_its_way_is_a_reason_to_share_sparingly() -> None:
    source = Source(peers=0)
    source.joins(1, 0.0, fast=True)
    second = source.joins(2, FIRST_WORD_S / 2, fast=True)
    assert source.service.hides_from(second)


def test_one_that_has_said_something_is_a_reason_to_share_sparingly() -> None:
    source = Source(peers=0)
    source.joins(1, 0.0).has_spoken = True
    assert source.service.hides_from(source.joins(2, 9.0))


def test_leechers_that_the_conductor_knows_of_are_a_reason_to_share_sparingly() -> None:
    source = Source(peers=0)
    source.service.expect(seeders=1, leechers=2)
    source.joins(1, 0.0)
    assert source.service.hides_from(source.joins(2, 9.0))


@pytest.mark.fault("P8")
def test_who_finds_only_peers_that_said_nothing_is_shown_all_although_offers_were_made() -> None:
    source = Source(peers=0)
    for key in range(1, 11):
        source.joins(key, 0.0, fast=True)
    second = source.peers[2]
    assert source.service.hides_from(second)
    source.joins(99, FIRST_WORD_S)
    assert not any(source.service.hides_from(peer) for peer in source.peers.values())
    assert set(source.offered(second)) == set(range(PARTS))


@pytest.mark.fault("P8")
def test_no_offer_is_held_for_long_for_one_that_says_nothing() -> None:
    source = Source(peers=2)
    fetching = list(source.peers.values())
    for key in range(3, 6):
        source.joins(key, 0.0)
    taken: set[int] = set()
    for second in range(int(STALLED_S)):
        assert second > MUTE_S or len(taken) < PARTS
        source.service.tick(float(second))
        for peer in 2 * fetching:
            taken.update(source.takes(peer, float(second)))
    assert taken == set(range(PARTS))


@pytest.mark.fault("P8")
def test_one_that_says_nothing_does_not_end_the_offers_to_those_who_wait_for_one_another() -> None:
    source = Source(peers=3)
    for peer in source.peers.values():
        source.offered(peer)
    source.joins(4, 0.0)
    for second in range(int(STALLED_S)):
        source.service.tick(float(second))
    assert all(source.service.hides_from(source.peers[key]) for key in (2, 3))
    assert not source.service.hides_from(source.peers[4])


@pytest.mark.fault("P8")
def test_of_many_that_say_nothing_only_a_few_are_shown_all_at_a_time() -> None:
    source = Source(peers=3)
    for key in range(10, 10 + 2 * MUTES_AT_ONCE):
        source.joins(key, 0.0)

    def hidden() -> int:
        return sum(source.service.hides_from(peer) for key, peer in source.peers.items() if key >= 10)

    source.service.tick(MUTE_S)
    assert hidden() == MUTES_AT_ONCE
    source.service.tick(MUTE_S + 1)
    assert hidden() == 0


def test_one_with_the_extension_protocol_alone_is_waited_for_too() -> None:
    source = Source(peers=0)
    source.joins(1, 0.0).speaks_extensions = True
    assert source.service.hides_from(source.joins(2, FIRST_WORD_S / 2))


@pytest.mark.fault("P8")
def test_a_crowd_that_says_nothing_takes_no_slot_from_one_that_fetches_all() -> None:
    source = Source(peers=0)
    fetching = source.joins(1, 0.0)
    fetching.has_spoken = fetching.interested = True
    source.service.wavered(fetching, 0.0)
    for key in range(2, 12):
        source.joins(key, 0.0)
    assert source.service.hides_from(source.peers[3])
    assert not fetching.choked
