"""Whole rehearsals, small ones: the real members' decisions, and what comes of them."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from orchestra.rehearsal import run
from orchestra.rehearsal.outcome import MemberOutcome, Outcome
from orchestra.rehearsal.plan import START_S, Group, Plan
from orchestra.rehearsal.run import LEAST_STEP_S, PATIENCE_S, rehearse
from orchestra.uploads import UNDER_WAY_S
from tests.programs import ROOT

PART_BYTES = 256 * 1024
PARTS = 64
SIZE_BYTES = PARTS * PART_BYTES
UP_BYTES_S, DOWN_BYTES_S = 5e6, 10e6
SHARER = Group(1, UP_BYTES_S, DOWN_BYTES_S, holds_all=True)
SHARER_AT_ONCE = replace(SHARER, starts_within_s=0.0)
FETCHERS = Group(8, UP_BYTES_S, DOWN_BYTES_S)


def plan(*groups: Group, **options: float) -> Plan:
    return Plan(SIZE_BYTES, PART_BYTES, groups, **options)  # type: ignore[arg-type]


def of_group(outcome: Outcome, number: int) -> list[MemberOutcome]:
    return [member for member in outcome.members if member.group == number]


def times_s(outcome: Outcome, number: int) -> list[float]:
    """When those of a group had all; fails unless all of them have."""
    times = [member.finished_s for member in of_group(outcome, number)]
    assert None not in times
    return sorted(time for time in times if time is not None)


@pytest.fixture(scope="module")
def crowd() -> Outcome:
    """A flash crowd: one sharer, eight who want it."""
    return rehearse(plan(SHARER, FETCHERS))


def test_one_fetches_from_one_as_fast_as_the_line_allows() -> None:
    outcome = rehearse(plan(SHARER_AT_ONCE, replace(FETCHERS, members=1, starts_within_s=0.0)))
    assert outcome.last_s is not None
    # The handshakes, the first question and the last part's check are the rest.
    assert outcome.bound_s < outcome.last_s < 1.02 * outcome.bound_s + 0.3
    assert outcome.seeder_copies == pytest.approx(1.0)
    assert outcome.members[1].downloaded_bytes == SIZE_BYTES
    assert outcome.members[1].wasted_bytes == 0


def test_one_fetches_from_many_as_fast_as_its_own_line_allows() -> None:
    outcome = rehearse(plan(replace(SHARER, members=8), replace(FETCHERS, members=1, down_bytes_s=8e6)))
    assert outcome.last_s is not None
    assert SIZE_BYTES / 8e6 < outcome.last_s < 1.1 * SIZE_BYTES / 8e6 + 0.5


def test_a_crowd_finishes_near_the_bound_and_the_sharer_gives_little_more_than_a_copy(crowd: Outcome) -> None:
    assert len(crowd.finish_times_s) == 8
    assert crowd.last_s is not None
    assert 1.0 < crowd.last_s / crowd.bound_s < 1.4
    assert 1.0 <= crowd.seeder_copies < 1.5
    assert crowd.copies_out_s is not None
    assert crowd.copies_out_s <= crowd.last_s


def test_what_is_uploaded_is_what_is_downloaded(crowd: Outcome) -> None:
    uploaded = sum(member.uploaded_bytes for member in crowd.members)
    downloaded = sum(member.downloaded_bytes for member in crowd.members)
    assert downloaded == 8 * SIZE_BYTES
    wasted = sum(member.wasted_bytes for member in crowd.members)
    # Not to the byte: some was on its way when the last one finished.
    assert uploaded == pytest.approx(downloaded + wasted, rel=0.02)


def test_the_timeline_runs_from_nothing_to_all(crowd: Outcome) -> None:
    times, held, given = zip(*crowd.timeline, strict=True)
    assert len(times) <= 401
    assert times == tuple(sorted(times))
    assert held == tuple(sorted(held))
    assert (held[0], held[-1]) == (0, 8 * PARTS)
    assert given == tuple(sorted(given))
    assert given[-1] == crowd.members[0].uploaded_bytes
    assert times[-1] == crowd.ended_s == crowd.last_s


def test_the_sharer_has_all_from_its_start_and_the_others_join_within_the_time_given(crowd: Outcome) -> None:
    assert crowd.members[0].finished_s == crowd.members[0].joined_s
    assert all(0.0 <= member.joined_s <= START_S for member in crowd.members)
    assert len({member.joined_s for member in crowd.members}) == 9
    assert all(member.left_s is None for member in crowd.members)


def test_a_group_starts_within_a_time_of_its_own() -> None:
    slowly = rehearse(plan(SHARER_AT_ONCE, replace(FETCHERS, joins_at_s=1.0, starts_within_s=3.0)))
    joins_s = sorted(member.joined_s for member in of_group(slowly, 1))
    assert 1.0 <= joins_s[0] < 2.0
    assert 3.0 < joins_s[-1] <= 4.0
    assert slowly.members[0].joined_s == 0.0
    assert times_s(slowly, 1)[-1] > joins_s[-1] + SIZE_BYTES / DOWN_BYTES_S


def test_who_joins_after_a_long_silence_finishes(monkeypatch: pytest.MonkeyPatch) -> None:
    # It is looked at more often than a handshake takes: nothing has come yet when somebody has just joined.
    monkeypatch.setattr(run, "PATIENCE_S", 1.0)
    outcome = rehearse(plan(SHARER, replace(FETCHERS, members=1, joins_at_s=3.0)))
    assert outcome.last_s is not None
    assert outcome.last_s > 3.0


def test_a_slow_start_is_told_of_in_steps_of_its_own_length() -> None:
    told: list[float] = []
    late = replace(FETCHERS, members=1, starts_within_s=3600.0)
    outcome = rehearse(plan(SHARER, late), on_progress=lambda now_s, *_: told.append(now_s))
    assert outcome.last_s is not None
    assert 0.9 * outcome.last_s < len(told) <= outcome.last_s + 1


def test_the_same_seed_gives_the_same_rehearsal_and_another_seed_another(crowd: Outcome) -> None:
    assert rehearse(crowd.plan) == crowd
    other = rehearse(replace(crowd.plan, seed=2))
    assert other.trace_sha1 != crowd.trace_sha1
    assert other.members != crowd.members


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_a_rehearsal_does_not_depend_on_how_this_python_hashes_words(crowd: Outcome, hash_seed: str) -> None:
    program = f"from orchestra.rehearsal.run import *; print(rehearse({crowd.plan!r}).trace_sha1)"
    words = "from orchestra.rehearsal.plan import Group, Plan; "
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    printed = subprocess.run(
        [sys.executable, "-c", words + program], env=environment, capture_output=True, check=True, text=True
    ).stdout
    assert printed.strip() == crowd.trace_sha1


def test_slow_and_fast_lines_all_finish_and_the_fast_ones_give_more() -> None:
    slow = Group(5, UP_BYTES_S / 4, DOWN_BYTES_S)
    fast = Group(5, 2 * UP_BYTES_S, DOWN_BYTES_S)
    outcome = rehearse(plan(SHARER, slow, fast))
    given = [sum(member.uploaded_bytes for member in of_group(outcome, number)) for number in (1, 2)]
    assert given[1] > 2 * given[0]
    last_s = max(times_s(outcome, 1) + times_s(outcome, 2))
    assert last_s < 2 * outcome.bound_s


def test_late_joiners_catch_up() -> None:
    late = replace(FETCHERS, members=4, joins_at_s=2.0)
    outcome = rehearse(plan(SHARER, replace(FETCHERS, members=4), late))
    assert all(2.0 <= member.joined_s <= 2.2 for member in of_group(outcome, 2))
    assert times_s(outcome, 2)[-1] - 2.0 < 1.5 * SIZE_BYTES / UP_BYTES_S


def test_who_leaves_when_complete_has_left_and_the_others_finish() -> None:
    hurried = Group(4, 2 * UP_BYTES_S, 2 * DOWN_BYTES_S, leaves_when_complete=True)
    outcome = rehearse(plan(SHARER, hurried, replace(FETCHERS, members=4, up_bytes_s=1e6, down_bytes_s=2e6)))
    assert times_s(outcome, 2)
    for member in of_group(outcome, 1):
        assert member.finished_s is not None
        assert member.left_s is not None
        # It says goodbye to the conductor and to its peers.
        assert 0.0 < member.left_s - member.finished_s < 1.0


def test_who_dies_half_way_is_gone_without_a_word_and_the_others_finish() -> None:
    outcome = rehearse(plan(SHARER, replace(FETCHERS, members=3, dies_at_share=0.5), FETCHERS))
    assert times_s(outcome, 2)
    for member in of_group(outcome, 1):
        assert member.finished_s is None
        assert member.left_s is not None
        assert SIZE_BYTES / 2 <= member.downloaded_bytes < 0.8 * SIZE_BYTES


def test_free_riders_give_nothing_and_get_it_all_the_same() -> None:
    outcome = rehearse(plan(SHARER, replace(FETCHERS, members=2, gives=False), FETCHERS))
    assert [member.uploaded_bytes for member in of_group(outcome, 1)] == [0, 0]
    assert times_s(outcome, 1)
    assert times_s(outcome, 2)


def test_a_sharer_that_leaves_after_its_copies_says_goodbye_and_is_not_missed() -> None:
    outcome = rehearse(plan(replace(SHARER, up_bytes_s=4 * UP_BYTES_S, leaves_after_copies=1.3), FETCHERS))
    [sharer] = of_group(outcome, 0)
    assert sharer.left_s is not None
    assert outcome.last_s is not None
    assert sharer.left_s < outcome.last_s
    # What was on its way when it decided to leave has left as well.
    under_way_copies = UNDER_WAY_S * 4 * UP_BYTES_S / SIZE_BYTES
    assert 1.3 <= outcome.seeder_copies < 1.3 + under_way_copies
    assert times_s(outcome, 1)


def test_when_a_part_is_lost_with_the_only_sharer_the_rehearsal_ends_at_a_standstill() -> None:
    outcome = rehearse(plan(replace(SHARER, leaves_after_copies=0.5), replace(FETCHERS, members=3)))
    assert outcome.finish_times_s == []
    assert (outcome.median_s, outcome.last_s, outcome.copies_out_s) == (None, None, None)
    assert PATIENCE_S < outcome.ended_s < 2 * PATIENCE_S
    assert outcome.timeline[-1][1] < 3 * PARTS


def test_a_rehearsal_is_given_up_at_its_limit_and_who_had_not_joined_has_nothing() -> None:
    late = replace(FETCHERS, members=1, joins_at_s=100.0)
    outcome = rehearse(plan(SHARER, replace(FETCHERS, members=2), late, limit_s=1.0))
    assert outcome.ended_s == 1.0
    assert outcome.finish_times_s == []
    [missing] = of_group(outcome, 2)
    assert missing.joined_s >= 100.0
    assert (missing.finished_s, missing.left_s, missing.downloaded_bytes) == (None, None, 0)


def test_it_says_at_even_steps_of_virtual_time_how_far_it_is() -> None:
    said: list[tuple[float, int, int]] = []
    outcome = rehearse(plan(SHARER, FETCHERS), on_progress=lambda *figures: said.append(figures))
    times = [when_s for when_s, _, _ in said]
    step_s = times[0]
    assert LEAST_STEP_S <= step_s <= 1.0
    assert times == [pytest.approx(number * step_s) for number in range(1, len(said) + 1)]
    assert outcome.ended_s - step_s < times[-1] <= outcome.ended_s
    assert all(fetching == 8 and 0 <= finished <= 8 for _, finished, fetching in said)


@pytest.mark.parametrize(
    ("size_bytes", "part_size_bytes"),
    [(0, PART_BYTES), (1, PART_BYTES), (PART_BYTES + 1, PART_BYTES), (100_000, 20_000), (50_001, 1000)],
)
def test_odd_sizes_are_rehearsed_as_well(size_bytes: int, part_size_bytes: int) -> None:
    outcome = rehearse(Plan(size_bytes, part_size_bytes, (SHARER, replace(FETCHERS, members=3))))
    assert len(outcome.finish_times_s) == 3
    assert [member.downloaded_bytes for member in outcome.members[1:]] == [size_bytes] * 3


def test_without_anybody_who_fetches_it_is_over_at_once() -> None:
    outcome = rehearse(plan(SHARER))
    assert (outcome.ended_s, outcome.messages, len(outcome.members)) == (0.0, 0, 1)
