"""What is asked of whom: one part from one peer, whatever peers do, and nothing ever lost from the books.

The fake peers answer when a test says so. After each event the books must be
sound, and at last everything must be there.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import pytest

from orchestra.bitfield import Bitfield
from orchestra.downloads import ANOTHER_SOURCE_S, END_GAME_SOURCES, HELD_UP_S, SNUB_S, Downloads
from orchestra.errors import RemoteProtocolError
from orchestra.fast import REJECTED_REST_S, Fast
from orchestra.flight import Flight
from orchestra.flights import ANSWER_S, HAND_OVER_S
from orchestra.geometry import Geometry
from orchestra.pace import AHEAD_S, FAIR_ROUNDS, LEAST_DEPTH, LEAST_FAIR_DEPTH, MAX_DEPTH
from orchestra.peer import FIRST_DEPTH, MAX_STRAY_BLOCKS, Peer
from orchestra.picker import PartState, Picker
from orchestra.wire import BLOCK_BYTES, Blocks, BlockSpan, Cancels, Requests
from tests.fakes import bitfield, link_of, make_peer

PART_BYTES = 4 * BLOCK_BYTES


class Desk:
    """Downloads and a picker, with peers that are played by the test."""

    def __init__(
        self, parts: int = 6, *, part_bytes: int = PART_BYTES, size_bytes: int = 0, extent_parts: int = 1
    ) -> None:
        self.geometry = Geometry(size_bytes or parts * part_bytes, part_bytes)
        self.picker = Picker(self.geometry.parts, random.Random(1), extent_parts=extent_parts)
        self.picker.in_order = True
        self.peers: dict[int, Peer] = {}
        self.joined = 0
        self.banned: list[tuple[int, int]] = []
        self.forgotten: list[int] = []
        self.now_s = 100.0
        self.downloads = Downloads(
            self.geometry,
            self.picker,
            self.peers,
            ban=lambda key, index: self.banned.append((key, index)),
            forget=self.forgotten.append,
        )

    def join(self, have: Bitfield | None = None, *, depth: int = FIRST_DEPTH) -> Peer:
        """A peer that has unchoked us and has what we want."""
        self.joined += 1
        key = self.joined
        peer = make_peer(key, self.geometry, have=have)
        peer.choking_us, peer.interesting, peer.depth = False, True, depth
        self.peers[key] = peer
        return peer

    def leave(self, peer: Peer) -> None:
        self.downloads.give_back(peer)
        del self.peers[peer.key]
        self.check()

    def fill(self, peer: Peer) -> list[int]:
        """Let more be asked of the peer; the keys of the new requests."""
        self.downloads.fill(peer, self.now_s)
        self.check()
        return self.requested(peer)

    def requested(self, peer: Peer) -> list[int]:
        return [self.geometry.key(index, begin) for index, begin, _ in said(peer, Requests)]

    def deliver(self, peer: Peer, keys: Iterable[int]) -> list[int]:
        """The peer sends these blocks, each run in one message; the keys that were accepted."""
        accepted: list[int] = []
        for run in runs_of(self.geometry, keys):
            for part in self.downloads.accept(peer, run, self.now_s):
                found = self.geometry.run_keys(part.offset, part.length)
                assert found is not None
                accepted += found
                assert sum(map(len, part.views)) == part.length
            self.check()
        return accepted

    def good(self, *indices: int) -> None:
        self.downloads.parts_good(list(indices))
        self.check()

    def bad(self, index: int) -> None:
        self.downloads.part_bad(index)
        self.check()

    def states(self) -> str:
        """One letter a part: Missing, In flight, Checking, Have."""
        return "".join(self.picker.state(index).name[0] for index in range(self.geometry.parts))

    def check(self) -> None:
        assert self.downloads.unsound() == ""


def said(peer: Peer, kind: type[Requests | Cancels]) -> list[BlockSpan]:
    """The blocks of all messages of that kind since the last time that anything was asked."""
    return [
        block
        for message in link_of(peer).said()
        if isinstance(message, (Requests, Cancels)) and isinstance(message, kind)
        for block in message.blocks
    ]


def runs_of(geometry: Geometry, keys: Iterable[int]) -> list[Blocks]:
    """Blocks as the decoder bundles them."""
    runs: list[Blocks] = []
    for key in keys:
        offset, length = geometry.offset(key), geometry.span(key)[2]
        if runs and runs[-1].offset + runs[-1].length == offset:
            runs[-1].views.append(memoryview(bytes(length)))
            runs[-1].length += length
        else:
            runs.append(Blocks(offset, length, [memoryview(bytes(length))]))
    return runs


# Asking


def test_a_peer_with_nothing_more_is_asked_again_when_a_part_comes_back() -> None:
    desk = Desk()
    one, two = desk.join(bitfield(6, 0, 1)), desk.join(bitfield(6, 0))
    asked = desk.fill(one)
    assert asked
    assert desk.fill(two) == desk.fill(two) == []
    desk.leave(one)
    assert desk.fill(two) == asked[: desk.geometry.blocks_per_part]


def test_parts_are_asked_for_one_after_the_other_in_one_call() -> None:
    desk = Desk()
    peer = desk.join(depth=8)
    desk.downloads.fill(peer, desk.now_s)
    assert len(link_of(peer).sent) == 1
    assert desk.requested(peer) == list(range(8))
    assert desk.states() == "IIMMMM"


def test_a_part_is_asked_of_one_peer_only() -> None:
    desk = Desk()
    one, two, three = desk.join(depth=6), desk.join(depth=6), desk.join(depth=100)
    assert desk.fill(one) == [0, 1, 2, 3, 4, 5]
    assert desk.fill(two) == [8, 9, 10, 11, 12, 13]
    assert desk.fill(three) == [16, 17, 18, 19, 20, 21, 22, 23]
    assert desk.deliver(one, [0, 1, 2]) == [0, 1, 2]
    one.depth = 6
    assert desk.fill(one) == [6, 7]


def test_of_a_complete_peer_that_others_want_too_only_a_share_is_asked() -> None:
    desk = Desk(100)
    seeder, partial, idle = desk.join(depth=100), desk.join(bitfield(100, *range(50)), depth=100), desk.join()
    idle.choking_us, idle.counted, idle.have = True, True, bitfield(100)
    assert len(desk.fill(seeder)) == 100, "nobody else downloads"
    desk.downloads.give_back(seeder)
    partial.counted = True
    assert len(desk.fill(seeder)) == 400 // (FAIR_ROUNDS * 2)
    assert len(desk.fill(partial)) == 100
    desk.downloads.give_back(seeder)
    idle.interested = True
    desk.downloads.give_back(partial)
    assert len(desk.fill(seeder)) == 400 // (FAIR_ROUNDS * 3)


def test_a_share_is_never_so_small_that_the_line_falls_idle() -> None:
    desk = Desk(6)
    seeder, other = desk.join(depth=100), desk.join(bitfield(6, 1))
    other.counted = other.choking_us = True
    assert len(desk.fill(seeder)) == LEAST_FAIR_DEPTH


def test_odd_sizes_are_asked_for_by_their_exact_lengths() -> None:
    desk = Desk(part_bytes=20000, size_bytes=45000)
    peer = desk.join()
    desk.downloads.fill(peer, 0.0)
    spans = [(0, 0, 16384), (0, 16384, 3616), (1, 0, 16384), (1, 16384, 3616), (2, 0, 5000)]
    assert said(peer, Requests) == spans
    assert desk.deliver(peer, range(5)) == [0, 1, 2, 3, 4]
    desk.good(0, 1, 2)
    assert desk.picker.have.complete


def test_of_a_seeder_that_others_want_too_only_a_small_share_is_asked() -> None:
    desk = Desk(64)
    other = desk.join(bitfield(64))
    other.counted, other.interested = True, True
    assert len(desk.fill(desk.join())) == 16  # of 256 blocks, for two of us, an eighth of a half
    other.interested = False
    assert len(desk.fill(desk.join())) == FIRST_DEPTH


def test_of_a_partial_peer_as_much_is_asked_as_ever() -> None:
    desk = Desk(64)
    partial = desk.join(bitfield(64, *range(60)))
    partial.counted = True
    assert len(desk.fill(partial)) == FIRST_DEPTH


@pytest.mark.parametrize("obstacle", ["choking", "not interesting", "closing"])
def test_nobody_is_asked_who_would_not_answer(obstacle: str) -> None:
    desk = Desk()
    peer = desk.join()
    peer.choking_us = obstacle == "choking"
    peer.interesting = obstacle != "not interesting"
    peer.closing = obstacle == "closing"
    assert desk.fill(peer) == []
    assert desk.states() == "MMMMMM"


def test_a_peer_is_only_asked_for_what_it_has_and_as_much_as_it_takes() -> None:
    desk = Desk()
    peer = desk.join(bitfield(6, 1, 4))
    peer.max_requests = 5
    assert desk.fill(peer) == [4, 5, 6, 7, 16]
    assert desk.fill(peer) == []


def test_new_requests_wait_until_a_call_is_worth_it() -> None:
    desk = Desk(60)
    peer = desk.join(depth=32)
    desk.fill(peer)
    desk.deliver(peer, range(2))
    peer.depth = 32
    assert desk.fill(peer) == []
    desk.deliver(peer, range(2, 8))
    peer.depth = 32
    assert desk.fill(peer) == list(range(32, 40))


def test_the_queue_of_a_fast_peer_deepens_and_that_of_a_slow_one_does_not() -> None:
    desk = Desk(3000)
    fast, slow = desk.join(), desk.join()
    for _ in range(20):
        desk.now_s += 0.1
        for peer, blocks in ((fast, MAX_DEPTH), (slow, 1)):
            desk.downloads.fill(peer, desk.now_s)
            sent = sorted(peer.outstanding)[:blocks]
            peer.down.add(len(desk.deliver(peer, sent)) * BLOCK_BYTES, desk.now_s)
    assert fast.depth == MAX_DEPTH
    assert LEAST_DEPTH <= slow.depth <= 20


def test_who_takes_long_to_answer_is_asked_for_more_ahead() -> None:
    depths = []
    for answer_s in (0.0, 0.4):
        desk = Desk(600)
        peer = desk.join(depth=40)
        desk.fill(peer)
        desk.now_s += answer_s
        peer.down.add(100 * BLOCK_BYTES, desk.now_s)
        desk.deliver(peer, [0])
        depths.append(peer.depth)
    assert depths[1] > 1.5 * depths[0]


def test_the_queue_is_measured_against_the_speed_once_a_second() -> None:
    desk = Desk(600)
    peer = desk.join(depth=40)
    desk.fill(peer)
    desk.deliver(peer, [0])
    assert peer.depth == LEAST_DEPTH, "nothing was counted as received yet"
    desk.now_s += 0.9
    desk.deliver(peer, [1, 2])
    assert peer.depth == LEAST_DEPTH + 2
    desk.now_s += 0.1
    desk.deliver(peer, [3])
    assert peer.depth == LEAST_DEPTH


def test_the_queue_is_counted_in_blocks_also_where_they_are_small() -> None:
    desk = Desk(500, part_bytes=1000, extent_parts=50)
    peer = desk.join()
    desk.fill(peer)
    peer.down.add(50_000, desk.now_s)
    desk.deliver(peer, range(32))
    assert peer.down.bytes_s(desk.now_s) == 10_000
    assert peer.depth == LEAST_DEPTH + int(10 * AHEAD_S)


# Receiving


def test_a_whole_part_is_checking_until_the_writer_has_judged_it() -> None:
    desk = Desk()
    peer = desk.join(depth=8)
    desk.fill(peer)
    desk.deliver(peer, range(3))
    assert desk.states() == "IIMMMM"
    desk.deliver(peer, [3, 4])
    assert desk.states() == "CIMMMM"
    desk.good(0)
    assert desk.states() == "HIMMMM"


def test_blocks_may_come_in_any_order() -> None:
    desk = Desk()
    peer = desk.join(depth=8)
    desk.fill(peer)
    assert desk.deliver(peer, [5, 3, 7, 0, 1, 6, 2, 4]) == [5, 3, 7, 0, 1, 6, 2, 4]
    assert desk.states() == "CCMMMM"


def test_what_was_not_asked_for_is_not_taken_and_counted() -> None:
    desk = Desk()
    peer = desk.join(depth=4)
    desk.fill(peer)
    assert desk.deliver(peer, [8, 9]) == []
    assert desk.deliver(peer, [2, 3, 4, 5]) == [2, 3]
    assert desk.deliver(peer, [2]) == []
    assert peer.stray_blocks == 5
    assert desk.downloads.wasted_bytes == 5 * BLOCK_BYTES


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (1, BLOCK_BYTES),
        (0, 100),
        (100, BLOCK_BYTES - 100),
        (6 * PART_BYTES, BLOCK_BYTES),
        (2**60, BLOCK_BYTES),
    ],
)
def test_bytes_that_are_no_block_of_ours_are_waste(offset: int, length: int) -> None:
    desk = Desk()
    peer = desk.join()
    desk.fill(peer)
    run = Blocks(offset, length, [memoryview(bytes(length))])
    assert desk.downloads.accept(peer, run, desk.now_s) == []
    assert desk.downloads.wasted_bytes == length
    assert peer.stray_blocks == 1


def test_a_block_that_comes_in_two_messages_in_a_row_is_taken() -> None:
    desk = Desk()
    peer = desk.join()
    desk.fill(peer)
    run = Blocks(0, BLOCK_BYTES, [memoryview(bytes(10000)), memoryview(bytes(BLOCK_BYTES - 10000))])
    assert desk.downloads.accept(peer, run, desk.now_s) == [run]
    desk.check()


# Losing peers


def test_a_part_of_which_nothing_came_is_missing_again_when_its_peer_leaves() -> None:
    desk = Desk()
    peer = desk.join(depth=8)
    desk.fill(peer)
    desk.leave(peer)
    assert desk.states() == "MMMMMM"


def test_a_begun_part_goes_on_with_another_peer_where_it_stood() -> None:
    desk = Desk()
    one = desk.join(depth=6)
    desk.fill(one)
    desk.deliver(one, [0, 2])
    desk.leave(one)
    assert desk.states() == "IMMMMM"
    two = desk.join(depth=4)
    assert desk.fill(two) == [1, 3, 4, 5]
    desk.deliver(two, [1, 3])
    assert desk.states() == "CIMMMM"


def test_a_begun_part_waits_for_a_peer_that_has_it() -> None:
    desk = Desk()
    one = desk.join(depth=4)
    desk.fill(one)
    desk.deliver(one, [0])
    desk.leave(one)
    assert desk.fill(desk.join(bitfield(6, 3))) == [12, 13, 14, 15]
    assert desk.fill(desk.join(depth=3)) == [1, 2, 3]


def test_a_choke_gives_back_what_was_asked_and_an_unchoke_goes_on() -> None:
    desk = Desk()
    peer = desk.join(depth=4)
    desk.fill(peer)
    desk.deliver(peer, [0])
    desk.downloads.give_back(peer)
    desk.check()
    assert not peer.outstanding
    assert desk.deliver(peer, [1]) == []
    peer.depth = 4
    assert desk.fill(peer) == [1, 2, 3, 4]


def test_a_peer_that_sends_nothing_for_a_while_is_snubbed() -> None:
    desk = Desk()
    slow, quick = desk.join(depth=6), desk.join(depth=4)
    desk.fill(slow)
    desk.deliver(slow, [0])
    desk.now_s += SNUB_S - 0.1
    assert desk.downloads.find_snubs(desk.now_s) == []
    desk.now_s += 0.1
    assert desk.downloads.find_snubs(desk.now_s) == [slow]
    desk.check()
    assert [desk.geometry.key(index, begin) for index, begin, _ in said(slow, Cancels)] == [1, 2, 3, 4, 5]
    assert desk.fill(quick)[:3] == [1, 2, 3]
    assert len(desk.fill(slow)) == 1
    assert desk.downloads.find_snubs(desk.now_s) == []


def test_a_snubbed_peer_that_sends_again_is_trusted_again() -> None:
    desk = Desk()
    peer = desk.join(depth=8)
    desk.fill(peer)
    desk.now_s += SNUB_S
    desk.downloads.find_snubs(desk.now_s)
    link_of(peer).said()
    [key] = desk.fill(peer)
    desk.deliver(peer, [key])
    assert not peer.snubbed
    assert len(desk.fill(peer)) > 1


# End game


def end_game(others: int = 1, *, parts: int = 1) -> tuple[Desk, Peer, list[Peer]]:
    """Everything is asked of one peer, and others have nothing to do."""
    desk = Desk(parts)
    slow = desk.join(depth=100)
    assert desk.fill(slow) == list(range(4 * parts))
    return desk, slow, [desk.join(depth=100) for _ in range(others)]


def test_when_nothing_is_missing_a_second_peer_is_asked_too_the_last_block_first() -> None:
    desk, _, [idle] = end_game()
    assert desk.fill(idle) == [3, 2, 1, 0]


def test_an_idle_peer_takes_over_what_a_slow_one_was_not_asked_for_yet() -> None:
    desk = Desk(1)
    slow, idle = desk.join(depth=1), desk.join(depth=100)
    assert desk.fill(slow) == [0]
    assert desk.fill(idle) == [1, 2, 3]
    desk.deliver(idle, [1, 2, 3])
    assert said(slow, Cancels) == []
    assert desk.fill(slow) == []
    assert desk.fill(idle) == [0]
    desk.deliver(slow, [0])
    assert said(idle, Cancels) == [desk.geometry.span(0)]
    assert desk.states() == "C"


def test_what_an_idle_peer_took_over_goes_back_to_the_owner_when_it_leaves() -> None:
    desk = Desk(1)
    slow, idle = desk.join(depth=1), desk.join(depth=100)
    desk.fill(slow)
    desk.fill(idle)
    slow.depth = 2
    assert desk.fill(slow) == []
    desk.deliver(idle, [2])
    desk.leave(idle)
    slow.depth = 100
    assert desk.fill(slow) == [1, 3]


def test_a_flight_of_many_small_parts_is_looked_at_once_in_the_end_game(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk(500, part_bytes=1, extent_parts=500)
    slow, idle = desk.join(depth=1), desk.join(bitfield(500, 499), depth=100)
    assert desk.fill(slow) == [0]
    looks: list[Flight] = []
    flights = desk.downloads._flights
    open_parts = flights.open_parts

    def counted(flight: Flight) -> list[int]:
        looks.append(flight)
        return open_parts(flight)

    monkeypatch.setattr(flights, "open_parts", counted)
    assert desk.fill(idle) == []
    assert len(looks) == 1


@pytest.mark.fault("P3")
def test_no_block_is_asked_of_more_than_two_peers_unless_both_are_slow() -> None:
    assert END_GAME_SOURCES == 2
    desk, _, [second, third] = end_game(2)
    assert len(desk.fill(second)) == 4
    assert desk.fill(third) == []
    desk.now_s += ANOTHER_SOURCE_S
    assert len(desk.fill(third)) == 4


def test_who_sends_nothing_of_the_end_game_does_not_count_as_asked() -> None:
    desk, slow, [second, third, fourth] = end_game(3)
    assert len(desk.fill(second)) == 4
    desk.now_s += HELD_UP_S
    assert desk.deliver(slow, [0]) == [0]
    # The second one is stuck: what it owes may be asked of one more, and of no other one.
    assert desk.fill(third) == [3, 2, 1]
    assert desk.fill(fourth) == []


def test_the_later_copy_is_cancelled_and_not_taken() -> None:
    desk, slow, [idle] = end_game()
    desk.fill(idle)
    assert desk.deliver(idle, [3, 2]) == [3, 2]
    assert said(slow, Cancels) == [desk.geometry.span(3), desk.geometry.span(2)]
    assert desk.deliver(slow, [2, 3]) == []
    assert desk.deliver(slow, [0, 1]) == [0, 1]
    assert said(idle, Cancels) == [desk.geometry.span(0), desk.geometry.span(1)]
    assert desk.states() == "C"


def test_while_anything_is_missing_nothing_is_asked_twice() -> None:
    desk = Desk(2)
    slow = desk.join(bitfield(2, 0))
    desk.fill(slow)
    assert desk.fill(desk.join(bitfield(2, 0))) == []


@pytest.mark.parametrize("first", ["slow", "idle"])
def test_in_the_end_game_either_may_leave_first(first: str) -> None:
    desk, slow, [idle] = end_game()
    desk.fill(idle)
    gone, left = (slow, idle) if first == "slow" else (idle, slow)
    desk.leave(gone)
    assert desk.deliver(left, [0, 1, 2, 3]) == [0, 1, 2, 3]
    assert desk.states() == "C"
    desk.good(0)


def test_in_the_end_game_both_may_leave() -> None:
    desk, slow, [idle] = end_game()
    desk.fill(idle)
    desk.leave(slow)
    desk.leave(idle)
    fresh = desk.join()
    assert sorted(desk.fill(fresh)) == [0, 1, 2, 3]


def test_a_block_asked_of_two_is_taken_once_although_a_part_has_become_missing_meanwhile() -> None:
    desk, slow, [idle] = end_game(parts=2)
    desk.deliver(slow, range(4))
    desk.fill(idle)
    desk.bad(0)
    assert desk.states() == "MI"
    assert desk.deliver(idle, [7, 6]) == [7, 6]
    assert desk.deliver(slow, [6, 7]) == []
    assert desk.deliver(slow, [4, 5]) == [4, 5]
    assert desk.states() == "MC"
    desk.good(1)
    assert desk.deliver(idle, [4, 5]) == []


def test_an_adopted_part_survives_its_second_owner_and_whoever_else_still_owes_some_of_it() -> None:
    desk = Desk(1)
    first, helper = desk.join(depth=4), desk.join(depth=1)
    desk.fill(first)
    assert desk.fill(helper) == [3]
    desk.downloads.give_back(first)
    first.choking_us = True
    heir = desk.join()
    assert desk.fill(heir) == [0, 1, 2]
    assert desk.deliver(heir, [0, 1, 2]) == [0, 1, 2]
    desk.leave(heir)
    desk.leave(helper)
    assert desk.fill(desk.join()) == [3]


# Blame


def test_a_wrong_part_from_one_peer_has_one_author() -> None:
    desk = Desk()
    peer = desk.join(depth=4)
    desk.fill(peer)
    desk.deliver(peer, range(4))
    desk.bad(0)
    assert desk.banned == [(1, 0)]
    assert desk.states() == "MMMMMM"
    assert desk.downloads.wasted_bytes == PART_BYTES


def disputed() -> Desk:
    """Part 0 came from two peers, who have left, and was wrong."""
    desk = Desk(2)
    for keys in ([0, 1], [2, 3]):
        peer = desk.join(depth=len(keys) if keys[0] else 4)
        desk.fill(peer)
        desk.deliver(peer, keys)
        peer.choking_us = True
        desk.downloads.give_back(peer)
    desk.bad(0)
    assert desk.banned == []
    return desk


def test_a_wrong_part_from_two_peers_bans_none_of_them_and_comes_again_from_one() -> None:
    desk = disputed()
    sole = desk.join(depth=4)
    assert desk.fill(sole) == [0, 1, 2, 3]
    desk.deliver(sole, range(4))
    desk.bad(0)
    assert desk.banned == [(sole.key, 0)]


def test_a_disputed_part_is_not_finished_by_a_second_peer_but_begun_anew() -> None:
    desk = disputed()
    sole = desk.join(depth=4)
    desk.fill(sole)
    desk.deliver(sole, [0, 1, 2])
    desk.leave(sole)
    assert desk.forgotten == [0]
    other = desk.join(depth=4)
    assert desk.fill(other) == [0, 1, 2, 3]
    desk.deliver(other, range(4))
    desk.bad(0)
    assert desk.banned == [(other.key, 0)]


def test_a_disputed_part_has_no_end_game() -> None:
    desk = disputed()
    sole, idle = desk.join(depth=100), desk.join(depth=100)
    assert desk.fill(sole) == list(range(8))
    assert sorted(desk.fill(idle)) == [4, 5, 6, 7]


def test_a_disputed_part_that_was_right_is_an_ordinary_one_again() -> None:
    desk = disputed()
    sole = desk.join(depth=4)
    desk.fill(sole)
    desk.deliver(sole, range(4))
    desk.good(0)
    assert desk.states() == "HM"
    assert desk.banned == []


# Extents: small parts, several to a flight


def small_parts(count: int = 8, *, depth: int = 8) -> tuple[Desk, Peer]:
    """Parts of one block, eight to a flight."""
    desk = Desk(count, part_bytes=BLOCK_BYTES, extent_parts=8)
    return desk, desk.join(depth=depth)


def test_parts_of_a_flight_may_be_on_disk_before_the_flight_is_over() -> None:
    desk, peer = small_parts()
    desk.fill(peer)
    desk.deliver(peer, range(5))
    desk.good(0, 1, 2, 3, 4)
    desk.deliver(peer, [5, 6, 7])
    assert desk.states() == "HHHHHCCC"
    desk.good(5, 6, 7)
    assert desk.picker.have.complete
    assert desk.picker.missing == 0


def test_a_flight_of_which_the_first_part_is_on_disk_is_asked_to_its_end() -> None:
    desk, peer = small_parts(depth=4)
    assert desk.fill(peer) == [0, 1, 2, 3]
    desk.deliver(peer, [0, 1])
    desk.good(0, 1)
    peer.depth = 100
    assert desk.fill(peer) == [4, 5, 6, 7]


def test_a_part_of_a_flight_may_be_wrong_before_the_flight_is_over() -> None:
    desk, peer = small_parts()
    desk.fill(peer)
    desk.deliver(peer, range(3))
    desk.bad(1)
    assert desk.states() == "CMCIIIII" or desk.states() == "IMIIIIII"
    desk.deliver(peer, range(3, 8))
    desk.good(0, 2, 3, 4, 5, 6, 7)
    assert desk.states() == "HMHHHHHH"
    assert desk.fill(desk.join()) == [1]


def test_a_run_may_go_on_from_a_flight_into_another_one_in_its_midst() -> None:
    desk, peer = small_parts()
    desk.fill(peer)
    desk.deliver(peer, [1])
    desk.bad(1)
    peer.depth = 100
    assert desk.fill(peer) == [1], "it flies anew, alone"
    desk.deliver(peer, range(8))
    desk.good(*range(8))
    assert desk.picker.have.complete


def test_a_flight_partly_on_disk_goes_on_with_another_peer() -> None:
    desk, peer = small_parts()
    desk.fill(peer)
    desk.deliver(peer, range(3))
    desk.good(0, 1, 2)
    desk.leave(peer)
    other = desk.join()
    assert sorted(desk.fill(other)) == [3, 4, 5, 6, 7]
    desk.deliver(other, range(3, 8))
    desk.good(3, 4, 5, 6, 7)
    assert desk.picker.have.complete


def test_a_flight_is_finished_by_several_peers_of_which_none_has_all_its_parts() -> None:
    desk, peer = small_parts()
    desk.fill(peer)
    desk.deliver(peer, range(3))
    desk.leave(peer)
    assert desk.states() == "CCCMMMMM"
    one, other = desk.join(bitfield(8, 3, 4)), desk.join(bitfield(8, 0, 5, 6, 7))
    assert desk.fill(one) == [3, 4]
    assert desk.fill(other) == [5, 6, 7]
    desk.deliver(one, [3, 4])
    desk.deliver(other, [5, 6, 7])
    desk.good(*range(8))
    assert desk.picker.have.complete


def test_of_a_flight_that_lost_its_peer_the_begun_parts_go_on_where_they_stood() -> None:
    desk = Desk(4, part_bytes=2 * BLOCK_BYTES, extent_parts=4)
    peer = desk.join(depth=6)
    assert desk.fill(peer) == list(range(6))
    desk.deliver(peer, [0, 2, 3])
    desk.leave(peer)
    assert desk.states() == "ICMM"
    one, other = desk.join(bitfield(4, 0)), desk.join(bitfield(4, 2, 3))
    assert desk.fill(one) == [1]
    assert desk.fill(other) == [4, 5, 6, 7]
    desk.deliver(one, [1])
    desk.deliver(other, [4, 5, 6, 7])
    desk.bad(0)
    desk.bad(1)
    assert desk.banned == [(peer.key, 1)]


def test_a_disputed_part_among_small_ones_is_fetched_alone() -> None:
    desk = Desk(8, part_bytes=BLOCK_BYTES, extent_parts=8)
    one, two = desk.join(depth=2), desk.join()
    desk.fill(one)
    assert desk.fill(two) == list(range(2, 8))
    desk.deliver(one, [0, 1])
    desk.deliver(two, range(2, 8))
    for index in (2, 3, 4):
        desk.bad(index)
    desk.good(0, 1, 5, 6, 7)
    three = desk.join(depth=2)
    asked = desk.fill(three)
    assert asked == [2, 3]
    desk.deliver(three, [2])
    desk.leave(three)
    desk.good(2)
    four = desk.join()
    assert desk.fill(four) == [3, 4]
    desk.deliver(four, [3, 4])
    desk.bad(3)
    desk.good(4)
    assert desk.banned == [(four.key, 3)]


# Choked, and rejected (BEP 6)


def fast_peer(desk: Desk, have: Bitfield | None = None, *, depth: int = FIRST_DEPTH) -> Peer:
    """A peer that has unchoked us and speaks BEP 6."""
    peer = desk.join(have, depth=depth)
    peer.fast = Fast()
    return peer


def reject(desk: Desk, peer: Peer, *keys: int) -> None:
    desk.downloads.rejected(peer, desk.geometry.spans(list(keys)), desk.now_s)
    desk.check()


def test_what_was_asked_before_a_choke_is_owed_until_it_is_rejected_or_sent() -> None:
    desk = Desk(2)
    peer = fast_peer(desk, depth=4)
    assert desk.fill(peer) == [0, 1, 2, 3]
    peer.choking_us = True
    desk.downloads.choked(peer)
    desk.check()
    other = desk.join(depth=100)
    assert desk.fill(other) == [4, 5, 6, 7], "nothing is asked twice"
    assert desk.deliver(peer, [0]) == [0], "a block that was under way is welcome"
    reject(desk, peer, 1, 2, 3)
    assert not peer.outstanding
    assert desk.fill(other) == [1, 2, 3]
    assert desk.deliver(other, range(1, 8)) == list(range(1, 8))
    assert desk.states() == "CC"


def test_of_a_flight_that_a_choke_breaks_off_others_ask_the_rest_at_once() -> None:
    desk = Desk(1)
    peer = fast_peer(desk, depth=2)
    assert desk.fill(peer) == [0, 1]
    peer.choking_us = True
    desk.downloads.choked(peer)
    assert desk.fill(desk.join()) == [2, 3]


def test_a_part_of_which_everything_is_rejected_is_missing_again() -> None:
    desk = Desk(1)
    peer = fast_peer(desk)
    desk.fill(peer)
    peer.choking_us = True
    desk.downloads.choked(peer)
    assert desk.states() == "I"
    reject(desk, peer, 0, 1, 2, 3)
    assert desk.states() == "M"


def test_a_peer_that_chokes_and_never_answers_is_a_snub_in_the_end() -> None:
    desk = Desk(1)
    peer = fast_peer(desk)
    desk.fill(peer)
    peer.choking_us = True
    desk.downloads.choked(peer)
    desk.now_s += SNUB_S
    assert desk.downloads.find_snubs(desk.now_s) == [peer]
    assert desk.fill(desk.join()) == [0, 1, 2, 3]


def test_who_rejects_without_a_choke_is_left_alone_for_a_while_and_then_asked_little() -> None:
    desk = Desk(2)
    peer, other = fast_peer(desk), desk.join(depth=100)
    assert desk.fill(peer) == list(range(8))
    reject(desk, peer, *range(8))
    assert desk.fill(peer) == []
    assert desk.fill(other) == list(range(8)), "another one is asked at once"
    desk.leave(other)
    desk.now_s += REJECTED_REST_S - 0.1
    assert desk.fill(peer) == []
    desk.now_s += 0.2
    assert desk.fill(peer) == [0]
    desk.deliver(peer, [0])
    assert len(desk.fill(peer)) > 1, "a block ends the distrust"


def test_rejects_without_end_make_few_requests() -> None:
    desk = Desk(50)
    peer, requests = fast_peer(desk), 0
    for _ in range(600):
        requests += len(desk.fill(peer))
        reject(desk, peer, *sorted(peer.outstanding))
        desk.now_s += 0.1
    assert requests <= FIRST_DEPTH + 60 / REJECTED_REST_S


def test_a_reject_of_what_another_peer_owes_too_changes_nothing_for_that_one() -> None:
    desk, slow, [idle] = end_game()
    desk.fill(idle)
    slow.fast = Fast()
    reject(desk, slow, *sorted(slow.outstanding))
    assert desk.deliver(idle, sorted(idle.outstanding))
    assert "M" not in desk.states()


def test_a_reject_of_a_part_that_others_share_leaves_it_with_them() -> None:
    desk, slow, [idle] = end_game()
    idle.fast = Fast()
    [late, *_] = asked = desk.fill(idle)
    reject(desk, idle, *asked)
    assert late in slow.outstanding
    desk.deliver(slow, sorted(slow.outstanding))
    assert set(desk.states()) <= {"C", "H"}


def test_strays_among_rejects_are_bounded_and_explained_by_cancels() -> None:
    desk = Desk(1)
    peer = fast_peer(desk)
    desk.fill(peer)
    desk.now_s += SNUB_S
    desk.downloads.find_snubs(desk.now_s)
    reject(desk, peer, 0, 1, 2, 3)
    assert peer.stray_blocks == 0, "we had taken them back"
    reject(desk, peer, 0)
    assert peer.stray_blocks == 1
    odd = [(2**32 - 1, 2**32 - 1, 7), (0, 1, BLOCK_BYTES), (0, 0, 1)]
    desk.downloads.rejected(peer, odd, desk.now_s)
    assert peer.stray_blocks == 4
    with pytest.raises(RemoteProtocolError, match="too many rejects"):
        desk.downloads.rejected(peer, [(0, 0, BLOCK_BYTES)] * MAX_STRAY_BLOCKS, desk.now_s)


def test_what_comes_behind_a_choke_is_no_stray_where_only_bep_3_is_spoken() -> None:
    desk = Desk(1)
    peer = desk.join()
    desk.fill(peer)
    peer.choking_us = True
    desk.downloads.choked(peer)
    assert desk.deliver(peer, [0, 1, 2, 3]) == []
    assert peer.stray_blocks == 0
    desk.deliver(peer, [0])
    assert peer.stray_blocks == 1


@pytest.mark.fault("P12")
@pytest.mark.parametrize("join", [fast_peer, Desk.join])
def test_a_block_that_comes_although_it_was_taken_back_is_no_stray(join: Callable[[Desk], Peer]) -> None:
    desk = Desk(1)
    peer = join(desk)
    desk.fill(peer)
    desk.now_s += SNUB_S
    desk.downloads.find_snubs(desk.now_s)
    assert desk.deliver(peer, [0, 1]) == []
    assert desk.deliver(peer, [2, 3]) == []
    assert peer.stray_blocks == 0
    desk.deliver(peer, [0])
    assert peer.stray_blocks == 1


def test_a_block_rejected_twice_is_given_back_once() -> None:
    desk = Desk(1)
    peer = fast_peer(desk, depth=3)
    desk.fill(peer)
    desk.downloads.rejected(peer, [(0, 0, BLOCK_BYTES)] * 2, desk.now_s)
    desk.check()
    assert peer.stray_blocks == 1
    assert desk.fill(desk.join()) == [0, 3]


def test_what_a_peer_allows_is_asked_of_it_while_it_chokes_us() -> None:
    desk = Desk(6)
    peer = fast_peer(desk, bitfield(6, 1, 2, 4), depth=10)
    peer.choking_us = True
    assert peer.fast is not None
    assert desk.fill(peer) == []
    peer.fast.allow([5, 4, 2])
    # Not part 5, which it does not have; part 1 it has, but did not allow.
    asked = desk.fill(peer)
    assert sorted(asked) == [*range(8, 12), *range(16, 20)]
    assert desk.deliver(peer, asked) == asked
    assert desk.states() == "MMCMCM"


def test_an_allowed_part_that_is_rejected_is_not_asked_again_of_a_choking_peer() -> None:
    desk = Desk(2)
    peer = fast_peer(desk)
    peer.choking_us = True
    assert peer.fast is not None
    peer.fast.allow([0])
    assert desk.fill(peer) == [0, 1, 2, 3]
    reject(desk, peer, 0, 1, 2, 3)
    desk.now_s += 1000
    assert desk.fill(peer) == []
    peer.choking_us = False
    assert len(desk.fill(peer)) == 8


def test_a_disputed_part_is_not_left_half_with_a_peer_that_chokes_us() -> None:
    desk = Desk(1)
    peer, other = fast_peer(desk), desk.join()
    desk.downloads._flights.disputed.add(0)
    desk.fill(peer)
    desk.deliver(peer, [0])
    peer.choking_us = True
    desk.downloads.choked(peer)
    desk.check()
    assert desk.forgotten == [0]
    assert desk.deliver(peer, [1]) == []
    assert desk.fill(other) == [0, 1, 2, 3]


# All of it together


class Storm:
    """Peers that come, go, choke, reject, stall, lie and answer late, by a seeded rng; a writer that lags."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        blocks, extent_parts = self.rng.choice(((1, 8), (1, 1), (4, 1), (2, 3), (7, 1)))
        parts = self.rng.randrange(1, 24)
        size_bytes = parts * blocks * BLOCK_BYTES - self.rng.choice((0, 1, 5000))
        self.desk = Desk(part_bytes=blocks * BLOCK_BYTES, size_bytes=size_bytes, extent_parts=extent_parts)
        self.desk.picker.in_order = self.rng.random() < 0.5
        self.liars: set[int] = set()
        self.pending: dict[int, list[int]] = {}
        """What each peer believes that it has been asked for."""
        self.received: dict[int, dict[int, bool]] = {}
        """What the writer has of each part: block key, and whether it is right."""
        self.judged: list[tuple[int, bool]] = []
        self.next_key = 0

    def join(self, *, honest: bool = False) -> Peer:
        desk, parts = self.desk, self.desk.geometry.parts
        self.next_key += 1
        partial = bitfield(parts, *(index for index in range(parts) if self.rng.random() < 0.6))
        have = None if honest or self.rng.random() < 0.4 else partial
        peer = make_peer(self.next_key, desk.geometry, have=have)
        peer.choking_us, peer.interesting = False, True
        peer.depth = self.rng.choice((1, 3, 8, 32))
        if self.rng.random() < 0.5:
            peer.fast = Fast()
        if not honest and self.rng.random() < 0.25:
            self.liars.add(peer.key)
        desk.peers[peer.key] = peer
        self.pending[peer.key] = []
        if have is not None:
            desk.picker.count_peer(have)
        return peer

    def leave(self, peer: Peer) -> None:
        self.desk.leave(peer)
        if not peer.have.complete:
            self.desk.picker.discount_peer(peer.have)

    def fill_all(self) -> None:
        desk = self.desk
        for peer in desk.peers.values():
            desk.downloads.fill(peer, desk.now_s)
        for peer in desk.peers.values():
            self.listen(peer)
        desk.check()

    def listen(self, peer: Peer) -> None:
        """What the peer hears: requests, and cancels that it heeds now and then."""
        pending = self.pending[peer.key]
        for message in link_of(peer).said():
            if isinstance(message, Requests):
                pending += [self.desk.geometry.key(index, begin) for index, begin, _ in message.blocks]
            elif isinstance(message, Cancels) and self.rng.random() < 0.7:
                gone = {self.desk.geometry.key(index, begin) for index, begin, _ in message.blocks}
                if peer.fast is not None:
                    self.reject(peer, gone.intersection(pending))
                else:
                    pending[:] = [key for key in pending if key not in gone]

    def reject(self, peer: Peer, keys: Iterable[int]) -> None:
        """The peer will not send these."""
        gone = sorted(keys)
        self.pending[peer.key][:] = [key for key in self.pending[peer.key] if key not in gone]
        self.desk.downloads.rejected(peer, self.desk.geometry.spans(gone), self.desk.now_s)
        self.desk.check()

    def choke(self, peer: Peer) -> None:
        """The peer chokes or unchokes us; where BEP 6 is agreed on, rejects follow now or later."""
        peer.choking_us = not peer.choking_us
        if not peer.choking_us:
            return
        self.desk.downloads.choked(peer)
        if peer.fast is None:
            self.pending[peer.key].clear()
        elif self.rng.random() < 0.5:
            peer.fast.allow(self.rng.sample(range(self.desk.geometry.parts), 1))
        else:
            self.reject(peer, self.pending[peer.key])

    def send(self, peer: Peer, count: int) -> None:
        """The peer answers some of its requests, mostly in order; the writer takes what was wanted."""
        pending = self.pending[peer.key]
        if self.rng.random() < 0.2:
            self.rng.shuffle(pending)
        keys, pending[:count] = pending[:count], []
        right = peer.key not in self.liars or self.rng.random() < 0.5
        for key in self.desk.deliver(peer, keys):
            self.write(key, right)

    def write(self, key: int, right: bool) -> None:
        geometry = self.desk.geometry
        for index in self.desk.forgotten:
            self.received.pop(index, None)
        self.desk.forgotten.clear()
        index = geometry.part_of(key)
        blocks = self.received.setdefault(index, {})
        assert key not in blocks, "the same block was taken twice"
        blocks[key] = right
        if len(blocks) == geometry.part_blocks(index):
            self.judged.append((index, all(self.received.pop(index).values())))

    def judge(self) -> None:
        """The writer reports all that it has found out."""
        judged, self.judged = self.judged, []
        self.desk.downloads.parts_good([index for index, right in judged if right])
        for index, right in judged:
            if not right:
                self.desk.downloads.part_bad(index)
        self.desk.check()
        for key, _ in self.desk.banned:
            assert key in self.liars, "an honest peer was banned"
            if key in self.desk.peers:
                self.leave(self.desk.peers[key])
        self.desk.banned.clear()

    def step(self) -> None:
        desk, rng = self.desk, self.rng
        peers = list(desk.peers.values())
        actions = ("join", "leave", "choke", "reject", "send", "judge", "wait")
        action = rng.choices(actions, (2, 1, 2, 1, 12, 4, 1))[0]
        if action == "join" and len(peers) < 6:
            self.join()
        elif action == "judge":
            self.judge()
        elif action == "wait":
            desk.now_s += rng.choice((0.1, SNUB_S / 2))
            desk.downloads.find_snubs(desk.now_s)
        elif peers:
            peer = rng.choice(peers)
            if action == "leave":
                self.leave(peer)
            elif action == "choke":
                self.choke(peer)
            elif action == "reject" and peer.fast is not None:
                pending = self.pending[peer.key]
                self.reject(peer, rng.sample(pending, rng.randrange(len(pending) + 1)))
            elif action == "send":
                self.send(peer, rng.choice((1, 2, 5, 40)))
        desk.check()
        if rng.random() < 0.7:
            self.fill_all()

    def finish(self) -> None:
        """From now on one honest peer with everything is enough, whatever the others do not do."""
        for peer in list(self.desk.peers.values()):
            self.leave(peer)
        seeder = self.join(honest=True)
        for _ in range(1000):
            if self.desk.picker.have.complete:
                return
            self.fill_all()
            self.send(seeder, 8)
            self.judge()
        raise AssertionError(f"stuck at {self.desk.states()}, {list(self.desk.downloads._flights.all())}")


