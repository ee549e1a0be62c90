"""What is measured and how often: windows of time, rounds of contenders, medians.

Main thread. A window tells what our processes and the rest of the machine did
between two moments. A round measures every contender once, so that a machine
that slows down slows all of them; a figure is the median of the rounds. A
measurement during which the machine did much else is made again.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from benchmarks import machine
from benchmarks.processes import BenchmarkError, Process

MAX_OTHER_LOAD = 0.10
MAX_FAILURES = 2
"""A contender that failed so often is left out."""
MAX_REPEATS = 3
"""How often a disturbed measurement is made again before it is taken as it is."""

Figures = dict[str, float]
"""What one measurement gave, by name. `other_load` is in all of them, nan where the system does not tell."""


class Window:
    """From its making to `close`: wall time, the CPU time of each process, and what else the machine did."""

    def __init__(self, processes: Iterable[Process]) -> None:
        self._processes = list(processes)
        self._began_s = time.monotonic()
        self._cpu_began_s = self._cpu_s()
        self._machine_began_s = machine.busy_s()
        self._own_began_s = time.process_time()

    def used_s(self) -> float:
        """CPU time of all processes so far."""
        return sum(self._cpu_s()) - sum(self._cpu_began_s)

    def close(self) -> None:
        """End the window."""
        ended_s = self._cpu_s()
        machine_s = machine.busy_s() - self._machine_began_s
        self.wall_s = time.monotonic() - self._began_s
        used_s = [after - before for before, after in zip(self._cpu_began_s, ended_s, strict=True)]
        self.cpu_s = {process.label: used for process, used in zip(self._processes, used_s, strict=True)}
        ours_s = sum(used_s) + time.process_time() - self._own_began_s
        self.other_load = machine.other_load(machine_s, ours_s, self.wall_s)

    def _cpu_s(self) -> list[float]:
        return [process.cpu_s() for process in self._processes]


@dataclass(slots=True)
class Series:
    """All measurements of one contender. `skipped` says why there are no more, or none."""

    runs: list[Figures] = field(default_factory=list)
    repeated: int = 0
    failed: int = 0
    skipped: str = ""

    def median(self, name: str) -> float:
        """The median of a figure; nan when no run has it."""
        return median(run[name] for run in self.runs if name in run)

    def spread(self, name: str) -> tuple[float, float]:
        """The least and the greatest of a figure; nan when no run has it."""
        values = [run[name] for run in self.runs if name in run]
        return (min(values), max(values)) if values else (math.nan, math.nan)


def median(values: Iterable[float]) -> float:
    """The median, nan of nothing."""
    listed = list(values)
    return statistics.median(listed) if listed else math.nan


class Skip(Exception):
    """A contender cannot take part on this machine. The text says why, and is shown."""


def measure_rounds(
    contenders: dict[str, Callable[[], Figures]],
    *,
    runs: int,
    tell: Callable[[str], None],
    warm_up: bool = True,
    most_other_load: float = MAX_OTHER_LOAD,
) -> dict[str, Series]:
    """Measure each contender `runs` times, in turns, after a turn that does not count.

    One during which others used more of the machine than `most_other_load` is made again.
    """
    series = {name: Series() for name in contenders}
    for number in range(0 if warm_up else 1, runs + 1):
        for name, run in contenders.items():
            if series[name].skipped:
                continue
            tell(f"{name}: {f'run {number} of {runs}' if number else 'warming up'}")
            try:
                if number:
                    _measure_quietly(run, series[name], tell, most_other_load)
                else:
                    run()
            except Skip as reason:
                series[name].skipped = str(reason)
                tell(f"{name}: skipped: {reason}")
            except BenchmarkError as error:
                # One that failed must not cost the others their figures.
                series[name].failed += 1
                tell(f"{name}: FAILED: {error}")
                if series[name].failed == MAX_FAILURES:
                    series[name].skipped = f"failed {MAX_FAILURES} times: {str(error).splitlines()[0]}"
    return series


def _measure_quietly(
    run: Callable[[], Figures], series: Series, tell: Callable[[str], None], most_other_load: float
) -> None:
    """One measurement, made again while it is disturbed, a few times; the quietest one counts."""
    tries = [run()]
    while tries[-1]["other_load"] > most_other_load and len(tries) <= MAX_REPEATS:
        tell(f"disturbed: others used {tries[-1]['other_load']:.0%} of the machine; again")
        tries.append(run())
    series.repeated += len(tries) - 1
    series.runs.append(min(tries, key=lambda figures: _or_zero(figures["other_load"])))


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value
