"""Runs a target over many inputs: what came out, how fast, how long the slowest took, how memory stood."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.mutator import mutate
from tests.fuzz.target import Target

FRESH_SHARE = 0.15
"""So many inputs come from the target's own generator, the others from mutation."""
FIRST_INPUTS = 100
"""Made by the generator before the first mutation."""
MOST_KEPT = 3000
MEASURED_BYTES = 64 * 1024
SLOW_S = 0.010
"""FAULTS.md, G2: the longest that an input of up to MEASURED_BYTES may take, on the processor."""
TRIES_OF_SLOW = 5
HANG_S = 30.0
SHRINKING_TRIES = 3000
_LOOK_AFTER = 256
_WARM_INPUTS = 5000
"""Caches are full by then, and the memory of the start is measured."""


class Hang(Exception):
    """An input has kept the processor busy for HANG_S."""


class TooSlow(Exception):
    """An input keeps the processor busy for longer than SLOW_S, however often it is tried."""


@dataclass(frozen=True)
class Finding:
    """An input that brought out something else than a documented error."""

    data: bytes
    what: str
    trace: str


@dataclass
class Run:
    """How a target did."""

    target: str
    inputs: int = 0
    elapsed_s: float = 0.0
    slowest_s: float = 0.0
    slowest: bytes = b""
    start_rss_bytes: int = 0
    end_rss_bytes: int = 0
    outcomes: set[str] = field(default_factory=set)
    finding: Finding | None = None

    def line(self) -> str:
        """For people, and for docs/faults.md."""
        speed = self.inputs / self.elapsed_s if self.elapsed_s else 0.0
        return (
            f"{self.target:12} {self.inputs:9,} inputs {speed:8,.0f}/s {len(self.outcomes):5} outcomes   "
            f"longest {1000 * self.slowest_s:6.2f} ms   "
            f"memory {self.start_rss_bytes / 1e6:.1f} -> {self.end_rss_bytes / 1e6:.1f} MB"
        )


def fuzz(
    target: Target,
    seed: int,
    *,
    inputs: int | None = None,
    seconds: float | None = None,
    judge_time: bool = True,
) -> Run:
    """Run `inputs` inputs, or for `seconds`, and the whole corpus before; stops at the first finding."""
    rng = random.Random(f"{seed} {target.name}")
    run = Run(target.name)
    pool = target.corpus()
    began_s = time.perf_counter()
    with _no_hang() as alive:
        for data in pool:
            _try(target, data, run, judge_time=judge_time)
        pool += [target.make(rng) for _ in range(FIRST_INPUTS)]
        first_kept = len(pool)
        while run.finding is None and not _is_done(run, inputs, seconds, began_s):
            if not run.inputs % _LOOK_AFTER:
                alive()
            if rng.random() < FRESH_SHARE:
                data = target.make(rng)
            else:
                data = mutate(pool[int(rng.random() * len(pool))], pool, target.tokens, rng)[
                    : target.most_bytes
                ]
            if _try(target, data, run, judge_time=judge_time):
                pool.append(data)
                if len(pool) > MOST_KEPT:
                    del pool[first_kept]
            if run.inputs == _WARM_INPUTS:
                run.start_rss_bytes = rss_bytes()
    run.elapsed_s = time.perf_counter() - began_s
    gc.collect()
    run.end_rss_bytes = rss_bytes()
    run.start_rss_bytes = run.start_rss_bytes or run.end_rss_bytes
    return run


def _is_done(run: Run, inputs: int | None, seconds: float | None, began_s: float) -> bool:
    if inputs is not None and run.inputs >= inputs:
        return True
    return seconds is not None and time.perf_counter() - began_s >= seconds


def _try(target: Target, data: bytes, run: Run, *, judge_time: bool) -> bool:
    """Check one input; True when its outcome is new."""
    run.inputs += 1
    start_s = time.perf_counter()
    try:
        said = target.check(data)
        took_s = time.perf_counter() - start_s
        if took_s > run.slowest_s and len(data) <= MEASURED_BYTES:
            # The collector came by, or the machine was busy: only what always keeps the processor is slow.
            took_s = min(_time_of(target, data) for _ in range(TRIES_OF_SLOW if target.judge_time else 1))
            if took_s > run.slowest_s:
                run.slowest_s, run.slowest = took_s, data
            if judge_time and took_s > SLOW_S and target.judge_time:
                raise TooSlow(f"{1000 * took_s:.1f} ms of the processor for {len(data)} bytes")
    except Exception as error:  # noqa: BLE001 - whatever comes out is what is looked for
        run.finding = finding_of(data, error)
        return False
    if said in run.outcomes:
        return False
    run.outcomes.add(said)
    return True


def _time_of(target: Target, data: bytes) -> float:
    """On the processor: whatever else the machine does, or however long it stands still."""
    start_s = time.thread_time()
    target.check(data)
    return time.thread_time() - start_s


def finding_of(data: bytes, error: Exception) -> Finding:
    """What is to be said of `error`. `what` is the same for the same mistake with another input."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return Finding(data, f"{type(error).__name__} at {where}", "".join(traceback.format_exception(error)))


@contextlib.contextmanager
def _no_hang() -> Iterator[Callable[[], None]]:
    """An input that never ends raises Hang. Counts the processor's time: a machine may stand still.

    What it yields is to be called now and then. Without such a timer (Windows) nothing happens.
    """
    if not hasattr(signal, "setitimer"):
        yield lambda: None
        return

    def hang(*_: object) -> None:
        raise Hang(f"an input keeps the processor busy for {HANG_S:.0f} s")

    before = signal.signal(signal.SIGPROF, hang)
    try:
        yield lambda: _arm(HANG_S)
    finally:
        _arm(0.0)
        signal.signal(signal.SIGPROF, before)


def _arm(seconds: float) -> None:
    signal.setitimer(signal.ITIMER_PROF, seconds)


def shrink(target: Target, finding: Finding) -> Finding:
    """The shortest input found that makes the same mistake."""
    best, tries = finding, SHRINKING_TRIES

    def holds(data: bytes) -> bool:
        nonlocal best, tries
        tries -= 1
        found = find(target, data)
        if found is None or found.what != finding.what:
            return False
        best = found
        return True

    step = max(1, len(best.data) // 2)
    while step and tries > 0:
        place = 0
        while place < len(best.data) and tries > 0:
            if not holds(best.data[:place] + best.data[place + step :]):
                place += step
        step //= 2
    for place in range(len(best.data)):
        for byte in b"\x00a":
            if tries > 0 and best.data[place] > byte and holds(_with(best.data, place, byte)):
                break
    return best


def _with(data: bytes, place: int, byte: int) -> bytes:
    return data[:place] + bytes([byte]) + data[place + 1 :]


def find(target: Target, data: bytes) -> Finding | None:
    """What is wrong with one input; None when nothing is."""
    try:
        with _no_hang() as alive:
            alive()
            target.check(data)
    except Exception as error:  # noqa: BLE001 - whatever comes out is what is looked for
        return finding_of(data, error)
    return None


def save(target: Target, finding: Finding, folder: Path) -> Path:
    """Put the input where the user finds it; returns the path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{target.name}-{hashlib.sha1(finding.data).hexdigest()[:12]}"
    path.write_bytes(finding.data)
    return path


def rss_bytes() -> int:
    """Memory of this process that is really there; the most that ever was, where the system tells no more."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    if sys.platform == "win32":
        return 0
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