@pytest.mark.parametrize("seed", range(60))
def test_whatever_peers_do_the_books_stay_sound_and_all_comes_at_last(seed: int) -> None:
    storm = Storm(seed)
    for _ in range(150):
        storm.step()
    storm.finish()
    assert storm.desk.picker.missing == 0
    downloads = storm.desk.downloads
    assert not list(downloads._flights.all())
    assert not downloads._flights.orphans
    assert not downloads._flights.disputed
    assert not downloads._flights.asked_twice
    assert set(storm.desk.states()) == {PartState.HAVE.name[0]}


# Handing over


def test_an_idle_peer_takes_over_what_another_has_not_begun_to_send() -> None:
    desk = Desk(5)
    busy = desk.join(depth=12)
    idle = desk.join(bitfield(5, 1, 2), depth=8)
    assert len(desk.fill(busy)) == 12
    assert desk.fill(idle) == []
    desk.now_s += HAND_OVER_S
    desk.deliver(busy, [0, 1])
    # Part 0 has begun to come; of the others part 1 was asked for first.
    assert desk.fill(idle) == [4, 5, 6, 7]
    assert [desk.geometry.key(index, begin) for index, begin, _ in said(busy, Cancels)] == [4, 5, 6, 7]
    assert not busy.outstanding & {4, 5, 6, 7}
    desk.deliver(idle, [4, 5, 6, 7])
    assert desk.states()[1] == "C"


