"""A clock that leaves out the time in which nobody asked it."""

from __future__ import annotations

import threading

from orchestra.wakeful import LONGEST_GAP_S, WakefulClock


class Hand:
    """A clock whose hand is moved by the test."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_it_goes_as_the_other_clock_while_it_is_asked() -> None:
    hand = Hand()
    clock = WakefulClock(hand)
    for _ in range(1000):
        hand.now_s += 1.0
        assert clock() == hand.now_s


def test_a_gap_does_not_count_and_the_clock_never_goes_back() -> None:
    hand = Hand()
    clock = WakefulClock(hand)
    hand.now_s += LONGEST_GAP_S
    assert clock() == 1000.0 + LONGEST_GAP_S
    hand.now_s += 600.0
    assert clock() == 1000.0 + LONGEST_GAP_S
    hand.now_s += 1.0
    assert clock() == 1001.0 + LONGEST_GAP_S


def test_a_gap_that_several_threads_find_is_left_out_once() -> None:
    hand = Hand()
    clock = WakefulClock(hand)
    hand.now_s += 600.0
    told: list[float] = []
    threads = [threading.Thread(target=lambda: told.append(clock())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == [1000.0] * 8
