"""The writer thread: blocks to disk, parts against their SHA-1, the file to its name.

Owns the .part file, the parts that are coming (underway.py), and what is known
to be right on disk (ledger.py). Blocks are written as they come (pen.py),
neighbours in one system call, and hashed on the way. Buffers go back to their
pool at once.
"""

from __future__ import annotations

import io
import queue
import time
from collections.abc import Callable, Sequence
from typing import Any

from orchestra.checking import check_open_file
from orchestra.digestfeed import DigestFeed
from orchestra.diskmessages import DoneReading, Saved
from orchestra.errors import OrchestraError, StorageError
from orchestra.geometry import Geometry
from orchestra.ledger import Ledger
from orchestra.messages import (
    NO_HALVES,
    Checked,
    CheckProgress,
    Digest,
    DiskFailed,
    Forget,
    Halves,
    Inbox,
    Install,
    Installed,
    Lost,
    Notice,
    PartsWritten,
    Recheck,
    Stamp,
    Stop,
    ThreadEnded,
    Write,
)
from orchestra.pen import Pen
from orchestra.score import Score
from orchestra.storage import Storage
from orchestra.text import safe
from orchestra.underway import PartsUnderWay
from orchestra.wire import Blocks
from orchestra.worker import Worker

HASHED_BYTES = 2 << 30
"""What is no larger is hashed at each start, in a second or two, and then need not be before it is served."""
MAX_RESERVE_AFTER_S = 0.25
"""However long a step to reserve space took: a disk that is slow once shall get its space all the same."""
STEPS = 2
"""How many steps may be on their way to the digest thread."""
SHOW_S = 0.2

Order = Write | Forget | Lost | Recheck | Digest | Install | Saved | DoneReading | DiskFailed | Stop


