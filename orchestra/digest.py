"""The digest thread: the SHA-1 of the whole composition, hashed along the way.

Owns that one hash. Bytes come in order: in memory, along from the writer, when
they have just arrived, and else from disk. What is read back is read here, not
by the writer: memory that another processor has just filled takes longer to
hash than reading it takes.
"""

from __future__ import annotations

import hashlib
import queue
from collections.abc import Callable
from typing import Any

from orchestra.diskmessages import Along, Finish, ReadBack, Spoilt
from orchestra.errors import StorageError
from orchestra.messages import Digested, DiskFailed, Inbox, Stop, ThreadEnded
from orchestra.storage import Storage
from orchestra.worker import Worker

Word = Along | ReadBack | Spoilt | Finish | Stop


class DigestWorker(Worker):
    """Takes a Word; reports Digested."""

    def __init__(self, storage: Storage, report: Callable[[Any], None]) -> None:
        super().__init__("digest", report)
        self.inbox: queue.SimpleQueue[Word] = queue.SimpleQueue()
        self._storage = storage
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._failed = False

    def work(self) -> None:
        """Hash what comes, until told to stop."""
        while True:
            match self.inbox.get():
                case Along(buffer, run):
                    for view in run.views:
                        self._sha1.update(view)
                    buffer.give_back()
                case ReadBack(sheet, span, writer):
                    self._read(sheet.data[: len(span)], span.start, writer)
                    sheet.give_back()
                case Spoilt():
                    self._sha1 = hashlib.sha1(usedforsecurity=False)
                case Finish():
                    if not self._failed:
                        self._report(Digested(self._sha1.digest()))
                case Stop():
                    break
        self._report(ThreadEnded(self.name))

    def _read(self, view: memoryview, offset: int, writer: Inbox) -> None:
        """Hash what is on disk from `offset` on; tell the writer, once, when it cannot be read."""
        if self._failed:
            return
        try:
            self._storage.read([view], offset)
        except (OSError, EOFError) as error:
            self._failed = True
            text = f"{self._storage.part_path}: reading for the whole-file SHA-1 failed: {error}"
            writer.put(DiskFailed(StorageError(text)))
        else:
            self._sha1.update(view)
