"""The reader thread: blocks from disk, ready to be sent.

Owns the memory for what goes out, and the knowledge of which parts on disk are
not to be taken on trust: those that only the resume file vouches for, those
that could not be read once, and all of them once the file has changed. Such a
part is hashed before any of it is sent. Each Read becomes one shipment of
`piece` messages, neighbouring blocks read in one system call, which the
connection then sends in one.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable
from typing import Any

from orchestra.buffers import Pool
from orchestra.checking import part_is_right
from orchestra.messages import Lost, Notice, Read, ReadFailed, Stamp, Stop, ThreadEnded, Watch, Withdrawn
from orchestra.score import Score
from orchestra.shipment import Shipment
from orchestra.storage import Storage
from orchestra.text import safe
from orchestra.wire import BlockSpan
from orchestra.worker import Worker

VERIFY_BYTES = 1 << 20
TRIES = 3
"""How often a Read is begun again because the file changed under it."""
SETTLE_S = 0.05
"""How long to let a file that has changed come to rest: two changes within a tick of the system's clock, some
10 ms at most, look like one."""

_log = logging.getLogger("orchestra.reader")


class Reader(Worker):
    """Takes Watch, Read, Lost and Stop; hands a Shipment to the outbox in the Read; reports ReadFailed,
    Withdrawn and Notice.

    `buffers` must cover all Reads that the orchestrator allows at once, or one peer would wait for another.
    """

    def __init__(self, storage: Storage, score: Score, buffers: int, report: Callable[[Any], None]) -> None:
        super().__init__("reader", report)
        self.inbox: queue.SimpleQueue[Watch | Read | Lost | Stop] = queue.SimpleQueue()
        self._storage = storage
        self._score = score
        self._pool: Pool[Shipment] = Pool(buffers, Shipment)
        self._doubtful = bytearray()
        self._doubts = 0
        """How many parts are doubtful; mostly none."""
        self._stamp: Stamp | None = None
        self._said_changed = False

    def work(self) -> None:
        """Serve until told to stop."""
        while True:
            match self.inbox.get():
                case Read() as read:
                    self._serve(read)
                case Watch(doubtful, stamp):
                    self._doubtful, self._doubts, self._stamp = doubtful, doubtful.count(1), stamp
                case Lost(index):
                    self._distrust([index])
                    self._report(Withdrawn(index))
                case Stop():
                    break
        self._report(ThreadEnded(self.name))

    def _serve(self, read: Read) -> None:
        shipment = self._pool.take()
        lost, reason = self._fill(shipment, read.blocks)
        if lost:
            shipment.give_back()
            _log.info("reading for connection %d failed: parts %s: %s", read.key, lost, reason)
            self._report(ReadFailed(read.key, read.blocks, lost, reason))
        elif not read.outbox.send(shipment):
            shipment.give_back()

    def _fill(self, shipment: Shipment, blocks: list[BlockSpan]) -> tuple[list[int], str]:
        """Read `blocks`; which of their parts cannot be had, and why. With none the shipment is ready."""
        for _ in range(TRIES):
            if self._doubts:
                doubtful = [index for index in _parts(blocks) if self._doubtful[index]]
                lost = [index for index in doubtful if not self._verify(index)]
                if lost:
                    return lost, "they are not right any more"
            try:
                for offset, view in shipment.load(blocks, self._score.part_size_bytes):
                    self._storage.read([view], offset)
                if self._stamp is None or self._storage.stamp() == self._stamp:
                    return [], ""
            except (OSError, EOFError) as error:
                lost = [index for index in _parts(blocks) if not self._verify(index)]
                lost = lost or _parts(blocks)[:1]
                # The next Read may be of the same parts already, and bring something.
                self._distrust(lost)
                return lost, str(error)
            self._changed()
        return _parts(blocks), "the file keeps changing"

    def _verify(self, index: int) -> bool:
        """Hash a part. One that is right is not doubtful any more."""
        buffer = memoryview(bytearray(min(VERIFY_BYTES, self._score.part_size_bytes)))
        try:
            right = part_is_right(self._storage.read, self._score, index, buffer)
        except (OSError, EOFError) as error:
            _log.info("part %d cannot be read: %s", index, error)
            return False
        if right and self._doubts and self._doubtful[index]:
            self._doubtful[index] = 0
            self._doubts -= 1
        return right

    def _distrust(self, parts: list[int]) -> None:
        """Nothing of these is sent before they have been hashed again."""
        self._doubtful = self._doubtful or bytearray(self._score.parts)
        for index in parts:
            self._doubts += not self._doubtful[index]
            self._doubtful[index] = 1

    def _changed(self) -> None:
        """The file is not as it was: nothing of it is sent before it has been hashed again."""
        if not self._said_changed:
            self._said_changed = True
            path = safe(str(self._storage.path), 4096)
            self._report(Notice(f"{path} was changed: each part is checked again before it is sent"))
        self._doubtful = bytearray(b"\1" * self._score.parts)
        self._doubts = self._score.parts
        time.sleep(SETTLE_S)
        self._stamp = self._storage.stamp()


def _parts(blocks: list[BlockSpan]) -> list[int]:
    """The parts that blocks belong to, in their order."""
    return list(dict.fromkeys([index for index, _, _ in blocks]))
