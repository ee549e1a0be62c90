"""The reader thread: blocks from disk, ready to be sent.

Owns the memory for what goes out. Each Read becomes one shipment of `piece`
messages, neighbouring blocks read in one system call, which the connection
then sends in one.
"""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable
from typing import Any

from orchestra.buffers import Pool
from orchestra.geometry import Geometry
from orchestra.messages import Read, ReadFailed, Stop, ThreadEnded
from orchestra.shipment import Shipment
from orchestra.storage import Storage
from orchestra.worker import Worker

_log = logging.getLogger("orchestra.reader")


class Reader(Worker):
    """Takes Read and Stop; hands a Shipment to the outbox in the Read, reports ReadFailed.

    `buffers` must cover all Reads that the orchestrator allows at once, or one peer would wait for another.
    """

    def __init__(
        self, storage: Storage, geometry: Geometry, buffers: int, report: Callable[[Any], None]
    ) -> None:
        super().__init__("reader", report)
        self.inbox: queue.SimpleQueue[Read | Stop] = queue.SimpleQueue()
        self._storage = storage
        self._part_size_bytes = geometry.part_size_bytes
        self._pool: Pool[Shipment] = Pool(buffers, Shipment)

    def work(self) -> None:
        """Serve until told to stop."""
        while True:
            match self.inbox.get():
                case Read() as read:
                    self._serve(read)
                case Stop():
                    break
        self._report(ThreadEnded(self.name))

    def _serve(self, read: Read) -> None:
        shipment = self._pool.take()
        try:
            for offset, view in shipment.load(read.blocks, self._part_size_bytes):
                self._storage.read([view], offset)
        except (OSError, EOFError) as error:
            shipment.give_back()
            _log.info("reading for connection %d failed: %s", read.key, error)
            self._report(ReadFailed(read.key, read.blocks[0][0], str(error)))
            return
        if not read.outbox.send(shipment):
            shipment.give_back()
