"""The digest thread: the SHA-1 of the whole composition, hashed along the way.

Owns that one hash. It follows the parts that are on disk without a gap from
the start, so that little is left to hash when the last part arrives.
"""

from __future__ import annotations

import hashlib
import queue
from collections.abc import Callable
from typing import Any

from orchestra.errors import StorageError
from orchestra.messages import Digest, Digested, DiskFailed, Stop, ThreadEnded
from orchestra.storage import Storage
from orchestra.worker import Worker

STEP_BYTES = 1 << 20


class DigestWorker(Worker):
    """Takes Digest and Stop; reports Digested once everything has been hashed."""

    def __init__(self, storage: Storage, report: Callable[[Any], None]) -> None:
        super().__init__("digest", report)
        self.inbox: queue.SimpleQueue[Digest | Stop] = queue.SimpleQueue()
        self._storage = storage
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._hashed_bytes = 0
        self._buffer = memoryview(bytearray(STEP_BYTES))

    def work(self) -> None:
        """Hash as far as told, until told to stop."""
        while True:
            match self.inbox.get():
                case Digest(up_to_bytes):
                    self._hash(up_to_bytes)
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
        if self._hashed_bytes == up_to_bytes == self._storage.size_bytes:
            self._report(Digested(self._sha1.digest()))

    def _unhurried(self) -> bool:
        """False when the next message is there: either it reaches further, or it is Stop."""
        return self.inbox.empty()
