"""The figures of a download: when they are news, and what they say."""

from __future__ import annotations

import itertools
import random

import pytest

from orchestra.gauge import PROGRESS_S, Gauge
from orchestra.geometry import Geometry
from orchestra.swarm import Swarm
from tests.fakes import OUR_ID, FakeLinks, ListInbox

NOW_S = 1000.0


def swarm_of(geometry: Geometry) -> Swarm:
    return Swarm(
        geometry,
        OUR_ID,
        links=FakeLinks(geometry.parts),
        writer=ListInbox(),
        reader=ListInbox(),
        rng=random.Random(1),
        now_s=NOW_S,
    )


@pytest.mark.parametrize("geometry", [Geometry(35, 10), Geometry(40, 10), Geometry(3, 10), Geometry(0, 10)])
def test_what_is_left_is_the_sum_of_the_missing_parts(geometry: Geometry) -> None:
    everything = range(geometry.parts)
    for count in range(geometry.parts + 1):
        for had in itertools.combinations(everything, count):
            swarm = swarm_of(geometry)
            for index in had:
                swarm.picker.mark_have(index)
            left_bytes = sum(geometry.part_length(index) for index in everything if index not in had)
            assert Gauge(swarm, geometry, NOW_S).left_bytes() == left_bytes


def test_while_parts_are_missing_the_figures_are_news_twice_a_second_also_when_it_stands_still() -> None:
    geometry = Geometry(30, 10)
    gauge = Gauge(swarm_of(geometry), geometry, NOW_S)
    first = gauge.read(NOW_S)
    assert first is not None
    assert gauge.read(NOW_S + PROGRESS_S - 0.01) is None
    assert gauge.read(NOW_S + PROGRESS_S) == first


def test_the_last_part_is_news_at_once_and_then_only_what_changes() -> None:
    geometry = Geometry(30, 10)
    swarm = swarm_of(geometry)
    gauge = Gauge(swarm, geometry, NOW_S)
    gauge.read(NOW_S)
    for index in range(3):
        assert gauge.read(NOW_S + 0.01) is None
        swarm.picker.mark_have(index)
    done = gauge.read(NOW_S + 0.02)
    assert done is not None
    assert (done.parts_done, done.parts, done.eta_s) == (3, 3, 0)
    assert gauge.read(NOW_S + 0.03) is None
    assert gauge.read(NOW_S + 10) is None
    swarm.uploads._rate.add(5, NOW_S)
    news = gauge.read(NOW_S + 20)
    assert news is not None
    assert news.uploaded_bytes == 5
    assert gauge.read(NOW_S + 30) is None


def test_rate_and_time_left_follow_what_came() -> None:
    geometry = Geometry(10_000, 1000)
    swarm = swarm_of(geometry)
    gauge = Gauge(swarm, geometry, NOW_S)
    for index in range(4):
        swarm.picker.mark_have(index)
    swarm.down.add(4000, NOW_S + 4)
    figures = gauge.read(NOW_S + 4)
    assert figures is not None
    assert (figures.downloaded_bytes, figures.rate_bytes_s, figures.eta_s) == (4000, 1000, 6)
    stalled = gauge.read(NOW_S + 60)
    assert stalled is not None
    assert (stalled.rate_bytes_s, stalled.eta_s) == (0, -1)


def test_a_complete_member_has_no_rate_of_downloading() -> None:
    geometry = Geometry(10, 10)
    swarm = swarm_of(geometry)
    gauge = Gauge(swarm, geometry, NOW_S)
    swarm.picker.mark_have(0)
    swarm.down.add(10, NOW_S + 1)
    last = gauge.read(NOW_S + 1)
    assert last is not None
    assert last.rate_bytes_s == 10, "the last figure of the download still has it"
    later = gauge.read(NOW_S + 2)
    assert later is not None
    assert later.rate_bytes_s == 0
