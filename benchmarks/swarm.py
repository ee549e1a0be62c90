"""swarm: a file from one host to many, on shaped links: ours beside libtorrent and aria2, and the bound.

Main thread; Linux as root, since every host is a network namespace.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks import clients, links
from benchmarks.calibration import calibrate
from benchmarks.clients import Cast
from benchmarks.composition import Composition
from benchmarks.crowd import measure_crowd
from benchmarks.curves import Curve, Panel
from benchmarks.measure import Figures, Series, Skip, measure_rounds
from benchmarks.plan import Plan, chosen_names
from benchmarks.processes import ROOT
from benchmarks.rehearsed import plan_of
from benchmarks.report import Column, Report
from benchmarks.scenarios import SCENARIOS, Scenario
from benchmarks.swarmmarks import MARKED, marks_of
from benchmarks.tables import Table, number
from orchestra.rehearsal.run import rehearse

COLUMNS = [
    Column("median / T*", "median"),
    Column("finished", "finished", 0),
    Column("copies", "copies"),
    Column("on the wire", "wire_copies"),
    Column("first copy, s", "one_copy_s", 1),
    Column("sent", "sent", 3),
    Column("all up, s", "up_s", 1),
    Column("CPU s", "cpu_s", 1),
    Column("others, %", "other_load", 0, 100),
]
SEEDS = range(1, 4)
"""Of the rehearsals that stand beside what was measured: when who starts is chance."""
LAST = Column("last / T*", "last")
KINDS = [
    Column("last of ours / T*", f"last {clients.OURS.name}"),
    Column("last of libtorrent / T*", f"last {clients.STOCK.name}"),
]
NOTE = (
    "How many leechers have the file over time, and the marks, both from the tables below. The curve of a"
    " contender is that of its run with the median `last / T*`."
)


def run(plan: Plan) -> Report:
    """Run the scenarios that were asked for; a section each."""
    try:
        links.check_possible()
    except Skip as reason:
        return Report([], skipped=str(reason))
    links.remove_stale()
    plan = replace(plan, folder=plan.folder / "swarm")
    plan.folder.mkdir()
    up, down = calibrate(plan.folder)
    plan.tell(f"the shaped links carry {up:.3f} (up) and {down:.3f} (down) of what their rates say")
    links_text = f"TCP {congestion_control()}; links at {up:.3f} (up) and {down:.3f} (down) of their rates"
    if plan.peer_runs not in (None, plan.runs):
        links_text += f"; of the others {plan.peer_runs} run{'s' if plan.peer_runs != 1 else ''} each"
    measured: dict[str, dict[str, Series]] = {}
    rehearsed: dict[str, float] = {}
    sections: dict[str, Report] = {}
    for name in chosen_names(list(SCENARIOS), plan.scenarios):
        measured[name] = measure(plan, SCENARIOS[name])
        rehearsed[name] = rehearsed_last(SCENARIOS[name], measured[name], plan)
        table = table_of(SCENARIOS[name], measured[name], plan.size_bytes)
        sections[name] = Report([table], measured_with=links_text)
    return Report(
        [],
        marks_of(measured, rehearsed),
        note=NOTE,
        curves=[panel_of(SCENARIOS[name], series) for name, series in measured.items()],
        sections=sections,
        # The slow crowds take an hour, and have no marks: all else may be written without them.
        partial=bool(plan.only) or not MARKED.issubset(measured),
        measured_with=links_text,
    )


def measure(plan: Plan, scenario: Scenario) -> dict[str, Series]:
    """Everybody in turn in one scenario."""
    composition = plan.composition(scenario.part_bytes)
    casts = {cast.name: cast for cast in (clients.MIXED if scenario.mixed else clients.ALL)}
    chosen = chosen_names(list(casts), plan.only)
    plan.tell(f"{scenario.name}, T* = {scenario.bound_s(plan.size_bytes):.2f} s: {scenario.text}")
    ours = [name for name in chosen if name == clients.OURS.name]
    others = [name for name in chosen if name not in ours]
    measured: dict[str, Series] = {}
    for names, runs in ((ours, plan.runs), (others, plan.peer_runs or plan.runs)):
        measured |= measure_rounds(
            {name: run_of(plan, scenario, casts[name], composition) for name in names},
            runs=runs,
            tell=plan.tell,
            warm_up=False,
            # The kernel's work on the links is among that of others, and the links leave the processors time:
            # the table tells how much it was.
            most_other_load=math.inf,
        )
    return measured


def rehearsed_last(scenario: Scenario, series: dict[str, Series], plan: Plan) -> float:
    """last / T* as rehearsed, with members that start within the time in which ours did: the median of SEEDS.

    Infinite where some never finish; nan where ours was not measured, or those of another checkout were, and
    for mixed swarms.
    """
    up_s = series[clients.OURS.name].median("up_s") if clients.OURS.name in series else math.nan
    if scenario.mixed or plan.ours != ROOT or math.isnan(up_s):
        return math.nan
    swarm = plan_of(scenario, plan.size_bytes, up_s)
    times_s = [rehearse(replace(swarm, seed=seed)).finish_times_s for seed in SEEDS]
    last_s = [times[-1] if len(times) == len(scenario.leechers) else math.inf for times in times_s]
    last = statistics.median(last_s) / scenario.bound_s(plan.size_bytes)
    plan.tell(f"rehearsed, with all up within {up_s:.1f} s: last / T* {number(last)}")
    return last


def run_of(plan: Plan, scenario: Scenario, cast: Cast, composition: Composition) -> Callable[[], Figures]:
    """For measure_rounds: one run, whose figures are told at once."""

    def run_once() -> Figures:
        figures = measure_crowd(scenario, cast, composition, plan.folder, plan.ours)
        columns = [LAST, *(KINDS if scenario.mixed else ()), *COLUMNS]
        plan.tell(", ".join(f"{column.heading} {shown(column, figures)}" for column in columns))
        return figures

    return run_once


def shown(column: Column, figures: Figures) -> str:
    """What stands in a column for one run."""
    return number(figures[column.figure] * column.scale, column.decimals)


def table_of(scenario: Scenario, series: dict[str, Series], size_bytes: int) -> Table:
    """Medians, a row a contender."""
    columns = [*KINDS, *COLUMNS] if scenario.mixed else COLUMNS
    rows = []
    for name, one in series.items():
        if not one.runs:
            rows.append([f"{name}: skipped, {one.skipped}", *[""] * (len(columns) + 2)])
            continue
        low, high = (number(value) for value in one.spread(LAST.figure))
        rows.append([name, LAST.cell(one), f"{low}..{high}", *(column.cell(one) for column in columns)])
    title = f"{scenario.name}: {scenario.text}; T* = {scenario.bound_s(size_bytes):.2f} s"
    return Table(title, ["", LAST.heading, "least..most", *(column.heading for column in columns)], rows)


def panel_of(scenario: Scenario, series: dict[str, Series]) -> Panel:
    """The curves of those that were measured."""
    curves = [Curve(name, done_of(median_run(one))) for name, one in series.items() if one.runs]
    return Panel(scenario.name, len(scenario.leechers), curves)


def median_run(series: Series) -> Figures:
    """The run with the median last leecher."""
    runs = sorted(series.runs, key=lambda run: run["last"])
    return runs[(len(runs) - 1) // 2]


def done_of(figures: Figures) -> list[float]:
    """When one after the other was done, in T*."""
    return [figures[f"done {number}"] for number in range(1, int(figures["finished"]) + 1)]


def congestion_control() -> str:
    """How this kernel's TCP finds its rate."""
    path = Path("/proc/sys/net/ipv4/tcp_congestion_control")
    return path.read_text(encoding="ascii").strip() if path.exists() else "unknown"
