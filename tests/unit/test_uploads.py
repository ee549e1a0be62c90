"""Answering requests: what waits, what the reader is given, and how much at a time."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

import pytest

from orchestra.bitfield import Bitfield
from orchestra.errors import RemoteProtocolError
from orchestra.fast import Fast
from orchestra.geometry import Geometry
from orchestra.messages import Read
from orchestra.peer import Peer
from orchestra.riders import RIDE_S, RIVALS_S, SILENT_BYTES, STUCK_S, TRUSTED_BYTES
from orchestra.uploads import (
    EXCUSED_IN_VAIN,
    GRACE_S,
    HOPELESS_S,
    MAX_ASKED,
    MAX_BATCH_BLOCKS,
    MAX_IN_VAIN,
    MAX_STUCK_READS,
    MOST_UNDER_WAY_BYTES,
    PATIENCE_S,
    READS_AT_ONCE,
    Uploads,
)
from orchestra.wire import BLOCK_BYTES, BlockSpan, Rejects
from tests.fakes import ListInbox, bitfield, link_of, make_peer

GEOMETRY = Geometry(100 * (1 << 20), 1 << 20)
HAVE = bitfield(100, *range(99))


class Desk:
    """Uploads with a reader that is a list, and one peer that is not choked."""

    def __init__(self) -> None:
        self.reader = ListInbox()
        self.uploads = Uploads(GEOMETRY, HAVE, self.reader, 0.0)
        self.peer = self.peer_of(1)

    def sent(self, peer: Peer, batch: list[BlockSpan], now_s: float) -> None:
        """This batch has left."""
        self.uploads.sent(peer, sum(length for _, _, length in batch), now_s)

    @staticmethod
    def peer_of(key: int) -> Peer:
        peer = make_peer(key, GEOMETRY)
        peer.choked = False
        return peer

    def read(self) -> list[list[BlockSpan]]:
        """The batches that the reader was given since the last time."""
        return [message.blocks for message in self.reader.take() if isinstance(message, Read)]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def blocks(count: int, first: int = 0) -> list[BlockSpan]:
    """So many blocks in order, from block number `first` on."""
    return [((n // 64), n % 64 * BLOCK_BYTES, BLOCK_BYTES) for n in range(first, first + count)]


def test_requests_go_to_the_reader_in_the_order_in_which_they_came(desk: Desk) -> None:
    desk.uploads.asked(desk.peer, blocks(3), 0.0)
    [read] = desk.reader.take()
    assert (read.key, read.outbox, read.blocks) == (1, desk.peer.link, blocks(3))


def test_a_block_asked_for_twice_waits_once(desk: Desk) -> None:
    desk.uploads.asked(desk.peer, blocks(20), 0.0)
    desk.uploads.asked(desk.peer, blocks(20, 10), 0.0)
    while desk.peer.asked:
        desk.uploads.sent(desk.peer, BLOCK_BYTES, 0.0)
    assert [block for batch in desk.read() for block in batch] == blocks(30)


def test_the_reader_has_little_of_a_slow_uplink_and_two_batches_of_a_fast_one(desk: Desk) -> None:
    desk.uploads.asked(desk.peer, blocks(100), 0.0)
    given = desk.read()
    assert len(given) == 1
    desk.uploads.asked(desk.peer, blocks(100, 100), 0.0)
    assert desk.read() == []
    while desk.peer.asked:
        desk.sent(desk.peer, given[-1], 0.0)
        given += desk.read()
    assert [block for batch in given for block in batch] == blocks(200)

    fast = Desk()
    fast.uploads._rate.add(1 << 30, 0.0)
    fast.uploads.asked(fast.peer, blocks(100), 0.0)
    assert len(fast.read()) == READS_AT_ONCE


def test_what_is_under_way_to_many_is_bounded_however_fast_the_uplink_is(desk: Desk) -> None:
    desk.uploads._rate.add(1 << 32, 0.0)
    for key in range(2, 30):
        peer = desk.peer_of(key)
        peer.batch_blocks = MAX_BATCH_BLOCKS
        desk.uploads.asked(peer, blocks(2 * MAX_BATCH_BLOCKS - 20), 0.0)
    batches = desk.read()
    in_memory_bytes = sum([length for batch in batches for _, _, length in batch])
    assert MOST_UNDER_WAY_BYTES <= in_memory_bytes < MOST_UNDER_WAY_BYTES + MAX_BATCH_BLOCKS * BLOCK_BYTES


def test_peers_take_turns_at_a_slow_uplink_and_what_was_given_least_goes_first(desk: Desk) -> None:
    other, third = desk.peer_of(2), desk.peer_of(3)
    desk.uploads.asked(desk.peer, blocks(8), 0.0)
    [first] = desk.read()
    assert first == blocks(8)
    desk.uploads.asked(other, blocks(4), 0.0)
    desk.uploads.asked(third, blocks(4, 64), 0.0)
    assert desk.read() == []
    desk.sent(desk.peer, first, 0.1)
    assert desk.read() == [blocks(4, 64), blocks(4)], "part 0 was given before, part 1 was not"


def test_of_those_who_ask_for_the_like_who_has_least_goes_first(desk: Desk) -> None:
    ahead, behind = desk.peer_of(2), desk.peer_of(3)
    ahead.have, behind.have = bitfield(100, *range(13)), bitfield(100, *range(12))
    desk.uploads.asked(desk.peer, blocks(8), 0.0)
    [first] = desk.read()
    desk.uploads.asked(ahead, blocks(4, 640), 0.0)
    desk.uploads.asked(behind, blocks(4, 704), 0.0)
    desk.sent(desk.peer, first, 0.1)
    assert desk.read() == [blocks(4, 704), blocks(4, 640)]


def test_who_is_half_through_a_part_goes_on_with_it(desk: Desk) -> None:
    other = desk.peer_of(2)
    desk.uploads.asked(desk.peer, blocks(40), 0.0)
    [first] = desk.read()
    desk.uploads.asked(other, blocks(8, 64), 0.0)
    desk.sent(desk.peer, first, 0.1)
    [second] = desk.read()
    assert second[0] == (0, len(first) * BLOCK_BYTES, BLOCK_BYTES)


def test_nobody_waits_for_ever_nor_for_a_peer_that_takes_nothing_in(desk: Desk) -> None:
    other = desk.peer_of(2)
    desk.uploads.asked(desk.peer, blocks(40), 0.0)
    desk.read()
    desk.uploads.asked(other, blocks(8, 64), 0.0)
    desk.uploads.go_on(0.9 * STUCK_S)
    assert desk.read() == []
    desk.uploads.go_on(STUCK_S + 0.001)
    assert blocks(8, 64) in desk.read()


def test_the_turn_of_a_peer_that_has_left_goes_to_the_next(desk: Desk) -> None:
    other = desk.peer_of(2)
    desk.uploads.asked(desk.peer, blocks(40), 0.0)
    desk.read()
    desk.uploads.asked(other, blocks(8, 64), 0.0)
    desk.uploads.left(desk.peer, 0.0)
    assert desk.read() == [blocks(8, 64)]


def test_batches_grow_for_a_peer_that_takes_them_fast_and_shrink_for_a_slow_one(desk: Desk) -> None:
    now_s, sizes = 0.0, []
    for turn in range(10):
        desk.peer.asked.clear()
        desk.uploads.asked(desk.peer, blocks(MAX_ASKED, turn), now_s)
        sizes += [len(batch) for batch in desk.read()]
        now_s += 0.001
        desk.uploads.sent(desk.peer, BLOCK_BYTES, now_s)
    assert sizes == sorted(sizes)
    assert max(sizes) == MAX_BATCH_BLOCKS
    desk.peer.asked.clear()
    desk.uploads.asked(desk.peer, blocks(MAX_ASKED), now_s)
    sizes = []
    for _ in range(8):
        desk.read()
        now_s += 2.0
        desk.uploads.sent(desk.peer, BLOCK_BYTES, now_s)
        sizes.append(desk.peer.batch_blocks)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 1


def test_a_pause_is_not_taken_for_a_slow_batch(desk: Desk) -> None:
    desk.uploads.asked(desk.peer, blocks(1), 0.0)
    desk.uploads.sent(desk.peer, BLOCK_BYTES, 0.001)
    before = desk.peer.batch_blocks
    desk.uploads.asked(desk.peer, blocks(1), 100.0)
    desk.uploads.sent(desk.peer, BLOCK_BYTES, 100.001)
    assert desk.peer.batch_blocks > before


def test_what_was_sent_is_counted_for_the_peer_and_for_all(desk: Desk) -> None:
    other = desk.peer_of(2)
    desk.uploads.asked(desk.peer, blocks(1), 0.0)
    desk.uploads.asked(other, blocks(1), 0.0)
    desk.uploads.sent(desk.peer, 1000, 1.0)
    desk.uploads.sent(other, 234, 1.0)
    assert (desk.peer.up.total_bytes, other.up.total_bytes) == (1000, 234)
    assert desk.uploads.total_bytes == 1234


def test_a_choked_peers_requests_are_dropped(desk: Desk) -> None:
    desk.peer.choked = True
    desk.uploads.asked(desk.peer, blocks(3), 0.0)
    assert not desk.peer.asked
    assert desk.read() == []


def test_a_choke_drops_what_waits(desk: Desk) -> None:
    desk.uploads.asked(desk.peer, blocks(100), 0.0)
    [batch] = desk.read()
    desk.uploads.choke(desk.peer, 0.0)
    desk.sent(desk.peer, batch, 0.0)
    assert desk.read() == []
    assert desk.peer.reading == 0


def test_a_cancel_takes_back_what_the_reader_has_not_got_yet(desk: Desk) -> None:
    desk.uploads.asked(desk.peer, blocks(12), 0.0)
    given = [block for batch in desk.read() for block in batch]
    desk.uploads.cancelled(desk.peer, [*blocks(2, 10), (99, 0, 1), given[0]], 0.0)
    while desk.peer.reading:
        desk.uploads.sent(desk.peer, BLOCK_BYTES, 0.0)
        given += [block for batch in desk.read() for block in batch]
    assert given == blocks(10)


@pytest.mark.fault("P10")
def test_a_flood_of_requests_waits_only_up_to_the_bound_and_ends(desk: Desk) -> None:
    desk.uploads.asked(desk.peer, blocks(MAX_ASKED), 0.0)
    for turn in range(3):
        desk.uploads.asked(desk.peer, blocks(MAX_ASKED, 600 * turn), 0.0)
        assert len(desk.peer.asked) <= MAX_ASKED
    with pytest.raises(RemoteProtocolError, match="too many requests in vain"):
        desk.uploads.asked(desk.peer, blocks(5000), 0.0)
    assert len(desk.peer.asked) <= MAX_ASKED


@pytest.mark.fault("P10")
def test_who_cancels_what_it_never_asked_for_is_closed_in_the_end(desk: Desk) -> None:
    desk.uploads.asked(desk.peer, blocks(10), 0.0)
    desk.uploads.cancelled(desk.peer, blocks(10) + blocks(MAX_ASKED), 0.0)
    with pytest.raises(RemoteProtocolError, match="cancels of what was not asked for"):
        desk.uploads.cancelled(desk.peer, blocks(1), 0.0)


@pytest.mark.fault("P10")
def test_who_takes_nothing_in_is_closed_sooner_the_more_memory_lies_there(desk: Desk) -> None:
    stuck = [desk.peer_of(key) for key in range(10)]
    for number, peer in enumerate(stuck):
        desk.uploads.asked(peer, blocks(1), float(STUCK_S * number))
        assert peer.reading == 1
        peer.reading = 2
    desk.uploads.close_stuck(STUCK_S * 9 + GRACE_S)
    assert [peer.closing for peer in stuck] == [True] * 8 + [False] * 2
    assert sum(peer.reading for peer in stuck if not peer.closing) == MAX_STUCK_READS
    desk.uploads.close_stuck(HOPELESS_S)
    assert not stuck[8].closing
    desk.uploads.close_stuck(HOPELESS_S + STUCK_S * 9)
    assert stuck[9].closing


def rejected(peer: Peer) -> list[BlockSpan]:
    """The blocks that the peer was told it would not get, since the last look."""
    return [block for said in link_of(peer).said() if isinstance(said, Rejects) for block in said.blocks]


def test_each_request_of_a_peer_that_speaks_bep_6_is_answered_once(desk: Desk) -> None:
    desk.peer.fast = Fast()
    desk.uploads.asked(desk.peer, blocks(12), 0.0)
    given = [block for batch in desk.read() for block in batch]
    assert given == blocks(8)
    desk.uploads.cancelled(desk.peer, [*blocks(2, 6), *blocks(2, 9), (98, 0, 1)], 0.0)
    # Two of them are with the reader and will be sent, one nobody asked for.
    assert rejected(desk.peer) == blocks(2, 9)
    desk.uploads.choke(desk.peer, 0.0)
    assert rejected(desk.peer) == [*blocks(1, 8), *blocks(1, 11)]
    desk.uploads.sent(desk.peer, BLOCK_BYTES, 0.0)
    assert desk.read() == []


def test_what_is_asked_while_choked_or_beyond_the_bound_is_rejected(desk: Desk) -> None:
    desk.peer.fast = Fast()
    desk.uploads.asked(desk.peer, blocks(MAX_ASKED + 8), 0.0)
    desk.uploads.asked(desk.peer, blocks(5, 10 + MAX_ASKED), 0.0)
    waiting = len(desk.peer.asked) + sum(map(len, desk.read()))
    assert waiting + len(rejected(desk.peer)) == MAX_ASKED + 13
    desk.peer.choked = True
    desk.uploads.asked(desk.peer, blocks(3, 2000), 0.0)
    assert rejected(desk.peer) == blocks(3, 2000)


def test_who_speaks_bep_3_alone_hears_of_no_reject(desk: Desk) -> None:
    desk.uploads.asked(desk.peer, blocks(MAX_ASKED + 50), 0.0)
    desk.uploads.cancelled(desk.peer, blocks(20), 0.0)
    desk.uploads.choke(desk.peer, 0.0)
    assert link_of(desk.peer).said() == []


def test_a_granted_part_is_given_to_a_choked_peer_and_survives_a_choke(desk: Desk) -> None:
    desk.peer.have = bitfield(100)
    desk.peer.fast = Fast(granted={1: 64})
    desk.peer.choked = True
    desk.uploads.asked(desk.peer, [*blocks(10, 64), *blocks(1)], 0.0)
    assert rejected(desk.peer) == blocks(1)
    assert [block for batch in desk.read() for block in batch] == blocks(8, 64)
    desk.uploads.choke(desk.peer, 0.0)
    assert list(desk.peer.asked) == blocks(2, 72)
    assert rejected(desk.peer) == []


def test_a_peer_that_asks_on_and_on_while_choked_is_closed(desk: Desk) -> None:
    desk.peer.fast = Fast()
    desk.uploads.asked(desk.peer, blocks(1), 0.0)
    desk.peer.choked = True
    for _ in range(MAX_IN_VAIN // 500):
        desk.uploads.asked(desk.peer, blocks(500), 0.0)
    desk.uploads.sent(desk.peer, BLOCK_BYTES, 0.0)
    desk.uploads.asked(desk.peer, blocks(EXCUSED_IN_VAIN), 0.0)
    with pytest.raises(RemoteProtocolError, match="too many requests in vain"):
        desk.uploads.asked(desk.peer, blocks(1), 0.0)


@pytest.mark.fault("P10")
def test_a_peer_that_asks_for_one_block_over_and_over_is_closed(desk: Desk) -> None:
    desk.uploads.asked(desk.peer, blocks(100), 0.0)
    waiting = list(desk.peer.asked)[-1:]
    for _ in range(MAX_IN_VAIN):
        desk.uploads.asked(desk.peer, waiting, 0.0)
    with pytest.raises(RemoteProtocolError, match="too many requests in vain"):
        desk.uploads.asked(desk.peer, waiting, 0.0)


@pytest.mark.fault("P10")
def test_one_that_takes_in_a_block_now_and_then_may_not_do_so_either(desk: Desk) -> None:
    for _ in range(MAX_IN_VAIN // 500):
        desk.uploads.asked(desk.peer, blocks(1) * 500, 0.0)
        desk.uploads.sent(desk.peer, BLOCK_BYTES, 0.0)
    assert desk.peer.in_vain > MAX_IN_VAIN - 500
    with pytest.raises(RemoteProtocolError, match="too many requests in vain"):
        desk.uploads.asked(desk.peer, blocks(1) * 500, 0.0)


@pytest.mark.fault("P10")
def test_a_peer_that_asks_and_takes_back_on_and_on_is_closed(desk: Desk) -> None:
    desk.uploads.asked(desk.peer, blocks(100), 0.0)
    waiting = list(desk.peer.asked)
    for _ in range(MAX_IN_VAIN // len(waiting)):
        desk.uploads.cancelled(desk.peer, waiting, 0.0)
        desk.uploads.asked(desk.peer, waiting, 0.0)
    with pytest.raises(RemoteProtocolError, match="too many requests in vain"):
        desk.uploads.cancelled(desk.peer, waiting, 0.0)


def test_one_that_repeats_what_it_waits_for_while_it_is_served_is_not_closed(desk: Desk) -> None:
    """aria2 and libtorrent ask again when they lose patience, and take back what others were faster with."""
    desk.uploads.asked(desk.peer, blocks(MAX_ASKED), 0.0)
    for turn in range(200):
        waiting = list(desk.peer.asked)[:EXCUSED_IN_VAIN]
        desk.uploads.asked(desk.peer, waiting, float(turn))
        for batch in desk.read():
            desk.sent(desk.peer, batch, float(turn))
            desk.uploads.asked(desk.peer, blocks(len(batch), MAX_ASKED + 10 * turn), float(turn))
    desk.uploads.asked(desk.peer, list(desk.peer.asked), 200.0)
    desk.uploads.cancelled(desk.peer, list(desk.peer.asked), 200.0)


@pytest.mark.parametrize("choked", [False, True])
@pytest.mark.parametrize(
    "block",
    [
        (100, 0, BLOCK_BYTES),
        (2**32 - 1, 0, 1),
        (0, 0, 0),
        (0, 0, BLOCK_BYTES + 1),
        (0, 0, 2**31),
        (0, (1 << 20) - 1, 2),
        (0, 1 << 20, 1),
        (99, 0, BLOCK_BYTES),
    ],
)
def test_a_request_that_cannot_be_breaks_the_protocol(desk: Desk, block: BlockSpan, choked: bool) -> None:
    desk.peer.choked = choked
    with pytest.raises(RemoteProtocolError, match=f"a request for .*{block[0]}"):
        desk.uploads.asked(desk.peer, [*blocks(2), block], 0.0)
    assert desk.read() == []


def test_a_peer_that_is_being_closed_is_not_served(desk: Desk) -> None:
    desk.uploads.asked(desk.peer, blocks(100), 0.0)
    desk.read()
    desk.peer.close("over")
    desk.uploads.sent(desk.peer, BLOCK_BYTES, 0.0)
    assert desk.read() == []


def rider_and_giver(desk: Desk) -> tuple[Peer, Peer]:
    """Both took two MiB of us; one gave as much, the other nothing. Both want more, the rider for longer."""
    rider, giver = desk.peer_of(2), desk.peer_of(3)
    for peer in (rider, giver):
        peer.up.add(2 * TRUSTED_BYTES, 0.0)
    giver.down.add(2 * TRUSTED_BYTES, 0.0)
    desk.uploads.asked(desk.peer, blocks(8), 0.0)
    desk.uploads.asked(rider, blocks(8, 64), 0.0)
    desk.uploads.asked(giver, blocks(8, 128), 0.0)
    return rider, giver


def test_who_gives_nothing_gets_what_is_spare(desk: Desk) -> None:
    _, giver = rider_and_giver(desk)
    [batch] = desk.read()
    desk.sent(desk.peer, batch, PATIENCE_S + 1)
    [batch] = desk.read()
    assert batch == blocks(8, 128)
    desk.sent(giver, batch, PATIENCE_S + 2)
    assert desk.read() == [blocks(8, 64)]


def test_once_we_are_complete_nobody_owes_us_anything() -> None:
    desk = Desk()
    desk.uploads = Uploads(GEOMETRY, Bitfield.full(100), desk.reader, 0.0)
    rider_and_giver(desk)
    [batch] = desk.read()
    desk.sent(desk.peer, batch, PATIENCE_S + 1)
    assert desk.read() == [blocks(8, 64)]


def riders_beside_a_giver(desk: Desk, riders: Sequence[Peer], now_s: float) -> None:
    """The uplink is fast; a peer that gives has just been given what it wanted, and the riders want more."""
    desk.uploads._rate.add(1 << 30, now_s)
    desk.peer.down.add(2 * TRUSTED_BYTES, now_s)
    desk.uploads.asked(desk.peer, blocks(4), now_s)
    [batch] = desk.read()
    desk.sent(desk.peer, batch, now_s)
    for rider in riders:
        rider.up.add(2 * TRUSTED_BYTES, now_s)
        desk.uploads.asked(rider, blocks(200, 64 * 20 * rider.key), now_s)


def served(desk: Desk) -> set[int]:
    """The keys of those to whom the reader was given something since the last time."""
    return {message.key for message in desk.reader.take() if isinstance(message, Read)}


def test_those_who_give_nothing_are_served_one_at_a_time_beside_one_that_gives(desk: Desk) -> None:
    riders = [desk.peer_of(2), desk.peer_of(3)]
    riders_beside_a_giver(desk, riders, 0.0)
    for now_s in (0.0, 0.3, 0.6):
        assert served(desk) == {2}
        desk.uploads.sent(riders[0], 4 * BLOCK_BYTES, now_s + 0.1)


def test_the_next_one_that_gives_nothing_has_its_turn_in_a_while(desk: Desk) -> None:
    riders = [desk.peer_of(2), desk.peer_of(3)]
    riders_beside_a_giver(desk, riders, 0.0)
    for quarter in range(int(RIDE_S / 0.25)):
        assert served(desk) - {1} == {2}
        now_s = 0.25 * (quarter + 1)
        desk.uploads.asked(desk.peer, blocks(4), now_s)
        desk.sent(desk.peer, blocks(4), now_s)
        desk.uploads.sent(riders[0], 4 * BLOCK_BYTES, now_s)
    assert served(desk) - {1} == {3}


@pytest.mark.parametrize("why", ["has all that it asked for", "takes nothing in", "has left"])
def test_one_that_gives_nothing_and_needs_nothing_now_is_not_waited_for(desk: Desk, why: str) -> None:
    riders = [desk.peer_of(2), desk.peer_of(3)]
    riders_beside_a_giver(desk, riders, 0.0)
    served(desk)
    match why:
        case "has all that it asked for":
            riders[0].asked.clear()
            for _ in range(READS_AT_ONCE):
                desk.uploads.sent(riders[0], 4 * BLOCK_BYTES, 0.1)
        case "takes nothing in":
            desk.uploads.go_on(STUCK_S)
        case _:
            desk.uploads.left(riders[0], 0.1)
    assert served(desk) == {3}


def test_those_who_give_nothing_share_what_nobody_else_wants(desk: Desk) -> None:
    riders = [desk.peer_of(2), desk.peer_of(3)]
    riders_beside_a_giver(desk, riders, 0.0)
    served(desk)
    desk.uploads.sent(riders[0], 4 * BLOCK_BYTES, RIVALS_S)
    assert served(desk) == {2, 3}


def newcomer(key: int) -> Peer:
    """One that has nothing yet."""
    peer = Desk.peer_of(key)
    peer.have = bitfield(100)
    return peer


def shares(*silent: Peer, showing: Sequence[Peer], desk: Desk) -> dict[int, int]:
    """Bytes that each of these gets of a complete member that sends 650 kB/s, in the time of 1,000 batches.

    All want more all the time, each another part; `showing` tell of each MiB that they have got.
    """
    desk.uploads = Uploads(GEOMETRY, Bitfield.full(100), desk.reader, 0.0)
    peers = {peer.key: peer for peer in (*silent, *showing)}
    asked, given, under_way, now_s = Counter[int](), Counter[int](), deque[Read](), 0.0
    for _ in range(1000):
        for key, peer in peers.items():
            peer.batch_blocks = 4
            if len(peer.asked) < 64:
                desk.uploads.asked(peer, blocks(64, 64 * ((7 * key + asked[key]) % 99)), now_s)
                asked[key] += 1
        under_way += desk.reader.take()
        read = under_way.popleft()
        length_bytes = sum(length for _, _, length in read.blocks)
        now_s += length_bytes / 650e3
        given[read.key] += length_bytes
        peer = peers[read.key]
        if peer in showing and given[read.key] >> 20 > peer.have.count < 100:
            peer.have.add(peer.have.count)
        desk.uploads.sent(peer, length_bytes, now_s)
    return given


@pytest.mark.fault("P13")
def test_who_shows_nothing_of_what_it_took_of_a_complete_member_comes_after_those_who_do(desk: Desk) -> None:
    greedy = [newcomer(key) for key in range(2, 12)]
    honest = [newcomer(key) for key in range(20, 23)]
    given = shares(*greedy, showing=honest, desk=desk)
    taken_bytes = sum(given[peer.key] for peer in greedy)
    assert sum(given[peer.key] for peer in honest) > taken_bytes
    assert all(given[peer.key] > 2 * SILENT_BYTES for peer in greedy), "they may be honest all the same"


@pytest.mark.fault("P13")
def test_what_a_peer_had_when_it_came_shows_nothing(desk: Desk) -> None:
    greedy, honest = newcomer(2), newcomer(3)
    greedy.have, greedy.began_parts = bitfield(100, *range(50)), 50
    given = shares(greedy, showing=[honest], desk=desk)
    assert given[3] > 1.5 * given[2]


@pytest.mark.fault("P13")
def test_the_greedy_are_served_one_at_a_time_of_a_complete_member_too(desk: Desk) -> None:
    desk.uploads = Uploads(GEOMETRY, Bitfield.full(100), desk.reader, 0.0)
    desk.peer.have = bitfield(100, *range(50))
    greedy = [newcomer(2), newcomer(3)]
    riders_beside_a_giver(desk, greedy, 0.0)
    assert served(desk) == {2}


def test_a_peer_shows_nothing_before_it_has_taken_a_whole_part(desk: Desk) -> None:
    desk.uploads = Uploads(GEOMETRY, Bitfield.full(100), desk.reader, 0.0)
    desk.peer.have = bitfield(100, *range(50))
    slow = [newcomer(2), newcomer(3)]
    riders_beside_a_giver(desk, (), 0.0)
    for peer in slow:
        peer.up.add(GEOMETRY.part_size_bytes, 0.0)
        desk.uploads.asked(peer, blocks(8, 64 * peer.key), 0.0)
    assert served(desk) == {2, 3}


def test_where_nobody_shows_anything_all_are_served_alike(desk: Desk) -> None:
    given = shares(newcomer(2), newcomer(3), showing=[], desk=desk)
    assert min(given.values()) * 2 > max(given.values())
