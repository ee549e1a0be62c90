"""scale: what a composition of many parts costs before and beside the transfer. Main thread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.contenders import HERE, start_member
from benchmarks.measure import Figures, Series, Window
from benchmarks.plan import Plan
from benchmarks.processes import Process, Stage
from benchmarks.report import Column, Report, series_table
from benchmarks.tables import Mark, number, ratio

PARTS = (1_000, 10_000, 100_000, 1_000_000)
NOTE = (
    "Parts of 1 KiB in a sparse file. `parse` is the parser alone; `start` is from exec to listening "
    "with nothing on disk, and the peak memory is that of this member; `check` is the same with the "
    "complete file. The picker takes every part from missing to there: in order, a random one of the "
    "rarest, and the latter with a peer that has half of the parts in turn with one that has all."
)
COLUMNS = (
    Column("parse s", "parse_s"),
    Column("start s", "start_s"),
    Column("check s", "check_s"),
    Column("in order, us a part", "in_order_s", 2, 1e6),
    Column("rarest, us a part", "rarest_s", 2, 1e6),
    Column("partial peers, us a part", "partial_s", 2, 1e6),
)


def run(plan: Plan) -> Report:
    """Measure ours; most others refuse so many parts."""
    series = plan.measure({number_text(parts): _run_of(parts, plan.folder) for parts in PARTS})
    return Report([series_table("Many parts", series, COLUMNS)], marks_of(series), note=NOTE)


def number_text(parts: int) -> str:
    """1,000 parts."""
    return f"{parts:,} parts"


def marks_of(series: dict[str, Series]) -> list[Mark]:
    """What a million parts may cost over a thousand."""
    empty = Series()
    few, many = (series.get(number_text(parts), empty) for parts in (PARTS[0], PARTS[-1]))
    more_bytes = many.median("peak_bytes") - few.median("peak_bytes")
    kinds = {"in order": "in_order_s", "rarest": "rarest_s", "partial peers": "partial_s"}
    return [
        Mark("10^6 parts: memory over 10^3 parts, MiB", more_bytes / (1 << 20), most=150.0, show=_whole),
        Mark("10^6 parts: parse, s", many.median("parse_s"), most=1.5, show=number),
        *(
            Mark(f"picker, {kind}: 10^6 / 10^3", ratio(many.median(key), few.median(key)), most=1.5)
            for kind, key in kinds.items()
        ),
    ]


def _whole(value: float) -> str:
    return number(value, 0)


def _run_of(parts: int, parent: Path) -> Callable[[], Figures]:
    def measured() -> Figures:
        with Stage(parent) as stage:
            folder, empty = stage.folder / "complete", stage.folder / "empty"
            folder.mkdir()
            orch = stage.folder / "sparse.bin.orch"
            _ask(stage, "made", "make", parts, folder / "sparse.bin", orch)
            parsed = _ask(stage, "parsed", "parse", orch)
            picked = _ask(stage, "picked", "pick", parts)
            leecher = start_member(stage, orch, empty, "leecher")
            window = Window([leecher])
            start_s = leecher.wait_for("listening")[0] - leecher.began_s
            window.close()
            peak_bytes = leecher.stop().peak_bytes
            seeder = start_member(stage, orch, folder, "seeder")
            check_s = seeder.wait_for("listening")[0] - seeder.began_s
        return {
            "parse_s": parsed["wall_s"],
            "start_s": start_s,
            "check_s": check_s,
            "peak_bytes": peak_bytes,
            "other_load": window.other_load,
            **{key: picked[key] for key in ("in_order_s", "rarest_s", "partial_s")},
        }

    return measured


def _ask(stage: Stage, event: str, mode: str, *arguments: object) -> dict[str, float]:
    process: Process = stage.python(HERE / "peer_scale.py", mode, *arguments, label=mode)
    _, answer = process.wait_for(event)
    process.wait()
    return answer
