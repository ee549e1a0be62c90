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

from orchestra.diskmessages import Along, DoneReading, Finish, ReadBack, Spoilt
from orchestra.errors import StorageError
from orchestra.messages import Digested, DiskFailed, Inbox, Stop, ThreadEnded
from orchestra.storage import Storage
from orchestra.worker import Worker

READ_BYTES = 256 * 1024
"""What is read back is read so much at a time, and hashed while it is in the processor's cache."""

Word = Along | ReadBack | Spoilt | Finish | Stop


class DigestWorker(Worker):
    """Takes a Word; reports Digested."""

    def __init__(self, storage: Storage, report: Callable[[Any], None]) -> None:
        super().__init__("digest", report)
        self.inbox: queue.SimpleQueue[Word] = queue.SimpleQueue()
        self._storage = storage
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._failed = False
        self._memory = memoryview(bytearray())

    def work(self) -> None:
        """Hash what comes, until told to stop."""
        while True:
            match self.inbox.get():
                case Along(buffer, run):
                    for view in run.views:
                        self._sha1.update(view)
                    buffer.give_back()
                case ReadBack(span, writer):
                    self._read(span, writer)
                    writer.put(DoneReading())
                case Spoilt():
                    self._sha1 = hashlib.sha1(usedforsecurity=False)
                case Finish():
                    if not self._failed:
                        self._report(Digested(self._sha1.digest()))
                case Stop():
                    break
        self._report(ThreadEnded(self.name))

    def _read(self, span: range, writer: Inbox) -> None:
        """Hash bytes `span` of the file; tell the writer, once, when they cannot be read."""
        if self._failed:
            return
        if not self._memory:
            self._memory = memoryview(bytearray(READ_BYTES))
        try:
            for offset in range(span.start, span.stop, READ_BYTES):
                view = self._memory[: span.stop - offset]
                self._storage.read([view], offset)
                self._sha1.update(view)
        except (OSError, EOFError) as error:
            self._failed = True
            text = f"{self._storage.part_path}: reading for the whole-file SHA-1 failed: {error}"
            writer.put(DiskFailed(StorageError(text)))
