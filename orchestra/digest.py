"""The digest thread: the SHA-1 of the whole composition, hashed along the way.

Owns that one hash. What arrives in order comes along from the writer, still in
memory; else it follows on disk the parts that are there without a gap from
the start. Either way little is left to hash when the last part arrives.
"""

from __future__ import annotations

import hashlib
import queue
from collections.abc import Callable
from typing import Any

from orchestra.errors import StorageError
from orchestra.messages import Along, Digest, Digested, DiskFailed, Spoilt, Stop, ThreadEnded
from orchestra.storage import Storage
from orchestra.worker import Worker

STEP_BYTES = 1 << 20


class DigestWorker(Worker):
    """Takes Along, Spoilt, Digest and Stop; reports Digested once all has been hashed and verified."""

    def __init__(self, storage: Storage, report: Callable[[Any], None]) -> None:
        super().__init__("digest", report)
        self.inbox: queue.SimpleQueue[Along | Spoilt | Digest | Stop] = queue.SimpleQueue()
        self._storage = storage
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._hashed_bytes = 0
        self._buffer = memoryview(bytearray(STEP_BYTES))

    def work(self) -> None:
        """Hash as far as told, until told to stop."""
        while True:
            match self.inbox.get():
                case Along(buffer, run):
                    if run.offset == self._hashed_bytes:
                        for view in run.views:
                            self._sha1.update(view)
                        self._hashed_bytes += run.length
                    buffer.give_back()
                case Digest(up_to_bytes):
                    self._hash(up_to_bytes)
                case Spoilt():
                    self._sha1 = hashlib.sha1(usedforsecurity=False)
                    self._hashed_bytes = 0
                case Stop():
                    break
        self._report(ThreadEnded(self.name))

    def _hash(self, up_to_bytes: int) -> None:
        while self._hashed_bytes < up_to_bytes and self._unhurried():
            view = self._buffer[: min(STEP_BYTES, up_to_bytes - self._hashed_bytes)]
            try:
                self._storage.read([view], self._hashed_bytes)
            except (OSError, EOFError) as error:
                text = f"{self._storage.part_path}: reading for the whole-file SHA-1 failed: {error}"
                self._report(DiskFailed(StorageError(text)))
                return
            self._sha1.update(view)
            self._hashed_bytes += len(view)
        if up_to_bytes == self._storage.size_bytes == self._hashed_bytes:
            self._report(Digested(self._sha1.digest()))

    def _unhurried(self) -> bool:
        """False when the next message is there: either it reaches further, or it is Stop."""
        return self.inbox.empty()
