"""`conductor.py --rehearse`: from the options to the exit code.

Main thread only. It runs the rehearsal itself; a key is looked at when the
rehearsal says how far it is, a signal ends it at once. Nothing is written but
the report, at the end, whole or not at all.
"""

from __future__ import annotations

import queue
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from kbhit import Keys
from orchestra import humans
from orchestra.atomic import StagedFile, check_place
from orchestra.console import Bar, Console
from orchestra.errors import ExitCode, UsageError
from orchestra.rehearsal.options import Scenario, read_scenario
from orchestra.rehearsal.plan import bound_s
from orchestra.rehearsal.report import page
from orchestra.rehearsal.result import Result
from orchestra.rehearsal.run import rehearse
from orchestra.rehearsal.telling import lines, result_fields
from orchestra.score import read_score
from orchestra.text import safe

EVENT_INTERVAL_S = 0.5
"""Of progress events, and of looks at the keys."""
_BAR_STEPS = 1000
_TIME_SHARE = 0.95


class Quit(Exception):
    """q was pressed."""


def perform(options: Namespace, console: Console) -> int:
    """Rehearse what the options describe, and tell; the exit code."""
    orch = Path(options.rehearse) if options.rehearse else None
    report = Path(options.report) if options.report is not None else None
    scenario = read_scenario(options, read_score(orch) if orch else None)
    if report is not None:
        if orch is not None and report.exists() and report.samefile(orch):
            raise UsageError(f"--report {safe(str(report))}: that is the .orch to be rehearsed")
        check_place(report, replace=options.force)
    if console.terminal:
        console.note("q quits")
    keys: queue.SimpleQueue[str] = queue.SimpleQueue()
    try:
        with Keys(keys.put), console.bar(total=_BAR_STEPS, label="rehearsing", shows_amount=False) as bar:
            progress = Progress(scenario, console, bar, keys)
            progress.show(0.0, 0, scenario.machines)
            outcome = rehearse(scenario.rehearsed, on_progress=progress.show)
            bar.update(_BAR_STEPS)
    except Quit:
        console.event("stopped", reason="q")
        return ExitCode.INCOMPLETE
    result = Result(scenario, outcome)
    if report is not None:
        write(report, page(result), replace=options.force)
    console.event("rehearsed", **result_fields(result), report=str(report) if report else None)
    for line in lines(result):
        console.say(line)
    if report is not None:
        console.say(f"\n{safe(str(report), limit=100_000)}")
    return ExitCode.DONE


def write(path: Path, text: str, *, replace: bool) -> None:
    """Put the page in its place. Raises StorageError."""
    with StagedFile(path) as staged:
        staged.write([text.encode("utf-8")])
        staged.publish(replace=replace)


class Progress:
    """How far the rehearsal is: the bar, an event now and then, and the way out. Called by the rehearsal."""

    def __init__(self, scenario: Scenario, console: Console, bar: Bar, keys: queue.SimpleQueue[Any]) -> None:
        self._bound_s = bound_s(scenario.plan)
        self._console = console
        self._bar = bar
        self._keys = keys
        self._due_s = 0.0

    def show(self, virtual_s: float, finished: int, fetching: int) -> None:
        """Tell how many machines have it all at that virtual time. Raises Quit when q was pressed."""
        now_s = time.monotonic()
        if now_s < self._due_s:
            return
        self._due_s = now_s + EVENT_INTERVAL_S
        while not self._keys.empty():
            if self._keys.get() in ("q", "Q"):
                raise Quit
        self._console.event("progress", virtual_s=round(virtual_s, 3), finished=finished, members=fetching)
        # Where links are alike, all finish near the end: until then time is what passes.
        passed = _TIME_SHARE * min(1.0, virtual_s / self._bound_s)
        share = max(passed, finished / fetching if fetching else 0.0)
        text = f"{humans.duration(virtual_s)}  {finished}/{fetching} complete"
        self._bar.update(int(_BAR_STEPS * share), text)
