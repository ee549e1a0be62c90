"""start-stop: exec to announced, and SIGTERM or `q` to gone, with a conductor that answers or never does.

Main thread. `q` is typed on a terminal of the process's own (POSIX).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.aria2 import start_seeding
from benchmarks.composition import MIB, Composition, cut, write_random
from benchmarks.conductors import NotingConductor
from benchmarks.contenders import start_libtorrent, start_member
from benchmarks.measure import Figures, Series, Skip, Window
from benchmarks.plan import Plan
from benchmarks.processes import Process, Stage
from benchmarks.report import Column, Report, series_table
from benchmarks.tables import Mark, number
from netutils import Address

NOTE = (
    "A complete file of 1 MiB, so that nothing is left but starting and stopping. `announced` is from "
    "exec until the conductor has heard of it, `gone` from the key or the signal until the process has "
    "ended, and `told` how often the conductor heard that it leaves. The silent conductor accepts and "
    "never answers."
)
SIZE_BYTES = MIB
SETTLE_S = 0.5
"""How long it runs after its announce, so that not its start is stopped."""
Start = Callable[[Stage, Composition, Address, int | None], Process]


@dataclass(frozen=True, slots=True)
class Case:
    """`key`: q on a terminal, else SIGTERM. `answers`: the conductor does."""

    start: Start
    key: bool
    answers: bool


def run(plan: Plan) -> Report:
    """Measure ours, libtorrent and aria2."""
    path = plan.folder / "small" / "small.bin"
    write_random(path, SIZE_BYTES)
    composition = cut(path, 64 * 1024)
    cases = {
        "ours, q": Case(_ours, key=True, answers=True),
        "ours, SIGTERM": Case(_ours, key=False, answers=True),
        "ours, q, silent conductor": Case(_ours, key=True, answers=False),
        "ours, SIGTERM, silent conductor": Case(_ours, key=False, answers=False),
        "libtorrent, SIGTERM": Case(_libtorrent, key=False, answers=True),
        "libtorrent, SIGTERM, silent conductor": Case(_libtorrent, key=False, answers=False),
        "aria2, SIGTERM": Case(_aria2, key=False, answers=True),
        "aria2, SIGTERM, silent conductor": Case(_aria2, key=False, answers=False),
    }
    series = plan.measure({name: _run_of(case, composition, plan.folder) for name, case in cases.items()})
    columns = [
        Column("announced s", "announced_s"),
        Column("gone s", "gone_s"),
        Column("told", "told"),
        Column("CPU s", "cpu_s"),
    ]
    marks = [
        _mark("exec to announced, s", series, "ours, q", "announced_s", 0.4),
        _mark("q to gone, s", series, "ours, q", "gone_s", 0.3),
        _mark("q to gone when the conductor hangs, s", series, "ours, q, silent conductor", "gone_s", 1.0),
    ]
    return Report([series_table("Starting and stopping", series, columns)], marks, note=NOTE)


def _mark(text: str, series: dict[str, Series], name: str, figure: str, most: float) -> Mark:
    return Mark(text, series.get(name, Series()).median(figure), most=most, show=number)


def _run_of(case: Case, composition: Composition, parent: Path) -> Callable[[], Figures]:
    def measured() -> Figures:
        if case.key and os.name != "posix":
            raise Skip("there is no pseudo-terminal here")
        with ExitStack() as stack:
            conductor = stack.enter_context(NotingConductor(answers=case.answers))
            stage = stack.enter_context(Stage(parent))
            keyboard = terminal = None
            if case.key:
                keyboard, terminal = os.openpty()
                stack.callback(os.close, keyboard)
                stack.callback(os.close, terminal)
            process = case.start(stage, composition, conductor.address, terminal)
            window = Window([process])
            announced_s = conductor.wait_for("started")
            time.sleep(SETTLE_S)
            asked_s = process.signal(signal.SIGTERM) if keyboard is None else press_q(keyboard)
            gone_s = process.wait()
            window.close()
            assert process.usage is not None
            return {
                "announced_s": announced_s - process.began_s,
                "gone_s": gone_s - asked_s,
                "told": float(conductor.told("stopped")),
                "cpu_s": process.usage.cpu_s,
                "peak_bytes": process.usage.peak_bytes,
                "other_load": window.other_load,
            }

    return measured


def press_q(keyboard: int) -> float:
    """Type q; the moment before."""
    now_s = time.monotonic()
    os.write(keyboard, b"q")
    return now_s


def _ours(stage: Stage, composition: Composition, conductor: Address, terminal: int | None) -> Process:
    orch = composition.write_orch(stage.folder, conductor)
    return start_member(stage, orch, composition.folder, "member", stdin=terminal)


def _libtorrent(stage: Stage, composition: Composition, conductor: Address, _: int | None) -> Process:
    torrent = composition.write_torrent(stage.folder, conductor)
    return start_libtorrent("tuned", stage, torrent, composition.folder, "libtorrent")


def _aria2(stage: Stage, composition: Composition, conductor: Address, _: int | None) -> Process:
    torrent = composition.write_torrent(stage.folder, conductor)
    return start_seeding(stage, torrent, composition.folder, "aria2")
