"""transfer: one seeder to one leecher, everybody in turn, for each part size.

Main thread. `wall_s` runs from "go" to the last part verified and on disk,
`exec_s` to the same from the leecher's exec, `settled_s` from "go" until the
leecher has nothing left to do: for ours the whole-file SHA-1 is right and the
file has its name. CPU time is counted from "go" until then.
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
from benchmarks.tables import Table, mib, number, percent

GIB = 1 << 30
CONTENDERS = [OURS, TUNED, LIMIT, mixed(TUNED, OURS), mixed(OURS, TUNED), STOCK, ARIA2]


def run(plan: Plan) -> list[Table]:
    """Measure everybody; a table a part size."""
    tables = []
    for part_size_bytes in plan.part_sizes:
        composition = plan.composition(part_size_bytes)
        series = plan.measure(runs_of(CONTENDERS, composition, plan.folder))
        tables.append(table_of(series, composition))
    return tables


def measure_pair(contender: Contender, composition: Composition, parent: Path) -> Figures:
    """Move the composition once from a fresh seeder to a fresh leecher."""
    with Stage(parent) as stage:
        scene = Scene(stage, composition)
        seeder = contender.seed(scene, "seeder")
        leecher = contender.fetch(scene, "leecher", [seeder])
        window = Window(stage.processes)
        done_s = leecher.done()
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
        if one.skipped:
            rows.append([f"{name}: {one.skipped}", *[""] * 10])
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
                number(one.median("cpu_s") * GIB / size_bytes),
                f"{mib(one.median('seeder_peak_bytes'))} / {mib(one.median('leecher_peak_bytes'))}",
                percent(one.median("other_load")),
                str(one.repeated),
            ]
        )
    part = composition.score.part_size_bytes
    part_text = f"{part // MIB} MiB" if part >= MIB else f"{part // 1024} KiB"
    title = f"Transfer of {size_bytes // MIB} MiB in parts of {part_text}"
    heading = [
        "", "s", "least..most", "MB/s", "s from exec", "s settled", "CPU s, seeder + leecher", "CPU s/GiB",
        "peak MiB", "others", "again",
    ]  # fmt: skip
    return Table(title, heading, rows)
