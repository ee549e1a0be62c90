"""What one call of the benchmarks is to do, and the file that it does it with. Main thread."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.composition import Composition, cut, write_random
from benchmarks.measure import Figures, Series, measure_rounds

NAME = "piece.bin"


@dataclass(frozen=True, slots=True)
class Plan:
    """The options. `folder` is removed at the end; `only` are beginnings of contenders' names, none: all."""

    folder: Path
    runs: int
    size_bytes: int
    part_sizes: tuple[int, ...]
    only: tuple[str, ...] = ()

    def composition(self, part_size_bytes: int) -> Composition:
        """The file, cut into parts of that size; made when it is first asked for."""
        path = self.folder / "seed" / NAME
        if not path.exists():
            self.tell(f"writing {self.size_bytes >> 20} MiB of random bytes to {path.parent}")
            write_random(path, self.size_bytes)
        return cut(path, part_size_bytes)

    def measure(self, contenders: dict[str, Callable[[], Figures]]) -> dict[str, Series]:
        """Measure those that were asked for, in turns."""
        chosen = {
            name: run for name, run in contenders.items() if not self.only or name.startswith(self.only)
        }
        return measure_rounds(chosen, runs=self.runs, tell=self.tell)

    def tell(self, text: str) -> None:
        """Say what is being done."""
        print(f"  {text}", file=sys.stderr, flush=True)
