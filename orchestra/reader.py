"""The reader thread: blocks from disk, ready to be sent.

Owns the upload buffers. Each Read becomes one buffer of `piece` messages:
headers laid between the blocks, the blocks read into their places, neighbours
in one system call; the connection then sends it in one call.
"""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable
from typing import Any

from orchestra.buffers import Pool, PooledBuffer
from orchestra.geometry import Geometry
from orchestra.messages import BlocksReady, Read, ReadFailed, Stop, ThreadEnded
from orchestra.storage import Storage
from orchestra.uploads import MAX_BATCH_BLOCKS
from orchestra.wire import BLOCK_BYTES, PIECE_HEADER_BYTES, BlockSpan, lay_piece_header
from orchestra.worker import Worker

_log = logging.getLogger("orchestra.reader")


class Reader(Worker):
    """Takes Read and Stop; hands BlocksReady to the outbox in the Read, reports ReadFailed.

    `buffers` must cover all Reads that the orchestrator allows at once, or one peer would wait for another.
    """

    def __init__(
        self, storage: Storage, geometry: Geometry, buffers: int, report: Callable[[Any], None]
    ) -> None:
        super().__init__("reader", report)
        self.inbox: queue.SimpleQueue[Read | Stop] = queue.SimpleQueue()
        self._storage = storage
        self._geometry = geometry
        length_bytes = MAX_BATCH_BLOCKS * (PIECE_HEADER_BYTES + BLOCK_BYTES)
        self._pool: Pool[PooledBuffer] = Pool(buffers, lambda pool: PooledBuffer(pool, length_bytes))

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
        buffer = self._pool.take()
        try:
            length = self._fill(buffer, read.blocks)
        except (OSError, EOFError) as error:
            buffer.give_back()
            _log.error("reading for connection %d failed: %s", read.key, error)
            self._report(ReadFailed(read.key, read.blocks[0][0], str(error)))
            return
        payload_bytes = length - PIECE_HEADER_BYTES * len(read.blocks)
        if not read.outbox.send(BlocksReady(buffer, length, payload_bytes)):
            buffer.give_back()

    def _fill(self, buffer: PooledBuffer, blocks: list[BlockSpan]) -> int:
        """Lay the blocks' messages into `buffer`; returns their length. Raises OSError, EOFError."""
        view = memoryview(buffer.data)
        position = 0
        run: list[memoryview] = []
        run_offset = run_end = 0
        for block in blocks:
            index, begin, length = block
            offset = index * self._geometry.part_size_bytes + begin
            lay_piece_header(buffer.data, position, block)
            position += PIECE_HEADER_BYTES
            if offset != run_end or not run:
                if run:
                    self._storage.read(run, run_offset)
                run, run_offset = [], offset
            run.append(view[position : position + length])
            run_end = offset + length
            position += length
        self._storage.read(run, run_offset)
        return position
