"""transfer: one seeder to one leecher, everybody in turn, for each part size.

Main thread. `wall_s` runs from "go" to the last part verified and on disk,
`exec_s` to the same from the leecher's exec, `settled_s` from "go" until the
leecher has nothing left to do: for ours the whole-file SHA-1 is right and the
file has its name. CPU time is counted from "go" until both moments.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.aria2 import ARIA2
from benchmarks.composition import MIB, Composition
from benchmarks.contenders import LIMIT, OURS, STOCK, TUNED, Contender, Scene, mixed
from benchmarks.measure import Figures, Series, Window
from benchmarks.plan import Plan
from benchmarks.processes import Stage
from benchmarks.report import Bar, Report
from benchmarks.tables import Mark, Table, mib, number, part_size_text, percent, ratio

GIB = 1 << 30
CONTENDERS = [OURS, TUNED, LIMIT, mixed(TUNED, OURS), mixed(OURS, TUNED), STOCK, ARIA2]


NOTE = (
    "`s` runs from the moment when the leecher begins to connect to the last part verified and on disk,"
    " `s from exec` to the same moment from the start of the leecher, `s settled` until the leecher has"
    " nothing left to do: ours has compared the SHA-1 of the whole file then, and given the file its "
    "name. `CPU s/GiB` is that of both until the last part, `CPU s/GiB settled` until settled;"
    " peak memory is of the whole life, seeder / leecher."
)


def run(plan: Plan) -> Report:
    """Measure everybody; a table a part size."""
    tables: list[Table] = []
    bars: list[Bar] = []
    all_series: dict[int, dict[str, Series]] = {}
    for part_size_bytes in plan.part_sizes:
        composition = plan.composition(part_size_bytes)
        series = plan.measure(runs_of(CONTENDERS, composition, plan.folder))
        all_series[part_size_bytes] = series
        tables.append(table_of(series, composition))
        bars += bars_of(series, composition)
    return Report(tables, marks_of(all_series), bars, NOTE)


def measure_pair(contender: Contender, composition: Composition, parent: Path) -> Figures:
    """Move the composition once from a fresh seeder to a fresh leecher."""
    with Stage(parent) as stage:
        scene = Scene(stage, composition)
        seeder = contender.seed(scene, "seeder")
        stage.warm_memory(composition.score.size_bytes)
        leecher = contender.fetch(scene, "leecher", [seeder])
        window = Window(stage.processes)
        done_s = leecher.done()
        done_cpu_s = window.used_s()
        settled_s = leecher.settled()
        window.close()
        leecher_usage = leecher.process.stop()
        seeder_usage = seeder.process.stop()
    return {
        "wall_s": done_s - leecher.go_s,
        "exec_s": done_s - leecher.process.began_s,
        "settled_s": settled_s - leecher.go_s,
        "seeder_cpu_s": window.cpu_s["seeder"],
        "leecher_cpu_s": window.cpu_s["leecher"],
        "done_cpu_s": done_cpu_s,
        "cpu_s": window.cpu_s["seeder"] + window.cpu_s["leecher"],
        "leecher_life_cpu_s": leecher_usage.cpu_s,
        "seeder_peak_bytes": seeder_usage.peak_bytes,
        "leecher_peak_bytes": leecher_usage.peak_bytes,
        "other_load": window.other_load,
    }


def runs_of(
    contenders: list[Contender], composition: Composition, parent: Path
) -> dict[str, Callable[[], Figures]]:
    """For measure_rounds: each contender's measurement by its name."""

    def bound(contender: Contender) -> Callable[[], Figures]:
        return lambda: measure_pair(contender, composition, parent)

    return {contender.name: bound(contender) for contender in contenders}


