"""When to announce, and what, by a given clock."""

from __future__ import annotations

import random

import pytest

from orchestra.schedule import LONGEST_INTERVAL_S, LONGEST_RETRY_S, AnnounceSchedule
from tests.figures import note


def schedule(now_s: float = 0.0) -> AnnounceSchedule:
    return AnnounceSchedule(now_s, random.Random(1))


def started(interval_s: float = 120.0, min_interval_s: float = 10.0) -> AnnounceSchedule:
    """One that a conductor has taken at time 0."""
    made = schedule()
    assert made.take(0.0) == "started"
    made.answered("started", interval_s, min_interval_s, 0.0)
    return made


def test_it_starts_at_once_with_started_and_one_announce_is_under_way_at_a_time() -> None:
    made = schedule(50.0)
    assert made.take(49.0) is None
    assert made.take(50.0) == "started"
    assert made.take(1000.0) is None
    assert made.due_s is None


def test_after_an_answer_the_next_announce_comes_after_the_interval() -> None:
    made = started(120.0)
    assert made.known_to_conductor
    assert made.due_s == 120.0
    assert made.take(119.9) is None
    assert made.take(120.0) == ""
    made.answered("", 60.0, 10.0, 125.0)
    assert made.due_s == 185.0


@pytest.mark.fault("T2")
def test_after_failures_it_waits_longer_each_time_and_starts_again_with_started() -> None:
    made, now_s, waits = schedule(), 0.0, []
    for _ in range(10):
        assert made.take(now_s) == "started"
        made.failed(now_s)
        assert made.due_s is not None
        waits.append(made.due_s - now_s)
        now_s = made.due_s
    for wait_s, nominal_s in zip(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60], strict=True):
        assert 0.75 * nominal_s <= wait_s <= 1.25 * nominal_s
    assert max(waits) <= 1.25 * LONGEST_RETRY_S
    assert not made.known_to_conductor
    # FAULTS T2: at most 10 tries in the first two minutes.
    assert sum(sum(waits[:count]) < 120 for count in range(1, 11)) < 10


@pytest.mark.fault("T2")
def test_two_members_do_not_come_back_in_step() -> None:
    waits = []
    for seed in (1, 2):
        made = AnnounceSchedule(0.0, random.Random(seed))
        made.take(0.0)
        made.failed(0.0)
        waits.append(made.due_s)
    assert waits[0] != waits[1]


def test_an_answer_forgets_the_failures() -> None:
    made = schedule()
    for _ in range(5):
        made.take(1e6)
        made.failed(0.0)
    made.take(1e6)
    made.answered("started", 120.0, 10.0, 0.0)
    assert made.failures == 0
    assert made.due_s == 120.0


def test_completed_is_said_at_once_and_only_once() -> None:
    made = started()
    made.completed(30.0)
    assert made.due_s == 30.0
    assert made.take(30.0) == "completed"
    made.answered("completed", 120.0, 10.0, 31.0)
    assert made.due_s == 151.0
    assert made.take(151.0) == ""


def test_completed_before_any_conductor_answered_follows_started() -> None:
    made = schedule()
    made.completed(0.0)
    assert made.take(0.0) == "started"
    made.answered("started", 120.0, 10.0, 5.0)
    assert made.take(5.0) == "completed"


def test_completed_during_an_announce_follows_it_at_once() -> None:
    made = started()
    assert made.take(120.0) == ""
    made.completed(121.0)
    assert made.take(121.0) is None
    made.answered("", 120.0, 10.0, 122.0)
    assert made.due_s == 122.0
    assert made.take(122.0) == "completed"


def test_a_completed_that_nobody_took_is_repeated() -> None:
    made = started()
    made.completed(30.0)
    assert made.take(30.0) == "completed"
    made.failed(31.0)
    assert made.due_s is not None
    assert made.take(made.due_s) == "completed"


def test_with_nobody_to_talk_to_it_asks_again_as_soon_as_the_conductor_allows() -> None:
    made = started(120.0, min_interval_s=15.0)
    made.hasten(3.0)
    assert made.due_s == 15.0
    made.hasten(20.0)
    assert made.due_s == 15.0
    assert made.take(40.0) == ""
    made.answered("", 120.0, 15.0, 41.0)
    made.hasten(42.0)
    assert made.due_s == 55.0, "counted from the announce, not from its answer"
    late = started(120.0, min_interval_s=15.0)
    late.hasten(40.0)
    assert late.due_s == 40.0


def test_haste_does_not_shorten_the_wait_after_a_failure_nor_disturb_an_announce_under_way() -> None:
    made = started()
    made.take(120.0)
    made.hasten(121.0)
    assert made.due_s is None
    made.failed(121.0)
    due_s = made.due_s
    made.hasten(121.0)
    assert made.due_s == due_s


def test_a_conductor_cannot_make_us_hammer_it_or_fall_silent() -> None:
    assert started(0.0, 0.0).due_s == 1.0
    assert started(-5.0, -5.0).due_s == 1.0
    assert started(1e12, 1e12).due_s == LONGEST_INTERVAL_S
    hasty = started(30.0, 1e12)
    hasty.hasten(5.0)
    assert hasty.due_s == 30.0


@pytest.mark.fault("T2")
@pytest.mark.parametrize("answers_after_s", [0.0, 10.0], ids=["refused at once", "swallowed for ten seconds"])
def test_a_dead_conductor_is_asked_ten_times_in_two_minutes_at_most(answers_after_s: float) -> None:
    most = 0
    for seed in range(1000):
        made, now_s, tries = AnnounceSchedule(0.0, random.Random(seed)), 0.0, 0
        while now_s < 120.0:
            assert made.take(now_s) == "started"
            tries += 1
            made.failed(now_s + answers_after_s)
            assert made.due_s is not None
            assert made.due_s > now_s
            now_s = made.due_s
        most = max(most, tries)
    note("T2", f"most tries in two minutes, {answers_after_s:.0f} s each", most)
    assert most <= 10


@pytest.mark.fault("C7")
def test_after_a_gap_of_ten_minutes_it_asks_at_once() -> None:
    made = started(120.0)
    assert made.take(50.0 + 600.0) == "", "however late it wakes up"
    made.failed(651.0)
    assert made.due_s is not None
    assert made.take(made.due_s + 600.0) == ""
