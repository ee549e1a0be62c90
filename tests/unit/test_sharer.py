"""The only source's offers: each part once before any twice."""

from __future__ import annotations

import random

import pytest

from orchestra.bitfield import Bitfield
from orchestra.sharer import CROWD, FIRST_ALLOWANCE_SHEAVES, HOARDED_S, OPEN_SHEAVES, STALLED_S, Sharer

PARTS = 40


def sharer_of(parts: int = PARTS, sheaf: int = 1, *peers: int) -> Sharer:
    made = Sharer(Bitfield(parts), sheaf, random.Random(1))
    for key in peers:
        made.add(key)
    return made


@pytest.fixture
def sharer() -> Sharer:
    return sharer_of(PARTS, 1, 1, 2, 3)


def test_no_part_is_offered_to_two(sharer: Sharer) -> None:
    offers = [index for key in (1, 2, 3) for index in sharer.offer(key, 0.0, 0.0)]
    assert len(offers) == len(set(offers)) == 3 * OPEN_SHEAVES


def test_neighbours_are_offered_together_where_parts_are_small() -> None:
    sharer = sharer_of(PARTS, 4, 1)
    offers = sharer.offer(1, 0.0, 0.0)
    assert len(offers) == 4 * OPEN_SHEAVES
    assert offers == sorted(offers)
    assert {index // 4 for index in offers} == {offers[0] // 4, offers[-1] // 4}


def test_a_peer_is_offered_more_when_it_has_what_it_was_offered(sharer: Sharer) -> None:
    first = sharer.offer(1, 0.0, 0.0)
    assert sharer.offer(1, 0.0, 0.0) == []
    assert sharer.heard(1, first[:1])
    assert len(sharer.offer(1, 0.0, 0.0)) == 1


def test_who_passes_nothing_on_is_offered_no_more(sharer: Sharer) -> None:
    got = 0
    for _ in range(20):
        offers = sharer.offer(1, 0.0, 0.0)
        got += len(offers)
        sharer.heard(1, offers)
    assert got == FIRST_ALLOWANCE_SHEAVES
    assert sharer.choose([], set(), 9) == {2, 3}


def test_who_passes_parts_on_is_offered_all(sharer: Sharer) -> None:
    got = []
    for _ in range(PARTS):
        offers = sharer.offer(1, 0.0, 0.0)
        got += offers
        sharer.heard(1, offers)
        sharer.heard(2, offers)
    assert sorted(got) == list(range(PARTS))
    assert sharer.all_out


def test_a_fast_peer_is_offered_more_at_a_time(sharer: Sharer) -> None:
    assert len(sharer.offer(1, 20.0, 0.0)) > OPEN_SHEAVES


def test_all_is_out_when_somebody_has_each_part(sharer: Sharer) -> None:
    sharer.heard(1, list(range(PARTS - 1)))
    assert not sharer.all_out
    sharer.heard(2, [PARTS - 1])
    assert sharer.all_out


def test_what_was_offered_to_one_who_left_goes_to_others(sharer: Sharer) -> None:
    offers = sharer.offer(1, 0.0, 0.0)
    sharer.heard(1, offers[:1])
    sharer.left(1, offers[:1])
    assert set(sharer.offer(2, 0.0, 0.0)) == set(offers)
    assert 1 not in sharer


def test_what_a_peer_had_and_others_have_too_is_not_offered_again(sharer: Sharer) -> None:
    [first, _] = sharer.offer(1, 0.0, 0.0)
    sharer.heard(1, [first])
    sharer.heard(2, [first])
    sharer.left(1, [])
    offered = [index for _ in range(PARTS) for index in take_all(sharer, 3)]
    assert first not in offered


def take_all(sharer: Sharer, key: int) -> list[int]:
    """What peer `key` is offered; it gets that, and so does peer 2."""
    offers = sharer.offer(key, 0.0, 0.0)
    sharer.heard(key, offers)
    sharer.heard(2, offers)
    return offers


def test_an_offer_that_is_not_taken_up_goes_to_others_in_the_end(sharer: Sharer) -> None:
    offers = sharer.offer(1, 0.0, 0.0)
    sharer.expire(STALLED_S - 1, lambda _: False)
    assert not set(sharer.offer(2, 0.0, STALLED_S)) & set(offers)
    sharer.expire(STALLED_S, lambda key: key == 1)
    assert not set(sharer.offer(3, 0.0, STALLED_S)) & set(offers), "it is fetching from us"
    sharer.heard(3, sharer.offer(3, 0.0, STALLED_S))
    sharer.expire(STALLED_S, lambda _: False)
    sharer.add(4)
    assert set(sharer.offer(4, 0.0, STALLED_S)) == set(offers)
    assert sharer.offer(1, 0.0, STALLED_S) == [], "it still may fetch those, and gets no new ones"


def test_a_free_slot_brings_more_credit_each_time_to_those_who_may_not_ask(sharer: Sharer) -> None:
    for _ in range(20):
        sharer.heard(1, sharer.offer(1, 0.0, 0.0))
    grown = []
    for _ in range(3):
        sharer.spend_what_is_spare()
        got = 0
        for _ in range(20):
            offers = sharer.offer(1, 0.0, 0.0)
            got += len(offers)
            sharer.heard(1, offers)
        grown.append(got)
    assert grown == [1, 2, 4]


def test_slots_stay_with_open_offers_then_go_to_those_who_pass_on(sharer: Sharer) -> None:
    sharer.offer(3, 0.0, 0.0)
    passed = sharer.offer(1, 0.0, 0.0)
    sharer.heard(1, passed)
    sharer.heard(2, passed)
    assert sharer.choose([], {3}, 1) == {3}
    assert sharer.choose([], {3}, 2) == {1, 3}
    assert sharer.choose([7], {3}, 9) == {1, 2, 3, 7}, "who was shown all gets what is left"
    assert sharer.choose([7], {3}, 3) == {1, 2, 3}


def test_what_one_who_was_shown_all_asks_for_is_offered_to_nobody_else(sharer: Sharer) -> None:
    sharer.asked(9, range(PARTS - 1), 0.0)
    assert sharer.offer(1, 0.0, 0.0) == [PARTS - 1]
    sharer.left(9, [])
    assert len(sharer.offer(2, 0.0, 0.0)) == OPEN_SHEAVES


def test_hidden_is_what_a_peer_was_not_told_of_and_lacks(sharer: Sharer) -> None:
    offers = sharer.offer(1, 0.0, 0.0)
    have = Bitfield(PARTS)
    other = next(index for index in range(PARTS) if index not in offers)
    have.add(other)
    assert set(sharer.hidden(1, have)) == set(range(PARTS)) - set(offers) - {other}
    assert sharer.hidden(9, have) == [], "it was shown all"


def crowd() -> Sharer:
    """One with many peers, of whom 1 and 2 have passed a part on."""
    sharer = sharer_of(PARTS, 1, *range(1, CROWD + 2))
    for giver, taker in ((1, 2), (2, 1)):
        [first] = sharer.offer(giver, 0.0, 0.0)
        sharer.heard(giver, [first])
        sharer.heard(taker, [first])
    return sharer


def test_in_a_crowd_who_has_passed_nothing_on_is_offered_one_sheaf() -> None:
    sharer = crowd()
    offers = sharer.offer(3, 100.0, 0.0)
    assert len(offers) == 1
    sharer.heard(3, offers)
    assert sharer.offer(3, 100.0, 0.0) == [], "however fast it is"
    assert len(sharer.offer(1, 0.0, 0.0)) == OPEN_SHEAVES
    sharer.heard(1, offers)
    assert len(sharer.offer(3, 0.0, 0.0)) == OPEN_SHEAVES


def test_where_some_pass_things_on_a_free_slot_is_for_them() -> None:
    sharer = crowd()
    sharer.heard(3, sharer.offer(3, 0.0, 0.0))
    for _ in range(10):
        sharer.heard(1, sharer.offer(1, 0.0, 0.0))
    sharer.spend_what_is_spare()
    assert sharer.offer(3, 0.0, 0.0) == []
    assert len(sharer.offer(1, 0.0, 0.0)) == 1


def is_all_out(sharer: Sharer) -> bool:
    """Asked anew each time, which a type checker takes for needless."""
    return sharer.all_out


def test_what_only_those_have_who_pass_nothing_on_goes_out_once_more() -> None:
    sharer = crowd()
    hoarded = sharer.offer(3, 0.0, 0.0)
    sharer.heard(3, hoarded)
    assert not is_all_out(sharer)
    sharer.heard(2, [index for index in range(PARTS) if index not in hoarded])
    assert is_all_out(sharer)
    assert sharer.take_back_hoards(HOARDED_S)
    assert not is_all_out(sharer)
    assert sharer.offer(1, 0.0, 0.0) == hoarded
    sharer.heard(1, hoarded)
    assert is_all_out(sharer)
    assert not sharer.take_back_hoards(2 * HOARDED_S), "once only"


def test_what_was_given_lately_may_still_be_passed_on() -> None:
    sharer = crowd()
    given = sharer.offer(3, 0.0, 1.0)
    sharer.heard(3, given)
    sharer.heard(2, [index for index in range(PARTS) if index not in given])
    assert not sharer.take_back_hoards(HOARDED_S + 0.9)


def test_where_nobody_passes_anything_on_nothing_is_taken_back() -> None:
    sharer = sharer_of(CROWD + 1, 1, *range(1, CROWD + 2))
    for key in range(1, CROWD + 2):
        sharer.heard(key, sharer.offer(key, 0.0, 0.0))
    assert is_all_out(sharer)
    assert not sharer.take_back_hoards(HOARDED_S)
    assert is_all_out(sharer)
