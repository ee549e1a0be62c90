"""Small swarms rehearsed from a command line's plan: what an option asks for is what happens."""

from __future__ import annotations

import pytest

from orchestra.rehearsal.result import Result
from orchestra.rehearsal.run import rehearse
from tests.rehearsals import scenario

SMALL = ("--size", "4M", "--part-size", "64K", "--members", "8", "--up", "20M", "--down", "40M")


def play(*words: str) -> Result:
    scene = scenario(*SMALL, *words)
    return Result(scene, rehearse(scene.rehearsed))


def test_all_have_it_after_the_bound_and_the_sharer_sends_a_copy_or_more() -> None:
    made = play()
    assert made.finished == 8
    assert made.finish_times_s[0] > made.bound_s * 0.9
    assert made.sharer_copies >= 1


def test_a_sharer_may_leave_after_some_copies() -> None:
    made = play("--churn", "sharer:1.1")
    sharer = next(member for member in made.outcome.members if member.group == 0)
    assert sharer.left_s is not None
    assert 1.1 <= made.sharer_copies < 1.25
    assert made.finished == 8
    assert play().outcome.members[0].left_s is None


def test_those_who_die_never_have_it_and_those_who_leave_do() -> None:
    made = play("--churn", "leave,die:25%")
    assert (made.finished, made.cut_off) == (6, 2)
    fetching = [member for member in made.outcome.members if member.group]
    # The last to finish end the rehearsal, before they have said goodbye.
    early = [member for member in fetching if (member.finished_s or 0.0) < made.outcome.ended_s - 1.0]
    assert len(early) >= 2
    assert all(member.left_s is not None for member in early)


def test_free_riders_upload_nothing_and_late_ones_come_late() -> None:
    made = play("--free-riders", "25%", "--join-later", "50%:2s")
    groups = made.scenario.plan.groups
    for member in made.outcome.members:
        group = groups[member.group]
        assert group.gives or member.uploaded_bytes == 0
        assert member.joined_s >= group.joins_at_s
    assert made.finished == 8


def test_a_larger_scale_takes_about_the_same_time() -> None:
    # Parts of 1 MiB are rehearsed at a quarter of it; here the same plan is played in full beside that.
    scene = scenario("--size", "64M", "--part-size", "1M", "--members", "4", "--up", "20M", "--down", "40M")
    assert scene.rehearsed != scene.plan
    smaller, full = (rehearse(plan) for plan in (scene.rehearsed, scene.plan))
    assert smaller.median_s == pytest.approx(full.median_s, rel=0.1)
    assert smaller.seeder_copies == pytest.approx(full.seeder_copies, rel=0.1)


def test_progress_is_told_often_and_may_end_it() -> None:
    told: list[tuple[float, int, int]] = []
    scene = scenario(*SMALL)
    rehearse(scene.rehearsed, on_progress=lambda *progress: told.append(progress))
    assert len(told) >= 200
    assert told == sorted(told)
    assert {fetching for _, _, fetching in told} == {8}

    class Enough(Exception):
        pass

    def enough(*_: object) -> None:
        raise Enough

    with pytest.raises(Enough):
        rehearse(scene.rehearsed, on_progress=enough)
