"""The pen: a thread that writes blocks to disk while the writer hashes them.

The writer's own, and begun when much first comes at a time: both take about as
long, and neither has to wait for the other. Where the system is slow to give
memory or to take data, as a disk is, that hides it. What is little is written
at once, since to wake a thread would take longer.
"""

from __future__ import annotations

import queue

from orchestra.errors import StorageError
from orchestra.storage import Storage
from orchestra.wire import Blocks
from orchestra.worker import ThreadCrashed, Worker, start_thread

LEAST_BYTES = 1 << 20
"""From so much in one message on it is worth a thread."""


class Pen(Worker):
    """`begin`, then `wait`, then the memory of the runs may be used again. Only the writer calls."""

    def __init__(self, storage: Storage) -> None:
        self._outcomes: queue.SimpleQueue[object] = queue.SimpleQueue()
        super().__init__("pen", self._outcomes.put)
        self._inbox: queue.SimpleQueue[list[Blocks] | None] = queue.SimpleQueue()
        self._storage = storage
        self._is_writing = False

    def begin(self, runs: list[Blocks]) -> None:
        """Write `runs`, now or meanwhile. Raises StorageError."""
        if sum([run.length for run in runs]) >= LEAST_BYTES and self._is_there():
            self._is_writing = True
            self._inbox.put(runs)
        else:
            self._write(runs)

    def wait(self) -> None:
        """Until all that was begun is written. Raises StorageError, once."""
        if self._is_writing:
            self._is_writing = False
            match self._outcomes.get():
                case StorageError() as error:
                    raise error
                case ThreadCrashed(_, crash):
                    raise crash

    def end(self) -> None:
        """After a last `wait`: it ends."""
        if self.is_alive():
            self._inbox.put(None)
            self.join()

    def work(self) -> None:
        """Write what comes, until told to end."""
        while (runs := self._inbox.get()) is not None:
            try:
                self._write(runs)
            except StorageError as error:
                self._outcomes.put(error)
            else:
                self._outcomes.put(None)

    def _write(self, runs: list[Blocks]) -> None:
        for run in runs:
            self._storage.write(run.views, run.offset)

    def _is_there(self) -> bool:
        if not self.is_alive():
            try:
                start_thread(self)
            except OSError:
                return False  # No thread to spare now.
        return True
