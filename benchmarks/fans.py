"""fans: one leecher from 8 seeders, and 4 leechers from 1 seeder, beside one from one.

Main thread. In a fan-out the leechers are up first and the seeder calls them
all, so that everything begins at once; the leechers know of each other, and
pass on what they get.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.composition import MIB, Composition
from benchmarks.conductors import LOCAL
from benchmarks.contenders import (
    OURS,
    TUNED,
    Contender,
    Leecher,
    Scene,
    leecher_of,
    start_libtorrent,
    start_member,
    tell_peers,
)
from benchmarks.measure import Figures, Window
from benchmarks.plan import Plan
from benchmarks.processes import Process, Stage
from benchmarks.report import Column, Report, series_table
from benchmarks.tables import Mark, ratio
from benchmarks.transfer import GIB, measure_pair

SEEDERS = 8
LEECHERS = 4
NOTE = (
    f"The file in parts of 1 MiB, from {SEEDERS} seeders to one leecher, and from one seeder to "
    f"{LEECHERS} leechers that also give to each other: the sum of what they got, until the last of them"
    " has everything."
)
Call = Callable[[Scene, int, Callable[[list[int]], None]], list[Leecher]]
"""Starts so many leechers, tells their ports, and has a seeder call them."""


def run(plan: Plan) -> Report:
    """Measure ours and libtorrent."""
    composition = plan.composition(MIB)
    series = plan.measure(
        {
            f"{who.name}, {text}": run_of
            for who, call in ((OURS, call_from_ours), (TUNED, call_from_libtorrent))
            for text, run_of in _runs_of(who, call, composition, plan.folder).items()
        }
    )
    ours = {name: one.median("bytes_s") for name, one in series.items()}
    alone = ours.get("ours, 1 to 1", float("nan"))
    columns = [
        Column("s", "wall_s"),
        Column("MB/s", "bytes_s", 0, 1e-6),
        Column("CPU s/GiB", "cpu_s_gib"),
    ]
    marks = [
        Mark("fan-in of 8 / transfer", ratio(ours.get("ours, 8 to 1", alone), alone), least=0.75),
        Mark("fan-out sum / transfer", ratio(ours.get("ours, 1 to 4", alone), alone), least=0.85),
    ]
    return Report([series_table("Fan-in and fan-out", series, columns)], marks, note=NOTE)


def _runs_of(
    contender: Contender, call: Call, composition: Composition, parent: Path
) -> dict[str, Callable[[], Figures]]:
    return {
        "1 to 1": lambda: _pair(contender, composition, parent),
        f"{SEEDERS} to 1": lambda: _fan_in(contender, composition, parent),
        f"1 to {LEECHERS}": lambda: measure_call(call, composition, parent, leechers=LEECHERS),
    }


def _pair(contender: Contender, composition: Composition, parent: Path) -> Figures:
    figures = measure_pair(contender, composition, parent)
    size_bytes = composition.score.size_bytes
    return {
        **figures,
        "bytes_s": size_bytes / figures["wall_s"],
        "cpu_s_gib": figures["cpu_s"] * GIB / size_bytes,
        "peak_bytes": figures["leecher_peak_bytes"],
    }


def _fan_in(contender: Contender, composition: Composition, parent: Path) -> Figures:
    with Stage(parent) as stage:
        scene = Scene(stage, composition)
        seeders = [contender.seed(scene, f"seeder-{number}") for number in range(SEEDERS)]
        stage.warm_memory(composition.score.size_bytes)
        leecher = contender.fetch(scene, "leecher", seeders)
        return _watched(scene, [leecher])


def measure_call(
    call: Call,
    composition: Composition,
    parent: Path,
    *,
    leechers: int,
    on_ready: Callable[[Scene, list[int]], None] = lambda *_: None,
) -> Figures:
    """A seeder calls so many leechers; `on_ready` gets their ports when they listen, before the call."""
    with Stage(parent) as stage:
        scene = Scene(stage, composition)
        stage.warm_memory(leechers * composition.score.size_bytes)
        return _watched(scene, call(scene, leechers, lambda ports: on_ready(scene, ports)))


def _watched(scene: Scene, leechers: list[Leecher]) -> Figures:
    """From now until all leechers have everything."""
    started = scene.stage.processes
    members = [process for process in started if process.label.startswith(("seeder", "leecher"))]
    window = Window(scene.stage.processes)
    done_s = max(leecher.done() for leecher in leechers)
    for leecher in leechers:
        leecher.settled()
    window.close()
    size_bytes = scene.composition.score.size_bytes * len(leechers)
    wall_s = done_s - leechers[0].go_s
    return {
        "wall_s": wall_s,
        "bytes_s": size_bytes / wall_s,
        "cpu_s_gib": sum(window.cpu_s[process.label] for process in members) * GIB / size_bytes,
        "peak_bytes": max(leecher.process.stop().peak_bytes for leecher in leechers),
        "other_load": window.other_load,
    }


def call_from_ours(scene: Scene, leechers: int, on_ready: Callable[[list[int]], None]) -> list[Leecher]:
    """Members wait, a complete one is given their addresses: it goes the moment it listens."""
    labels = [f"leecher-{number}" for number in range(leechers)]
    waiting = [start_member(scene.stage, scene.orch, scene.empty_folder(label), label) for label in labels]
    ports = [process.wait_for("listening")[1]["port"] for process in waiting]
    on_ready(ports)
    seeder = start_member(
        scene.stage,
        scene.orch,
        scene.composition.folder,
        "seeder",
        peers=[(LOCAL, port) for port in ports],
    )
    go_s, _ = seeder.wait_for("listening")
    return [leecher_of(process, scene, go_s) for process in waiting]


def call_from_libtorrent(scene: Scene, leechers: int, on_ready: Callable[[list[int]], None]) -> list[Leecher]:
    """The same with libtorrent; its leechers are told of each other."""
    waiting: list[Process] = []
    ports: list[int] = []
    for number in range(leechers):
        label = f"leecher-{number}"
        folder = scene.empty_folder(label)
        process = start_libtorrent("tuned", scene.stage, scene.torrent, folder, label)
        _, event = process.wait_for("ready")
        tell_peers(process, [(LOCAL, port) for port in ports])
        waiting.append(process)
        ports.append(event["port"])
    on_ready(ports)
    seeder = start_libtorrent("tuned", scene.stage, scene.torrent, scene.composition.folder, "seeder")
    seeder.wait_for("ready", finished=True)
    tell_peers(seeder, [(LOCAL, port) for port in ports])
    go_s, _ = seeder.wait_for("connected")
    return [_libtorrent_leecher(process, go_s) for process in waiting]


def _libtorrent_leecher(process: Process, go_s: float) -> Leecher:
    return Leecher(process, go_s, lambda: process.wait_for("done")[0], lambda: process.wait_for("flushed")[0])
