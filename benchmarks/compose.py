"""compose: from exec to exit, beside one SHA-1 pass over the same file, for each part size. Main thread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.composition import MIB
from benchmarks.contenders import HERE
from benchmarks.measure import Figures, Series, Skip, Window
from benchmarks.packages import need
from benchmarks.plan import Plan
from benchmarks.processes import ROOT, BenchmarkError, Process, Stage
from benchmarks.report import Column, Report, series_table
from benchmarks.tables import Mark, Table, part_size_text, ratio

NOTE = (
    "From exec to exit. `composer.py` computes the SHA-1 of the whole file and of every part, the "
    "others only the latter. The measure is a Python program that does nothing but one SHA-1 over the "
    "file, with a buffer of 1 MiB."
)
MKTORRENT_LEAST = 32 * 1024
Start = Callable[[Stage, Path, int], Process]


def run(plan: Plan) -> Report:
    """Measure for each part size."""
    tables: list[Table] = []
    marks: list[Mark] = []
    for part_size_bytes in plan.part_sizes:
        file = plan.file()
        runs = {
            name: _run_of(start, file, part_size_bytes, plan.folder) for name, start in CONTENDERS.items()
        }
        series = plan.measure(runs)
        part_text = part_size_text(part_size_bytes)
        columns = [Column("s", "wall_s"), Column("CPU s", "cpu_s")]
        title = f"Composing {plan.size_bytes // MIB} MiB in parts of {part_text}"
        tables.append(series_table(title, series, columns))
        empty = Series()
        ours, floor = (series.get(name, empty).median("wall_s") for name in ("ours", "one SHA-1 pass"))
        marks.append(Mark(f"compose, {part_text} / one SHA-1 pass", ratio(ours, floor), most=1.15))
    return Report(tables, marks, note=NOTE)


def _run_of(start: Start, file: Path, part_size_bytes: int, parent: Path) -> Callable[[], Figures]:
    def measured() -> Figures:
        with Stage(parent) as stage:
            process = start(stage, file, part_size_bytes)
            window = Window([process])
            ended_s = process.wait()
            window.close()
            assert process.usage is not None
            if process.usage.exit_code:
                raise BenchmarkError(f"{process.story()}\nended with {process.usage.exit_code}")
            return {
                "wall_s": ended_s - process.began_s,
                "cpu_s": process.usage.cpu_s,
                "peak_bytes": process.usage.peak_bytes,
                "other_load": window.other_load,
            }

    return measured


def _ours(stage: Stage, file: Path, part_size_bytes: int) -> Process:
    out = stage.folder / "out.orch"
    arguments = (file, "127.0.0.1:9999", part_size_bytes, "-o", out, "--log-dir", stage.folder / "logs", "-q")
    return stage.python(ROOT / "composer.py", *arguments, label="composer")


def _sha1(stage: Stage, file: Path, _part_size_bytes: int) -> Process:
    return stage.python(HERE / "peer_compose.py", "sha1", file, label="sha1")


def _libtorrent(stage: Stage, file: Path, part_size_bytes: int) -> Process:
    arguments = ("libtorrent", file, part_size_bytes, stage.folder / "out.torrent")
    return stage.python(HERE / "peer_compose.py", *arguments, label="libtorrent")


def _mktorrent(stage: Stage, file: Path, part_size_bytes: int) -> Process:
    program = need("mktorrent", "mktorrent")
    if part_size_bytes < MKTORRENT_LEAST:
        raise Skip("it refuses parts this small")
    power = str(part_size_bytes.bit_length() - 1)
    out = str(stage.folder / "out.torrent")
    command = [program, "-l", power, "-a", "http://127.0.0.1:9999/announce", "-o", out, str(file)]
    return stage.start(command, label="mktorrent")


CONTENDERS: dict[str, Start] = {
    "ours": _ours,
    "one SHA-1 pass": _sha1,
    "libtorrent": _libtorrent,
    "mktorrent": _mktorrent,
}
