"""recheck: from exec to announced, on a complete and on a half-complete file. Main thread."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from benchmarks.composition import MIB, Composition
from benchmarks.conductors import NotingConductor
from benchmarks.contenders import start_libtorrent, start_member
from benchmarks.measure import Figures, Series, Window
from benchmarks.plan import Plan
from benchmarks.processes import Process, Stage
from benchmarks.report import Column, Report, series_table
from benchmarks.tables import Mark, ratio
from netutils import Address

NOTE = (
    "From exec until the conductor has heard of it. The half-complete file is as an interrupted "
    "download leaves it: of full size, its second half zeros. Parts of 1 MiB."
)
Start = Callable[[Stage, Composition, Path, Address], Process]


def run(plan: Plan) -> Report:
    """Measure ours and libtorrent, on both files."""
    composition = plan.composition(MIB)
    file = plan.file()
    ours_half = half_of(file, plan.folder / "half-ours", f"{file.name}.part")
    their_half = half_of(file, plan.folder / "half-libtorrent", file.name)
    runs = {
        name: _run_of(start, composition, folder, plan.folder)
        for name, start, folder in (
            ("ours, complete", _ours, file.parent),
            ("libtorrent tuned, complete", _libtorrent, file.parent),
            ("ours, half", _ours, ours_half),
            ("libtorrent tuned, half", _libtorrent, their_half),
        )
    }
    series = plan.measure(runs)
    for folder in (ours_half, their_half):
        shutil.rmtree(folder)
    columns = [Column("s", "wall_s"), Column("CPU s", "cpu_s")]
    marks = [
        Mark(f"recheck, {state} / libtorrent tuned", over_libtorrent(series, state), most=1.3)
        for state in ("complete", "half")
    ]
    title = f"Checking {plan.size_bytes // MIB} MiB at start"
    return Report([series_table(title, series, columns)], marks, note=NOTE)


def over_libtorrent(series: dict[str, Series], state: str) -> float:
    """Our time over that of libtorrent."""
    ours, theirs = (series.get(f"{who}, {state}", Series()) for who in ("ours", "libtorrent tuned"))
    return ratio(ours.median("wall_s"), theirs.median("wall_s"))


def half_of(file: Path, folder: Path, name: str) -> Path:
    """A folder with a copy of `file` whose second half is zeros."""
    folder.mkdir()
    size_bytes = file.stat().st_size
    with file.open("rb") as source, (folder / name).open("wb") as copy:
        for begin in range(0, size_bytes, MIB):
            data = source.read(MIB)
            copy.write(data if begin < size_bytes // 2 else bytes(len(data)))
    return folder


def _ours(stage: Stage, composition: Composition, folder: Path, conductor: Address) -> Process:
    # Without the resume file of an earlier run, which would be believed: here all is to be hashed.
    for hint in folder.glob(".*.resume"):
        hint.unlink()
    return start_member(stage, composition.write_orch(stage.folder, conductor), folder, "member")


def _libtorrent(stage: Stage, composition: Composition, folder: Path, conductor: Address) -> Process:
    torrent = composition.write_torrent(stage.folder, conductor)
    return start_libtorrent("tuned", stage, torrent, folder, "libtorrent")


def _run_of(start: Start, composition: Composition, folder: Path, parent: Path) -> Callable[[], Figures]:
    def measured() -> Figures:
        with NotingConductor() as conductor, Stage(parent) as stage:
            process = start(stage, composition, folder, conductor.address)
            window = Window([process])
            announced_s = conductor.wait_for("started")
            window.close()
            return {
                "wall_s": announced_s - process.began_s,
                "cpu_s": window.cpu_s[process.label],
                "peak_bytes": process.stop().peak_bytes,
                "other_load": window.other_load,
            }

    return measured
