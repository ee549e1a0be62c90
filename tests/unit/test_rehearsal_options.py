"""What a command line means: a plan, or one line that says what is wrong with it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import UsageError
from orchestra.rehearsal.options import (
    MOST_PART_BYTES,
    MOST_PARTS,
    PAYLOAD_SHARE,
    line_bits_s,
    read_scenario,
    rehearsed,
)
from orchestra.rehearsal.plan import START_S, Group, Plan, bound_s
from orchestra.score import MAX_PARTS, Score, default_part_size, part_count
from tests.rehearsals import USUAL, options, scenario

MIB = 1 << 20


def fetching(*words: str) -> list[Group]:
    return [group for group in scenario(*words).plan.groups if not group.holds_all]


def sharer(*words: str) -> Group:
    [group] = (group for group in scenario(*words).plan.groups if group.holds_all)
    return group


def problem(*words: str) -> str:
    with pytest.raises(UsageError) as raised:
        read_scenario(options(*words), None)
    return str(raised.value)


def a_score(size_bytes: int, part_size_bytes: int = 16384) -> Score:
    parts = part_count(size_bytes, part_size_bytes)
    return Score((("127.0.0.1", 1),), "a.bin", bytes(20), size_bytes, part_size_bytes, bytes(20 * parts))


# What is shared


def test_a_size_gets_the_part_size_that_the_composer_would_choose() -> None:
    plan = scenario("--size", "5G").plan
    assert (plan.size_bytes, plan.part_size_bytes) == (5 << 30, default_part_size(5 << 30))


def test_a_part_size_is_taken_as_it_is_typed() -> None:
    assert scenario("--size", "5G", "--part-size", "1M").plan.part_size_bytes == MIB


def test_an_orch_gives_its_name_and_sizes() -> None:
    made = read_scenario(options("--members", "3", "--up", "1M"), a_score(100_000))
    assert (made.name, made.plan.size_bytes, made.plan.part_size_bytes) == ("a.bin", 100_000, 16384)


@pytest.mark.parametrize("words", [["--size", "5G"], ["--part-size", "1M"]])
def test_an_orch_has_its_sizes_already(words: list[str]) -> None:
    with pytest.raises(UsageError, match="leave out --size and --part-size"):
        read_scenario(options(*words, "--members", "3", "--up", "1M"), a_score(100_000))


def test_an_empty_composition_cannot_be_rehearsed() -> None:
    with pytest.raises(UsageError, match="empty composition"):
        read_scenario(options("--members", "3", "--up", "1M"), a_score(0))


def test_parts_that_make_no_orch_are_refused() -> None:
    assert problem("--size", "5G", "--part-size", "1", "--members", "3", "--up", "1M").startswith(
        "--part-size"
    )
    assert part_count(5 << 30, 1) > MAX_PARTS


# Links


@pytest.mark.parametrize(
    ("text", "bits_s"),
    [
        ("100M", 100e6),
        ("1G", 1e9),
        ("2.5g", 2.5e9),
        ("500K", 500e3),
        ("64000", 64e3),
        ("100Mbit", 100e6),
        ("100Mbit/s", 100e6),
        ("1000G", 1e12),
    ],
)
def test_rates_are_bits_on_the_wire_of_which_1448_of_1514_bytes_are_payload(text: str, bits_s: float) -> None:
    [group] = fetching("--up", text)
    assert group.up_bytes_s == pytest.approx(bits_s / 8 * 1448 / 1514)
    assert line_bits_s(group.up_bytes_s) == pytest.approx(bits_s)
    assert pytest.approx(1448 / 1514) == PAYLOAD_SHARE


def test_links_that_are_not_told_are_as_up() -> None:
    scene = scenario("--members", "5")
    everybody = read_scenario(options("--size", "1M", "--members", "5", "--up", "10M"), None).plan.groups[1]
    assert everybody.down_bytes_s == everybody.up_bytes_s
    assert sharer().up_bytes_s == scene.plan.groups[1].up_bytes_s
    assert sharer("--seed-up", "1G").up_bytes_s == pytest.approx(10 * sharer().up_bytes_s)


def test_latency_is_ten_milliseconds_unless_told() -> None:
    assert scenario().plan.latency_s == pytest.approx(0.01)
    assert scenario("--latency", "0.5s").plan.latency_s == pytest.approx(0.5)
    assert scenario("--latency", "0ms").plan.latency_s == 0


def test_machines_start_as_close_together_as_told_and_the_sharer_at_once() -> None:
    assert scenario().plan.groups[1].starts_within_s == START_S
    slow = scenario("--start-within", "5min", "--slow", "50%:10M")
    assert [group.starts_within_s for group in slow.plan.groups] == [START_S, 300.0, 300.0]
    assert slow.plan.limit_s == pytest.approx(scenario("--slow", "50%:10M").plan.limit_s + 300.0 - START_S)


# Habits


def test_shares_are_of_all_and_of_one_another() -> None:
    groups = fetching(
        "--members", "100", "--slow", "50%:10M", "--free-riders", "20%", "--join-later", "10%:30s"
    )
    assert sum(group.members for group in groups) == 100
    assert sum(group.members for group in groups if group.up_bytes_s < 2e6) == 50
    assert sum(group.members for group in groups if not group.gives) == 20
    assert sum(group.members for group in groups if group.joins_at_s == 30.0) == 10
    assert sum(group.members for group in groups if not group.gives and group.up_bytes_s < 2e6) == 10


@given(
    members=st.integers(1, 300),
    shares=st.lists(st.integers(0, 100), min_size=4, max_size=4),
)
def test_whatever_the_shares_everybody_is_in_one_group_and_each_share_is_right(
    members: int, shares: list[int]
) -> None:
    slow, riders, late, dying = shares
    groups = fetching(
        *("--members", str(members), "--slow", f"{slow}%:10M", "--free-riders", f"{riders}%"),
        *("--join-later", f"{late}%:30s", "--churn", f"die:{dying}%"),
    )
    assert all(group.members > 0 for group in groups)
    assert sum(group.members for group in groups) == members
    counted = [
        sum(group.members for group in groups if group.up_bytes_s < 2e6),
        sum(group.members for group in groups if not group.gives),
        sum(group.members for group in groups if group.joins_at_s),
        sum(group.members for group in groups if group.dies_at_share is not None),
    ]
    assert counted == [(2 * members * share + 100) // 200 for share in shares]


def test_churn_kinds_go_together() -> None:
    words = ("--churn", "leave,die:20%,sharer:1.1")
    groups = fetching(*words)
    assert all(group.leaves_when_complete for group in groups)
    assert [group.members for group in groups if group.dies_at_share == 0.5] == [2]
    assert sharer(*words).leaves_after_copies == pytest.approx(1.1)
    assert not sharer(*words).leaves_when_complete


def test_without_habits_there_is_one_group_of_all() -> None:
    assert len(fetching()) == 1
    assert scenario().plan.seed == 1
    assert scenario("--seed", "7").plan.seed == 7


# What is rehearsed in its place


def test_a_small_composition_is_rehearsed_as_it_is() -> None:
    made = scenario("--size", "10M", "--part-size", "256K")
    assert made.rehearsed == made.plan


def test_parts_are_merged_and_made_smaller_and_rates_with_them_so_that_times_stay() -> None:
    made = scenario("--size", "5G", "--slow", "50%:10M")
    assert (made.parts, made.rehearsed_parts) == (10240, 1024)
    assert made.rehearsed.part_size_bytes == MOST_PART_BYTES
    assert bound_s(made.rehearsed) == pytest.approx(bound_s(made.plan))
    for asked, smaller in zip(made.plan.groups, made.rehearsed.groups, strict=True):
        assert smaller.up_bytes_s / asked.up_bytes_s == pytest.approx(1 / 20)
        assert smaller.down_bytes_s / asked.down_bytes_s == pytest.approx(1 / 20)


@pytest.mark.parametrize(("members", "parts"), [("256", 1024), ("257", 512)])
def test_many_machines_rehearse_fewer_parts(members: str, parts: int) -> None:
    assert scenario("--size", "5G", "--members", members).rehearsed_parts == parts


@given(size_bytes=st.integers(1, 1 << 42), part_size_bytes=st.integers(1, 1 << 30))
def test_whatever_the_sizes_few_small_parts_are_rehearsed(size_bytes: int, part_size_bytes: int) -> None:
    groups = (Group(1, 1e6, 1e6, holds_all=True), Group(3, 1e6, 1e6))
    plan = Plan(size_bytes, part_size_bytes, groups)
    smaller = rehearsed(plan)
    parts = part_count(size_bytes, part_size_bytes)
    merged = -(-parts // MOST_PARTS)
    assert part_count(smaller.size_bytes, smaller.part_size_bytes) == -(-parts // merged) <= MOST_PARTS
    assert 1 <= min(smaller.part_size_bytes, smaller.size_bytes) <= MOST_PART_BYTES
    # A size is rounded up to a byte, which in a tiny one is much.
    assert bound_s(smaller) == pytest.approx(bound_s(plan), rel=1e-3, abs=2e-3)


def test_it_is_given_up_some_bounds_later() -> None:
    plan = scenario("--up", "10K").plan
    assert plan.limit_s > 10 * bound_s(plan)


# What is wrong


@pytest.mark.parametrize(
    ("option", "values", "advice"),
    [
        ("--members", ["0", "100001", "-1", "1.5", "x", "", "１", "1_0", "9" * 99], "from 1 to 100000"),
        ("--up", ["0", "", "100", "100MB", "100MiB", "1T", "1e9", "1001G", "١M", "x"], "100M or 2.5G"),
        ("--down", ["0K"], "100M or 2.5G"),
        ("--seed-up", ["0K"], "100M or 2.5G"),
        ("--size", ["0", "1.5G", "", "5T", "9" * 16 + "G"], "700M or 5G"),
        ("--part-size", ["0", "x"], "16384, 16K"),
        ("--latency", ["10", "11s", "", "ms", "1 s"], "10ms or 0.5s"),
        ("--seed", ["-1", "x", "", "9" * 20, str(2**63)], "whole number"),
        ("--free-riders", ["20", "101%", "%", "1e1%", "100.1%"], "from 0% to 100%"),
        ("--slow", ["50%", "50:10M", "50%:", "101%:10M", "50%:0", ":"], ""),
        ("--join-later", ["50%:30", "50%", "50%:-1s", "50%:25h"], ""),
        ("--start-within", ["30", "1 s", "25h", ""], "30s, 5min or 1h"),
        ("--churn", ["", "die", "die:", "die:120%", "go", "leave,", "sharer:0", "sharer:", "LEAVE"], ""),
    ],
)
def test_a_bad_value_is_one_line_that_names_the_option(option: str, values: list[str], advice: str) -> None:
    for value in values:
        text = problem(*USUAL, option, value)
        assert text.startswith(f'argument {option} "'), value
        assert advice in text
        assert text.endswith("(see conductor.py --help)")
        assert text.isprintable()


def test_a_hostile_value_is_shown_harmless() -> None:
    assert "\x1b" not in problem(*USUAL, "--churn", "\x1b[31mleave\n")
    assert len(problem(*USUAL, "--up", "9" * 10_000)) < 300


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--members", "3", "--up", "1M"], "nothing to rehearse: give a .orch"),
        (["--size", "1M", "--up", "1M"], "needs --members and --up"),
        (["--size", "1M", "--members", "3"], "needs --members and --up"),
    ],
)
def test_what_is_missing_is_said(words: list[str], text: str) -> None:
    assert text in problem(*words)