class Writer(Worker):
    """Takes an Order; reports Checked, PartsWritten, Installed, DiskFailed, Notice.

    `kept`: whether a complete composition will be shared on. If not, somebody wants to know that it is
    right, and its resume file is not believed.
    """

    def __init__(
        self,
        storage: Storage,
        score: Score,
        digest: Inbox,
        report: Callable[[Any], None],
        *,
        kept: bool = True,
    ) -> None:
        super().__init__("writer", report)
        self.inbox: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._storage = storage
        self._score = score
        self._geometry = Geometry(score.size_bytes, score.part_size_bytes)
        self._pen = Pen(storage)
        self._coming = PartsUnderWay(score, self._read_back)
        self._ledger = Ledger(storage, score, kept=kept, saved=self.inbox, report=report)
        self._feed = DigestFeed(score.size_bytes, digest)
        self._steps = 0
        """Steps that the digest thread has to read back."""
        self._failed = False
        self._installed = False
        self._reserving = False
        self._has_written = False
        self._reserve_after_s = 0.0
        """For how long nothing must have come before more space is reserved: as long as that took last. Where
        each page is searched for, as in memory, a fast transfer has no time for it."""
        self._shown_at_s = time.monotonic()

    def work(self) -> None:
        """Check what is there, then write until told to stop."""
        clean = False
        try:
            try:
                self._open()
            except OrchestraError as error:
                self._fail(error)
            while self._take_or_go_on():
                pass
            clean = not self._failed
        finally:
            self._feed.end()
            self._pen.end()
            self._ledger.end(clean=clean, halves=self._coming.halves)
        self._report(ThreadEnded(self.name))

    def _fail(self, error: OrchestraError) -> None:
        """Storage cannot go on: say so once; what still comes is only given back."""
        if not self._failed:
            self._failed = True
            self._reserving = False
            self._report(DiskFailed(error))

    # Opening

    def _open(self) -> None:
        """Say what is on disk, and make sure that the rest will fit. Raises StorageError, BusyError."""
        storage, parts = self._storage, self._geometry.parts
        if storage.open_installed():
            stamp = self._stamp()
            right, doubtful, _ = self._look(installed=True)
            if self._is_told_to_stop():
                return
            if right.count(1) == parts:
                self._installed = True
                self._report(Checked(right, installed=True, doubtful=doubtful, stamp=stamp))
                if not doubtful:
                    self._ledger.found_installed()
                return
            storage.refuse_installed()
        held_bytes = storage.open_part()
        if storage.surplus_bytes:
            text = f"{storage.part_path}: {storage.surplus_bytes} bytes too many: they were cut off"
            self._report(Notice(safe(text, 4096)))
        storage.check_room()
        right, doubtful, halves = (
            self._look(installed=False) if held_bytes else (bytearray(parts), False, NO_HALVES)
        )
        if not self._is_told_to_stop():
            self._coming.resume(halves)
            self._report(Checked(right, installed=False, doubtful=doubtful, halves=halves))
            self._reserving = True
            self._ledger.begin()

    def _stamp(self) -> Stamp:
        try:
            return self._storage.stamp()
        except OSError as error:
            raise StorageError(f"{self._storage.path}: cannot be looked at: {error}") from error

    def _look(self, *, installed: bool) -> tuple[bytearray, bool, Halves]:
        """Which parts of the open file are right, whether that is only what the resume file says, and what it
        says of parts that are half there."""
        recalled = self._ledger.recall(installed=installed)
        if recalled is not None and self._score.size_bytes > HASHED_BYTES:
            return recalled[0], True, recalled[1]
        right = self._check()
        if not self._is_told_to_stop():
            self._ledger.checked(right)
        halves = {} if recalled is None else recalled[1]
        return right, False, {index: runs for index, runs in halves.items() if not right[index]}

    def _is_told_to_stop(self) -> bool:
        """Before Checked nobody sends anything else."""
        return not self.inbox.empty()

    def _check(self) -> bytearray:
        try:
            with io.FileIO(self._storage.fd, "rb", closefd=False) as file:
                return check_open_file(
                    file, self._score, on_progress=self._show_check, stopped=self._is_told_to_stop
                )
        except (OSError, EOFError) as error:
            text = f"{self._storage.path}: checking what is there failed: {error}"
            raise StorageError(text) from error

    def _show_check(self, checked_bytes: int) -> None:
        now_s = time.monotonic()
        if now_s - self._shown_at_s >= SHOW_S:
            self._shown_at_s = now_s
            self._report(CheckProgress(checked_bytes))

    # Working

    def _take_or_go_on(self) -> bool:
        """Do what the next message says; while there is none, reserve disk space, let the digest catch up."""
        if self._ledger.wait_s == 0 and not self._failed:
            self._ledger.save()
        if not self.inbox.empty():
            return self._take(self.inbox.get())
        if self._steps < STEPS and self._feed.to_read and not self._failed:
            self._steps += 1
            self._feed.read_back(self.inbox)
            return True
        save_s = None if self._failed else self._ledger.wait_s
        # Before the first block there is nobody who has to wait for it.
        reserve_s = self._reserve_after_s if self._has_written else 0.0
        reserves = self._reserving and (save_s is None or reserve_s <= save_s)
        try:
            return self._take(self.inbox.get(timeout=reserve_s if reserves else save_s))
        except queue.Empty:
            if reserves:
                self._reserve_some()
            return True

    def _reserve_some(self) -> None:
        began_s = time.monotonic()
        try:
            self._reserving = self._storage.reserve_some()
        except StorageError as error:
            self._fail(error)
        self._reserve_after_s = min(time.monotonic() - began_s, MAX_RESERVE_AFTER_S)

    def _take(self, message: Order) -> bool:
        match message:
            case Write():
                self._write(message)
            case Forget(index):
                self._coming.forget(index)
            case Digest(up_to_bytes):
                self._feed.ready(up_to_bytes)
            case Install(kept):
                self._install(kept=kept)
            case Lost(index):
                self._lost(index)
            case Recheck():
                self._recheck()
            case Saved():
                self._saved(message)
            case DoneReading():
                self._steps -= 1
            case DiskFailed(error):
                self._fail(error)
            case Stop():
                return False
        return True

    def _write(self, message: Write) -> None:
        if self._failed:
            message.buffer.give_back()
            return
        self._has_written = True
        runs = _joined(message.runs)
        good: list[int] = []
        bad: list[int] = []
        try:
            self._pen.begin(runs)
            try:
                for run in runs:
                    self._coming.take(run, good, bad)
            finally:
                self._pen.wait()
        except StorageError as error:
            self._fail(error)
            # Who knows whether they are on disk.
            good.clear()
        # More than one: the next message may be just a word about the digest.
        self._feed.written(message.buffer, runs, hurried=self.inbox.qsize() > 1)
        if bad:
            self._feed.part_was_wrong()
        if good:
            self._ledger.written(good)
        if good or bad:
            self._report(PartsWritten(good, bad))

    def _read_back(self, views: Sequence[memoryview], offset: int) -> None:
        self._pen.wait()
        try:
            self._storage.read(views, offset)
        except (OSError, EOFError) as error:
            raise StorageError(f"{self._storage.part_path}: reading back failed: {error}") from error

    def _install(self, *, kept: bool) -> None:
        # There is nothing to reserve any more, and it would change the file's times.
        self._reserving = False
        try:
            path = self._storage.install()
            self._installed = True
            self._report(Installed(str(path), self._stamp()))
        except StorageError as error:
            self._fail(error)
        else:
            self._ledger.installed(kept=kept)

    # When what is on disk is not what it was

    def _lost(self, index: int) -> None:
        """A part that was right is to come anew: what was hashed of it along the way may be wrong."""
        if self._installed:
            self._ledger.spoilt()
        else:
            self._ledger.lost(index)
            self._feed.part_was_lost(index * self._geometry.part_size_bytes)

    def _recheck(self) -> None:
        try:
            right = self._check()
        except StorageError as error:
            self._fail(error)
            return
        if not self.inbox.empty():
            # Something came, which ended the check: maybe Stop, maybe not.
            self.inbox.put(Recheck())
            return
        self._ledger.checked(right)
        self._feed.part_was_lost(0)
        self._report(Checked(right, installed=False))

    def _saved(self, said: Saved) -> None:
        try:
            self._ledger.saved(said)
        except StorageError as error:
            self._fail(error)


def _joined(runs: list[Blocks]) -> list[Blocks]:
    """The runs in order, and those that follow one another as one, so that they are written in one call.

    Who reads several blocks from disk at once, as libtorrent does, sends them as they come: half of all would
    have to be read back to be hashed.
    """
    runs = sorted(runs, key=lambda run: run.offset)
    joined = [runs[0]]
    for run in runs[1:]:
        last = joined[-1]
        if last.offset + last.length == run.offset:
            joined[-1] = Blocks(last.offset, last.length + run.length, last.views + run.views)
        else:
            joined.append(run)
    return joined
