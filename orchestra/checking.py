"""Check a file against its score: which parts are right.

`check_parts` hashes in the calling thread and in one more; parts need no order.
It neither returns nor raises before that thread has ended, and reports progress
from the calling thread only. Memory is two buffers and one byte a part.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue

from orchestra import memory
from orchestra.parthash import PartHasher
from orchestra.positioned import read_at
from orchestra.regular import open_regular
from orchestra.score import Score
from orchestra.scorelines import SHA1_BYTES
from orchestra.worker import ThreadCrashed, Worker

_BUFFER_BYTES = 1 << 21
SAMPLE_PARTS = 16
SAMPLE_BYTES = 32 << 20
"""A sample is no larger, but for a part that is."""
ReadAt = Callable[[Sequence[memoryview], int], None]


def check_parts(
    path: Path, score: Score, *, on_progress: Callable[[int], None], stopped: Callable[[], bool]
) -> bytearray:
    """Hash the parts of the file at `path`: one byte a part, 1 = right, 0 = wrong, missing or not looked at.

    `on_progress` gets the number of bytes looked at so far. `stopped` is asked
    from both threads, about once a MiB: once it says True the work ends, and
    what was found so far is returned. A file that is too short, or has holes,
    has wrong parts; one that is too long is not noticed.
    Raises OSError when the file cannot be opened (NotRegularError included) or
    read, EOFError when it shrinks meanwhile.
    """
    with open_regular(path) as file:
        return check_open_file(file, score, on_progress=on_progress, stopped=stopped)


def check_open_file(
    file: io.FileIO, score: Score, *, on_progress: Callable[[int], None], stopped: Callable[[], bool]
) -> bytearray:
    """As `check_parts`, on a file that is open already; it stays open, its position moves."""
    check = _Check(file, score, stopped)
    helper = _CheckHelper(check)
    helper.start()
    try:
        for _ in check.steps(0):
            on_progress(sum(check.looked_at_bytes))
        helper.join()
    except BaseException:
        check.end()
        helper.join()
        raise
    helper.raise_crash()
    on_progress(sum(check.looked_at_bytes))
    return check.right


def part_is_right(read: ReadAt, score: Score, index: int, memory: memoryview) -> bool:
    """Hash one part, through `memory`. `read` fills views from an offset on; what it raises goes on."""
    sha1 = hashlib.sha1(usedforsecurity=False)
    offset, left = index * score.part_size_bytes, score.part_length(index)
    while left:
        piece = memory[:left]
        read([piece], offset)
        sha1.update(piece)
        offset += len(piece)
        left -= len(piece)
    return sha1.digest() == score.part_sha1(index)


def sample_is_right(read: ReadAt, score: Score, right: bytearray, rng: random.Random) -> bool:
    """Hash a few of the parts that are said to be right: False when one is not, or cannot be read."""
    said = [index for index, good in enumerate(right) if good]
    count = min(SAMPLE_PARTS, len(said), max(1, SAMPLE_BYTES // score.part_size_bytes))
    buffer = memoryview(bytearray(min(_BUFFER_BYTES, score.part_size_bytes)))
    try:
        return all(part_is_right(read, score, index, buffer) for index in rng.sample(said, count))
    except (OSError, EOFError):
        return False


class _Check:
    """What both threads share. Each takes the next run of parts; it writes only those, and its counter."""

    def __init__(self, file: io.FileIO, score: Score, stopped: Callable[[], bool]) -> None:
        self.right = bytearray(score.parts)
        self.looked_at_bytes = [0, 0]
        self._fd = file.fileno()
        self._end_bytes = min(score.size_bytes, os.fstat(self._fd).st_size)
        self._score = score
        self._stopped = stopped
        self._ended = threading.Event()
        self._parts_a_run = max(1, _BUFFER_BYTES // score.part_size_bytes)
        # Taking the next of a range is one step under the GIL; a run taken twice would only cost time.
        self._firsts = iter(range(0, score.parts, self._parts_a_run))

    def steps(self, slot: int) -> Iterator[None]:
        """Check runs of parts until none is left or someone says stop; yields now and then.

        `slot` is 0 or 1, one a thread.
        """
        buffer = memory.fresh(_BUFFER_BYTES)
        for first in self._firsts:
            hasher = PartHasher(self._score.part_size_bytes)
            offset = first * self._score.part_size_bytes
            end = min(offset + self._parts_a_run * self._score.part_size_bytes, self._end_bytes)
            while offset < end:
                if self._ended.is_set() or self._stopped():
                    return
                piece = buffer[: end - offset]
                read_at(self._fd, [piece], offset)
                hasher.update(piece)
                offset += len(piece)
                self.looked_at_bytes[slot] += len(piece)
                yield
            self._compare(first, hasher.digests())

    def end(self) -> None:
        """Make both threads stop soon."""
        self._ended.set()

    def _compare(self, first: int, digests: bytes) -> None:
        found = len(digests) // SHA1_BYTES
        wanted = self._score.part_sha1s[first * SHA1_BYTES : (first + found) * SHA1_BYTES]
        if digests == wanted:
            self.right[first : first + found] = b"\1" * found
            return
        for index in range(found):
            place = slice(index * SHA1_BYTES, (index + 1) * SHA1_BYTES)
            self.right[first + index] = digests[place] == wanted[place]


class _CheckHelper(Worker):
    """The second thread of a check."""

    def __init__(self, check: _Check) -> None:
        self._crashes: SimpleQueue[object] = SimpleQueue()
        super().__init__("check-parts", self._crashes.put)
        self._check = check

    def work(self) -> None:
        try:
            for _ in self._check.steps(1):
                pass
        except BaseException:
            self._check.end()
            raise

    def raise_crash(self) -> None:
        """Raise what ended the thread, if anything did. It has been joined."""
        while not self._crashes.empty():
            report = self._crashes.get()
            if isinstance(report, ThreadCrashed):
                raise report.error