def test_nothing_is_handed_over_before_its_time_nor_to_a_peer_that_lacks_it() -> None:
    desk = Desk(5)
    busy, idle, other = desk.join(depth=8), desk.join(bitfield(5, 1)), desk.join(bitfield(5, 4))
    desk.fill(busy)
    desk.now_s += 0.9 * HAND_OVER_S
    assert desk.fill(idle) == []
    desk.now_s += HAND_OVER_S
    assert desk.fill(other) == [16, 17, 18, 19], "its own part, which nobody was asked for"
    assert desk.fill(other) == []


def recalled(desk: Desk) -> tuple[Peer, Peer]:
    """Part 1 was asked of the first peer, which speaks BEP 6; the second one, idle, is to have it now."""
    busy = fast_peer(desk, depth=12)
    idle = desk.join(bitfield(5, 1, 2), depth=8)
    assert len(desk.fill(busy)) == 12
    desk.now_s += HAND_OVER_S
    desk.deliver(busy, [0, 1])
    assert desk.fill(idle) == []
    assert said(busy, Cancels) == desk.geometry.spans([4, 5, 6, 7])
    assert busy.outstanding >= {4, 5, 6, 7}
    return busy, idle


def test_who_speaks_bep_6_is_asked_first_whether_it_has_begun_to_send() -> None:
    desk = Desk(5)
    busy, idle = recalled(desk)
    desk.downloads.rejected(busy, desk.geometry.spans([4, 5, 6]), desk.now_s)
    desk.check()
    assert desk.fill(idle) == []
    desk.downloads.freed = False
    desk.downloads.rejected(busy, desk.geometry.spans([7]), desk.now_s)
    assert desk.requested(idle) == [4, 5, 6, 7]
    assert not desk.downloads.freed, "others have nothing to gain from it"
    assert not busy.snubbed, "it did as it was told"
    assert busy.answers(desk.now_s)


