"""What one call of the benchmarks is to do, and the file that it does it with. Main thread."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.composition import Composition, cut, write_random
from benchmarks.measure import Figures, Series, measure_rounds
from benchmarks.processes import ROOT

NAME = "piece.bin"


@dataclass(frozen=True, slots=True)
class Plan:
    """The options. `folder` is removed at the end; `only`, `scenarios`: see chosen_names.

    `ours` is the checkout whose programs are ours in a swarm; `peer_runs`: how often the others run there.
    """

    folder: Path
    runs: int
    size_bytes: int
    part_sizes: tuple[int, ...]
    only: tuple[str, ...] = ()
    scenarios: tuple[str, ...] = ()
    ours: Path = ROOT
    peer_runs: int | None = None
    """As often as ours when it is None."""

    def file(self) -> Path:
        """The file, alone in its folder; made when it is first asked for."""
        path = self.folder / "seed" / NAME
        if not path.exists():
            self.tell(f"writing {self.size_bytes >> 20} MiB of random bytes to {path.parent}")
            write_random(path, self.size_bytes)
        return path

    def composition(self, part_size_bytes: int) -> Composition:
        """The file, cut into parts of that size."""
        return cut(self.file(), part_size_bytes)

    def measure(self, contenders: dict[str, Callable[[], Figures]]) -> dict[str, Series]:
        """Measure those that were asked for, in turns."""
        names = chosen_names(list(contenders), self.only)
        chosen = {name: contenders[name] for name in names}
        return measure_rounds(chosen, runs=self.runs, tell=self.tell)

    def tell(self, text: str) -> None:
        """Say what is being done."""
        print(f"  {text}", file=sys.stderr, flush=True)


def chosen_names(names: Sequence[str], only: Sequence[str]) -> list[str]:
    """Those that `only` names, or begins the names of; all when it is empty."""
    exact = {word for word in only if word in names}
    beginnings = tuple(word for word in only if word not in exact)
    return [
        name for name in names if not only or name in exact or (beginnings and name.startswith(beginnings))
    ]
