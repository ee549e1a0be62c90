"""The rate, by a clock that the test turns."""

from __future__ import annotations

from orchestra.rate import Rate


def test_nothing_moved_is_a_rate_of_nought() -> None:
    assert Rate(100.0).bytes_s(100.0) == 0
    assert Rate(100.0).bytes_s(200.0) == 0


def test_it_is_the_mean_over_the_window() -> None:
    rate = Rate(0.0)
    for second in range(60):
        rate.add(1000, float(second))
    assert 800 <= rate.bytes_s(59.5) <= 1200
    assert rate.total_bytes == 60_000


def test_in_the_beginning_it_is_the_mean_since_the_start() -> None:
    rate = Rate(100.0)
    rate.add(1000, 101.0)
    assert rate.bytes_s(102.0) == 500
    assert rate.bytes_s(104.0) == 250


def test_a_first_burst_is_not_taken_for_an_endless_speed() -> None:
    rate = Rate(0.0)
    rate.add(1000, 0.0)
    assert rate.bytes_s(0.0) == 4000
    assert rate.bytes_s(0.001) == 4000


def test_what_is_older_than_the_window_no_longer_counts_but_stays_in_the_total() -> None:
    rate = Rate(0.0)
    rate.add(1000, 0.0)
    rate.add(3000, 4.0)
    assert rate.bytes_s(5.0) == 800
    assert rate.bytes_s(8.0) == 600
    assert rate.bytes_s(9.5) == 0
    assert rate.total_bytes == 4000


def test_very_many_small_steps_stay_a_short_list() -> None:
    rate = Rate(0.0, window_s=5.0)
    for step in range(20_000):
        rate.add(1, step / 1000)
    assert len(rate._slots) <= 5 / 0.25 + 2
    assert 900 <= rate.bytes_s(20.0) <= 1100
