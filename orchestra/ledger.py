"""What is right on disk, and its way into the resume file.

Owned by the writer thread. While a download goes on, a thread of its own, the
keeper, now and then puts the data on the disk itself and then the resume file:
a power cut costs what has come since, and nobody waits for the disk. At a
clean end the writer does it once more. A part counts from when it was hashed
and written.
"""

from __future__ import annotations

import contextlib
import queue
import random
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from orchestra.checking import sample_is_right
from orchestra.diskmessages import Saved
from orchestra.errors import StorageError
from orchestra.messages import Halves, Inbox, Notice
from orchestra.resume import LEAST_BYTES, ResumeFile
from orchestra.score import Score
from orchestra.storage import Storage
from orchestra.text import safe
from orchestra.worker import Worker, start_thread

LONGEST_INTERVAL_S = 5.0
"""A power cut costs what came in so long, and while it was put on the disk."""
SHORTEST_INTERVAL_S = 0.5
LONG_SAVE_S = 0.25
"""On a disk that takes longer less is put there at a time: whoever quits waits for it."""
LEAST_HALF_BYTES = 1 << 20
"""What has come of smaller parts is fetched again."""
MOST_RUNS = 50_000
"""As many as the resume file has room for, and then some."""


class _Save(NamedTuple):
    """To the keeper: these parts are right, one byte a part."""

    right: bytearray


class Keeper(Worker):
    """The thread that puts data and resume file on the disk; at most one save at a time."""

    def __init__(
        self, storage: Storage, file: ResumeFile, saved: Inbox, report: Callable[[Any], None]
    ) -> None:
        super().__init__("keeper", report)
        self.inbox: queue.SimpleQueue[_Save | None] = queue.SimpleQueue()
        self._storage = storage
        self._file = file
        self._saved = saved

    def work(self) -> None:
        """Save until told to end."""
        while (save := self.inbox.get()) is not None:
            began_s = time.monotonic()
            problem, failed = "", None
            try:
                self._storage.sync()
                self._file.save(save.right, self._storage.status(), clean=False, halves={})
            except StorageError as error:
                failed = error
            except OSError as error:
                problem = error.strerror or str(error)
            self._saved.put(Saved(time.monotonic() - began_s, problem, failed))


