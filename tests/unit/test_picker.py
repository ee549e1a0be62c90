"""The picker against a naive model of the same rules, and the order in which it picks."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from orchestra.bitfield import Bitfield
from orchestra.picker import PartState, Picker
from tests.fakes import bitfield, full_bitfield


def picker(parts: int, *, extent_parts: int = 1, seed: int = 1) -> Picker:
    return Picker(parts, random.Random(seed), extent_parts=extent_parts)


def picks(chooser: Picker, have: Bitfield) -> list[range]:
    """Pick until nothing is left."""
    found = []
    while parts := chooser.pick(have):
        found.append(parts)
    return found


# States


def test_a_part_goes_from_missing_over_in_flight_and_checking_to_had() -> None:
    chooser = picker(1)
    assert chooser.state(0) is PartState.MISSING
    assert chooser.pick(full_bitfield(1)) == range(1)
    assert chooser.state(0) is PartState.IN_FLIGHT
    chooser.mark_checking(range(1))
    assert chooser.state(0) is PartState.CHECKING
    assert not chooser.have.complete
    chooser.mark_arrived(range(1))
    assert chooser.state(0) is PartState.HAVE
    assert chooser.have.complete


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_from_anywhere_it_may_go_back_to_missing_and_be_picked_again(steps: int) -> None:
    chooser = picker(3)
    chooser.pick(bitfield(3, 1))
    if steps > 1:
        chooser.mark_checking(range(1, 2))
    if steps > 2:
        chooser.mark_arrived(range(1, 2))
    chooser.mark_missing(1)
    assert chooser.state(1) is PartState.MISSING
    assert 1 not in chooser.have
    assert chooser.missing == 3
    chooser.mark_missing(1)
    assert chooser.missing == 3
    assert chooser.pick(bitfield(3, 1)) == range(1, 2)


def test_what_was_on_disk_at_start_is_not_picked() -> None:
    chooser = picker(4)
    chooser.mark_have(2)
    assert sorted(part.start for part in picks(chooser, full_bitfield(4))) == [0, 1, 3]


def test_a_composition_without_parts_is_had_and_gives_nothing_to_pick() -> None:
    chooser = picker(0)
    assert chooser.have.complete
    assert chooser.missing == 0
    assert not chooser.pick(Bitfield(0))


# Which part


def test_the_rarest_part_comes_first() -> None:
    chooser = picker(6)
    for present in ([0, 1, 2, 3, 4], [0, 1, 2, 3], [0, 1, 2], [0, 1], [0]):
        chooser.count_peer(bitfield(6, *present))
    everything = full_bitfield(6)
    assert [parts.start for parts in picks(chooser, everything)] == [5, 4, 3, 2, 1, 0]


def test_rarity_follows_what_peers_get_and_who_leaves() -> None:
    chooser = picker(3)
    one, two = bitfield(3, 0, 1), bitfield(3, 0)
    chooser.count_peer(one)
    chooser.count_peer(two)
    assert [chooser.availability(index) for index in range(3)] == [2, 1, 0]
    chooser.count_parts([2])
    chooser.count_parts([2])
    chooser.discount_peer(two)
    assert [chooser.availability(index) for index in range(3)] == [1, 1, 2]
    assert chooser.pick(full_bitfield(3)).start in (0, 1)
    assert chooser.pick(full_bitfield(3)).start in (0, 1)
    assert chooser.pick(full_bitfield(3)).start == 2


def test_it_is_told_whether_what_a_peer_got_is_missing_and_whether_anything_came_back() -> None:
    chooser = picker(3)
    assert chooser.count_parts([0, 1])
    chooser.pick(bitfield(3, 0))
    assert not chooser.count_parts([0])
    assert chooser.count_parts([0, 2])
    before = chooser.returned
    chooser.mark_missing(1)
    assert chooser.returned == before, "it was missing all the time"
    chooser.mark_missing(0)
    assert chooser.returned > before


def test_a_part_that_comes_back_has_the_rarity_of_now() -> None:
    chooser = picker(2)
    chooser.pick(bitfield(2, 0))
    chooser.count_parts([0])
    chooser.count_parts([0])
    chooser.count_parts([1])
    chooser.mark_missing(0)
    assert [parts.start for parts in picks(chooser, full_bitfield(2))] == [1, 0]


def test_a_peer_is_only_asked_for_what_it_has() -> None:
    chooser = picker(100)
    own = bitfield(100, *range(0, 100, 7))
    assert sorted(parts.start for parts in picks(chooser, own)) == list(range(0, 100, 7))
    assert not chooser.pick(own)


@pytest.mark.parametrize("needle", [0, 1, 7, 8, 4095, 4999])
def test_the_only_part_that_a_peer_has_of_many_missing_ones_is_always_found(needle: int) -> None:
    chooser = picker(5000)
    assert chooser.pick(bitfield(5000, needle)) == range(needle, needle + 1)
    assert not chooser.pick(bitfield(5000, needle))


def test_two_members_in_the_same_state_begin_with_different_parts() -> None:
    for own in (full_bitfield(1000), bitfield(1000, *range(0, 1000, 100))):
        firsts = {picker(1000, seed=seed).pick(own).start for seed in range(20)}
        assert len(firsts) > 5


def test_the_same_seed_picks_the_same() -> None:
    everything = full_bitfield(200)
    assert picks(picker(200, seed=3), everything) == picks(picker(200, seed=3), everything)


# In order, and several at once


def test_in_order_it_takes_the_first_missing_part_that_the_peer_has() -> None:
    chooser = picker(10)
    chooser.in_order = True
    everything = full_bitfield(10)
    assert [chooser.pick(everything).start for _ in range(3)] == [0, 1, 2]
    assert chooser.pick(bitfield(10, 1, 6, 8)).start == 6
    assert chooser.pick(everything).start == 3
    chooser.mark_missing(1)
    assert chooser.pick(everything).start == 1
    assert [parts.start for parts in picks(chooser, everything)] == [4, 5, 7, 8, 9]


def test_small_parts_are_picked_by_the_extent() -> None:
    chooser = picker(40, extent_parts=8)
    found = picks(chooser, full_bitfield(40))
    assert sorted(index for parts in found for index in parts) == list(range(40))
    assert max(map(len, found)) <= 8
    assert len(found) < 40


def test_an_extent_ends_where_a_part_is_not_missing_not_there_or_not_as_rare() -> None:
    def of_three(chooser: Picker, have: Bitfield) -> range:
        chooser.in_order = True
        return chooser.pick(have)

    everything = full_bitfield(10)
    chooser = picker(10, extent_parts=8)
    chooser.mark_have(3)
    assert of_three(chooser, everything) == range(3)
    assert of_three(picker(10, extent_parts=8), bitfield(10, 0, 1, 2, 4, 5)) == range(3)
    chooser = picker(10, extent_parts=8)
    chooser.count_parts([3])
    assert of_three(chooser, everything) == range(3)
    assert of_three(picker(3, extent_parts=8), full_bitfield(3)) == range(3)


# Bookkeeping, against the naive model


class Model:
    """The same rules, written as plainly as can be."""

    def __init__(self, parts: int) -> None:
        self.states = [PartState.MISSING] * parts
        self.availability = [0] * parts

    def candidates(self, have: Bitfield) -> list[int]:
        return [
            index for index, state in enumerate(self.states) if state is PartState.MISSING and index in have
        ]

    def run_of(self, state: PartState, index: int) -> range:
        """The parts from `index` on, up to five, that are in this state."""
        stop = index
        while stop < min(index + 5, len(self.states)) and self.states[stop] is state:
            stop += 1
        return range(index, stop)

    def put(self, run: range, state: PartState) -> None:
        """Move neighbouring parts to this state."""
        self.states[run.start : run.stop] = [state] * len(run)

    def agrees_with(self, chooser: Picker) -> bool:
        everywhere = range(len(self.states))
        return (
            [chooser.state(index) for index in everywhere] == self.states
            and [chooser.availability(index) for index in everywhere] == self.availability
            and chooser.missing == Counter(self.states)[PartState.MISSING]
            and chooser.have.indices() == [i for i in everywhere if self.states[i] is PartState.HAVE]
        )


def random_field(parts: int, rng: random.Random) -> Bitfield:
    density = rng.choice((0.02, 0.3, 0.9, 1.1))
    return bitfield(parts, *(index for index in range(parts) if rng.random() < density))


def go_on(chooser: Picker, model: Model, index: int) -> None:
    """Parts from `index` on that are on their way get one step further."""
    state = model.states[index]
    run = model.run_of(state, index)
    if state is PartState.IN_FLIGHT:
        chooser.mark_checking(run)
        model.put(run, PartState.CHECKING)
    elif state is PartState.CHECKING:
        chooser.mark_arrived(run)
        model.put(run, PartState.HAVE)


@pytest.mark.parametrize("seed", range(12))
def test_random_operations_keep_it_in_step_with_the_naive_model(seed: int) -> None:
    rng = random.Random(seed)
    parts = rng.choice((1, 2, 7, 30, 65))
    extent_parts = rng.choice((1, 4))
    chooser, model = picker(parts, extent_parts=extent_parts, seed=seed), Model(parts)
    peers: list[Bitfield] = []
    for _ in range(400):
        index = rng.randrange(parts)
        action = rng.randrange(8)
        if action == 0:
            peers.append(random_field(parts, rng))
            chooser.count_peer(peers[-1])
            for own in peers[-1].indices():
                model.availability[own] += 1
        elif action == 1 and peers:
            gone = peers.pop(rng.randrange(len(peers)))
            chooser.discount_peer(gone)
            for own in gone.indices():
                model.availability[own] -= 1
        elif action == 2 and peers:
            if rng.choice(peers).add(index):
                chooser.count_parts([index])
                model.availability[index] += 1
        elif action == 3:
            chooser.mark_missing(index)
            model.states[index] = PartState.MISSING
        elif action in (4, 5):
            go_on(chooser, model, index)
        elif action == 6 and model.states[index] is not PartState.IN_FLIGHT:
            chooser.mark_have(index)
            model.states[index] = PartState.HAVE
        elif action == 7:
            chooser.in_order = rng.random() < 0.3
            check_pick(chooser, model, random_field(parts, rng), extent_parts)
        assert model.agrees_with(chooser)


def check_pick(chooser: Picker, model: Model, have: Bitfield, extent_parts: int) -> None:
    """Pick once and compare with all that could have been picked."""
    candidates = model.candidates(have)
    picked = chooser.pick(have)
    assert bool(picked) is bool(candidates)
    assert set(picked) <= set(candidates)
    assert len(picked) <= extent_parts
    if picked and chooser.in_order:
        assert picked.start == candidates[0]
    elif picked and have.complete:
        rarest = min(model.availability[index] for index in candidates)
        assert model.availability[picked.start] == rarest
    for index in picked:
        assert model.availability[index] == model.availability[picked.start]
        model.states[index] = PartState.IN_FLIGHT
