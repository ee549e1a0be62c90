"""The page of a rehearsal: whole, alone, harmless, the same each time."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.rehearsal import charts
from orchestra.rehearsal.report import page
from orchestra.rehearsal.result import Result
from tests.rehearsals import result

SCENES = {
    "plain": result(),
    "one machine": result("--members", "1"),
    "many": result("--members", "3000", "--size", "5G"),
    "two groups": result("--slow", "50%:10M"),
    "many groups": result(
        "--slow",
        "50%:10M",
        "--free-riders",
        "40%",
        "--join-later",
        "50%:9s",
        "--churn",
        "die:20%,leave,sharer:1.1",
    ),
    "nobody": result(finishing=0.0),
    "half": result(finishing=0.5),
    "slow": result("--up", "1K", "--size", "1G"),
    "quick": result("--size", "1", "--up", "1000G"),
}


def parsed(made: Result) -> ET.Element:
    return ET.fromstring(page(made))


def words(made: Result) -> str:
    return " ".join(" ".join(parsed(made).itertext()).split())


@pytest.mark.parametrize("name", SCENES)
def test_it_is_well_formed_with_four_charts_whose_marks_lie_inside(name: str) -> None:
    page_of_it = parsed(SCENES[name])
    drawn = page_of_it.findall(".//svg")
    assert len(drawn) == 4
    for svg in drawn:
        for path in svg.findall("path"):
            numbers = [float(number) for number in re.findall(r"-?[\d.]+", path.get("d", ""))]
            assert numbers
            assert all(0 <= number <= charts.CHART_WIDTH for number in numbers)
        for bar in svg.findall("rect"):
            x, y, width, height = (float(bar.get(key, "nan")) for key in ("x", "y", "width", "height"))
            assert x + width <= charts.CHART_WIDTH
            assert y + height <= charts.CHART_HEIGHT
            assert min(x, y, width, height) >= 0


@pytest.mark.parametrize("name", SCENES)
def test_it_needs_nothing_from_elsewhere_and_no_script(name: str) -> None:
    text = page(SCENES[name])
    for word in ("http:", "https:", "//", "url(", "<script", "@import", "src=", "href="):
        assert word not in text, word
    assert "default-src 'none'" in text


def test_it_tells_the_figures() -> None:
    text = words(result("--members", "500", "--size", "5G", "--seed-up", "1G", name="a.bin"))
    for figure in (
        "All 500 machines would have it after 8 min 4 s.",
        "8 min 4 s, 1.10 T*",
        "7 min 20 s, set by what all upload together",
        "1.07 copies",
        "5.37 GB in 10,240 parts, rehearsed as 512",
        "512 parts of 262,144 bytes",
        "ab" * 20,
    ):
        assert figure in text.replace("\xa0", " "), figure


def test_it_says_that_it_was_rehearsed_in_parts_that_are_not_the_real_ones_only_when_it_was() -> None:
    assert "To be shorter" not in words(result("--size", "10M", "--part-size", "256K"))


def test_a_composition_cannot_write_into_the_page() -> None:
    name = "</title><script>alert(1)</script>&\"'<b>\u202e\x1b.bin"
    made = result(name=name)
    text = page(made)
    assert "<script" not in text
    assert "<b>\\u202e" not in text
    assert "\x1b" not in text
    assert "<script>alert(1)</script>&\"'<b>\\u202e\\x1b.bin" in words(made)
    parsed(made)


def test_the_bound_is_marked_at_its_place() -> None:
    made = result()
    completion = parsed(made).findall(".//svg")[0]
    [mark] = (path for path in completion.findall("path") if "mark" in path.get("class", ""))
    at = float(re.findall(r"[\d.]+", mark.get("d", ""))[0])
    longest_s = (made.outcome.last_s or 0) * 1.06
    expected = charts.LEFT + charts.PLOT_WIDTH * made.bound_s / longest_s
    assert at == pytest.approx(expected, abs=0.1)


def test_groups_get_a_curve_each_while_they_are_few() -> None:
    few, many = parsed(SCENES["two groups"]), parsed(SCENES["many groups"])
    assert [len(found.findall(".//svg")[0].findall("path[@class='line c2']")) for found in (few, many)] == [
        1,
        0,
    ]
    assert "Group by group" in words(SCENES["many groups"])
    assert "Group by group" not in words(SCENES["plain"])


def test_each_machine_has_a_bar_and_many_share_one() -> None:
    few, many = (parsed(SCENES[name]).findall(".//svg")[1].findall("rect") for name in ("plain", "many"))
    assert len(few) == 1 + 10
    assert len(many) == 1 + 120
    titles = ["".join(bar.itertext()) for bar in many]
    assert titles[0] == "the sharer: 1.07 copies"
    assert titles[1].startswith("machines 1 to 25, each: ")


def test_the_same_result_gives_the_same_page() -> None:
    assert page(result("--slow", "50%:10M")) == page(result("--slow", "50%:10M"))


def test_a_rehearsal_that_ended_at_once_has_a_page() -> None:
    made = result(finishing=0.0)
    empty = replace(made.outcome, timeline=(), copies_out_s=None, ended_s=0.0)
    parsed(Result(made.scenario, empty))


# Charts


@given(st.floats(1e-6, 1e12))
def test_round_numbers_are_few_rise_evenly_and_reach_far(top: float) -> None:
    numbers = charts.round_numbers(top)
    assert numbers[0] == 0
    assert 2 <= len(numbers) <= 8
    assert numbers[-1] <= top * (1 + 1e-6)
    assert numbers[-1] + (numbers[1] - numbers[0]) > top * (1 - 1e-6)


@pytest.mark.parametrize(
    ("longest_s", "unit"),
    [(0.0, "seconds"), (1.0, "seconds"), (119, "seconds"), (121, "minutes"), (7300, "hours"), (1e6, "days")],
)
def test_time_is_shown_in_the_unit_that_reads_well(longest_s: float, unit: str) -> None:
    assert charts.time_axis(longest_s).title == f"{unit} after the start"


def test_stairs_rise_at_each_time() -> None:
    assert charts.stairs([1.0, 3.0]) == [(0, 0), (1, 0), (1, 1), (3, 1), (3, 2)]
    assert charts.stairs([]) == [(0, 0)]


@given(st.lists(st.floats(0, 1e6), max_size=3000))
def test_stairs_of_many_are_few_points_and_end_at_all(times: list[float]) -> None:
    times.sort()
    points = charts.stairs(times, most=50)
    assert len(points) <= 2 * 51 + 1
    assert points == sorted(points)
    assert points[-1] == (max(times, default=0.0), float(len(times)))


@given(st.lists(st.floats(0, 100), max_size=500))
def test_runs_cover_all_once_and_keep_the_sum(values: list[float]) -> None:
    runs = charts.in_runs(values, most=40)
    assert len(runs) <= 40
    assert [at for first, end, _ in runs for at in range(first, end)] == list(range(len(values)))
    assert sum(mean * (end - first) for first, end, mean in runs) == pytest.approx(sum(values))