def test_what_was_moved_to_a_peer_that_is_not_asked_now_is_free_again_when_that_one_leaves() -> None:
    desk = Desk(5)
    busy, idle = recalled(desk)
    idle.interesting = False  # As when it has just rejected something: nothing is asked of it for a while.
    desk.downloads.rejected(busy, desk.geometry.spans([4, 5, 6, 7]), desk.now_s)
    assert desk.requested(idle) == []
    desk.leave(idle)
    other = desk.join(bitfield(5, 1))
    assert desk.fill(other) == [4, 5, 6, 7]


def test_a_part_that_was_begun_after_all_stays_with_its_sender() -> None:
    desk = Desk(5)
    busy, idle = recalled(desk)
    desk.downloads.rejected(busy, desk.geometry.spans([6, 7]), desk.now_s)
    busy.depth = 100
    assert not {6, 7} & set(desk.fill(busy)), "the rest may come yet"
    desk.deliver(busy, [4, 5])
    assert desk.fill(idle) == []
    assert desk.fill(busy)[:2] == [6, 7]
    desk.deliver(busy, [6, 7])
    assert desk.states()[1] == "C"


def test_who_does_not_say_is_not_waited_for() -> None:
    desk = Desk(5)
    busy, idle = recalled(desk)
    desk.now_s += 0.9 * ANSWER_S
    asked = desk.fill(idle)
    assert asked == []
    said(busy, Cancels)
    desk.now_s += 0.2 * ANSWER_S
    assert desk.fill(idle) == [4, 5, 6, 7]
    assert not busy.outstanding & {4, 5, 6, 7}
    assert said(busy, Cancels) == [], "it was told before"


def test_what_was_moved_stays_twice_as_long() -> None:
    desk = Desk(2)
    owner = desk.join(bitfield(2, 1))
    desk.fill(owner)
    for move in range(4):
        early, taker = desk.join(bitfield(2, 1)), desk.join(bitfield(2, 1))
        desk.now_s += 0.9 * HAND_OVER_S * 2**move
        assert desk.fill(early) == []
        desk.now_s += 0.2 * HAND_OVER_S * 2**move
        assert desk.fill(taker) == [4, 5, 6, 7], move


def test_if_the_taker_has_gone_anybody_may_fetch_it() -> None:
    desk = Desk(5)
    busy, idle = recalled(desk)
    desk.leave(idle)
    desk.downloads.rejected(busy, desk.geometry.spans([4, 5, 6, 7]), desk.now_s)
    desk.check()
    assert desk.states()[1] == "M"
