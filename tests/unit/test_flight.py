"""A flight: which of its blocks are asked for next, and when there is nothing left to ask."""

from __future__ import annotations

from orchestra.flight import Flight


def test_what_was_given_back_is_asked_for_again_before_what_is_new() -> None:
    flight = Flight(range(2, 4), owner=1, unasked=20, end=30, waiting=10)
    assert flight.take(4) == [20, 21, 22, 23]
    flight.returned += [22, 20]
    assert flight.take(1) == [22]
    assert flight.take(3) == [20, 24, 25]
    assert flight.take(100) == [26, 27, 28, 29]
    assert flight.take(5) == []
    flight.returned.append(21)
    assert flight.take(5) == [21]


def test_it_is_askable_while_there_is_something_that_nobody_owes_us() -> None:
    assert Flight(range(1), owner=1, unasked=0, end=4, waiting=4).askable
    assert Flight(range(1), owner=1, unasked=3, end=4, waiting=1).askable
    flight = Flight(range(1), owner=1, unasked=4, end=4, waiting=4)
    assert not flight.askable
    flight.returned.append(2)
    assert flight.askable


def test_two_flights_of_the_same_parts_are_two_flights() -> None:
    one, other = (Flight(range(1), owner=1, unasked=0, end=4, waiting=4) for _ in range(2))
    assert one != other
    assert len({one, other}) == 2
