"""The parts that are coming: the SHA-1 of each as its blocks arrive, and the verdict when it is whole.

Owned by the writer. Blocks are hashed on the way while they come in order; what
came out of order is read back and hashed when the part is whole.
"""

from __future__ import annotations

import hashlib

from orchestra.checking import ReadAt
from orchestra.geometry import Geometry
from orchestra.ledger import LEAST_HALF_BYTES, extend_runs, merged_runs
from orchestra.messages import Halves
from orchestra.parthash import sha1s_of
from orchestra.score import Score
from orchestra.scorelines import SHA1_BYTES
from orchestra.wire import Blocks

READ_BACK_BYTES = 1 << 20


class PartHash:
    """The SHA-1 of one part as its bytes arrive; `hashed` counts the bytes from its start without a gap.

    `runs` are what has arrived, as (begin in the part, length), in any order.
    """

    __slots__ = ("hashed", "received", "runs", "sha1")

    def __init__(self, runs: list[tuple[int, int]]) -> None:
        self.sha1 = hashlib.sha1(usedforsecurity=False)
        self.hashed = 0
        self.received = sum([length for _, length in runs])
        self.runs = runs


class PartsUnderWay:
    """Each part of which something has come. `read` fills views from disk, with what has been taken."""

    def __init__(self, score: Score, read: ReadAt) -> None:
        self._score = score
        self._read = read
        self._geometry = Geometry(score.size_bytes, score.part_size_bytes)
        self._parts: dict[int, PartHash] = {}

    @property
    def halves(self) -> Halves:
        """What has come of parts that are not whole."""
        return {index: merged_runs(part.runs) for index, part in self._parts.items() if part.runs}

    def resume(self, halves: Halves) -> None:
        """All that is under way: what is on disk of these parts, unverified."""
        self._parts = {index: PartHash(list(runs)) for index, runs in halves.items()}

    def forget(self, index: int) -> None:
        """What has come of part `index` does not count."""
        self._parts.pop(index, None)

    def take(self, run: Blocks, good: list[int], bad: list[int]) -> None:
        """Hash what `run` brings; a part that is whole by it goes to `good` or `bad`.

        Raises what `read` raises.
        """
        size = self._geometry.part_size_bytes
        offset = run.offset
        for view in run.views:
            used = 0
            while used < len(view):
                index, begin = divmod(offset + used, size)
                whole = 0 if begin else (len(view) - used) // size
                piece = view[used : used + max(whole * size, size - begin)]
                if whole:
                    self._judge_all(index, piece, good, bad)
                else:
                    self._take_piece(index, begin, piece, good, bad)
                used += len(piece)
            offset += len(view)

    def _judge_all(self, first: int, piece: memoryview, good: list[int], bad: list[int]) -> None:
        """`piece` is parts from `first` on, each of them full-sized and whole: no state to keep."""
        sha1s = sha1s_of(piece, self._geometry.part_size_bytes)
        start, count = SHA1_BYTES * first, len(sha1s) // SHA1_BYTES
        if sha1s == self._score.part_sha1s[start : start + len(sha1s)]:
            good.extend(range(first, first + count))
            return
        for number in range(count):
            sha1 = sha1s[SHA1_BYTES * number : SHA1_BYTES * (number + 1)]
            self._judge(first + number, sha1, good, bad)

    def _take_piece(self, index: int, begin: int, piece: memoryview, good: list[int], bad: list[int]) -> None:
        length, size = self._geometry.part_length(index), self._geometry.part_size_bytes
        part = self._parts.get(index)
        if part is None:
            part = self._parts[index] = PartHash([])
        if part.hashed == begin:
            part.sha1.update(piece)
            part.hashed += len(piece)
        part.received += len(piece)
        if size >= LEAST_HALF_BYTES:
            extend_runs(part.runs, begin, len(piece))
        if part.received == length:
            del self._parts[index]
            self._read_back(part, index * size, length)
            self._judge(index, part.sha1.digest(), good, bad)

    def _read_back(self, part: PartHash, part_offset: int, length: int) -> None:
        while part.hashed < length:
            view = memoryview(bytearray(min(READ_BACK_BYTES, length - part.hashed)))
            self._read([view], part_offset + part.hashed)
            part.sha1.update(view)
            part.hashed += len(view)

    def _judge(self, index: int, digest: bytes, good: list[int], bad: list[int]) -> None:
        (good if digest == self._score.part_sha1(index) else bad).append(index)
