"""idle: a transfer beside 100 peers that shook hands and do nothing, at the seeder or at the leecher.

Main thread. Each has the same transfer without them as its measure: the pair
for those at the seeder, the pair in which the seeder calls for those at the
leecher.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.composition import MIB, Composition
from benchmarks.conductors import LOCAL
from benchmarks.contenders import HERE, OURS, TUNED, Contender, Scene, Seeder
from benchmarks.fans import Call, call_from_libtorrent, call_from_ours, measure_call
from benchmarks.measure import Figures, Series, Skip
from benchmarks.plan import Plan
from benchmarks.report import Column, Report, series_table
from benchmarks.tables import Mark, percent
from benchmarks.transfer import measure_pair

PEERS = 100
NOTE = (
    f"The transfer of parts of 1 MiB with {PEERS} more peers, which shook hands and say nothing, "
    "connected to the seeder or to the leecher; everything else as without them."
)
SIDES = ("seeder", "leecher")


def run(plan: Plan) -> Report:
    """Measure ours and libtorrent."""
    composition = plan.composition(MIB)
    runs: dict[str, Callable[[], Figures]] = {}
    for who, call in ((OURS, call_from_ours), (TUNED, call_from_libtorrent)):
        runs |= _runs_of(who, call, composition, plan.folder)
    series = plan.measure(runs)
    columns = [Column("s", "wall_s"), Column("CPU s", "cpu_s")]
    marks = [
        Mark(f"{PEERS} idle peers at the {side}: slowdown", slowdown(series, side), most=0.05, show=percent)
        for side in SIDES
    ]
    return Report([series_table(f"Beside {PEERS} idle peers", series, columns)], marks, note=NOTE)


def slowdown(series: dict[str, Series], side: str) -> float:
    """By how much of the time without them ours takes longer."""
    empty = Series(skipped="not measured")
    with_them = series.get(f"ours, idle at the {side}", empty).median("wall_s")
    return with_them / series.get(f"ours, none at the {side}", empty).median("wall_s") - 1


def _runs_of(
    contender: Contender, call: Call, composition: Composition, parent: Path
) -> dict[str, Callable[[], Figures]]:
    def crowded_seed(scene: Scene, label: str) -> Seeder:
        seeder = contender.seed(scene, label)
        crowd(scene, seeder.address[1])
        return seeder

    crowded = replace(contender, seed=crowded_seed)
    return {
        f"{contender.name}, none at the seeder": lambda: _pair(contender, composition, parent),
        f"{contender.name}, idle at the seeder": lambda: _pair(crowded, composition, parent),
        f"{contender.name}, none at the leecher": lambda: _call(call, composition, parent, idle=False),
        f"{contender.name}, idle at the leecher": lambda: _call(call, composition, parent, idle=True),
    }


def _pair(contender: Contender, composition: Composition, parent: Path) -> Figures:
    figures = measure_pair(contender, composition, parent)
    return {**figures, "peak_bytes": figures["leecher_peak_bytes"]}


def _call(call: Call, composition: Composition, parent: Path, *, idle: bool) -> Figures:
    def on_ready(scene: Scene, ports: list[int]) -> None:
        if idle:
            crowd(scene, ports[0])

    figures = measure_call(call, composition, parent, leechers=1, on_ready=on_ready)
    return {**figures, "cpu_s": figures["cpu_s_gib"] * composition.score.size_bytes / (1 << 30)}


def crowd(scene: Scene, port: int) -> None:
    """Connect the idle peers. Raises Skip when it does not take so many."""
    info_hash = scene.composition.score.info_hash.hex()
    process = scene.stage.python(HERE / "peer_idle.py", LOCAL, port, PEERS, info_hash, label="idle")
    _, event = process.wait_for("ready")
    if event["peers"] < PEERS:
        raise Skip(f"it takes only {event['peers']} of {PEERS} peers")
