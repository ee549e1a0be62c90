"""The pure parts of the benchmarks: medians, rounds, repeats, how busy the machine was."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest

from benchmarks.machine import other_load, parse_busy_s
from benchmarks.measure import MAX_REPEATS, Figures, Series, Skip, measure_rounds
from benchmarks.plan import chosen_names
from benchmarks.processes import BenchmarkError

STAT = """cpu  100 20 30 1000 5 7 11 13 0 0
cpu0 50 10 15 500 5 7 11 13 0 0
intr 1 2 3
"""


def quiet(wall_s: float) -> Figures:
    return {"wall_s": wall_s, "other_load": 0.0}


def taking_turns(*figures: Figures) -> Callable[[], Figures]:
    left: Iterator[Figures] = iter(figures)
    return lambda: next(left)


def measured(
    runs: dict[str, Callable[[], Figures]], *, number: int, warm_up: bool = False
) -> dict[str, Series]:
    return measure_rounds(runs, runs=number, tell=lambda _: None, warm_up=warm_up)


def test_a_figure_is_the_median_of_its_runs() -> None:
    series = measured({"a": taking_turns(quiet(9.0), quiet(1.0), quiet(2.0))}, number=3)
    assert series["a"].median("wall_s") == 2.0
    assert series["a"].spread("wall_s") == (1.0, 9.0)


def test_a_figure_that_no_run_has_is_not_a_number() -> None:
    assert math.isnan(Series().median("wall_s"))
    assert all(math.isnan(value) for value in Series().spread("wall_s"))


def test_contenders_are_measured_in_turns_after_a_turn_that_does_not_count() -> None:
    order: list[str] = []

    def noting(name: str) -> Callable[[], Figures]:
        return lambda: order.append(name) or quiet(float(len(order)))  # type: ignore[func-returns-value]

    series = measured({"a": noting("a"), "b": noting("b")}, number=2, warm_up=True)
    assert order == ["a", "b"] * 3
    assert [run["wall_s"] for run in series["b"].runs] == [4.0, 6.0]


def test_a_disturbed_measurement_is_made_again() -> None:
    disturbed = {"wall_s": 9.0, "other_load": 0.3}
    series = measured({"a": taking_turns(disturbed, quiet(1.0))}, number=1)
    assert series["a"].runs == [quiet(1.0)]
    assert series["a"].repeated == 1


def test_where_it_is_never_quiet_the_quietest_measurement_counts() -> None:
    loads = [0.5, 0.2, *[0.4] * (MAX_REPEATS - 1)]
    tries = [{"wall_s": 1.0, "other_load": load} for load in loads]
    series = measured({"a": taking_turns(*tries)}, number=1)
    assert [run["other_load"] for run in series["a"].runs] == [0.2]
    assert series["a"].repeated == MAX_REPEATS


def test_where_the_load_is_unknown_nothing_is_repeated() -> None:
    unknown = {"wall_s": 1.0, "other_load": math.nan}
    assert measured({"a": taking_turns(unknown)}, number=1)["a"].repeated == 0


def test_who_cannot_take_part_is_asked_once_and_the_others_go_on() -> None:
    asked: list[int] = []

    def absent() -> Figures:
        asked.append(1)
        raise Skip("not installed")

    series = measured({"a": absent, "b": lambda: quiet(1.0)}, number=2)
    assert (series["a"].skipped, series["a"].runs, len(asked)) == ("not installed", [], 1)
    assert len(series["b"].runs) == 2


def test_a_measurement_that_fails_costs_nobody_else_a_figure() -> None:
    told: list[str] = []
    outcomes = iter([False, True, False, True])

    def unsure() -> Figures:
        if next(outcomes):
            return quiet(1.0)
        raise BenchmarkError("it took too long\nand more")

    runs = {"a": unsure, "b": lambda: quiet(2.0)}
    series = measure_rounds(runs, runs=4, tell=told.append, warm_up=False)
    assert (len(series["a"].runs), len(series["b"].runs)) == (1, 4)
    assert series["a"].skipped == "failed 2 times: it took too long"
    assert any("and more" in text for text in told)


@pytest.mark.parametrize(("interrupts", "busy_s"), [(False, 1.63), (True, 1.81)])
def test_busy_is_all_but_idle_and_waiting_for_disks(interrupts: bool, busy_s: float) -> None:
    assert parse_busy_s(STAT, 100, interrupts=interrupts) == pytest.approx(busy_s)


def test_others_are_what_the_machine_did_beyond_our_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert other_load(1.5, 1.0, 1.0) == 0.25
    assert other_load(1.0, 1.5, 1.0) == 0.0


@pytest.mark.parametrize(
    ("only", "chosen"),
    [
        ([], ["ours", "ours from x", "x tuned", "x stock"]),
        (["ours"], ["ours"]),
        (["x", "ours"], ["ours", "x tuned", "x stock"]),
        (["ours f"], ["ours from x"]),
        (["nobody"], []),
    ],
)
def test_contenders_are_chosen_by_name_or_by_its_beginning(only: list[str], chosen: list[str]) -> None:
    assert chosen_names(["ours", "ours from x", "x tuned", "x stock"], only) == chosen