class Ledger:
    """See the module's text. `kept`: whether a complete file will be shared on, and so believed, and noted.

    `saved` is the writer's inbox, for the keeper; `report` is for notices.
    """

    def __init__(
        self, storage: Storage, score: Score, *, kept: bool, saved: Inbox, report: Callable[[Any], None]
    ) -> None:
        self._storage = storage
        self._score = score
        self._kept = kept
        self._saved = saved
        self._report = report
        self._file = ResumeFile(storage.resume_path, score)
        self._used = score.size_bytes >= LEAST_BYTES
        self._right = bytearray(score.parts)
        self._remembered = bytearray()
        self._fresh: list[list[int]] = []
        self._keeper: Keeper | None = None
        self._open = False
        self._saving = False
        self._warned = False
        self._interval_s = LONGEST_INTERVAL_S
        self._due_s = 0.0
        self._random = random.Random()  # noqa: S311 - chooses a sample, guards nothing

    # At the start

    def recall(self, *, installed: bool) -> tuple[bytearray, Halves] | None:
        """The parts that are right, and those that are half there, by a resume file that may be believed.

        None when all has to be hashed. The composition's file is open.
        """
        self._remembered = bytearray()
        if not self._used or (installed and not self._kept):
            return None
        try:
            status = self._storage.status()
        except OSError:  # whoever hashes all will meet it too, and say so
            return None
        hint = self._file.load(status, time.time_ns())
        if hint is None:
            return None
        doubt = hint.doubt
        if not doubt and installed and 0 in hint.right:
            doubt = "the resume file is of an incomplete one"
        if not doubt and not sample_is_right(self._storage.read, self._score, hint.right, self._random):
            doubt = "a part is not what the resume file says"
        if not doubt:
            self._right = bytearray(hint.right)
            return hint.right, {} if installed else hint.halves
        self._remembered = hint.right
        self._notice(f"{safe(str(self._storage.path))}: {doubt}: checking every part")
        return None

    def checked(self, right: bytearray) -> None:
        """Every part was hashed: these are right."""
        self._right = bytearray(right)
        self._fresh.clear()
        spoilt = sum(was > now for was, now in zip(self._remembered, right, strict=False))
        self._remembered = bytearray()
        if spoilt:
            path = safe(str(self._storage.path))
            self._notice(f"{path}: {spoilt} parts that were right are so no more: is the disk sound?")

    def begin(self) -> None:
        """NAME.part will be written to from now on."""
        self._open = True
        self._file.remove_torn()
        self._due_s = time.monotonic() + self._interval_s

    # While parts arrive

    def written(self, good: list[int]) -> None:
        """These parts were hashed and written."""
        if self._used:
            self._fresh.append(good)

    def lost(self, index: int) -> None:
        """A part is not right any more."""
        self._settle()
        self._right[index] = 0

    @property
    def wait_s(self) -> float | None:
        """How long until `save` is due; None while there is nothing to save."""
        if not self._fresh or self._saving or not (self._used and self._open):
            return None
        return max(0.0, self._due_s - time.monotonic())

    def save(self) -> None:
        """Let the keeper save what is right now."""
        self._settle()
        if self._keeper is None:
            keeper = Keeper(self._storage, self._file, self._saved, self._report)
            try:
                start_thread(keeper)
            except OSError as error:
                self.saved(Saved(0.0, error.strerror or str(error)))
                return
            self._keeper = keeper
        self._saving = True
        self._keeper.inbox.put(_Save(bytearray(self._right)))

    def saved(self, said: Saved) -> None:
        """The keeper has done so. Raises StorageError when the data could not be put on the disk."""
        self._saving = False
        if said.took_s > LONG_SAVE_S:
            self._interval_s = max(SHORTEST_INTERVAL_S, self._interval_s / 2)
        else:
            self._interval_s = min(LONGEST_INTERVAL_S, self._interval_s * 2)
        self._due_s = time.monotonic() + self._interval_s
        if said.failed is not None:
            raise said.failed
        if said.problem:
            self._warn(said.problem)

    def _settle(self) -> None:
        right = self._right
        for good in self._fresh:
            for index in good:
                right[index] = 1
        self._fresh.clear()

    # At the end

    def installed(self, *, kept: bool) -> None:
        """The composition has its name, and every part is right and on the disk."""
        self._end_keeper()
        self._open = False
        if not self._used:
            return
        if kept:
            self._save_clean(bytearray(b"\1" * self._score.parts), {})
        else:
            self._file.remove()

    def found_installed(self) -> None:
        """The composition stood there, and every part was hashed."""
        self._file.remove_torn()
        if not self._used:
            return
        if self._kept:
            self._storage.sync_found()
            self._save_clean(self._right, {}, quietly=True)
            return
        with contextlib.suppress(OSError):
            hint = self._file.load(self._storage.status(), time.time_ns())
            # What nobody would believe: a kill has left it that came between the file's name and its removal.
            if hint is not None and hint.doubt:
                self._file.remove()

    def spoilt(self) -> None:
        """An installed composition is not right any more: the next start has to look."""
        if self._used:
            self._file.remove()

    def end(self, *, clean: bool, halves: Halves) -> None:
        """The writer ends. `clean`: all that it was told to write is written, and it knows of all."""
        self._end_keeper()
        if not (self._open and self._used and clean) or not self._storage.is_at(self._storage.part_path):
            return
        self._settle()
        if sum(map(len, halves.values())) > MOST_RUNS:
            halves = {}
        try:
            self._storage.sync()
        except StorageError as error:
            self._warn(str(error))
        else:
            self._save_clean(self._right, halves)

    def _save_clean(self, right: bytearray, halves: Halves, *, quietly: bool = False) -> None:
        try:
            self._file.save(right, self._storage.status(), clean=True, halves=halves)
        except OSError as error:
            # A complete file is often where nothing can be written; that is no reason to warn.
            self._warned |= quietly
            self._warn(error.strerror or str(error))

    def _end_keeper(self) -> None:
        if self._keeper is not None:
            self._keeper.inbox.put(None)
            self._keeper.join()
            self._keeper = None

    def _warn(self, problem: str) -> None:
        if not self._warned:
            self._warned = True
            path = safe(str(self._storage.resume_path))
            self._notice(f"{path}: cannot be written: {problem}: the next start will check every part")

    def _notice(self, text: str) -> None:
        self._report(Notice(text))


def extend_runs(runs: list[tuple[int, int]], begin: int, length: int) -> None:
    """One run more: the last one goes on, if it follows that."""
    if runs and sum(runs[-1]) == begin:
        runs[-1] = (runs[-1][0], runs[-1][1] + length)
    else:
        runs.append((begin, length))


def merged_runs(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Runs in order, neighbours as one."""
    merged: list[tuple[int, int]] = []
    for run in sorted(runs):
        extend_runs(merged, *run)
    return merged
