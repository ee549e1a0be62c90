"""Who is unchoked: the best givers, the best takers, and one by chance."""

from __future__ import annotations

import random
from collections.abc import Iterable

from orchestra.choker import OPTIMISTIC_ROUNDS, Choker, Standing

SLOTS = 4


def standing(key: int, *, interested: bool = True, gives: float = 0.0, takes: float = 0.0) -> Standing:
    return Standing(key, interested, gives_bytes_s=gives, takes_bytes_s=takes)


def choker(seed: int = 1) -> Choker:
    return Choker(SLOTS, random.Random(seed))


def rounds(
    chooser: Choker, standings: Iterable[Standing], count: int, *, complete: bool = False
) -> list[set[int]]:
    """The decisions of so many rounds in a row."""
    crowd = list(standings)
    return [chooser.decide(crowd, complete=complete, new_round=True) for _ in range(count)]


def test_while_there_is_room_everybody_who_wants_is_unchoked() -> None:
    crowd = [standing(key, interested=key != 2) for key in range(1, 6)]
    assert choker().decide(crowd, complete=False, new_round=True) == {1, 3, 4, 5}
    assert choker().decide([], complete=False, new_round=True) == set()


def test_while_we_download_slots_go_to_those_who_give_most() -> None:
    crowd = [standing(key, gives=100 * key, takes=-key) for key in range(1, 11)]
    for chosen in rounds(choker(), crowd, 10):
        assert chosen > {10, 9, 8}
        assert len(chosen) == SLOTS


def test_once_we_are_complete_slots_go_to_those_who_take_fastest() -> None:
    crowd = [standing(key, gives=100 * key, takes=1000 - key) for key in range(1, 11)]
    for chosen in rounds(choker(), crowd, 10, complete=True):
        assert chosen > {1, 2, 3}
        assert len(chosen) == SLOTS


def test_who_is_not_interested_takes_no_slot_however_much_it_gives() -> None:
    crowd = [standing(key, interested=key > 3, gives=1000 - key) for key in range(1, 11)]
    for chosen in rounds(choker(), crowd, 10):
        assert chosen.isdisjoint({1, 2, 3})
        assert chosen > {4, 5, 6}


def test_the_optimistic_slot_stays_for_some_rounds_and_reaches_everybody() -> None:
    crowd = [standing(key, gives=1000 if key <= 3 else 0) for key in range(1, 9)]
    chosen = rounds(choker(), crowd, 150)
    optimistic = [next(iter(some - {1, 2, 3})) for some in chosen]
    assert set(optimistic) == {4, 5, 6, 7, 8}
    changes = [number for number in range(1, 150) if optimistic[number] != optimistic[number - 1]]
    assert all((number + 1) % OPTIMISTIC_ROUNDS == 0 for number in changes)


def test_a_decision_between_rounds_does_not_move_the_optimistic_slot() -> None:
    crowd = [standing(key, gives=1000 if key <= 3 else 0) for key in range(1, 9)]
    chooser = choker()
    first = chooser.decide(crowd, complete=False, new_round=True)
    for _ in range(20):
        assert chooser.decide(crowd, complete=False, new_round=False) == first


def test_an_optimistic_peer_that_leaves_is_replaced_at_once() -> None:
    crowd = [standing(key, gives=1000 if key <= 3 else 0) for key in range(1, 9)]
    chooser = choker()
    [gone] = chooser.decide(crowd, complete=False, new_round=True) - {1, 2, 3}
    left = [some for some in crowd if some.key != gone]
    chosen = chooser.decide(left, complete=False, new_round=False)
    assert len(chosen) == SLOTS
    assert gone not in chosen


def test_the_same_seed_decides_the_same() -> None:
    crowd = [standing(key) for key in range(1, 20)]
    assert rounds(choker(5), crowd, 30) == rounds(choker(5), crowd, 30)
    assert rounds(choker(5), crowd, 30) != rounds(choker(6), crowd, 30)
