"""swarm: a file from one host to many, on shaped links: ours beside libtorrent and aria2, and the bound.

Main thread; Linux as root, since every host is a network namespace.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from benchmarks import clients, links
from benchmarks.clients import Cast, all_of
from benchmarks.composition import Composition
from benchmarks.crowd import measure_crowd
from benchmarks.measure import Figures, Series, Skip, measure_rounds
from benchmarks.plan import Plan, chosen_names
from benchmarks.report import Column, Report
from benchmarks.scenarios import SCENARIOS, Scenario
from benchmarks.tables import Table, number

CASTS = [all_of(clients.OURS), all_of(clients.STOCK), all_of(clients.TUNED)]
COLUMNS = [
    Column("last / T*", "last"),
    Column("median / T*", "median"),
    Column("finished", "finished", 0),
    Column("copies", "copies"),
    Column("on the wire", "wire_copies"),
    Column("first copy, s", "one_copy_s", 1),
    Column("downloaded", "downloaded", 3),
    Column("all up, s", "up_s", 1),
    Column("CPU s", "cpu_s", 1),
]
NOTE = ""


def run(plan: Plan) -> Report:
    """Run the scenarios that were asked for."""
    try:
        links.check_possible()
    except Skip as reason:
        plan.tell(f"swarm: SKIPPED: {reason}")
        return Report([Table(f"Swarm: skipped, {reason}", [""], [])])
    links.remove_stale()
    plan = replace(plan, folder=plan.folder / "swarm")
    tables = []
    for name in chosen_names(list(SCENARIOS), plan.scenarios):
        scenario = SCENARIOS[name]
        series = measure(plan, scenario)
        tables.append(table_of(scenario, series, plan.size_bytes))
    return Report(tables, note=NOTE)


def measure(plan: Plan, scenario: Scenario) -> dict[str, Series]:
    """Everybody in turn in one scenario."""
    composition = plan.composition(scenario.part_bytes)
    casts = {cast.name: cast for cast in CASTS}
    chosen = chosen_names(list(casts), plan.only)
    plan.tell(f"{scenario.name}, T* = {scenario.bound_s(plan.size_bytes):.2f} s: {scenario.text}")
    return measure_rounds(
        {name: run_of(plan, scenario, casts[name], composition) for name in chosen},
        runs=plan.runs,
        tell=plan.tell,
        warm_up=False,
        # Links leave the processors time: others do not slow a swarm as they slow a transfer.
        most_other_load=math.inf,
    )


def run_of(plan: Plan, scenario: Scenario, cast: Cast, composition: Composition) -> Callable[[], Figures]:
    """For measure_rounds: one run, whose figures are told at once."""

    def run_once() -> Figures:
        figures = measure_crowd(scenario, cast, composition, plan.folder, plan.ours)
        plan.tell(", ".join(f"{column.heading} {shown(column, figures)}" for column in COLUMNS))
        return figures

    return run_once


def shown(column: Column, figures: Figures) -> str:
    """What stands in a column for one run."""
    return number(figures[column.figure] * column.scale, column.decimals)


def table_of(scenario: Scenario, series: dict[str, Series], size_bytes: int) -> Table:
    """Medians, a row a contender."""
    rows = []
    for name, one in series.items():
        skipped = [f"{name}: skipped, {one.skipped}", *[""] * (len(COLUMNS) + 1)]
        low, high = (number(value) for value in one.spread("last"))
        cells = [column.cell(one) for column in COLUMNS]
        rows.append([name, cells[0], f"{low}..{high}", *cells[1:]] if one.runs else skipped)
    first, *others = (column.heading for column in COLUMNS)
    title = f"{scenario.name}: {scenario.text}; T* = {scenario.bound_s(size_bytes):.2f} s"
    return Table(title, ["", first, "least..most", *others], rows)
