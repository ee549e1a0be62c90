"""The digest thread: the SHA-1 of the whole composition, hashed along the way.

Owns that one hash, and nothing else: all bytes come along from the writer, in
order and in memory, whether they have just arrived or were read back. So the
hashing runs beside the reading, on a processor of its own where there is one.
"""

from __future__ import annotations

import hashlib
import queue
from collections.abc import Callable
from typing import Any

from orchestra.messages import Along, Digested, Finish, Spoilt, Stop, ThreadEnded
from orchestra.worker import Worker


class DigestWorker(Worker):
    """Takes Along, Spoilt, Finish and Stop; reports Digested."""

    def __init__(self, report: Callable[[Any], None]) -> None:
        super().__init__("digest", report)
        self.inbox: queue.SimpleQueue[Along | Spoilt | Finish | Stop] = queue.SimpleQueue()

    def work(self) -> None:
        """Hash what comes, until told to stop."""
        sha1 = hashlib.sha1(usedforsecurity=False)
        while True:
            match self.inbox.get():
                case Along(buffer, run):
                    for view in run.views:
                        sha1.update(view)
                    buffer.give_back()
                case Spoilt():
                    sha1 = hashlib.sha1(usedforsecurity=False)
                case Finish():
                    self._report(Digested(sha1.digest()))
                case Stop():
                    break
        self._report(ThreadEnded(self.name))
