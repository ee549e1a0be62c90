"""steps: what each step of a transfer costs by itself, to be compared with the whole. Main thread."""

from __future__ import annotations

from pathlib import Path

from benchmarks.composition import MIB
from benchmarks.contenders import HERE
from benchmarks.measure import Figures, Window
from benchmarks.plan import Plan
from benchmarks.processes import Stage
from benchmarks.report import Report
from benchmarks.tables import Table, number

NOTE = (
    "Every step alone, in one thread, with a MiB at a time and nothing else going on: CPU seconds a GiB. "
    "What a transfer needs beyond the sum of its steps is the orchestrator, and threads that wait for "
    "each other."
)
STEPS = (
    ("seeder", "read the file", "read"),
    ("seeder", "lay out headers and blocks", "lay_out"),
    ("seeder", "send", "send"),
    ("leecher", "write the requests", "ask"),
    ("leecher", "receive", "receive"),
    ("leecher", "find the blocks", "decode"),
    ("leecher", "SHA-1 of parts of 1 MiB", "hash"),
    ("", "the same of parts of 16 KiB", "hash_16k"),
    ("leecher", "write a new file", "write"),
    ("", "the same where there was one", "rewrite"),
    ("leecher", "SHA-1 of the whole file", "hash"),
)


def run(plan: Plan) -> Report:
    """Measure ours; there is nobody to compare with."""
    series = plan.measure({"steps": lambda: _measured(plan.file(), plan.folder)})["steps"]
    rows = [[f"{side}: {text}" if side else text, number(series.median(name))] for side, text, name in STEPS]
    hops = [
        ["a message through a queue, nobody asleep", number(series.median("hop") * 1e6)],
        ["a message that wakes a thread", number(series.median("waking_hop") * 1e6)],
    ]
    tables = [Table("Steps of a transfer", ["", "CPU s/GiB"], rows), Table("Queues", ["", "us"], hops)]
    return Report(tables, note=NOTE)


def _measured(file: Path, parent: Path) -> Figures:
    assert file.stat().st_size >= MIB
    with Stage(parent) as stage:
        process = stage.python(HERE / "peer_steps.py", file, stage.folder / "out.bin", label="steps")
        window = Window([process])
        _, event = process.wait_for("measured")
        window.close()
        process.wait()
    figures = {name: value for name, value in event.items() if name != "event"}
    return {**figures, "other_load": window.other_load}