def table_of(series: dict[str, Series], composition: Composition) -> Table:
    """Medians, a row a contender."""
    size_bytes = composition.score.size_bytes
    rows = []
    for name, one in series.items():
        if not one.runs:
            rows.append([f"{name}: skipped, {one.skipped}", *[""] * 11])
            continue
        low_s, high_s = one.spread("wall_s")
        rows.append(
            [
                name,
                number(one.median("wall_s")),
                f"{number(low_s)}..{number(high_s)}",
                number(size_bytes / 1e6 / one.median("wall_s"), 0),
                number(one.median("exec_s")),
                number(one.median("settled_s")),
                f"{number(one.median('seeder_cpu_s'))} + {number(one.median('leecher_cpu_s'))}",
                number(one.median("done_cpu_s") * GIB / size_bytes),
                number(one.median("cpu_s") * GIB / size_bytes),
                f"{mib(one.median('seeder_peak_bytes'))} / {mib(one.median('leecher_peak_bytes'))}",
                percent(one.median("other_load")),
                str(one.repeated),
            ]
        )
    part_text = part_size_text(composition.score.part_size_bytes)
    title = f"Transfer of {size_bytes // MIB} MiB in parts of {part_text}"
    heading = [
        "", "s", "least..most", "MB/s", "s from exec", "s settled", "CPU s, seeder + leecher", "CPU s/GiB",
        "CPU s/GiB settled",
        "peak MiB", "others", "again",
    ]  # fmt: skip
    return Table(title, heading, rows)


def bars_of(series: dict[str, Series], composition: Composition) -> list[Bar]:
    """For the picture: those that were measured."""
    size_bytes = composition.score.size_bytes
    group = f"parts of {part_size_text(composition.score.part_size_bytes)}"
    return [
        Bar(group, name, size_bytes / 1e6 / one.median("wall_s"), one.median("done_cpu_s") * GIB / size_bytes)
        for name, one in series.items()
        if one.runs
    ]


def marks_of(all_series: dict[int, dict[str, Series]]) -> list[Mark]:
    """The marks that a transfer can tell. Speeds are compared, so times stand upside down."""
    marks: list[Mark] = []
    least = {MIB: 1.05, 16 * 1024: 1.5}
    for part_size_bytes, series in all_series.items():
        text = part_size_text(part_size_bytes)
        ours, tuned = (_named(series, name) for name in ("ours", "libtorrent tuned"))
        wall_s, tuned_s = ours.median("wall_s"), tuned.median("wall_s")
        over_tuned = ratio(tuned_s, wall_s)
        marks.append(Mark(f"{text}: MB/s / libtorrent tuned", over_tuned, least.get(part_size_bytes)))
        limit_s = _named(series, "limit").median("wall_s")
        marks.append(Mark(f"{text}: MB/s / the limit", ratio(limit_s, wall_s), least=0.65))
        for moment, figure in (("to the last part", "done_cpu_s"), ("until settled", "cpu_s")):
            cpu_ratio = ratio(ours.median(figure), tuned.median(figure))
            marks.append(Mark(f"{text}: CPU s {moment} / libtorrent tuned", cpu_ratio, most=0.95))
        for pair in ("ours from libtorrent tuned", "libtorrent tuned from ours"):
            pair_ratio = ratio(tuned_s, _named(series, pair).median("wall_s"))
            marks.append(Mark(f"{text}: {pair} / with itself", pair_ratio, least=0.9))
        peak_mib = ours.median("leecher_peak_bytes") / MIB
        marks.append(Mark(f"{text}: peak memory of the leecher, MiB", peak_mib, most=64))
        settled = ratio(ours.median("settled_s"), wall_s)
        marks.append(Mark(f"{text}: complete / last part on disk", settled, most=1.25))
    small, large = (_named(all_series.get(size, {}), "ours").median("wall_s") for size in (16 * 1024, MIB))
    marks.append(Mark("MB/s in parts of 16 KiB / of 1 MiB", ratio(large, small), least=0.85))
    return marks


def _named(series: dict[str, Series], name: str) -> Series:
    return series.get(name, Series())
