"""Who may ask how often, by a given clock."""

from __future__ import annotations

import heapq
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.schedule import AnnounceSchedule
from orchestra.throttle import BURST, MAX_NETWORKS, REQUESTS_S, Throttle
from orchestra.tracker import Tracker
from tests.figures import note

HOST = "203.0.113.1"


def admitted(throttle: Throttle, count: int, now_s: float, host: str = HOST) -> int:
    return sum(throttle.admit(host, now_s) for _ in range(count))


def test_a_burst_is_let_in_and_then_so_many_a_second() -> None:
    throttle = Throttle()
    assert admitted(throttle, 1000, 50.0) == BURST
    assert admitted(throttle, 1000, 51.0) == REQUESTS_S
    assert admitted(throttle, 1000, 53.5) == 2.5 * REQUESTS_S
    assert admitted(throttle, 1000, 53.5 + throttle.refill_s) == BURST
    assert admitted(throttle, 1000, 1e6) == BURST, "no more is saved up than a burst"


def test_what_was_refused_costs_nothing() -> None:
    throttle = Throttle()
    admitted(throttle, BURST, 0.0)
    for tenth in range(1, 11):
        assert admitted(throttle, 500, tenth / 10) == 2


def test_others_do_not_wait_for_a_flooder() -> None:
    throttle = Throttle()
    admitted(throttle, 10_000, 0.0)
    assert throttle.admit("203.0.113.2", 0.0)
    assert throttle.admit("2001:db8::1", 0.0)


def test_64_bits_of_ipv6_are_one_network() -> None:
    throttle = Throttle()
    hosts = [f"2001:db8:0:1::{number:x}" for number in range(2 * BURST)]
    assert sum(throttle.admit(host, 0.0) for host in hosts) == BURST
    assert throttle.admit("2001:db8:0:2::1", 0.0)
    assert not throttle.admit("2001:db8:0:1:ffff::1%eth0", 0.0)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_this_machine_never_waits_unless_it_is_told_to(host: str) -> None:
    throttle = Throttle()
    assert admitted(throttle, 1000, 0.0, host) == 1000
    assert len(throttle) == 0
    assert admitted(Throttle(spare_local=False), 1000, 0.0, host) == BURST


def test_whoever_has_many_networks_does_not_fill_the_memory() -> None:
    throttle = Throttle()
    for number in range(3 * MAX_NETWORKS):
        throttle.admit(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 0.0)
        assert len(throttle) <= MAX_NETWORKS


def test_the_silent_are_forgotten_as_others_ask() -> None:
    throttle = Throttle()
    for number in range(1000):
        throttle.admit(f"10.0.{number >> 8}.{number & 255}", number / 100)
    assert len(throttle) < 100, "1/20 s after it has asked, a bucket is full again"


@given(
    rate=st.integers(1, 50),
    burst=st.integers(1, 200),
    gaps_ms=st.lists(st.integers(0, 2000), max_size=300),
)
def test_it_lets_in_what_a_bucket_of_tokens_would(rate: int, burst: int, gaps_ms: list[int]) -> None:
    throttle = Throttle(rate, burst, spare_local=False)
    tokens, now_s, last_s = Fraction(burst), Fraction(0), Fraction(0)
    for gap_ms in gaps_ms:
        now_s += Fraction(gap_ms, 1000)
        tokens = min(Fraction(burst), tokens + (now_s - last_s) * rate)
        last_s = now_s
        nearly = tokens % 1 > Fraction(49, 100)  # the throttle rounds half a request up
        let_in = throttle.admit(HOST, float(now_s))
        assert let_in or tokens < 1
        assert not let_in or tokens >= 1 or nearly
        tokens -= let_in


def seconds_until_known(members: int) -> float:
    """How long it takes until so many members behind one address are all known, if they start at once."""
    throttle, interval_s = Throttle(), 120.0
    schedules = [AnnounceSchedule(0.0, random.Random(number)) for number in range(members)]
    queue = [(0.0, number) for number in range(members)]
    late_s = 0.0
    while queue and queue[0][0] < 1000.0:
        now_s, number = heapq.heappop(queue)
        mine = schedules[number]
        event = mine.take(now_s)
        assert event is not None
        first = not mine.known_to_conductor
        if throttle.admit(HOST, now_s):
            mine.answered(event, interval_s, Tracker(int(interval_s)).min_interval_s, now_s)
            late_s = now_s if first else late_s
        else:
            assert now_s < 200.0, "who is known can announce at the usual interval"
            mine.failed(now_s)
        assert mine.due_s is not None
        heapq.heappush(queue, (mine.due_s, number))
    assert all(mine.known_to_conductor for mine in schedules)
    return late_s


@pytest.mark.fault("C4")
@pytest.mark.parametrize(("members", "most_s"), [(100, 0.0), (300, 20.0), (1000, 80.0)])
def test_many_members_behind_one_address_are_all_heard(members: int, most_s: float) -> None:
    """From the moment all start at once; what the bucket alone would take is 0, 10 and 45 s."""
    took_s = seconds_until_known(members)
    note("C4", f"seconds until {members} members behind one address are all known", f"{took_s:.0f}")
    assert took_s <= most_s
