"""What is fuzzed: a name, a check, and how its inputs are made."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"


@dataclass(frozen=True)
class Target:
    """`check` takes an input and returns its outcome; it raises for a finding and for nothing else.

    `make` returns an input that is right, or nearly; `tokens` are bytes that mean something to the
    parser.
    """

    name: str
    check: Callable[[bytes], str]
    make: Callable[[random.Random], bytes]
    tokens: tuple[bytes, ...] = ()
    most_bytes: int = 4096
    share: float = 1.0
    """Of the inputs that a parser gets, how many it gets: less where each one costs more."""
    judge_time: bool = True
    """Whether an input may not take longer than engine.SLOW_S."""

    def corpus(self) -> list[bytes]:
        """The inputs that are kept in the repository, in the order of their names."""
        return [path.read_bytes() for path in self.corpus_files()]

    def corpus_files(self) -> list[Path]:
        """Where these are."""
        return sorted((CORPUS / self.name).glob("*"))


def outcome(error: BaseException) -> str:
    """A word for a documented error: by which lines of the code it came about, whatever it says."""
    lines, trace = [], error.__traceback__
    while trace is not None:
        lines.append(f"{_stem(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}")
        trace = trace.tb_next
    earlier = f" after {outcome(error.__context__)}" if error.__context__ is not None else ""
    return f"{type(error).__name__} {' '.join(lines[1:])}{earlier}"


@functools.cache
def _stem(path: str) -> str:
    return Path(path).stem
